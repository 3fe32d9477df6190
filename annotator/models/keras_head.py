"""Training of the Keras head: the target of the resident worker, the only process that imports Keras.

The training depends on the number of labels. From 500 on, a fifth of them is held out, and its accuracy decides after
how many epochs to stop. Under 500 that fifth is too small to decide (it stops far too early), and all epochs are used.
In either case the returned head was trained on all labels, for that number of epochs.

Calibration is temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017): the temperature
that makes labels which were held out most likely. From 100 labels on it is measured on that one fifth; under 100 in
turn on each of five; under 10 it is 1.

The same labels and seed give the same head, bit for bit: each starts from the same first weights, and no random number
comes from TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

from annotator.encoders import stored
from annotator.encoders.dense import from_keras
from annotator.encoders.keras_setup import keras, tf
from annotator.models.head import HEAD, PROBABILITIES, Head, Scaling, scaling_of, softmax
from annotator.types import FeatureArray, FloatArray, IntArray, Report

CALIBRATE_FROM, ONE_PART_FROM, STOP_EARLY_FROM = 10, 100, 500
N_PARTS = 5
BATCH = 32
RATE = 0.001  # Adam's usual one
TEMPERATURES = (0.2, 20.0)

Tensor = Any  # TensorFlow ships no types


def fit(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Train on `rows` of the .npy `features`; their `codes` count the classes seen, from 0 without a gap.

    Writes head.npz and probabilities.npy, (n_images, classes seen) float64, into `folder`.
    """
    path, folder = Path(arguments["features"]), Path(arguments["folder"])
    features = np.load(path, mmap_mode="r", allow_pickle=False)
    scaling = _scaling(path, path.stat().st_mtime_ns)
    inputs = scaling.apply(features[np.asarray(arguments["rows"])])
    codes = np.asarray(arguments["codes"], dtype=np.int64)
    network = _network(features.shape[1], arguments["hidden"], int(codes.max()) + 1, arguments["seed"])
    epochs, temperature = _hold_out(network, inputs, codes, arguments["max_epochs"], arguments["patience"])
    network.train(inputs, codes, epochs)
    head = Head(scaling, from_keras(network.weights), temperature)
    head.write(folder / HEAD)
    stored.write_npy(folder / PROBABILITIES, head.probabilities(features))
    return {"epochs": epochs, "temperature": temperature}


class Network:
    """Layers that end in one sum for each class, for inputs (n, *shape); kept by its users, as compiling takes seconds.

    `layers` is called once the seed of the first weights is set.
    """

    def __init__(self, layers: Callable[[], list[Tensor]], shape: tuple[int, ...], seed: int) -> None:
        keras.utils.set_random_seed(seed)
        self._layers = keras.Sequential([keras.Input(shape), *layers()])
        self._optimizer = keras.optimizers.Adam(RATE)
        self._optimizer.build(self._layers.trainable_variables)
        self._variables = [*self._layers.variables, *self._optimizer.variables]
        self._first = [variable.numpy() for variable in self._variables]
        self._seed = seed
        rows, numbers = tf.TensorSpec([None, *shape], tf.float32), tf.TensorSpec([None], tf.int64)
        self._epoch = tf.function(self._run_epoch, input_signature=[rows, numbers, numbers])
        self.sums: Callable[[FeatureArray], Tensor] = tf.function(self._layers, input_signature=[rows])

    @property
    def weights(self) -> list[FeatureArray]:
        """As Keras lists them."""
        return self._layers.get_weights()  # type: ignore[no-any-return]  # Keras ships no types

    @weights.setter
    def weights(self, weights: list[FeatureArray]) -> None:
        self._layers.set_weights(weights)

    def train(
        self, inputs: FeatureArray, codes: IntArray, epochs: int, enough: Callable[[int], bool] | None = None
    ) -> None:
        """Train from the initial weights for `epochs` epochs, or until `enough` says so."""
        for variable, first in zip(self._variables, self._first, strict=True):
            variable.assign(first)
        rng = np.random.default_rng(self._seed)
        rows, answers = tf.constant(inputs), tf.constant(codes)
        for epoch in range(1, epochs + 1):
            self._epoch(rows, answers, tf.constant(rng.permutation(len(codes))))
            if enough is not None and enough(epoch):
                break

    def set_rate(self, share: float) -> None:
        """Go on at this share of Adam's usual learning rate, until the next training."""
        self._optimizer.learning_rate = share * RATE

    def _run_epoch(self, inputs: Tensor, codes: Tensor, order: Tensor) -> None:
        """One pass in batches. Compiled as a whole: Keras' own `fit` takes ten times as long on so little."""
        variables = self._layers.trainable_variables
        for start in tf.range(0, tf.size(order), BATCH):
            batch = order[start : start + BATCH]
            with tf.GradientTape() as tape:
                sums = self._layers(tf.gather(inputs, batch), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(codes, batch), sums)
                loss = tf.reduce_mean(losses)
            self._optimizer.apply(tape.gradient(loss, variables), variables)


