"""Training of the contrastive encoder: the target of a job, the only process that imports TensorFlow for it.

The order of the images and all that is random are functions of the seed and the number of the step, and a checkpoint
holds everything else: a training that is taken up again ends bit for bit where it would have ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from annotator.encoders import checkpoint, stored
from annotator.encoders.contrastive import Losses, Plan, scaled
from annotator.encoders.convolutions import kernel_shapes
from annotator.encoders.keras_augment import Changes, view
from annotator.encoders.keras_setup import tf
from annotator.jobs import record
from annotator.types import FeatureArray, ImageArray, IntArray, Report

Tensor = Any  # TensorFlow ships no types

STAGE = "Learning from the unlabeled images"
HIDDEN, PROJECTED = 256, 128
"""Widths of the two layers that are only there while training."""
TEMPERATURE = 0.2
RATE, WARM_UP, DECAY = 2e-3, 0.05, 1e-4
"""Learning rate at its highest, share of the steps until then, weight decay."""
MEANS, SQUARES = 0.9, 0.98
"""What Adam keeps of its moving averages at a step."""
VARIANCE = 1e-4
"""Added to a variance before it divides."""
NORMALISED_BY = 1024
"""Images of the pool, as they are, by which the layers are normalised after the training."""


def train(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Train on the .npy `images` by `plan`, write the network to `weights`; returns the losses of each epoch.

    Goes on from the file `checkpoint` where it holds the training called `key`, and keeps it up to date.
    """
    report("Reading images", 0, 1)
    images = np.load(arguments["images"], mmap_mode="r", allow_pickle=False)
    plan = Plan(**arguments["plan"])
    kept = Kept(Path(arguments["checkpoint"]), arguments["key"], arguments["checkpoint_seconds"])
    training = Training(plan)
    training.restore(checkpoint.read(kept.path, kept.key) or {})
    _run(training, images, kept, report)
    kernels, biases = training.normalised(images)
    arrays = {f"kernel_{place}": kernel for place, kernel in enumerate(kernels)}
    stored.write(Path(arguments["weights"]), arrays | {f"bias_{place}": bias for place, bias in enumerate(biases)})
    return {"history": training.history}


def _run(training: Training, images: ImageArray, kept: Kept, report: Report) -> None:
    """Take what steps are left."""
    n_steps = training.plan.steps
    for losses in training.history:
        record(losses)
    report(STAGE, training.step, n_steps)
    while training.step < n_steps:
        training.take_step(images)
        report(STAGE, training.step, n_steps)
        if training.step == n_steps or kept.is_due:
            kept.keep(training)


class Kept:
    """Where checkpoints of a training are written, and how often."""

    def __init__(self, path: Path, key: str, seconds: float) -> None:
        self.path = path
        self.key = key
        self._seconds = seconds
        self._at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._at >= self._seconds

    def keep(self, training: Training) -> None:
        """Write one; where there is no room for it, the training goes on with the older one."""
        with suppress(OSError):
            checkpoint.write(self.path, self.key, training.state)
        self._at = time.monotonic()


