"""Autoencoder and encoder-classifier, trained for real on digits: in child processes, the same twice, safe to kill.

Longer than other files: what is trained once is looked at by many tests, since training is slow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotator import npy, registry
from annotator.dataset import Prepared, Recipe, open_prepared, prepare
from annotator.encoders import stored
from annotator.encoders.autoencoder import WEIGHTS, Autoencoder, flatten, input_shape, widths
from annotator.encoders.dense import DenseLayers
from annotator.encoders.training import HISTORY, MIN_IMAGES
from annotator.errors import Cancelled, ConfigError, ImageError, JobError, ModelError
from annotator.jobs import TEMPORARY, Job
from annotator.models import trainer
from annotator.models.encoder_classifier import EncoderClassifier
from annotator.models.head import BATCH, STEPS, Head, Scaling, batches_of, scaling_of
from annotator.models.out_of_fold import without_own_fold
from annotator.types import UNLABELED, Dataset, FeatureArray, FloatArray, ImageArray, IntArray
from tests.builders import tiny_dataset

RECIPE = Recipe("digits", encoder="autoencoder", encoder_parameters={"max_epochs": 12})


@dataclasses.dataclass(frozen=True)
class Trained:
    """What preparing digits with an autoencoder left behind, and the job that did it."""

    prepared: Prepared
    job: Job

    @property
    def dataset(self) -> Dataset:
        return self.prepared.dataset

    @property
    def folder(self) -> Path:
        """The fitted encoder's."""
        return self.prepared.folder / "encoder"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """1,297 digits, as the app prepares them: a job, which trains in a job of its own."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = {"recipe": dataclasses.asdict(RECIPE), "cache": str(folder / "cache")}
    job = Job.start("annotator.dataset:prepare_job", arguments, folder / "job")
    return Trained(open_prepared(folder / "cache" / job.wait()["folder"], RECIPE), job)


@pytest.fixture(autouse=True, scope="module")
def _worker_ends_with_these_tests() -> Iterator[None]:
    yield
    trainer.shared().close()
    trainer.start.cache_clear()


def some_labels(truth: IntArray | None, n: int, seed: int = 0) -> IntArray:
    assert truth is not None
    labels = np.full(len(truth), UNLABELED)
    rows = np.random.default_rng(seed).permutation(len(truth))[:n]
    labels[rows] = truth[rows]
    return labels


def photos(n: int, *shape: int) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, size=(n, *shape), dtype=np.uint8)


def small_layers(n_inputs: int, n_outputs: int) -> DenseLayers:
    rng = np.random.default_rng(0)
    shapes = [(n_inputs, 5), (5,), (5, n_outputs), (n_outputs,)]
    return DenseLayers(tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def negative_log_likelihood(probabilities: FloatArray, truth: IntArray) -> float:
    return float(-np.log(probabilities[np.arange(len(truth)), truth]).mean())


# ---- the autoencoder


def test_trainings_have_two_threads_whatever_else_is_set() -> None:
    """What a training ends in depends on their number, and no key knows it."""
    asked = (
        "from annotator.encoders.keras_setup import tf; print(tf.config.threading.get_intra_op_parallelism_threads())"
    )
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, check=True, text=True)
    assert found.stdout == "2\n"


def test_losses_are_told_while_training_and_kept_beside_the_weights(trained: Trained) -> None:
    """One line an epoch reaches whoever watches the outer job; the same lines are in history.json; training helps."""
    history = json.loads((trained.folder / HISTORY).read_text())
    assert trained.job.figures == history
    assert [losses["epoch"] for losses in history] == list(range(1, 13))
    assert set(history[0]) == {"epoch", "loss", "val_loss", "val_mse"}
    assert history[-1]["val_mse"] < 0.7 * history[0]["val_mse"]


def test_features_are_the_code_of_the_saved_encoder(trained: Trained) -> None:
    """Three products of matrices in NumPy: what was saved gives the dataset's features again, none negative."""
    fitted = Autoencoder().load(trained.folder)
    assert fitted.layers.widths == (64, 86, 64, 64)
    vectors = flatten(trained.dataset.images, fitted.shape)
    for kernel, bias in zip(fitted.layers.weights[::2], fitted.layers.weights[1::2], strict=True):
        vectors = np.maximum(vectors @ kernel + bias, 0)
    assert np.array_equal(fitted.encode(trained.dataset.images), trained.dataset.features)
    np.testing.assert_allclose(trained.dataset.features, vectors, atol=1e-4)
    assert trained.dataset.features.dtype == np.float32


