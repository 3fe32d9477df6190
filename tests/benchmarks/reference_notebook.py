"""The reference notebook's systems and ours on Fashion-MNIST: the same labels, the same 10,000 test images.

The notebook's settings are its own, on pixels divided by 255: scikit-learn's LabelPropagation and LabelSpreading with
their defaults on 20,000 random training images, 1,000 of them labeled; self-training, nearest neighbours, a random
forest and a support vector machine on 3,000 labels of 60,000. Ours are the app's models with their defaults. The test
images are classified one by one (inductively) and influence nothing.

The notebook draws its images without a seed. Here one permutation of the training images, drawn by --seed, gives both
settings: the pool is its beginning, the labels are those of the pool's last images. So the figures come near the
published ones and do not repeat them. Seconds are from pixels to answers: encoding, graph, fit and test.

LabelPropagation and LabelSpreading take 3.2 GB for each of their matrices and some minutes, self-training longer.

    python -m tests.benchmarks.reference_notebook [--seed 0] [--only SVC vote-hog] [--labels 500]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from annotator import registry
from annotator.errors import SourceError
from annotator.graph import build_graph
from annotator.metrics import score
from annotator.sources.fashion_mnist import CLASS_NAMES, FashionMnist
from annotator.types import UNLABELED, Dataset, Encoder, FloatArray, ImageArray, IntArray, Model

ROWS_PER_CHUNK = 500  # test images at a time: the dense kernel to a pool of 20,000 is then 80 MB


@dataclass(frozen=True)
class Task:
    """What every system is given: a pool, some of it labeled, and images to classify."""

    images: ImageArray
    labels: IntArray
    """(n_images,), -1 = unlabeled."""
    test_images: ImageArray
    seed: int


System = Callable[[Task], IntArray]
"""Task -> class codes of its test images."""


@dataclass(frozen=True)
class Setting:
    """So many labels in a pool of so many images, and the notebook's systems that were run on that."""

    n_pool: int
    n_labels: int
    notebook: dict[str, System]


@dataclass(frozen=True)
class Figures:
    """What one system reached, 0 to 1, and how long it took."""

    accuracy: float
    weighted_f1: float
    seconds: float


Results = dict[str, Figures | None]
"""By system; None = not measured in this run."""


@dataclass(frozen=True)
class Outcome:
    """One setting, measured."""

    n_labels: int
    n_pool: int
    notebook: Results
    ours: Results

    @property
    def title(self) -> str:
        return f"{self.n_labels:,} labels in {self.n_pool:,} images"


def pixels(images: ImageArray) -> FloatArray:
    """(n, 28, 28, 1) -> (n, 784) in 0..1, the notebook's features."""
    return images.reshape(len(images), -1) / 255.0


def transductive(estimator: Any, task: Task) -> IntArray:  # Any: scikit-learn ships no types
    """An estimator that learns from the whole pool, labeled or not."""
    with threadpool_limits(1, "blas"):  # OpenBLAS crashes on a large A @ A.T in two threads: numpy/numpy#19685
        fitted = estimator.fit(pixels(task.images), task.labels)
    return in_chunks(fitted, task.test_images)


def supervised(estimator: Any, task: Task) -> IntArray:  # Any: scikit-learn ships no types
    """An estimator that learns from the labeled images alone."""
    labeled = np.flatnonzero(task.labels != UNLABELED)
    return in_chunks(estimator.fit(pixels(task.images[labeled]), task.labels[labeled]), task.test_images)


def in_chunks(fitted: Any, images: ImageArray) -> IntArray:  # Any: scikit-learn ships no types
    starts = range(0, len(images), ROWS_PER_CHUNK)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a dense kernel reaches nothing: part of what the notebook shows
        return np.concatenate([fitted.predict(pixels(images[start : start + ROWS_PER_CHUNK])) for start in starts])


