"""Seconds, CPU seconds and memory of every registered encoder on Fashion-MNIST; some beside a plain peer.

Each encoder is fitted on the images and encodes them in a process of its own, which maps them from a file as the app
does. CPU seconds are those of that process and of all that it starts; peak memory is its own, images included, and
the most that its children hold at one moment. An encoder that cannot be used here (weights that are not there, a pool
that is too small) is passed over with its word; null is what was not measured.

Peers: for pixels scikit-learn's PCA on the flattened images; for hog a loop over images and pixels' cells as one
would first write it (on a few hundred images, scaled up); for the graph scikit-learn's exact neighbours by brute force
on a sample of the pool's images (scaled up), which is also what recall is measured against. The encoder imagenet is
measured on as many photos of 128 px as --photos says, too; TensorFlow's start counts.

    python -m tests.benchmarks.encoders [--only NAME ...] [--n 60000] [--photos 10000] [--fashion-mnist FOLDER]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from annotator import registry
from annotator.errors import AnnotatorError
from annotator.graph import NeighborGraph, build_graph
from annotator.types import FeatureArray, FloatArray, ImageArray
from tests.e2e.processes import megabytes, started_by

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28
N_LOOP = 300
N_RECALL = 1000
GOAL_HOG_SECONDS = 10.0
GOAL_IMAGENET_SECONDS, GOAL_PHOTOS_SECONDS = 120.0, 240.0

Figures = dict[str, float | int | str | None]
UNMEASURED: Figures = dict.fromkeys(
    ("n", "n_features", "fit_s", "encode_s", "total_s", "cpu_s", "s_per_10000", "cpu_s_per_10000", "encode_s_per_10000",
     "peak_mb", "children_peak_mb")
)  # fmt: skip
Result = TypeVar("Result")


def read_images(folder: Path, n: int) -> ImageArray:
    """The first `n` training images: (n, 28, 28, 1). Raises FileNotFoundError."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        pixels = file.read()[16:]
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, SIDE, SIDE, 1)[:n]


