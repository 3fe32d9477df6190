"""When a network is to be trained on a project's labels, the job that does it, and whether the result is used.

`arguments` says whether there are labels enough for one: from `FIRST` on; improvements.py says when there is another.
`train_job` fits the project's model without some of the labels (`kept`) and trains two networks on what that
model believes of the pool and on the other labels (keras_consistency.py); of one only the class scores are fitted. For
each it makes the dataset in which the network has an opinion, fits the model on it, again without those labels, and
compares that with the model before on them (judging.py): the one that gains more is used, if it is better. The kept
labels are the answered images of the audit slice where there are enough, else a fifth of all, out of those that the
network in use has not seen. Labels are read, never written; what was trained lies in the project's folder `networks`:

    networks/<name>.npz          the networks in use, now or earlier (see encoders/networks.py)
    networks/unfinished/         the checkpoint of a training that has not ended

A job that was killed goes on from its checkpoint where it is started again with the same arguments.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from annotator import registry
from annotator.config import Recipe
from annotator.consensus import consensus
from annotator.dataset import Prepared, check_same_images, encoder_views, open_prepared, open_source, prepare
from annotator.encoders import networks, stored
from annotator.encoders.auto import FINETUNED, NAME
from annotator.encoders.training_plan import Plan, plan_for
from annotator.jobs import Job
from annotator.judging import LEAST, Verdict, verdict
from annotator.pointer import CACHE, NETWORK, Pointer, bring_network, network_of
from annotator.project import Project
from annotator.store import snapshot as snapshots
from annotator.types import UNLABELED, Dataset, FloatArray, ImageArray, IntArray, Report, keeps

Json = dict[str, Any]  # Any: whatever JSON can hold

ENCODERS, MODEL = (NAME, FINETUNED), "vote"
"""What a project has to use, so that a network is trained for it: only a vote hears opinions."""
BASE = "imagenet"
TRAIN, TRAIN_JOB = "annotator.encoders.keras_finetuned:train", "annotator.finetuning:train_job"
FIRST = 150
"""Labels of the first training: with fewer a fifth of them is too few to judge by."""
FIRST_WITH_AUDIT = 100
PER_CLASS = 10
"""Labels for each class, on average, that a training needs."""
KEPT_SHARE = 0.2
MOST_COPIED = 1 << 30
"""Bytes of views that are copied for a training: 21,800 photos at 128 px."""
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Request:
    """The arguments of a training: all that its result depends on."""

    folder: str
    """The project's."""
    recipe: Json
    """Of the dataset in use."""
    model: str
    model_parameters: Json
    n_classes: int
    rows: list[int]
    labels: list[int]
    """The class codes of these rows."""
    audit_rows: list[int]
    audit_labels: list[int]
    seed: int
    in_use: str = ""
    """The folder in the cache of the dataset whose rows these are; "" = that which the project points to."""
    plan: Json | None = None
    """A `Plan` in place of the one that suits the pool."""


def applies(project: Project) -> bool:
    """Whether a network is trained on this project's labels, once there are enough of them."""
    return project.config.encoder in ENCODERS and project.config.model == MODEL


def hint(project: Project) -> str:
    """Why no network will be trained, though the encoder is one that it could be trained for; empty where it will."""
    if project.config.encoder not in ENCODERS or applies(project):
        return ""
    return f"A network is trained on your labels only with the model {MODEL}; Settings changes the model."


def arguments(project: Project, through: int | None = None) -> Json | None:
    """The JSON arguments of `train_job` for the labels up to event `through`; None where these are too few."""
    if not applies(project) or not project.learner.history or not _may_be_due(project):
        return None
    request = _request(project, through)
    return asdict(request) if len(request.audit_rows) >= LEAST or len(request.rows) >= FIRST else None


def is_lost(project: Project) -> bool:
    """Whether no whole file is left of the network that the config names."""
    folder, name = project.folder, network_of(project.config.encoder_parameters)
    return networks.is_lost(name, folder, folder.parent / CACHE)


def remove_unused(project: Project) -> None:
    """Remove the networks in the project's folder that no version of its config names."""
    configs = project.store.snapshot().configs.values()
    named = {network_of(config.get("encoder_parameters", {})) for config in configs}
    for name in set(networks.names_in(project.folder)) - named:
        networks.remove(name, project.folder)


