"""The newest fit of a project's model, as one value: what several threads read together is swapped in one step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from annotator.evaluation import Measured
from annotator.types import IntArray, Prediction


@dataclass(frozen=True)
class Fitted:
    """A model's belief and the labels it comes from, swapped in one step."""

    labels: IntArray
    prediction: Prediction
    audit: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """(n_audit,) class codes of the audit slice as answered by then, -1 = not yet."""


@dataclass(frozen=True)
class Newest:
    """The newest fit with what was measured, swapped in one step: who needs several of its values reads it once."""

    measured: tuple[Measured, ...] = ()
    """Of every model version."""
    fitted: Fitted | None = None
    """None while the last model is not fitted again after a restart."""

    @property
    def version(self) -> int | None:
        """None before the first label was learned."""
        return self.measured[-1].version if self.measured else None

    @property
    def trained_through(self) -> int:
        """The seq of the last event that it has seen."""
        return self.measured[-1].trained_through if self.measured else 0

    @property
    def labels(self) -> IntArray | None:
        """As of Learner; None while it is not fitted again."""
        return None if self.fitted is None else self.fitted.labels

    @property
    def prediction(self) -> Prediction | None:
        """As of Learner; None while it is not fitted again."""
        return None if self.fitted is None else self.fitted.prediction
