"""Pixels and histograms of gradients: exact where they can be, the same after saving, on any size of image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from annotator.encoders.chunks import resize
from annotator.encoders.hog import Hog, describe
from annotator.encoders.pca import MAX_SAMPLE, fit_projection, sample_rows
from annotator.encoders.pixels import Pixels
from annotator.errors import Cancelled, ConfigError, ImageError
from annotator.types import Encoder, ImageArray
from tests.benchmarks.encoders import plain_hog

ENCODERS = (Pixels, Hog)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def photos(n: int, height: int, width: int, n_channels: int = 1, seed: int = 0) -> ImageArray:
    shape = (n, height, width, n_channels)
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def bars(angle: float, n: int = 3, side: int = 28) -> ImageArray:
    """Stripes whose brightness changes in the direction of `angle` (degrees)."""
    across = np.cos(np.radians(angle)) * np.arange(side) + np.sin(np.radians(angle)) * np.arange(side)[:, None]
    return np.repeat((127 + 100 * np.sin(across))[None, :, :, None], n, axis=0).astype(np.uint8)


def test_digits_are_exact_quotients() -> None:
    """Values 15 v, v in 0..16, come out as v / 16 to the last bit: no projection at 64 dimensions, no resizing."""
    values = load_digits().images[:330]
    images = (values * 15).astype(np.uint8)[..., None]
    features = Pixels().fit(images, rng()).encode(images)
    assert features.dtype == np.float32
    assert np.array_equal(features, values.reshape(330, 64) / 16)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 47, 3), (64, 64, 3), (1, 1, 1), (200, 1, 3)])
def test_every_size_of_image_has_finite_features(encoder: type[Encoder], shape: tuple[int, int, int]) -> None:
    """At most 64 float32 a row, one row an image, whatever the images' shape."""
    images = photos(20, *shape)
    features = encoder().fit(images, rng()).encode(images)
    assert features.dtype == np.float32
    assert len(features) == 20
    assert 1 <= features.shape[1] <= 64
    assert np.isfinite(features).all()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("value", [0, 7, 255])
