"""The encoder `contrastive`, trained for real on tiny images: the same twice, safe to kill, told what it may change.

A training starts TensorFlow in a process, which takes seconds: each one here is looked at by several tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator import registry
from annotator.encoders import checkpoint, contrastive, stored
from annotator.encoders.contrastive import (
    CHECKPOINT,
    HISTORY,
    MAX_TRAINED,
    MIN_IMAGES,
    SEEN,
    WEIGHTS,
    Contrastive,
    FittedContrastive,
    side_for,
)
from annotator.encoders.convolutions import Layer, average_cells, convolve, outputs_of
from annotator.errors import Cancelled, ConfigError, ImageError, JobError, ModelError
from annotator.jobs import Job
from annotator.sources.digits import Digits
from annotator.sources.fashion_mnist import FashionMnist
from annotator.sources.reordered import reorder
from annotator.types import FeatureArray, ImageArray, Keeps, keeps, suited
from annotator.workspace.jobs import UNFINISHED_SECONDS, Jobs

EPOCHS = 3


@cache
def shapes(n_channels: int, n: int = 512) -> ImageArray:
    """A bright bar, upright or lying, at one of four places under noise, 8 x 8 px."""
    rng = np.random.default_rng(n_channels)
    images = rng.integers(0, 90, (n, 8, 8, n_channels), dtype=np.uint8)
    for place in range(4):
        images[place::8, :, 2 * place] = 230
        images[4 + place :: 8, 2 * place] = 230
    images.flags.writeable = False
    return images


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def small() -> Contrastive:
    return Contrastive(dimensions=16, max_epochs=EPOCHS)


def key() -> str:
    """Of the training of `small()` on grey images."""
    return contrastive._key(small().plan(shapes(1), int(rng().integers(2**31))), shapes(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the training below leaves its checkpoint; before, there is one in it that was cut short."""
    folder = tmp_path_factory.mktemp("training")
    path = folder / CHECKPOINT
    checkpoint.write(path, key(), {"step": np.array(1), "history": np.array("[[], []]")})
    path.write_bytes(path.read_bytes()[:-9])
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> FittedContrastive:
    """On grey images, without an interruption."""
    return small().fit_in(folder, shapes(1), rng())


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(contrastive, "CHECKPOINT_SECONDS", 0.0)


def kill_at(job: Job, step: int) -> None:
    """Wait for the job, and end it with SIGKILL once it is that far."""

    def kill(stage: str, done: int, total: int) -> None:
        if stage.startswith("Learning") and done >= step:
            with contextlib.suppress(ProcessLookupError):  # told once more after its death
                os.kill(job._process.pid, signal.SIGKILL)

    with pytest.raises(JobError) as raised:
        job.wait(kill, poll=0.01)
    assert raised.value.code == "JOB_KILLED"


# ---- a training that is taken up again


@pytest.mark.usefixtures("often")
def test_a_killed_training_goes_on_and_ends_the_same(trained: FittedContrastive, tmp_path: Path) -> None:
    """Killed at a random moment: the next fit goes on from the checkpoint, and weights, losses and features are those
    of a training that was never interrupted, bit for bit; the losses of all epochs are told again.
    """
    moment = int(np.random.default_rng(time.time_ns()).integers(1, 8 * EPOCHS - 3))
    kill_at(small().start_training(shapes(1), rng(), tmp_path / "kept", tmp_path / "job"), moment)
    first_steps: list[int] = []

    def watch(stage: str, done: int, total: int) -> None:
        if stage.startswith("Learning"):
            first_steps.append(done)

    again = small().fit_in(tmp_path / "kept", shapes(1), rng(), watch)
    assert first_steps[0] >= moment - 1  # killed after it said so, before the checkpoint
    assert again.version == trained.version, moment
    assert again.history == trained.history
    np.testing.assert_array_equal(again.encode(shapes(1)), trained.encode(shapes(1)))


