"""Config -> Learner and Session: the only place that wires things together.

projects/<folder>/project.sqlite    the truth: what was asked, what was answered
projects/<folder>/dataset.json      which cached dataset it was asked on, and a word on how that came to be
projects/<folder>/exports.jsonl     where the log ended at each export (see exporters/manifests.py)
projects/.cache/                    decoded images, features and graphs, shared by content; may be deleted
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from annotator import registry
from annotator.class_keys import checked_class_keys
from annotator.class_names import check_number_of_classes, checked_class_names, distinct_names
from annotator.dataset import Prepared, Recipe, open_prepared, prepare
from annotator.errors import AnnotatorError, ConfigError, ModelError, SourceError, StoreError
from annotator.ingest import building
from annotator.jobs import no_room
from annotator.learner import Learner, draw_audit, dropped_labels, translated
from annotator.paths import assets, name_of, slug
from annotator.paths import default_projects as default_projects  # its place before
from annotator.session import Session, Settings
from annotator.store import ImageRecord, Question, Store
from annotator.types import UNLABELED, ChecksPool, IntArray, Report, silent

STORE_NAME = "project.sqlite"
AUDIT_SHARE = 0.15
UNKNOWN_AT_MOST = 0.05
"""Of the images that will be asked: with more of them unknown, known labels alone do not measure them."""
CACHE = ".cache"
QUICK_ENCODER = "hog"
"""What labeling starts on while a slow encoder is computed, and stays on where a pool is too small for that one."""
RECOMMENDED = {"encoder": "imagenet", "model": "vote", "strategy": "recommended"}
"""What won in trials on clothes and on colour pictures: offered first for one's own images."""
RECOMMENDED_FROM = 100
"""Images. A smaller pool is labeled before the recommended encoder could save a label: it stays on quick features."""
CHANGEABLE = {"encoder", "encoder_parameters", "n_neighbors"}
FIRST_LISTING = 1
"""By which a source listed for projects whose config does not say it."""
IMPORTER = "import"
"""Who gave the labels that were known from the start."""


@dataclass(frozen=True)
class Config:
    """Everything a person chooses; a change in the middle of a project is an event with a version."""

    name: str = "digits"
    source: str = "digits"
    source_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    limit: int | None = None
    order_seed: int | None = None
    classes: tuple[str, ...] = ()
    """Names in the order of their keys; empty = the source's own."""
    encoder: str = "hog"
    encoder_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    n_neighbors: int = 10
    model: str = "label-spreading"
    model_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    strategy: str = "entropy"
    strategy_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    batch_size: int = 12
    seed: int = 0
    initial: str = "none"
    """Labels taken from the source at the start: "none", a number drawn at random, "first:N", or "known" (all)."""
    audit_share: float | None = None
    """Share of each batch drawn at random for honest accuracy; None = decided when the project is created: 0.15, or 0
    where a test set or the known labels of the images to be asked measure it anyway.
    """
    audit_until: int = 200
    hidden_share: float = 0.0
    """Share of the images whose guess is hidden, drawn at random: 0 shows every guess, 1 none."""
    class_keys: dict[str, str] = field(default_factory=dict)
    """Class name -> the key that answers with it, a digit or a letter; the others get theirs by rule."""
    rounds: int = 20
    """How many rounds an oracle plays."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that cannot be used."""
        registry.load("source", self.source)
        for kind in ("encoder", "model", "strategy"):
            registry.create(kind, getattr(self, kind), getattr(self, f"{kind}_parameters"))
        checked_class_names(self.classes, own=self.classes)  # which of them are the source's is not known yet
        _require(self.batch_size >= 1, f"batch_size must be at least 1, not {self.batch_size}.")
        _require(self.n_neighbors >= 1, f"n_neighbors must be at least 1, not {self.n_neighbors}.")
        share = self.audit_share
        _require(self.rounds >= 0, f"rounds must not be negative: {self.rounds}.")
        _require(share is None or 0 <= share < 1, f"audit_share must be at least 0 and under 1, not {share}.")
        _require(0 <= self.hidden_share <= 1, f"hidden_share must be between 0 and 1, not {self.hidden_share}.")
        checked_class_keys(self.class_keys)
        _parse_initial(self.initial)

    @property
    def recipe(self) -> Recipe:
        """What the dataset is made from."""
        return Recipe(**{part.name: getattr(self, part.name) for part in fields(Recipe)})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:  # Any: JSON
        """A config as it was stored; keys of other versions are refused with their names."""
        known = {part.name for part in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"No setting {', '.join(unknown)}. There are: {', '.join(sorted(known))}.")
        return cls(**{**values, "classes": tuple(values.get("classes", ()))})


