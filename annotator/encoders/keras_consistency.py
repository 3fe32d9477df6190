"""Training of a network on labels, on a vote's belief about the pool, and on its own consistency. Runs in a child.

Of an unlabeled image a strongly changed copy has to get a soft target q: what the vote of models and an averaged
network, shown a weakly changed copy, say together,

    q ~ vote^(1 - s) teacher^s,

weighted by how certain q is. The teacher's classes are scaled first so that their mean is the vote's (distribution
alignment; Berthelot et al., arXiv 1911.09785). Consistency of a weak and a strong copy is FixMatch's (Sohn et al.,
arXiv 2001.07685), the soft weight SoftMatch's (Chen et al., arXiv 2301.10921), the averaged teacher Mean Teacher's
(Tarvainen & Valpola, NIPS 2017). The class scores are fitted first, so that their gradients do not undo what the
network knows (Kumar et al., arXiv 2202.10054).

The images and changes of a step depend on the seed and the step's number alone: a training that was stopped goes on
from its checkpoint as if it had not been.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator.encoders import checkpoint
from annotator.encoders.imagenet_network import GRID
from annotator.encoders.keras_imagenet import build
from annotator.encoders.keras_setup import keras, tf
from annotator.encoders.training_plan import Plan
from annotator.encoders.warps import WEAK, Changes, changes
from annotator.types import FeatureArray, ImageArray, IntArray

Tensor = Any  # TensorFlow and Keras ship no types
Network = Any

BATCH = 64
"""Images a batch where nothing is learned."""
HEAD_IMAGES, HEAD_STEPS, HEAD_RATE, HEAD_PENALTY = 6_000, 300, 3e-3, 1e-4
"""How the class scores are fitted to images as they are, before the network learns."""
WARM_UP = 30
"""Steps until the rates are at their highest; they fall to nearly nothing like a cosine."""
RAMP = 0.3
"""Of the steps, until the teacher has its share."""
LEAST = 1e-6
"""Added to probabilities before their logarithm."""


class Training:
    """A network that learns, its average, and the optimisers' moments: all that a checkpoint holds."""

    def __init__(self, plan: Plan, images: ImageArray, vote: FeatureArray, rows: IntArray, labels: IntArray) -> None:
        """`vote` (n_images, n_codes) is the belief about the pool, `labels` the columns of the labeled `rows`."""
        keras.utils.set_random_seed(plan.seed)
        self.plan = plan
        self.n_done = 0
        self._images, self._rows, self._labels = images, rows, labels
        powers = np.maximum(vote, LEAST).astype(np.float64) ** plan.power
        self._targets = np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
        self._prior = self._targets.mean(axis=0)
        self._network, self._average = (network_of(plan.layer, plan.side, vote.shape[1]) for _ in range(2))
        self._body, self._head = _trained_variables(self._network, plan.frozen)
        self._optimizers = (keras.optimizers.Adam(plan.rate), keras.optimizers.Adam(plan.head_rate))
        for optimizer, variables in zip(self._optimizers, (self._body, self._head), strict=True):
            optimizer.build(variables)
        self._teachers_mean = tf.Variable(self._prior)
        self._learn = tf.function(self._one_step)
        self._follow = tf.function(self._move_average)

    @property
    def weights(self) -> list[NDArray[Any]]:
        """Of the averaged network, in the order of its layers."""
        return list(self._average.get_weights())

    def fit_head(self) -> None:
        """Fit the class scores to unchanged images, with the network as it is."""
        plan = self.plan
        n = min(len(self._images), HEAD_IMAGES)
        drawn = np.random.default_rng([plan.seed, 1]).choice(len(self._images), n, replace=False)
        rows = np.concatenate([np.sort(drawn), self._rows])
        targets = np.concatenate([self._targets[rows[:n]], np.eye(len(self._prior), dtype=np.float32)[self._labels]])
        features = flattened(self._network, self._images, rows)
        scale = float(features.std()) or 1.0
        kernel, bias = _fitted_head(features / scale, targets)
        self._network.layers[-1].set_weights([kernel / scale, bias])
        self._average.set_weights(self._network.get_weights())

    def step(self) -> dict[str, float]:
        """Learn from one batch; the losses on unlabeled and labeled images."""
        plan, rng = self.plan, np.random.default_rng([self.plan.seed, 2, self.n_done])
        unlabeled = rng.integers(len(self._images), size=plan.n_unlabeled)
        labeled = rng.integers(len(self._rows), size=plan.n_labeled)
        self._set_rates()
        copies = [
            (self._images[rows], self._changes(len(rows), strength, rng))
            for rows, strength in ((unlabeled, plan.strength), (self._rows[labeled], plan.strength), (unlabeled, WEAK))
        ]
        share = np.float32(plan.teacher * min(1.0, self.n_done / (RAMP * plan.steps)))
        losses = self._learn(copies, self._targets[unlabeled], self._labels[labeled], share)
        self._follow(np.float32(min(plan.decay, (1 + self.n_done) / (10 + self.n_done))))
        self.n_done += 1
        return {"loss": float(losses[0]), "labeled_loss": float(losses[1])}

    def save(self, path: Path, key: str) -> None:
        """Write a checkpoint of the training that `key` names; where there is no room, an older one stays."""
        arrays = {f"state{number:04}": variable.numpy() for number, variable in enumerate(self._state())}
        with suppress(OSError):
            checkpoint.write(path, key, {"n_done": np.array(self.n_done), **arrays})

    def restore(self, path: Path, key: str) -> bool:
        """Go on from the checkpoint of this training; whether there was one."""
        arrays = checkpoint.read(path, key)
        if arrays is None:
            return False
        for number, variable in enumerate(self._state()):
            variable.assign(arrays[f"state{number:04}"])
        self.n_done = int(arrays["n_done"])
        return True

    def _state(self) -> list[Tensor]:
        moments = [variable for optimizer in self._optimizers for variable in optimizer.variables]
        networks = [*self._network.weights, *self._average.weights]
        return [*(variable.value for variable in (*networks, *moments)), self._teachers_mean]

    def _changes(self, n: int, strength: float, rng: np.random.Generator) -> Changes:
        return changes(n, self._images.shape[1:3], self.plan.side, strength, self.plan.flip, rng)

    def _set_rates(self) -> None:
        done = min(1.0, self.n_done / self.plan.steps)
        factor = min(1.0, (self.n_done + 1) / WARM_UP) * 0.5 * (1 + np.cos(0.9 * np.pi * done))
        for optimizer, rate in zip(self._optimizers, (self.plan.rate, self.plan.head_rate), strict=True):
            optimizer.learning_rate.assign(rate * factor)

    def _one_step(
        self, copies: list[tuple[Tensor, Tensor]], vote: Tensor, labels: Tensor, share: Tensor
    ) -> tuple[Tensor, Tensor]:
        strong, labeled, weak = (changed(images, change, self.plan.side) for images, change in copies)
        targets = self._aligned(weak, vote, share) if self.plan.teacher else vote
        certain = tf.reduce_max(targets, axis=1)
        with tf.GradientTape() as tape:
            scores = self._network(tf.concat([strong, labeled], 0), training=True)
            n = self.plan.n_unlabeled
            unlabeled_loss = tf.reduce_mean(certain * tf.nn.softmax_cross_entropy_with_logits(targets, scores[:n]))
            labeled_loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores[n:]))
            loss = unlabeled_loss + labeled_loss * self.plan.n_labeled / n
        variables = [*self._body, *self._head]
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self._optimizers[0].apply(gradients[: len(self._body)], self._body)
        self._optimizers[1].apply(gradients[len(self._body) :], self._head)
        return unlabeled_loss, labeled_loss

    def _aligned(self, weak: Tensor, vote: Tensor, share: Tensor) -> Tensor:
        """The target of each image: what the vote and the averaged network say of it together."""
        said = tf.nn.softmax(self._average(weak, training=False))
        self._teachers_mean.assign(0.95 * self._teachers_mean + 0.05 * tf.reduce_mean(said, axis=0))
        scaled = said * (self._prior + 1e-3) / (self._teachers_mean + 1e-3)
        scaled /= tf.reduce_sum(scaled, axis=1, keepdims=True)
        return tf.nn.softmax((1 - share) * tf.math.log(vote + LEAST) + share * tf.math.log(scaled + LEAST))

    def _move_average(self, decay: Tensor) -> None:
        for average, weight in zip(self._average.weights, self._network.weights, strict=True):
            average.assign(decay * average + (1 - decay) * weight)


