"""How good each model version was, on test, audit and rest images: the learning curve, and a sentence on what changed.

Translates the truth a source knows into the project's class codes. Test images influence nothing but the figure
printed for them. Knows no store and fits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from annotator.class_names import code_by_name, equal_name
from annotator.metrics import Calibration, Scores, reliability, score
from annotator.store import ModelRecord
from annotator.types import UNLABELED, FloatArray, IntArray, Prediction

MEASURED_ON = {
    "test": "held-out images",
    "audit": "audit images, drawn at random and never trained on",
    "rest": "unlabeled images (rises also because hard images leave)",
}
"""What a figure may be measured on, the most trustworthy first."""
NAMED = 5
"""Classes named in a sentence."""


@dataclass(frozen=True)
class Measured:
    """One model version on the curve: what it was trained on, and what was measured, by MEASURED_ON's keys."""

    version: int
    trained_through: int
    config_version: int
    n_labeled: int
    n_unlabeled: int
    n_changed: int | None
    fit_seconds: float
    pool_entropy: float | None
    """Mean over the unlabeled images, in nats; None when all are labeled."""
    measures: Mapping[str, Mapping[str, Any]]  # Any: JSON, metrics.Scores.to_record
    round: int = 0
    """The last round that had been asked when it was fitted; 0 = only labels known from the start."""
    temperature: float = 1.0
    """Of the probabilities shown; see `Prediction` in types.py."""
    temperature_labels: int = 0
    """Labels that the temperature was found with; 0 = it was not, and is 1."""
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Any: JSON, Calibration.to_record
    """Probabilities shown against the truth, by the keys of `measures`; empty in records of earlier versions."""

    @property
    def headline(self) -> str | None:
        """The most trustworthy measure there is."""
        return next((name for name in MEASURED_ON if self.measures.get(name, {}).get("n")), None)

    @property
    def accuracy(self) -> float | None:
        """The headline measure's accuracy, 0 to 1."""
        return self.measures[self.headline]["accuracy"] if self.headline else None

    @property
    def calibration(self) -> Calibration | None:
        """Of the headline measure; None in records of earlier versions."""
        found = self.calibrations.get(self.headline or "")
        return None if found is None else Calibration.from_record(found)

    def scores(self, name: str) -> Scores:
        """Every figure of this measure, one of those in `measures`."""
        return Scores.from_record(self.measures[name])


def from_record(record: ModelRecord) -> Measured:
    """What `to_record` gave; keys of other versions are left out."""
    known = {part.name for part in fields(Measured)}
    metrics = {key: value for key, value in record.metrics.items() if key in known}
    # Records of earlier versions hold whole matrices; here all are alike.
    metrics["measures"] = {name: Scores.from_record(found).to_record() for name, found in metrics["measures"].items()}
    return Measured(record.version, record.trained_through, record.config_version, **metrics)


def to_record(measured: Measured, dataset_version: str) -> ModelRecord:
    """As the store keeps it."""
    kept = dict(vars(measured))
    keys = {key: kept.pop(key) for key in ("version", "trained_through", "config_version")}
    return ModelRecord(dataset_version=dataset_version, metrics=kept, **keys)


@dataclass(frozen=True)
class Compared:
    """Guesses beside the truth, where it is known."""

    truth: IntArray
    """(n_images,) class codes, -1 = unknown."""
    guesses: IntArray
    """(n_images,) class codes."""
    confidence: FloatArray
    """(n_images,) the calibrated probability of each guess."""

    def scores(self, n_classes: int) -> Scores:
        """`metrics.score` on the images whose truth is known."""
        known = self.truth != UNLABELED
        return score(self.truth[known], self.guesses[known], n_classes)

    @property
    def calibration(self) -> Calibration:
        """`metrics.reliability` on the images whose truth is known."""
        known = self.truth != UNLABELED
        return reliability(self.confidence[known], (self.guesses == self.truth)[known])


def n_changed(before: Prediction | None, after: Prediction) -> int | None:
    """How many images are guessed otherwise than before; None where nothing was guessed before."""
    return None if before is None else int((before.guesses != after.guesses).sum())


def translated(source_codes: IntArray, source_names: Sequence[str], class_names: Sequence[str]) -> IntArray:
    """A source's class codes as a project's, by name: (n,) -> (n,), -1 for classes that the project lacks."""
    codes = code_by_name(class_names)
    found = [_code(name, codes) for name in source_names]
    return np.array([*found, UNLABELED], dtype=np.int64)[source_codes]


def dropped_labels(source_codes: IntArray | None, source_names: Sequence[str], class_names: Sequence[str]) -> str:
    """A sentence on the source's labels whose classes the project lacks; empty where there are none."""
    if source_codes is None:
        return ""
    codes = code_by_name(class_names)
    counts = np.bincount(source_codes[source_codes != UNLABELED], minlength=len(source_names)).tolist()
    lost = {name: n for name, n in zip(source_names, counts, strict=True) if n and _code(name, codes) == UNLABELED}
    if not lost:
        return ""
    n_lost, more = sum(lost.values()), f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    images = f"{n_lost:,} image{'s' * (n_lost != 1)}"
    return (
        f"Known labels cannot be used for {images}: the project has no class "
        f"{', '.join(map(repr, list(lost)[:NAMED]))}{more}. Create a project with these classes to use them."
    )


def describe(history: Sequence[Measured]) -> str:
    """What the newest model changed, in one sentence; empty before the first."""
    if not history:
        return ""
    newest = history[-1]
    before = history[-2] if len(history) > 1 else None
    if newest.n_changed is None:
        changed = "the model now guesses every image"
    else:
        changed = f"{newest.n_changed:,} guess{'es' * (newest.n_changed != 1)} changed"
    labels = f"{newest.n_labeled:,} label{'s' * (newest.n_labeled != 1)}"
    return f"{labels} → {changed}{_accuracy_clause(before, newest)}"


def _accuracy_clause(before: Measured | None, newest: Measured) -> str:
    name = newest.headline
    if name is None or newest.accuracy is None:
        return ""
    n = newest.measures[name]["n"]
    was = before.accuracy if before is not None and before.headline == name else None
    percent = f"{100 * newest.accuracy:.0f} %" if was is None else f"{100 * was:.0f} → {100 * newest.accuracy:.0f} %"
    return f", accuracy {percent} on {n:,} {MEASURED_ON[name]}"


def _code(source_name: str, codes: Mapping[str, int]) -> int:
    """A project made when class folders were named as in an id has "100%25" where today's source says "100%"."""
    return codes.get(equal_name(source_name), codes.get(source_name.replace("%", "%25"), UNLABELED))