def test_killed_training_leaves_nothing_to_load_and_another_gives_the_same(trained: Trained, tmp_path: Path) -> None:
    """A kill at any moment is a typed error, its folder holds no weights, and a new start ends in the same ones."""
    endless, encoder = Autoencoder(max_epochs=10_000, patience=10_000), Autoencoder(max_epochs=12)
    job = endless.start_training(trained.dataset.images, np.random.default_rng(0), tmp_path)
    moment = int(np.random.default_rng(1).integers(1, 1000))

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "Training the autoencoder" and done >= moment:
            with contextlib.suppress(ProcessLookupError):  # told once more after its death
                os.kill(job._process.pid, signal.SIGKILL)

    with pytest.raises(JobError) as raised:
        job.wait(kill)
    assert raised.value.code == "JOB_KILLED"
    with pytest.raises(ModelError) as refused:
        encoder.load(tmp_path)
    assert refused.value.code == "MODEL_HASH"
    encoder.start_training(trained.dataset.images, np.random.default_rng(0), tmp_path).wait()
    assert encoder.load(tmp_path).version == Autoencoder().load(trained.folder).version


def test_training_stops_when_asked(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `report` raises arrives, the child has gone by then, and its folder with it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Training the autoencoder":
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled, match="Enough"):
        Autoencoder(max_epochs=10_000).fit(trained.dataset.images, np.random.default_rng(0), stop)
    assert list(tmp_path.iterdir()) == []


def test_a_small_pool_is_refused_before_anything_starts() -> None:
    """Under 200 images the error says which encoders need no training."""
    with pytest.raises(ModelError, match=r"A pool of 199 images is too small to train .* pixels or hog") as raised:
        Autoencoder().fit(photos(MIN_IMAGES - 1, 8, 8, 1), np.random.default_rng(0))
    assert raised.value.code == "MODEL_TOO_SMALL"


def test_other_channels_are_refused(trained: Trained) -> None:
    """A colour image is not put through a network for grey ones."""
    with pytest.raises(ImageError) as raised:
        Autoencoder().load(trained.folder).encode(photos(2, 8, 8, 3))
    assert raised.value.code == "IMG_CHANNELS"


def test_images_of_another_size_have_features(trained: Trained) -> None:
    """They are brought to the pool's size first."""
    features = Autoencoder().load(trained.folder).encode(photos(3, 20, 31, 1))
    assert features.shape == (3, 64)
    assert np.isfinite(features).all()


def test_the_reference_image_has_the_reference_network() -> None:
    """28 x 28 in grey: 784, 300, 200, 100; a photo's view is halved, its hidden layers are wider."""
    assert input_shape((28, 28, 1)) == (28, 28, 1)
    assert widths((28, 28, 1), 100) == [784, 300, 200, 100]
    assert input_shape((64, 64, 3)) == (32, 32, 3)
    assert widths((32, 32, 3), 100) == [3072, 594, 396, 100]


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([1, 3]), st.integers(1, 1000))
def test_every_image_fits(height: int, width: int, n_channels: int, code: int) -> None:
    """Never more than 3,072 values, never larger than the image; no layer narrower than the code."""
    shape = input_shape((height, width, n_channels))
    assert 1 <= np.prod(shape) <= 3072
    assert shape[0] <= height
    assert shape[1] <= width
    assert shape[2] == n_channels
    n_values, first, second, length = widths(shape, code)
    assert first >= second >= length == min(code, n_values)


@pytest.mark.parametrize("wrong", [{"code": 0}, {"max_epochs": 0}, {"patience": 0}, {"seed": -1}, {"seed": 2**32}])
def test_impossible_settings_of_the_encoder_are_refused(wrong: dict[str, int]) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Autoencoder(**wrong)


# ---- weights on disk


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    stored.write(tmp_path / WEIGHTS, small_layers(4, 3).arrays)
    return tmp_path / WEIGHTS


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone", "no hash", "another's hash"])
def test_damaged_weights_are_refused(weights: Path, damage: str) -> None:
    """Whatever happened to the file or its hash: MODEL_HASH, with the folder to delete."""
    content, hash_file = bytearray(weights.read_bytes()), weights.with_name(WEIGHTS + ".sha256")
    if damage == "cut":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "gone":
        weights.unlink()
    elif damage == "no hash":
        hash_file.unlink()
    else:
        hash_file.write_text("0" * 64)
    with pytest.raises(ModelError, match="Delete the folder") as raised:
        stored.read(weights)
    assert raised.value.code == "MODEL_HASH"