def network_of(layer: str, side: int, n_codes: int) -> Network:
    """(n, side, side, 3) -> (n, n_codes) class scores, with the packaged weights and scores that are all 0."""
    body = build((layer,), side)
    flow = body.output[layer]
    size = flow.shape[1] // GRID
    if size > 1:
        flow = keras.layers.AveragePooling2D(size)(flow)
    flat = keras.layers.Flatten(name="flat")(flow)
    return keras.Model(body.input, keras.layers.Dense(n_codes, kernel_initializer="zeros", name="scores")(flat))


def flattened(network: Network, images: ImageArray, rows: IntArray) -> FeatureArray:
    """(len(rows), n_values): what the network gives before the class scores."""
    body = keras.Model(network.input, network.get_layer("flat").output)
    apply = tf.function(lambda part: body(resized(part, body.input.shape[1]), training=False))
    parts = [apply(tf.constant(images[rows[start : start + BATCH]])).numpy() for start in range(0, len(rows), BATCH)]
    return np.concatenate(parts)


def resized(images: Tensor, side: int) -> Tensor:
    """(n, height, width, 1 or 3) uint8 -> (n, side, side, 3) as the network wants them."""
    return _in_colour((tf.image.resize(tf.cast(images, tf.float32), (side, side), antialias=True) - 127) / 128)


