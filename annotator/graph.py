"""Features to a symmetric nearest-neighbour affinity graph. Knows vectors only: no images, no labels.

Neighbours are exact (every pair is compared). Two images are joined where either is among the other's `n_neighbors`
nearest, with the self-tuned weight exp(-d_ij**2 / (s_i * s_j)), s_i being the distance from i to the last of its
neighbours (Zelnik-Manor & Perona, "Self-tuning spectral clustering", NIPS 2004). The weight is the same seen from
both ends, so the union of both directions is symmetric as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from annotator.types import FeatureArray, FloatArray, IntArray, Report, SparseMatrix, silent

QUERIES_PER_CHUNK = 2048
SPARE = 8  # neighbours looked up beyond those kept: equal distances are then settled by row, not by rounding
MIN_WEIGHT = 1e-6  # an outlier stays joined to its neighbours, however dense they are; W stays well conditioned
MAX_THREADS = 2


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """The pool's affinities, and what it takes to join new images to it."""

    features: FeatureArray
    affinity: SparseMatrix
    """(n_images, n_images) csr_array float64: symmetric, zero diagonal, weights in [1e-6, 1]."""
    scales: FloatArray
    """(n_images,) the distance s_i to the last neighbour, > 0."""
    n_neighbors: int

    def connect(self, features: FeatureArray) -> SparseMatrix:
        """Weights of new images' nearest in the pool: (n, n_features) -> (n, n_images) csr_array float64."""
        if not len(features):
            return scipy.sparse.csr_array((0, len(self.features)))
        count = min(self.n_neighbors, len(self.features))
        neighbors, squared = _nearest(self._index, self.features, features, count, silent)
        last = np.sqrt(squared[:, -1])
        scales = np.where(last > 0, last, self.scales[neighbors[:, 0]])
        weights = _weights(squared, scales, self.scales[neighbors])
        return _matrix(weights, neighbors, len(self.features))

    def save(self, folder: Path) -> None:
        """Write the parts as .npy files under `folder`; the features are the caller's."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "weights.npy", self.affinity.data)
        np.save(folder / "neighbors.npy", self.affinity.indices)
        np.save(folder / "starts.npy", self.affinity.indptr)
        np.save(folder / "scales.npy", self.scales)
        np.save(folder / "n_neighbors.npy", np.array(self.n_neighbors))

    @classmethod
    def load(cls, folder: Path, features: FeatureArray) -> NeighborGraph:
        """What `save` wrote, memory-mapped, over the same features."""
        weights, neighbors, starts, scales = (
            np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False)
            for part in ("weights", "neighbors", "starts", "scales")
        )
        shape = (len(features), len(features))
        affinity = scipy.sparse.csr_array((weights, neighbors, starts), shape=shape, copy=False)
        return cls(features, affinity, scales, int(np.load(folder / "n_neighbors.npy", allow_pickle=False)))

    @cached_property
    def _index(self) -> Any:  # faiss ships no types
        return _build_index(self.features)


def build_graph(features: FeatureArray, n_neighbors: int = 10, report: Report = silent) -> NeighborGraph:
    """(n_images, n_features) float32 -> its graph; the same features give the same graph, bit for bit.

    Copies (distance 0) have weight 1. An image whose neighbours are all copies takes the median scale of the others.
    A pool of up to `n_neighbors` images is joined completely.
    """
    n_images = len(features)
    count = min(n_neighbors, n_images - 1)
    if count < 1:
        empty = scipy.sparse.csr_array((n_images, n_images))
        return NeighborGraph(features, empty, np.ones(n_images), n_neighbors)
    neighbors, squared = _nearest(_build_index(features), features, None, count, report)
    scales = _scales(np.sqrt(squared[:, -1]))
    weights = _weights(squared, scales, scales[neighbors])
    directed = _matrix(weights, neighbors, n_images)
    affinity = scipy.sparse.csr_array(directed.maximum(directed.T))
    affinity.sort_indices()
    return NeighborGraph(features, affinity, scales, n_neighbors)


def _build_index(features: FeatureArray) -> Any:  # faiss ships no types
    import faiss  # slow to load, and a graph from the cache does without until new images come

    faiss.omp_set_num_threads(min(MAX_THREADS, faiss.omp_get_max_threads()))
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(np.ascontiguousarray(features, dtype=np.float32))
    return index


def _nearest(
    index: Any,  # faiss ships no types
    pool: FeatureArray,
    queries: FeatureArray | None,
    count: int,
    report: Report,
) -> tuple[IntArray, FloatArray]:
    """Rows of the `count` nearest and their squared distances, both (n_queries, count), nearest first.

    Without `queries` the pool asks about itself, and no row is its own neighbour.
    """
    asked = pool if queries is None else queries
    neighbors = np.empty((len(asked), count), dtype=np.int64)
    squared = np.empty((len(asked), count))
    for start in range(0, len(asked), QUERIES_PER_CHUNK):
        chunk = slice(start, start + QUERIES_PER_CHUNK)
        _, found = index.search(np.ascontiguousarray(asked[chunk], dtype=np.float32), min(count + SPARE, len(pool)))
        distances = _squared_distances(asked[chunk], pool, found)
        if queries is None:
            own = np.arange(start, start + len(found))[:, None]
            distances[found == own] = np.inf
        order = np.lexsort((found, distances))[:, :count]
        neighbors[chunk] = np.take_along_axis(found, order, axis=1)
        squared[chunk] = np.take_along_axis(distances, order, axis=1)
        report("Finding neighbours", min(chunk.stop, len(asked)), len(asked))
    return neighbors, squared


def _squared_distances(queries: FeatureArray, pool: FeatureArray, found: IntArray) -> FloatArray:
    """Exact where the index's are not: it subtracts squared lengths, so copies come out a little apart."""
    differences = pool[found].astype(np.float64) - queries[:, None].astype(np.float64)
    return np.asarray(np.einsum("nkd,nkd->nk", differences, differences))


def _scales(last: FloatArray) -> FloatArray:
    positive = last[last > 0]
    return np.where(last > 0, last, np.median(positive) if positive.size else 1.0)


def _weights(squared: FloatArray, scales: FloatArray, neighbor_scales: FloatArray) -> FloatArray:
    """(n, k) squared distances with the scales of both ends -> (n, k) weights."""
    return np.maximum(np.exp(-squared / (scales[:, None] * neighbor_scales)), MIN_WEIGHT)


def _matrix(weights: FloatArray, neighbors: IntArray, n_columns: int) -> SparseMatrix:
    n_rows, count = neighbors.shape
    starts = np.arange(0, n_rows * count + 1, count, dtype=np.int32)
    columns = neighbors.ravel().astype(np.int32)
    matrix = scipy.sparse.csr_array((weights.ravel(), columns, starts), shape=(n_rows, n_columns))
    matrix.sort_indices()
    return matrix
