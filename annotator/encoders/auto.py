"""The encoder that fits a pool: looks at its images, and stands for another encoder from then on.

It reads the pool alone, no label and no test image: how many images there are, whether they are small, whether they are
grey. A choice is a name and holds for good: a dataset keeps it (see `Chooses` in types.py), so a later version of the
rules changes no project.

Whether other features are better is found out with labels (see candidates.py), since a check without them misleads:
moved copies of an image find each other by hog more often than by imagenet on textures of noise (93 of 100 against 83)
and on noise in four colours (88 against 14), where with 50 labels hog is right in 85 and 24 of 100, imagenet in all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotator import registry
from annotator.config import QUICK_ENCODER, RECOMMENDED_FROM
from annotator.encoders import stored
from annotator.encoders.grey import is_grey
from annotator.errors import ConfigError
from annotator.types import (
    ChecksPool,
    Encoder,
    FeatureArray,
    FittedEncoder,
    HasOpinion,
    ImageArray,
    Opinion,
    Report,
    Resumes,
    View,
    silent,
)

NAME = "auto"
BEST = "imagenet"
"""What most pools are seen with."""
FINETUNED = "finetuned"
"""The one that takes `network` and `share`."""
SMALL_SIDE = 64
"""Pixels a side up to which a picture counts as small: a view is larger only where the file is."""
ENOUGH_TO_TRAIN = 1000
"""Images. What learns from a smaller pool learns it by heart: it stays with what needs no training."""
SAMPLE = 500
"""Images that are looked at, spread evenly over the pool."""
PART, CHOICE = "part", "choice.json"
"""Where a fitted encoder lies in its folder: what it stands for, and that one's files."""


@dataclass(frozen=True)
class Look:
    """What can be said of a pool without a label."""

    n_images: int
    side: int
    """The longer side, in pixels, of what encoders are given."""
    is_grey: bool

    @property
    def kind(self) -> str:
        """In words: "colour photos"."""
        colour = "grey" if self.is_grey else "colour"
        return f"{colour} photos" if self.side > SMALL_SIDE else f"small {colour} pictures"


@dataclass(frozen=True, eq=False)
class FittedAuto:
    """What was chosen, fitted; all it can do is passed on."""

    choice: str
    parameters: dict[str, Any]  # Any: JSON
    """Of the encoder of that name."""
    part: FittedEncoder
    reason: str
    """Why this one, in a sentence without its full stop."""

    @property
    def version(self) -> str:
        """That of what was chosen: equal versions give equal features."""
        return self.part.version

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_features) float32."""
        return self.part.encode(images, report)

    def opinion(self, images: ImageArray, report: Report = silent) -> Opinion | None:
        """Of an encoder that was trained on labels; None where it was not."""
        return self.part.opinion(images, report) if isinstance(self.part, HasOpinion) else None

    def save(self, folder: Path) -> None:
        """Write the choice and what was learned under `folder`. Raises ModelError (MODEL_SAVE)."""
        said = {"choice": self.choice, "parameters": self.parameters, "reason": self.reason}
        stored.write_text(folder / CHOICE, json.dumps(said))
        (folder / PART).mkdir(exist_ok=True)
        self.part.save(folder / PART)


class Auto:
    """Looks at your images and uses the encoder that fits them; tries better ones while you label."""

    slow = True
    """As what it mostly chooses: labeling starts on quick features meanwhile."""

    view = View(128)
    """Large enough to tell photos from small pictures."""

    def __init__(self, choice: str = "", network: str = "", share: float | None = None, base: str = "") -> None:
        """`choice` is the name of an encoder; "" = look at the pool. The others are for `finetuned`.

        Raises ConfigError.
        """
        if choice == NAME:
            raise ConfigError(f"{NAME}.choice names the encoder that {NAME} stands for, not {NAME} itself.")
        self.choice = choice
        given = {"network": network, "share": share, "base": base}
        self._given = {name: value for name, value in given.items() if value not in ("", None)}
        registry.create("encoder", *self.chosen_encoder)

    @property
    def chosen_encoder(self) -> tuple[str, dict[str, Any]]:  # Any: JSON
        """The name and the parameters of what it stands for; before the choice, of what most pools are seen with."""
        return self._encoder(self.choice or BEST)

    def check_pool(self, n_images: int) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where what was chosen cannot be trained on so few images."""
        chosen: Encoder = registry.create("encoder", *self.chosen_encoder)
        if self.choice and isinstance(chosen, ChecksPool):
            chosen.check_pool(n_images)

    def chosen(self, images: Callable[[], ImageArray]) -> dict[str, Any]:  # Any: JSON
        """The parameters that name the encoder for (n, height, width, n_channels) uint8: equal for equal images.

        Asked for images only where there is no choice yet.
        """
        return {"choice": self.choice or choice_for(look(images())), **self._given}

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedAuto:
        """Choose, where no choice was given, and fit what was chosen. Raises whatever that raises."""
        return self._fitted(images, lambda chosen: chosen.fit(images, rng, report))

    def fit_in(self, folder: Path, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedAuto:
        """As `fit`, going on from what an earlier call left in `folder`, where the chosen encoder can."""

        def fit(chosen: Encoder) -> FittedEncoder:
            if isinstance(chosen, Resumes):
                return chosen.fit_in(folder, images, rng, report)
            return chosen.fit(images, rng, report)

        return self._fitted(images, fit)

    def standing_for(self, fitted: FittedEncoder, images: ImageArray) -> FittedAuto:
        """What was chosen, fitted elsewhere, with the reason for these images."""
        return FittedAuto(*self.chosen_encoder, fitted, reason_for(self.chosen_encoder[0], look(images)))

    def load(self, folder: Path) -> FittedAuto:
        """What `FittedAuto.save` wrote. Raises ModelError (MODEL_HASH)."""
        said = json.loads((folder / CHOICE).read_text())
        chosen: Encoder = registry.create("encoder", said["choice"], said["parameters"])
        return FittedAuto(said["choice"], said["parameters"], chosen.load(folder / PART), said["reason"])

    def _fitted(self, images: ImageArray, fit: Callable[[Encoder], FittedEncoder]) -> FittedAuto:
        seen = look(images)
        name, parameters = self._encoder(self.choice or choice_for(seen))
        return FittedAuto(name, parameters, fit(registry.create("encoder", name, parameters)), reason_for(name, seen))

    def _encoder(self, choice: str) -> tuple[str, dict[str, Any]]:  # Any: JSON
        """The choice with the parameters that are passed on to it."""
        return choice, self._given if choice == FINETUNED else {}


def look(images: ImageArray) -> Look:
    """What can be said of (n_images, height, width, 1 or 3) uint8 without a label."""
    rows = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64))
    return Look(len(images), max(images.shape[1:3]), is_grey(images, rows))


def choice_for(seen: Look) -> str:
    """The encoder that fits such a pool."""
    return QUICK_ENCODER if seen.n_images < RECOMMENDED_FROM else BEST


def reason_for(choice: str, seen: Look) -> str:
    """Why `choice` fits such a pool, in a sentence without its full stop; empty where it was chosen otherwise."""
    if choice != choice_for(seen):
        return ""
    if seen.n_images < RECOMMENDED_FROM:
        return (
            f"{choice}, which needs no training, since {seen.n_images:,} images are soon labeled and too few to learn "
            "from without labels"
        )
    too_few = ", too few to train a network on" if seen.n_images < ENOUGH_TO_TRAIN else ""
    return f"{choice}, which knows a million photos, since these are {seen.n_images:,} {seen.kind}{too_few}"
