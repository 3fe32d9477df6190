"""How a network is trained on with labels: sizes, rates and the changes that images are shown with. Imports no Keras.

Sized for two cores: some 220 CPU seconds for small grey pictures, however large the pool is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotator.encoders.imagenet import is_small_and_grey
from annotator.encoders.pca import sample_rows
from annotator.types import ImageArray

GREY_STEPS, COLOUR_STEPS = 700, 400
LEAST_STEPS, IMAGES_PER_STEP = 120, 25
"""A small pool is learned in fewer steps, one for so many images, but at least so many."""


@dataclass(frozen=True)
class Plan:
    """One training; equal plans on equal images, targets and labels give equal networks on one machine."""

    layer: str
    """The last block of EfficientNet-Lite0 that is kept: "block7" or "block11"."""
    side: int
    """Pixels a side of what the network sees."""
    steps: int
    """0: only the class scores are fitted, to images as they are."""
    frozen: int = 0
    """Blocks before this one stay as they are."""
    flip: bool = True
    """Whether a mirrored image means the same."""
    seed: int = 0
    n_unlabeled: int = 128
    """Images of the pool in each step ..."""
    n_labeled: int = 32
    """... and labeled ones, drawn with replacement."""
    strength: float = 0.4
    """Of the changes that the network learns from, 0 to 1; stronger ones undo at first what it knows."""
    rate: float = 1e-4
    """Learning rate of the network at its highest ..."""
    head_rate: float = 5e-5
    """... and of the class scores."""
    power: float = 1.5
    """To which the vote's probabilities are raised, then divided by their sum, before they are targets."""
    teacher: float = 0.5
    """Share of the averaged network in the logarithm of the targets, once it has learned something; 0 = the vote's."""
    decay: float = 0.995
    """Of the average over the network's weights."""
    checkpoint: int = 50
    """Steps between two checkpoints."""


def plan_for(images: ImageArray, seed: int, flip: bool | None) -> Plan:
    """The plan for a pool (n_images, height, width, n_channels).

    Where nobody knows whether a mirrored image means the same, it does for photos and not for small grey pictures.
    """
    rows = sample_rows(len(images), np.random.default_rng(seed))
    grey = is_small_and_grey(images, rows)
    mirrored = not grey if flip is None else flip
    most = GREY_STEPS if grey else COLOUR_STEPS
    steps = max(LEAST_STEPS, min(most, len(images) // IMAGES_PER_STEP))
    if grey:
        return Plan("block7", 64, steps, frozen=3, flip=mirrored, seed=seed)
    return Plan("block11", 128, steps, frozen=7, flip=mirrored, seed=seed, n_unlabeled=48, n_labeled=16)