def test_blank_images_have_features(encoder: type[Encoder], value: int) -> None:
    """A pool of one colour, one image among them: nothing divides by zero."""
    for n in (1, 5):
        images = np.full((n, 40, 40, 3), value, dtype=np.uint8)
        assert np.isfinite(encoder().fit(images, rng()).encode(images)).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_same_pool_and_seed_give_the_same_features(encoder: type[Encoder]) -> None:
    """Bit for bit, with the same version; another pool is another version."""
    images = photos(300, 20, 20)
    first, again = (encoder().fit(images, rng()) for _ in range(2))
    assert first.version == again.version
    assert np.array_equal(first.encode(images), again.encode(images))
    assert encoder().fit(images[:200], rng()).version != first.version


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_saved_encoder_is_the_same_encoder(encoder: type[Encoder], tmp_path: Path) -> None:
    """Version and features survive; what is on disk loads without pickle."""
    images = photos(100, 24, 24, 3)
    fitted = encoder().fit(images, rng())
    fitted.save(tmp_path / "encoder")
    loaded = encoder().load(tmp_path / "encoder")
    later = photos(9, 24, 24, 3, seed=5)
    assert loaded.version == fitted.version
    assert np.array_equal(loaded.encode(later), fitted.encode(later))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_image_has_the_same_features_in_any_company(encoder: type[Encoder]) -> None:
    """Alone, in a later chunk or in the pool: equal to rounding."""
    images = photos(1500, 16, 16)
    fitted = encoder().fit(images, rng())
    alone = np.concatenate([fitted.encode(images[row : row + 1]) for row in (0, 700, 1499)])
    np.testing.assert_allclose(fitted.encode(images)[[0, 700, 1499]], alone, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_progress_is_told_and_a_stop_is_heeded(encoder: type[Encoder]) -> None:
    """Several reports up to the last image; what `report` raises ends the work."""
    images = photos(900, 28, 28)
    fitted = encoder().fit(images, rng())
    told: list[tuple[str, int, int]] = []
    fitted.encode(images, lambda stage, done, total: told.append((stage, done, total)))
    assert told[-1] == ("Encoding", 900, 900)
    assert len(told) > 2

    def stop(stage: str, done: int, total: int) -> None:
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        fitted.encode(images, stop)
    with pytest.raises(Cancelled):
        encoder().fit(images, rng(), stop)


def test_parameters_are_part_of_the_version() -> None:
    """Two settings are never taken for one."""
    images = photos(50, 20, 20)
    fitted = [Pixels().fit(images, rng()), Pixels(32).fit(images, rng())]
    fitted_hog = [Hog(2).fit(images, rng()), Hog(2, 6).fit(images, rng()), Hog(3).fit(images, rng())]
    assert len({each.version for each in [*fitted, *fitted_hog]}) == 5


def test_resizing_averages_over_areas() -> None:
    """Halving is the mean of 2 x 2 blocks; means survive any size; equal sizes are left alone."""
    images = photos(4, 12, 20, 3).astype(np.float32)
    blocks = images.reshape(4, 6, 2, 10, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(resize(images, 6, 10), blocks, rtol=1e-5)
    np.testing.assert_allclose(resize(images, 7, 9).mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(resize(images, 30, 25).mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=1e-5)
    assert resize(images, 12, 20) is images


@pytest.mark.parametrize("n", [400, 12], ids=["more rows", "more inputs"])
def test_the_projection_is_scikit_learns_pca(n: int) -> None:
    """The same subspace coordinates up to sign; each direction's largest entry is positive."""
    scaled = np.random.default_rng(1).normal(size=(n, 30)) * np.arange(1, 31)
    vectors = scaled.astype(np.float32)
    projection = fit_projection(vectors, 5)
    expected = PCA(5, svd_solver="full").fit_transform(vectors)
    np.testing.assert_allclose(np.abs(projection.apply(vectors)), np.abs(expected), rtol=1e-3, atol=1e-2)
    assert (projection.components.max(axis=0) == np.abs(projection.components).max(axis=0)).all()


def test_vectors_far_from_zero_are_projected_as_they_would_be_near_it() -> None:
    """P11: in double precision the mean is kept in it, not rounded to a number some thousands away."""
    vectors = np.random.default_rng(2).normal(size=(50, 8))
    near, far = fit_projection(vectors, 3), fit_projection(vectors + 1.7e12, 3)
    np.testing.assert_allclose(far.apply(vectors + 1.7e12), near.apply(vectors), atol=1e-2)
    assert fit_projection(vectors.astype(np.float32), 3).mean.dtype == np.float32


def test_a_projection_is_fitted_on_a_sample_of_a_large_pool() -> None:
    """At most 10,000 rows, ascending, each once, by the generator given; a smaller pool is used whole."""
    rows = sample_rows(50_000, rng())
    assert len(set(rows)) == len(rows) == MAX_SAMPLE
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, sample_rows(50_000, rng()))
    assert np.array_equal(sample_rows(40, rng()), np.arange(40))


def test_hog_is_the_papers_descriptor() -> None:
    """Against a plain loop over cells and bins."""
    images = photos(5, 28, 28)
    expected = np.stack([plain_hog(image[:, :, 0]) for image in images])
    np.testing.assert_allclose(describe(images, 7, 9), expected, atol=1e-5)


def test_hog_forgives_brightness_and_sees_direction() -> None:
    """Half the contrast is nearly the same row; stripes turned by 90 degrees are not; stripes by 180 are."""
    upright, turned, dim = bars(0), bars(90), (bars(0) // 2 + 60).astype(np.uint8)
    first = describe(upright, 4, 9)[0]
    assert np.linalg.norm(first - describe(dim, 4, 9)[0]) < 0.1
    assert np.linalg.norm(first - describe(turned, 4, 9)[0]) > 0.8
    assert np.linalg.norm(first - describe(255 - upright, 4, 9)[0]) < 0.01


def test_hog_rows_have_length_one() -> None:
    """So that distance means angle."""
    images = photos(80, 28, 28)
    lengths = np.linalg.norm(Hog().fit(images, rng()).encode(images), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_pixels_of_another_mode_are_refused() -> None:
    """Colour images for an encoder fitted on grey: IMG_CHANNELS says which and what to do. Another size is resized."""
    fitted = Pixels().fit(photos(30, 16, 16), rng())
    assert fitted.encode(photos(2, 40, 9)).shape == fitted.encode(photos(2, 16, 16)).shape
    with pytest.raises(ImageError, match="3 channels") as caught:
        fitted.encode(photos(2, 16, 16, 3))
    assert caught.value.code == "IMG_CHANNELS"


@pytest.mark.parametrize("wrong", [{"cells": 0}, {"cells": 11}, {"bins": 0}, {"bins": 19}])
def test_hog_refuses_settings_beyond_its_range(wrong: dict[str, int]) -> None:
    """Named, with what they may be, before any image is read."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Hog(**wrong)


def test_pixels_need_a_dimension() -> None:
    """Named, with what it may be."""
    with pytest.raises(ConfigError, match="max_dimensions"):
        Pixels(0)
