"""One project's model: labels in, prediction and its version out; shared by all annotators of the project.

Owns the prediction and nothing else: after a restart it is fitted again from the store, on exactly the events that the
last recorded model was trained on. Translates between the store's image and class ids and the rows and codes of arrays.
Test images influence nothing but the figure printed for them; audit images are never trained on.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from annotator.errors import ModelError
from annotator.metrics import Scores, pool_entropy, score
from annotator.store import Event, ModelRecord, Store
from annotator.types import UNLABELED, Dataset, IntArray, Model, Prediction

MEASURED_ON = {
    "test": "held-out images",
    "audit": "audit images, drawn at random and never trained on",
    "rest": "unlabeled images (rises also because hard images leave)",
}
"""What a figure may be measured on, the most trustworthy first."""


@dataclass(frozen=True)
class Measured:
    """One model version on the curve: what it was trained on, and what was measured, by MEASURED_ON's keys."""

    version: int
    trained_through: int
    round: int
    """The last round that had been asked when it was fitted; 0 = only labels known from the start."""
    n_labeled: int
    n_unlabeled: int
    n_changed: int | None
    fit_seconds: float
    pool_entropy: float | None
    """Mean over the unlabeled images, in nats; None when all are labeled."""
    measures: Mapping[str, Mapping[str, Any]]  # Any: JSON of metrics.Scores

    @property
    def headline(self) -> str | None:
        """The most trustworthy measure there is."""
        return next((name for name in MEASURED_ON if self.measures.get(name, {}).get("n")), None)

    @property
    def accuracy(self) -> float | None:
        """The headline measure's accuracy, 0 to 1."""
        return self.measures[self.headline]["accuracy"] if self.headline else None


