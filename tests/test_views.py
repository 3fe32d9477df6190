"""Larger and grey views for the encoders that ask for them; for all others nothing changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotator import registry
from annotator import views as views_module
from annotator.config import Recipe
from annotator.dataset import prepare
from annotator.encoders.autoencoder import Autoencoder
from annotator.encoders.hog import Hog
from annotator.encoders.pixels import Pixels
from annotator.encoders.stored import path_of
from annotator.errors import Cancelled
from annotator.ingest import Ingested, ingest
from annotator.sources.arrays import Arrays
from annotator.sources.folder import Folder
from annotator.types import ImageArray, Report, View, silent
from annotator.views import UnstoredViews, grey, views_of


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
    views = views_of(pool, View(128))
    assert views.shape == (3, 128, 128, 3)
    assert views.dtype == np.uint8
    for number, view in enumerate(views):
        middle = view[[45, 80], 64].astype(int)
        np.testing.assert_allclose(middle, [[10 * number] * 3, [200, 60, 30]], atol=12)
    np.testing.assert_array_equal(pool.views, before)


def test_larger_views_are_made_once(tmp_path: Path) -> None:
    """Asked again they are opened, also when the photos are gone."""
    pool = imported(tmp_path, (100, 100), (90, 120))
    views, made = views_of(pool, View(128)).copy(), (pool.folder / "views-128.npy").stat().st_mtime_ns
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    np.testing.assert_array_equal(views_of(pool, View(128)), views)
    assert (pool.folder / "views-128.npy").stat().st_mtime_ns == made
    assert left(pool) == ["views-128.npy", "views.npy"]


@pytest.mark.parametrize("side", [32, 64])
def test_no_larger_view_than_the_imports_own_is_none_at_all(tmp_path: Path, side: int) -> None:
    """Views are made larger only."""
    pool = imported(tmp_path, (100, 100))
    assert views_of(pool, View(side)) is pool.views


def test_small_pictures_and_arrays_are_not_enlarged(tmp_path: Path) -> None:
    """They have no more to show than the views that they have."""
    small = imported(tmp_path, (64, 64), (28, 28))
    np.savez(tmp_path / "array.npz", images=np.zeros((3, 200, 200), dtype=np.uint8))
    array = ingest(Arrays(str(tmp_path / "array.npz")), tmp_path / "cache")
    for pool in (small, array):
        assert views_of(pool, View(128)) is pool.views
        assert left(pool) == ["views.npy"]


@pytest.mark.parametrize("size", [(100, 20), (64, 30)])
def test_sizes_are_read_once(tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether larger views would show more is kept beside the images; a damaged note is made anew."""
    pool = imported(tmp_path, (20, 20), size)
    shape = views_of(pool, View(128)).shape
    (pool.folder / "views-128.npy").unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(views_module, "_size", None)
        assert views_of(pool, View(128)).shape == shape
    (pool.folder / "views-128.npy").unlink(missing_ok=True)
    (pool.folder / views_module.MORE).write_text("{")
    assert views_of(pool, View(128)).shape == shape


