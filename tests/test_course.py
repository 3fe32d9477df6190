"""The course's other networks: encoders `lstm` and `gan`, models `mlp`, `cnn` and `lstm`. In children, safe to kill."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotator import registry
from annotator.encoders import gan
from annotator.encoders.gan import FittedGan, Gan
from annotator.encoders.lstm import FittedLstm, LstmEncoder
from annotator.encoders.training import HISTORY, MIN_IMAGES
from annotator.errors import Cancelled, ConfigError, ImageError, JobError, ModelError
from annotator.jobs import Job
from annotator.models import pictures, trainer
from annotator.types import UNLABELED, HeldOut, ImageArray, IntArray, Model
from tests.builders import tiny_dataset

ENCODERS = {"lstm": LstmEncoder, "gan": Gan}
MODELS = ("mlp", "cnn", "lstm")
SETTINGS = {"mlp": "hidden", "cnn": "filters", "lstm": "units"}


@pytest.fixture(autouse=True, scope="module")
def _worker_ends_with_these_tests() -> Iterator[None]:
    yield
    trainer.shared().close()
    trainer.start.cache_clear()


def photos(n: int, *shape: int) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, size=(n, *shape), dtype=np.uint8)


# ---- the encoders


@cache
def trained(name: str) -> FittedLstm | FittedGan:
    """On 210 tiny images, for three epochs."""
    found: FittedLstm | FittedGan = ENCODERS[name](max_epochs=3).fit(tiny_dataset(210).images, np.random.default_rng(0))
    return found


@pytest.mark.parametrize("name", ENCODERS)
def test_losses_of_each_epoch_are_kept_beside_the_weights(name: str, tmp_path: Path) -> None:
    """A plot needs training and validation losses; where their file is lost the encoder is not."""
    fitted = trained(name)
    assert [losses["epoch"] for losses in fitted.history] == [1, 2, 3]
    assert all({"loss", "val_loss"} <= set(losses) for losses in fitted.history)
    fitted.save(tmp_path)
    assert json.loads((tmp_path / HISTORY).read_text()) == list(fitted.history)
    (tmp_path / HISTORY).write_text("[{")
    loaded = ENCODERS[name]().load(tmp_path)
    assert (loaded.version, loaded.history) == (fitted.version, ())


def test_numpy_sees_what_keras_sees(tmp_path: Path) -> None:
    """State after the last row, and both layers of the discriminator, to rounding."""
    lstm, gan_, images = trained("lstm"), trained("gan"), tiny_dataset(5, seed=3).images
    assert isinstance(gan_, FittedGan)
    lstm.save(tmp_path)
    gan_.save(tmp_path)
    np.save(tmp_path / "images.npy", images)
    code = """
        import sys, numpy as np
        from pathlib import Path
        from annotator.encoders import gan, keras_gan, keras_lstm, stored
        from annotator.encoders.keras_setup import keras
        folder = Path(sys.argv[1])
        images = np.load(folder / "images.npy")
        for name, network, inputs, depth in (
            ("lstm", keras_lstm._network((8, 8, 1), 100), images.reshape(5, 64) / np.float32(255), [1]),
            ("gan", keras_gan._discriminator((8, 8, 1)), gan.scaled(images, (8, 8, 1)), [1, 3]),
        ):
            arrays = stored.read(folder / f"{name}.npz")
            parts = [arrays[part] for part in (keras_lstm.PARTS if name == "lstm" else gan.PARTS)]
            network.set_weights(parts + network.get_weights()[len(parts):])
            layers = [keras.Model(network.inputs, network.layers[place].output)(inputs).numpy() for place in depth]
            np.savez(folder / f"{name}-keras.npz", *layers)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True, capture_output=True)
    with np.load(tmp_path / "lstm-keras.npz") as found:
        np.testing.assert_allclose(lstm.encode(images), found["arr_0"], atol=1e-5)
    with np.load(tmp_path / "gan-keras.npz") as found:
        flat = np.concatenate([found[f"arr_{number}"].reshape(5, -1) for number in range(2)], axis=1)
    np.testing.assert_allclose(gan_.seen(images), flat, atol=1e-5)