@dataclass(frozen=True)
class Preset:
    """A ready-made config with the words of its card on the start view; a file in assets/presets."""

    title: str
    description: str
    config: Config
    order: int
    opens_first: bool = False


@dataclass(frozen=True)
class Summary:
    """A project as the start view lists it."""

    name: str
    folder: Path
    n_images: int
    n_labels: int
    created_at: str
    error: str = ""
    source: str = ""


class Project:
    """An open project: its store, its dataset, its learner, and a session for each annotator."""

    def __init__(self, folder: Path, report: Report = silent) -> None:
        self.folder = folder
        self.store = Store(folder / STORE_NAME)
        self.damage = self.store.damage
        """What is wrong with the store, see annotator/verify.py; empty when all is well.

        A damaged project takes no answers and no other settings; it shows and exports what it has.
        """
        self.config_version, values = self.store.config()
        self.config = _with_listing(Config.from_json(values), FIRST_LISTING)
        self.prepared = _reopen(folder, self.config, self.store, report)
        self.notice = str(_note(folder).get("notice", ""))
        """What a person should know about the features in use; empty when they are as asked. Kept with the project."""
        self.wanted: dict[str, Any] = _note(folder).get("wanted") or {}  # Any: JSON
        """The encoder and its parameters that are to take over once they are computed; empty when none are."""
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
        config = _with_listing(config)
        check_number_of_classes(len(config.classes))
        with _room(folder.parent):
            config, prepared, notice = _prepare_or_quick(config, folder.parent / CACHE, report)
            own = distinct_names(prepared.class_names)
            class_names = checked_class_names(config.classes or own, own=own)
            config = _with_audit_share(config, prepared, class_names)
            with building(folder) as partial_folder:
                store = Store.create(partial_folder / STORE_NAME, config.name, config.seed)
                _fill(store, config, class_names, prepared)
                store.close()
                _point_to(partial_folder, config, prepared, notice)
        return cls(folder, report)

    @property
    def class_names(self) -> list[str]:
        """Every class by id."""
        return [label_class.name for label_class in self.store.classes()]

    @property
    def dropped_labels(self) -> str:
        """A sentence on the source's labels that match no class of the project; empty where there are none."""
        truth = self.prepared.dataset.truth
        return "" if truth is None else dropped_labels(truth, self.prepared.class_names, self.class_names)

    def session(self, annotator: str) -> Session:
        """The loop of this annotator; open it again and the same unanswered images are asked."""
        return Session(self.store, self.learner, self.store.annotator(annotator), self.settings)

    @property
    def settings(self) -> Settings:
        """What of the config a session reads."""
        config = self.config
        share = _audit_share(config, self.prepared)
        return Settings(
            self.config_version,
            config.seed,
            config.strategy,
            config.strategy_parameters,
            config.batch_size,
            share,
            config.hidden_share,
        )

    def change(self, report: Report = silent, **changes: Any) -> None:  # Any: fields of Config
        """Another strategy, batch size, model or encoder from the next batch on; stored as an event.

        Another encoder encodes the pool first, where its features are not in the cache yet.
        """
        fixed = ({part.name for part in fields(Recipe)} - CHANGEABLE) & set(changes)
        if fixed:
            raise ConfigError(f"{', '.join(sorted(fixed))} cannot be changed in a project; create another one.")
        config = replace(self.config, **changes)
        if config == self.config:
            return
        prepared = self._encoded_with(config, report) if config.recipe != self.config.recipe else None
        self.config_version = self.store.record_config(asdict(config))
        self.config = config
        if prepared is not None:
            self.prepared, self.notice, self.wanted = prepared, "", {}
            self.learner.see(prepared.dataset, prepared.class_names)
            _point_to(self.folder, config, prepared)
        self.learner.use(registry.create("model", config.model, config.model_parameters), self.config_version)

    def check_pool(self, config: Config) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where the config's encoder cannot be trained on so few images."""
        encoder = registry.create("encoder", config.encoder, config.encoder_parameters)
        try:
            if isinstance(encoder, ChecksPool):
                encoder.check_pool(len(self.prepared.dataset))
        except ModelError as error:
            raise ModelError(_too_small(error, self.config.encoder), error.code) from error

    def note(self, notice: str) -> None:
        """Keep a word on the features in use, until there are others; none are on their way."""
        self.notice, self.wanted = notice, {}
        _point_to(self.folder, self.config, self.prepared, notice)

    def want(self, changes: dict[str, Any]) -> None:  # Any: fields of Config
        """Remember that another encoder is being computed, so that a restart takes it up; no older word stands."""
        self.notice, self.wanted = "", changes
        _point_to(self.folder, self.config, self.prepared, wanted=changes)

    @property
    def changes(self) -> dict[int, str]:
        """config version -> what it changed of model, encoder and strategy; versions that changed none are left out."""
        versions = list(self.store.configs().items())
        said = {}
        for (_, before), (version, after) in pairwise(versions):
            parts = [f"{key}: {after[key]}" for key in ("model", "encoder", "strategy") if before[key] != after[key]]
            if parts:
                said[version] = ", ".join(parts)
        return said

    def _encoded_with(self, config: Config, report: Report) -> Prepared:
        with _room(self.folder.parent):
            prepared = prepare(config.recipe, self.folder.parent / CACHE, report)
        before = self.prepared
        if prepared.dataset.ids != before.dataset.ids or not np.array_equal(prepared.hashes, before.hashes):
            message = "The images have changed since the project was created; another encoder needs them as they were."
            raise SourceError(message, "SRC_CHANGED")
        return prepared

    def close(self) -> None:
        """Give back the store's file."""
        self.store.close()

    def _new_learner(self) -> Learner:
        model = registry.create("model", self.config.model, self.config.model_parameters)
        rows = _audit_rows(self.config, self.prepared, self.store)
        names = self.prepared.class_names
        return Learner(self.store, self.prepared.dataset, model, names, rows, self.config_version)


