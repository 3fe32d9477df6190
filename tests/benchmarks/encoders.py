"""Seconds to encode and connect Fashion-MNIST's 60,000 images, each beside a plain peer in the same run.

Peers: for pixels scikit-learn's PCA on the flattened images; for hog a loop over images and pixels' cells as one
would first write it (on a few hundred images, scaled up); for the graph scikit-learn's exact neighbours by brute force
on a sample of the pool's images (scaled up), which is also what recall is measured against. The encoder imagenet has no
peer: it is measured on the same images, and on as many photos of 128 px as --photos says; TensorFlow's start counts.

    python -m tests.benchmarks.encoders [--n 60000] [--photos 10000] [--fashion-mnist FOLDER]
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from annotator.encoders.hog import Hog
from annotator.encoders.imagenet import Imagenet
from annotator.encoders.pixels import Pixels
from annotator.graph import NeighborGraph, build_graph
from annotator.types import Encoder, FeatureArray, FloatArray, ImageArray

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28
N_LOOP = 300
N_RECALL = 1000
GOAL_HOG_SECONDS = 10.0
GOAL_IMAGENET_SECONDS, GOAL_PHOTOS_SECONDS = 120.0, 240.0

Figures = dict[str, float | int | str | None]
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


def encoder_figures(encoder: Encoder, images: ImageArray) -> tuple[FeatureArray, Figures]:
    fit_seconds, fitted = timed(lambda: encoder.fit(images, np.random.default_rng(0)))
    encode_seconds, features = timed(lambda: fitted.encode(images))
    return features, {"fit_s": fit_seconds, "encode_s": encode_seconds, "total_s": fit_seconds + encode_seconds}


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
    print(f"{name:12s}", "  ".join(parts), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=60_000, help="how many images (at least 100)")
    parser.add_argument("--fashion-mnist", type=Path, default=FOLDER, metavar="FOLDER", help="the four IDX files")
    parser.add_argument("--photos", type=int, default=10_000, help="how many photos of 128 px for imagenet")
    options = parser.parse_args()
    try:
        images = read_images(options.fashion_mnist, options.n)
    except FileNotFoundError:
        print(f"No Fashion-MNIST in {options.fashion_mnist}: apt install dataset-fashion-mnist, or name its folder.")
        return 2
    figures: dict[str, Figures] = {}
    for name, encoder, peer in (("pixels", Pixels(), pca_figures), ("hog", Hog(), loop_figures)):
        features, own = encoder_figures(encoder, images)
        figures[name] = own | peer(images)
        show(name, figures[name])
        figures[f"graph_{name}"] = graph_figures(features)
        show(f"graph_{name}", figures[f"graph_{name}"])
    for name, pool in (("imagenet", images), ("imagenet_photos", photos(options.photos))):
        features, figures[name] = encoder_figures(Imagenet(), pool)
        show(name, figures[name])
    met = figures["hog"]["total_s"] if len(images) == 60_000 else None
    goals = {"imagenet_goal_s": GOAL_IMAGENET_SECONDS, "photos_goal_s": GOAL_PHOTOS_SECONDS}
    print(json.dumps({"n": len(images), "hog_goal_s": GOAL_HOG_SECONDS, "hog_60000_s": met, **goals, **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
