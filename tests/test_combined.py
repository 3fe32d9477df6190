"""Encoders joined by their names: parts by themselves, side by side; and features that are computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from annotator import registry
from annotator.config import Config, Recipe
from annotator.dataset import Prepared, prepare
from annotator.encoders.combined import FittedCombined
from annotator.encoders.pca import unit_rows
from annotator.errors import ConfigError, ModelError
from annotator.types import (
    Encoder,
    FeatureArray,
    HasOpinion,
    ImageArray,
    Opinion,
    Report,
    Resumes,
    View,
    is_slow,
    revision,
    silent,
)
from tests.conftest import PhotoFolder


class Drawn:
    """Three columns drawn from the generator: what a part gives depends on the generator that it is handed."""

    slow = True
    revision = 4
    fits: ClassVar[list[tuple[str, tuple[int, ...]]]] = []

    def __init__(self, scale: float = 1.0, weights: str = "none") -> None:
        self.scale = scale
        self.weights = weights

    def fit_in(
        self, folder: Path, images: ImageArray, rng: np.random.Generator, report: Report = silent
    ) -> FittedDrawn:
        self.fits.append((folder.name, images.shape))
        return self.fit(images, rng, report)

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedDrawn:
        return FittedDrawn((self.scale * rng.normal(size=3)).astype(np.float32))

    def check_pool(self, n_images: int) -> None:
        if n_images < 5:
            raise ModelError("Too few to draw for.", "MODEL_TOO_SMALL")

    def load(self, folder: Path) -> FittedDrawn:
        return FittedDrawn(np.load(folder / "drawn.npy"))


class FittedDrawn:
    """Brightness times what was drawn."""

    def __init__(self, drawn: FeatureArray) -> None:
        self.drawn = drawn
        self.version = f"drawn-{drawn}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        report("Encoding", len(images), len(images))
        brightness = images.reshape(len(images), -1).mean(axis=1, dtype=np.float64)
        return np.asarray(brightness[:, None] * self.drawn + self.drawn[::-1], dtype=np.float32)

    def save(self, folder: Path) -> None:
        np.save(folder / "drawn.npy", self.drawn)

    def opinion(self, images: ImageArray, report: Report = silent) -> Opinion | None:
        return Opinion(np.ones((len(images), 1), dtype=np.float32), np.array([2]))


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN["encoder"], "drawn", f"{__name__}:Drawn")
    monkeypatch.setattr(Drawn, "fits", [])


def noise(n: int, *shape: int) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, size=(n, *shape), dtype=np.uint8)


def arrays(folder: Path, n: int = 30) -> Recipe:
    """A pool of small pictures with a test set of five."""
    images = noise(n + 5, 12, 12, 3)
    labels = np.arange(n) % 3
    path = folder / "pictures.npz"
    np.savez(path, images=images[:n], labels=labels, x_test=images[n:], y_test=labels[:5])
    return Recipe("arrays", {"path": str(path)}, n_neighbors=3, seed=7)


def made(recipe: Recipe, encoder: str, folder: Path, **parameters: object) -> Prepared:
    return prepare(replace(recipe, encoder=encoder, encoder_parameters=parameters), folder)


# ---- names and parameters


@pytest.mark.parametrize("name", ["hog+pixels", "imagenet+hog", "hog+imagenet+pixels"])
def test_names_joined_are_an_encoder(name: str) -> None:
    """Wherever a name can stand: in a config, to load, to create, with a line of help; always the same class."""
    assert Config(encoder=name).recipe.encoder == name
    assert registry.load("encoder", name) is registry.load("encoder", name)
    assert list(registry.create("encoder", name).encoders) == name.split("+")
    assert registry.summary("encoder", name).startswith("The features of ")
    assert name not in registry.names("encoder")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hog+nothing", "No encoder 'nothing'. Choose from: auto, pixels, "),
        ("hog+", "No encoder ''. "),
        ("+", "No encoder ''. "),
        ("hog+pixels+hog", "a part twice"),
    ],
)
def test_a_name_that_cannot_be_joined_is_refused(name: str, message: str) -> None:
    """When a config is made, and when the class is asked for."""
    for use in (lambda: Config(encoder=name), lambda: registry.load("encoder", name)):
        with pytest.raises(ConfigError, match=message):
            use()


def test_only_encoders_are_joined() -> None:
    """A model's name with a plus is an unknown name."""
    with pytest.raises(ConfigError, match="No model 'vote\\+svc'"):
        registry.check_name("model", "vote+svc")


