"""The encoder `imagenet`: the network is the one that it says, and any pool has features. TensorFlow starts once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from sklearn.linear_model import LogisticRegression

from annotator.dataset import Recipe, prepare
from annotator.encoders import imagenet_network
from annotator.encoders.hog import Hog
from annotator.encoders.imagenet import COLOUR, GREY, Imagenet
from annotator.encoders.imagenet_network import Cut, layers_of
from annotator.errors import Cancelled, ConfigError
from annotator.sources.fashion_mnist import FashionMnist
from annotator.types import Encoder, ImageArray, ImageSource, View
from tests.conftest import PhotoFolder

CLASSES = Cut(side=224, layers=("classes",), batch=1, chunk=1)
PALACE, DAISY = 698, 985


@pytest.fixture(autouse=True, scope="module")
def _worker_ends_with_these_tests() -> Iterator[None]:
    yield
    imagenet_network._shared.close()


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def noise(n: int, *shape: int) -> ImageArray:
    return rng().integers(0, 256, size=(n, *shape), dtype=np.uint8)


@pytest.mark.parametrize(("photo", "expected"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_the_network_knows_what_is_in_a_photo(photo: str, expected: int) -> None:
    """Of 1,000 classes the right one for the middle of a photo: weights, padding and scaling are as in training."""
    image = load_sample_image(photo)
    side, left = image.shape[0], (image.shape[1] - image.shape[0]) // 2
    assert layers_of(image[None, :, left : left + side], CLASSES).argmax() == expected


def test_layers_have_the_columns_that_the_cuts_say() -> None:
    """As many numbers as named, in the order of the layers' names; an image's do not depend on who else is there."""
    for cut, images in ((GREY, noise(3, 28, 28, 1)), (COLOUR, noise(3, 40, 60, 3))):
        layers = layers_of(images, cut)
        assert layers.shape == (3, cut.columns[-1].stop)
        alone = [layers_of(images[1:2], replace(cut, layers=cut.layers[:1])), layers[1:2, cut.columns[0]]]
        np.testing.assert_array_equal(*alone)


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3), (5, 90, 3)])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_a_pool_of_any_size_has_features(n: int, shape: tuple[int, int, int]) -> None:
    """Fewer images than dimensions: as many as there are directions; rows have length 1, or 0 where all are alike."""
    images = noise(n, *shape)
    fitted = Imagenet().fit(images, rng())
    features = fitted.encode(images)
    assert features.shape[0] == n
    assert 1 <= features.shape[1] <= n
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 0 if n == 1 else 1, rtol=1e-5)
    assert fitted.encode(noise(3, *shape)).shape == (3, features.shape[1])


def test_grey_pictures_stored_in_colour_are_grey() -> None:
    """The same features as in one channel; a larger picture or a colour one is seen by other layers."""
    images = noise(20, 28, 28, 1)
    grey, stored = (Imagenet().fit(pool, rng()) for pool in (images, images.repeat(3, axis=3)))
    assert grey.version == stored.version
    assert Imagenet().fit(noise(20, 65, 65, 1), rng()).kind == "colour"
    assert Imagenet().fit(noise(20, 28, 28, 3), rng()).kind == "colour"


def test_the_layers_can_be_chosen() -> None:
    """By name, whatever the pool is; the ones that the pool would have got are the same features."""
    images = noise(20, 28, 28, 1)
    by_pool, chosen, other = (Imagenet(cut=cut).fit(images, rng()) for cut in ("auto", "grey", "colour"))
    assert by_pool.version == chosen.version
    assert other.kind == "colour"
    assert (Imagenet().view, Imagenet(cut="grey").view) == (View(128), View(64))
    with pytest.raises(ConfigError, match="must be one of auto, grey, colour"):
        Imagenet(cut="late")


def test_a_pool_is_not_computed_twice() -> None:
    """What `fit` had to compute of every image is what `encode` gives, bit for bit as of another array."""
    images = noise(150, 28, 28, 1)
    fitted = Imagenet().fit(images, rng())
    np.testing.assert_array_equal(fitted.encode(images), fitted.encode(images.copy()))
    assert fitted.encode(images) is fitted.encode(images)


def test_a_stop_is_heeded_and_does_no_harm() -> None:
    """Whoever asks next gets an answer."""

    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        Imagenet().fit(noise(5, 28, 28, 1), rng(), stop)
    assert len(Imagenet().fit(noise(5, 28, 28, 1), rng()).encode(noise(5, 28, 28, 1))) == 5


def test_a_worker_that_was_ended_is_started_again() -> None:
    """As it is when nobody asked for a while; its folder goes with it."""
    before = layers_of(noise(2, 28, 28, 1), GREY)
    worker = imagenet_network._shared._worker
    assert worker is not None
    imagenet_network._shared.close()
    assert not worker.folder.exists()
    np.testing.assert_array_equal(layers_of(noise(2, 28, 28, 1), GREY), before)


@pytest.mark.parametrize("wrong", [0, 513])
def test_impossible_dimensions_are_refused(wrong: int) -> None:
    """Named, with what is possible."""
    with pytest.raises(ConfigError, match="between 1 and 512"):
        Imagenet(wrong)


def accuracy(encoder: Encoder, source: ImageSource, n: int) -> float:
    """Of logistic regression on `n` images, over as many others."""
    images, truth = source.array[: 2 * n], source.truth[: 2 * n]
    features = encoder.fit(images, rng()).encode(images)
    return float(LogisticRegression(C=10, max_iter=1000).fit(features[:n], truth[:n]).score(features[n:], truth[n:]))


def test_clothes_are_told_apart_better_than_by_their_edges() -> None:
    """What the encoder is for: on 500 labels a few points above hog."""
    source = FashionMnist()
    assert accuracy(Imagenet(), source, 500) > accuracy(Hog(), source, 500) + 0.02


def test_photos_are_encoded_from_larger_views(tmp_path: Path, photo_folder: PhotoFolder) -> None:
    """At 128 px a side, made from what the import wrote: after another encoder nothing is read again from the files."""
    folder = photo_folder(9)
    quick = prepare(Recipe("folder", {"path": str(folder)}, encoder="hog", n_neighbors=3), tmp_path / "cache")
    stages = []
    recipe = Recipe("folder", {"path": str(folder)}, encoder="imagenet", n_neighbors=3)
    slow = prepare(recipe, tmp_path / "cache", lambda stage, done, total: stages.append(stage))
    assert "Making views" in stages
    assert "Reading images" not in stages
    views = np.load(next((tmp_path / "cache").glob("images-*/views-128.npy")), mmap_mode="r")
    assert views.shape == (9, 128, 128, 3)
    np.testing.assert_array_equal(slow.dataset.features, Imagenet().fit(np.asarray(views), rng()).encode(views))
    np.testing.assert_array_equal(slow.dataset.images, quick.dataset.images)
    assert Image.fromarray(slow.dataset.images[0]).size == (64, 64)
