"""Config -> Learner and Session: the only place that wires things together.

projects/<folder>/project.sqlite    the truth: what was asked, what was answered
projects/<folder>/dataset.json      which cached dataset it was asked on, and a word on how that came to be
projects/<folder>/predictions/      the newest models' predictions (see predictions.py); may be deleted
projects/<folder>/networks/         networks that were trained on its labels (see finetuning.py)
projects/<folder>/improvements.json what is being tried, and what came of it (see improvements.py); may be lost
projects/<folder>/improvements.lock held by the process that tries one
projects/<folder>/exports.jsonl     where the log ended at each export (see exporters/manifests.py)
projects/.cache/                    decoded images, views, features and graphs, shared by content; may be deleted
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from annotator import durable, registry, types
from annotator.class_names import check_number_of_classes, checked_class_names, distinct_names
from annotator.config import QUICK_ENCODER, Config, Recipe, parse_initial
from annotator.dataset import Prepared, check_same_images, prepare
from annotator.errors import AnnotatorError, ConfigError, ModelError, StoreError
from annotator.evaluation import translated
from annotator.learner import Learner, draw_audit
from annotator.pointer import CACHE, FIRST_LISTING, Pointer, point_to, prepare_for, reopen
from annotator.predictions import PredictionFiles
from annotator.projects import STORE_NAME, newest_config
from annotator.session import Session, Settings
from annotator.store import (
    Annotator,
    ImageRecord,
    Question,
    Store,
    classes,
    configs,
    images,
    people,
    questions,
)
from annotator.store import snapshot as snapshots
from annotator.types import UNLABELED, ChecksPool, IntArray, Report, silent

PREDICTIONS = "predictions"
AUDIT_SHARE = 0.15
UNKNOWN_AT_MOST = 0.05
"""Of the images that will be asked: with more of them unknown, known labels alone do not measure them."""
CHANGEABLE = {"encoder", "encoder_parameters", "n_neighbors"}
FIXED = {part.name for part in fields(Recipe)} | {"encoder_seed"}
"""What a dataset is made from: of that only what is changeable can be another one in a project."""
IMPORTER = "import"
"""Who gave the labels that were known from the start."""


class Project:
    """An open project: its store, its dataset, its learner, and a session for each annotator."""

    def __init__(self, folder: Path, report: Report = silent) -> None:
        self.folder = folder
        self.store = Store(folder / STORE_NAME)
        self._changing = threading.RLock()
        """Settings are changed by people and by the thread that swaps an encoder in."""
        version, values = newest_config(self.store)
        self._current = (version, _with_listing(Config.from_json(values), FIRST_LISTING))
        """Version and config, swapped in one step."""
        self.prepared = reopen(folder, self.config, self.store, report)
        pointer = Pointer.read(folder)
        self.notice = pointer.notice
        """What a person should know about the features in use; empty when they are as asked. Kept with the project."""
        self.wanted = pointer.wanted
        """The encoder and its parameters that are to take over once they are computed; empty when none are."""
        self._predictions = PredictionFiles(folder / PREDICTIONS, self.store)
        self._people: dict[str, Annotator] = {}
        """By name: whoever was seen once is there for good."""
        self.learner = self._new_learner()

    @classmethod
    def create(cls, folder: Path, config: Config, report: Report = silent) -> Project:
        """A new project in `folder`, complete or not at all.

        Raises ConfigError for classes that cannot be used, SourceError for images that cannot be read, StoreError
        where a project stands already.
        """
        if folder.exists():
            raise StoreError(
                f"There is a project at {folder} already. Open it, or choose another name.", "STORE_EXISTS"
            )
        check_plugins(config)
        config = _with_listing(config)
        check_number_of_classes(len(config.classes))
        with _room(folder.parent):
            config, prepared, notice = _prepare_or_quick(config, folder.parent / CACHE, report)
            own = distinct_names(prepared.class_names)
            class_names = checked_class_names(config.classes or own, own=own)
            config = _with_audit_share(_with_choice(config, prepared), prepared, class_names)
            with durable.building(folder) as partial_folder:
                store = Store.create(partial_folder / STORE_NAME, config.name, config.seed)
                _fill(store, config, class_names, prepared)
                store.close()
                point_to(partial_folder, config, prepared, notice)
        return cls(folder, report)

    @property
    def config(self) -> Config:
        """The settings in use."""
        return self._current[1]

    @property
    def config_version(self) -> int:
        """Of the settings in use, counted from 1."""
        return self._current[0]

    @property
    def class_names(self) -> list[str]:
        """Every class by id."""
        return snapshots.class_names(self.store.snapshot())

    def session(self, annotator: str) -> Session:
        """The loop of this annotator; open it again and the same unanswered images are asked."""
        return Session(self.store, self.learner, self._annotator(annotator), self._settings())

    def _annotator(self, name: str) -> Annotator:
        """The annotator of this name, added when new. No read for one who was seen before."""
        if name not in self._people:
            self._people |= {person.name: person for person in self.store.snapshot().people}
        if name not in self._people:
            self._people[name] = self.store.write(people.named_or_added, name)
        return self._people[name]

    def _settings(self) -> Settings:
        """What of the config a session reads."""
        version, config = self._current
        share = _audit_share(config, self.prepared)
        return Settings(
            version,
            config.seed,
            config.strategy,
            config.strategy_parameters,
            config.batch_size,
            share,
            config.hidden_share,
            config.ask_again_share,
            config.batch_order,
            config.confirm_share,
        )

    def change(self, report: Report = silent, **changes: Any) -> None:  # Any: fields of Config
        """Another strategy, batch size, model or encoder from the next batch on; stored as an event.

        Another encoder encodes the pool first, where its features are not in the cache yet.
        """
        fixed = (FIXED - CHANGEABLE) & set(changes)
        if fixed:
            raise ConfigError(f"{', '.join(sorted(fixed))} cannot be changed in a project; create another one.")
        with self._changing:
            self._change(report, changes)

    def _change(self, report: Report, changes: dict[str, Any]) -> None:  # Any: fields of Config
        config = replace(self.config, **changes)
        if config == self.config:
            if self.wanted and all(getattr(config, name) == value for name, value in self.wanted.items()):
                self.set_notice("")  # an earlier process stored it, and was stopped before it noted so
            return
        check_plugins(config)
        prepared = self._encoded_with(config, report) if config.recipe != self.config.recipe else None
        config = config if prepared is None else _with_choice(config, prepared)
        self._current = (self.store.append(configs.record, asdict(config)), config)
        if prepared is not None:
            self.prepared, self.notice, self.wanted = prepared, "", {}
            point_to(self.folder, config, prepared)
        other = None if prepared is None else (prepared.dataset, prepared.class_names)
        self.learner.use(registry.create("model", config.model, config.model_parameters), self.config_version, other)

    def set_notice(self, notice: str) -> None:
        """Keep a sentence on the features in use, until there are others; none are on their way."""
        with self._changing:
            self.notice, self.wanted = notice, {}
            point_to(self.folder, self.config, self.prepared, notice)

    def set_wanted(self, changes: dict[str, Any]) -> None:  # Any: fields of Config
        """Remember that another encoder is being computed, so that a restart takes it up; drops an older notice."""
        with self._changing:
            self.notice, self.wanted = "", changes
            point_to(self.folder, self.config, self.prepared, wanted=changes)

    def _encoded_with(self, config: Config, report: Report) -> Prepared:
        with _room(self.folder.parent):
            prepared = prepare_for(self.folder, config, report)
        check_same_images(prepared, self.prepared)
        return prepared

    def close(self) -> None:
        """Give back the store's file, once the newest prediction is on the disk."""
        self._predictions.close()
        self.store.close()

    def _new_learner(self) -> Learner:
        model = registry.create("model", self.config.model, self.config.model_parameters)
        rows = _audit_rows(self.config, self.prepared, self.store)
        names = self.prepared.class_names
        return Learner(self.store, self.prepared.dataset, model, names, rows, self.config_version, self._predictions)


