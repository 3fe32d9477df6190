"""Histograms of oriented gradients: what edge directions occur where, whatever the brightness. Sees grey squares only.

Dalal & Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005: central differences, unsigned
orientations, each pixel's vote shared between its nearest orientations and its nearest cells, cells normalised in
overlapping 2 x 2 blocks (L2, clipped at 0.2, L2 again).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.encoders.chunks import encode_in_chunks, resize
from annotator.encoders.pca import Projection, fit_projection, sample_rows, unit_rows
from annotator.errors import ConfigError
from annotator.types import FeatureArray, ImageArray, Report, silent

MAX_SIDE = 64
MIN_CELL_SIDE = 2
MAX_DIMENSIONS = 64
MAX_CELLS = 10  # with MAX_BINS 5,832 values an image: the covariance stays under 300 MB
MAX_BINS = 18
CLIP = 0.2
NOISE = 0.1  # smallest norm of a block, with intensities in 0..1: noise in flat areas is not amplified
FILE_NAME = "hog.npz"

Image = NDArray[np.float32]


@dataclass(frozen=True)
class FittedHog:
    """Gradient histograms projected on the pool's principal components, each row of length 1."""

    cells: int
    bins: int
    projection: Projection

    @property
    def version(self) -> str:
        """Name, parameters and what was learned."""
        return f"hog(cells={self.cells},bins={self.bins})-{self.projection.digest}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_features) float32, n_features at most 64."""
        return encode_in_chunks(images, self._encode_chunk, report)

    def save(self, folder: Path) -> None:
        """Write one .npz under `folder`, which is created where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / FILE_NAME, mean=self.projection.mean, components=self.projection.components)

    def _encode_chunk(self, images: ImageArray) -> FeatureArray:
        return unit_rows(self.projection.apply(describe(images, self.cells, self.bins)))


class Hog:
    """Edge directions in a grid of cells: forgives light and small shifts, good for things with an outline."""

    def __init__(self, cells: int = 7, bins: int = 9) -> None:
        for name, value, most in (("cells", cells, MAX_CELLS), ("bins", bins, MAX_BINS)):
            if not 1 <= value <= most:
                raise ConfigError(f"hog.{name} must be between 1 and {most}, not {value}.")
        self.cells = cells
        self.bins = bins

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedHog:
        """Find the directions of most variance among the pool's histograms."""
        report("Fitting HOG", 0, 1)
        rows = sample_rows(len(images), rng)
        sample = encode_in_chunks(images[rows], lambda chunk: describe(chunk, self.cells, self.bins), silent)
        projection = fit_projection(sample, MAX_DIMENSIONS)
        report("Fitting HOG", 1, 1)
        return FittedHog(self.cells, self.bins, projection)

    def load(self, folder: Path) -> FittedHog:
        """What `FittedHog.save` wrote."""
        with np.load(folder / FILE_NAME, allow_pickle=False) as stored:
            return FittedHog(self.cells, self.bins, Projection(stored["mean"], stored["components"]))


def describe(images: ImageArray, cells: int, bins: int) -> FeatureArray:
    """The whole descriptor: (n, height, width, n_channels) uint8 -> (n, blocks**2 * block_cells**2 * bins) float32."""
    histograms = _cell_histograms(_grey_squares(images, cells), cells, bins)
    return unit_rows(_normalised_blocks(histograms))


def _grey_squares(images: ImageArray, cells: int) -> Image:
    """(n, side, side) in 0..1, `side` the multiple of `cells` next below the longer side and `MAX_SIDE`."""
    longest = min(max(images.shape[1:3]), MAX_SIDE)
    side = cells * max(MIN_CELL_SIDE, longest // cells)
    grey = images.mean(axis=3, dtype=np.float32, keepdims=True) / np.float32(255)
    return resize(grey, side, side)[..., 0]


def _cell_histograms(squares: Image, cells: int, bins: int) -> Image:
    """(n, side, side) -> (n, cells, cells, bins): gradient lengths, summed by place and orientation."""
    n_images, side, _ = squares.shape
    votes = _orientation_votes(squares, bins)
    nearness = _cell_nearness(side, cells)
    by_row = nearness.T @ votes.reshape(n_images, side, side * bins)
    return np.asarray(nearness.T @ by_row.reshape(n_images, cells, side, bins))


def _orientation_votes(squares: Image, bins: int) -> Image:
    """(n, side, side) -> (n * side * side, bins): each gradient's length, shared by the two nearest bins."""
    down, across = np.zeros_like(squares), np.zeros_like(squares)
    down[:, 1:-1] = squares[:, 2:] - squares[:, :-2]
    across[:, :, 1:-1] = squares[:, :, 2:] - squares[:, :, :-2]
    length = np.sqrt(down * down + across * across).ravel()
    position = np.arctan2(down, across).ravel() * np.float32(bins / np.pi) - np.float32(0.5)
    lower = np.floor(position)
    share = length * (position - lower)
    lower_bin = lower.astype(np.intp) % bins
    votes = np.zeros((length.size, bins), dtype=np.float32)
    pixels = np.arange(length.size)
    votes[pixels, lower_bin] = length - share
    votes[pixels, (lower_bin + 1) % bins] += share
    return votes


def _cell_nearness(side: int, cells: int) -> Image:
    """(side, cells) share of a pixel's vote by the distance to a cell's centre, 0 one cell away."""
    position = (np.arange(side) + 0.5) * cells / side - 0.5
    return np.asarray(np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells))), dtype=np.float32)


def _normalised_blocks(histograms: Image) -> Image:
    """(n, cells, cells, bins) -> (n, n_values): L2-hys over overlapping 2 x 2 blocks; one cell alone is its block."""
    if histograms.shape[1] > 1:
        corners = [histograms[:, y : y - 1 or None, x : x - 1 or None] for y in (0, 1) for x in (0, 1)]
        histograms = np.concatenate(corners, axis=3)
    clipped = np.minimum(_damped(histograms), np.float32(CLIP))
    return _damped(clipped).reshape(len(histograms), -1)


def _damped(blocks: Image) -> Image:
    energy = (blocks * blocks).sum(axis=-1, keepdims=True)
    return np.asarray(blocks / np.sqrt(energy + np.float32(NOISE**2)))