class Learner:
    """Fits `model` on what the store holds; safe to share between threads."""

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        model: Model,
        truth_names: Sequence[str],
        audit_rows: IntArray,
        config_version: int,
    ) -> None:
        self.dataset = dataset
        self.audit_rows = audit_rows
        self.config_version = config_version
        self._store = store
        self._model = model
        self._truth_names = tuple(truth_names)
        self._row_of = {image_id: row for row, image_id in enumerate(dataset.ids)}
        self._lock = threading.RLock()
        self._prediction: Prediction | None = None
        self._measured = [_measured(record) for record in store.models()]
        self._labels = np.full(len(dataset), UNLABELED, dtype=np.int64)

    # ---- what is known

    @property
    def history(self) -> tuple[Measured, ...]:
        """Every model version with its figures: the learning curve."""
        return tuple(self._measured)

    @property
    def version(self) -> int | None:
        """The newest model's number; None before the first label was learned."""
        return self._measured[-1].version if self._measured else None

    @property
    def trained_through(self) -> int:
        """The seq of the last event that the newest model has seen."""
        return self._measured[-1].trained_through if self._measured else 0

    @property
    def prediction(self) -> Prediction:
        """The newest model's belief; uniform before the first. Fitted again after a restart."""
        with self._lock:
            if self._prediction is None:
                self._labels = self._training_labels(self.trained_through)
                self._prediction = self._fit(self._labels, len(self._store.classes()))
            return self._prediction

    @property
    def labels(self) -> IntArray:
        """(n_images,) class codes that the newest model was trained on, -1 elsewhere."""
        with self._lock:
            _ = self.prediction
            return self._labels.copy()

    @property
    def truth(self) -> IntArray | None:
        """(n_images,) the source's truth as class codes of this project, -1 where unknown."""
        return None if self.dataset.truth is None else self._translated(self.dataset.truth)

    def row(self, image_id: str) -> int:
        """Where an image is in the arrays."""
        return self._row_of[image_id]

    # ---- learning

    def learn(self) -> None:
        """Fit on every event up to now and record the figures; nothing to do when nothing has changed."""
        with self._lock:
            through = self._store.head_seq
            n_classes = len(self._store.classes())
            labels = self._training_labels(through)
            if (labels == UNLABELED).all() or (through == self.trained_through and self._measured):
                return
            before = self.prediction if self._measured else None
            started = time.perf_counter()
            prediction = self._fit(labels, n_classes)
            seconds = time.perf_counter() - started
            self._labels, self._prediction = labels, prediction
            self._record(through, _changed(before, prediction), seconds)

    def use(self, model: Model, config_version: int) -> None:
        """Another model from now on; it is fitted on the same labels when next asked."""
        with self._lock:
            self._model, self.config_version, self._prediction = model, config_version, None

    def measure(self) -> dict[str, Scores]:
        """The newest model on each set of images with a known answer, by MEASURED_ON's keys."""
        with self._lock:
            codes = self.prediction.probabilities.argmax(axis=1)
            current = self._store.current(self.trained_through)
            found = {"test": self._on_test(), "audit": self._on_audit(codes, current), "rest": self._on_rest(codes)}
            return {name: scores for name, scores in found.items() if scores is not None}

    def _fit(self, labels: IntArray, n_classes: int) -> Prediction:
        if (labels == UNLABELED).all():
            n_columns = max(n_classes, 1)
            return Prediction(np.full((len(self.dataset), n_columns), 1 / n_columns))
        try:
            return self._model.fit_predict(self.dataset, labels, n_classes)
        except (ValueError, ArithmeticError, MemoryError, np.linalg.LinAlgError) as error:
            message = f"The model could not be fitted ({error}). Your labels are safe; choose another model and go on."
            raise ModelError(message) from error

    def _training_labels(self, through: int) -> IntArray:
        """(n_images,) the consensus of all annotators as codes, audit images left out."""
        labels = np.full(len(self.dataset), UNLABELED, dtype=np.int64)
        for image_id, code in consensus(self._store.current(through)).items():
            labels[self._row_of[image_id]] = code
        labels[self.audit_rows] = UNLABELED
        return labels

    def _record(self, through: int, n_changed: int | None, seconds: float) -> None:
        unlabeled = self._labels == UNLABELED
        measured = Measured(
            version=len(self._measured) + 1,
            trained_through=through,
            round=self._store.last_round(),
            n_labeled=int((~unlabeled).sum()),
            n_unlabeled=int(unlabeled.sum()),
            n_changed=n_changed,
            fit_seconds=seconds,
            pool_entropy=pool_entropy(self.prediction.probabilities, np.flatnonzero(unlabeled)),
            measures={},
        )
        self._measured.append(measured)
        measures = json.loads(json.dumps({name: asdict(scores) for name, scores in self.measure().items()}))
        self._measured[-1] = replace(measured, measures=measures)
        self._store.record_model(self._as_record(self._measured[-1]))

    def _as_record(self, measured: Measured) -> ModelRecord:
        metrics = {key: value for key, value in asdict(measured).items() if key not in ("version", "trained_through")}
        return ModelRecord(
            measured.version, measured.trained_through, self.dataset.version, self.config_version, metrics
        )

    # ---- measuring

    def _on_test(self) -> Scores | None:
        held_out = self.dataset.held_out
        if held_out is None:
            return None
        return self._score(self._translated(held_out.truth), self._model.predict(held_out.features).argmax(axis=1))

    def _on_audit(self, codes: IntArray, current: Sequence[Event]) -> Scores | None:
        if not len(self.audit_rows):
            return None
        answers = consensus(current)
        truth = np.array([answers.get(self.dataset.ids[row], UNLABELED) for row in self.audit_rows], dtype=np.int64)
        return self._score(truth, codes[self.audit_rows])

    def _on_rest(self, codes: IntArray) -> Scores | None:
        truth = self.truth
        if truth is None:
            return None
        rest = self._labels == UNLABELED
        return self._score(truth[rest], codes[rest])

    def _score(self, truth: IntArray, predicted: IntArray) -> Scores:
        known = truth != UNLABELED
        return score(truth[known], predicted[known], len(self._store.classes()))

    def _translated(self, source_codes: IntArray) -> IntArray:
        """The source's class codes as this project's, by name; classes that the project lacks are unknown."""
        code_of = {label_class.name: label_class.class_id for label_class in self._store.classes()}
        table = np.array([code_of.get(name, UNLABELED) for name in self._truth_names] + [UNLABELED], dtype=np.int64)
        return table[source_codes]


def consensus(current: Sequence[Event]) -> dict[str, int]:
    """image id -> class code by majority of its annotators' standing labels; a tie goes to the one given first."""
    votes: dict[str, Counter[int]] = {}
    for event in current:
        if event.outcome == "label" and event.image_id is not None and event.class_id is not None:
            votes.setdefault(event.image_id, Counter())[event.class_id] += 1
    return {image_id: counted.most_common(1)[0][0] for image_id, counted in votes.items()}


def draw_audit(dataset: Dataset, seeded: IntArray, share: float, until: int, seed: int) -> IntArray:
    """Rows of the audit slice in the order in which they will be asked: the prefix of a seeded permutation.

    At most `until` rows and at most `share` of the pool; one row of each group of identical images, and none of the
    `seeded` rows, whose labels were known from the start: somebody chose those.
    """
    distinct = np.flatnonzero(dataset.group == np.arange(len(dataset)))
    distinct = distinct[~np.isin(distinct, dataset.group[seeded])]
    size = min(until, int(np.ceil(share * len(distinct)))) if share > 0 else 0
    return np.random.default_rng([seed, 1]).permutation(distinct)[:size]


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


def _measured(record: ModelRecord) -> Measured:
    return Measured(version=record.version, trained_through=record.trained_through, **record.metrics)


def _changed(before: Prediction | None, after: Prediction) -> int | None:
    if before is None:
        return None
    return int((before.probabilities.argmax(axis=1) != after.probabilities.argmax(axis=1)).sum())