def is_slow(encoder: str) -> bool:
    """Whether an encoder takes minutes to train or to compute; labeling then starts on `QUICK_ENCODER`."""
    return bool(getattr(registry.load("encoder", encoder), "slow", False))


def list_projects(projects: Path) -> list[Summary]:
    """Every project under `projects`, the newest first; one that cannot be opened says why."""
    folders = [projects / name for name in folder_names(projects)]
    return sorted((_summary(folder) for folder in folders), key=lambda found: found.created_at, reverse=True)


def folder_names(projects: Path) -> list[str]:
    """The folders under `projects` that hold a project, as `list_projects` lists them."""
    if not projects.is_dir():
        return []
    found = [path.parent.name for path in projects.glob(f"*/{STORE_NAME}")]
    return sorted(name for name in found if not name.startswith("."))


def project_folder(projects: Path, name: str) -> Path:
    """The folder of this name in the list; a name that came from outside becomes a path nowhere else.

    Raises ConfigError (PROJECT_UNKNOWN) for a name that is not in the list, a path for example.
    """
    known = folder_names(projects)
    if name not in known:
        there_are = ", ".join(known) or "none"
        raise ConfigError(f"No project {name[:80]!r} under {projects}. There are: {there_are}.", "PROJECT_UNKNOWN")
    return projects / name