@pytest.mark.usefixtures("trained")
def test_a_damaged_checkpoint_is_thrown_away(folder: Path) -> None:
    """The training began at the start, all epochs were learned, and the last checkpoint is of its end."""
    kept = checkpoint.read(folder / CHECKPOINT, key())
    assert kept is not None
    assert int(kept["step"]) == 8 * EPOCHS
    assert [it["epoch"] for it in json.loads(str(kept["history"]))[0]] == [1, 2, 3]


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With its key; a flipped bit anywhere, another key or no file at all is no checkpoint."""
    path = tmp_path / "new" / CHECKPOINT
    assert checkpoint.read(path, "a") is None
    checkpoint.write(path, "another", {"weights": np.zeros(3)})
    assert checkpoint.read(path, "a") is None
    assert not path.exists()
    for number in (1.0, 2.0):
        checkpoint.write(path, "a", {"weights": np.full(3, number)})
    read = checkpoint.read(path, "a")
    assert read is not None
    assert list(read) == ["weights"]
    np.testing.assert_array_equal(read["weights"], [2, 2, 2])
    assert [it.name for it in path.parent.iterdir()] == [CHECKPOINT]
    content = bytearray(path.read_bytes())
    for place in (0, 40, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert checkpoint.read(path, "a") is None
    path.write_bytes(b"")
    assert checkpoint.read(path, "a") is None


@pytest.mark.usefixtures("often")
def test_a_training_goes_on_without_room_for_checkpoints(trained: FittedContrastive, tmp_path: Path) -> None:
    """No checkpoint fits, nor do the weights: the training reaches its end, and the error says what to do."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))  # the child inherits it
    try:
        job = small().start_training(shapes(1), rng(), tmp_path / "kept", tmp_path / "job")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with pytest.raises(ModelError, match=r"Cannot write .*contrastive\.npz.*Free some space") as raised:
        job.wait()
    assert raised.value.code == "MODEL_SAVE"
    assert [it["epoch"] for it in job.figures] == [1, 2, 3]
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_training_stops_when_asked_and_can_be_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `report` raises arrives; nothing is left in the temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("Learning"):
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled, match="Enough"):
        Contrastive(max_epochs=200).fit(shapes(1), rng(), stop)
    assert list(tmp_path.iterdir()) == []


def test_unfinished_trainings_are_kept_for_a_week(tmp_path: Path) -> None:
    """A project's training survives a restart the next day; one that nobody takes up any more is removed."""
    for name, days in (("training-new", 1), ("training-old", 8), ("dataset-old", 30)):
        folder = tmp_path / ".cache" / name
        folder.mkdir(parents=True)
        (folder / CHECKPOINT).write_bytes(b"")
        at = time.time() - days * 24 * 3600
        os.utime(folder / CHECKPOINT, (at, at))
        os.utime(folder, (at, at))
    Jobs(tmp_path).remove_leftovers()
    assert sorted(it.name for it in (tmp_path / ".cache").iterdir()) == ["dataset-old", "training-new"]
    assert UNFINISHED_SECONDS == 7 * 24 * 3600


# ---- what was learned


def test_what_was_saved_is_the_same_encoder(trained: FittedContrastive, tmp_path: Path) -> None:
    """Features bit for bit; losses of every epoch beside them, which only a plot needs."""
    trained.save(tmp_path)
    loaded = Contrastive().load(tmp_path)
    assert loaded.version == trained.version
    np.testing.assert_array_equal(loaded.encode(shapes(1)), trained.encode(shapes(1)))
    assert [it["epoch"] for it in json.loads((tmp_path / HISTORY).read_text())] == [1, 2, 3]
    (tmp_path / HISTORY).unlink()
    assert Contrastive().load(tmp_path).history == ()
    with (tmp_path / WEIGHTS).open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    with pytest.raises(ModelError) as raised:
        Contrastive().load(tmp_path)
    assert raised.value.code == "MODEL_HASH"