class _BestEpoch:
    """Stops when the accuracy on held-out labels has not risen for `patience` epochs; keeps the best epoch's sums."""

    def __init__(self, network: Network, inputs: FeatureArray, codes: IntArray, patience: int) -> None:
        self.epoch = 0
        self.sums: FloatArray = np.zeros(0)
        self._network, self._inputs, self._codes, self._patience = network, inputs, codes, patience
        self._accuracy = -1.0

    def __call__(self, epoch: int) -> bool:
        sums = sums_of(self._network, self._inputs)
        accuracy = float((sums.argmax(axis=1) == self._codes).mean())
        if accuracy > self._accuracy:
            self.epoch, self.sums, self._accuracy = epoch, sums, accuracy
        return epoch - self.epoch >= self._patience


@lru_cache(maxsize=4)
def _network(n_features: int, hidden: int, n_classes: int, seed: int) -> Network:
    """Hidden relu units, then one sum for each class."""
    return Network(lambda: [keras.layers.Dense(hidden, "relu"), keras.layers.Dense(n_classes)], (n_features,), seed)


@lru_cache(maxsize=4)
def _scaling(path: Path, changed_at: int) -> Scaling:
    """Scaling of the whole pool, computed once; `changed_at` distinguishes a new file under an old name."""
    return scaling_of(np.load(path, mmap_mode="r", allow_pickle=False))


def _hold_out(
    network: Network, inputs: FeatureArray, codes: IntArray, max_epochs: int, patience: int
) -> tuple[int, float]:
    """Returns epochs and temperature, measured on labels that the network of each part was not trained on."""
    epochs, found, answers = max_epochs, [], []
    for part in parts_of(len(codes)):
        rest = np.setdiff1d(np.arange(len(codes)), part)
        if len(codes) >= STOP_EARLY_FROM:
            best = _BestEpoch(network, inputs[part], codes[part], patience)
            network.train(inputs[rest], codes[rest], max_epochs, best)
            epochs, sums = best.epoch, best.sums
        else:
            network.train(inputs[rest], codes[rest], max_epochs)
            sums = sums_of(network, inputs[part])
        found.append(sums)
        answers.append(codes[part])
    return epochs, temperature_of(np.concatenate(found), np.concatenate(answers)) if found else 1.0


def parts_of(n_labels: int) -> list[IntArray]:
    """Yields the labels to hold out, one part after the other."""
    if n_labels < CALIBRATE_FROM:
        return []
    parts = np.array_split(np.random.default_rng(n_labels).permutation(n_labels), N_PARTS)
    return parts[:1] if n_labels >= ONE_PART_FROM else parts


def temperature_of(sums: FloatArray, codes: IntArray) -> float:
    """The temperature within `TEMPERATURES` under which these codes are most likely."""

    def surprise(log_temperature: float) -> float:
        probabilities = softmax(sums / np.exp(log_temperature))[np.arange(len(codes)), codes]
        return float(-np.log(np.maximum(probabilities, 1e-300)).mean())

    return float(np.exp(scipy.optimize.minimize_scalar(surprise, bounds=np.log(TEMPERATURES), method="bounded").x))


def sums_of(network: Network, inputs: FeatureArray) -> FloatArray:
    """(n, classes): the last layer's sums, which a softmax makes probabilities."""
    return np.asarray(network.sums(tf.constant(inputs)), dtype=np.float64)