def train_job(arguments: Json, report: Report) -> Json:
    """Train, judge, and where it is better make the dataset to change to.

    Gives `changes`, the fields of the project's config to change, None where it stays as it is, and `said`, a sentence.
    Raises JobError, Cancelled, SourceError, ModelError: MODEL_SAVE where the disk is full, and then what was learned
    stays in `unfinished`.
    """
    request = Request(**arguments)
    project, cache = Path(request.folder), Path(request.folder).parent / CACHE
    unfinished = project / networks.FOLDER / UNFINISHED
    unfinished.mkdir(parents=True, exist_ok=True)
    bring_network(project, request.recipe["encoder_parameters"])
    prepared = _prepared(request, cache, report)
    learned, kept = _split(request, prepared.dataset)
    before = _fitted(request, prepared.dataset, learned)
    names = _train(request, prepared, before, learned, unfinished, report)
    for name in names:
        networks.copy(name, unfinished, cache)
    judged = [_judged(request, name, prepared, before, learned, kept, report) for name in names]
    found, changes = max(judged, key=lambda one: (one[1] is not None, one[0].gain))
    in_use = network_of(request.recipe["encoder_parameters"])
    used = in_use if changes is None else network_of(changes["encoder_parameters"])
    if changes is not None:
        networks.copy(used, unfinished, project)
    for name in set(names) - {used, in_use}:
        networks.remove(name, cache)
    shutil.rmtree(unfinished, ignore_errors=True)
    return {"changes": changes, "said": _said(found, len(request.rows), changes is not None)}


def _may_be_due(project: Project) -> bool:
    n_labels = project.learner.history[-1].n_labeled
    return n_labels >= max(FIRST_WITH_AUDIT, PER_CLASS * len(project.class_names))


def _request(project: Project, through: int | None) -> Request:
    config, learner = project.config, project.learner
    recipe = asdict(config.recipe)
    if is_lost(project):
        recipe["encoder_parameters"] |= {NETWORK: ""}
    snapshot = project.store.snapshot()
    through = snapshot.head_seq if through is None else through
    answers = consensus(snapshots.standing(snapshot, through))
    codes = np.full(len(learner.dataset), UNLABELED, dtype=np.int64)
    for image_id, code in answers.items():
        codes[learner.row(image_id)] = code
    audit = np.asarray([row for row in learner.audit_rows.tolist() if codes[row] != UNLABELED], dtype=np.int64)
    rows = np.setdiff1d(np.flatnonzero(codes != UNLABELED), learner.audit_rows)
    return Request(
        str(project.folder.absolute()),
        recipe,
        config.model,
        config.model_parameters,
        snapshots.n_classes(snapshot, through),
        rows.tolist(),
        codes[rows].tolist(),
        audit.tolist(),
        codes[audit].tolist(),
        config.seed,
        project.prepared.folder.name,
    )


def _prepared(request: Request, cache: Path, report: Report) -> Prepared:
    """The dataset of the recipe. Raises SourceError (SRC_CHANGED) where the labeled rows are other images there."""
    recipe = Recipe(**request.recipe)
    prepared = prepare(recipe, cache, report)
    in_use = request.in_use or Pointer.read(Path(request.folder)).folder
    check_same_images(prepared, open_prepared(cache / in_use, recipe))
    return prepared


def _split(request: Request, dataset: Dataset) -> tuple[IntArray, tuple[IntArray, IntArray]]:
    """(n_images,) the labels to learn from, -1 elsewhere; rows and labels that are kept for the verdict."""
    labels = np.full(len(dataset), UNLABELED, dtype=np.int64)
    labels[request.rows] = request.labels
    if len(request.audit_rows) >= LEAST:
        return labels, (np.asarray(request.audit_rows), np.asarray(request.audit_labels))
    free = np.setdiff1d(request.rows, _seen(request))
    rng = np.random.default_rng([request.seed, 4])
    rows = np.sort(rng.permutation(free)[: round(KEPT_SHARE * len(request.rows))])
    kept = labels[rows]
    labels[rows] = UNLABELED
    return labels, (rows, kept)


def _seen(request: Request) -> IntArray:
    """Rows whose labels the network in use has learned: none of them can judge it."""
    name = network_of(request.recipe["encoder_parameters"])
    if not name:
        return np.empty(0, dtype=np.int64)
    return networks.read(networks.path_of(Path(request.folder).parent / CACHE, name)).seen


