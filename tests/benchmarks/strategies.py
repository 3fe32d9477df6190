"""Query strategies side by side with scikit-activeml's and modAL's: are batches the same, and how long does one take?

    OMP_NUM_THREADS=1 python -m tests.benchmarks.strategies [--n 60000] [--labels 100] [--batch 100] [--cache FOLDER]

Fashion-MNIST's training images, features of one encoder and one fit of one model on a seeded draw of labels: everybody
chooses by the same numbers. Nothing is fitted for theirs (`fit_clf=False`, or an object that answers `predict_proba`),
and they are called as their documentation says, without our adapters. A figure is the fastest of the calls that fit
into ten seconds, at least one and at most fifty: the one least disturbed by what else the machine does. Ours compute
their measure anew in each call, as after a fit, while ProbCover of theirs keeps its distances from the first call on.

- `seconds` of one query, `ratio`: theirs over ours, above 1 where ours is faster.
- `equal`: how many images of the two batches are the same. `same_definition` says where all of them should be; else
  both have the same aim and another rule, and the count is only told. Equal utilities are settled by row here and
  at random there, so that a few may differ at the end of a batch.
- `peak_mb`: memory of the process that did this row, above what it had before.

Each row is a process of its own, with --limit seconds and --memory GiB of address space. What took more is null, with
`why`. A strategy of ours that the registry does not have is null. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from annotator import registry
from annotator.config import Recipe
from annotator.dataset import open_prepared, prepare
from annotator.types import UNLABELED, FloatArray, IntArray, Pool, Prediction

ENCODER, MODEL = "imagenet", "vote"
LONG_ENOUGH, MOST_CALLS = 10.0, 50
Json = Any  # what is printed
Query = Callable[[Pool, int], Any]  # rows, whatever the package wraps them in


@dataclass(frozen=True)
class Row:
    """What is compared: our names, the first that exists is taken, and theirs."""

    ours: tuple[str, ...]
    theirs: dict[str, tuple[str, dict[str, Any]]]
    """Package -> name there, parameters."""
    same_definition: bool = False


def _uncertain(skactiveml: str, modal: str) -> dict[str, tuple[str, dict[str, Any]]]:
    return {"scikit-activeml": ("UncertaintySampling", {"method": skactiveml}), "modAL": (modal, {})}


ROWS = {
    "margin": Row(("margin",), _uncertain("margin_sampling", "margin_sampling"), True),
    "entropy": Row(("entropy",), _uncertain("entropy", "entropy_sampling"), True),
    "least confidence": Row(("least-confidence",), _uncertain("least_confident", "uncertainty_sampling"), True),
    "TypiClust": Row(("typiclust", "typical"), {"scikit-activeml": ("TypiClust", {})}),
    "ProbCover": Row(("probcover", "typical"), {"scikit-activeml": ("ProbCover", {"n_classes": 10})}),
    "MaxHerding": Row(("typical",), {"scikit-activeml": ("MaxHerding", {})}),
    "CoreSet": Row(("coreset", "typical"), {"scikit-activeml": ("CoreSet", {})}),
    "BADGE": Row(("badge",), {"scikit-activeml": ("Badge", {})}),
    "committee": Row(
        ("committee",), {"scikit-activeml": ("QueryByCommittee", {}), "modAL": ("max_disagreement_sampling", {})}
    ),
    "doubt and variety": Row(
        ("herding",), {"scikit-activeml": ("Clue", {}), "modAL": ("uncertainty_batch_sampling", {})}
    ),
}


def skactiveml_query(name: str, parameters: dict[str, Any], pool: Pool) -> Query:
    """As its documentation says, the classifier being one that knows the answers."""
    import skactiveml.pool

    from annotator.strategies.skactiveml_pool import _classifiers

    known = {len(pool.candidates): pool.candidates, len(pool.dataset): np.arange(len(pool.dataset))}

    def classifier(probabilities: FloatArray) -> Any:
        return _classifiers()[0](lambda asked: probabilities[known[len(asked)]], probabilities.shape[1])

    strategy = getattr(skactiveml.pool, name)(**parameters, missing_label=UNLABELED, random_state=0)
    features = np.asarray(pool.dataset.features)
    besides: dict[str, Any] = {}
    if name in ("UncertaintySampling", "Badge"):
        besides = {"clf": classifier(pool.prediction.probabilities), "fit_clf": False}
    if name == "Clue":
        besides = {"estimator": classifier(pool.prediction.probabilities), "fit_estimator": False}
    if name == "QueryByCommittee":
        besides = {"ensemble": [classifier(part) for part in pool.prediction.members], "fit_ensemble": False}
    return lambda asked, size: strategy.query(
        features, asked.labels, candidates=asked.candidates, batch_size=size, **besides
    )


def modal_query(name: str, parameters: dict[str, Any], pool: Pool) -> Query:
    """The query function on the candidates' features; rows are turned back into those of the pool."""
    from annotator.strategies.modal import COMMITTEE, WHERE, _Committee, _Learner
    from annotator.strategies.others import installed

    function = getattr(installed(WHERE[name], "modAL", name), name)
    features = np.asarray(pool.dataset.features[pool.candidates])

    def query(asked: Pool, size: int) -> IntArray:
        is_committee = WHERE[name] == COMMITTEE
        learner = _Committee(asked, asked.candidates, name) if is_committee else _Learner(asked, asked.candidates)
        return np.asarray(asked.candidates[function(learner, features, n_instances=size, **parameters)[0]])

    return query


