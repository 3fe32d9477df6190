"""Fashion-MNIST: 28 x 28 grey pictures of clothes in ten classes. A sample comes with the package, the rest from disk.

H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
2017 (arXiv:1708.07747). Uses no network: download.py does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from platformdirs import user_data_path

from annotator.errors import ConfigError, SourceError
from annotator.paths import assets
from annotator.sources.files import locate
from annotator.sources.idx import Part, has_family, read_folder
from annotator.sources.rows import ArrayRows
from annotator.types import Keeps

NAME = "fashion-mnist"
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SAMPLE = "fashion-mnist-sample/sample.npz"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""


class FashionMnist(ArrayRows):
    """Clothes in ten classes: 5,000 images of Fashion-MNIST with 1,000 held out, or all 60,000 with 10,000."""

    keeps = Keeps(flip=True, colour=True)

    def __init__(self, full: bool = False, path: str | None = None) -> None:
        """The sample that comes with the package, or all of it: from `path`, else as fetched, else Debian's.

        Raises ConfigError for a path without `full`, SourceError SRC_MISSING where the whole is nowhere, and IDX_...
        for files that cannot be read.
        """
        if path is not None and not full:
            raise ConfigError("A path is where all of Fashion-MNIST lies: give full=true with it.")
        pool, test = _whole(path) if full else _sample()
        held_out = (
            ArrayRows(f"{NAME}-test", test.images, test.labels, CLASS_NAMES, numbers=test.numbers) if test else None
        )
        super().__init__(NAME, pool.images, pool.labels, CLASS_NAMES, held_out, pool.numbers)


def fetched_folder() -> Path:
    """Where `annotator fetch fashion-mnist` puts the files: in the platform's data folder."""
    return user_data_path("annotator", appauthor=False) / "datasets" / NAME


def _sample() -> tuple[Part, Part]:
    """The sample in assets/, made by the script beside it."""
    with np.load(assets() / SAMPLE, allow_pickle=False) as sample:
        pool, test = (
            [sample[f"{part}_{what}"] for what in ("images", "labels", "numbers")] for part in ("train", "test")
        )
    return Part(*pool), Part(*test)


def _whole(path: str | None) -> tuple[Part, Part | None]:
    if path is not None:
        return read_folder(locate(path))
    for folder in (fetched_folder(), DEBIAN_FOLDER):
        if has_family(folder):
            return read_folder(folder)
    raise SourceError(
        "All of Fashion-MNIST is not on this machine. Run `annotator fetch fashion-mnist` (30 MB), "
        "install Debian's package dataset-fashion-mnist, or give path=FOLDER with its four files.",
        "SRC_MISSING",
    )
