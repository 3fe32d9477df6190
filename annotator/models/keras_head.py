"""Training of the Keras head: a task of the resident worker (keras_tasks.py).

What a few labels say is not to be followed to the letter. Each step sees its labels under fresh noise, and the weights
are held small (an L2 penalty, the larger the fewer labels), for a fixed number of steps at a falling rate: no labels
are needed to decide when to stop. Up to `BATCH` labels each step sees all of them. Found on Fashion-MNIST with HOG and
ImageNet features, 10 to 3,000 random labels.

Calibration is temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017): the temperature
that makes labels which were held out most likely. From 100 labels on it is measured on that one fifth; under 100 in
turn on each of five; under 10 it is 1. It corrects the head alone; what is shown is calibrated as of any model (see
calibration.py).

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
from annotator.models.head import HEAD, PROBABILITIES, Head, Scaling, batches_of, scaling_of, softmax
from annotator.types import FeatureArray, FloatArray, IntArray, Report

CALIBRATE_FROM, ONE_PART_FROM = 10, 100
N_PARTS = 5
BATCH = 32
RATE = 0.001  # Adam's usual one
HEAD_RATE = 0.01
"""Of a head for the first half of its steps; it falls to a twentieth of that."""
NOISE = 0.5
"""Standard deviation of the noise on scaled features."""
DECAY, LEAST_DECAY, MOST_DECAY = 0.3, 1e-3, 0.05
"""The penalty is DECAY / n labels, within these."""
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
    temperature = _held_out_temperature(network, inputs, codes, arguments["max_epochs"])
    network.train_in_steps(inputs, codes, arguments["max_epochs"])
    head = Head(scaling, from_keras(network.weights), temperature)
    head.write(folder / HEAD)
    stored.write_npy(folder / PROBABILITIES, head.probabilities(features))
    return {"temperature": temperature}


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


class _HeadNetwork(Network):
    """A hidden layer of relu units and one sum for each class, held small where labels are few."""

    def __init__(self, n_features: int, hidden: int, n_classes: int, seed: int) -> None:
        super().__init__(
            lambda: [keras.layers.Dense(hidden, "relu"), keras.layers.Dense(n_classes)], (n_features,), seed
        )
        rows, whole = tf.TensorSpec([None, n_features], tf.float32), tf.TensorSpec([], tf.float32)
        given = [rows, tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, None], tf.int64)]
        given += [tf.TensorSpec([None, None, n_features], tf.float32), tf.TensorSpec([None], tf.float32), whole]
        self._steps = tf.function(self._run_steps, input_signature=given)

    def train_in_steps(self, inputs: FeatureArray, codes: IntArray, max_epochs: int) -> None:
        """Train from the initial weights for `STEPS` steps, or for fewer where these would be too many epochs."""
        for variable, first in zip(self._variables, self._first, strict=True):
            variable.assign(first)
        rng, n = np.random.default_rng(self._seed), len(codes)
        batches = batches_of(n, max_epochs, rng)
        noise = rng.standard_normal((*batches.shape, inputs.shape[1]), dtype=np.float32) * np.float32(NOISE)
        left = 1 - np.arange(1, len(batches) + 1, dtype=np.float32) / len(batches)
        rates = HEAD_RATE * np.minimum(1, 2 * left + 0.05)
        decay = np.float32(min(MOST_DECAY, max(LEAST_DECAY, DECAY / n)))
        self._steps(*(tf.constant(each) for each in (inputs, codes, batches, noise, rates, decay)))

    def _run_steps(
        self, inputs: Tensor, codes: Tensor, batches: Tensor, noise: Tensor, rates: Tensor, decay: Tensor
    ) -> None:
        """All steps. Compiled as a whole: Keras' own `fit` takes ten times as long on so little."""
        variables = self._layers.trainable_variables
        for step in tf.range(tf.shape(batches)[0]):
            batch = batches[step]
            with tf.GradientTape() as tape:
                sums = self._layers(tf.gather(inputs, batch) + noise[step], training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(codes, batch), sums)
                sizes = [tf.reduce_sum(tf.square(layer.kernel)) for layer in self._layers.layers]
                loss = tf.reduce_mean(losses) + decay / 2 * tf.add_n(sizes)
            self._optimizer.learning_rate.assign(rates[step])
            self._optimizer.apply(tape.gradient(loss, variables), variables)


_network = lru_cache(maxsize=4)(_HeadNetwork)


@lru_cache(maxsize=4)
def _scaling(path: Path, changed_at: int) -> Scaling:
    """Scaling of the whole pool, computed once; `changed_at` distinguishes a new file under an old name."""
    return scaling_of(np.load(path, mmap_mode="r", allow_pickle=False))


def _held_out_temperature(network: _HeadNetwork, inputs: FeatureArray, codes: IntArray, max_epochs: int) -> float:
    """Measured on labels that the network of each part was not trained on."""
    found, answers = [], []
    for part in parts_of(len(codes)):
        rest = np.setdiff1d(np.arange(len(codes)), part)
        network.train_in_steps(inputs[rest], codes[rest], max_epochs)
        found.append(sums_of(network, inputs[part]))
        answers.append(codes[part])
    return temperature_of(np.concatenate(found), np.concatenate(answers)) if found else 1.0


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
