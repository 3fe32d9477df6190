"""What encoders share that are trained on a pool in a child process. Knows no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from annotator.encoders import stored
from annotator.errors import Cancelled, ConfigError, ImageError, JobError, ModelError
from annotator.jobs import Job
from annotator.types import ImageArray, Report

HISTORY = "history.json"
MIN_IMAGES = 200
Losses = dict[str, float]
"""Of an epoch: "epoch" from 1 on, "loss" and "val_loss", and what else a training measures."""
Shape = tuple[int, int, int]
"""(height, width, n_channels)"""

Fitted = TypeVar("Fitted")


def trained(start: Callable[[Path], Job], finish: Callable[[Path, list[Losses]], Fitted], report: Report) -> Fitted:
    """`start` a training in a temporary folder, wait for it, and `finish` with that folder and the epochs' losses.

    The folder is removed, also where the training is cancelled; kept where it crashes, as the error names its log.
    """
    folder = stored.new_folder()
    crashed = False
    try:
        return finish(folder, start(folder).wait(report)["history"])
    except JobError as error:
        crashed = not isinstance(error, Cancelled)
        raise
    finally:
        if not crashed:
            shutil.rmtree(folder, ignore_errors=True)


def start(
    target: str,
    images: ImageArray,
    rng: np.random.Generator,
    folder: Path,
    weights: str,
    settings: dict[str, Any],  # Any: JSON
) -> Job:
    """A job that trains on `images` and writes the file `weights`, in `folder`, which it has to itself."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        **settings,
        "images": str(stored.path_of(images, folder).absolute()),
        "order_seed": int(rng.integers(2**32)),
        "weights": str((folder / weights).absolute()),
    }
    return Job.start(target, arguments, folder)


def check_settings(encoder: str, seed: int, **counts: int) -> None:
    """Raises ConfigError where a count is under 1, or the seed is none."""
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{encoder}.{name} must be at least 1, not {value}.")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"{encoder}.seed must be between 0 and {2**32 - 1}, not {seed}.")


def check_n_images(n_images: int, what: str) -> None:
    """Raises ModelError (MODEL_TOO_SMALL) where `n_images` are too few to train `what` on."""
    if n_images < MIN_IMAGES:
        raise ModelError(
            f"A pool of {n_images:,} images is too small to train {what} on; it takes {MIN_IMAGES}. "
            "Add images, or go on with pixels or hog, which need no training.",
            "MODEL_TOO_SMALL",
        )


def check_channels(images: ImageArray, shape: Shape) -> None:
    """Raises ImageError (IMG_CHANNELS) where images are not of the pool's mode."""
    if images.shape[3] != shape[2]:
        raise ImageError(
            f"These images have {images.shape[3]} channels, the pool that the encoder was trained on has {shape[2]}. "
            "Convert them to the pool's mode (1 = grey, 3 = RGB).",
            code="IMG_CHANNELS",
        )


def write_history(folder: Path, history: tuple[Losses, ...]) -> None:
    """Raises ModelError (MODEL_SAVE)."""
    stored.write_text(folder / HISTORY, json.dumps(history))


def read_history(folder: Path) -> list[Losses]:
    """What `write_history` wrote; empty where it is lost, since only a plot needs it."""
    with suppress(OSError, ValueError):
        losses: list[Losses] = json.loads((folder / HISTORY).read_text())
        return losses
    return []
