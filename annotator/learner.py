"""One project's model: labels in, prediction and its version out; shared by all annotators of the project.

Owns the prediction and nothing else: after a restart it is read from its file (predictions.py) or, where that is not
whole, fitted again from the store, on exactly the events that the last recorded model was trained on. Translates
between the store's image and class ids and the rows and codes of arrays.
Test images influence nothing but the figure printed for them; audit images are never trained on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from annotator import calibrating
from annotator.calibrating import Calibrator
from annotator.consensus import consensus
from annotator.errors import AnnotatorError, ModelError, StoreError
from annotator.evaluation import Compared, Measured, from_record, n_changed, to_record, translated
from annotator.fitted import Fitted, Newest
from annotator.measuring import Answers, compared
from annotator.metrics import certainty
from annotator.models.out_of_fold import copied
from annotator.paths import name_of
from annotator.predictions import PredictionFiles
from annotator.store import Snapshot, Store, artefacts
from annotator.store import snapshot as snapshots
from annotator.types import (
    UNLABELED,
    Dataset,
    Follows,
    IntArray,
    JoinsHeldOut,
    LeavesOut,
    Model,
    Prediction,
    WarmsUp,
    goes_on,
    is_asynchronous,
)


class Learner:
    """Fits `model` on what the store holds; safe to share between threads.

    One fit runs at a time. A model whose class says `asynchronous` is fitted in a thread where the caller does not
    wait: labeling goes on with the last prediction, and a fit that fails leaves it standing.
    """

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        model: Model,
        truth_names: Sequence[str],
        audit_rows: IntArray,
        config_version: int,
        files: PredictionFiles | None = None,
    ) -> None:
        self.dataset = dataset
        self.audit_rows = audit_rows
        self._config_version = config_version
        self._store = store
        self._model = model
        self._truth_names = tuple(truth_names)
        self._rows: dict[str, int] = {}
        """Rows that were looked up before: of images that were asked about, not of the pool."""
        self._truth: tuple[tuple[Dataset, tuple[str, ...], tuple[str, ...]], IntArray] | None = None
        """The truth as class codes, and what it was translated for: looked at in every round."""
        self._fitting = threading.RLock()
        self._swapping = threading.Lock()
        self._failure: AnnotatorError | None = None
        self._thread: threading.Thread | None = None
        self._files = files
        records = store.read(artefacts.models)
        self._newest = Newest(tuple(map(from_record, records)))
        self._calibrator = Calibrator.going_on(self._newest.measured, config_version)
        self._last_record = records[-1] if records else None
        self._is_behind = False
        """Whether the prediction was read from its file: a model that goes on has not taken its steps again."""

    # ---- what is known

    @property
    def history(self) -> tuple[Measured, ...]:
        """Every model version with its figures: the learning curve."""
        return self._newest.measured

    @property
    def version(self) -> int | None:
        """The newest model's number; None before the first label was learned."""
        return self._newest.version

    @property
    def is_ready(self) -> bool:
        """Whether a prediction is there without waiting for a fit."""
        newest = self._newest
        return newest.fitted is not None or not newest.measured

    @property
    def newest(self) -> Newest:
        """The newest fit; before the first a uniform belief. Waits for no fit after a restart."""
        if self.is_ready:
            self._now()
        return self._newest

    @property
    def is_learning(self) -> bool:
        """Whether a fit runs in the background."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failure(self) -> AnnotatorError | None:
        """Why the last fit in the background failed; None after one that did not."""
        return self._failure

    @property
    def prediction(self) -> Prediction:
        """The newest model's belief; uniform before the first. After a restart read from its file, or fitted again."""
        return self._now().prediction

    @property
    def labels(self) -> IntArray:
        """(n_images,) class codes that the newest model was trained on, -1 elsewhere; read-only."""
        return self._now().labels

    @property
    def truth(self) -> IntArray | None:
        """(n_images,) the source's truth as class codes of this project, -1 where unknown."""
        return self.truth_in(tuple(snapshots.class_names(self._store.snapshot())))

    def truth_in(self, names: tuple[str, ...]) -> IntArray | None:
        """As `truth`, where the project's classes are at hand."""
        if self.dataset.truth is None:
            return None
        known, basis = self._truth, (self.dataset, self._truth_names, names)
        if known is None or known[0][0] is not basis[0] or known[0][1:] != basis[1:]:
            known = self._truth = basis, translated(self.dataset.truth, self._truth_names, names)
            known[1].flags.writeable = False
        return known[1]

    def row(self, image_id: str) -> int:
        """Where an image is in the arrays. Raises StoreError (STORE_DAMAGED) where the pool has none of this id."""
        row = self._rows.get(image_id)
        if row is None:
            row = self._rows[image_id] = self._looked_up(image_id)
        return row

    def _looked_up(self, image_id: str) -> int:
        try:
            return self.dataset.ids.index(image_id)
        except ValueError as error:
            told = f"The label store speaks of {name_of(image_id)!r}, which is not in the pool."
            raise StoreError(f"{told} `annotator verify` says more.", "STORE_DAMAGED") from error

    # ---- learning

    def learn(self, wait: bool = True, through: int | None = None) -> None:
        """Fit on every event up to now, or up to `through`, and record the figures; nothing to do when that is known.

        Without `wait`, an asynchronous model is fitted in the background.
        """
        if wait or not is_asynchronous(self._model):
            self._learn(through)
            return
        with self._swapping:
            if not self.is_learning:
                self._read_unless_busy()
                self._thread = threading.Thread(
                    target=self._learn_quietly, args=(through,), name="learner", daemon=True
                )
                self._thread.start()

    def warm_up(self) -> None:
        """Begin in the background with what the first fit after a start would have to wait for."""
        if isinstance(self._model, WarmsUp):
            self._model.warm_up()
        if not is_asynchronous(self._model):
            threading.Thread(target=self._rehearse, name="rehearsal", daemon=True).start()

    def _rehearse(self) -> None:
        model, held_out = self._model, self.dataset.held_out
        with self._fitting, suppress(AnnotatorError):
            if held_out is not None and isinstance(model, JoinsHeldOut):
                model.join(self.dataset, held_out.features)
            if self._newest.measured:
                self._now()
                self._catch_up()

    def use(self, model: Model, config_version: int, other: tuple[Dataset, Sequence[str]] | None = None) -> None:
        """Another model from the next fit on; until then the last prediction stands.

        `other` is a dataset of the same images with other features, and the names of the classes that its truth counts
        in: a source listed anew may order them otherwise.
        """
        with self._fitting:
            self._model, self._config_version = model, config_version
            if other is not None:
                self.dataset, self._truth_names = other[0], tuple(other[1])
            self._calibrator = Calibrator()

    def _now(self) -> Fitted:
        fitted = self._newest.fitted
        if fitted is not None:
            return fitted
        with self._fitting:
            self._read()
            fitted = self._newest.fitted
            if fitted is None:
                fitted = calibrating.with_temperature(self._replayed(), self._newest.measured)
                self._newest = replace(self._newest, fitted=fitted)
            return fitted

    def _read(self) -> None:
        """Take the last prediction from its file, where nothing is known yet and the file is whole."""
        record = self._last_record
        if self._newest.fitted is not None or self._files is None or record is None:
            return
        if record.dataset_version == self.dataset.version and (prediction := self._files.load(record)) is not None:
            labels, audit = self._answers(self._store.snapshot(), record.trained_through)
            fitted = Fitted(labels, prediction, audit)
            self._newest = replace(self._newest, fitted=fitted)
            self._is_behind = True

    def _read_unless_busy(self) -> None:
        """So that a batch that waits for no fit is chosen by what was known before a restart."""
        if self._fitting.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._fitting.release()

    def _replayed(self) -> Fitted:
        """Refit after a restart; a stateful model once for each version recorded, so that the result is the same."""
        if not self._newest.measured:
            return self._fitted_through(0)
        last = self._newest.measured[-1]
        if goes_on(self._model) and last.config_version != self._config_version:
            # Those labels were another model's: this one begins with the next fit.
            model, self._model = self._model, copied(self._model, self.dataset)
            fitted = self._fitted_through(last.trained_through)
            self._model = model
            return fitted
        for through in self._steps()[:-1]:
            self._follow(through)
        return self._fitted_through(last.trained_through)

    def _catch_up(self) -> None:
        """Bring the model to where it was when the prediction was written that was read from a file.

        The last step is a whole fit where its temperature is still to be found: models that leave labels out do so from
        what a fit left behind.
        """
        fitted, steps = self._newest.fitted, self._steps()
        if self._is_behind and fitted is not None:
            for through in steps[:-1]:
                self._follow(through)
            if isinstance(self._model, LeavesOut) and self._calibrator.will_look_at(fitted):
                self._fitted_through(self._newest.trained_through)
            elif steps:
                self._follow(steps[-1])
        self._is_behind = False

    def _steps(self) -> list[int]:
        """The fits that a stateful model takes again: the seqs that those with this config were trained through."""
        if not goes_on(self._model):
            return []
        return [
            point.trained_through for point in self._newest.measured if point.config_version == self._config_version
        ]

    def _follow(self, through: int) -> None:
        """Repeat a recorded fit before the last one; its prediction is left out where the model can do without."""
        labels, n_classes = self._training_labels(through), self._n_classes(through)
        if (labels != UNLABELED).any() and isinstance(self._model, Follows):
            self._model.follow(self.dataset, labels, n_classes)
        else:
            self._fit(labels, n_classes)

    def _fitted_through(self, through: int) -> Fitted:
        labels, audit = self._answers(self._store.snapshot(), through)
        return Fitted(labels, self._fit(labels, self._n_classes(through)), audit)

    def _learn(self, through: int | None) -> None:
        with self._fitting:
            snapshot = self._store.snapshot()  # read once: all of the fit is of this moment
            through = snapshot.head_seq if through is None else through
            if self._newest.measured and through <= self._newest.trained_through:
                self._now()  # after a restart it is read from its file, or fitted again
                return
            labels, audit = self._answers(snapshot, through)
            if not (self._newest.measured or (labels != UNLABELED).any()):
                return
            before = self.prediction if self._newest.measured else None
            self._catch_up()
            self._calibrate()
            started = time.perf_counter()
            fitted = Fitted(labels, self._fit(labels, snapshots.n_classes(snapshot, through)), audit)
            seconds = time.perf_counter() - started
            fitted = self._calibrator.calibrated(self._model, self.dataset, fitted, self.audit_rows)
            changed = n_changed(before, fitted.prediction)
            self._take(fitted, self._measure(snapshot, fitted, through, changed, seconds))
            if self._calibrator.is_due(fitted):
                threading.Thread(target=self._calibrate, name="calibration", daemon=True).start()

    def _calibrate(self) -> None:
        """Find the next fit's temperature by the newest one, where that is due; in a thread, or before the next fit."""
        with self._fitting:
            fitted = self._newest.fitted
            if fitted is not None and self._newest.measured:
                self._calibrator.look_at(self._model, self.dataset, fitted, self.audit_rows)

    def _take(self, fitted: Fitted, measured: Measured) -> None:
        """A fit becomes the newest model: recorded, then known, then written to its file by and by."""
        record = self._store.write(artefacts.record_model, to_record(measured, self.dataset.version))
        measured = replace(measured, version=record.version)
        self._newest = Newest((*self._newest.measured, measured), fitted)
        if self._files is not None:
            self._files.keep(record, fitted.prediction)

    def _learn_quietly(self, through: int | None) -> None:
        try:
            self._learn(through)
            self._failure = None
        except AnnotatorError as error:
            self._failure = error

    def _fit(self, labels: IntArray, n_classes: int) -> Prediction:
        if (labels == UNLABELED).all():
            n_columns = max(n_classes, 1)
            return Prediction(np.full((len(self.dataset), n_columns), 1 / n_columns))
        try:
            return self._model.fit_predict(self.dataset, labels, n_classes)
        except (OSError, ValueError, ArithmeticError, MemoryError, np.linalg.LinAlgError) as error:
            message = f"The model could not be fitted ({error}). Your labels are safe; choose another model and go on."
            raise ModelError(message) from error

    def _training_labels(self, through: int) -> IntArray:
        return self._answers(self._store.snapshot(), through)[0]

    def _answers(self, snapshot: Snapshot, through: int) -> tuple[IntArray, IntArray]:
        """(n_images,) the consensus of all annotators as codes, audit images left out; (n_audit,) that of these."""
        labels = np.full(len(self.dataset), UNLABELED, dtype=np.int64)
        answers = consensus(snapshots.standing(snapshot, through))
        rows = np.fromiter(map(self.row, answers), dtype=np.int64, count=len(answers))
        labels[rows] = np.fromiter(answers.values(), dtype=np.int64, count=len(answers))
        audit = labels[self.audit_rows]
        labels[self.audit_rows] = UNLABELED
        labels.flags.writeable = False
        return labels, audit

    def _n_classes(self, through: int) -> int:
        return snapshots.n_classes(self._store.snapshot(), through)

    # ---- measuring

    def _measure(
        self,
        snapshot: Snapshot,
        fitted: Fitted,
        through: int,
        n_changed: int | None,
        seconds: float,
    ) -> Measured:
        unlabeled, temperature = fitted.labels == UNLABELED, self._calibrator.newest
        names = tuple(snapshots.class_names(snapshot))
        found = {} if unlabeled.all() else self._compared(fitted, names)
        entropies = certainty(fitted.prediction)[unlabeled, 1]
        return Measured(
            version=(self._newest.version or 0) + 1,
            trained_through=through,
            config_version=self._config_version,
            round=snapshots.last_round(snapshot),
            n_labeled=int((~unlabeled).sum()),
            n_unlabeled=int(unlabeled.sum()),
            n_changed=n_changed,
            fit_seconds=seconds,
            pool_entropy=float(entropies.mean()) if len(entropies) else None,
            measures={name: each.scores(len(names)).to_record() for name, each in found.items()},
            temperature=temperature.value,
            temperature_labels=temperature.n_labels,
            calibrations={name: each.calibration.to_record() for name, each in found.items()},
        )

    def _compared(self, fitted: Fitted, names: tuple[str, ...]) -> dict[str, Compared]:
        held_out = self.dataset.held_out
        test = None if held_out is None else translated(held_out.truth, self._truth_names, names)
        answers = Answers(test, self.truth_in(names), self.audit_rows)
        return compared(self._model, self.dataset, fitted, answers)


def draw_audit(dataset: Dataset, seeded: IntArray, share: float, until: int, seed: int) -> IntArray:
    """Rows of the audit slice in the order in which they will be asked: the prefix of a seeded permutation.

    At most `until` rows and at most `share` of the pool; one row of each group of identical images, and none of the
    `seeded` rows, whose labels were known from the start: somebody chose those.
    """
    distinct = np.flatnonzero(dataset.is_first)
    distinct = distinct[~np.isin(distinct, dataset.group[seeded])]
    size = min(until, int(np.ceil(share * len(distinct)))) if share > 0 else 0
    return np.random.default_rng([seed, 1]).permutation(distinct)[:size]
