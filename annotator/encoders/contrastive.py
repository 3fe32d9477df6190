"""A small convolutional network that learns from the unlabeled pool: two views of an image are to look alike to it.

Each image is cropped, moved, lit and covered at random, twice; the network learns to tell which two views belong
together among those of a batch (Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020). What it learned to see is the features: outputs of its layers with their layout, averaged to a few cells,
divided by their standard deviation, joined and projected on the pool's principal components; rows have length 1.

Training runs in a child process (keras_contrastive.py) that writes down how far it is; encoding is NumPy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from annotator.encoders import stored
from annotator.encoders.chunks import encode_in_chunks, resize
from annotator.encoders.convolutions import Layer, average_cells, outputs_of
from annotator.encoders.grey import is_grey
from annotator.encoders.pca import UNCHANGED, Projection, fit_projection, sample_rows, unit_rows
from annotator.errors import Cancelled, ConfigError, ImageError, JobError, ModelError
from annotator.jobs import Job
from annotator.types import FeatureArray, ImageArray, IntArray, Keeps, Report, silent

TRAIN = "annotator.encoders.keras_contrastive:train"
WEIGHTS, HISTORY, CHECKPOINT = "contrastive.npz", "history.json", "checkpoint"
MIN_IMAGES = 500
SIDES = (28, 32, 48, 64)
"""Pixels a side that images are brought to: the next one, or the last."""
SMALL_SIDE = 32
"""Up to which the first layer keeps every second pixel; above, every fourth."""
WIDTHS = (32, 64, 96)
SEEN, SEEN_AT_LEAST, SEEN_EACH = 660_000, 100_000, 12
"""Images that a training sees, repetitions counted: so many at most; else so many, and each so many times."""
MAX_TRAINED = 100_000
"""Images that are trained on; of a larger pool they are drawn."""
BATCH, SMALL_BATCHES = 256, 8
"""Images a batch, and how many batches a small pool makes at least."""
CELLS = 4
"""A side, to which a layer's output is averaged."""
USED = (3, 5)
"""Layers, counted from 1, whose outputs are the features."""
MAX_DIMENSIONS = 512
CHUNK = 64
"""Images that are computed at a time: what a layer gives of them stays near the processor's cache."""
CHECKPOINT_SECONDS = 20.0
"""Between two checkpoints."""
SAMPLED = 4096
"""Images by which a training knows its pool again."""