def autoencoder_and_head(task: Task) -> IntArray:
    """The notebook's autoencoder on the whole pool, its encoder frozen, a head on the labeled images; plain Keras."""
    from annotator.encoders.keras_setup import keras  # TensorFlow, only where this row is wanted

    keras.utils.set_random_seed(task.seed)
    dense = keras.layers.Dense
    encoder = keras.Sequential([keras.Input((784,)), *(dense(width, "relu") for width in (300, 200, 100))])
    decoder = [dense(200, "relu"), dense(300, "relu"), dense(784, "sigmoid")]
    autoencoder = keras.Sequential([encoder, *decoder])
    autoencoder.compile("nadam", "binary_crossentropy", metrics=["mse"])
    pool = pixels(task.images).astype(np.float32)
    stop = keras.callbacks.EarlyStopping("val_mse", patience=10, mode="min", restore_best_weights=True)
    autoencoder.fit(pool, pool, validation_split=0.2, epochs=100, callbacks=[stop], verbose=0)
    encoder.trainable = False
    classifier = keras.Sequential([encoder, dense(50, "relu"), dense(len(CLASS_NAMES), "softmax")])
    classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    labeled = np.flatnonzero(task.labels != UNLABELED)
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=20, mode="max", restore_best_weights=True)
    given = {"x": pool[labeled], "y": task.labels[labeled]}
    classifier.fit(**given, validation_split=0.2, epochs=200, callbacks=[stop], verbose=0)
    return np.asarray(classifier.predict(pixels(task.test_images), verbose=0).argmax(axis=1), dtype=np.int64)


def app(model_name: str, encoder_name: str, task: Task) -> IntArray:
    """A model of the app on one of its encoders, both with their defaults."""
    encoder: Encoder = registry.create("encoder", encoder_name)
    fitted = encoder.fit(task.images, np.random.default_rng(task.seed))
    features = fitted.encode(task.images)
    dataset = Dataset(
        ids=[str(row) for row in range(len(task.images))],
        images=task.images,
        features=features,
        graph=build_graph(features),
        group=np.arange(len(task.images)),
        version=f"{encoder_name}-{len(task.images)}-{task.seed}",
        open_image=lambda row, side: Image.fromarray(task.images[row, :, :, 0]),
    )
    model: Model = registry.create("model", model_name)
    model.fit_predict(dataset, task.labels, len(CLASS_NAMES))
    return np.asarray(model.predict(fitted.encode(task.test_images)).argmax(axis=1))


SETTINGS = {
    "1000-of-20000": Setting(
        20_000,
        1_000,
        {
            "LabelPropagation": partial(transductive, LabelPropagation()),
            "LabelSpreading": partial(transductive, LabelSpreading()),
        },
    ),
    "3000-of-60000": Setting(
        60_000,
        3_000,
        {
            "SelfTraining": partial(transductive, SelfTrainingClassifier(RandomForestClassifier(random_state=42))),
            "KNeighbors": partial(supervised, KNeighborsClassifier(3)),
            "RandomForest": partial(supervised, RandomForestClassifier(random_state=42)),
            "SVC": partial(supervised, SVC(kernel="rbf")),
            "AutoencoderAndHead": autoencoder_and_head,
        },
    ),
}
OURS: dict[str, System] = {
    "label-spreading-hog": partial(app, "label-spreading", "hog"),
    "label-spreading-pixels": partial(app, "label-spreading", "pixels"),
    "logistic-regression-hog": partial(app, "logistic-regression", "hog"),
    "vote-hog": partial(app, "vote", "hog"),
    "encoder-classifier-hog": partial(app, "encoder-classifier", "hog"),
    "encoder-classifier-autoencoder": partial(app, "encoder-classifier", "autoencoder"),
}
PUBLISHED = {
    "LabelPropagation": (13.05, 7.12),
    "LabelSpreading": (12.99, 7.09),
    "SelfTraining": (79.14, 77.89),
    "KNeighbors": (78.01, 78.08),
    "RandomForest": (82.22, 81.84),
    "SVC": (81.90, 81.55),
    "AutoencoderAndHead": (83.22, 83.16),
}
"""Accuracy and weighted F1 in %, as the notebook prints them."""