def test_images_are_not_looked_at_where_the_choice_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a dataset again makes no views, and reads no size."""
    pictures(tmp_path / "pictures", (100, 100), (90, 120), (30, 20))
    recipe = Recipe("folder", {"path": str(tmp_path / "pictures")}, encoder="auto", n_neighbors=2)
    first = prepare(recipe, tmp_path / "cache")
    assert first.encoder_parameters == {"choice": "hog"}
    monkeypatch.setattr("annotator.dataset.views_of", lambda *_: pytest.fail("It looked."))
    again = prepare(replace(recipe, encoder_parameters=first.encoder_parameters), tmp_path / "cache")
    assert again.folder == first.folder


def test_a_stop_leaves_no_half_written_views(tmp_path: Path) -> None:
    """Nor a draft of them; the next one who asks gets them whole."""
    pool = imported(tmp_path, (100, 100), (90, 120))

    def stop(stage: str, done: int, total: int) -> None:
        if done == total:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        views_of(pool, View(128), stop)
    assert left(pool) == ["views.npy"]
    assert len(views_of(pool, View(128))) == 2


# ---- in grey


def coloured(n: int, side: int) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def test_grey_is_luminance_and_leaves_grey_as_it_is() -> None:
    """As Pillow converts; every grey value is its own luminance."""
    images = coloured(2, 40)
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
    np.testing.assert_array_equal(grey(images)[..., 0], expected)
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(grey(every.repeat(3, axis=3)), every)


@pytest.mark.parametrize("side", [64, 128])
def test_photos_are_seen_in_grey(tmp_path: Path, side: int) -> None:
    """The luminance of the views in colour, at either size; made once."""
    pool = imported(tmp_path, (200, 100), (30, 20))
    np.testing.assert_array_equal(views_of(pool, View(side, 1)), grey(views_of(pool, View(side))))
    assert f"views-{side}-grey.npy" in left(pool)


def test_arrays_are_seen_in_grey_at_their_own_size(tmp_path: Path) -> None:
    """Stored in colour they are converted; in grey, they are what they are."""
    for images in (coloured(3, 20), coloured(3, 20)[..., 0]):
        np.savez(tmp_path / "array.npz", images=images)
        pool = ingest(Arrays(str(tmp_path / "array.npz")), tmp_path / "cache")
        views = views_of(pool, View(128, 1))
        assert views.shape == (3, 20, 20, 1)
        assert (views is pool.views) == (images.ndim == 3)


class Shallow(Autoencoder):
    """The autoencoder, whose training is left out: what it is given is what is tested."""

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> Any:  # Any: no autoencoder
        """The pixels, in the channels that they come in."""
        return Pixels().fit(images, rng, report)

    def load(self, folder: Path) -> Any:  # Any: as above
        """As `fit`."""
        return Pixels().load(folder)


@pytest.mark.parametrize(("colour", "n_channels"), [("true", 3), ("false", 1)])
def test_the_autoencoder_sees_grey_where_it_is_told_to(
    tmp_path: Path, colour: str, n_channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pool in colour its network then has a third of the values to give back; people see it in colour."""
    monkeypatch.setitem(registry.BUILT_IN["encoder"], "shallow", f"{__name__}:Shallow")
    np.savez(tmp_path / "array.npz", images=coloured(20, 6))
    recipe = Recipe("arrays", {"path": str(tmp_path / "array.npz")}, None, None, "shallow", {"colour": colour}, 3)
    prepared = prepare(recipe, tmp_path / "cache")
    assert Shallow().load(prepared.folder / "encoder").shape == (6, 6, n_channels)
    assert prepared.dataset.images.shape[3] == 3


# ---- too large to keep


@pytest.mark.parametrize("view", [View(128), View(128, 1), View(64, 1)])
def test_views_too_large_to_keep_are_made_where_they_are_read(
    tmp_path: Path, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images, by slices, rows and all of them; nothing is written, and encoders see no difference."""
    pool = imported(tmp_path, (100, 100), (90, 120), (300, 40), (64, 64), (20, 70))
    monkeypatch.setattr(views_module, "MOST_BYTES", 5 * 63 * 63)
    unstored = views_of(pool, view)
    assert isinstance(unstored, UnstoredViews)
    assert left(pool) == ["views.npy"]
    monkeypatch.undo()
    kept = views_of(pool, view)
    assert (unstored.shape, unstored.dtype, len(unstored)) == (kept.shape, kept.dtype, 5)
    for which in (slice(1, 4), slice(3, 99), np.array([4, 0, 0]), np.array([], dtype=np.int64), 2, -1):
        np.testing.assert_array_equal(unstored[which], kept[which])
    np.testing.assert_array_equal(np.asarray(unstored), kept)
    np.testing.assert_array_equal(np.load(path_of(unstored, tmp_path)), kept)
    features = [Hog().fit(images, np.random.default_rng(0)).encode(images) for images in (unstored, kept)]
    np.testing.assert_array_equal(*features)


def test_another_encoder_reads_no_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever view it wants: thumbnails are enough."""
    pictures(tmp_path / "pictures", (100, 100), (90, 120), (300, 40), (64, 64), (20, 70))
    recipe = Recipe("folder", {"path": str(tmp_path / "pictures")}, encoder="hog", n_neighbors=2)
    prepare(recipe, tmp_path / "cache")
    monkeypatch.setattr(Folder, "read", None, raising=False)
    for view in (View(), View(128), View(64, 1), View(300, 1)):
        monkeypatch.setattr(Hog, "view", view, raising=False)
        monkeypatch.setattr(Hog, "revision", view.side + view.n_channels, raising=False)
        assert len(prepare(recipe, tmp_path / "cache").dataset) == 5
