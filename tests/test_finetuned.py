"""The encoder `finetuned`: a network that learns a project's labels, is judged, and joins the vote. Tiny networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator import finetuning, registry
from annotator.config import Config, Recipe
from annotator.encoders import networks, stored
from annotator.encoders.auto import Auto
from annotator.encoders.finetuned import Finetuned
from annotator.encoders.pixels import Pixels
from annotator.encoders.training_plan import Plan, plan_for
from annotator.encoders.warps import WEAK, changes, random_warps
from annotator.errors import ConfigError, ModelError
from annotator.improvements import Improving
from annotator.jobs import Job
from annotator.models.vote import Vote
from annotator.pointer import CACHE
from annotator.project import Project
from annotator.types import ImageArray, IntArray, silent

CLASSES = ("across", "down", "askew")
N_IMAGES, N_TEST = 220, 30
TINY = asdict(Plan("block1", 16, 40, n_unlabeled=24, n_labeled=16, rate=1e-3, head_rate=5e-3, checkpoint=20))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def stripes(n: int, seed: int = 0) -> tuple[ImageArray, IntArray]:
    """Stripes of three directions at random places, under noise: one pixel tells nothing."""
    draw = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    down, across = np.mgrid[:16, :16]
    place = np.stack([down, across, (down + across) / 2**0.5])[truth]
    waves = np.sin(draw.uniform(1, 2, size=(n, 1, 1)) * place + draw.uniform(0, 6.3, size=(n, 1, 1)))
    noise = draw.normal(0, 80, size=waves.shape)
    return np.clip(127 + 60 * waves + noise, 0, 255).astype(np.uint8)[..., None], truth


def config_of(folder: Path, labels: str = "known") -> Config:
    images, truth = stripes(N_IMAGES)
    test, test_truth = stripes(N_TEST, seed=1)
    path = folder / "stripes.npz"
    known = np.where(np.arange(N_IMAGES) < 170, truth, -1)
    if not path.exists():
        arrays = {"images": images[..., 0], "labels": known, "x_test": test[..., 0], "y_test": test_truth}
        np.savez(path, class_names=np.array(CLASSES), **arrays)
    return Config(
        name="stripes",
        source="arrays",
        source_parameters={"path": str(path)},
        encoder="finetuned",
        encoder_parameters={"base": "pixels"},
        model="vote",
        initial=labels,
        n_neighbors=5,
    )


@dataclass(frozen=True)
class Trained:
    """A project after its first training, as it was judged better."""

    project: Project
    result: dict[str, Any]
    accuracy_before: float


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("stripes")
    project = Project.create(folder / "projects" / "stripes", config_of(folder))
    project.learner.learn()
    before = project.learner.history[-1].measures["test"]["accuracy"]
    arguments = finetuning.arguments(project)
    assert arguments is not None
    improving = Improving(project)
    task = improving.due()
    assert task is not None
    assert task.arguments == arguments
    result = finetuning.train_job(json.loads(json.dumps(arguments | {"plan": TINY})), silent)
    assert result["changes"], result["said"]
    project.change(**result["changes"])
    improving.end(task, result["said"], is_applied=True)
    return Trained(project, result, before)


def test_what_is_better_joins_the_vote(trained: Trained) -> None:
    """The opinion is there for pool and test images, the vote is right more often, the sentence has the figures."""
    dataset, held_out = trained.project.learner.dataset, trained.project.learner.dataset.held_out
    assert dataset.opinion is not None
    assert held_out is not None
    assert held_out.opinion is not None
    assert dataset.opinion.probabilities.shape == (N_IMAGES, 3)
    np.testing.assert_allclose(held_out.opinion.probabilities.sum(axis=1), 1, rtol=1e-5)
    vote = Vote()
    labels = trained.project.learner.labels
    vote.fit_predict(dataset, labels, 3)
    accuracy = (vote.predict_held_out(held_out).argmax(axis=1) == held_out.truth).mean()
    assert accuracy > trained.accuracy_before
    assert "170 labels" in trained.result["said"]
    assert "34 labels right" in trained.result["said"]


def test_it_is_due_again_when_there_are_twice_as_many_labels(trained: Trained) -> None:
    """Not with the same labels; no label was touched by the training."""
    assert Improving(trained.project).due() is None
    assert (trained.project.learner.labels >= 0).sum() == 170
    assert not (trained.project.folder / "networks" / "unfinished").exists()


def test_a_project_reopens_when_its_cache_is_gone(trained: Trained, tmp_path: Path) -> None:
    """The network is copied from the project; the opinions are the same, bit for bit."""
    opinion = trained.project.learner.dataset.opinion
    copied = tmp_path / "projects" / "stripes"
    shutil.copytree(trained.project.folder, copied)
    reopened = Project(copied)
    found = reopened.learner.dataset.opinion
    assert opinion is not None
    assert found is not None
    np.testing.assert_array_equal(found.probabilities, opinion.probabilities)
    np.testing.assert_array_equal(found.codes, opinion.codes)
    assert reopened.notice == ""
    reopened.close()


def test_a_project_opens_without_its_network(trained: Trained, tmp_path: Path) -> None:
    """Cache and network are gone: the labels are there, on the base's features, and it says what to do."""
    copied = tmp_path / "projects" / "stripes"
    shutil.copytree(trained.project.folder, copied)
    shutil.rmtree(copied / "networks")
    reopened = Project(copied)
    assert "missing or damaged" in reopened.notice
    assert "trained again" in reopened.notice
    assert reopened.learner.dataset.opinion is None
    assert (reopened.learner.labels >= 0).sum() == 170
    improving = Improving(reopened)
    again = improving.due()
    assert again is not None
    assert again.arguments["recipe"]["encoder_parameters"]["network"] == ""
    improving.end(again, "", is_applied=False)
    assert improving.due() is None
    reopened.close()