def test_a_killed_training_leaves_nothing_to_load(tmp_path: Path) -> None:
    """A kill in the middle is a typed error, and no weights are half written."""
    job: Job = Gan(max_epochs=10_000).start_training(tiny_dataset(210).images, np.random.default_rng(0), tmp_path)

    def kill(stage: str, done: int, total: int) -> None:
        if stage.startswith("Training") and done > 3:
            with contextlib.suppress(ProcessLookupError):  # told once more after its death
                os.kill(job._process.pid, signal.SIGKILL)

    with pytest.raises(JobError) as raised:
        job.wait(kill)
    assert raised.value.code == "JOB_KILLED"
    assert list(tmp_path.glob("*.npz*")) == []
    with pytest.raises(ModelError) as refused:
        Gan().load(tmp_path)
    assert refused.value.code == "MODEL_HASH"


def test_a_training_stops_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `report` raises arrives, and the folder of the training goes with the child."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("Training"):
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled, match="Enough"):
        LstmEncoder(max_epochs=10_000).fit(tiny_dataset(210).images, np.random.default_rng(0), stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ENCODERS)
def test_a_small_pool_is_refused_before_anything_starts(name: str) -> None:
    """Under 200 images the error says which encoders need no training."""
    with pytest.raises(ModelError, match=r"A pool of 199 images is too small .* pixels or hog") as raised:
        ENCODERS[name]().fit(photos(MIN_IMAGES - 1, 8, 8, 1), np.random.default_rng(0))
    assert raised.value.code == "MODEL_TOO_SMALL"


@pytest.mark.parametrize("name", ENCODERS)
def test_images_of_another_size_have_features_and_other_channels_are_refused(name: str) -> None:
    """They are brought to the pool's size; a colour image is not put through a network for grey ones."""
    features = trained(name).encode(photos(3, 20, 31, 1))
    assert features.shape == (3, trained(name).encode(photos(1, 8, 8, 1)).shape[1])
    with pytest.raises(ImageError) as raised:
        trained(name).encode(photos(2, 8, 8, 3))
    assert raised.value.code == "IMG_CHANNELS"


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([1, 3]))
def test_every_image_fits(height: int, width: int, n_channels: int) -> None:
    """At most 32 px a side and never none; for the discriminator a multiple of 4."""
    for shape in (pictures.input_shape((height, width, n_channels)), gan.input_shape((height, width, n_channels))):
        assert 1 <= min(shape[:2]) <= max(shape[:2]) <= 32
        assert shape[2] == n_channels
    assert gan.input_shape((height, width, n_channels))[0] % 4 == 0
    assert gan.input_shape((28, 28, 1)) == pictures.input_shape((28, 28, 1)) == (28, 28, 1)


# ---- the models


def some_labels(n: int, n_labels: int) -> IntArray:
    return np.where(np.arange(n) < n_labels, np.arange(n) % 3, UNLABELED)


def quick(name: str, **parameters: int) -> Model:
    model: Model = registry.create("model", name, {"max_epochs": 2, **parameters})
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_network_says_of_an_image_the_same_in_the_pool_and_outside(name: str) -> None:
    """By its pixels; features alone are refused with a word on what to ask. Unseen classes get 0."""
    dataset, model = tiny_dataset(40), quick(name)
    probabilities = model.fit_predict(dataset, some_labels(40, 12), 5).probabilities
    assert (probabilities[:, 3:] == 0).all()
    assert isinstance(model, pictures._Pictures)
    outside = HeldOut(dataset.ids, dataset.images[5:20].copy(), dataset.features[5:20], np.zeros(15, dtype=np.int64))
    np.testing.assert_allclose(model.predict_held_out(outside), probabilities[5:20], atol=1e-6)
    with pytest.raises(ModelError, match="predict_held_out") as raised:
        model.predict(dataset.features)
    assert raised.value.code == "MODEL_NEEDS_IMAGES"
    assert not {name.partition(".")[0] for name in sys.modules} & {"keras", "tensorflow"}


