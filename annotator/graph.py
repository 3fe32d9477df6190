"""Features to a symmetric nearest-neighbour affinity graph. Knows vectors only: no images, no labels.

Up to 10,000 images neighbours are exact (every pair is compared). Above that they come from an inverted file: the pool
is divided into cells around 2 sqrt(n) centroids, and an image is compared with those in the nearest cells. The number
of cells is raised until a sample of images finds 95 % of its true neighbours (Sivic & Zisserman, "Video Google", ICCV
2003; Johnson, Douze & Jegou, "Billion-scale similarity search with GPUs", 2017). The share found is the graph's
`recall`.

Two images are joined where either is among the other's `n_neighbors` nearest, with the self-tuned weight
exp(-d_ij**2 / (s_i * s_j)), s_i being the distance from i to the last of its neighbours (Zelnik-Manor & Perona,
"Self-tuning spectral clustering", NIPS 2004). The weight is the same seen from both ends, so the union of both
directions is symmetric as it is.

`checked` refuses features whose distances single precision cannot represent: faiss would return row -1 for them.
Features that lie far from zero compared with their spread (years, timestamps) are centred in double precision first,
since faiss' inner products would cancel every digit. Features whose squares overflow single precision are scaled.

Longer than other files: both searches, exact and by cells, rest on the same checks, centring and scaling of features,
and neither is right without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotator import npy
from annotator.errors import FeatureError
from annotator.types import FeatureArray, FloatArray, IntArray, Report, SparseMatrix, silent

EXACT_UP_TO = 10_000
REVISION = 2
"""Increased whenever the same features would give another graph."""
QUERIES_PER_CHUNK = 2048
SPARE = 8  # neighbours looked up beyond those kept: equal distances are then settled by row, not by rounding
SPARE_IN_CELLS = 2  # fewer where neighbours are not exact anyway: one is the image itself
MIN_WEIGHT = 1e-6  # an outlier stays joined to its neighbours, however dense they are; W stays well conditioned
MAX_THREADS = 2
GOOD_RECALL = 0.95
N_SAMPLED = 400
FIRST_CELLS, MOST_CELLS = 8, 64
POINTS_PER_CENTROID, TRAINING_TURNS = 48, 5
INDEX_NAME = "index.faiss"
LONGEST = 1e18
"""Length of a row of features up to which squared distances stay within single precision."""
FAR = 16.0
"""Features are centred where their median is further from zero than this many times their spread."""
N_IN_FRAME = 2000
SCALED_BEYOND = 1e12
"""Features that spread by more than this, or by less than one over it, are scaled."""
ROWS_CHECKED = 65_536


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """The pool's affinities, and what is needed to connect new images to it."""

    features: FeatureArray
    affinity: SparseMatrix
    """(n_images, n_images) csr_array float64: symmetric, zero diagonal, weights in [1e-6, 1]."""
    scales: FloatArray
    """(n_images,) the distance s_i to the last neighbour, > 0."""
    n_neighbors: int
    recall: float = 1.0
    """Share of true nearest neighbours that a sample of images found; 1 where every pair was compared."""
    index_file: Path | None = None
    """Where the inverted file of a loaded graph lies."""
    frame: Frame | None = None
    """How features are moved before neighbours are looked up; None where they are taken as they are."""

    @property
    def description(self) -> str:
        """How neighbours were found and how many of them, in a few words for people."""
        how = "exact" if self.recall == 1 else f"{100 * self.recall:.1f} % of the true ones found on a sample"
        return f"{self.n_neighbors} neighbours of each image, {how}"

    def connect(self, features: FeatureArray) -> SparseMatrix:
        """Weights of new images' nearest in the pool: (n, n_features) -> (n, n_images) csr_array float64.

        Raises FeatureError as `checked` does.
        """
        import scipy.sparse  # slow to import, and a graph that is only opened does without

        if not len(features):
            return scipy.sparse.csr_array((0, len(self.features)))
        checked(features, self.frame, self.features.shape[1])
        count = min(self.n_neighbors, len(self.features))
        neighbors, squared = _nearest(self._finder, self.features, features, count, silent)
        weights = _weights(squared, self._scales_of(neighbors, squared), self.scales[neighbors])
        return _matrix(weights, neighbors, len(self.features))

    def appended(self, features: FeatureArray) -> NeighborGraph:
        """The graph with more images, (n_new, n_features), after those it has: they are joined to their nearest.

        Costs what is new. Images that were there keep their neighbours and scales among each other, so after many
        more images than there were a graph built anew is the better one. Raises FeatureError as `checked` does.
        """
        import scipy.sparse  # slow to import

        if not len(features):
            return self
        checked(features, self.frame, self.features.shape[1])
        n_old, n_new = len(self.features), len(features)
        complete = np.concatenate([self.features, np.asarray(features, dtype=self.features.dtype)])
        finder = self._finder_with(features)
        rows = np.arange(n_old, n_old + n_new)
        count = min(self.n_neighbors, n_old + n_new - 1)
        neighbors, squared = _nearest(finder, complete, features, count, silent, rows)
        scales = np.concatenate([self.scales, _scales(np.sqrt(squared[:, -1]))])
        weights = _weights(squared, scales[rows], scales[neighbors])
        joined = _matrix(weights, neighbors, n_old + n_new)
        old = scipy.sparse.csr_array(self.affinity, copy=True)
        old.resize(n_old, n_old + n_new)
        directed = scipy.sparse.csr_array(scipy.sparse.vstack([old, joined]))
        affinity = _symmetric(directed)
        grown = NeighborGraph(complete, affinity, scales, self.n_neighbors, self.recall, frame=self.frame)
        grown.__dict__["_finder"] = finder  # what the cached property would make
        return grown

    def save(self, folder: Path) -> None:
        """Write the parts as files under `folder`; the features are the caller's."""
        folder.mkdir(parents=True, exist_ok=True)
        npy.save(folder / "weights.npy", self.affinity.data)
        npy.save(folder / "neighbors.npy", self.affinity.indices)
        npy.save(folder / "starts.npy", self.affinity.indptr)
        npy.save(folder / "scales.npy", self.scales)
        npy.save(folder / "n_neighbors.npy", np.array(self.n_neighbors))
        npy.save(folder / "recall.npy", np.array(self.recall))
        if self.frame is not None:
            npy.save(folder / "frame.npy", np.append(self.frame.centre, self.frame.scale))
        if len(self.features) > EXACT_UP_TO:
            import faiss  # slow to load

            faiss.write_index(self._finder.index, str(folder / INDEX_NAME))

    @classmethod
    def load(cls, folder: Path, features: FeatureArray) -> NeighborGraph:
        """What `save` wrote, memory-mapped, over the same features."""
        n_neighbors = int(np.load(folder / "n_neighbors.npy", allow_pickle=False))
        # Graphs of earlier versions were exact throughout and had none of these files.
        recall, frame = (_kept(folder / f"{part}.npy") for part in ("recall", "frame"))
        index_file = folder / INDEX_NAME
        graph = _Stored(
            features, None, _mapped(folder, "scales"), n_neighbors, 1.0 if recall is None else float(recall),
            index_file if index_file.exists() else None, None if frame is None else Frame(frame[:-1], float(frame[-1])),
            tuple(_mapped(folder, part) for part in ("weights", "neighbors", "starts")),
        )  # fmt: skip
        del graph.__dict__["affinity"]  # put together on first use
        return graph

    @cached_property
    def _finder(self) -> _Finder:
        if not self._has_index_file:
            return _build_finder(self.features, self.n_neighbors, self.frame)[0]
        import faiss  # slow to load

        faiss.omp_set_num_threads(min(MAX_THREADS, faiss.omp_get_max_threads()))
        index = faiss.read_index(str(self.index_file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        return _Finder(index, self.frame)

    @property
    def _has_index_file(self) -> bool:
        """Whether it is still there: the cache may be deleted at any time."""
        return self.index_file is not None and self.index_file.exists()

    def _finder_with(self, features: FeatureArray) -> _Finder:
        """A copy of what finds neighbours with more images in it."""
        import faiss  # slow to load

        # One that is memory-mapped can be read again, but not cloned.
        if self._has_index_file:
            index = faiss.read_index(str(self.index_file))
        elif self.index_file is None:
            index = faiss.clone_index(self._finder.index)
        else:
            index = _build_finder(self.features, self.n_neighbors, self.frame)[0].index
        index.add(in_frame(features, self.frame))
        return _Finder(index, self.frame)

    def _scales_of(self, neighbors: IntArray, squared: FloatArray) -> FloatArray:
        """(n,) each new image's own scale; that of its copy in the pool where all its neighbours are copies."""
        last = np.sqrt(squared[:, -1])
        return np.where(last > 0, last, self.scales[neighbors[:, 0]])


@dataclass(frozen=True, eq=False)
class _Stored(NeighborGraph):
    """A graph on the disk. Its affinities are put together on first use: scipy.sparse is slow to import, and not needed
    to ask the first images. They are mapped before: the cache may be deleted while its project is open.
    """

    parts: tuple[NDArray[Any], ...] = ()  # Any: float64 weights, whole numbers
    """Of `affinity` as a csr_array: weights, columns, where each row starts."""

    @cached_property  # type: ignore[misc]  # put in the place of the field, which `load` empties
    def affinity(self) -> SparseMatrix:
        """As in any graph, memory-mapped."""
        import scipy.sparse  # slow to import

        return scipy.sparse.csr_array(self.parts, shape=(len(self.features), len(self.features)), copy=False)


@dataclass(frozen=True, eq=False)
class Frame:
    """Shift and scale that bring features near zero: (features - centre) * scale."""

    centre: FloatArray
    """(n_features,)"""
    scale: float


def frame_of(features: NDArray[Any]) -> Frame | None:  # Any: float32 or float64
    """(n, n_features) -> how to bring them near zero; None where they are as single precision wants them.

    By the medians of a sample of rows: a few rows that are far from all others change nothing.
    """
    rows = np.asarray(features[_sample(len(features), N_IN_FRAME)], dtype=np.float64)
    if not rows.size:
        return None
    with np.errstate(all="ignore"):  # `checked` finds what is no number
        middle: FloatArray = np.median(rows, axis=0)
        spread = float(np.linalg.norm(np.median(np.abs(rows - middle), axis=0)))
        is_far = bool(np.linalg.norm(middle) > FAR * spread)
    scale = 1 / spread if 0 < spread < 1 / SCALED_BEYOND or SCALED_BEYOND < spread < np.inf else 1.0
    return Frame(middle, scale) if is_far or scale != 1 else None


def in_frame(features: NDArray[Any], frame: Frame | None) -> FeatureArray:  # Any: float32 or float64
    """Features as single precision takes them, moved in double precision; what overflows is for `checked` to find."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = features if frame is None else (features - frame.centre) * frame.scale
        return np.ascontiguousarray(moved, dtype=np.float32)


def checked(features: NDArray[Any], frame: Frame | None = None, n_features: int | None = None) -> None:  # Any: as above
    """Raises FeatureError where there is no distance to some row of (n, n_features) in single precision.

    That is FEAT_SHAPE for another number of features than the pool has, FEAT_NOT_FINITE, and FEAT_TOO_LARGE.
    """
    if features.ndim != 2 or not features.shape[1] or (n_features or features.shape[1]) != features.shape[1]:
        wanted = f"{n_features} columns, as the pool has" if n_features else "a column or more"
        raise FeatureError(f"Features are rows with {wanted}; these have the shape {features.shape}.", "FEAT_SHAPE")
    for start in range(0, len(features), ROWS_CHECKED):
        rows = in_frame(features[start : start + ROWS_CHECKED], frame)
        lengths = np.einsum("nd,nd->n", rows, rows)
        wrong = np.flatnonzero(~(lengths <= LONGEST**2))
        if wrong.size:
            raise _unusable(features, start + int(wrong[0]))


def _unusable(features: NDArray[Any], row: int) -> FeatureError:  # Any: float32 or float64
    values = np.asarray(features[row], dtype=np.float64)
    is_finite = bool(np.isfinite(values).all())
    column = int(np.abs(values).argmax() if is_finite else np.flatnonzero(~np.isfinite(values))[0])
    where = f"Feature {column} of row {row} (both counted from 0) is {values[column]:g}"
    if is_finite:
        return FeatureError(
            f"{where}: too large for distances in single precision. Scale the features, or leave that row out.",
            "FEAT_TOO_LARGE",
        )
    return FeatureError(
        f"{where}, which is no distance from anything. Mend what makes the features.", "FEAT_NOT_FINITE"
    )


def build_graph(features: FeatureArray, n_neighbors: int = 10, report: Report = silent) -> NeighborGraph:
    """(n_images, n_features) float32 -> its graph; the same features give the same graph, bit for bit.

    Copies (distance 0) have weight 1. An image whose neighbours are all copies takes the median scale of the others.
    A pool of up to `n_neighbors` images is joined completely. Memory at its peak: about 4 KB an image beside the
    features, 10 neighbours each. Raises FeatureError as `checked` does.
    """
    import scipy.sparse  # slow to import

    n_images = len(features)
    frame = frame_of(features)
    checked(features, frame)
    count = min(n_neighbors, n_images - 1)
    if count < 1:
        empty = scipy.sparse.csr_array((n_images, n_images))
        return NeighborGraph(features, empty, np.ones(n_images), n_neighbors, frame=frame)
    finder, recall = _build_finder(features, count, frame, report)
    neighbors, squared = _nearest(finder, features, features, count, report, np.arange(n_images))
    scales = _scales(np.sqrt(squared[:, -1]))
    weights = _weights(squared, scales, scales[neighbors])
    affinity = _symmetric(_matrix(weights, neighbors, n_images))
    graph = NeighborGraph(features, affinity, scales, n_neighbors, recall, frame=frame)
    graph.__dict__["_finder"] = finder  # what the cached property would make
    return graph


@dataclass(frozen=True)
class _Finder:
    """A faiss index, and the centre that is subtracted from features before a search."""

    index: Any  # faiss ships no types
    frame: Frame | None

    @property
    def is_exact(self) -> bool:
        return not hasattr(self.index, "nprobe")

    def find(self, queries: FeatureArray, pool: FeatureArray, wanted: int) -> IntArray:
        """(n_queries, wanted) rows; from all of the pool where the index's cells hold too few.

        Raises FeatureError (FEAT_UNUSABLE) where faiss knows of no neighbour: its -1 must not become a column.
        """
        import faiss  # slow to load

        asked = in_frame(queries, self.frame)
        found: IntArray = self.index.search(asked, wanted)[1]
        short = np.flatnonzero(found[:, -1] < 0)
        if short.size:
            found[short] = faiss.knn(asked[short], in_frame(pool, self.frame), wanted)[1]
        if found.min(initial=0) < 0:
            raise FeatureError("No distance could be measured between some of the features: scale them.")
        return found


def _build_finder(
    features: FeatureArray, count: int, frame: Frame | None, report: Report = silent
) -> tuple[_Finder, float]:
    """Build the index; returns it and its recall."""
    import faiss  # slow to load, and a graph from the cache does without until new images come

    faiss.omp_set_num_threads(min(MAX_THREADS, faiss.omp_get_max_threads()))
    points = in_frame(features, frame)
    flat = faiss.IndexFlatL2(points.shape[1])
    if len(points) <= EXACT_UP_TO:
        flat.add(points)
        return _Finder(flat, frame), 1.0
    report("Parting the pool into cells", 0, len(points))
    index = faiss.IndexIVFFlat(flat, points.shape[1], int(2 * np.sqrt(len(points))))
    index.cp.max_points_per_centroid, index.cp.niter = POINTS_PER_CENTROID, TRAINING_TURNS
    index.train(points[_sample(len(points), index.nlist * POINTS_PER_CENTROID)])
    index.add(points)
    return _Finder(index, frame), _widen(index, points, count)


def _widen(index: Any, points: FeatureArray, count: int) -> float:  # Any: faiss ships no types
    """Raise the number of cells searched until the sample finds enough of its neighbours; returns the recall."""
    import faiss  # slow to load

    rows = _sample(len(points), N_SAMPLED)
    furthest = np.sort(faiss.knn(points[rows], points, count + 1)[0], axis=1)[:, -1:]
    index.nprobe, recall = FIRST_CELLS, 0.0
    while True:
        # A neighbour as near as the last true one is a true one: copies have no order.
        found = index.search(points[rows], count + 1)[0] <= furthest * (1 + 1e-5) + 1e-12
        recall = float(np.clip((found.sum(axis=1) - 1) / count, 0, 1).mean())
        if recall >= GOOD_RECALL or index.nprobe >= MOST_CELLS:
            return recall
        index.nprobe *= 2


def _sample(n: int, size: int) -> IntArray:
    """Rows spread over the pool, the same every time."""
    return np.sort(np.random.default_rng(0).permutation(n)[:size])


def _nearest(
    finder: _Finder,
    pool: FeatureArray,
    queries: FeatureArray,
    count: int,
    report: Report,
    own_rows: IntArray | None = None,
) -> tuple[IntArray, FloatArray]:
    """Rows of the `count` nearest and their squared distances, both (n_queries, count), nearest first.

    Where the queries are rows of the pool, `own_rows` says which: no row is its own neighbour.
    """
    neighbors = np.empty((len(queries), count), dtype=np.int64)
    squared = np.empty((len(queries), count))
    wanted = min(count + (SPARE if finder.is_exact else SPARE_IN_CELLS), len(pool))
    for start in range(0, len(queries), QUERIES_PER_CHUNK):
        chunk = slice(start, start + QUERIES_PER_CHUNK)
        asked = queries[chunk]
        found = finder.find(asked, pool, wanted)
        distances = _squared_distances(
            asked, pool, found, np.float64 if finder.is_exact or finder.frame else np.float32
        )
        if own_rows is not None:
            distances[found == own_rows[chunk, None]] = np.inf
        order = np.lexsort((found, distances))[:, :count]
        neighbors[chunk] = np.take_along_axis(found, order, axis=1)
        squared[chunk] = np.take_along_axis(distances, order, axis=1)
        report("Finding neighbours", min(chunk.stop, len(queries)), len(queries))
    return neighbors, squared


def _squared_distances(queries: FeatureArray, pool: FeatureArray, found: IntArray, precision: type) -> FloatArray:
    """Exact where the index's are not: it subtracts squared lengths, so copies come out a little apart."""
    differences: FloatArray = pool[found].astype(precision, copy=False) - queries[:, None].astype(precision, copy=False)
    return np.asarray(np.einsum("nkd,nkd->nk", differences, differences), dtype=np.float64)


def _symmetric(directed: SparseMatrix) -> SparseMatrix:
    """The union of both directions."""
    import scipy.sparse  # slow to import

    affinity = scipy.sparse.csr_array(directed.maximum(directed.T))
    affinity.sort_indices()
    return affinity


def _scales(last: FloatArray) -> FloatArray:
    positive = last[last > 0]
    return np.where(last > 0, last, np.median(positive) if positive.size else 1.0)


def _weights(squared: FloatArray, scales: FloatArray, neighbor_scales: FloatArray) -> FloatArray:
    """(n, k) squared distances with the scales of both ends -> (n, k) weights."""
    return np.maximum(np.exp(-squared / (scales[:, None] * neighbor_scales)), MIN_WEIGHT)


def _matrix(weights: FloatArray, neighbors: IntArray, n_columns: int) -> SparseMatrix:
    import scipy.sparse  # slow to import

    n_rows, count = neighbors.shape
    starts = np.arange(0, n_rows * count + 1, count, dtype=np.int32)
    columns = neighbors.ravel().astype(np.int32)
    matrix = scipy.sparse.csr_array((weights.ravel(), columns, starts), shape=(n_rows, n_columns))
    matrix.sort_indices()
    return matrix


def _mapped(folder: Path, part: str) -> NDArray[Any]:  # Any: whatever `save` kept
    mapped: NDArray[Any] = np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False)
    return mapped


def _kept(path: Path) -> NDArray[Any] | None:  # Any: whatever `save` kept
    return np.load(path, allow_pickle=False) if path.exists() else None
