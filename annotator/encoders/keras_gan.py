"""Training of the generator and the discriminator: the target of a job, the only process that imports Keras for it.

Every random number comes from NumPy. An epoch is at most 100 batches, so that a large pool takes minutes; it is seen
a few times then, not thirty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from annotator.encoders import stored
from annotator.encoders.gan import KERNEL, LEAK, PARTS, STEP, STRIDE, scaled
from annotator.encoders.keras_setup import keras, tf
from annotator.encoders.training import Losses, Shape
from annotator.jobs import record
from annotator.types import ImageArray, IntArray, Report

STAGE = "Training generator and discriminator"
BATCH, MAX_BATCHES = 64, 100
"""Images a batch, batches an epoch."""
NOISE = 64
"""Random numbers that a picture is made of."""
CHANNELS = (32, 64)
RATE, MOMENTUM, REAL = 2e-4, 0.5, 0.9
"""Adam's, as Radford et al. found; the answer "real" is 0.9, one-sided smoothing (Salimans et al., NIPS 2016)."""
N_VALIDATION = 256

Tensor = Any  # TensorFlow ships no types


def train(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Train on the .npy `images`, write the discriminator's layers to `weights`, return the losses of each epoch."""
    report("Reading images", 0, 1)
    images = np.load(arguments["images"], mmap_mode="r", allow_pickle=False)
    keras.utils.set_random_seed(arguments["seed"])
    pair = _Pair(tuple(arguments["shape"]))
    history = _fit(pair, images, arguments["max_epochs"], np.random.default_rng(arguments["order_seed"]), report)
    arrays = dict(zip(PARTS, pair.discriminator.get_weights(), strict=False))
    stored.write(Path(arguments["weights"]), {"shape": np.array(arguments["shape"]), **arrays})
    return {"history": history}


class _Pair:
    """Both networks, and a step of their training."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.generator, self.discriminator = _generator(shape), _discriminator(shape)
        self._optimizers = [keras.optimizers.Adam(RATE, beta_1=MOMENTUM) for _ in range(2)]
        for network, optimizer in zip((self.discriminator, self.generator), self._optimizers, strict=True):
            optimizer.build(network.trainable_variables)
        self.step = tf.function(self._step, reduce_retracing=True)
        self.validate = tf.function(self._validate)

    def _step(self, real: Tensor, noise: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator learns from `real` and from what is made of `noise`, then the generator from `other`."""
        made = self.generator(noise, training=True)
        with tf.GradientTape() as tape:
            loss = self._discriminator_loss(real, made)
        _descend(self._optimizers[0], tape, loss, self.discriminator)
        with tf.GradientTape() as tape:
            judged = self.discriminator(self.generator(other, training=True))
            made_loss = _cross_entropy(judged, 1.0)
        _descend(self._optimizers[1], tape, made_loss, self.generator)
        return loss, made_loss

    def _validate(self, real: Tensor, noise: Tensor) -> Tensor:
        return self._discriminator_loss(real, self.generator(noise, training=False))

    def _discriminator_loss(self, real: Tensor, made: Tensor) -> Tensor:
        judged = self.discriminator(tf.concat([real, made], axis=0))
        n_real = tf.shape(real)[0]
        return (_cross_entropy(judged[:n_real], REAL) + _cross_entropy(judged[n_real:], 0.0)) / 2


def _fit(pair: _Pair, images: ImageArray, max_epochs: int, rng: np.random.Generator, report: Report) -> list[Losses]:
    """Losses of each epoch, means over its batches; "val_loss" is of images that are never trained on."""
    order = rng.permutation(len(images))
    n_validation = min(N_VALIDATION, len(images) // 5)
    validation = _batch(images, order[:n_validation], pair.shape), _noise(n_validation, rng)
    batches = _batches(order[n_validation:], max_epochs, rng)
    history: list[Losses] = []
    for epoch, rows_of_epoch in enumerate(batches, start=1):
        found = []
        for rows in rows_of_epoch:
            found.append(pair.step(_batch(images, rows, pair.shape), _noise(BATCH, rng), _noise(BATCH, rng)))
            report(STAGE, (epoch - 1) * len(rows_of_epoch) + len(found), max_epochs * len(rows_of_epoch))
        loss, made_loss = np.mean([[float(part) for part in pair_of] for pair_of in found], axis=0).tolist()
        value = float(pair.validate(*validation))
        history.append({"epoch": epoch, "loss": loss, "val_loss": value, "generator_loss": made_loss})
        record(history[-1])
    return history


def _batches(rows: IntArray, max_epochs: int, rng: np.random.Generator) -> list[list[IntArray]]:
    """For each epoch its batches: pass after pass over the rows in a new order, without a smaller batch at the end."""
    size = min(BATCH, len(rows))
    n_batches = min(MAX_BATCHES, -(-len(rows) // size))
    n_passes = -(-max_epochs * n_batches * size // len(rows))
    stream = np.concatenate([rng.permutation(rows) for _ in range(n_passes)])[: max_epochs * n_batches * size]
    return [list(epoch) for epoch in stream.reshape(max_epochs, n_batches, size)]


def _batch(images: ImageArray, rows: IntArray, shape: Shape) -> Tensor:
    return tf.constant(scaled(images[rows], shape))


def _noise(n: int, rng: np.random.Generator) -> Tensor:
    return tf.constant(rng.standard_normal((n, NOISE)).astype(np.float32))


def _generator(shape: Shape) -> Tensor:
    """Noise -> pictures in -1..1, in two steps that double the side."""
    height, width, n_channels = shape[0] // STEP, shape[1] // STEP, shape[2]
    layers, wide = keras.layers, CHANNELS[1]
    return keras.Sequential(
        [
            keras.Input((NOISE,)),
            layers.Dense(height * width * wide),
            layers.Reshape((height, width, wide)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(CHANNELS[0], KERNEL, STRIDE, "same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(n_channels, KERNEL, STRIDE, "same", activation="tanh"),
        ]
    )


def _discriminator(shape: Shape) -> Tensor:
    """Pictures -> one number each, high for real ones."""
    layers = [keras.Input(shape)]
    for channels in CHANNELS:
        convolution = keras.layers.Conv2D(channels, KERNEL, STRIDE, "same")
        layers += [convolution, keras.layers.LeakyReLU(negative_slope=LEAK)]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(1)])


def _cross_entropy(sums: Tensor, answer: float) -> Tensor:
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(sums), answer), sums))


def _descend(optimizer: Tensor, tape: Tensor, loss: Tensor, network: Tensor) -> None:
    variables = network.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)