def our_query(name: str) -> Query:
    """A fresh prediction for each call, so that no measure is there already."""
    strategy = registry.create("strategy", name)

    def query(pool: Pool, size: int) -> IntArray:
        fresh = Prediction(pool.prediction.probabilities, pool.prediction.evidence, members=pool.prediction.members)
        rows: IntArray = strategy.query(replace(pool, prediction=fresh), size, np.random.default_rng(0)).rows
        return rows

    return query


THEIRS = {"scikit-activeml": skactiveml_query, "modAL": modal_query}


def timed(query: Query, pool: Pool, size: int) -> tuple[float, set[int]]:
    """Seconds of the fastest call, and the rows of the first."""
    seconds: list[float] = []
    rows: set[int] = set()
    while not seconds or (sum(seconds) < LONG_ENOUGH and len(seconds) < MOST_CALLS):
        started = time.perf_counter()
        found = query(pool, size)
        seconds.append(time.perf_counter() - started)
        rows = rows or {int(row) for row in found}
    return min(seconds), rows


def make_pool(folder: Path) -> tuple[Pool, int]:
    """What `fit` wrote: the pool, and the batch size."""
    told = json.loads((folder / "told.json").read_text())
    dataset = open_prepared(Path(told["dataset"]), Recipe(**told["recipe"])).dataset
    kept = np.load(folder / "fit.npz")
    prediction = Prediction(kept["probabilities"], members=tuple(kept["members"]))
    candidates = np.flatnonzero(dataset.is_first & (kept["labels"] == UNLABELED))
    return Pool(dataset, kept["labels"], prediction, candidates), told["batch"]