def _with_choice(config: Config, prepared: Prepared) -> Config:
    """The config that names what its encoder chose for the pool: it stays so, whatever later versions would choose."""
    return replace(config, encoder_parameters=prepared.encoder_parameters)


def check_plugins(config: Config) -> None:
    """Make the encoder, the model and the strategy once. Raises ConfigError for parameters that they refuse."""
    for kind in ("encoder", "model", "strategy"):
        registry.create(kind, getattr(config, kind), getattr(config, f"{kind}_parameters"))


def check_pool(project: Project, config: Config) -> None:
    """Raises ModelError (MODEL_TOO_SMALL) where the config's encoder cannot be trained on so few images."""
    encoder = registry.create("encoder", config.encoder, config.encoder_parameters)
    try:
        if isinstance(encoder, ChecksPool):
            encoder.check_pool(len(project.prepared.dataset))
    except ModelError as error:
        raise ModelError(_too_small(error, project.config.encoder), error.code) from error


def is_slow(encoder: str) -> bool:
    """Whether an encoder takes minutes to train or to compute; labeling then starts on `QUICK_ENCODER`."""
    return types.is_slow(registry.load("encoder", encoder))


def _fill(store: Store, config: Config, class_names: Sequence[str], prepared: Prepared) -> None:
    store.append(classes.add, class_names, own=class_names)  # checked by `create`
    store.write(images.add, _records(prepared))
    version = store.append(configs.record, asdict(config))
    rows = _initial_rows(config, prepared)
    if len(rows):
        codes = translated(prepared.dataset.truth[rows], prepared.class_names, class_names)  # type: ignore[index]  # checked in _initial_rows
        pairs = [
            (_seed_question(prepared, row, rank, version), code)
            for rank, (row, code) in enumerate(zip(rows.tolist(), codes.tolist(), strict=True), start=1)
            if code != UNLABELED
        ]
        importer = store.write(people.named_or_added, IMPORTER, "importer")
        store.append(questions.seed, pairs, importer.annotator_id)


