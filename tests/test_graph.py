"""The neighbour graph against brute force, and the pools that break such graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.csgraph
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.errors import Cancelled
from annotator.graph import MIN_WEIGHT, NeighborGraph, build_graph
from annotator.types import FeatureArray, FloatArray


def features(n: int, n_features: int = 6, seed: int = 0) -> FeatureArray:
    return np.random.default_rng(seed).normal(size=(n, n_features)).astype(np.float32)


def brute_force(points: FeatureArray, k: int) -> FloatArray:
    """The module's formula, pair by pair."""
    exact = points.astype(np.float64)
    squared = ((exact[:, None] - exact[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    nearest = np.argsort(squared, axis=1, kind="stable")[:, :k]
    scales = np.sqrt(np.take_along_axis(squared, nearest, axis=1)[:, -1])
    joined = np.zeros(squared.shape, dtype=bool)
    np.put_along_axis(joined, nearest, True, axis=1)
    weights = np.maximum(np.exp(-squared / np.outer(scales, scales)), MIN_WEIGHT)
    return np.where(joined | joined.T, weights, 0.0)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(12, 60), k=st.integers(1, 11), seed=st.integers(0, 10_000))
def test_the_graph_is_brute_forces(n: int, k: int, seed: int) -> None:
    """Neighbours and weights are those of comparing every pair in double precision."""
    points = features(n, seed=seed)
    np.testing.assert_allclose(build_graph(points, k).affinity.toarray(), brute_force(points, k), rtol=1e-12)


def test_affinities_are_symmetric_bounded_and_without_a_diagonal() -> None:
    """Exactly symmetric, bit for bit; every image has its neighbours at least."""
    affinity = build_graph(features(300), 7).affinity
    assert (affinity != affinity.T).nnz == 0
    assert not affinity.diagonal().any()
    assert affinity.data.min() >= MIN_WEIGHT
    assert affinity.data.max() <= 1
    assert np.diff(affinity.indptr).min() >= 7
    assert affinity.dtype == np.float64


def test_the_same_features_give_the_same_graph_bit_for_bit() -> None:
    """Ties (points of a lattice) are settled by row, not by chance."""
    lattice = np.stack(np.meshgrid(*[np.arange(9.0)] * 3), axis=-1).reshape(-1, 3).astype(np.float32)
    first, again = build_graph(lattice, 5).affinity, build_graph(lattice.copy(), 5).affinity
    assert np.array_equal(first.indices, again.indices)
    assert np.array_equal(first.data, again.data)


def test_of_equally_near_images_the_first_row_is_the_neighbour() -> None:
    """Four points at distance 1 from the first: the two of lowest row are taken."""
    points = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
    own = build_graph(points, 2).connect(np.zeros((1, 2), dtype=np.float32))
    assert list(own.indices) == [0, 1]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 11])
def test_tiny_pools_have_a_graph(n: int) -> None:
    """Up to `n_neighbors` images every pair is joined; one image alone has no edge."""
    graph = build_graph(features(n), 10)
    assert graph.affinity.shape == (n, n)
    assert graph.affinity.nnz == n * (n - 1)
    assert np.isfinite(graph.affinity.data).all()


def test_copies_are_joined_with_weight_one() -> None:
    """Distances are exact: copies are at 0, wherever they lie in feature space."""
    points = features(40) + np.float32(1000)
    points[17] = points[3]
    assert build_graph(points, 4).affinity[3, 17] == 1.0


def test_many_copies_neither_divide_by_zero_nor_vanish() -> None:
    """More copies than neighbours: their scale would be 0, all weights stay in (0, 1]."""
    points = features(60)
    points[:25] = points[0]
    graph = build_graph(points, 5)
    assert np.isfinite(graph.affinity.data).all()
    assert (graph.scales > 0).all()
    everything = build_graph(np.ones((30, 3), dtype=np.float32), 5)
    assert set(everything.affinity.data) == {1.0}


def test_an_outlier_beside_a_dense_cluster_stays_joined() -> None:
    """exp() would underflow to no edge at all; the least weight keeps one component."""
    points = np.vstack([features(50) * np.float32(1e-4), np.full((1, 6), 100, dtype=np.float32)])
    graph = build_graph(points, 5)
    assert scipy.sparse.csgraph.connected_components(graph.affinity, directed=False)[0] == 1
    assert graph.affinity[[50]].data.min() == MIN_WEIGHT


def test_a_new_image_is_joined_as_one_of_the_pool_would_be() -> None:
    """A copy of a pool image has weight 1 to it; weights follow the pool's scales and the new image's own."""
    points = features(80)
    graph = build_graph(points, 6)
    new = features(5, seed=9)
    weights = graph.connect(np.vstack([points[[33]], new]))
    assert weights.shape == (6, 80)
    assert weights[0, 33] == 1.0
    assert list(np.diff(weights.indptr)) == [6] * 6
    distances = np.linalg.norm(points.astype(np.float64) - new[0].astype(np.float64), axis=1)
    nearest = np.argsort(distances)[:6]
    expected = np.exp(-(distances[nearest] ** 2) / (distances[nearest[-1]] * graph.scales[nearest]))
    np.testing.assert_allclose(weights[[1]].toarray()[0, nearest], expected, rtol=1e-10)


def test_connecting_needs_no_particular_pool() -> None:
    """A pool of one, a pool of copies, and no new images at all."""
    one = build_graph(features(1), 10)
    assert one.connect(features(3, seed=1)).shape == (3, 1)
    copies = build_graph(np.ones((30, 3), dtype=np.float32), 5)
    assert set(copies.connect(np.ones((2, 3), dtype=np.float32)).data) == {1.0}
    assert one.connect(features(0)).shape == (0, 1)


def test_a_saved_graph_is_the_same_memory_mapped(tmp_path: Path) -> None:
    """Loading copies nothing and changes nothing; the loaded graph connects as the first one did."""
    points = features(70)
    graph = build_graph(points, 6)
    graph.save(tmp_path / "graph")
    loaded = NeighborGraph.load(tmp_path / "graph", points)
    assert (loaded.affinity != graph.affinity).nnz == 0
    assert loaded.n_neighbors == 6
    assert not loaded.affinity.data.flags.writeable
    new = features(4, seed=2)
    assert (loaded.connect(new) != graph.connect(new)).nnz == 0


def test_progress_is_told_and_a_stop_is_heeded() -> None:
    """The last report says all is done; what `report` raises ends the work."""
    told: list[tuple[int, int]] = []
    build_graph(features(5000, 3), 4, lambda stage, done, total: told.append((done, total)))
    assert told[-1] == (5000, 5000)
    assert len(told) > 1

    def stop(stage: str, done: int, total: int) -> None:
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        build_graph(features(50), 4, stop)