class Training:
    """A network between two steps."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.step = 0
        self.history: list[Losses] = []
        self._losses: list[float] = []
        self._order: IntArray = np.empty(0, dtype=np.int64)
        self._weights = {name: tf.Variable(value) for name, value in _initial(plan).items()}
        self._moments = [
            {name: tf.Variable(tf.zeros_like(weight)) for name, weight in self._weights.items()} for _ in range(2)
        ]
        self._step_function = tf.function(self._learn)

    @property
    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """All that later steps depend on."""
        history = json.dumps([self.history, self._losses])
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        return {"step": np.array(self.step), "history": np.array(history), **arrays}

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Go on from `state`; nothing happens where it is empty."""
        if not state:
            return
        self.step = int(state["step"])
        self.history, self._losses = json.loads(str(state["history"]))
        for name, variable in self._variables().items():
            variable.assign(state[name])

    def take_step(self, images: ImageArray) -> None:
        """Learn from the next batch."""
        epoch, number = divmod(self.step, self.plan.steps_per_epoch)
        if number == 0 or not len(self._order):
            self._order = _order(self.plan, epoch)
        rows = np.sort(self._order[number * self.plan.batch : (number + 1) * self.plan.batch])
        batch = tf.constant(scaled(images[rows], self.plan.side))
        self._losses.append(float(self._step_function(batch, tf.constant(self.step, tf.int32))))
        self.step += 1
        if self.step % self.plan.steps_per_epoch == 0:
            self.history.append({"epoch": epoch + 1, "loss": float(np.mean(self._losses))})
            self._losses = []
            record(self.history[-1])

    def normalised(self, images: ImageArray) -> tuple[list[FeatureArray], list[FeatureArray]]:
        """Kernels and biases of the network for images as they are: normalisation by them is part of both."""
        rows = np.sort(_order(self.plan, 0)[:NORMALISED_BY])
        _, statistics = self._backbone(tf.constant(scaled(images[rows], self.plan.side)))
        kernels, biases = [], []
        for place, (mean, variance) in enumerate(statistics):
            scale = self._weights[f"scale_{place}"] / tf.sqrt(variance + VARIANCE)
            kernels.append((self._weights[f"kernel_{place}"] * scale).numpy())
            biases.append((self._weights[f"shift_{place}"] - mean * scale).numpy())
        return kernels, biases

    def _variables(self) -> dict[str, Tensor]:
        first, second = self._moments
        moments = {f"first_{name}": it for name, it in first.items()} | {f"second_{n}": it for n, it in second.items()}
        return self._weights | moments

    def _learn(self, batch: Tensor, step: Tensor) -> Tensor:
        """One step of AdamW on both views of a batch (n, side, side, n_channels); its loss."""
        changes = Changes(self.plan.flip, self.plan.colour_jitter)
        views = [view(batch, tf.stack([self.plan.seed, 2 * step + which]), changes) for which in range(2)]
        with tf.GradientTape() as tape:
            outputs, _ = self._backbone(tf.concat(views, axis=0))
            first, second = tf.split(self._head(outputs[-1]), 2)
            loss = contrast(first, second)
        gradients = tape.gradient(loss, self._weights)
        self._update(gradients, tf.cast(step, tf.float32))
        return loss

    def _backbone(self, images: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Outputs of every layer, and the (mean, variance) of each channel that it was normalised by."""
        outputs, statistics = [images], []
        for place, layer in enumerate(self.plan.layers):
            flow = tf.nn.conv2d(outputs[-1], self._weights[f"kernel_{place}"], layer.stride, "SAME")
            flow, mean, variance = _normalise(flow, self._weights[f"scale_{place}"], self._weights[f"shift_{place}"])
            outputs.append(tf.nn.relu(flow + outputs[-2] if layer.shortcut else flow))
            statistics.append((mean, variance))
        return outputs[1:], statistics

    def _head(self, maps: Tensor) -> Tensor:
        hidden = tf.reduce_mean(maps, axis=(1, 2)) @ self._weights["hidden"]
        normal, _, _ = _normalise(
            hidden[:, None, None, :], self._weights["hidden_scale"], self._weights["hidden_shift"]
        )
        return tf.nn.relu(normal[:, 0, 0, :]) @ self._weights["projected"]

    def _update(self, gradients: Mapping[str, Tensor], step: Tensor) -> None:
        """AdamW (Loshchilov & Hutter, ICLR 2019), the rate by a half cosine after a warm-up."""
        rate = _rate(step, self.plan.steps)
        corrections = [1 - tf.pow(kept, step + 1) for kept in (MEANS, SQUARES)]
        for name, weight in self._weights.items():
            first, second = (moments[name] for moments in self._moments)
            first.assign(MEANS * first + (1 - MEANS) * gradients[name])
            second.assign(SQUARES * second + (1 - SQUARES) * tf.square(gradients[name]))
            change = (first / corrections[0]) / (tf.sqrt(second / corrections[1]) + 1e-7)
            weight.assign_sub(rate * (change + (DECAY * weight if weight.shape.rank > 1 else 0.0)))


def contrast(first: Tensor, second: Tensor) -> Tensor:
    """NT-Xent: each of 2 n views (n, width) is to be told from the others as the one that its partner is nearest to."""
    views = tf.math.l2_normalize(tf.concat([first, second], axis=0), axis=1)
    n_views = tf.shape(views)[0]
    nearness = tf.matmul(views, views, transpose_b=True) / TEMPERATURE - 1e9 * tf.eye(n_views)
    partners = tf.roll(tf.range(n_views), n_views // 2, axis=0)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(partners, nearness))


def _normalise(flow: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By mean and variance of each channel in the batch (n, height, width, n_channels), which are given too."""
    found = tf.raw_ops.FusedBatchNormV3(
        x=flow, scale=scale, offset=shift, mean=[], variance=[], epsilon=VARIANCE, is_training=True
    )
    return found.y, found.batch_mean, found.batch_variance


def _rate(step: Tensor, steps: int) -> Tensor:
    warm = max(1.0, WARM_UP * steps)
    done = tf.maximum(0.0, (step - warm) / max(1.0, steps - warm))
    return RATE * tf.minimum(1.0, (step + 1) / warm) * 0.5 * (1 + tf.cos(np.pi * done))


def _order(plan: Plan, epoch: int) -> IntArray:
    """Rows in the order of this epoch; of a pool that is larger than what is trained on, the drawn ones."""
    rng = np.random.default_rng([plan.seed, epoch])
    if plan.n_trained == plan.n_images:
        return rng.permutation(plan.n_images)
    drawn = np.random.default_rng([plan.seed, plan.epochs]).permutation(plan.n_images)[: plan.n_trained]
    return rng.permutation(drawn)


def _initial(plan: Plan) -> dict[str, FeatureArray]:
    """He's initial weights (He et al., ICCV 2015), drawn by NumPy."""
    rng = np.random.default_rng(plan.seed)
    weights: dict[str, FeatureArray] = {}
    for place, shape in enumerate(kernel_shapes(plan.layers, plan.n_channels)):
        weights[f"kernel_{place}"] = _drawn(shape, rng)
        weights |= {f"scale_{place}": np.ones(shape[-1], np.float32), f"shift_{place}": np.zeros(shape[-1], np.float32)}
    weights["hidden"] = _drawn((plan.layers[-1].channels, HIDDEN), rng)
    weights |= {"hidden_scale": np.ones(HIDDEN, np.float32), "hidden_shift": np.zeros(HIDDEN, np.float32)}
    return weights | {"projected": _drawn((HIDDEN, PROJECTED), rng)}


def _drawn(shape: tuple[int, ...], rng: np.random.Generator) -> FeatureArray:
    fan_in = int(np.prod(shape[:-1]))
    return rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