def child(folder: Path, which: str, memory: float) -> None:
    """One row: a line of JSON for ours, then one for each of theirs, so that what was measured is told in any case."""
    warnings.simplefilter("ignore")
    row, (pool, size) = ROWS[which], make_pool(folder)
    limit = int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    name = next((one for one in row.ours if one in registry.names("strategy")), None)
    seconds, ours = timed(our_query(name), pool, size) if name else (None, set())
    print(json.dumps({"who": "ours", "name": name, "seconds": seconds}), flush=True)
    for package, (theirs, parameters) in row.theirs.items():
        told: dict[str, Json] = {"who": package, "name": theirs, **parameters}
        try:
            before = _peak_mb()
            took, rows = timed(THEIRS[package](theirs, parameters, pool), pool, size)
            told |= {"seconds": took, "ratio": took / seconds if seconds else None}
            told |= {"equal": len(ours & rows) if name else None, "peak_mb": round(_peak_mb() - before)}
        except Exception as error:
            told |= {"seconds": None, "why": f"{type(error).__name__}: {str(error)[:200]}"}
        print(json.dumps(told), flush=True)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def measured(folder: Path, which: str, options: argparse.Namespace) -> dict[str, Json]:
    """The row of this name, by a process of its own."""
    row = ROWS[which]
    command = [sys.executable, "-m", __spec__.name, "--child", str(folder), which, str(options.memory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        why = "it was ended: more memory than there is?"
        try:
            printed, _ = process.communicate(timeout=options.limit)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, why = process.communicate()[0], f"it took more than {options.limit:.0f} s"
    lines = [json.loads(line) for line in printed.splitlines()]
    found = {line.pop("who"): line for line in lines}
    for package, (name, parameters) in row.theirs.items():
        found.setdefault(package, {"name": name, **parameters, "seconds": None, "why": why})
    return {"same_definition": row.same_definition, **found}


def fit(folder: Path, options: argparse.Namespace) -> dict[str, Json]:
    """Features, labels and one fit of the model, written for the children; what it was done with."""
    recipe = {
        "source": "fashion-mnist", "source_parameters": {"full": True}, "limit": options.n, "encoder": options.encoder,
    }  # fmt: skip
    prepared = prepare(Recipe(**recipe), options.cache or folder / "cache")
    dataset, n_classes = prepared.dataset, len(prepared.class_names)
    assert dataset.truth is not None
    rows = np.random.default_rng(0).choice(np.flatnonzero(dataset.is_first), options.labels, replace=False)
    labels = np.full(len(dataset), UNLABELED)
    labels[rows] = dataset.truth[rows]
    found = registry.create("model", options.model).fit_predict(dataset, labels, n_classes)
    np.savez(folder / "fit.npz", labels=labels, probabilities=found.probabilities, members=np.array(found.members))
    told = {"dataset": str(prepared.folder), "recipe": recipe, "batch": options.batch}
    (folder / "told.json").write_text(json.dumps(told))
    return {"n": len(dataset), "n_features": dataset.features.shape[1], "encoder": options.encoder} | {
        "model": options.model, "labels": options.labels, "batch": options.batch,
    }  # fmt: skip


def _line(which: str, found: dict[str, Json]) -> str:
    """One row for people."""
    cells = [f"{which:18s}"]
    for who in ("ours", *THEIRS):
        if who not in found:
            continue
        one = found[who]
        if one["seconds"] is None:
            cells.append(f"{who} {one['name']}: {one.get('why', 'there is none')}")
        else:
            equal = "" if one.get("equal") is None else f", {one['equal']} equal"
            ratio = "" if one.get("ratio") is None else f", {one['ratio']:.1f} times ours"
            cells.append(f"{who} {one['name']} {1000 * one['seconds']:.1f} ms{ratio}{equal}")
    return "   ".join(cells)


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=None, help="only so many images; default: all 60,000")
    parser.add_argument("--labels", type=int, default=100, help="how many labels the model is fitted on")
    parser.add_argument("--batch", type=int, default=100, help="images a batch")
    parser.add_argument("--encoder", default=ENCODER)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--limit", type=float, default=300, help="seconds for one row")
    parser.add_argument("--memory", type=float, default=12, help="GiB of address space for one row")
    parser.add_argument("--cache", type=Path, help="keep features in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        results = fit(folder, options)
        print(", ".join(f"{key} {value}" for key, value in results.items()), flush=True)
        for which in options.rows:
            results[which] = measured(folder, which, options)
            print(_line(which, results[which]), flush=True)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