def _records(prepared: Prepared) -> Iterator[ImageRecord]:
    for row, (image_id, content) in enumerate(zip(prepared.dataset.ids, prepared.hashes, strict=True)):
        yield ImageRecord(image_id, row, content.tobytes().hex(), "ok", prepared.flags.get(image_id, ""))
    for entry in prepared.set_aside:
        yield ImageRecord(entry.image_id, None, "", "set aside", f"{entry.code}: {entry.reason}")


def _initial_rows(config: Config, prepared: Prepared) -> IntArray:
    kind, number = parse_initial(config.initial)
    truth = prepared.dataset.truth
    if kind == "none":
        return np.empty(0, dtype=np.int64)
    if truth is None:
        raise ConfigError(f"initial {config.initial!r} needs a source that knows labels; this one knows none.")
    known = np.flatnonzero(truth != UNLABELED)
    if kind == "known":
        return known
    if kind == "random":
        known = np.random.default_rng([config.seed, 2]).permutation(known)
    return known[:number]


def _seed_question(prepared: Prepared, row: int, rank: int, config_version: int) -> Question:
    return Question(
        image_id=prepared.dataset.ids[row],
        round=0,
        rank=rank,
        purpose="seed",
        strategy="given",
        strategy_version="1",
        guess=None,
        guess_probability=None,
        guess_entropy=None,
        guess_visible=False,
        score=None,
        propensity=None,
        model_version=None,
        config_version=config_version,
        chosen_at_seq=0,
    )


def _with_listing(config: Config, listing: int | None = None) -> Config:
    """The config with its source's rules for what is an image, the newest where none are given: they never change.

    Where the source has no such rules it is the config as it is.
    """
    parameters = {found.name: found.default for found in registry.describe("source", config.source)}
    if "listing" not in parameters or "listing" in config.source_parameters:
        return config
    kept = parameters["listing"] if listing is None else listing
    return replace(config, source_parameters={**config.source_parameters, "listing": kept})


def _with_audit_share(config: Config, prepared: Prepared, class_names: Sequence[str]) -> Config:
    """The config with its audit share decided where the rule of `_audit_share`, that projects keep, would not do."""
    share = 0.0 if _is_measured_anyway(config, prepared, class_names) else AUDIT_SHARE
    decided = config.audit_share is not None or share == _audit_share(config, prepared)
    return config if decided else replace(config, audit_share=share)


def _is_measured_anyway(config: Config, prepared: Prepared, class_names: Sequence[str]) -> bool:
    """Whether a test set, or known labels of nearly all images that will be asked, tell how good the model is."""
    dataset = prepared.dataset
    held_out = None if dataset.held_out is None else dataset.held_out.truth
    if held_out is not None and (translated(held_out, prepared.class_names, class_names) != UNLABELED).any():
        return True
    if dataset.truth is None:
        return False
    unknown = translated(dataset.truth, prepared.class_names, class_names) == UNLABELED
    asked = np.ones(len(unknown), dtype=bool)
    asked[_initial_rows(config, prepared)] = False
    asked |= unknown  # a known label whose class the project lacks is not taken
    return not asked.any() or float(unknown[asked].mean()) <= UNKNOWN_AT_MOST


def _audit_share(config: Config, prepared: Prepared) -> float:
    """As decided; else by whether any truth is known, for as long as the project lives."""
    if config.audit_share is not None:
        return config.audit_share
    measured_anyway = prepared.dataset.held_out is not None or prepared.dataset.truth is not None
    return 0.0 if measured_anyway else AUDIT_SHARE


def _audit_rows(config: Config, prepared: Prepared, store: Store) -> IntArray:
    share = _audit_share(config, prepared)
    if not share:
        return np.empty(0, dtype=np.int64)
    seeded = [
        prepared.dataset.ids.index(image_id) for image_id, purpose in store.snapshot().asked.images if purpose == "seed"
    ]
    return draw_audit(prepared.dataset, np.asarray(seeded, dtype=np.int64), share, config.audit_until, config.seed)


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """A full disk as an error that says so."""
    try:
        yield
    except OSError as error:
        if not durable.no_room(error):
            raise
        message = f"{durable.refusal(folder, error)}. What was stored before is safe."
        raise StoreError(message, "STORE_FULL") from error


def _prepare_or_quick(config: Config, cache: Path, report: Report) -> tuple[Config, Prepared, str]:
    """The dataset as configured; on the quick features, with a word on why, where the pool is too small to train on."""
    try:
        return config, prepare(config.recipe, cache, report, not config.classes), ""
    except ModelError as error:
        if error.code != "MODEL_TOO_SMALL":
            raise
        quick = replace(config, encoder=QUICK_ENCODER, encoder_parameters={})
        return quick, prepare(quick.recipe, cache, report), _too_small(error, QUICK_ENCODER)


def _too_small(error: AnnotatorError, encoder: str) -> str:
    return f"{error} The quick features of {encoder} are used."