def find_project(projects: Path, text: str) -> Path:
    """The project that a person means: the path of a folder, a folder's name in the list, else a project's own name.

    Raises ConfigError for a text that fits none (PROJECT_UNKNOWN), or several (PROJECT_UNCLEAR).
    """
    exact = [Path(text)] if os.path.exists(os.path.join(text, STORE_NAME)) else []
    if text in folder_names(projects):
        exact += [folder for folder in [projects / text] if not exact or not folder.samefile(exact[0])]
    found = exact or [summary.folder for summary in list_projects(projects) if summary.name == text]
    if len(found) > 1:
        paths = ", ".join(str(folder.absolute()) for folder in sorted(found))
        raise ConfigError(f"{text!r} fits {len(found)} projects: {paths}. Give the path of one.", "PROJECT_UNCLEAR")
    return found[0] if found else project_folder(projects, text)


def free_folder(projects: Path, name: str) -> Path:
    """A folder under `projects` for a project of this name that is not taken yet."""
    base = slug(name, "project")
    tries = [base, *(f"{base}-{number}" for number in range(2, 10_000))]
    return next(projects / candidate for candidate in tries if not (projects / candidate).exists())


def presets() -> dict[str, Preset]:
    """The ready-made projects that come with the app, in the order of their cards; see `broken_presets`."""
    read = {path.stem: _preset(path) for path in _preset_files()}
    usable = [(name, preset) for name, preset in read.items() if isinstance(preset, Preset)]
    return dict(sorted(usable, key=lambda item: item[1].order))


def broken_presets() -> list[str]:
    """A sentence on each ready-made project whose file cannot be used."""
    return [read for read in map(_preset, _preset_files()) if isinstance(read, str)]


def _preset_files() -> list[Path]:
    return sorted(assets().glob("presets/*.json"))


