"""The encoder that looks at a pool, and what a project keeps of its choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotator import registry
from annotator.config import Config, stands_for
from annotator.dataset import prepare, prepare_job
from annotator.encoders.auto import Auto, Look, choice_for, look, reason_for
from annotator.errors import ConfigError, ModelError
from annotator.pointer import CACHE
from annotator.project import Project
from annotator.reports import changed_plugins
from annotator.types import ImageArray

CONFIG = Config(name="auto", source="digits", limit=60, encoder="auto", batch_size=4)


def images(n: int, side: int = 8, n_channels: int = 1) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, n_channels), dtype=np.uint8)


def test_it_looks_at_the_pool_alone() -> None:
    """How many images, how large, whether they are grey; grey pictures may be stored in colour."""
    assert look(images(120)) == Look(120, 8, is_grey=True)
    assert look(images(5, 128, 3)) == Look(5, 128, is_grey=False)
    assert look(np.repeat(images(7, 96), 3, axis=3)).is_grey
    assert look(images(3, 128, 3)).kind == "colour photos"
    assert look(images(3, 28)).kind == "small grey pictures"


def test_a_small_pool_stays_with_what_needs_no_training_and_says_so() -> None:
    """99 images are soon labeled; 100 are worth the better network; from 1,000 on one of their own can be trained."""
    assert [choice_for(Look(n, 64, is_grey=False)) for n in (1, 99, 100)] == ["hog", "hog", "imagenet"]
    assert "needs no training, since 99 images are soon labeled" in reason_for("hog", Look(99, 64, is_grey=False))
    photos = Look(150, 128, is_grey=False)
    assert reason_for("imagenet", photos).endswith("these are 150 colour photos, too few to train a network on")
    assert reason_for("imagenet", replace(photos, n_images=1000)).endswith("these are 1,000 colour photos")


def test_a_choice_that_others_made_has_no_reason_of_its_own() -> None:
    """Labels decided, or a person: that is said elsewhere."""
    assert reason_for("hog+imagenet", Look(500, 64, is_grey=True)) == ""


def test_it_stands_for_what_it_chose(tmp_path: Path) -> None:
    """Features, version and file are those of the chosen encoder."""
    pool = images(30)
    fitted, alone = (
        encoder.fit(pool, np.random.default_rng(0)) for encoder in (Auto(), registry.create("encoder", "hog"))
    )
    assert (fitted.choice, fitted.version) == ("hog", alone.version)
    np.testing.assert_array_equal(fitted.encode(pool), alone.encode(pool))
    fitted.save(tmp_path)
    loaded = Auto().load(tmp_path)
    assert (loaded.choice, loaded.reason) == (fitted.choice, fitted.reason)
    np.testing.assert_array_equal(loaded.encode(pool), alone.encode(pool))


def test_what_it_stands_for_has_its_say() -> None:
    """Parameters that it refuses are refused, and pools that are too small for it."""
    with pytest.raises(ConfigError, match="No encoder 'magenet'"):
        Auto(choice="magenet")
    with pytest.raises(ConfigError, match="not auto itself"):
        Auto(choice="auto")
    with pytest.raises(ModelError, match="too small"):
        Auto(choice="autoencoder").check_pool(50)
    Auto().check_pool(1)


def test_a_project_keeps_the_choice(projects: Path) -> None:
    """It stands in the config, with the reason beside the dataset: another version's rules change nothing."""
    project = Project.create(projects / "one", CONFIG)
    assert project.config.encoder_parameters == {"choice": "hog"}
    assert (project.config.features, stands_for("auto", {})) == ("hog", "auto")
    assert project.prepared.reason.startswith("hog, which needs no training")
    project.close()
    reopened = Project(projects / "one")
    assert (reopened.config, reopened.prepared.reason) == (project.config, project.prepared.reason)
    reopened.close()


def test_the_features_of_what_it_chose_are_computed_once(projects: Path) -> None:
    """A dataset of auto shares them with that of the encoder itself."""
    cache = projects / CACHE
    hog = prepare(replace(CONFIG, encoder="hog").recipe, cache)
    chosen = prepare_job({"recipe": vars(CONFIG.recipe), "cache": str(cache)}, lambda *_: None)
    assert chosen["encoder_parameters"] == {"choice": "hog"}
    assert len(list(cache.glob("features-*"))) == 1
    np.testing.assert_array_equal(np.load(cache / chosen["folder"] / "features.npy"), hog.dataset.features)


def test_the_curve_names_what_took_over() -> None:
    """Auto is marked by what it stands for, also where its choice alone has changed."""
    before = {"model": "vote", "encoder": "hog", "strategy": "margin", "encoder_parameters": {}}
    chosen = before | {"encoder": "auto", "encoder_parameters": {"choice": "imagenet"}}
    better = chosen | {"encoder_parameters": {"choice": "hog+imagenet"}}
    marked = changed_plugins({1: before, 2: chosen, 3: better})
    assert marked == {2: "encoder: imagenet", 3: "encoder: hog+imagenet"}


def test_the_curve_marks_another_network_and_other_parameters() -> None:
    """Their names stay the same; what changes no figure is left out."""
    first = {"model": "vote", "encoder": "finetuned", "strategy": "margin", "encoder_parameters": {"network": "a" * 64}}
    second = first | {"encoder_parameters": {"network": "b" * 64}}
    other = second | {"model_parameters": {"alpha": 0.5}}
    marked = changed_plugins({1: first, 2: second, 3: other, 4: other | {"batch_size": 5}})
    assert marked == {2: "network trained", 3: "model: vote with other parameters"}