def draw_task(clothes: FashionMnist, setting: Setting, n_labels: int, seed: int) -> Task:
    """The pool and its labels by the seed; the test images as they are."""
    assert clothes.array is not None
    assert clothes.truth is not None
    assert clothes.held_out is not None
    assert clothes.held_out.array is not None
    rows = np.random.default_rng(seed).permutation(len(clothes.truth))[: setting.n_pool]
    labels = np.full(len(rows), UNLABELED, dtype=np.int64)
    labels[-n_labels:] = clothes.truth[rows[-n_labels:]]
    return Task(clothes.array[rows], labels, clothes.held_out.array, seed)


def measure(system: System, task: Task, truth: IntArray) -> Figures:
    start = time.perf_counter()
    codes = system(task)
    seconds = time.perf_counter() - start
    scores = score(truth, codes, len(CLASS_NAMES))
    assert scores.accuracy is not None
    return Figures(scores.accuracy, scores.weighted_f1, seconds)


def run(systems: dict[str, System], only: Sequence[str], task: Task, truth: IntArray) -> Results:
    """Those that are wanted, one after the other, each with a line when it is done."""
    results: Results = dict.fromkeys(systems)
    for name in systems:
        if name in only:
            print(f"{name} ...", end=" ", flush=True)
            results[name] = measure(systems[name], task, truth)
            print(as_columns(results[name]).strip(), flush=True)
    return results


def as_columns(figures: Figures | None) -> str:
    if figures is None:
        return f"{'-':>6} {'-':>6} {'-':>8}"
    return f"{100 * figures.accuracy:6.2f} {100 * figures.weighted_f1:6.2f} {figures.seconds:7.1f}s"


def show(outcome: Outcome) -> None:
    """Two columns: the notebook's systems with their published figures, and ours."""
    measured = f"{'acc':>6} {'F1':>6} {'time':>8}"
    print(f"\n{outcome.title}: accuracy % and weighted F1 % on 10,000 test images")
    print(f"{'the notebook':18} {'published':>13} {measured} | {'ours':24} {measured}")
    for theirs, mine in zip_longest(outcome.notebook, outcome.ours):
        left = right = ""
        if theirs is not None:
            accuracy, f1 = PUBLISHED[theirs]
            left = f"{theirs:18} {accuracy:6.2f} {f1:6.2f} {as_columns(outcome.notebook[theirs])}"
        if mine is not None:
            right = f"{mine:24} {as_columns(outcome.ours[mine])}"
        print(f"{left:55} | {right}")


def read_options() -> argparse.Namespace:
    every = [name for setting in SETTINGS.values() for name in setting.notebook] + list(OURS)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="draws the pools and which of their images are labeled")
    parser.add_argument("--only", nargs="+", default=every, choices=every, metavar="NAME", help=", ".join(every))
    parser.add_argument("--labels", type=int, metavar="N", help="how many labels, instead of 1,000 and of 3,000")
    options = parser.parse_args()
    smallest = min(setting.n_pool for setting in SETTINGS.values())
    if options.labels is not None and not 1 <= options.labels <= smallest:
        parser.error(f"--labels must lie between 1 and {smallest}, not {options.labels}.")
    return options


def compare(clothes: FashionMnist, setting: Setting, options: argparse.Namespace) -> Outcome:
    """The notebook's systems and ours on one setting."""
    assert clothes.held_out is not None
    assert clothes.held_out.truth is not None
    task = draw_task(clothes, setting, options.labels or setting.n_labels, options.seed)
    n_labels = int((task.labels != UNLABELED).sum())
    print(f"\n{n_labels:,} labels in {setting.n_pool:,} images", flush=True)
    notebook, ours = (run(systems, options.only, task, clothes.held_out.truth) for systems in (setting.notebook, OURS))
    return Outcome(n_labels, setting.n_pool, notebook, ours)


def main() -> int:
    options = read_options()
    try:
        clothes = FashionMnist(full=True)
    except SourceError as error:
        print(error)
        return 2
    outcomes = {name: compare(clothes, setting, options) for name, setting in SETTINGS.items()}
    for outcome in outcomes.values():
        show(outcome)
    print(json.dumps({"seed": options.seed} | {name: asdict(outcome) for name, outcome in outcomes.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
