"""A program as a user of the package writes it. mypy --strict reads it; nothing runs it.

`assert_type` holds the types that the public names have for others: a name that became `Any` fails the check.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import numpy as np

import annotator
from annotator import Config, Project, Session, simulate
from annotator.models.label_spreading import LabelSpreading
from annotator.types import Choice, Pool, QueryStrategy


class FirstOnes:
    """A strategy of one's own."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        rows = pool.candidates[:batch_size]
        return Choice(rows, np.zeros(len(rows)))


def label(folder: Path) -> list[str]:
    """The example of the README."""
    project = Project.create(folder, Config(source="digits", encoder="pixels", batch_size=8))
    assert_type(project, Project)
    session = project.session("ada")
    assert_type(session, Session)
    session.advance()
    asked = [card.image_id for card in session.remaining]
    assert_type(asked, list[str])
    for image_id in asked:
        session.label(image_id, "7")
    session.undo()
    project.close()
    return asked


def play(folder: Path) -> int:
    """The same loop, answered by an oracle."""
    rows = simulate(Config(strategy="margin", rounds=2), folder)
    assert_type(rows, Iterator[dict[str, Any]])
    return sum(1 for _ in rows)


def estimate(features: np.ndarray[tuple[int, int], np.dtype[np.float32]], labels: list[int]) -> int:
    """The estimator, beside scikit-learn's."""
    model: LabelSpreading = LabelSpreading().fit(features, labels)  # scikit-learn's decorator gives Any
    return len(model.update(labels).transduction_)


strategy: QueryStrategy = FirstOnes()
version = annotator.__version__
assert_type(version, str)
