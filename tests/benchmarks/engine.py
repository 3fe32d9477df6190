"""What a round of label spreading costs at 2,000 to 1,000,000 images, beside what others need for the same.

    nice -n 10 python -m tests.benchmarks.engine [--sizes 2000 20000 60000 1000000] [--rounds 20] [--no-sklearn]
                                                 [--no-session]

Fashion-MNIST's training images and HOG features, the configuration that ships. Pools beyond 60,000 are the same
images again, shifted, mirrored and with noise. A round is ten new labels and the ten next images. `round_ms` is all of
it, by a real Session: ten labels stored, learned from, the next batch chosen and stored (pools of up to 60,000; a null
above). The table has beside it what the model and the choice alone take ("engine"). Peers get the same features and
the same labels, those of the last round; `cold_cg_s` solves for them on our graph from nothing, by conjugate
gradients, to a probability error of 1e-3. Every size is a process of its own; its peak memory is that process's. The
test images choose nothing. The last line is JSON.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.semi_supervised

from annotator import registry
from annotator.graph import build_graph
from annotator.models.label_spreading import LabelSpreading
from annotator.project import Config, Project
from annotator.simulate import answer_batch, oracle_of
from annotator.types import UNLABELED, Dataset, FeatureArray, HeldOut, ImageArray, IntArray, Model, Pool

BATCH = 10
STRATEGY = "margin"
N_REAL = 60_000
CHUNK = 20_000
SKLEARN_UP_TO = 60_000
KEYS = (
    "round_ms", "sklearn_s", "sklearn_ratio", "cold_cg_s", "cold_cg_ratio", "scratch_s", "graph_s", "recall",
    "accuracy", "sklearn_accuracy", "peak_mb",
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


def make_dataset(n: int) -> tuple[Dataset, float]:
    """The pool of n images as numbers, and how long its graph took."""
    source = registry.create("source", "fashion-mnist", {"full": True})
    real, test = source.array, source.held_out
    encoder = registry.create("encoder", "hog").fit(real[: min(n, N_REAL)], np.random.default_rng(0))
    parts = [
        encoder.encode(pictures(real, start, min(start + CHUNK, n))) if n > N_REAL else encoder.encode(real[:n])
        for start in range(0, n, CHUNK if n > N_REAL else n)
    ]
    features: FeatureArray = np.concatenate(parts)
    graph_s, graph = seconds(lambda: build_graph(features, 10))
    held_out = HeldOut(test.ids, test.array, encoder.encode(test.array), test.truth)
    truth = source.truth[np.arange(n) % N_REAL]
    dataset = Dataset(
        ids=range(n), images=real, features=features, graph=graph, group=np.arange(n), version="", truth=truth,
        open_image=lambda row, side: None, held_out=held_out,
    )  # type: ignore[arg-type]  # numbers serve as ids here  # fmt: skip
    return dataset, graph_s


def play(dataset: Dataset, rounds: int) -> tuple[list[float], IntArray, float, Model]:
    """Rounds of the model and the choice alone: seconds of each, the labels at the end, accuracy, the model."""
    model: Model = registry.create("model", "label-spreading")
    strategy = registry.create("strategy", STRATEGY)
    rng = np.random.default_rng(0)
    assert dataset.truth is not None
    labels = np.full(len(dataset), UNLABELED)
    asked = rng.permutation(len(dataset))[:BATCH]
    took = []
    getattr(model, "_estimator").warm_up()  # noqa: B009 # the app compiles while features load
    for _ in range(rounds + 1):
        labels = labels.copy()
        labels[asked] = dataset.truth[asked]
        started = time.perf_counter()
        prediction = model.fit_predict(dataset, labels, 10)
        candidates = np.flatnonzero(labels == UNLABELED)
        asked = strategy.query(Pool(dataset, labels, prediction, candidates), BATCH, rng).rows
        took.append(time.perf_counter() - started)
    return took[1:], labels, accuracy(dataset, model.predict), model


def accuracy(dataset: Dataset, predict: Callable[[FeatureArray], Any]) -> float:  # Any: probabilities or classes
    """Share of the 10,000 test images that are right."""
    assert dataset.held_out is not None
    found = np.asarray(predict(dataset.held_out.features))
    classes = found.argmax(axis=1) if found.ndim == 2 else found
    return float((classes == dataset.held_out.truth).mean())


def session_rounds(n: int, rounds: int) -> float:
    """Median seconds of a round by a real Session on a real store, everything included."""
    config = Config(
        name="engine", source="fashion-mnist", source_parameters={"full": True}, limit=n, strategy=STRATEGY,
        batch_size=BATCH,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        project = Project.create(Path(folder) / "engine", config)
        project.learner.see(replace(project.learner.dataset, held_out=None))  # people's own images come without
        project.learner.warm_up()
        session, oracle = project.session("engine"), oracle_of(project)
        session.advance()
        answer_batch(session, oracle)
        session.advance()
        took = []
        for _ in range(rounds):
            cards = session.remaining
            answers = [str(oracle.answer(card.image_id)) for card in cards]
            started = time.perf_counter()
            for card, answer in zip(cards, answers, strict=True):
                session.label(card.image_id, answer, event_id=card.event_id)
            session.advance()
            took.append(time.perf_counter() - started)
        project.close()
    return float(np.median(took))


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


def measure(n: int, rounds: int, with_sklearn: bool, with_session: bool) -> Figures:
    """Every figure of one size, and a line that people can read."""
    dataset, graph_s = make_dataset(n)
    took, labels, right, _ = play(dataset, rounds)
    fresh: Model = registry.create("model", "label-spreading")
    scratch_s = seconds(lambda: fresh.fit_predict(dataset, labels, 10))[0]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cold_s = cold(dataset, labels)
    ours_s = on_our_graph(dataset, labels)
    shipped = as_shipped(dataset, labels) if with_sklearn and n <= SKLEARN_UP_TO else (None, None)
    round_s = session_rounds(n, rounds) if with_session and n <= N_REAL else None
    figures: Figures = {
        "round_ms": round_s and 1000 * round_s,
        "sklearn_s": shipped[0],
        "sklearn_ratio": round_s and shipped[0] and shipped[0] / round_s,
        "cold_cg_s": cold_s,
        "cold_cg_ratio": round_s and cold_s / round_s,
        "scratch_s": scratch_s,
        "graph_s": graph_s,
        "recall": getattr(dataset.graph, "recall"),  # noqa: B009 # of our graph, not of every one
        "accuracy": right,
        "sklearn_accuracy": shipped[1],
        "peak_mb": peak_mb,
    }
    each = " ".join(f"{1000 * one:.0f}" for one in took)
    print(f"{n:,} images, {(labels != UNLABELED).sum()} labels at the end")
    print(f"  engine: {1000 * np.median(took):.1f} ms a round; each: {each}")
    print(f"  scikit-learn's iteration on our weights: {ours_s:.1f} s")
    for key in KEYS:
        print(f"  {key}: {'not measured' if figures[key] is None else round(figures[key], 4)}", flush=True)  # type: ignore[arg-type]  # not None
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="What a round of label spreading costs.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 20_000, 60_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-sklearn", action="store_true", help="leave out scikit-learn as shipped")
    parser.add_argument("--no-session", action="store_true", help="leave out the rounds by a real Session")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        figures = measure(options.one, options.rounds, not options.no_sklearn, not options.no_session)
        print(json.dumps(figures))
        return
    results = {}
    passed_on = [text for text in ("--no-sklearn", "--no-session") if text in sys.argv]
    for n in options.sizes:
        command = [sys.executable, "-m", "tests.benchmarks.engine", "--one", str(n), "--rounds", str(options.rounds)]
        ended = subprocess.run([*command, *passed_on], stdout=subprocess.PIPE, text=True, check=True)
        *readable, last = ended.stdout.splitlines()
        print("\n".join(readable), flush=True)
        results[str(n)] = {key: None if value is None else round(value, 4) for key, value in json.loads(last).items()}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
