"""Every registered encoder goes through every kind of pool, from the real source to features that a graph is made of.

Trainings are cut to their first steps: how good the features are is measured elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotator import registry
from annotator.config import QUICK_ENCODER, RECOMMENDED_FROM, Config, Recipe
from annotator.dataset import prepare
from annotator.encoders.training import MIN_IMAGES
from annotator.errors import ModelError
from annotator.project import Project
from annotator.types import Dataset, is_slow
from tests import one_process
from tests.conftest import SHAPES, photo
from tests.random_weights import random_weights

ENCODERS = [*registry.names("encoder"), "hog+pixels"]
PARAMETERS: dict[str, Callable[[], dict[str, Any]]] = {
    "keras-application": lambda: {"weights": str(random_weights() / "small.weights.h5"), "side": 75},
}
"""What an encoder needs to be made or to be quick, beside one epoch where it counts them."""
TRAINED = ("autoencoder", "contrastive", "lstm", "gan")
"""Modules of encoders that train in a job: here in one process, as each job would begin with TensorFlow's start."""
FEW = RECOMMENDED_FROM + 10
"""Images for all others: enough that `auto` stands for a network."""
LIMITS = dict.fromkeys(TRAINED, MIN_IMAGES + 10) | {"contrastive": 510}
"""Images, where an encoder takes about so many to train on."""
TINY = 20
ORIENTATION = 0x0112
"""EXIF's number of how a camera was held."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in colour of mixed sizes, some turned by EXIF, some grey, with alpha, or with a palette."""
    folder: Path = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    for number in range(max(LIMITS.values())):
        wide, tall = (int(side) for side in rng.integers(20, 160, 2))
        picture = photo(SHAPES[number % 3], rng).resize((wide, tall))
        saved = KINDS[number % len(KINDS)]
        saved(picture, folder / f"{number:04d}", number)
    return folder


def as_turned_jpeg(picture: Image.Image, path: Path, number: int) -> None:
    exif = picture.getexif()
    exif[ORIENTATION] = 1 + number % 8
    picture.save(path.with_suffix(".jpg"), exif=exif)


def as_grey(picture: Image.Image, path: Path, number: int) -> None:
    picture.convert("L").save(path.with_suffix(".jpg"))


def with_alpha(picture: Image.Image, path: Path, number: int) -> None:
    picture.putalpha(number % 256)
    picture.save(path.with_suffix(".png"))


def with_palette(picture: Image.Image, path: Path, number: int) -> None:
    picture.quantize(16).save(path.with_suffix(".png"))


KINDS = (as_turned_jpeg, as_grey, with_alpha, with_palette, as_turned_jpeg)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of images and features: each pool is imported once for all encoders."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def _one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    shared = one_process.Shared(tmp_path_factory.mktemp("process"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # where its process finds these tests
        for name in TRAINED:
            patch.setattr(f"annotator.encoders.{name}.Job", shared)
        yield
    shared.worker.close()


def recipe(name: str, source: str, parameters: dict[str, Any], limit: int | None = None) -> Recipe:
    limit = limit or LIMITS.get(name, FEW)
    return Recipe(source, parameters, limit, 0, encoder=name, encoder_parameters=quick_parameters(name), n_neighbors=5)


def quick_parameters(name: str) -> dict[str, Any]:
    known = [parameter.name for parameter in registry.describe("encoder", name)]
    epochs = {"max_epochs": 1} if "max_epochs" in known else {}
    return epochs | (PARAMETERS[name]() if name in PARAMETERS else {})


def check(dataset: Dataset, n_images: int) -> None:
    """A row of finite numbers for each image, most of them told apart; neighbours were found by them."""
    features = np.asarray(dataset.features)
    assert len(features) == len(dataset.images) == n_images
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) > n_images / 2
    assert dataset.graph.affinity.shape == (n_images, n_images)


@pytest.mark.parametrize("name", ENCODERS)
def test_digits(name: str, cache: Path) -> None:
    """Grey, 8 px."""
    made = recipe(name, "digits", {"held_out": 0})
    check(prepare(made, cache).dataset, made.limit or 0)


@pytest.mark.parametrize("name", ENCODERS)
def test_clothes(name: str, cache: Path) -> None:
    """Grey, 28 px, with a test set that has features too."""
    made = recipe(name, "fashion-mnist", {})
    dataset = prepare(made, cache).dataset
    check(dataset, made.limit or 0)
    assert dataset.held_out is not None
    assert dataset.held_out.features.shape == (len(dataset.held_out.truth), dataset.features.shape[1])


@pytest.mark.parametrize("name", ENCODERS)
def test_photos_of_all_kinds(name: str, cache: Path, folder: Path) -> None:
    """In colour, of mixed sizes; some turned by EXIF, some grey, with alpha, or with a palette; none is set aside."""
    made = recipe(name, "folder", {"path": str(folder)})
    prepared = prepare(made, cache)
    assert prepared.set_aside == ()
    check(prepared.dataset, made.limit or 0)


@pytest.mark.parametrize("name", ENCODERS)
def test_twenty_images(name: str, cache: Path, tmp_path: Path) -> None:
    """Enough, or refused as too small: then a project is made on quick features and says so."""
    made = recipe(name, "digits", {"held_out": 0}, TINY)
    try:
        check(prepare(made, cache).dataset, TINY)
    except ModelError as error:
        assert error.code == "MODEL_TOO_SMALL"
    else:
        return
    config = Config(**{**vars(made), "initial": "first:5"})
    project = Project.create(tmp_path / "projects" / "tiny", config)
    assert project.config.encoder == QUICK_ENCODER
    assert "too small" in project.notice
    project.close()


@pytest.mark.parametrize("name", [name for name in ENCODERS if not is_slow(registry.load("encoder", name))])
def test_quick_features_are_the_same_again(name: str, cache: Path, folder: Path, tmp_path: Path) -> None:
    """Bit for bit, from the files on: nothing of the first time is used."""
    made = recipe(name, "folder", {"path": str(folder)}, 60)
    first, again = (prepare(made, place).dataset for place in (cache, tmp_path / "another"))
    assert first.version == again.version
    np.testing.assert_array_equal(first.features, again.features)