def test_a_network_is_found_when_it_is_put_back(trained: Trained, tmp_path: Path) -> None:
    """The .npz alone is enough; the word on its loss goes."""
    copied = tmp_path / "projects" / "stripes"
    shutil.copytree(trained.project.folder, copied)
    (path,) = (copied / "networks").glob("*.npz")
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    reopened = Project(copied)
    assert "missing or damaged" in reopened.notice
    assert reopened.learner.dataset.opinion is None
    reopened.close()
    path.write_bytes(content)
    path.with_name(path.name + ".sha256").unlink()
    again = Project(copied)
    assert again.notice == ""
    assert again.learner.dataset.opinion is not None
    assert networks.read(path).name == path.stem
    again.close()


def test_either_copy_of_a_network_mends_the_other(trained: Trained, tmp_path: Path) -> None:
    """Cut short, or without its hash; where both are damaged it is lost."""
    name = trained.result["changes"]["encoder_parameters"]["network"]
    project, cache = tmp_path / "project", tmp_path / "cache"
    networks.copy(name, trained.project.folder, project)
    paths = [networks.path_of(folder, name) for folder in (project, cache)]
    assert networks.available(name, project, cache) == paths[1]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-100])
        networks.available(name, project, cache)
        path.with_name(path.name + ".sha256").unlink()
        networks.available(name, project, cache)
        assert [networks.read(each).name for each in paths] == [name, name]
    assert not networks.is_lost(name, project, cache)
    for path in paths:
        path.unlink()
    assert networks.is_lost(name, project, cache)
    with pytest.raises(ModelError, match="missing or damaged"):
        networks.available(name, project, cache)


def fake_training(trained: Trained) -> Callable[..., list[str]]:
    """Gives the network that is there already, as a training leaves it."""
    name = trained.result["changes"]["encoder_parameters"]["network"]

    def train(
        request: object, prepared: object, vote: object, labels: object, folder: Path, report: object
    ) -> list[str]:
        networks.copy(name, trained.project.folder, folder)
        return [name]

    return train


