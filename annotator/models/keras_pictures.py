"""Training of networks that see images: a task of the resident worker, the only process that imports Keras.

The number of epochs follows from the number of labels, and the learning rate falls to 0 within them: with 1,000 labels
of clothes, stopping early by a held-out fifth of them came out five points lower and more.
Calibrated as a head on features is (see
keras_head.py). The same labels and seed give the same network, bit for bit.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from annotator.encoders import stored
from annotator.encoders.chunks import encode_in_chunks, resize
from annotator.encoders.keras_setup import keras
from annotator.models.head import PROBABILITIES, softmax
from annotator.models.keras_head import Network, Tensor, parts_of, sums_of, temperature_of
from annotator.models.pictures import WEIGHTS
from annotator.types import FeatureArray, ImageArray, IntArray, Report, silent

FEW = 500
"""Labels up to which all epochs are used; above, fewer by the square root."""
CHUNK = 1024  # images classified at once
DENSE = 64  # units of the dense layer of a convolutional network


def fit(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Train on `rows` of the .npy `images`; their `codes` count the classes seen, from 0 without a gap.

    Writes network.npz, and probabilities.npy as `classify` does for the rows `told` (None: for all), into `folder`.
    """
    images = np.load(arguments["images"], mmap_mode="r", allow_pickle=False)
    network, shape, folder = _network_of(arguments), tuple(arguments["shape"]), Path(arguments["folder"])
    inputs = _scaled(images[np.asarray(arguments["rows"])], shape)
    codes = np.asarray(arguments["codes"], dtype=np.int64)
    temperature = _calibrated(network, inputs, codes, arguments["max_epochs"])
    _train(network, inputs, codes, arguments["max_epochs"])
    weights = {str(number): array for number, array in enumerate(network.weights)}
    stored.write(folder / WEIGHTS, {**weights, "temperature": np.array(temperature)})
    told = images if arguments["told"] is None else images[np.asarray(arguments["told"])]
    _write_probabilities(network, told, shape, temperature, folder)
    return {}


def classify(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Write probabilities.npy, (n_images, n_classes) float64, of the .npy `images` by the network.npz in `folder`."""
    images = np.load(arguments["images"], mmap_mode="r", allow_pickle=False)
    network, folder = _network_of(arguments), Path(arguments["folder"])
    weights = stored.read(folder / WEIGHTS)
    temperature = float(weights.pop("temperature"))
    network.weights = [weights[str(number)] for number in range(len(weights))]
    _write_probabilities(network, images, tuple(arguments["shape"]), temperature, folder)
    return {}


def _write_probabilities(
    network: Network, images: ImageArray, shape: tuple[int, int, int], temperature: float, folder: Path
) -> None:
    def sums(chunk: ImageArray) -> FeatureArray:
        return sums_of(network, _scaled(chunk, shape)).astype(np.float32)

    found = encode_in_chunks(images, sums, silent, CHUNK).astype(np.float64)
    stored.write_npy(folder / PROBABILITIES, softmax(found / temperature))


def _train(network: Network, inputs: FeatureArray, codes: IntArray, max_epochs: int) -> None:
    epochs = max(1, round(max_epochs * min(1.0, (FEW / len(codes)) ** 0.5)))

    def slow_down(epoch: int) -> bool:
        network.set_rate(1 - epoch / epochs)
        return False

    network.train(inputs, codes, epochs, slow_down)


def _calibrated(network: Network, inputs: FeatureArray, codes: IntArray, max_epochs: int) -> float:
    """The temperature under which labels are likeliest that were kept from the training; 1 with very few labels."""
    found, answers = [], []
    for part in parts_of(len(codes)):
        rest = np.setdiff1d(np.arange(len(codes)), part)
        _train(network, inputs[rest], codes[rest], max_epochs)
        found.append(sums_of(network, inputs[part]))
        answers.append(codes[part])
    return temperature_of(np.concatenate(found), np.concatenate(answers)) if found else 1.0


def _scaled(images: ImageArray, shape: tuple[int, int, int]) -> FeatureArray:
    """(n, height, width, n_channels) uint8 -> (n, *shape) float32 in 0..1."""
    return resize(images.astype(np.float32) / np.float32(255), *shape[:2])


def _network_of(arguments: dict[str, Any]) -> Network:  # Any: JSON
    names = ("kind", "width", "n_classes", "seed")
    return _network(tuple(arguments["shape"]), *(arguments[name] for name in names))


@lru_cache(maxsize=4)
def _network(shape: tuple[int, int, int], kind: str, width: int, n_classes: int, seed: int) -> Network:
    return Network(lambda: [*BUILDERS[kind](shape, width), keras.layers.Dense(n_classes)], shape, seed)


def _mlp(shape: tuple[int, int, int], hidden: int) -> list[Tensor]:
    dense = [keras.layers.Dense(units, "relu") for units in (hidden, max(1, hidden // 3))]
    return [keras.layers.Flatten(), *dense]


def _cnn(shape: tuple[int, int, int], filters: int) -> list[Tensor]:
    layers = keras.layers
    return [
        layers.Conv2D(filters, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(padding="same"),
        layers.Conv2D(2 * filters, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(padding="same"),
        layers.Flatten(),
        layers.Dense(DENSE, "relu"),
    ]


def _lstm(shape: tuple[int, int, int], units: int) -> list[Tensor]:
    """Row after row from the top, each with all of its columns and channels; the last state counts."""
    height, width, n_channels = shape
    return [keras.layers.Reshape((height, width * n_channels)), keras.layers.LSTM(units)]


BUILDERS = {"mlp": _mlp, "cnn": _cnn, "lstm": _lstm}
"""Name of a network -> its layers before the last, for images of a shape."""
