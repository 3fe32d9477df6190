"""A generator and a discriminator trained against each other on the pool: what the discriminator sees is the features.

The generator makes pictures of noise, the discriminator tells them from the pool's (Goodfellow et al., "Generative
Adversarial Nets", NIPS 2014), both of a few convolutions (Radford et al., "Unsupervised Representation Learning with
Deep Convolutional Generative Adversarial Networks", ICLR 2016, whose features are taken from the discriminator as
here). Images are brought to at most 32 px a side. The discriminator's two layers are averaged to 4 x 4 places, each
divided by its standard deviation, joined and projected on the pool's principal components; rows have length 1.

Training runs in a child process, encoding in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from annotator.encoders import stored, training
from annotator.encoders.chunks import encode_in_chunks, resize
from annotator.encoders.pca import UNCHANGED, Projection, fit_projection, sample_rows, unit_rows
from annotator.encoders.training import Losses, Shape
from annotator.jobs import Job
from annotator.types import FeatureArray, ImageArray, Report, silent

TRAIN = "annotator.encoders.keras_gan:train"
WEIGHTS, FEATURES = "discriminator.npz", "gan.npz"
PARTS = ("kernel_0", "bias_0", "kernel_1", "bias_1")
MAX_SIDE, STEP = 32, 4
"""Pixels a side; a multiple of STEP, since both layers halve it."""
KERNEL, STRIDE, LEAK = 4, 2, 0.2
GRID = 4
"""Places a side to which a layer is averaged."""
CHUNK = 128


@dataclass(frozen=True, eq=False)
class FittedGan:
    """The discriminator up to its second layer, and the projection of what it sees."""

    shape: Shape
    """(height, width, n_channels) that images are resized to."""
    weights: tuple[FeatureArray, ...]
    """Kernel (4, 4, channels in, channels out) and bias (channels out,) of each layer in turn, as Keras lists them."""
    projection: Projection
    history: tuple[Losses, ...]
    """One entry an epoch: "loss" and "val_loss" of the discriminator, "generator_loss" (binary cross-entropy)."""

    @property
    def version(self) -> str:
        """Name, sizes and what was learned."""
        size = "x".join(str(length) for length in self.shape)
        return f"gan-{size}-{stored.digest(*self.weights)}-{self.projection.digest}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_features) float32. Raises ImageError (IMG_CHANNELS)."""
        training.check_channels(images, self.shape)
        return encode_in_chunks(images, lambda chunk: unit_rows(self.projection.apply(self.seen(chunk))), report, CHUNK)

    def seen(self, images: ImageArray) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_values): both layers, averaged to a grid."""
        found, flow = [], scaled(images, self.shape)
        for kernel, bias in zip(self.weights[::2], self.weights[1::2], strict=True):
            flow = _convolved(flow, kernel) + bias
            flow = np.maximum(flow, LEAK * flow)
            found.append(_on_grid(flow))
        return np.concatenate(found, axis=1)

    @property
    def columns(self) -> list[slice]:
        """Where each layer's values are in a row of `seen`."""
        places = [min(GRID, side // STRIDE) * min(GRID, other // STRIDE) for side, other in self._sides]
        ends = np.cumsum([n * len(bias) for n, bias in zip(places, self.weights[1::2], strict=True)]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def _sides(self) -> list[tuple[int, int]]:
        """(height, width) of what goes into each layer."""
        height, width, _ = self.shape
        return [(height, width), (height // STRIDE, width // STRIDE)]

    def save(self, folder: Path) -> None:
        """Write weights, projection, their sha256 and the losses under `folder`. Raises ModelError (MODEL_SAVE)."""
        projection = {"mean": self.projection.mean, "components": self.projection.components}
        arrays = dict(zip(PARTS, self.weights, strict=True))
        stored.write(folder / FEATURES, {"shape": np.array(self.shape), **arrays, **projection})
        training.write_history(folder, self.history)


class Gan:
    """A generator against a discriminator (GAN), whose layers are the features: to compare with, hog is better."""

    slow = True
    """Takes minutes on a large pool: labeling starts on quick features meanwhile."""

    revision = 1  # part of a dataset's version: raise it when equal settings no longer give equal features

    def __init__(self, dimensions: int = 128, max_epochs: int = 30, seed: int = 0) -> None:
        training.check_settings("gan", seed, dimensions=dimensions, max_epochs=max_epochs)
        self.dimensions = dimensions
        self.max_epochs = max_epochs
        self.seed = seed

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedGan:
        """Train on the pool in a child process; its losses become the figures of the surrounding job.

        `rng` draws noise and the order of the images, and those that the projection is fitted on; `seed` the first
        weights. The same on every run of one machine, bit for bit.
        Raises ModelError (MODEL_TOO_SMALL) under 200 images, Cancelled, JobError.
        """
        found = training.trained(lambda folder: self.start_training(images, rng, folder), _discriminator, report)
        rows = sample_rows(len(images), rng)
        sample = encode_in_chunks(rows, lambda part: found.seen(images[part]), silent, CHUNK)
        return replace(found, projection=_projection(found, sample, self.dimensions))

    def start_training(self, images: ImageArray, rng: np.random.Generator, folder: Path) -> Job:
        """The job behind `fit`, with `folder` to itself."""
        self.check_pool(len(images))
        settings = {
            "shape": input_shape(images.shape[1:]),
            "max_epochs": self.max_epochs,
            "seed": self.seed,
        }
        return training.start(TRAIN, images, rng, folder, WEIGHTS, settings)

    def check_pool(self, n_images: int) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where `fit` would."""
        training.check_n_images(n_images, "a generator and a discriminator")

    def load(self, folder: Path) -> FittedGan:
        """What `FittedGan.save` wrote. Raises ModelError (MODEL_HASH)."""
        return _read(folder / FEATURES, training.read_history(folder))


def input_shape(shape: tuple[int, ...]) -> Shape:
    """(height, width, n_channels) of images -> sides of at most 32 in proportion, to the nearest multiple of 4."""
    height, width, n_channels = shape
    factor = min(1.0, MAX_SIDE / max(height, width))
    tall, wide = (max(STEP, STEP * round(side * factor / STEP)) for side in (height, width))
    return tall, wide, n_channels


def scaled(images: ImageArray, shape: Shape) -> FeatureArray:
    """(n, height, width, n_channels) uint8 -> (n, *shape) float32 in -1..1."""
    return resize(images.astype(np.float32) / np.float32(127.5) - np.float32(1), *shape[:2])


def _convolved(images: FeatureArray, kernel: FeatureArray) -> FeatureArray:
    """Stride 2 over an even side, one pixel of zeros around, as Keras pads: (n, h, w, c) -> (n, h / 2, w / 2, c')."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    n, height, width = windows.shape[:3]
    flat = windows.reshape(n * height * width, -1) @ kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[3])
    return np.asarray(flat.reshape(n, height, width, -1))


def _on_grid(layer: FeatureArray) -> FeatureArray:
    return resize(layer, min(GRID, layer.shape[1]), min(GRID, layer.shape[2])).reshape(len(layer), -1)


def _projection(found: FittedGan, sample: FeatureArray, dimensions: int) -> Projection:
    """Of layers that are each divided by their standard deviation; the division becomes part of the projection."""
    scales = np.ones(sample.shape[1], dtype=np.float32)
    for columns in found.columns:
        scales[columns] = sample[:, columns].std(dtype=np.float64) or 1
    projection = fit_projection(sample / scales, dimensions)
    if not projection.components.size:
        return projection
    return Projection(projection.mean * scales, projection.components / scales[:, None])


def _discriminator(folder: Path, history: list[Losses]) -> FittedGan:
    """What the child left, nothing projected yet."""
    return _read(folder / WEIGHTS, history)


def _read(path: Path, history: list[Losses]) -> FittedGan:
    arrays = stored.read(path)
    height, width, n_channels = (int(length) for length in arrays["shape"])
    projection = Projection(arrays["mean"], arrays["components"]) if "mean" in arrays else UNCHANGED
    return FittedGan((height, width, n_channels), tuple(arrays[part] for part in PARTS), projection, tuple(history))
