"""The neighbour graph against brute force, and the pools that break such graphs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.csgraph
from hypothesis import given, settings
from hypothesis import strategies as st

from annotator.errors import Cancelled, FeatureError
from annotator.graph import EXACT_UP_TO, GOOD_RECALL, MIN_WEIGHT, NeighborGraph, build_graph, frame_of
from annotator.types import FeatureArray, FloatArray, SparseMatrix


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


# ---- pools too large to compare every pair


@pytest.fixture(scope="module")
def large_points() -> FeatureArray:
    """Just too many to be exact, in clusters as features are, with a few copies among them."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, 8))
    points = (centers[rng.integers(0, 40, EXACT_UP_TO + 500)] + 0.3 * rng.normal(size=(EXACT_UP_TO + 500, 8))).astype(
        np.float32
    )
    points[100:105] = points[7]
    return points


@pytest.fixture(scope="module")
def large_graph(large_points: FeatureArray) -> NeighborGraph:
    return build_graph(large_points, 10)


def test_a_large_pool_finds_most_of_its_neighbours(large_points: FeatureArray, large_graph: NeighborGraph) -> None:
    """The recall that the graph states is what brute force says of other rows, and high enough."""
    rows = np.arange(0, len(large_points), 97)
    found = 0
    for row in rows:
        squared = ((large_points - large_points[row]).astype(np.float64) ** 2).sum(axis=1)
        squared[row] = np.inf
        nearest = np.argsort(squared, kind="stable")[:10]
        found += len(np.intersect1d(nearest, large_graph.affinity[[int(row)]].indices))
    assert large_graph.recall >= GOOD_RECALL
    assert f"{100 * large_graph.recall:.1f} % of the true ones" in large_graph.description
    assert found / (10 * len(rows)) > GOOD_RECALL - 0.03


def test_a_large_pools_graph_is_of_the_same_kind(large_points: FeatureArray, large_graph: NeighborGraph) -> None:
    """Symmetric, bounded, without a diagonal, copies at weight 1; built again it is the same, bit for bit."""
    affinity = large_graph.affinity
    assert (affinity != affinity.T).nnz == 0
    assert not affinity.diagonal().any()
    assert MIN_WEIGHT <= affinity.data.min() <= affinity.data.max() <= 1
    assert np.diff(affinity.indptr).min() >= 10
    assert affinity[100, 103] == 1.0
    again = build_graph(large_points.copy(), 10).affinity
    np.testing.assert_array_equal(again.indices, affinity.indices)
    np.testing.assert_array_equal(again.data, affinity.data)


def test_a_large_graph_from_the_cache_connects_without_building(
    large_points: FeatureArray, large_graph: NeighborGraph, tmp_path: Path
) -> None:
    """What finds neighbours is kept beside the graph: the same weights for new images, and room for more."""
    large_graph.save(tmp_path)
    loaded = NeighborGraph.load(tmp_path, large_points)
    assert loaded.recall == large_graph.recall
    new = large_points[:50] + np.float32(0.01)
    expected = large_graph.connect(new)
    assert (loaded.connect(new) != expected).nnz == 0
    assert (loaded.appended(new).affinity != large_graph.appended(new).affinity).nnz == 0


@pytest.mark.parametrize("n_images", [70, EXACT_UP_TO + 1])
def test_a_loaded_graph_outlives_its_files(large_points: FeatureArray, tmp_path: Path, n_images: int) -> None:
    """The cache may be deleted while its project is open: the graph is whole, and connects new images as before."""
    points = large_points[:n_images]
    graph = build_graph(points, 6)
    graph.save(tmp_path / "graph")
    loaded = NeighborGraph.load(tmp_path / "graph", points)
    shutil.rmtree(tmp_path / "graph")
    assert (loaded.affinity != graph.affinity).nnz == 0
    new = large_points[:20] + np.float32(0.01)
    assert (loaded.connect(new) != graph.connect(new)).nnz == 0
    assert (loaded.appended(new).affinity != graph.appended(new).affinity).nnz == 0


