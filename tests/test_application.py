"""The encoder `keras-application`: weights of a file or of a download, and what is said where there are none."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from annotator import registry
from annotator.cli import main
from annotator.encoders import application
from annotator.encoders.application import SIDES, KerasApplication
from annotator.errors import ConfigError, ModelError
from annotator.types import FeatureArray, ImageArray, View
from tests.random_weights import random_weights


@pytest.fixture(autouse=True, scope="module")
def _worker_without_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A worker of these tests' own: it finds no weights of an earlier download, and no network."""
    application._shared.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        for name in ("HTTPS_PROXY", "https_proxy"):
            patch.setenv(name, "http://127.0.0.1:9")
        yield
        application._shared.close()


def weights(name: str) -> str:
    return str(random_weights() / name)


def noise(n: int, *shape: int) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, size=(n, *shape), dtype=np.uint8)


def features(path: str, images: ImageArray, network: str = "MobileNetV3Small") -> FeatureArray:
    encoder = KerasApplication(network, path, side=75, dimensions=8)
    return encoder.fit(images, np.random.default_rng(0)).encode(images)


def test_a_missing_file_is_named_at_once(tmp_path: Path) -> None:
    """Before a worker is started; and so is a folder."""
    application._shared.close()
    for path in (tmp_path / "nothing.h5", tmp_path):
        with pytest.raises(ModelError, match=f"{path} cannot be read: .*, or choose the encoder imagenet"):
            features(str(path), noise(3, 20, 20, 3))
    assert application._shared._worker is None


# tests of one file stand together: the worker keeps the last network, and building one takes seconds


def test_grey_images_are_the_same_in_one_channel_and_in_three() -> None:
    """The network has colours only."""
    images, path = noise(9, 20, 20, 1), weights("small.weights.h5")
    np.testing.assert_array_equal(features(path, images), features(path, images.repeat(3, axis=3)))


def test_a_file_of_another_network_is_refused() -> None:
    """With its name, and what to give; the next one who asks gets an answer."""
    for name in ("other.weights.h5", "text.weights.h5"):
        path = random_weights() / name
        if not path.exists():
            path.write_text("no weights")
        with pytest.raises(
            ModelError, match=f"{name} cannot be used as weights of MobileNetV3Small: .* imagenet"
        ) as no:
            features(str(path), noise(3, 20, 20, 3))
        assert no.value.code == "MODEL_WEIGHTS"
    assert len(features(weights("small.weights.h5"), noise(3, 20, 20, 3))) == 3


def test_without_a_network_the_encoder_that_works_is_named() -> None:
    """In seconds, whatever the network does not do."""
    features(weights("small.weights.h5"), noise(3, 20, 20, 3))  # TensorFlow is started by now
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"could not be downloaded: .* choose the encoder imagenet, which works") as no:
        features("", noise(3, 20, 20, 3))
    assert no.value.code == "MODEL_WEIGHTS"
    assert time.monotonic() - started < 60


def test_weights_with_a_classifier_are_weights_as_well() -> None:
    """A file of the network up to the average, all of it, and in the format of Keras' own downloads: equal features."""
    images = noise(12, 20, 20, 3)
    bare = features(weights("small.weights.h5"), images)
    assert bare.shape == (12, 8)
    np.testing.assert_allclose(np.linalg.norm(bare, axis=1), 1, rtol=1e-5)
    for name in ("whole.weights.h5", "whole.h5"):
        np.testing.assert_array_equal(features(weights(name), images), bare)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With mine.weights.h5 in it."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(weights("small.weights.h5"), folder / "mine.weights.h5")
    return folder


def test_a_path_may_begin_with_home_or_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a source's path may."""
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.chdir(folder)
    one, other = (features(path, noise(3, 20, 20, 3)) for path in ("~/mine.weights.h5", "mine.weights.h5"))
    np.testing.assert_array_equal(one, other)


def test_other_weights_under_the_same_name_are_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    """A fitted encoder knows its weights: later images get features of those, or none."""
    path = folder / "mine.weights.h5"
    encoder = KerasApplication("MobileNetV3Small", str(path), 75)
    encoder.fit(noise(5, 20, 20, 3), np.random.default_rng(0)).save(tmp_path)
    loaded = encoder.load(tmp_path)
    assert len(loaded.encode(noise(4, 20, 20, 3))) == 4
    shutil.copy(weights("whole.weights.h5"), path)
    with pytest.raises(ModelError, match="is another one than when these features were computed"):
        loaded.encode(noise(4, 20, 20, 3))
    shutil.copy(weights("other.weights.h5"), path)
    with pytest.raises(ModelError, match="cannot be used as weights"):  # by a worker that knows the first file
        encoder.fit(noise(5, 20, 20, 3), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"network": "ResNet18"}, "no network 'ResNet18'. Choose from: MobileNetV2, "),
        ({"side": 74}, "must be 0 or between 75 and 512"),
        ({"side": 513}, "must be 0 or between 75 and 512"),
        ({"dimensions": 0}, "must be between 1 and 512"),
        ({"dimensions": 513}, "must be between 1 and 512"),
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, int | str], message: str) -> None:
    """Named, with what is possible."""
    with pytest.raises(ConfigError, match=message):
        registry.create("encoder", "keras-application", wrong)


def test_each_network_wants_the_side_it_was_trained_on() -> None:
    """Or another one that was asked for."""
    for network, side in SIDES.items():
        assert KerasApplication(network).view == View(side)
    assert KerasApplication("InceptionV3", side=128).view == View(128)


def test_weights_on_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--weights FILE` is the encoder's parameter."""
    command = ["simulate", "--limit", "40", "--encoder", "keras-application", "--weights", "/nowhere/my.h5"]
    monkeypatch.setattr(sys, "argv", ["annotator", *command])
    with pytest.raises(SystemExit):
        main()
    assert "The weights file /nowhere/my.h5 cannot be read" in capsys.readouterr().err
