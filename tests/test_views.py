"""Larger views of photos for the encoders that ask for them; for all others nothing changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator.errors import Cancelled
from annotator.ingest import Ingested, ingest
from annotator.sources.arrays import Arrays
from annotator.sources.folder import Folder
from annotator.views import views_of


def pictures(folder: Path, *sizes: tuple[int, int]) -> None:
    """PNG files of these (width, height): dark above, more so the first ones, and orange below."""
    folder.mkdir()
    for number, (width, height) in enumerate(sizes):
        pixels = np.full((height, width, 3), (200, 60, 30), dtype=np.uint8)
        pixels[: height // 2] = 10 * number
        Image.fromarray(pixels).save(folder / f"{number}.png")


def imported(tmp_path: Path, *sizes: tuple[int, int]) -> Ingested:
    pictures(tmp_path / "pictures", *sizes)
    return ingest(Folder(str(tmp_path / "pictures")), tmp_path / "cache")


def left(pool: Ingested) -> list[str]:
    return sorted(path.name for path in pool.folder.iterdir() if "views" in path.name)


def test_photos_are_seen_larger(tmp_path: Path) -> None:
    """At the side asked for, in the pool's order, in their proportions; the import's own views stay as they are."""
    pool = imported(tmp_path, (400, 400), (200, 100), (30, 20))
    before = pool.views.copy()
    views = views_of(pool, 128)
    assert views.shape == (3, 128, 128, 3)
    assert views.dtype == np.uint8
    for number, view in enumerate(views):
        middle = view[[45, 80], 64].astype(int)
        np.testing.assert_allclose(middle, [[10 * number] * 3, [200, 60, 30]], atol=12)
    np.testing.assert_array_equal(pool.views, before)


def test_larger_views_are_made_once(tmp_path: Path) -> None:
    """Asked again they are opened, also when the photos are gone."""
    pool = imported(tmp_path, (100, 100), (90, 120))
    views, made = views_of(pool, 128).copy(), (pool.folder / "views-128.npy").stat().st_mtime_ns
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    np.testing.assert_array_equal(views_of(pool, 128), views)
    assert (pool.folder / "views-128.npy").stat().st_mtime_ns == made
    assert left(pool) == ["views-128.npy", "views.npy"]


@pytest.mark.parametrize("side", [32, 64])
def test_no_larger_view_than_the_imports_own_is_none_at_all(tmp_path: Path, side: int) -> None:
    """Views are made larger only."""
    pool = imported(tmp_path, (100, 100))
    assert views_of(pool, side) is pool.views


def test_small_pictures_and_arrays_are_not_enlarged(tmp_path: Path) -> None:
    """They have no more to show than the views that they have."""
    small = imported(tmp_path, (64, 64), (28, 28))
    np.savez(tmp_path / "array.npz", images=np.zeros((3, 200, 200), dtype=np.uint8))
    array = ingest(Arrays(str(tmp_path / "array.npz")), tmp_path / "cache")
    for pool in (small, array):
        assert views_of(pool, 128) is pool.views
        assert left(pool) == ["views.npy"]


def test_a_stop_leaves_no_half_written_views(tmp_path: Path) -> None:
    """Nor a draft of them; the next one who asks gets them whole."""
    pool = imported(tmp_path, (100, 100), (90, 120))

    def stop(stage: str, done: int, total: int) -> None:
        if done == total:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        views_of(pool, 128, stop)
    assert left(pool) == ["views.npy"]
    assert len(views_of(pool, 128)) == 2
