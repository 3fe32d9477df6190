"""What a fit says of images whose answer is known, beside that answer: test, audit and rest. Knows no store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotator.evaluation import Compared
from annotator.fitted import Fitted
from annotator.metrics import Certainty, certainty
from annotator.types import UNLABELED, Dataset, HeldOut, IntArray, Model, Prediction, predict_held_out


@dataclass(frozen=True)
class Answers:
    """What is known of images that a fit was not trained on, as class codes of the project, -1 = unknown."""

    test: IntArray | None
    """(n_held_out,) truth; None without held-out images."""
    pool: IntArray | None
    """(n_images,) the source's truth; None where it knows none."""
    audit_rows: IntArray


def compared(model: Model, dataset: Dataset, fitted: Fitted, answers: Answers) -> dict[str, Compared]:
    """The fit on each set of images with a known answer, by MEASURED_ON's keys."""
    prediction = fitted.prediction
    found, rows = {}, answers.audit_rows
    if dataset.held_out is not None and answers.test is not None:
        found["test"] = _on_test(model, dataset.held_out, answers.test, prediction.temperature)
    if len(rows):
        found["audit"] = _on_pool(prediction, rows, fitted.audit)
    if answers.pool is not None:
        rest = np.where(fitted.labels == UNLABELED, answers.pool, UNLABELED)
        found["rest"] = _on_pool(prediction, slice(None), rest)
    return found


def _on_test(model: Model, held_out: HeldOut, truth: IntArray, temperature: float) -> Compared:
    probabilities = predict_held_out(model, held_out)
    return Compared(truth, probabilities.argmax(axis=1), Certainty(temperature)(probabilities)[:, 0])


def _on_pool(prediction: Prediction, rows: IntArray | slice, truth: IntArray) -> Compared:
    return Compared(truth, prediction.guesses[rows], certainty(prediction)[rows, 0])
