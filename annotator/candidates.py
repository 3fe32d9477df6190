"""Features that may be better than those that `auto` stands for: computed behind, judged by labels they have not seen.

Once as many labels are there as it takes to judge, the project's model is fitted on both features, fold by fold, and
what it says of the labels kept from it is compared (see judging.py); audit answers are judged by a fit on all labels.
Test images are not looked at. Knows no threads; its targets run in a job's child process.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from annotator import registry
from annotator.config import RECOMMENDED_FROM, Config, Recipe
from annotator.consensus import consensus
from annotator.dataset import Prepared, check_same_images, open_prepared, prepare
from annotator.encoders.auto import ENOUGH_TO_TRAIN, FINETUNED, NAME
from annotator.errors import ConfigError, ModelError
from annotator.judging import Verdict, verdict
from annotator.models.out_of_fold import out_of_fold
from annotator.pointer import CACHE
from annotator.project import Project, check_pool
from annotator.store import snapshot as snapshots
from annotator.types import UNLABELED, FloatArray, IntArray, Model, Report

PREPARE, JUDGE = "annotator.candidates:prepare_job", "annotator.candidates:judge_job"
PARTNERS = {"hog": RECOMMENDED_FROM, "contrastive": ENOUGH_TO_TRAIN}
"""What may see what the features in use do not, and the images of the smallest pool that it is tried on."""
ORDER = {"hog": 0, "imagenet": 1, "contrastive": 2}
"""Of the names in one."""
LEAST_LABELS = 60
"""From so many labels on two features can be told apart."""
N_FOLDS = 5
Json = dict[str, Any]  # Any: what a job takes and gives
Labels = tuple[IntArray, IntArray]
"""Rows, and their class codes."""


def candidate_for(project: Project, partner: str) -> Config | None:
    """The config with `partner` beside the features in use; None where that is not worth a trial.

    A partner that learns needs a pool that is large enough; a project whose encoder a person chose is left alone, and
    so is one whose network was trained on its labels.
    """
    config, n_images = project.config, len(project.prepared.dataset)
    in_use = names_in(config.features)
    if config.encoder != NAME or {partner, FINETUNED} & set(in_use) or n_images < PARTNERS[partner]:
        return None
    names = sorted((*in_use, partner), key=lambda name: ORDER.get(name, len(ORDER)))
    try:
        candidate = replace(config, encoder_parameters={"choice": registry.JOIN.join(names)})
        check_pool(project, candidate)
    except (ConfigError, ModelError):
        return None
    return candidate


def applies(partner: str, project: Project) -> bool:
    """Whether a trial with this partner can become due."""
    return candidate_for(project, partner) is not None


def names_in(features: str) -> list[str]:
    """The encoders of a combination."""
    return features.split(registry.JOIN)


def to_prepare(partner: str, project: Project, through: int | None = None) -> Json | None:
    """The arguments of `prepare_job`: due as soon as the features in use are there."""
    candidate = candidate_for(project, partner)
    return None if candidate is None else _arguments(project, candidate)


def to_judge(partner: str, project: Project, through: int | None = None) -> Json | None:
    """The arguments of `judge_job`: due once there are labels to judge by, of those up to event `through`."""
    candidate = candidate_for(project, partner)
    if candidate is None:
        return None
    seen, audit = _labels(project, through)
    if len(seen[0]) + len(audit[0]) < LEAST_LABELS:
        return None
    return {
        **_arguments(project, candidate),
        "in_use": project.prepared.folder.name,
        "model": project.config.model,
        "model_parameters": project.config.model_parameters,
        "n_classes": len(project.class_names),
        "labels": [part.tolist() for part in seen],
        "audit": [part.tolist() for part in audit],
    }


def prepare_job(arguments: Json, report: Report) -> Json:
    """The target that computes the candidate, so that it is there when it can be judged."""
    prepare(Recipe(**arguments["recipe"]), Path(arguments["cache"]), report)
    return {"changes": None, "said": ""}


def judge_job(arguments: Json, report: Report) -> Json:
    """The target that judges the candidate against the features in use.

    Raises SourceError (SRC_CHANGED) where the source has other images than the dataset in use.
    """
    recipe, cache = Recipe(**arguments["recipe"]), Path(arguments["cache"])
    after = prepare(recipe, cache, report)
    before = open_prepared(cache / arguments["in_use"], recipe)
    check_same_images(after, before)
    report("Comparing", 0, 2)
    judged = [_judged(before, arguments)]
    report("Comparing", 1, 2)
    judged.append(_judged(after, arguments))
    report("Comparing", 2, 2)
    found = verdict(judged[0][0], judged[1][0], judged[0][1])
    return {"changes": arguments["changes"] if found.is_better else None, "said": _said(arguments, found)}


def _arguments(project: Project, candidate: Config) -> Json:
    return {
        "recipe": asdict(candidate.recipe),
        "cache": str(project.folder.parent / CACHE),
        "changes": {"encoder": candidate.encoder, "encoder_parameters": candidate.encoder_parameters},
        "title": candidate.features,
        "names": [project.config.features, candidate.features],
    }


def _labels(project: Project, through: int | None) -> tuple[Labels, Labels]:
    """The labels to learn from, and the audit answers: of all annotators."""
    learner = project.learner
    answers = consensus(snapshots.standing(project.store.snapshot(), through))
    rows = np.fromiter(map(learner.row, answers), dtype=np.int64, count=len(answers))
    codes = np.fromiter(answers.values(), dtype=np.int64, count=len(answers))
    audit = np.isin(rows, learner.audit_rows)
    return (rows[~audit], codes[~audit]), (rows[audit], codes[audit])


def _judged(prepared: Prepared, arguments: Json) -> tuple[FloatArray, IntArray]:
    """(n_labels, n_classes) of what the model says, on these features, of labels kept from it, and these labels."""
    (rows, codes), (audit_rows, audit_codes) = (np.asarray(part, dtype=np.int64) for part in _pairs(arguments))
    labels = np.full(len(prepared.dataset), UNLABELED, dtype=np.int64)
    labels[rows] = codes
    n_classes = arguments["n_classes"]

    def new_model() -> Model:
        model: Model = registry.create("model", arguments["model"], arguments["model_parameters"])
        return model

    kept = out_of_fold(new_model, prepared.dataset, labels, n_classes, N_FOLDS, np.random.default_rng(0))
    if not len(audit_rows):
        return kept.probabilities, kept.truth
    audit = new_model().fit_predict(prepared.dataset, labels, n_classes).probabilities[audit_rows]
    return np.concatenate([kept.probabilities, audit]), np.concatenate([kept.truth, audit_codes])


def _pairs(arguments: Json) -> list[list[list[int]]]:
    return [arguments["labels"], arguments["audit"]]


def _said(arguments: Json, found: Verdict) -> str:
    before, after = arguments["names"]
    if found.is_better:
        return f"The features of {after} are better than those of {before} and took over: {found.in_words}."
    return f"The features of {after} are no better than those of {before}, which stay: {found.in_words}."
