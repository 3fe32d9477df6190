"""When a model's temperature is found again, and what it is for the next fit. Knows no store; numerics are elsewhere.

A temperature comes from the labels of one fit and is used from the next one on, so that no batch waits for it: it is
found in a thread, and only where a fit comes before that is done, as after a restart, does the fit do it itself. The
first temperature of a model is found within the fit where that is cheap: where the model leaves labels out for less
than fits from scratch (`LeavesOut`) and labeling waits for its fits anyway. Of other models (networks that are trained
for seconds) the first fit has none. It is found again once there are a fifth more labels: by the number of labels and
never by the clock, so that runs repeat. In a pool of at most `SMALL_POOL` images, where it takes some hundredths of a
second and each batch changes much, every fit finds its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from annotator.evaluation import Measured
from annotator.fitted import Fitted
from annotator.models import calibration
from annotator.models.calibration import Known
from annotator.types import UNLABELED, Dataset, IntArray, LeavesOut, Model, is_asynchronous

GROWTH = 1.2
"""Labels against those of the last temperature, from which on it is found again: a round number."""
SMALL_POOL = 2_000
"""Images, up to which each fit of a model that is quick to calibrate finds its own temperature. A round number."""


@dataclass(frozen=True)
class Temperature:
    """A temperature and the number of labels that it was found with; 0 = it was not."""

    value: float = 1.0
    n_labels: int = 0


class Calibrator:
    """The temperature of one model on one dataset."""

    def __init__(self, newest: Temperature | None = None) -> None:
        self.newest = newest or Temperature()
        """For the next fit."""
        self._has_fitted = newest is not None
        """Whether the newest fit is this model's: after a change of settings it is another's until the next one."""
        self._looked_at: Fitted | None = None

    @classmethod
    def going_on(cls, history: Sequence[Measured], config_version: int) -> Calibrator:
        """As the last fit left it; without a temperature where that was made with other settings."""
        last = history[-1] if history else None
        same = last is not None and last.config_version == config_version
        return cls(Temperature(last.temperature, last.temperature_labels) if last is not None and same else None)

    def is_due(self, fitted: Fitted) -> bool:
        """Whether this fit's labels are enough to find a temperature, or a better one."""
        n_labels = int((fitted.labels != UNLABELED).sum())
        least = max(calibration.LEAST, GROWTH * self.newest.n_labels)
        return fitted is not self._looked_at and least <= n_labels < len(fitted.labels)

    def will_look_at(self, fitted: Fitted) -> bool:
        """Whether `look_at` finds a temperature by this fit, and so needs the model as that fit left it."""
        return self._has_fitted and self.is_due(fitted)

    def look_at(self, model: Model, dataset: Dataset, fitted: Fitted, audit_rows: IntArray) -> None:
        """Find the temperature by a fit where it is due; `model` is as that fit left it.

        Where that fails the temperature stays as it is until the next fit.
        """
        if self.will_look_at(fitted):
            self._find(model, dataset, fitted, audit_rows)
        self._looked_at = fitted

    def calibrated(self, model: Model, dataset: Dataset, fitted: Fitted, audit_rows: IntArray) -> Fitted:
        """A new fit with its temperature; where the model has none yet and that is cheap, it is found by this fit."""
        self._has_fitted = True
        if _is_cheap(model) and self._is_wanted_now(fitted):
            self._find(model, dataset, fitted, audit_rows)
            self._looked_at = fitted
        return replace(fitted, prediction=replace(fitted.prediction, temperature=self.newest.value))

    def _is_wanted_now(self, fitted: Fitted) -> bool:
        """Whether this fit is to find its own temperature, where that is cheap."""
        n_images, n_labels = len(fitted.labels), int((fitted.labels != UNLABELED).sum())
        if n_images > SMALL_POOL and self.newest.n_labels:
            return False
        return calibration.LEAST <= n_labels < n_images

    def _find(self, model: Model, dataset: Dataset, fitted: Fitted, audit_rows: IntArray) -> None:
        answered = np.flatnonzero(fitted.audit != UNLABELED)
        audit = Known(fitted.prediction.probabilities[audit_rows[answered]], fitted.audit[answered])
        with suppress(Exception):  # whatever a model of a third party raises: the fit itself is good
            value = calibration.temperature(model, dataset, fitted.labels, fitted.prediction.probabilities, audit)
            self.newest = Temperature(value, int((fitted.labels != UNLABELED).sum()))


def _is_cheap(model: Model) -> bool:
    return isinstance(model, LeavesOut) and not is_asynchronous(model)


def with_temperature(fitted: Fitted, history: Sequence[Measured]) -> Fitted:
    """The last recorded fit, made again, with the temperature of its record."""
    value = history[-1].temperature if history else 1.0
    return replace(fitted, prediction=replace(fitted.prediction, temperature=value))
