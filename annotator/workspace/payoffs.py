"""Measures beside the labeling whether the strategy of a project pays (see annotator/payoff.py). Knows no browser.

After each batch that was chosen, and when a project is opened, a thread looks whether there are labels for a
measurement that was not made yet, and makes it with a model of its own: the project's model, and whoever waits for it,
is not touched. What was found is kept in memory; after a restart the same labels give the same figures again.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from annotator.errors import AnnotatorError
from annotator.payoff import Measurement, Payoff, Waiting, measured, measurements_of
from annotator.project import Project

Key = tuple[Any, ...]  # Any: see Measurement


class Payoffs:
    """What was found in the projects of one process."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[Key, Payoff | Waiting]] = {}
        """By the project's folder and the measurement; of each strategy the newest, and what could not be measured."""
        self._looking: dict[Path, bool] = {}
        """Projects that a thread looks at, and whether it is to look once more: labels have come meanwhile."""
        self._lock = threading.Lock()

    def look(self, project: Project) -> None:
        """Make in a thread the measurements that there are labels for."""
        with self._lock:
            is_new = project.folder not in self._looking
            self._looking[project.folder] = not is_new
        if is_new:
            threading.Thread(target=self._look, args=(project,), name="payoff", daemon=True).start()

    def found(self, project: Project) -> tuple[Payoff | Waiting, ...]:
        """What is known of the strategies in use last, the newest first; Waiting says why a measurement failed."""
        return tuple(self._known.get(project.folder, {}).values())

    def is_looking(self, project: Project) -> bool:
        """Whether a thread measures."""
        return project.folder in self._looking

    def _look(self, project: Project) -> None:
        looks = True
        while looks:
            with suppress(AnnotatorError):  # the store is in trouble, and says so where it is asked
                self._measure(project)
            with self._lock:
                looks = self._looking[project.folder]
                self._looking[project.folder] = False
                if not looks:
                    del self._looking[project.folder]

    def _measure(self, project: Project) -> None:
        """Each measurement as it is done, beside what is known of the others so far."""
        measurements = measurements_of(project.store.snapshot(), project.learner)
        known = self._known.get(project.folder, {})
        for measurement in measurements:
            if measurement.key not in known:
                before = {key: found for key, found in known.items() if key[0] != measurement.spell.first}
                known = before | {measurement.key: _measured(measurement)}
                self._known[project.folder] = known
        order = [measurement.key for measurement in measurements]
        self._known[project.folder] = {key: known[key] for key in order}


def _measured(measurement: Measurement) -> Payoff | Waiting:
    try:
        return measured(measurement)
    except AnnotatorError as error:
        return Waiting(f"It could not be measured: {error}")
    except Exception as error:  # a model of a third party raises whatever it likes
        return Waiting(f"It could not be measured ({error!r}).")
