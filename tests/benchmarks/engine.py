"""What a round of label spreading costs at 2,000 to 1,000,000 images, beside what others need for the same.

    nice -n 10 python -m tests.benchmarks.engine [--sizes 2000 20000 60000 1000000] [--rounds 100] [--no-sklearn]
        [--no-sessions] [--cache FOLDER]

Fashion-MNIST's training images and HOG features, the configuration that ships. Pools beyond 60,000 are the same
images again, shifted, mirrored and with noise. A round is ten new labels and the ten next images.

- `round_ms`: the model and the choice, everything in them: what the labels change solved for, probabilities, margins
  of every image, the ten highest. The peers' figures are of the same: a fit and a choice.
- `recommended_ms` and `vote_ms`: the same with the strategy `recommended`, by label spreading and by the model `vote`.
  `typical_s` is the first batch, before anything is known.
- `session_ms`: a round by a real Session on a real store: ten labels, each a transaction of its own, then the same as
  above, the figures for the curve, and the batch stored; predictions are written to files meanwhile. `wait_ms` is the
  part after the last label, which a person would wait for, were it not chosen ahead. `vote_session_ms` and
  `vote_wait_ms` are the same with the model `vote` and the strategy `recommended`.
- `sklearn_s` is scikit-learn's `LabelSpreading(kernel="knn", n_neighbors=10, max_iter=30)` on the same features;
  `sklearn_on_our_graph_s` the same with our weights as its kernel; `cold_cg_s` conjugate gradients on our weights from
  nothing, to a probability error of 1e-3. All get the labels of the last round.
- `overlap_10` and `overlap_100`: of the ten and the hundred images of least margin, how many a solve to 1e-6 names too;
  `error_median` and `error_99`: how far probabilities are from that solve.

With `--cache` features and graph of each size are kept in a folder: to build a million's takes five minutes. `graph_s`
is then what it took when it was built.

Medians over the rounds. Every size is a process of its own; its peak memory is that process's. The test images choose
nothing. Before all, the first round of a fresh install: in a new process without a cache of compiled code. The last
line is JSON; what was not measured is null.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import sklearn.semi_supervised

from annotator import registry
from annotator.graph import NeighborGraph, build_graph
from annotator.ids import NumberedIds
from annotator.learner import Learner
from annotator.models.label_spreading import LabelSpreading
from annotator.predictions import PredictionFiles
from annotator.session import Session, Settings
from annotator.store import ImageRecord, Store
from annotator.types import (
    UNLABELED,
    Dataset,
    FeatureArray,
    FittedEncoder,
    FloatArray,
    HeldOut,
    ImageArray,
    IntArray,
    Model,
    Pool,
    Prediction,
)
from tests import storing

BATCH = 10
STRATEGY = "margin"
N_REAL = 60_000
CHUNK = 20_000
SKLEARN_UP_TO = 60_000
KEYS = (
    "round_ms", "recommended_ms", "vote_ms", "typical_s", "session_ms", "wait_ms", "vote_session_ms", "vote_wait_ms",
    "sklearn_s", "sklearn_ratio",
    "sklearn_on_our_graph_s", "cold_cg_s", "cold_cg_ratio", "scratch_s", "graph_s", "recall", "accuracy",
    "sklearn_accuracy", "exact_accuracy", "overlap_10", "overlap_100", "error_median", "error_99", "peak_mb",
)  # fmt: skip

Figures = dict[str, float | None]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:  # Any: whatever comes back
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def pictures(real: ImageArray, start: int, stop: int) -> ImageArray:
    """Images start..stop of an endless pool: the real ones first, then again and again a little different."""
    rng = np.random.default_rng([start, stop])
    rows = np.arange(start, stop)
    images = real[rows % len(real)].copy()
    if stop <= len(real):
        return images
    for row, image in enumerate(images):
        shifted = np.roll(image, rng.integers(-2, 3, 2), axis=(0, 1))
        images[row] = shifted[:, ::-1] if rng.random() < 0.5 else shifted
    noise = rng.normal(0, 8, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def encode(encoder: FittedEncoder, real: ImageArray, n: int) -> FeatureArray:
    """(n, n_features) of the first n images of the pool."""
    if n <= N_REAL:
        return encoder.encode(real[:n])
    starts = range(0, n, CHUNK)
    return np.concatenate([encoder.encode(pictures(real, start, min(start + CHUNK, n))) for start in starts])


class Endless:
    """The images of rows of that pool, as far as a batch looks at them, without keeping a million of them."""

    def __init__(self, real: ImageArray) -> None:
        self._real = real

    def __getitem__(self, rows: IntArray) -> ImageArray:
        made = [pictures(self._real, row, row + 1) for row in rows.tolist()]
        return np.concatenate(made) if made else self._real[:0]


def make_dataset(n: int, cache: Path | None = None) -> tuple[Dataset, float]:
    """The pool of n images as numbers, and how long its graph took; kept in `cache` from run to run."""
    source = registry.create("source", "fashion-mnist", {"full": True})
    real, test = source.array, source.held_out
    encoder = registry.create("encoder", "hog").fit(real[: min(n, N_REAL)], np.random.default_rng(0))
    folder = None if cache is None else cache / f"clothes-{n}"
    if folder is not None and folder.exists():
        features: FeatureArray = np.load(folder / "features.npy")
        graph, graph_s = NeighborGraph.load(folder, features), float(np.load(folder / "graph_s.npy"))
    else:
        features = encode(encoder, real, n)
        graph_s, graph = seconds(lambda: build_graph(features, 10))
        if folder is not None:
            graph.save(folder)
            np.save(folder / "features.npy", features)
            np.save(folder / "graph_s.npy", graph_s)
    held_out = HeldOut(test.ids, test.array, encoder.encode(test.array), test.truth)
    truth = source.truth[np.arange(n) % N_REAL]
    images = cast(ImageArray, Endless(real))
    dataset = Dataset(
        ids=NumberedIds("clothes", n), images=images, features=features, graph=graph, group=np.arange(n),
        version="0" * 12, truth=truth, open_image=lambda row, side: None, held_out=held_out,
    )  # fmt: skip
    return dataset, graph_s


def play(dataset: Dataset, rounds: int, model_name: str, strategy_name: str) -> tuple[list[float], IntArray, Model]:
    """Rounds of the model and the choice alone: seconds of each, the labels at the end, the model."""
    model: Model = registry.create("model", model_name)
    strategy = registry.create("strategy", strategy_name)
    rng = np.random.default_rng(0)
    assert dataset.truth is not None
    labels = np.full(len(dataset), UNLABELED)
    asked = rng.permutation(len(dataset))[:BATCH]
    took: list[float] = []
    registry.create("model", "label-spreading")._estimator.warm_up()  # the app compiles while features load
    for _ in range(rounds + 1):
        labels = labels.copy()
        labels[asked] = dataset.truth[asked]
        started = time.perf_counter()
        prediction = model.fit_predict(dataset, labels, 10)
        candidates = np.flatnonzero(labels == UNLABELED)
        asked = strategy.query(Pool(dataset, labels, prediction, candidates), BATCH, rng).rows
        took.append(time.perf_counter() - started)
    return took[1:], labels, model


def typical(dataset: Dataset) -> float:
    """Seconds of the first batch."""
    labels, nothing = np.full(len(dataset), UNLABELED), Prediction(np.ones((len(dataset), 1)))
    pool = Pool(dataset, labels, nothing, np.arange(len(dataset)))
    strategy = registry.create("strategy", "typical")
    return seconds(lambda: strategy.query(pool, BATCH, np.random.default_rng(0)))[0]


def accuracy(dataset: Dataset, predict: Callable[[FeatureArray], Any]) -> float:  # Any: probabilities or classes
    """Share of the 10,000 test images that are right."""
    assert dataset.held_out is not None
    found = np.asarray(predict(dataset.held_out.features))
    classes = found.argmax(axis=1) if found.ndim == 2 else found
    return float((classes == dataset.held_out.truth).mean())


def session_rounds(dataset: Dataset, rounds: int, model_name: str, strategy: str) -> tuple[float, float]:
    """Median seconds of a round by a real Session on a real store, and of the part after its last label."""
    class_names = [str(code) for code in range(10)]
    assert dataset.truth is not None
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "labels.sqlite", "engine", 0)
        storing.add_classes(store, class_names)
        storing.add_images(store, (ImageRecord(image_id, row) for row, image_id in enumerate(dataset.ids)))
        version = storing.record_config(store, {})
        own = replace(dataset, held_out=None)  # people's own images come without
        model: Model = registry.create("model", model_name)
        files = PredictionFiles(Path(folder) / "predictions", store)
        learner = Learner(store, own, model, class_names, np.empty(0, dtype=np.int64), version, files)
        settings = Settings(version, 0, strategy, {}, BATCH, audit_share=0.0)
        session = Session(store, learner, storing.annotator(store, "engine"), settings)
        whole, after = [], []
        for _ in range(rounds + 1):
            session.advance()
            cards = session.remaining
            answers = [class_names[dataset.truth[card.row]] for card in cards]
            started = time.perf_counter()
            for card, answer in zip(cards, answers, strict=True):
                session.label(card.image_id, answer, event_id=card.event_id)
            labeled = time.perf_counter()
            session.advance()
            whole.append(time.perf_counter() - started)
            after.append(time.perf_counter() - labeled)
        files.close()
        store.close()
    return float(np.median(whole[1:])), float(np.median(after[1:]))


def first_round(n: int) -> None:
    """What a fresh install waits for: compiling, which the app does while features load, and the first two rounds."""
    dataset, _ = make_dataset(n)
    model: Model = registry.create("model", "label-spreading")
    labels = np.full(n, UNLABELED)
    rows = np.random.default_rng(0).permutation(n)[: 2 * BATCH]
    assert dataset.truth is not None
    compiling, _ = seconds(getattr(model, "_estimator").warm_up)  # noqa: B009 # in the app a thread does it
    figures = {"compile_s": compiling}
    for name, asked in (("first_fit_s", rows[:BATCH]), ("second_fit_s", rows)):
        labels[asked] = dataset.truth[asked]
        figures[name], _ = seconds(lambda: model.fit_predict(dataset, labels.copy(), 10))
    print(json.dumps(figures))


def margins(probabilities: FloatArray) -> FloatArray:
    top_two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(top_two[:, 1] - top_two[:, 0])


def beside_exact(dataset: Dataset, labels: IntArray, model: Model, tol: float) -> Figures:
    """The pushed answer against a solve of the same labels to `tol`."""
    exact = LabelSpreading(affinity="precomputed", tol=tol, push_from=sys.maxsize).fit(dataset.graph.affinity, labels)
    ours = model.fit_predict(dataset, labels, 10).probabilities
    free = np.flatnonzero(labels == UNLABELED)
    errors = np.abs(ours - exact.label_distributions_).max(axis=1)
    asked, exactly = (np.argsort(margins(found[free]), kind="stable") for found in (ours, exact.label_distributions_))
    return {
        "exact_accuracy": accuracy(dataset, lambda new: exact.predict_proba(dataset.graph.connect(new))),
        "overlap_10": float(np.isin(asked[:10], exactly[:10]).sum()),
        "overlap_100": float(np.isin(asked[:100], exactly[:100]).sum()),
        "error_median": float(np.median(errors)),
        "error_99": float(np.quantile(errors, 0.99)),
    }


def as_shipped(dataset: Dataset, labels: IntArray) -> tuple[float, float]:
    """scikit-learn with a graph of its own: seconds of a fit and a choice, and accuracy."""
    model = sklearn.semi_supervised.LabelSpreading(kernel="knn", n_neighbors=10, max_iter=30)

    def one_round() -> None:
        model.fit(dataset.features, labels)
        free = np.flatnonzero(labels == UNLABELED)
        top_two = np.partition(model.label_distributions_[free], -2, axis=1)[:, -2:]
        np.argsort(top_two[:, 1] - top_two[:, 0])[:BATCH]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        took, _ = seconds(one_round)
        return took, accuracy(dataset, model.predict)


def on_our_graph(dataset: Dataset, labels: IntArray) -> float:
    """scikit-learn's iteration with our weights as its kernel: seconds of a fit."""
    weights = dataset.graph.affinity
    model = sklearn.semi_supervised.LabelSpreading(kernel=lambda *_: weights, alpha=0.9, max_iter=1000)
    return seconds(lambda: model.fit(dataset.features, labels))[0]