def changed(images: Tensor, change: Tensor, side: int) -> Tensor:
    """The same, warped, in another light, and with a square hole of the image's mean; `change` is a `Changes`."""
    warps, light, holes = change
    if max(images.shape[1:3]) > side:
        images = tf.image.resize(tf.cast(images, tf.float32), (side, side), antialias=True)
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=warps,
        output_shape=(side, side),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    scaled = (warped - 127) / 128
    mean = tf.reduce_mean(scaled, axis=(1, 2, 3), keepdims=True)
    lit = (scaled - mean) * light[:, 0, None, None, None] + mean + light[:, 1, None, None, None]
    return _in_colour(tf.clip_by_value(tf.where(_inside(holes, side), mean, lit), -1.0, 1.0))


def _inside(holes: Tensor, side: int) -> Tensor:
    """(n, 3) centre down, centre across and half a side, as shares -> (n, side, side, 1) bool."""
    places = (tf.range(side, dtype=tf.float32) + 0.5) / side
    down = tf.abs(places - holes[:, 0:1]) < holes[:, 2:3]
    across = tf.abs(places - holes[:, 1:2]) < holes[:, 2:3]
    return (down[:, :, None] & across[:, None, :])[..., None]


def _in_colour(images: Tensor) -> Tensor:
    return tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _trained_variables(network: Network, frozen: int) -> tuple[list[Tensor], list[Tensor]]:
    """Those of the blocks from `frozen` on, and those of the class scores."""
    body = [
        variable
        for layer in network.layers[:-1]
        if _block(layer.name) >= frozen
        for variable in layer.trainable_variables
    ]
    return body, list(network.layers[-1].trainable_variables)


def _block(name: str) -> int:
    """The number in "block7.project"; 0 for the layers before the first block."""
    return int(name.partition(".")[0][5:]) if name.startswith("block") else 0


def _fitted_head(features: FeatureArray, targets: FeatureArray) -> tuple[FeatureArray, FeatureArray]:
    """Logistic regression on soft targets, weighted by how certain these are."""
    kernel = tf.Variable(np.zeros((features.shape[1], targets.shape[1]), dtype=np.float32))
    bias = tf.Variable(np.zeros(targets.shape[1], dtype=np.float32))
    optimizer = keras.optimizers.Adam(HEAD_RATE)
    optimizer.build([kernel, bias])
    given, wanted, certain = (tf.constant(array) for array in (features, targets, targets.max(axis=1)))

    @tf.function  # type: ignore[untyped-decorator]  # as above
    def learn() -> None:
        with tf.GradientTape() as tape:
            losses = certain * tf.nn.softmax_cross_entropy_with_logits(wanted, given @ kernel + bias)
            loss = tf.reduce_mean(losses) + HEAD_PENALTY * tf.reduce_sum(kernel**2)
        optimizer.apply(tape.gradient(loss, [kernel, bias]), [kernel, bias])

    for _ in range(HEAD_STEPS):
        learn()
    return kernel.numpy(), bias.numpy()
