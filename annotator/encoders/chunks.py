"""Encodes a pool in chunks, and resizes images by area. Knows no encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from annotator.types import FeatureArray, Report

VALUES_PER_CHUNK = 200_000  # what a chunk's intermediate arrays hold stays near the processor's cache

Kind = TypeVar("Kind", bound=np.generic)


def encode_in_chunks(
    images: NDArray[Kind], encode: Callable[[NDArray[Kind]], FeatureArray], report: Report, length: int | None = None
) -> FeatureArray:
    """Call `encode` on chunks of images, `report` after each: (n, height, width, n_channels) -> (n, n_features).

    `length` is the number of images a chunk; where it is given, `images` may be any array with a row for each image.
    """
    n_images, step = len(images), length or _chunk_length(images)
    first = encode(images[:step])
    features = np.empty((n_images, first.shape[1]), dtype=np.float32)
    features[:step] = first
    report("Encoding", min(step, n_images), n_images)
    for start in range(step, n_images, step):
        features[start : start + step] = encode(images[start : start + step])
        report("Encoding", min(start + step, n_images), n_images)
    return features


def resize(images: FeatureArray, height: int, width: int) -> FeatureArray:
    """The mean over each target pixel's area: (n, h, w, n_channels) -> (n, height, width, n_channels) float32."""
    n_images, old_height, old_width, n_channels = images.shape
    if (old_height, old_width) == (height, width):
        return images
    tall = _overlaps(height, old_height) @ images.reshape(n_images, old_height, old_width * n_channels)
    wide = _overlaps(width, old_width) @ tall.reshape(n_images, height, old_width, n_channels)
    return wide.astype(np.float32, copy=False)


def _overlaps(new: int, old: int) -> NDArray[np.float32]:
    """(new, old) shares of each old pixel in each new one along one axis; rows sum to 1."""
    edges = np.arange(new + 1) * old / new
    pixels = np.arange(old)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.maximum(shared, 0) * new / old, dtype=np.float32)


def _chunk_length(images: NDArray[Kind]) -> int:
    return max(1, VALUES_PER_CHUNK // max(1, int(np.prod(images.shape[1:]))))