def test_same_labels_same_answer_whatever_came_between() -> None:
    """Bit for bit: after other fits, by another model, and by another worker after the first was killed."""
    dataset, labels, model = tiny_dataset(40), some_labels(40, 12), quick("cnn")
    first = model.fit_predict(dataset, labels, 3).probabilities
    quick("mlp").fit_predict(dataset, some_labels(40, 9), 3)
    model.fit_predict(dataset, some_labels(40, 20), 3)
    assert np.array_equal(model.fit_predict(dataset, labels, 3).probabilities, first)
    process = trainer.shared()._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert np.array_equal(quick("cnn").fit_predict(dataset, labels, 3).probabilities, first)
    assert not np.array_equal(quick("cnn", seed=1).fit_predict(dataset, labels, 3).probabilities, first)


def test_an_earlier_fit_of_another_model_does_not_answer_for_this_one() -> None:
    """Two models share the worker: held-out images are classified by the network that was asked."""
    dataset, first, other = tiny_dataset(40), quick("mlp"), quick("mlp")
    outside = HeldOut(dataset.ids, dataset.images, dataset.features, np.zeros(40, dtype=np.int64))
    assert isinstance(first, pictures.Mlp)
    expected = first.fit_predict(dataset, some_labels(40, 12), 3).probabilities
    other.fit_predict(dataset, some_labels(40, 24), 3)
    np.testing.assert_allclose(first.predict_held_out(outside), expected, atol=1e-6)


def test_a_copy_and_labels_left_out_change_nothing() -> None:
    """What is asked of a copy, or without some labels, leaves the last fit as it was; an own label is not used."""
    dataset, labels, model = tiny_dataset(40), some_labels(40, 12), pictures.Mlp(max_epochs=2)
    expected = model.fit_predict(dataset, labels, 3).probabilities
    copy.deepcopy(model).fit_predict(dataset, some_labels(40, 30), 3)
    folds = np.arange(12) % 3
    found = model.out_of_fold(dataset, labels, 3, np.where(folds == 2, -1, folds))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.array_equal(found[2::3], np.full((4, 3), 1 / 3))
    without = np.where(np.isin(np.arange(40), np.flatnonzero(folds == 0)), UNLABELED, labels)
    np.testing.assert_allclose(
        found[::3], quick("mlp").fit_predict(dataset, without, 3).probabilities[:12:3], atol=1e-6
    )
    outside = HeldOut(dataset.ids, dataset.images, dataset.features, np.zeros(40, dtype=np.int64))
    np.testing.assert_allclose(model.predict_held_out(outside), expected, atol=1e-6)


@pytest.mark.parametrize("n_labels", [0, 1, 30])
def test_fewer_than_two_classes_need_no_training(n_labels: int) -> None:
    """One class seen is certain everywhere, however many labels it has; none seen is the prior."""
    tiny, model = tiny_dataset(30), quick("cnn")
    labels = np.where(np.arange(30) < n_labels, 1, UNLABELED)
    probabilities = model.fit_predict(tiny, labels, 4).probabilities
    expected = [0, 1, 0, 0] if n_labels else [0.25] * 4
    assert np.array_equal(probabilities, np.tile(expected, (30, 1)))
    assert np.array_equal(model.predict(tiny.features[:7]), probabilities[:7])


def test_before_the_first_fit_there_is_no_answer() -> None:
    """As with every model."""
    with pytest.raises(ModelError) as raised:
        quick("cnn").predict(np.zeros((1, 4), dtype=np.float32))
    assert raised.value.code == "MODEL_NOT_FITTED"


@pytest.mark.parametrize("name", MODELS)
def test_impossible_settings_are_refused(name: str) -> None:
    """The message names the model and the setting."""
    for setting, value in ((SETTINGS[name], 0), ("max_epochs", 0), ("seed", -1)):
        with pytest.raises(ConfigError, match=rf"{name}\.{setting}"):
            registry.create("model", name, {setting: value})
    for encoder, setting in (("gan", "dimensions"), ("lstm", "units")):
        with pytest.raises(ConfigError, match=rf"{encoder}\.{setting}"):
            registry.create("encoder", encoder, {setting: 0})
