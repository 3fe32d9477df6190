"""Pixels as features: scaled to 0..1, resized, and projected where there are many. No training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from annotator.encoders.chunks import encode_in_chunks, resize
from annotator.encoders.pca import UNCHANGED, Projection, fit_projection, sample_rows
from annotator.errors import ConfigError, ImageError
from annotator.types import FeatureArray, ImageArray, Report, silent

MAX_SIDE = 32
FILE_NAME = "pixels.npz"


@dataclass(frozen=True)
class FittedPixels:
    """Pixels divided by the pool's largest value, then projected."""

    max_dimensions: int
    peak: int
    """The largest value in the pool, 1..255; features are exact quotients where nothing is resized or projected."""
    shape: tuple[int, int, int]
    """(height, width, n_channels) that images are resized to."""
    projection: Projection

    @property
    def version(self) -> str:
        """Name, parameters and what was learned."""
        size = "x".join(str(length) for length in self.shape)
        return f"pixels(max_dimensions={self.max_dimensions})-{size}-{self.peak}-{self.projection.digest}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_features) float32. Raises ImageError (IMG_CHANNELS)."""
        if images.shape[3] != self.shape[2]:
            raise ImageError(
                f"These images have {images.shape[3]} channels, the pool that the encoder was fitted on has "
                f"{self.shape[2]}. Convert them to the pool's mode (1 = grey, 3 = RGB).",
                code="IMG_CHANNELS",
            )
        return encode_in_chunks(images, lambda chunk: self.projection.apply(self.flatten(chunk)), report)

    def flatten(self, images: ImageArray) -> FeatureArray:
        """(n, height, width, n_channels) -> (n, height * width * n_channels) in 0..1, at the fitted size."""
        scaled = images.astype(np.float32) / np.float32(self.peak)
        return resize(scaled, *self.shape[:2]).reshape(len(images), -1)

    def save(self, folder: Path) -> None:
        """Write one .npz under `folder`, which is created where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        mean, components = self.projection.mean, self.projection.components
        np.savez(folder / FILE_NAME, peak=self.peak, shape=self.shape, mean=mean, components=components)


class Pixels:
    """Raw pixels, principal components above `max_dimensions`: fast, good where images are aligned (scans, digits)."""

    def __init__(self, max_dimensions: int = 64) -> None:
        if max_dimensions < 1:
            raise ConfigError(f"pixels.max_dimensions must be at least 1, not {max_dimensions}.")
        self.max_dimensions = max_dimensions

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedPixels:
        """Find the largest value and the directions of most variance in the pool."""
        report("Fitting pixels", 0, 1)
        _, height, width, n_channels = images.shape
        shape = (min(height, MAX_SIDE), min(width, MAX_SIDE), n_channels)
        scaled = FittedPixels(self.max_dimensions, max(1, int(images.max())), shape, UNCHANGED)
        sample = encode_in_chunks(images[sample_rows(len(images), rng)], scaled.flatten, silent)
        report("Fitting pixels", 1, 1)
        return replace(scaled, projection=fit_projection(sample, self.max_dimensions))

    def load(self, folder: Path) -> FittedPixels:
        """What `FittedPixels.save` wrote."""
        with np.load(folder / FILE_NAME, allow_pickle=False) as stored:
            height, width, n_channels = (int(length) for length in stored["shape"])
            projection = Projection(stored["mean"], stored["components"])
            return FittedPixels(self.max_dimensions, int(stored["peak"]), (height, width, n_channels), projection)
