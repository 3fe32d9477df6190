"""Handwritten digits that come with scikit-learn: 1,797 grey images of 8 x 8 px. Uses no network.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from annotator import images
from annotator.errors import ConfigError
from annotator.types import ImageArray, ImageSource, IntArray, SetAside

N_IMAGES = 1797
GREY_STEP = 15
"""scikit-learn's 0..16 become 0..240: exactly proportional, so a pixel over the largest one is exactly v / 16."""


class _Rows:
    """Some of the digits, by their original row."""

    def __init__(self, rows: IntArray, held_out: ImageSource | None = None) -> None:
        from sklearn.datasets import load_digits  # slow to import, and not needed once the images are in the cache

        bunch = load_digits()
        self.ids: Sequence[str] = tuple(f"digits/{row:05d}" for row in rows)
        self.array: ImageArray = (bunch.images[rows] * GREY_STEP).astype(np.uint8)[..., np.newaxis]
        self.truth: IntArray = bunch.target[rows].astype(np.int64)
        self.class_names = tuple(str(digit) for digit in range(10))
        self.held_out = held_out
        self.set_aside: Sequence[SetAside] = ()

    def read(self, row: int) -> bytes:
        """Image `row` as a PNG file."""
        return images.png(images.from_array(self.array[row]))

    def stamp(self, row: int) -> str:
        """Always the same: these images do not change."""
        return ""


class Digits(_Rows):
    """Handwritten digits, 0 to 9: scikit-learn's 1,797 images with their truth, some held out as a test set."""

    def __init__(self, held_out: int = 500, seed: int = 0) -> None:
        """Hold out `held_out` images, drawn by `seed`; the rest, the pool, keeps its original order.

        Raises ConfigError for a number of images or a seed that cannot be.
        """
        if not 0 <= held_out < N_IMAGES:
            raise ConfigError(
                f"Of its {N_IMAGES:,} digits this source can hold out 0 to {N_IMAGES - 1:,}, not {held_out:,}."
            )
        if seed < 0:
            raise ConfigError(f"The seed that draws the held-out digits must be 0 or more, not {seed}.")
        in_test = np.zeros(N_IMAGES, dtype=bool)
        in_test[np.random.default_rng(seed).choice(N_IMAGES, size=held_out, replace=False)] = True
        super().__init__(np.flatnonzero(~in_test), _Rows(np.flatnonzero(in_test)) if held_out else None)