def test_parameters_of_parts_have_the_parts_name() -> None:
    """Listed with their defaults, converted from text, judged by the part; `weights` of the whole beside them."""
    described = {one.name: one.default for one in registry.describe("encoder", "hog+drawn")}
    defaults = {"hog.cells": 7, "hog.bins": 9, "drawn.scale": 1.0, "drawn.weights": "none", "weights": "1,1"}
    assert described == defaults
    encoder = registry.create("encoder", "hog+drawn", {"hog.cells": "4", "drawn.weights": "file", "weights": "2,1"})
    assert (encoder.encoders["hog"].cells, encoder.encoders["drawn"].weights, encoder.weights) == (4, "file", (2, 1))
    with pytest.raises(ConfigError, match=r"hog\.cells must be between"):
        registry.create("encoder", "hog+pixels", {"hog.cells": 99})
    with pytest.raises(ConfigError, match=r"has no parameter 'cells'. It takes: hog\.cells, "):
        registry.create("encoder", "hog+pixels", {"cells": 5})


@pytest.mark.parametrize("weights", ["1", "1,2,3", "1,0", "1,-1", "1,x", "1,inf", "1,nan", ","])
def test_weights_are_a_positive_number_for_each_part(weights: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ConfigError, match="must be 2 numbers above 0, such as '2,1'"):
        registry.create("encoder", "hog+pixels", {"weights": weights})


# ---- what the parts can do, the whole can


def test_abilities_of_parts_are_those_of_the_whole(tmp_path: Path) -> None:
    """Slow, a revision that changes with theirs, a least pool, an opinion, a folder each for an unfinished training."""
    quick, slow = (registry.load("encoder", name) for name in ("hog+pixels", "hog+drawn"))
    assert (is_slow(quick), is_slow(slow)) == (False, True)
    assert revision(slow) not in (revision(quick), revision(registry.load("encoder", "drawn+hog")))
    encoder = registry.create("encoder", "hog+drawn")
    with pytest.raises(ModelError, match="Too few to draw for"):
        encoder.check_pool(4)
    registry.create("encoder", "hog+pixels").check_pool(4)
    assert isinstance(encoder, Resumes)
    fitted = encoder.fit_in(tmp_path, noise(9, 8, 8, 1), np.random.default_rng(0))
    assert Drawn.fits == [("drawn", (9, 8, 8, 1))]
    assert isinstance(fitted, HasOpinion)
    opinion = fitted.opinion(noise(9, 8, 8, 1))
    assert opinion is not None
    assert opinion.codes.tolist() == [2]
    fitted = registry.create("encoder", "hog+pixels").fit(noise(9, 8, 8, 1), np.random.default_rng(0))
    assert fitted.opinion(noise(9, 8, 8, 1)) is None


@pytest.mark.parametrize(("weights", "shares"), [("", (1, 1, 1)), ("4,1,1", (4, 1, 1))])
def test_blocks_are_the_parts_features_scaled(weights: str, shares: tuple[int, ...]) -> None:
    """Each as by itself with an equal generator, to length 1, times the root of its share; saved, it is the same."""
    images, names = noise(40, 12, 12, 3), ("hog", "drawn", "pixels")
    encoder: Encoder = registry.create("encoder", "+".join(names), {"weights": weights})
    features = encoder.fit(images, np.random.default_rng(3)).encode(images)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    start = 0
    for name, share in zip(names, shares, strict=True):
        alone = registry.create("encoder", name).fit(images, np.random.default_rng(3)).encode(images)
        block = features[:, start : start + alone.shape[1]]
        np.testing.assert_array_equal(block, unit_rows(alone) * np.float32(np.sqrt(share / sum(shares))))
        start += alone.shape[1]
    assert start == features.shape[1]