def _fitted(request: Request, dataset: Dataset, labels: IntArray) -> FloatArray:
    model = registry.create("model", request.model, request.model_parameters)
    return np.asarray(model.fit_predict(dataset, labels, request.n_classes).probabilities)


def _train(
    request: Request, prepared: Prepared, vote: FloatArray, labels: IntArray, folder: Path, report: Report
) -> list[str]:
    """The names of networks in `folder`, trained on these labels and on the vote's belief, in a child process.

    Of the first only the class scores are fitted: with few labels that is sometimes the better voter.
    """
    images = encoder_views(prepared, Recipe(**request.recipe), report)
    flip = keeps(open_source(Recipe(**request.recipe))).flip
    plan = Plan(**request.plan) if request.plan else plan_for(images, request.seed, flip)
    given = {
        **_material(images, vote, labels, request.seed, folder, report),
        "plans": [asdict(replace(plan, steps=0)), asdict(plan)],
        "folder": str(folder.absolute()),
        "key": hashlib.sha256(json.dumps(asdict(replace(request, folder="")), sort_keys=True).encode()).hexdigest(),
    }
    return list(Job.start(TRAIN, given, folder / "job").wait(report)["networks"])


def _material(images: ImageArray, vote: FloatArray, labels: IntArray, seed: int, folder: Path, report: Report) -> Json:
    """What the network learns from: files of images and of the vote's belief about them; labeled rows and columns.

    `rows` are those of the files, `seen` the same ones as the project counts them.
    """
    seen = np.flatnonzero(labels != UNLABELED)
    codes = np.unique(labels[seen])
    used = _used(images, seen, seed)
    is_whole = len(used) == len(images)
    path = stored.path_of(images, folder) if is_whole else stored.copy_of(images, used, folder, report)
    believed = vote[np.ix_(used, codes)]
    believed /= np.maximum(believed.sum(axis=1, keepdims=True), 1e-12)
    stored.write_npy(folder / "vote.npy", believed.astype(np.float32))
    return {
        "images": str(path.absolute()),
        "vote": str((folder / "vote.npy").absolute()),
        "rows": np.searchsorted(used, seen).tolist(),
        "seen": seen.tolist(),
        "labels": np.searchsorted(codes, labels[seen]).tolist(),
        "codes": codes.tolist(),
    }


def _used(images: ImageArray, labeled: IntArray, seed: int) -> IntArray:
    """All rows; of a pool whose views are stored nowhere, as many as may be copied, and the labeled ones."""
    n_images = len(images)
    n_most = MOST_COPIED // max(1, int(np.prod(images.shape[1:])))
    if isinstance(images, np.ndarray) or n_images <= n_most:
        return np.arange(n_images)
    drawn = np.random.default_rng([seed, 5]).permutation(n_images)[:n_most]
    return np.union1d(drawn, labeled)


def _judged(
    request: Request,
    name: str,
    prepared: Prepared,
    before: FloatArray,
    learned: IntArray,
    kept: tuple[IntArray, IntArray],
    report: Report,
) -> tuple[Verdict, Json | None]:
    """The verdict on the vote with the network, and what to change to; None where that is not better."""
    rows, truth = kept
    recipe = Recipe(**request.recipe)
    parameters = parameters_with(recipe, name)
    recipe = replace(recipe, encoder_parameters=parameters)
    candidate = prepare(recipe, prepared.folder.parent, report)
    check_same_images(candidate, prepared)
    after = _fitted(request, candidate.dataset, learned)
    found = verdict(before[rows], after[rows], truth)
    if not found.is_better:
        shutil.rmtree(candidate.folder, ignore_errors=True)
        return found, None
    return found, {"encoder": recipe.encoder, "encoder_parameters": parameters}


def parameters_with(recipe: Recipe, name: str) -> Json:
    """The encoder's, with the network of this name."""
    given = {key: value for key, value in recipe.encoder_parameters.items() if key != "share"}
    if recipe.encoder == FINETUNED:
        return {**given, "network": name}
    features = recipe.encoder_parameters.get("choice", BASE)
    base = given.get("base", BASE) if features == FINETUNED else features
    return {"choice": FINETUNED, "network": name, "base": base}


def _said(found: Verdict, n_labels: int, is_used: bool) -> str:
    what = f"A network trained on {n_labels:,} labels"
    if is_used:
        return f"{what} has joined the vote: {found.in_words} that were kept from both."
    return f"{what} did not make the vote better and is not used: {found.in_words} that were kept from both."