def test_no_room_for_a_network_loses_nothing(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job fails and says so, what was learned stays; the project is not changed to what lies in the cache alone."""
    project = Project.create(tmp_path / "projects" / "stripes", config_of(tmp_path))
    project.learner.learn()
    arguments = finetuning.arguments(project)
    assert arguments is not None
    monkeypatch.setattr(finetuning, "_train", fake_training(trained))
    write = stored.write

    def full(path: Path, arrays: Any) -> None:
        if path.parent == project.folder / "networks":
            raise ModelError("No space left on device", "MODEL_SAVE")
        write(path, arrays)

    monkeypatch.setattr(stored, "write", full)
    with pytest.raises(ModelError) as refused:
        finetuning.train_job(arguments, silent)
    assert refused.value.code == "MODEL_SAVE"
    assert networks.names_in(project.folder / "networks" / "unfinished")
    monkeypatch.setattr(stored, "write", write)
    assert finetuning.train_job(arguments, silent)["changes"]
    assert networks.names_in(project.folder)
    finetuning.remove_unused(project)  # what was trained for nothing: no config names it
    assert networks.names_in(project.folder) == []
    project.close()


def test_without_room_a_project_opens_on_its_base(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says that the disk is full, not that the network is damaged."""
    copied = tmp_path / "projects" / "stripes"
    shutil.copytree(trained.project.folder, copied)
    write = stored.write

    def full(path: Path, arrays: Any) -> None:
        if path.parent == tmp_path / "projects" / CACHE / "networks":
            raise ModelError("Cannot write: No space left on device.", "MODEL_SAVE")
        write(path, arrays)

    monkeypatch.setattr(stored, "write", full)
    reopened = Project(copied)
    assert reopened.notice == "Cannot write: No space left on device."
    assert not finetuning.is_lost(reopened)
    reopened.close()


def test_a_cache_that_went_while_the_project_was_open_is_no_loss(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next training finds the network in the project's folder."""
    copied = tmp_path / "projects" / "stripes"
    shutil.copytree(trained.project.folder, copied)
    project = Project(copied)
    arguments = finetuning.arguments(project)
    assert arguments is not None
    shutil.rmtree(copied.parent / CACHE)
    monkeypatch.setattr(finetuning, "_train", fake_training(trained))
    assert "labels" in finetuning.train_job(arguments, silent)["said"]
    assert networks.names_in(copied.parent / CACHE) == networks.names_in(copied) != []
    project.close()


def test_what_is_not_better_is_not_used(tmp_path: Path) -> None:
    """A network that learned labels at random: the project stays as it is, and is not asked again at once."""
    project = Project.create(tmp_path / "projects" / "stripes", config_of(tmp_path))
    project.learner.learn()
    arguments = finetuning.arguments(project)
    assert arguments is not None
    shuffled = rng().permutation(arguments["labels"]).tolist()
    plan = TINY | {"steps": 4}
    result = finetuning.train_job(arguments | {"labels": shuffled, "plan": plan}, silent)
    assert result["changes"] is None
    assert "is not used" in result["said"]
    assert list((project.folder / "networks").iterdir()) == []
    assert networks.names_in(project.folder.parent / CACHE) == []
    project.close()


def test_it_is_not_due_with_few_labels_or_another_model(tmp_path: Path) -> None:
    """Under 150 labels, and where no vote would hear it."""
    few = Project.create(tmp_path / "projects" / "few", config_of(tmp_path, labels="149"))
    few.learner.learn()
    assert finetuning.arguments(few) is None
    few.close()
    config = replace(config_of(tmp_path), model="label-spreading")
    other = Project.create(tmp_path / "projects" / "other", config)
    other.learner.learn()
    assert finetuning.arguments(other) is None
    assert "only with the model vote" in finetuning.hint(other)
    other.close()


def test_a_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """The same seed gives the same network, stopped or not; a checkpoint is all that it needs."""
    images, truth = stripes(60)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "vote.npy", np.full((60, 3), 1 / 3, dtype=np.float32))
    plan = TINY | {"steps": 6, "checkpoint": 2}
    arguments = {
        "images": str(tmp_path / "images.npy"),
        "vote": str(tmp_path / "vote.npy"),
        "rows": list(range(20)),
        "seen": list(range(20)),
        "labels": truth[:20].tolist(),
        "codes": [0, 1, 2],
        "plans": [plan],
        "folder": str(tmp_path),
        "key": "this one",
        "stop_at": 3,
    }
    job = Job.start("tests.finetuned_targets:train_three_times", arguments, tmp_path / "job")
    names = job.wait()["names"]
    assert len(names) == 3
    assert len(set(names)) == 1
    assert {"epoch", "loss", "labeled_loss"} == set(job.figures[0])


def test_without_a_network_it_is_its_base(tmp_path: Path) -> None:
    """Feature for feature, with no opinion, also after it was stored."""
    images, _ = stripes(40)
    fitted = Finetuned("pixels").fit(images, rng())
    expected = Pixels().fit(images, rng()).encode(images)
    np.testing.assert_array_equal(fitted.encode(images), expected)
    fitted.save(tmp_path)
    loaded = Finetuned("pixels").load(tmp_path)
    np.testing.assert_array_equal(loaded.encode(images), expected)
    assert loaded.opinion(images) is None
    assert loaded.version == fitted.version


def test_its_own_features_join_the_graph(trained: Trained, tmp_path: Path) -> None:
    """With a share the base's features are followed by the network's, in rows of length 1; stored and read again."""
    images, _ = stripes(N_IMAGES)
    name = trained.result["changes"]["encoder_parameters"]["network"]
    cache = trained.project.folder.parent / CACHE
    fitted = Finetuned("pixels", name, 0.5).fit_in(cache / "training-x", images, rng())
    features = fitted.encode(images)
    n_base = Pixels().fit(images, rng()).encode(images).shape[1]
    assert features.shape[1] > n_base
    np.testing.assert_allclose((features**2).sum(axis=1), 1, rtol=1e-4)
    fitted.save(tmp_path)
    assert (
        Finetuned("pixels").load(tmp_path).version == fitted.version != Finetuned("pixels").load(tmp_path).base.version
    )


def test_a_damaged_network_is_refused(trained: Trained, tmp_path: Path) -> None:
    """Missing, cut short, or none of a network's name: typed, with what to do."""
    name = trained.result["changes"]["encoder_parameters"]["network"]
    images, _ = stripes(20)
    with pytest.raises(ModelError, match="trained again") as refused:
        Finetuned("pixels", name).fit_in(tmp_path / "training", images, rng())
    assert refused.value.code == "MODEL_NETWORK"
    networks.copy(name, trained.project.folder, tmp_path)
    path = networks.path_of(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="missing or damaged"):
        Finetuned("pixels", name).fit_in(tmp_path / "training", images, rng())
    for wrong in ("../../etc", "abc"):
        with pytest.raises(ConfigError, match="64 hexadecimal"):
            Finetuned("pixels", wrong)
    with pytest.raises(ConfigError, match="another encoder"):
        Finetuned("finetuned")


def test_warps_of_no_strength_only_resize() -> None:
    """The middle of a pixel goes to the middle of the pixels that it becomes; mirrored, to the other side."""
    right, down, corner = random_warps(1, (28, 14), 56, 0, False, rng())[0, :3]
    assert (right, down, corner) == (0.25, 0, pytest.approx(-0.375))
    rows = random_warps(40, (28, 28), 28, 0, True, rng())
    assert {tuple(row) for row in np.round(rows, 4)} == {
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        (-1.0, 0.0, 27.0, 0.0, 1.0, 0.0, 0.0, 0.0),
    }
    weak, strong = (changes(50, (28, 28), 64, strength, True, rng()) for strength in (WEAK, 1))
    assert weak[2][:, 2].max() == 0 < strong[2][:, 2].max() <= 0.2


def test_a_plan_suits_the_pool() -> None:
    """Small grey pictures by early layers, photos by later ones, and a small pool in fewer steps."""
    small = plan_for(stripes(300)[0], 0, None)
    photos = plan_for(rng().integers(0, 256, size=(40, 90, 90, 3), dtype=np.uint8), 0, None)
    assert (small.layer, photos.layer) == ("block7", "block11")
    assert small.steps < plan_for(np.zeros((60_000, 2, 2, 1), dtype=np.uint8), 0, True).steps
    assert photos.flip
    assert not small.flip


class Streamed:
    """An array that is made where it is read, at most so many rows at a time."""

    def __init__(self, array: ImageArray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, rows: IntArray) -> ImageArray:
        found = self._array[rows]
        assert len(found) <= 64
        return found


@pytest.mark.parametrize("most", [100, 1000])
def test_of_views_that_are_stored_nowhere_a_part_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """With every labeled image, never more than some rows in memory; the same rows of images and of the vote."""
    images, truth = stripes(N_IMAGES)
    monkeypatch.setattr(finetuning, "MOST_COPIED", most * images[0].size)
    labels = np.where(np.arange(N_IMAGES) % 5 == 0, truth, -1)
    vote = np.stack([np.arange(N_IMAGES), np.full(N_IMAGES, N_IMAGES), np.zeros(N_IMAGES)], axis=1) + 1.0
    given = finetuning._material(Streamed(images), vote, labels, 0, tmp_path, silent)
    copied, believed = np.load(given["images"]), np.load(given["vote"])
    assert given["seen"] == np.flatnonzero(labels >= 0).tolist()
    np.testing.assert_array_equal(copied[given["rows"]], images[given["seen"]])
    assert min(most, N_IMAGES) <= len(copied) == len(believed) <= min(most + len(given["seen"]), N_IMAGES)
    used = np.round(believed[:, 0] / believed[:, 2] - 1).astype(int)
    np.testing.assert_array_equal(copied, images[used])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npy", ".npy"]


def test_auto_passes_the_network_on() -> None:
    """What a project that chose nothing changes to is what its dataset is named by: it stays as it is."""
    recipe = Recipe("digits", encoder="auto", encoder_parameters={"choice": "hog+imagenet"})
    parameters = finetuning.parameters_with(recipe, "a" * 64)
    auto: Auto = registry.create("encoder", "auto", parameters)
    assert auto.chosen(lambda: stripes(20)[0]) == parameters
    assert auto.chosen_encoder == ("finetuned", {"network": "a" * 64, "base": "hog+imagenet"})
    later = replace(recipe, encoder_parameters=parameters)
    assert finetuning.parameters_with(later, "b" * 64) == {**parameters, "network": "b" * 64}