def test_a_large_graph_that_has_connected_outlives_its_files(
    large_points: FeatureArray, large_graph: NeighborGraph, tmp_path: Path
) -> None:
    """What is mapped already is read on, and copied by building it anew."""
    large_graph.save(tmp_path / "graph")
    loaded = NeighborGraph.load(tmp_path / "graph", large_points)
    new = large_points[:20] + np.float32(0.01)
    loaded.connect(new)
    shutil.rmtree(tmp_path / "graph")
    assert (loaded.connect(new) != large_graph.connect(new)).nnz == 0
    assert (loaded.appended(new).affinity != large_graph.appended(new).affinity).nnz == 0


def test_copies_beyond_counting_have_neighbours() -> None:
    """More copies than any cell is made for: everybody still has neighbours, all at weight 1."""
    points = np.ones((EXACT_UP_TO + 1, 2), dtype=np.float32)
    graph = build_graph(points, 3)
    assert np.diff(graph.affinity.indptr).min() >= 3
    assert set(graph.affinity.data) == {1.0}
    assert graph.recall == 1.0
    assert "exact" in graph.description


# ---- images that come later


@pytest.mark.parametrize("n_old", [1, 4, 60])
def test_images_can_be_appended(n_old: int) -> None:
    """Nothing changes among those that were there; each new one is joined to its nearest of all, by the formula."""
    points = features(n_old + 9, seed=3)
    before = build_graph(points[:n_old], 5)
    grown = before.appended(points[n_old:])
    np.testing.assert_array_equal(grown.features, points)
    assert (grown.affinity[:n_old][:, :n_old] != before.affinity).nnz == 0
    assert (grown.affinity != grown.affinity.T).nnz == 0
    assert not grown.affinity.diagonal().any()
    exact = points.astype(np.float64)
    for row in range(n_old, n_old + 9):
        distances = np.linalg.norm(exact - exact[row], axis=1)
        nearest = np.argsort(distances, kind="stable")[1 : min(5, n_old + 8) + 1]
        assert set(nearest) <= set(grown.affinity[[row]].indices)
        weights = np.exp(-(distances[nearest] ** 2) / (grown.scales[row] * grown.scales[nearest]))
        np.testing.assert_allclose(grown.affinity[[row]].toarray()[0, nearest], np.maximum(weights, MIN_WEIGHT))


def test_appending_may_go_on() -> None:
    """Two by two as well as all at once, and nothing at all; new images connect to what came last."""
    points = features(50, seed=4)
    graph = build_graph(points[:40], 5)
    assert graph.appended(features(0)) is graph
    grown = graph
    for start in range(40, 50, 2):
        grown = grown.appended(points[start : start + 2])
    assert grown.affinity.shape == (50, 50)
    assert grown.connect(points[[49]])[0, 49] == 1.0


# ---- features that are no numbers, too large, or far from zero

UNUSABLE = [
    (2e19, "FEAT_TOO_LARGE"),
    (1e20, "FEAT_TOO_LARGE"),
    (-3.4e38, "FEAT_TOO_LARGE"),
    (1e300, "FEAT_TOO_LARGE"),
    (np.inf, "FEAT_NOT_FINITE"),
    (-np.inf, "FEAT_NOT_FINITE"),
    (np.nan, "FEAT_NOT_FINITE"),
]


def with_one(value: float, n: int = 40) -> FloatArray:
    """Row 7 has it as its feature 2, in double precision where single has no room for it."""
    points = features(n).astype(np.float64)
    points[7, 2] = value
    return points if abs(value) == 1e300 else points.astype(np.float32)


@pytest.mark.parametrize(("value", "code"), UNUSABLE)
@pytest.mark.parametrize("way", ["build", "connect", "append"])
def test_features_without_distances_are_refused(value: float, code: str, way: str) -> None:
    """P4: one such number and faiss answers row -1, which a sparse matrix writes before its memory."""
    points = with_one(value)
    ways = {
        "build": lambda: build_graph(points, 5),
        "connect": lambda: build_graph(features(30), 5).connect(points),
        "append": lambda: build_graph(features(30), 5).appended(points),
    }
    with pytest.raises(FeatureError, match=r"Feature 2 of row \d") as raised:
        ways[way]()
    assert raised.value.code == code
    assert isinstance(raised.value, ValueError)