def test_a_lost_loss_history_loses_no_encoder(trained: Trained, tmp_path: Path) -> None:
    """It is only looked at: cut or gone, the weights are loaded all the same."""
    fitted = Autoencoder().load(trained.folder)
    fitted.save(tmp_path)
    for damage in (lambda path: path.write_text(path.read_text()[:30]), Path.unlink):
        damage(tmp_path / HISTORY)
        assert Autoencoder().load(tmp_path).version == fitted.version
        assert Autoencoder().load(tmp_path).history == ()


def test_training_that_finds_no_room_leaves_nothing_to_load(trained: Trained, tmp_path: Path) -> None:
    """The images fit, the weights do not: the error says what to do, and what was begun is no weight file."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))  # the child inherits it
    try:
        job = Autoencoder(max_epochs=1).start_training(trained.dataset.images[:200], np.random.default_rng(0), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with pytest.raises(ModelError, match=r"Cannot write .*autoencoder\.npz.*Free some space") as raised:
        job.wait()
    assert raised.value.code == "MODEL_SAVE"
    with pytest.raises(ModelError) as refused:
        Autoencoder().load(tmp_path)
    assert refused.value.code == "MODEL_HASH"


def test_tensorflow_leaves_nothing_outside_its_folders(trained: Trained) -> None:
    """The code that it generates while it runs lies in the worker's folder, which goes with the worker."""
    EncoderClassifier(max_epochs=5).fit_predict(trained.dataset, some_labels(trained.dataset.truth, 30), 10)
    worker = trainer.shared()
    assert worker._process is not None
    environment = Path(f"/proc/{worker._process.pid}/environ").read_bytes().split(b"\0")
    assert f"TMPDIR={worker.folder / TEMPORARY}".encode() in environment


def test_pickles_are_refused_even_with_a_hash(weights: Path) -> None:
    """A file that fits its hash is still read as plain arrays alone."""
    for content in (pickle.dumps({"weights": 1}), b"PK\x03\x04 no archive"):
        weights.write_bytes(content)
        stored.hash_of(weights).write_text(hashlib.sha256(content).hexdigest())
        with pytest.raises(ModelError, match="no plain arrays"):
            stored.read(weights)


def test_an_unfinished_file_changes_nothing(weights: Path) -> None:
    """What a killed writer left under its temporary name is never read; the next writer replaces it."""
    before = stored.digest(*stored.read(weights).values())
    weights.with_name(WEIGHTS + ".part").write_bytes(b"half")
    assert stored.digest(*stored.read(weights).values()) == before
    stored.write(weights, small_layers(7, 2).arrays)
    assert stored.read(weights)["weights_0"].shape == (7, 5)
    assert sorted(path.name for path in weights.parent.iterdir()) == [WEIGHTS, WEIGHTS + ".sha256"]