def test_features_are_rows_of_length_one(trained: FittedContrastive) -> None:
    """Of any number of images, whatever their size; the loss has fallen."""
    features = trained.encode(shapes(1))
    assert features.shape == (512, 16)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    assert trained.encode(np.zeros((2, 40, 21, 1), dtype=np.uint8)).shape == (2, 16)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_colour_images_are_learned_too(trained: FittedContrastive) -> None:
    """By a network for three channels, which refuses grey images, as the grey one refuses colour."""
    in_colour = Contrastive(dimensions=16, max_epochs=1).fit(shapes(3), rng())
    assert in_colour.encode(shapes(3)).shape == (512, 16)
    assert np.isfinite(in_colour.encode(shapes(3))).all()
    for encoder, n_channels in ((in_colour, 1), (trained, 3)):
        with pytest.raises(ImageError) as raised:
            encoder.encode(shapes(n_channels)[:2])
        assert raised.value.code == "IMG_CHANNELS"


def test_tensorflow_stays_in_the_child(trained: FittedContrastive) -> None:
    """After a training this process has neither TensorFlow nor Keras, nor has one that names the plug-in."""
    assert not {name.partition(".")[0] for name in sys.modules} & {"keras", "tensorflow"}
    code = "import sys; from annotator import registry; registry.create('encoder', 'contrastive'); "
    code += "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- what may be changed, and how long it is learned


def test_a_source_says_which_changes_keep_the_meaning() -> None:
    """Digits do not flip, clothes do, in any order; a parameter that was given stands."""
    assert keeps(Digits()) == Keeps(flip=False, colour=False)
    assert keeps(reorder(FashionMnist(), limit=10)).flip is True
    for source, flips in ((Digits(), False), (FashionMnist(), True)):
        encoder = suited(Contrastive(dimensions=9), keeps(source))
        assert isinstance(encoder, Contrastive)
        assert (encoder.flip, encoder.dimensions) == (flips, 9)
        given = suited(Contrastive(flip=not flips, colour_jitter=True), keeps(source))
        assert isinstance(given, Contrastive)
        assert (given.flip, given.colour_jitter) == (not flips, True)
    assert suited(registry.create("encoder", "hog"), keeps(Digits()))


def test_where_no_source_says_colour_pictures_flip_and_grey_ones_do_not() -> None:
    """Grey pictures that are stored in three channels are grey."""
    grey, colour = shapes(1), shapes(3)
    for images, expected in ((grey, False), (grey.repeat(3, axis=3), False), (colour, True)):
        plan = Contrastive().plan(images, 0)
        assert (plan.flip, plan.colour_jitter) == (expected, expected)
    asked = Contrastive(flip=True, colour_jitter=False)
    assert asked.plan(grey, 0).flip
    assert not asked.plan(colour, 0).colour_jitter


VIEWS = """
import numpy as np
from annotator.encoders.keras_augment import Changes, tf, view
images = np.zeros((256, 28, 28, 3), np.float32)
images[:, :, :14] = (0.9, 0.6, 0.3)
def views(flip, colour, seeds=(3, 4)):
    return view(tf.constant(images), tf.constant(seeds), Changes(flip, colour)).numpy()
def mirrored(seen):
    return (seen[:, :, :9].mean((1, 2, 3)) < seen[:, :, -9:].mean((1, 2, 3))).mean()
def order_of_channels(seen):
    return (np.diff(seen[:, :, :9].mean((1, 2)), axis=1) < 0.01).all()
assert mirrored(views(False, False)) < 0.03
assert 0.4 < mirrored(views(True, False)) < 0.6
assert order_of_channels(views(False, False))
assert not order_of_channels(views(False, True))
assert np.array_equal(views(True, True), views(True, True))
assert not np.array_equal(views(True, True), views(True, True, (3, 5)))
assert views(True, True).min() >= 0 and views(True, True).max() <= 1
"""


