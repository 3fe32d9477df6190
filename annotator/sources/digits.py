"""Handwritten digits that come with scikit-learn: 1,797 grey images of 8 x 8 px. Uses no network.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from annotator import images
from annotator.errors import ConfigError
from annotator.types import FloatArray, ImageArray, ImageSource, IntArray, Keeps, SetAside

N_IMAGES = 1797
GREY_STEP = 15
"""scikit-learn's 0..16 become 0..240: exactly proportional, so a pixel over the largest one is exactly v / 16."""


class _Rows:
    """Some of the digits, by their original row."""

    def __init__(self, rows: IntArray, held_out: ImageSource | None = None) -> None:
        greys, digits = _table()
        self.ids: Sequence[str] = tuple(f"digits/{row:05d}" for row in rows)
        self.array: ImageArray = (greys[rows] * GREY_STEP).astype(np.uint8)[..., np.newaxis]
        self.truth: IntArray = digits[rows]
        self.class_names = tuple(str(digit) for digit in range(10))
        self.held_out = held_out
        self.set_aside: Sequence[SetAside] = ()

    def read(self, row: int) -> bytes:
        """Image `row` as a PNG file."""
        return images.png(images.from_array(self.array[row]))

    def stamp(self, row: int) -> str:
        """Always the same: these images do not change."""
        return ""


@cache
def _table() -> tuple[FloatArray, IntArray]:
    """(1797, 8, 8) greys, 0 to 16, and (1797,) digits: what `sklearn.datasets.load_digits` reads, from the same file.

    Importing scikit-learn for that would take longer than everything else that a first start does.
    """
    package = find_spec("sklearn")
    file = Path(package.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if package else Path()
    if file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # where another version keeps them elsewhere

    bunch = load_digits()
    return bunch.images, bunch.target.astype(np.int64)


class Digits(_Rows):
    """Handwritten digits, 0 to 9: scikit-learn's 1,797 images with their truth, some held out as a test set."""

    keeps = Keeps(flip=False, colour=False)

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