def test_a_row_of_zeros_stays_zero() -> None:
    """A flat image has no edges: its block is 0, and nothing is divided by it."""
    fitted = registry.create("encoder", "hog+drawn").fit(noise(9, 8, 8, 1), np.random.default_rng(0))
    assert isinstance(fitted, FittedCombined)
    joined = fitted.join([np.zeros((2, 3), np.float32), np.ones((2, 4), np.float32)])
    assert not joined[:, :3].any()
    np.testing.assert_allclose(joined[:, 3:], np.sqrt(1 / 2) / 2)


# ---- in a dataset


def test_a_dataset_has_the_parts_as_they_are_alone(tmp_path: Path) -> None:
    """Fitted with the recipe's seed, of the pool and of the test set; one graph over both."""
    recipe = arrays(tmp_path)
    both = made(recipe, "hog+drawn", tmp_path / "cache", weights="1,3").dataset
    start = 0
    for name, share in (("hog", 0.25), ("drawn", 0.75)):
        alone = made(recipe, name, tmp_path / f"cache-{name}").dataset
        columns = slice(start, start + alone.features.shape[1])
        scale = np.float32(np.sqrt(share))
        np.testing.assert_array_equal(both.features[:, columns], unit_rows(alone.features) * scale)
        assert both.held_out is not None
        assert alone.held_out is not None
        np.testing.assert_array_equal(both.held_out.features[:, columns], unit_rows(alone.held_out.features) * scale)
        start = columns.stop
    assert start == both.features.shape[1]
    assert both.version != made(recipe, "drawn+hog", tmp_path / "cache").dataset.version


def test_parts_see_photos_each_in_its_own_size(
    tmp_path: Path, photo_folder: PhotoFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that wants larger views does not change what the other is given."""
    monkeypatch.setattr(Drawn, "view", View(100), raising=False)
    recipe = Recipe("folder", {"path": str(photo_folder(9))}, n_neighbors=3)
    both = made(recipe, "hog+drawn", tmp_path / "cache").dataset
    alone = made(recipe, "hog", tmp_path / "other").dataset
    np.testing.assert_array_equal(both.features[:, :-3], unit_rows(alone.features) * np.float32(np.sqrt(0.5)))
    assert [shape for _, shape in Drawn.fits] == [(9, 100, 100, 3)]


def test_features_are_computed_once(tmp_path: Path) -> None:
    """By itself, joined, with other neighbours, another weight, the same parameter written out: one fit for all."""
    recipe, cache = arrays(tmp_path), tmp_path / "cache"
    made(recipe, "drawn", cache)
    made(recipe, "hog+drawn", cache)
    made(recipe, "drawn+pixels", cache, weights="2,1")
    made(replace(recipe, n_neighbors=4), "drawn", cache, scale="1.0")
    assert len(Drawn.fits) == 1
    made(replace(recipe, seed=8), "drawn", cache)
    made(recipe, "hog+drawn", cache, **{"drawn.scale": 2})
    made(replace(recipe, limit=20), "drawn", cache)
    assert len(Drawn.fits) == 4


def test_features_take_the_disk_once(tmp_path: Path) -> None:
    """A dataset's features are a second name of the cached file; where the disk has none, a copy."""
    prepared = made(arrays(tmp_path), "drawn", tmp_path / "cache")
    kept = next((tmp_path / "cache").glob("features-*"))
    for name in ("features.npy", "held_out.npy"):
        assert (prepared.folder / name).stat().st_nlink == 2
    assert kept.joinpath("features.npy").samefile(prepared.folder / "features.npy")


def test_another_test_set_is_encoded_by_the_same_fit(tmp_path: Path) -> None:
    """It makes another dataset, and no other training."""
    recipe, cache = arrays(tmp_path), tmp_path / "cache"
    before = made(recipe, "drawn", cache).dataset
    with np.load(recipe.source_parameters["path"]) as stored:
        changed = dict(stored) | {"x_test": 255 - stored["x_test"]}
    np.savez(recipe.source_parameters["path"], **changed)
    after = made(recipe, "drawn", cache).dataset
    assert len(Drawn.fits) == 1
    np.testing.assert_array_equal(before.features, after.features)
    assert before.held_out is not None
    assert after.held_out is not None
    assert not np.array_equal(before.held_out.features, after.held_out.features)