def test_views_flip_and_change_colour_only_where_allowed() -> None:
    """And are a function of their seeds."""
    done = subprocess.run([sys.executable, "-c", VIEWS], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_training_is_as_long_as_the_pool_needs() -> None:
    """A small pool is seen more often, a large one not for hours; of a huge one images are drawn."""
    seen = {}
    for n_images in (MIN_IMAGES, 5_000, 60_000, 1_000_000):
        images = np.broadcast_to(np.zeros((1, 28, 28, 1), np.uint8), (n_images, 28, 28, 1))
        plan = Contrastive().plan(images, 0)
        assert plan.steps > 0
        assert plan.batch * plan.steps_per_epoch <= plan.n_trained <= MAX_TRAINED
        seen[n_images] = plan.epochs * plan.n_trained
    assert seen[MIN_IMAGES] < seen[5_000] < seen[60_000] <= 1.1 * SEEN
    assert seen[MIN_IMAGES] / MIN_IMAGES > 10 * seen[60_000] / 60_000
    assert seen[1_000_000] <= 1.1 * SEEN
    assert Contrastive(max_epochs=2).plan(shapes(1), 0).epochs == 2


def test_small_pools_are_refused_before_anything_starts() -> None:
    """The error says which encoders need no training."""
    with pytest.raises(ModelError, match=r"A pool of 499 images is too small .* hog or imagenet") as raised:
        Contrastive().fit(shapes(1, 499), rng())
    assert raised.value.code == "MODEL_TOO_SMALL"


@pytest.mark.parametrize("wrong", [{"dimensions": 0}, {"dimensions": 513}, {"max_epochs": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:  # Any: keywords
    """The message names the setting."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Contrastive(**wrong)


# ---- the network in NumPy


@pytest.mark.parametrize(("side", "kernel", "stride"), [(7, 3, 1), (8, 3, 2), (9, 5, 2), (10, 5, 4)])
def test_a_convolution_is_the_sum_over_its_window(side: int, kernel: int, stride: int) -> None:
    """A cell for each `stride` pixels, zeros beyond the border, as much of them before as behind or one less."""
    draw = rng()
    images = draw.normal(size=(2, side, side, 3)).astype(np.float32)
    weights = draw.normal(size=(kernel, kernel, 3, 4)).astype(np.float32)
    found = convolve(images, weights, stride)
    cells = -(-side // stride)
    assert found.shape == (2, cells, cells, 4)
    before = max((cells - 1) * stride + kernel - side, 0) // 2
    padded = np.pad(images, ((0, 0), (before, kernel), (before, kernel), (0, 0)))
    for y, x in ((0, 0), (cells - 1, 1), (1, cells - 1)):
        window = padded[:, y * stride : y * stride + kernel, x * stride : x * stride + kernel]
        np.testing.assert_allclose(found[:, y, x], np.einsum("nijc,ijcd->nd", window, weights), rtol=1e-4, atol=1e-4)


def test_a_layer_that_adds_ends_a_block() -> None:
    """What went into the layer before is added; relu is last."""
    layers = (Layer(1, 1), Layer(1, 1), Layer(1, 1, shortcut=True))
    kernels: list[FeatureArray] = [np.full((1, 1, 1, 1), value, np.float32) for value in (1, 2, -1)]
    biases: list[FeatureArray] = [np.zeros(1, np.float32)] * 3
    outputs = outputs_of(layers, kernels, biases, np.full((1, 2, 2, 1), 3, np.float32))
    assert [float(output.max()) for output in outputs] == [3, 6, 0]


def test_cells_are_means_of_their_part() -> None:
    """Also where the side is no multiple: neighbours share a row then."""
    maps = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    np.testing.assert_allclose(average_cells(maps, 3)[0], np.arange(9))
    np.testing.assert_allclose(average_cells(maps, 2)[0], [2, 3, 5, 6])


@pytest.mark.parametrize(
    ("shape", "side"), [((8, 8), 28), ((28, 20), 28), ((32, 32), 32), ((64, 64), 64), ((300, 9), 64)]
)
def test_images_are_brought_to_few_sizes(shape: tuple[int, int], side: int) -> None:
    """The next larger one; 64 px at most."""
    assert side_for((*shape, 3)) == side


def test_equal_pools_are_known_again() -> None:
    """The key of a checkpoint differs where the images or the plan do."""
    plan = Contrastive().plan(shapes(1), 5)
    changed = shapes(1).copy()
    changed[100, 0, 0] ^= 1
    keys = {contrastive._key(plan, shapes(1)), contrastive._key(plan, changed)}
    keys.add(contrastive._key(Contrastive().plan(shapes(1), 6), shapes(1)))
    assert len(keys) == 3
    assert contrastive._key(plan, shapes(1)[:]) in keys
    assert stored.digest(shapes(1)) == stored.digest(shapes(1).copy())