def _preset(path: Path) -> Preset | str:
    """What the file describes, or why it cannot be used."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        preset = Preset(**{**values, "config": Config.from_json(values["config"])})
        return replace(preset, title=str(preset.title), description=str(preset.description), order=int(preset.order))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        return f"The preset {path.name} cannot be used ({error}). Restore the file, or remove it: {path}"


def _fill(store: Store, config: Config, class_names: Sequence[str], prepared: Prepared) -> None:
    store.add_classes(class_names, own=class_names)  # checked by `create`
    store.add_images(_records(prepared))
    version = store.record_config(asdict(config))
    rows = _initial_rows(config, prepared)
    if len(rows):
        codes = translated(prepared.dataset.truth[rows], prepared.class_names, class_names)  # type: ignore[index]  # checked in _initial_rows
        pairs = [
            (_seed_question(prepared, row, rank, version), code)
            for rank, (row, code) in enumerate(zip(rows.tolist(), codes.tolist(), strict=True), start=1)
            if code != UNLABELED
        ]
        store.seed(pairs, store.annotator(IMPORTER, "importer").annotator_id)


def _records(prepared: Prepared) -> Iterator[ImageRecord]:
    for row, (image_id, content) in enumerate(zip(prepared.dataset.ids, prepared.hashes, strict=True)):
        yield ImageRecord(image_id, row, content.tobytes().hex(), "ok", prepared.flags.get(image_id, ""))
    for entry in prepared.set_aside:
        yield ImageRecord(entry.image_id, None, "", "set aside", f"{entry.code}: {entry.reason}")


def _parse_initial(initial: str) -> tuple[str, int]:
    """("none" | "random" | "first" | "known", how many)."""
    kind, _, number = initial.rpartition(":")
    if initial in ("none", "known"):
        return initial, 0
    if kind in ("", "first") and number.isdecimal():
        return kind or "random", int(number)
    raise ConfigError(f"initial must be none, known, a number or first:N, not {initial!r}.")


def _initial_rows(config: Config, prepared: Prepared) -> IntArray:
    kind, number = _parse_initial(config.initial)
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
    seeded = [prepared.dataset.ids.index(image_id) for image_id, purpose in store.asked() if purpose == "seed"]
    return draw_audit(prepared.dataset, np.asarray(seeded, dtype=np.int64), share, config.audit_until, config.seed)


def _reopen(folder: Path, config: Config, store: Store, report: Report) -> Prepared:
    """The cached dataset the project was asked on; made again from the source where the cache is gone."""
    cache = folder.parent / CACHE
    known = _pointed_to(folder, config)
    if known and (cache / known / "dataset.json").exists():
        return open_prepared(cache / known, config.recipe)
    prepared = prepare(config.recipe, cache, report)
    ids = prepared.dataset.ids
    if store.n_images() != len(ids) or not all(map(operator.eq, store.image_ids(), ids)):
        changed = sorted(set(store.image_ids()) ^ set(ids))
        raise SourceError(
            f"The images have changed since the project was created, and its cache is gone: {len(changed)} differ, "
            f"for example {list(map(name_of, changed[:3]))}. Put the folder back as it was; the labels are safe in "
            f"{folder}.",
            "SRC_CHANGED",
        )
    _check_contents(prepared, store)
    note = _note(folder)
    _point_to(folder, config, prepared, str(note.get("notice", "")), note.get("wanted"))
    return prepared


def _check_contents(prepared: Prepared, store: Store) -> None:
    """Refuse another picture under the id of one that was labeled."""
    labeled = {record.image_id: record.content_sha256 for record in store.images("ok")}
    changed = [
        image_id
        for image_id, content in zip(prepared.dataset.ids, prepared.hashes, strict=True)
        if labeled[image_id] not in ("", content.tobytes().hex())
    ]
    if changed:
        raise SourceError(
            f"{len(changed)} images have changed since they were labeled, and the project's cache is gone; for example "
            f"{list(map(name_of, changed[:3]))}. Put the first files back; the labels are safe.",
            "SRC_CHANGED",
        )


def _point_to(
    folder: Path,
    config: Config,
    prepared: Prepared,
    notice: str = "",
    wanted: dict[str, Any] | None = None,  # Any: fields of Config
) -> None:
    """Remember which cached dataset the project stands on; by rename, so that a half-written note is never read.

    Where there is no room for the note, the dataset is found again by its source and its recipe.
    """
    note = {"folder": prepared.folder.name, "recipe": asdict(config.recipe), "notice": notice}
    note["wanted"] = wanted or {}
    draft = folder / ".dataset.json"
    with suppress(OSError):
        draft.write_text(json.dumps(note))
        draft.replace(folder / "dataset.json")


def _pointed_to(folder: Path, config: Config) -> str | None:
    """The name of the dataset's folder in the cache; None where the note is lost, damaged, or of another recipe."""
    note = _note(folder)
    recipe = asdict(config.recipe)
    if recipe["source_parameters"].get("listing") == FIRST_LISTING and "listing" not in str(note.get("recipe")):
        del recipe["source_parameters"]["listing"]  # a note of before this was kept
    return str(note["folder"]) if "folder" in note and note.get("recipe") == recipe else None


def _note(folder: Path) -> dict[str, Any]:  # Any: JSON
    """What `_point_to` wrote; empty where that is lost or damaged."""
    with suppress(OSError, ValueError):
        note = json.loads((folder / "dataset.json").read_text())
        return note if isinstance(note, dict) else {}
    return {}


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """A full disk as an error that says so."""
    try:
        yield
    except OSError as error:
        if not no_room(error):
            raise
        message = f"There is no room for the project's files under {folder} ({error}). Free some space there."
        raise StoreError(f"{message} What was stored before is safe.", "STORE_FULL") from error


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


def _summary(folder: Path) -> Summary:
    try:
        with closing(Store(folder / STORE_NAME)) as store:
            source = str(store.config()[1].get("source", ""))
            return Summary(store.name, folder, store.n_images(), store.n_labels(), store.created_at, source=source)
    except AnnotatorError as error:
        return Summary(folder.name, folder, 0, 0, "", str(error))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