def test_weights_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    """A full or read-only place is named, with what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="Free some space") as raised:
        stored.write(tmp_path / "file" / WEIGHTS, small_layers(4, 3).arrays)
    assert raised.value.code == "MODEL_SAVE"


def test_a_mapped_array_is_its_own_file_and_a_part_of_it_is_not(tmp_path: Path) -> None:
    """Another process sees exactly these numbers, copied only where no file holds them."""
    np.save(tmp_path / "all.npy", np.arange(24.0, dtype=np.float32).reshape(8, 3))
    mapped = np.load(tmp_path / "all.npy", mmap_mode="r")
    assert stored.path_of(mapped, tmp_path / "copies") == tmp_path / "all.npy"
    for array in (mapped[:5], mapped[::-1], mapped[:, 1:], mapped[[3, 1]], np.asarray(mapped) * 2):
        path = stored.path_of(array, tmp_path / "copies")
        assert path.parent == tmp_path / "copies"
        assert stored.path_of(array, tmp_path / "copies") == path
        assert np.array_equal(np.load(path), array)


def test_what_the_cache_opens_is_its_own_file(tmp_path: Path) -> None:
    """R4: pool and features as the app opens them are mapped by the child, not copied for it."""
    images = np.arange(12 * 8 * 8, dtype=np.uint8).reshape(12, 8, 8)
    np.savez(tmp_path / "images.npz", images=images)
    recipe = Recipe("arrays", {"path": str(tmp_path / "images.npz")}, encoder="pixels", n_neighbors=3)
    prepare(recipe, tmp_path / "cache")
    dataset = prepare(recipe, tmp_path / "cache").dataset
    for array in (dataset.images, dataset.features):
        path = stored.path_of(array, tmp_path / "copies")
        assert path.is_relative_to(tmp_path / "cache")
        assert np.array_equal(npy.load(path), array)
        assert stored.path_of(array[1:], tmp_path / "copies").parent == tmp_path / "copies"
    changed = np.load(stored.path_of(dataset.features, tmp_path), mmap_mode="c")
    changed[0] = 7
    assert np.array_equal(np.load(stored.path_of(np.asarray(changed), tmp_path / "copies")), changed)


# ---- the classifier


def test_keras_stays_in_the_children(trained: Trained) -> None:
    """After a training and a fit this process has neither TensorFlow nor Keras, and a guess for every image."""
    prediction = EncoderClassifier().fit_predict(trained.dataset, some_labels(trained.dataset.truth, 30), 10)
    assert np.isfinite(prediction.probabilities).all()
    assert not {name.partition(".")[0] for name in sys.modules} & {"keras", "tensorflow"}


def test_importing_the_plugins_loads_no_keras() -> None:
    """Nor does naming them in a fresh process."""
    names = (("encoder", "autoencoder"), ("model", "encoder-classifier"))
    code = f"import sys; from annotator import registry; [registry.create(*name) for name in {names}]; "
    code += "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert registry.load("model", "encoder-classifier").asynchronous


@pytest.mark.parametrize("n_labels", [2, 10, 20, 120, 700, 1297])
def test_probabilities_are_of_the_pool_and_the_same_outside(trained: Trained, n_labels: int) -> None:
    """Rows sum to 1, classes without a label get 0, and an image outside the pool is told as one inside."""
    labels = some_labels(trained.dataset.truth, n_labels)
    model = EncoderClassifier(max_epochs=40)
    probabilities = model.fit_predict(trained.dataset, labels, 12).probabilities
    assert probabilities.shape == (1297, 12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    unseen = np.setdiff1d(np.arange(12), labels)
    assert {10, 11} <= set(unseen)
    assert (probabilities[:, unseen] == 0).all()
    np.testing.assert_allclose(model.predict(trained.dataset.features), probabilities, atol=1e-6)
    assert model.predict(trained.dataset.features[:0]).shape == (0, 12)


def test_it_learns(trained: Trained) -> None:
    """From 600 labels nine in ten held-out digits are told right."""
    held_out = trained.dataset.held_out
    assert held_out is not None
    model = EncoderClassifier()
    model.fit_predict(trained.dataset, some_labels(trained.dataset.truth, 600), 10)
    assert (model.predict(held_out.features).argmax(axis=1) == held_out.truth).mean() > 0.9


def test_calibration_makes_the_truth_more_likely(trained: Trained) -> None:
    """On held-out images the temperature found from 60 labels beats none."""
    held_out = trained.dataset.held_out
    assert held_out is not None
    model = EncoderClassifier()
    model.fit_predict(trained.dataset, some_labels(trained.dataset.truth, 60), 10)
    assert model._fitted is not None
    assert model._fitted.head is not None
    plain = dataclasses.replace(model._fitted.head, temperature=1.0)
    calibrated = negative_log_likelihood(model.predict(held_out.features), held_out.truth)
    assert calibrated < negative_log_likelihood(plain.probabilities(held_out.features), held_out.truth)


def test_same_labels_same_answer_whatever_came_between(trained: Trained) -> None:
    """Bit for bit: by another model, after other fits, and by another process after the first was killed."""
    labels, model = some_labels(trained.dataset.truth, 150), EncoderClassifier(max_epochs=30)
    first = model.fit_predict(trained.dataset, labels, 10).probabilities
    model.fit_predict(trained.dataset, some_labels(trained.dataset.truth, 40, seed=1), 10)
    assert np.array_equal(model.fit_predict(trained.dataset, labels, 10).probabilities, first)
    process = trainer.shared()._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = EncoderClassifier(max_epochs=30).fit_predict(trained.dataset, labels, 10).probabilities
    assert np.array_equal(again, first)
    other = EncoderClassifier(max_epochs=30, seed=1).fit_predict(trained.dataset, labels, 10).probabilities
    assert not np.array_equal(other, first)


def test_a_batch_is_all_labels_or_a_part_in_shuffled_epochs() -> None:
    """As many steps for any number of labels, none left out before all were seen; fewer where that is asked for."""
    few, many, once = (batches_of(n, most, np.random.default_rng(0)) for n, most in ((10, 300), (1000, 300), (1000, 1)))
    assert few.shape == (STEPS, 10)
    assert (np.sort(few, axis=1) == np.arange(10)).all()
    assert many.shape == (STEPS, BATCH)
    assert np.array_equal(np.sort(many.ravel()[:1000]), np.arange(1000))
    assert once.shape == (3, BATCH)


def test_what_it_says_of_labels_it_has_not_seen(trained: Trained) -> None:
    """A copy is trained without them; the model itself stays as it was."""
    labels, model = some_labels(trained.dataset.truth, 40), EncoderClassifier(max_epochs=30)
    first = model.fit_predict(trained.dataset, labels, 10).probabilities
    found = without_own_fold(model, trained.dataset, labels, 10, np.arange(40) % 2)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == labels[labels != UNLABELED]).mean() > 0.4
    assert np.array_equal(model.predict(trained.dataset.features[:5]).argmax(axis=1), first[:5].argmax(axis=1))


def test_models_share_the_worker_and_keep_apart(trained: Trained) -> None:
    """Two threads fit at once on two datasets: each has its own answer."""
    tiny = tiny_dataset(60)
    given = ((trained.dataset, some_labels(trained.dataset.truth, 50)), (tiny, some_labels(tiny.truth, 30)))
    alone = [EncoderClassifier(max_epochs=20).fit_predict(*one, 10).probabilities for one in given]
    together: dict[int, FloatArray] = {}

    def fit(number: int) -> None:
        together[number] = EncoderClassifier(max_epochs=20).fit_predict(*given[number], 10).probabilities

    threads = [threading.Thread(target=fit, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 1):
        assert np.array_equal(together[number], alone[number])


def test_features_in_memory_are_written_once(trained: Trained) -> None:
    """A dataset that no file holds goes to the worker as a copy, which ends with the model."""
    tiny, model = tiny_dataset(60), EncoderClassifier(max_epochs=5)
    model.fit_predict(tiny, some_labels(tiny.truth, 20), 3)
    folder = model._own_folder()
    (copy,) = folder.glob("array-*.npy")
    written = copy.stat().st_mtime_ns
    model.fit_predict(tiny, some_labels(tiny.truth, 25), 3)
    assert copy.stat().st_mtime_ns == written
    del model
    assert not folder.exists()


@pytest.mark.parametrize("n_labels", [0, 1, 30])
def test_fewer_than_two_classes_need_no_training(n_labels: int) -> None:
    """One class seen is certain everywhere, however many labels it has; none seen is the prior."""
    tiny = tiny_dataset(30)
    labels = np.where(np.arange(30) < n_labels, 1, UNLABELED)
    model = EncoderClassifier()
    probabilities = model.fit_predict(tiny, labels, 4).probabilities
    expected = [0, 1, 0, 0] if n_labels else [0.25] * 4
    assert np.array_equal(probabilities, np.tile(expected, (30, 1)))
    assert np.array_equal(model.predict(tiny.features[:7]), probabilities[:7])


def test_before_the_first_fit_there_is_no_answer() -> None:
    """As with every model."""
    with pytest.raises(ModelError) as raised:
        EncoderClassifier().predict(np.zeros((1, 4), dtype=np.float32))
    assert raised.value.code == "MODEL_NOT_FITTED"


def test_warming_up_does_not_wait() -> None:
    """The worker is there afterwards, one for all, and nothing was asked of it."""
    EncoderClassifier().warm_up()
    worker = trainer.shared()
    EncoderClassifier().warm_up()
    assert trainer.shared() is worker


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"max_epochs": 0}, {"patience": 0}, {"seed": -1}, {"seed": 2**32}])
def test_impossible_settings_of_the_model_are_refused(wrong: dict[str, int]) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EncoderClassifier(**wrong)


# ---- the head in NumPy


@pytest.mark.parametrize("n_rows", [1, 5, 9000])
def test_scaling_is_mean_and_one_spread(n_rows: int) -> None:
    """In parts or at once; where all rows are equal nothing is divided by zero."""
    features = np.random.default_rng(0).normal(3, 2, size=(n_rows, 4)).astype(np.float32)
    scaling = scaling_of(features)
    np.testing.assert_allclose(scaling.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-5)
    expected = np.sqrt(features.var(axis=0, dtype=np.float64).mean()) or 1.0
    np.testing.assert_allclose(scaling.spread, expected, rtol=1e-5)
    assert np.isfinite(scaling.apply(features)).all()


def test_a_head_does_not_care_how_many_rows_it_is_given() -> None:
    """In one part or in three: equal to rounding, every row sums to 1."""
    features: FeatureArray = np.random.default_rng(0).normal(size=(20_000, 6)).astype(np.float32)
    head = Head(Scaling(np.zeros(6, dtype=np.float32), 1.0), small_layers(6, 3), 0.7)
    probabilities = head.probabilities(features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(probabilities[19_990:], head.probabilities(features[19_990:]), atol=1e-6)