def plain_hog(image: ImageArray, cells: int = 7, bins: int = 9) -> FloatArray:
    """The descriptor of one (side, side) grey image, written down as the paper says it; `side` divides by `cells`."""
    grey = image.astype(float) / 255
    down, across = np.zeros_like(grey), np.zeros_like(grey)
    down[1:-1] = grey[2:] - grey[:-2]
    across[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    length, angle = np.hypot(down, across), np.arctan2(down, across) % np.pi
    size = len(grey) // cells
    pixel = (np.arange(len(grey)) + 0.5) / size - 0.5
    centres = (np.arange(bins) + 0.5) * np.pi / bins
    histograms = np.zeros((cells, cells, bins))
    for row in range(cells):
        for column in range(cells):
            near = np.outer(np.maximum(0, 1 - abs(pixel - row)), np.maximum(0, 1 - abs(pixel - column)))
            for number, centre in enumerate(centres):
                apart = abs(angle - centre)
                apart = np.minimum(apart, np.pi - apart) * bins / np.pi
                histograms[row, column, number] = (near * length * np.maximum(0, 1 - apart)).sum()
    blocks = []
    for row in range(cells - 1):
        for column in range(cells - 1):
            block = histograms[row : row + 2, column : column + 2].ravel()
            block = np.minimum(block / np.sqrt((block**2).sum() + 0.01), 0.2)
            blocks.append(block / np.sqrt((block**2).sum() + 0.01))
    descriptor = np.concatenate(blocks)
    return np.asarray(descriptor / (np.linalg.norm(descriptor) or 1))


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measured(name: str, images: Path, features: Path) -> Figures:
    """Fit and encode here and now: the figures of one encoder; its features go to the .npy `features`."""
    pool: ImageArray = np.load(images, mmap_mode="r")
    encoder = registry.create("encoder", name)
    with children_watched() as held:
        cpu_before = cpu_seconds()
        fit_seconds, fitted = timed(lambda: encoder.fit(pool, np.random.default_rng(0)))
        encode_seconds, found = timed(lambda: fitted.encode(pool))
        cpu = cpu_seconds() - cpu_before
    np.save(features, found)
    each = 10_000 / len(pool)
    return {
        "n": len(pool),
        "n_features": found.shape[1],
        "fit_s": fit_seconds,
        "encode_s": encode_seconds,
        "total_s": fit_seconds + encode_seconds,
        "cpu_s": cpu,
        "s_per_10000": (fit_seconds + encode_seconds) * each,
        "cpu_s_per_10000": cpu * each,
        "encode_s_per_10000": encode_seconds * each,
        "peak_mb": megabytes(os.getpid(), "VmHWM"),
        "children_peak_mb": max(held, default=0.0),
    }


@contextmanager
def children_watched() -> Iterator[list[float]]:
    """Megabytes that this process's children hold together, ten times a second."""
    held: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            held.append(sum(megabytes(pid) or 0.0 for pid in started_by(os.getpid())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield held
    finally:
        done.set()
        watcher.join()


def cpu_seconds() -> float:
    """Of this process, of its children that have ended, and of those that still run."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for pid in started_by(os.getpid()):
        with suppress(OSError):
            numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(number) for number in numbers[11:15])
    return time.process_time() + ended.ru_utime + ended.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def apart(name: str, images: Path, features: Path) -> Figures:
    """`measured` in a process of its own; where the encoder cannot be used here, why."""
    command = [sys.executable, "-m", "tests.benchmarks.encoders", "--measure", name, str(images), str(features)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        print(ended.stderr, file=sys.stderr)
        return UNMEASURED | {"passed_over": f"The process ended with {ended.returncode}."}
    figures: Figures = json.loads(ended.stdout.splitlines()[-1])
    return UNMEASURED | figures


def measure_here(name: str, images: Path, features: Path) -> None:
    """The child of `apart`: one line of JSON."""
    try:
        print(json.dumps(measured(name, images, features)))
    except AnnotatorError as error:
        print(json.dumps({"passed_over": str(error)}))


def pca_figures(images: ImageArray) -> Figures:
    """scikit-learn's way to the same number of dimensions."""
    flat = images.reshape(len(images), -1)
    seconds, _ = timed(lambda: PCA(min(64, len(flat)), random_state=0).fit_transform(flat.astype(np.float32) / 255))
    return {"peer": "sklearn PCA(64) on flattened pixels", "peer_s": seconds, "peer_n": len(images)}


def loop_figures(images: ImageArray) -> Figures:
    """The plain loop on the first images, and what it would take for all."""
    few = images[:N_LOOP, :, :, 0]
    seconds, _ = timed(lambda: [plain_hog(image) for image in few])
    return {"peer": "loop over images", "peer_s": seconds * len(images) / len(few), "peer_n": len(few)}


def photos(n: int) -> ImageArray:
    """(n, 128, 128, 3): noise at a coarse scale; what is in a picture makes no difference to the time."""
    coarse = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def graph_figures(features: FeatureArray) -> Figures:
    build_seconds, graph = timed(lambda: build_graph(features))
    few = min(N_RECALL, len(features))
    brute = NearestNeighbors(n_neighbors=graph.n_neighbors + 1, algorithm="brute").fit(features)
    peer_seconds, expected = timed(lambda: brute.kneighbors(features[:few], return_distance=False))
    return {
        "build_s": build_seconds,
        "recall": recall(graph, expected),
        "peer": "sklearn NearestNeighbors(algorithm='brute')",
        "peer_s": peer_seconds * len(features) / few,
        "peer_n": few,
    }


def recall(graph: NeighborGraph, expected: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> float:
    """The share of true neighbours (the image itself aside) that are joined, over the first rows."""
    found = 0
    for row, neighbors in enumerate(expected):  # a thousand rows: clear before fast
        others = neighbors[neighbors != row][: graph.n_neighbors]
        found += len(np.intersect1d(graph.affinity[[row]].indices, others))
    return found / (len(expected) * graph.n_neighbors)


def show(name: str, figures: Figures) -> None:
    parts = (f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items())
    print(f"{name:16s}", "  ".join(parts), flush=True)


PEERS = {"pixels": pca_figures, "hog": loop_figures}


def all_figures(names: list[str], images: ImageArray, n_photos: int, folder: Path) -> dict[str, Figures]:
    """Of every encoder by name; of the graphs on pixels and hog; of imagenet on photos."""
    np.save(folder / "images.npy", images)
    figures: dict[str, Figures] = {}
    for name in names:
        figures[name] = apart(name, folder / "images.npy", folder / "features.npy")
        if name in PEERS:
            figures[name] |= PEERS[name](images)
        show(name, figures[name])
        if name in PEERS:
            figures[f"graph_{name}"] = graph_figures(np.load(folder / "features.npy"))
            show(f"graph_{name}", figures[f"graph_{name}"])
    if "imagenet" in names and n_photos:
        np.save(folder / "photos.npy", photos(n_photos))
        figures["imagenet_photos"] = apart("imagenet", folder / "photos.npy", folder / "features.npy")
        show("imagenet_photos", figures["imagenet_photos"])
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="encoders to measure (default: all)")
    parser.add_argument("--n", type=int, default=60_000, help="how many images (at least 100)")
    parser.add_argument("--fashion-mnist", type=Path, default=FOLDER, metavar="FOLDER", help="the four IDX files")
    parser.add_argument("--photos", type=int, default=10_000, help="how many photos of 128 px for imagenet; 0 = none")
    parser.add_argument("--measure", nargs=3, metavar=("NAME", "IMAGES", "FEATURES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.only or ():
        try:
            registry.check_name("encoder", name)
        except AnnotatorError as error:
            parser.error(str(error))
    if options.measure:
        measure_here(options.measure[0], *map(Path, options.measure[1:]))
        return 0
    try:
        images = read_images(options.fashion_mnist, options.n)
    except FileNotFoundError:
        print(f"No Fashion-MNIST in {options.fashion_mnist}: apt install dataset-fashion-mnist, or name its folder.")
        return 2
    every = registry.names("encoder")
    with tempfile.TemporaryDirectory() as scratch:
        found = all_figures(options.only or every, images, options.photos, Path(scratch))
    left_out = dict.fromkeys(name for name in every if name not in found)
    met = found["hog"]["total_s"] if "hog" in found and len(images) == 60_000 else None
    goals = {"imagenet_goal_s": GOAL_IMAGENET_SECONDS, "photos_goal_s": GOAL_PHOTOS_SECONDS}
    print(
        json.dumps({"n": len(images), "hog_goal_s": GOAL_HOG_SECONDS, "hog_60000_s": met, **goals, **left_out, **found})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
