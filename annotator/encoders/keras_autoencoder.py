"""Training of the autoencoder: the target of a job, the only process that imports Keras for it.

Other networks that reproduce an image are trained by the same functions: `read_inputs`, `fit`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from annotator.encoders import stored
from annotator.encoders.autoencoder import flatten
from annotator.encoders.chunks import encode_in_chunks
from annotator.encoders.dense import from_keras
from annotator.encoders.keras_setup import keras
from annotator.encoders.training import Losses, Shape
from annotator.jobs import record
from annotator.types import FeatureArray, Report, silent

BATCH, LARGE_BATCH = 32, 128
LARGE_POOL = 20_000  # images from which on the large batch reaches the same loss in half the time
STAGE = "Training the autoencoder"
VALIDATION_SHARE = 0.2
MAX_TRAINING_VALUES = 48_000_000  # 190 MB: 61,000 images of 28 x 28, 15,600 of 32 x 32 in colour

Network = Any  # keras.Sequential: Keras ships no types


def train(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Train on the .npy `images`, write the encoding half to `weights`, return the losses of each epoch.

    `widths` are those of the encoding half, `order_seed` shuffles the pool: its last fifth is for validation.
    """
    report("Reading images", 0, 1)
    inputs = read_inputs(Path(arguments["images"]), tuple(arguments["shape"]), arguments["order_seed"])
    keras.utils.set_random_seed(arguments["seed"])
    network = _network(arguments["widths"])
    history = fit(STAGE, network, inputs, arguments["max_epochs"], arguments["patience"], report)
    n_encoding = 2 * (len(arguments["widths"]) - 1)
    layers = from_keras(network.get_weights()[:n_encoding])
    stored.write(Path(arguments["weights"]), {"shape": np.array(arguments["shape"]), **layers.arrays})
    return {"history": history}


def read_inputs(path: Path, shape: Shape, order_seed: int) -> FeatureArray:
    """(n_images, n_values) in 0..1, shuffled: pools often come sorted by class."""
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    most = MAX_TRAINING_VALUES // int(np.prod(shape))
    rows = np.random.default_rng(order_seed).permutation(len(images))[:most]
    return encode_in_chunks(images[rows], lambda chunk: flatten(chunk, shape), silent)


def _network(widths: list[int]) -> Network:
    """Encoder and decoder: 784-300-200-100-200-300-784, relu, and a sigmoid at the end."""
    inner = [keras.layers.Dense(width, "relu") for width in (*widths[1:], *widths[-2:0:-1])]
    network = keras.Sequential([keras.Input((widths[0],)), *inner, keras.layers.Dense(widths[0], "sigmoid")])
    network.compile(optimizer="nadam", loss="binary_crossentropy", metrics=["mse"])
    return network


def fit(
    stage: str, network: Network, inputs: FeatureArray, max_epochs: int, patience: int, report: Report
) -> list[Losses]:
    """Train until the validation error has not fallen for `patience` epochs; keeps the weights of the best epoch."""
    history: list[Losses] = []
    batch_size = LARGE_BATCH if len(inputs) >= LARGE_POOL else BATCH
    steps = -(-int(len(inputs) * (1 - VALIDATION_SHARE)) // batch_size)

    def after_batch(batch: int, logs: Losses) -> None:
        report(stage, min(len(history) * steps + batch + 1, max_epochs * steps), max_epochs * steps)

    def after_epoch(epoch: int, logs: Losses) -> None:
        losses = {"epoch": epoch + 1, **{name: float(logs[name]) for name in ("loss", "val_loss", "val_mse")}}
        history.append(losses)
        record(losses)

    network.fit(
        inputs,
        inputs,
        batch_size=batch_size,
        epochs=max_epochs,
        validation_split=VALIDATION_SHARE,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping("val_mse", patience=patience, mode="min", restore_best_weights=True),
            keras.callbacks.LambdaCallback(on_train_batch_end=after_batch, on_epoch_end=after_epoch),
        ],
    )
    report(stage, max_epochs * steps, max_epochs * steps)
    return history
