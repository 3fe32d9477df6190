"""EfficientNet-Lite0 in Keras: the target of the worker, the only process that imports Keras for it.

Weights come from assets/efficientnet-lite0, where batch normalisation is part of the convolutions already. Plain
convolutions by oneDNN in batches that stay in the processor's cache: several times as fast as one compiled by XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from annotator import durable
from annotator.encoders import stored
from annotator.encoders.imagenet_network import GRID
from annotator.encoders.keras_setup import keras, tf
from annotator.errors import ModelError
from annotator.paths import assets
from annotator.types import FeatureArray, ImageArray, Report

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(blocks, kernel side, stride of the first block, how many times wider inside, channels out)."""
STEM, HEAD, CLASSES = 32, 1280, 1000
PARTS = ("kernel", "bias")

Tensor = Any  # TensorFlow ships no types


def run(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Write the `layers` of the .npy `images` to the .npy `answer`: (n, n_values) float32."""
    images = np.load(arguments["images"], allow_pickle=False)
    network = _compiled(tuple(arguments["layers"]), arguments["side"])
    stored.write_npy(Path(arguments["answer"]), in_batches(network, images, arguments["batch"]))
    return {}


def in_batches(network: Callable[[Tensor], Tensor], images: ImageArray, batch: int) -> FeatureArray:
    """Batches of one size, the last one padded, so that every image is computed alike."""
    missing = -len(images) % batch
    filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), dtype=np.uint8)]) if missing else images
    parts = [network(tf.constant(filled[start : start + batch])).numpy() for start in range(0, len(filled), batch)]
    return np.concatenate(parts)[: len(images)]


@lru_cache(maxsize=4)
def _compiled(layers: tuple[str, ...], side: int) -> Callable[[Tensor], Tensor]:
    """(n, height, width, 1 or 3) uint8 -> (n, n_values), compiled anew for each size of image."""
    network = build(layers, side)

    def apply(images: Tensor) -> Tensor:
        resized = tf.image.resize(tf.cast(images, tf.float32), (side, side), antialias=True)
        scaled = (resized - 127) / 128
        found = network(tf.repeat(scaled, 3, axis=-1) if images.shape[-1] == 1 else scaled, training=False)
        return tf.concat([_flat(found[layer]) for layer in layers], axis=1)

    return tf.function(apply)  # type: ignore[no-any-return]  # as above


def _flat(layer: Tensor) -> Tensor:
    """One row an image; a spatial layout is averaged to GRID x GRID first."""
    if layer.shape.rank == 4:
        size = layer.shape[1] // GRID
        layer = tf.nn.avg_pool2d(layer, size, size, "VALID") if size > 1 else layer
    return tf.reshape(layer, (layer.shape[0], -1))


def build(layers: tuple[str, ...], side: int) -> Any:  # a keras.Model: Keras ships no types
    """The network up to the last of `layers`, which it gives by their names. Raises ModelError (MODEL_WEIGHTS)."""
    inputs = keras.Input((side, side, 3))
    outputs = _outputs(inputs, layers)
    network = keras.Model(inputs, {layer: outputs[layer] for layer in layers})
    _fill(network)
    return network


def _outputs(inputs: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
    """Name -> output of each named layer, up to the last of `wanted`."""
    flow = _relu6(keras.layers.Conv2D(STEM, 3, 2, "same", name="stem")(inputs))
    found = {"stem": flow}
    for number, (kernel, stride, wider, channels) in enumerate(_blocks()):
        flow = _block(flow, f"block{number}", kernel, stride, wider, channels)
        found[f"block{number}"] = flow
        if set(wanted) <= set(found):
            return found
    flow = _relu6(keras.layers.Conv2D(HEAD, 1, name="head")(flow))
    found["head"] = keras.layers.GlobalAveragePooling2D()(flow)
    found["classes"] = keras.layers.Dense(CLASSES, name="classes")(found["head"])
    return found


def _blocks() -> list[tuple[int, int, int, int]]:
    """(kernel, stride, wider, channels) of each block."""
    return [
        (kernel, stride if number == 0 else 1, wider, channels)
        for repeats, kernel, stride, wider, channels in STAGES
        for number in range(repeats)
    ]


def _block(flow: Tensor, name: str, kernel: int, stride: int, wider: int, channels: int) -> Tensor:
    """Inverted residual block: expand channels, depthwise convolution, project; adds the input where shapes agree."""
    came_in = flow
    if wider > 1:
        flow = _relu6(keras.layers.Conv2D(wider * flow.shape[-1], 1, name=f"{name}.expand")(flow))
    around = keras.layers.DepthwiseConv2D(kernel, stride, "same", name=f"{name}.depthwise")
    flow = keras.layers.Conv2D(channels, 1, name=f"{name}.project")(_relu6(around(flow)))
    return keras.layers.Add()([flow, came_in]) if came_in.shape == flow.shape else flow


def _relu6(flow: Tensor) -> Tensor:
    return keras.layers.ReLU(max_value=6)(flow)


def _fill(network: Any) -> None:  # a keras.Model
    """Set the packaged weights in every layer that has weights."""
    path = assets() / "efficientnet-lite0" / "weights.npz"
    try:
        with np.load(path, allow_pickle=False) as weights:
            for layer in network.layers:
                if layer.weights:
                    layer.set_weights([weights[f"{layer.name}.{part}"].astype(np.float32) for part in PARTS])
    except (OSError, *durable.DAMAGED_ZIP) as error:
        raise ModelError(
            f"The weights of the encoder imagenet cannot be read from {path}: {error}. Install annotator again.",
            "MODEL_WEIGHTS",
        ) from error