def cold(dataset: Dataset, labels: IntArray) -> float:
    """Conjugate gradients from nothing on our weights: seconds, the matrix being there already."""
    model = LabelSpreading(affinity="precomputed", tol=1e-3, push_from=sys.maxsize)
    model.fit(dataset.graph.affinity, labels)
    return seconds(lambda: model.update(labels))[0]


def median_ms(took: list[float]) -> float:
    return 1000 * float(np.median(took))


def session_figures(dataset: Dataset, rounds: int) -> Figures:
    """Rounds by a real Session, by label spreading and by the vote."""
    session_s, wait_s = session_rounds(dataset, rounds, "label-spreading", STRATEGY)
    vote_session_s, vote_wait_s = session_rounds(dataset, rounds, "vote", "recommended")
    return {
        "session_ms": 1000 * session_s,
        "wait_ms": 1000 * wait_s,
        "vote_session_ms": 1000 * vote_session_s,
        "vote_wait_ms": 1000 * vote_wait_s,
    }


def measure(n: int, rounds: int, with_sklearn: bool, with_sessions: bool, cache: Path | None) -> Figures:
    """Every figure of one size, and a line that people can read."""
    dataset, graph_s = make_dataset(n, cache)
    typical_s = typical(dataset)
    took, labels, model = play(dataset, rounds, "label-spreading", STRATEGY)
    recommended, voted = (play(dataset, rounds, name, "recommended")[0] for name in ("label-spreading", "vote"))
    scratch_s = seconds(lambda: registry.create("model", "label-spreading").fit_predict(dataset, labels, 10))[0]
    sessions = session_figures(dataset, rounds) if with_sessions else {}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    exactness = beside_exact(dataset, labels, model, 1e-6 if n <= N_REAL else 1e-4)
    cold_s = cold(dataset, labels)
    is_small = n <= SKLEARN_UP_TO
    shipped = as_shipped(dataset, labels) if with_sklearn and is_small else (None, None)
    round_s = float(np.median(took))
    figures: Figures = dict.fromkeys(KEYS) | {
        "round_ms": 1000 * round_s,
        "recommended_ms": median_ms(recommended),
        "vote_ms": median_ms(voted),
        "typical_s": typical_s,
        "sklearn_s": shipped[0],
        "sklearn_ratio": shipped[0] and shipped[0] / round_s,
        "sklearn_on_our_graph_s": on_our_graph(dataset, labels) if with_sklearn and is_small else None,
        "cold_cg_s": cold_s,
        "cold_cg_ratio": cold_s / round_s,
        "scratch_s": scratch_s,
        "graph_s": graph_s,
        "recall": getattr(dataset.graph, "recall"),  # noqa: B009 # of our graph, not of every one
        "accuracy": accuracy(dataset, model.predict),
        "sklearn_accuracy": shipped[1],
        "peak_mb": peak_mb,
        **exactness,
        **sessions,
    }
    each = " ".join(f"{1000 * one:.0f}" for one in took)
    print(f"{n:,} images, {(labels != UNLABELED).sum()} labels at the end; ms of each round: {each}")
    for key in KEYS:
        print(f"  {key}: {'not measured' if figures[key] is None else round(figures[key], 4)}", flush=True)  # type: ignore[arg-type]  # not None
    return figures