def test_an_image_alone_is_looked_at_too() -> None:
    """P4: a pool of one has no edge; a number that is none is told all the same, not when the next image comes."""
    with pytest.raises(FeatureError, match="Feature 2 of row 0"):
        build_graph(with_one(np.inf)[7:8], 5)


def test_features_of_another_length_are_refused() -> None:
    """P4: faiss would read past the end of what it is given, or stop with an assertion."""
    graph = build_graph(features(30), 5)
    for wrong in (features(4, 5), features(4, 7), features(4)[:, 0]):
        for ask in (graph.connect, graph.appended):
            with pytest.raises(FeatureError, match="rows with 6 columns") as raised:
                ask(wrong)
            assert raised.value.code == "FEAT_SHAPE"
    with pytest.raises(FeatureError, match="a column or more"):
        build_graph(features(30, 0), 5)


def test_the_largest_features_that_are_accepted_have_the_right_graph() -> None:
    """P4: up to the stated length neighbours are those of double precision."""
    points = features(60)
    huge = points * np.float32(2.0**57)
    assert np.linalg.norm(huge, axis=1).max() < 1e18
    np.testing.assert_array_equal(build_graph(huge, 5).affinity.indices, build_graph(points, 5).affinity.indices)


@pytest.mark.parametrize("n", [300, EXACT_UP_TO + 200])
def test_an_offset_changes_no_neighbour(n: int, tmp_path: Path) -> None:
    """P11: far from zero faiss's inner products cancel every digit; also loaded again, for new and appended images."""
    points = np.round(features(n) * 64) / np.float32(64)  # what single precision still holds beside the offset
    far = points + np.float32(65_536)
    graph, moved = build_graph(points[:-20], 5), build_graph(far[:-20], 5)
    assert graph.frame is None
    assert _shared(moved.affinity, graph.affinity) > 0.99
    moved.save(tmp_path)
    for later in (moved, NeighborGraph.load(tmp_path, far[:-20])):
        assert _shared(later.connect(far[-20:]), graph.connect(points[-20:])) > 0.99
        assert _shared(later.appended(far[-20:]).affinity, graph.appended(points[-20:]).affinity) > 0.99


def _shared(found: SparseMatrix, expected: SparseMatrix) -> float:
    """Share of the expected edges that were found with the same weight, to 1e-6."""
    same = abs(found - expected) > 1e-6
    return 1 - float(same.nnz) / float(expected.nnz)


def test_rows_far_from_the_rest_do_not_move_the_centre() -> None:
    """P11: one row at zero in a pool of timestamps; its neighbours are as near as they were."""
    points = features(200).astype(np.float64) + 1.7e9
    points[11] = 0
    frame = frame_of(points)
    assert frame is not None
    assert np.abs(frame.centre - 1.7e9).max() < 1
    assert frame.scale == 1
    assert frame_of(features(200)) is None
    assert frame_of(features(0)) is None


@pytest.mark.parametrize("n", [300, EXACT_UP_TO + 200])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_scale_changes_no_neighbour(n: int, scale: float, tmp_path: Path) -> None:
    """P4: squares below single precision are zero, so that everything would be a copy of everything."""
    points = features(n)
    scaled = points * np.float32(scale)
    graph, other = build_graph(points[:-20], 5), build_graph(scaled[:-20], 5)
    other.save(tmp_path)
    loaded = NeighborGraph.load(tmp_path, scaled[:-20])
    assert _shared(other.affinity, graph.affinity) > 0.97
    assert _shared(loaded.connect(scaled[-20:]), graph.connect(points[-20:])) > 0.97
    assert _shared(loaded.appended(scaled[-20:]).affinity, graph.appended(points[-20:]).affinity) > 0.97
