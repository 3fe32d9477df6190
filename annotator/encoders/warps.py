"""Random changes of images that keep what they mean, as numbers: warps, light, a hole. Knows no pixels.

A warp maps each pixel of the output to a place in the input, as TensorFlow's projective transform takes it; resizing to
the network's side is part of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotator.types import FeatureArray

ANGLE, LOG_SCALE, LOG_ASPECT, SHIFT = 0.26, 0.22, 0.15, 0.12
"""The strongest warp: radians, logarithms of zoom and of width over height, share of the side."""
LIGHT, HOLE = 0.25, 0.2
"""The strongest change of contrast and brightness; the largest half side of a hole, as a share of the image's."""
WEAK = 0.25
"""How strong a weak change is."""

Changes = tuple[FeatureArray, FeatureArray, FeatureArray]
"""Warps (n, 8), light (n, 2): a factor of contrast and what is added, of 1; holes (n, 3): down, across, half a side."""


def changes(n: int, size: tuple[int, ...], side: int, strength: float, flip: bool, rng: np.random.Generator) -> Changes:
    """For `n` images of (height, width), of a strength from 0 to 1; weak ones have no hole."""
    warps = random_warps(n, (size[0], size[1]), side, strength, flip, rng)
    light = np.array([1.0, 0.0]) + strength * LIGHT * rng.uniform(-1, 1, size=(n, 2))
    holes = rng.random((n, 3)) * np.array([1.0, 1.0, HOLE * max(0.0, strength - WEAK)])
    return warps, light.astype(np.float32), holes.astype(np.float32)


def random_warps(
    n: int, size: tuple[int, int], side: int, strength: float, flip: bool, rng: np.random.Generator
) -> FeatureArray:
    """(n, 8) float32: each row the transform of a (height, width) image to a square of `side` pixels.

    `strength` 0 only resizes, 1 is the strongest; with `flip` half of the images are mirrored.
    """
    drawn = strength * rng.uniform(-1, 1, size=(5, n))
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0) if flip else np.ones(n)
    angle, zoom, aspect = ANGLE * drawn[0], np.exp(LOG_SCALE * drawn[1]), np.exp(LOG_ASPECT * drawn[2] / 2)
    across, down = mirror * zoom * aspect, zoom / aspect
    turned = np.array([[across * np.cos(angle), -down * np.sin(angle)], [across * np.sin(angle), down * np.cos(angle)]])
    return _in_pixels(turned, SHIFT * drawn[3:], size, side)


def _in_pixels(
    matrix: NDArray[np.float64], shift: NDArray[np.float64], size: tuple[int, int], side: int
) -> FeatureArray:
    """From maps of the unit square around its middle, (2, 2, n) and (2, n), to maps of pixel numbers."""
    rows = []
    for axis, length in enumerate((size[1], size[0])):
        right, down = matrix[axis] * length / side
        corner = length * (shift[axis] + 0.5) - 0.5 - (right + down) * (side - 1) / 2
        rows += [right, down, corner]
    return np.stack([*rows, *np.zeros((2, len(shift[0])))], axis=1).astype(np.float32)