def in_a_process(*options: str, **variables: str) -> dict[str, float | None]:
    """This script with other options: its readable lines are printed, its figures returned."""
    command = [sys.executable, "-m", "tests.benchmarks.engine", *options]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | variables)
    *readable, last = ended.stdout.splitlines()
    print("\n".join(readable), flush=True)
    return {key: None if value is None else round(value, 4) for key, value in json.loads(last).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="What a round of label spreading costs.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 20_000, 60_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--no-sklearn", action="store_true", help="leave out scikit-learn's own")
    parser.add_argument("--no-sessions", action="store_true", help="leave out rounds by a Session")
    parser.add_argument("--cache", type=Path, help="a folder for features and graphs, kept from run to run")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        first_round(options.first)
        return
    if options.one:
        given = not options.no_sklearn, not options.no_sessions, options.cache
        print(json.dumps(measure(options.one, options.rounds, *given)))
        return
    with tempfile.TemporaryDirectory() as empty:
        results = {"fresh_install": in_a_process("--first", str(N_REAL), NUMBA_CACHE_DIR=empty)}
    print("First rounds of a fresh install, 60,000 images:", results["fresh_install"], flush=True)
    passed_on = ["--no-sklearn"] * options.no_sklearn + ["--no-sessions"] * options.no_sessions
    passed_on += ["--cache", str(options.cache)] if options.cache else []
    for n in options.sizes:
        results[str(n)] = in_a_process("--one", str(n), "--rounds", str(options.rounds), *passed_on)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
