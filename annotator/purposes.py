"""Why an image is asked about, and what follows from that. Knows no image, no annotator and no store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Purpose:
    """A rule for one kind of question; its name stands with every question that was asked under it."""

    name: str
    n_wanted: int
    """How many people are to answer."""
    shows_guess: bool
    """Whether the model's guess is on the screen."""
    trains: bool
    """Whether the model learns from the answer."""
    counts: bool
    """Whether accuracy is measured on the answer."""


TRAIN = Purpose("train", n_wanted=1, shows_guess=True, trains=True, counts=False)
AUDIT = Purpose("audit", n_wanted=1, shows_guess=False, trains=False, counts=True)
"""Drawn at random before there was a model, so that its accuracy can be measured honestly."""
SEED = Purpose("seed", n_wanted=1, shows_guess=False, trains=True, counts=False)
"""Known from the start; never on a screen."""
SECOND_OPINION = Purpose("second-opinion", n_wanted=2, shows_guess=False, trains=True, counts=False)
"""Answered by one person, and asked of another who does not see the first answer."""
REVIEW = Purpose("review", n_wanted=2, shows_guess=False, trains=True, counts=False)
"""Answered, and asked once more of the same person because the answer may be wrong: the newest answer stands.

The card says what was answered and what the model finds, but offers no guess that one key would confirm.
"""

PURPOSES = {purpose.name: purpose for purpose in (TRAIN, AUDIT, SEED, SECOND_OPINION, REVIEW)}