Losses = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """One training: everything that it depends on beside the images."""

    n_images: int
    side: int
    n_channels: int
    batch: int
    epochs: int
    seed: int
    flip: bool
    colour_jitter: bool

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Of the network."""
        return network(self.side)

    @property
    def n_trained(self) -> int:
        """Images that are trained on."""
        return min(self.n_images, MAX_TRAINED)

    @property
    def steps_per_epoch(self) -> int:
        """Batches; what does not fill one is left out of this epoch."""
        return self.n_trained // self.batch

    @property
    def steps(self) -> int:
        """Batches in all."""
        return self.epochs * self.steps_per_epoch


def network(side: int) -> tuple[Layer, ...]:
    """Layers of the network for square images of this side."""
    first, second, third = WIDTHS
    return (
        Layer(5, first, stride=2 if side <= SMALL_SIDE else 4),
        Layer(3, second),
        Layer(3, third, stride=2),
        Layer(3, third),
        Layer(3, third, shortcut=True),
    )


@dataclass(frozen=True, eq=False)
class FittedContrastive:
    """The trained network, and the projection of what its layers give."""

    side: int
    kernels: tuple[FeatureArray, ...]
    biases: tuple[FeatureArray, ...]
    projection: Projection
    history: tuple[Losses, ...]
    """One entry an epoch: "epoch" from 1 on, "loss"."""

    @property
    def n_channels(self) -> int:
        """Of the images that it was trained on."""
        return int(self.kernels[0].shape[2])

    @property
    def version(self) -> str:
        """Name, size and what was learned."""
        digest = stored.digest(*self.kernels, *self.biases, self.projection.mean, self.projection.components)
        return f"contrastive-{self.side}x{self.side}x{self.n_channels}-{digest}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_features) float32. Raises ImageError (IMG_CHANNELS)."""
        if images.shape[3] != self.n_channels:
            raise ImageError(
                f"These images have {images.shape[3]} channels, the pool that the encoder was trained on has "
                f"{self.n_channels}. Convert them to the pool's mode (1 = grey, 3 = RGB).",
                code="IMG_CHANNELS",
            )
        return encode_in_chunks(images, lambda chunk: self.project(self.describe(chunk)), report, CHUNK)

    def describe(self, images: ImageArray) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_values) of the layers, before the projection."""
        outputs = outputs_of(network(self.side), self.kernels, self.biases, scaled(images, self.side))
        return np.concatenate([average_cells(outputs[number - 1], CELLS) for number in USED], axis=1)

    def project(self, values: FeatureArray) -> FeatureArray:
        """(n, n_values) -> (n, n_features)."""
        return unit_rows(self.projection.apply(values))

    def save(self, folder: Path) -> None:
        """Write network, projection, their sha256 and the loss history under `folder`. Raises ModelError."""
        named = {"side": np.array(self.side), "mean": self.projection.mean, "components": self.projection.components}
        stored.write(folder / WEIGHTS, named | _numbered("kernel", self.kernels) | _numbered("bias", self.biases))
        stored.write_text(folder / HISTORY, json.dumps(self.history))


class Contrastive:
    """Learns from the unlabeled images what stays the same when an image is changed a little; takes minutes."""

    slow = True
    """Takes minutes: labeling starts on quick features meanwhile."""

    revision = 1  # part of a dataset's version: raise it when equal settings no longer give equal features

    def __init__(
        self,
        dimensions: int = 128,
        max_epochs: int = 200,
        flip: bool | None = None,
        colour_jitter: bool | None = None,
    ) -> None:
        """`flip` and `colour_jitter` say which changes keep the meaning of the images.

        None: the source says so; where it does not know, they do for colour pictures and not for grey ones.
        """
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise ConfigError(f"contrastive.dimensions must be between 1 and {MAX_DIMENSIONS}, not {dimensions}.")
        if max_epochs < 1:
            raise ConfigError(f"contrastive.max_epochs must be at least 1, not {max_epochs}.")
        self.dimensions = dimensions
        self.max_epochs = max_epochs
        self.flip = flip
        self.colour_jitter = colour_jitter

    def for_images(self, keeps: Keeps) -> Contrastive:
        """The same, with `flip` and `colour_jitter` as the source says where they were left open."""
        flip = keeps.flip if self.flip is None else self.flip
        colour_jitter = keeps.colour if self.colour_jitter is None else self.colour_jitter
        return Contrastive(self.dimensions, self.max_epochs, flip, colour_jitter)

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedContrastive:
        """As `fit_in`, with a folder of its own: where this process dies, a training begins anew."""
        folder = stored.new_folder()
        try:
            return self.fit_in(folder, images, rng, report)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def fit_in(
        self, folder: Path, images: ImageArray, rng: np.random.Generator, report: Report = silent
    ) -> FittedContrastive:
        """Train on the pool in a child process, on from where an earlier call left it in `folder`.

        `rng` draws the first weights, the order of the images and their changes. The same on every run of one machine,
        bit for bit, however often it was interrupted. The losses become the figures of the surrounding job.
        Raises ModelError (MODEL_TOO_SMALL) under 500 images, Cancelled, JobError.
        """
        place = stored.new_folder()
        crashed = False
        try:
            history = self.start_training(images, rng, folder, place).wait(report)["history"]
            return self._fitted(stored.read(place / WEIGHTS), history, images, rng, report)
        except JobError as error:
            crashed = not isinstance(error, Cancelled)
            raise
        finally:
            if not crashed:  # kept on failure: the message names its log
                shutil.rmtree(place, ignore_errors=True)

    def start_training(self, images: ImageArray, rng: np.random.Generator, folder: Path, place: Path) -> Job:
        """The job behind `fit_in`: its checkpoint in `folder`, everything else in `place`, which is its own."""
        self.check_pool(len(images))
        plan = self.plan(images, int(rng.integers(2**31)))
        arguments = {
            "images": str(stored.path_of(images, place).absolute()),
            "plan": asdict(plan),
            "key": _key(plan, images),
            "checkpoint": str((folder / CHECKPOINT).absolute()),
            "checkpoint_seconds": CHECKPOINT_SECONDS,
            "weights": str((place / WEIGHTS).absolute()),
        }
        return Job.start(TRAIN, arguments, place)

    def check_pool(self, n_images: int) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where `fit` would."""
        if n_images < MIN_IMAGES:
            raise ModelError(
                f"A pool of {n_images:,} images is too small for the encoder contrastive to learn from; it takes "
                f"{MIN_IMAGES}. Add images, or go on with hog or imagenet, which need no training.",
                "MODEL_TOO_SMALL",
            )

    def plan(self, images: ImageArray, seed: int) -> Plan:
        """What the training of this pool will be."""
        n_images, n_channels = len(images), images.shape[3]
        n_trained = min(n_images, MAX_TRAINED)
        seen = min(SEEN, SEEN_AT_LEAST + SEEN_EACH * n_images)
        in_colour = not is_grey(images, _spread(n_images))
        return Plan(
            n_images=n_images,
            side=side_for(images.shape[1:]),
            n_channels=n_channels,
            batch=min(BATCH, n_trained // SMALL_BATCHES),
            epochs=min(self.max_epochs, max(1, round(seen / n_trained))),
            seed=seed,
            flip=in_colour if self.flip is None else self.flip,
            colour_jitter=in_colour if self.colour_jitter is None else self.colour_jitter,
        )

    def load(self, folder: Path) -> FittedContrastive:
        """What `FittedContrastive.save` wrote. Raises ModelError (MODEL_HASH)."""
        arrays = stored.read(folder / WEIGHTS)
        projection = Projection(arrays["mean"], arrays["components"])
        return _network(arrays, int(arrays["side"]), projection, _history(folder / HISTORY))

    def _fitted(
        self,
        arrays: dict[str, FeatureArray],
        history: list[Losses],
        images: ImageArray,
        rng: np.random.Generator,
        report: Report,
    ) -> FittedContrastive:
        """With the projection of what the trained network gives of a sample of the pool."""
        trained = _network(arrays, side_for(images.shape[1:]), UNCHANGED, history)
        rows = sample_rows(len(images), rng)

        def told(stage: str, done: int, total: int) -> None:
            report("Fitting contrastive", done, total)

        values = encode_in_chunks(rows, lambda part: trained.describe(images[part]), told, CHUNK)
        return replace(trained, projection=_fit_projection(values, self.dimensions))


def _fit_projection(values: FeatureArray, dimensions: int) -> Projection:
    """Of layers that are each divided by their standard deviation; the division becomes part of the projection."""
    scales = np.ones(values.shape[1], dtype=np.float32)
    end = 0
    for number in USED:
        start, end = end, end + CELLS * CELLS * network(SMALL_SIDE)[number - 1].channels
        scales[start:end] = values[:, start:end].std(dtype=np.float64) or 1
    found = fit_projection(values / scales, dimensions)
    return Projection(found.mean * scales, found.components / scales[:, None])


def scaled(images: ImageArray, side: int) -> FeatureArray:
    """(n, height, width, n_channels) uint8 -> (n, side, side, n_channels) float32 in 0..1."""
    return resize(images.astype(np.float32) / np.float32(255), side, side)


def side_for(shape: tuple[int, ...]) -> int:
    """Pixels a side that images (height, width, ...) are brought to."""
    return next((side for side in SIDES if side >= max(shape[:2])), SIDES[-1])


def _network(
    arrays: dict[str, FeatureArray], side: int, projection: Projection, history: list[Losses]
) -> FittedContrastive:
    n_layers = len(network(side))
    kernels, biases = (tuple(arrays[f"{kind}_{place}"] for place in range(n_layers)) for kind in ("kernel", "bias"))
    return FittedContrastive(side, kernels, biases, projection, tuple(history))


def _numbered(name: str, arrays: tuple[FeatureArray, ...]) -> dict[str, FeatureArray]:
    return {f"{name}_{place}": array for place, array in enumerate(arrays)}


def _key(plan: Plan, images: ImageArray) -> str:
    """Equal for equal trainings: the plan, the network, and what a part of the pool shows."""
    rows = _spread(len(images))
    settings = json.dumps([Contrastive.revision, asdict(plan), [asdict(layer) for layer in plan.layers]])
    return f"{hashlib.sha256(settings.encode()).hexdigest()[:24]}-{stored.digest(images[rows])}"


def _spread(n_images: int) -> IntArray:
    """Rows of a part of the pool, evenly over it."""
    return np.unique(np.linspace(0, n_images - 1, SAMPLED).astype(np.int64))


def _history(path: Path) -> list[Losses]:
    """The loss history that `save` wrote; empty where it is lost, since only a plot needs it."""
    with suppress(OSError, ValueError):
        losses: list[Losses] = json.loads(path.read_text())
        return losses
    return []
