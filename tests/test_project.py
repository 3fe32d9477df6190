"""Projects at their edges: a pool too small to train on, no room left, a preset that cannot be read."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from annotator import project as project_module
from annotator import reports
from annotator.cli import main
from annotator.config import Config, broken_presets, presets
from annotator.dataset import Prepared
from annotator.errors import AnnotatorError, ModelError, StoreError
from annotator.paths import assets
from annotator.project import Project, check_pool
from annotator.projects import list_projects
from annotator.simulate import answer_batch, oracle_of
from annotator.sources.listing import LISTING
from tests import storing
from tests.conftest import PhotoFolder, photo

SMALL = Config(name="small", source="digits", limit=20, encoder="autoencoder", batch_size=4)
TOO_SMALL = "A pool of 20 images is too small to train an autoencoder on"


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """As a disk that is full from there on: this process can write no file beyond it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_settings_are_those_of_one_version(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S5: settings changed while they are read are all the old ones or all the new ones."""
    project = Project.create(projects / "p", replace(SMALL, encoder="pixels", n_neighbors=3))
    share, changes = project_module._audit_share, [3]

    def changed_meanwhile(config: Config, prepared: Prepared) -> float:
        if changes:
            project.change(batch_size=changes.pop())
        return share(config, prepared)

    monkeypatch.setattr(project_module, "_audit_share", changed_meanwhile)
    read = [project._settings() for _ in range(2)]
    assert [(settings.version, settings.batch_size) for settings in read] == [(1, 4), (2, 3)]
    project.close()


# ---- a pool too small to train on


def test_a_small_pool_is_labeled_on_quick_features_and_says_so(projects: Path) -> None:
    """The config tells what is used, the notice why; both are there at the next start, and labeling works."""
    project = Project.create(projects / "small", SMALL)
    session = project.session("you")
    session.advance()
    answer_batch(session, oracle_of(project))
    project.close()
    again = Project(projects / "small")
    assert again.config.encoder == project.config.encoder == "hog"
    assert TOO_SMALL in again.notice
    assert again.notice.endswith("The quick features of hog are used.")
    assert len(again.session("you").labels) == 4
    again.close()


def test_the_command_line_says_that_a_pool_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, and in the report, whose config is the one that was used."""
    words = "simulate --source digits --limit 20 --encoder autoencoder --batch-size 4 --rounds 1 --json"
    monkeypatch.setattr("sys.argv", ["annotator", *words.split(), str(tmp_path / "report.json")])
    main()
    assert f"{TOO_SMALL}; it takes 200." in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["config"]["encoder"] == "hog"


def test_the_notice_goes_with_the_features_it_is_about(projects: Path) -> None:
    """Another model leaves it, another encoder ends it, and so it is after the next start."""
    project = Project.create(projects / "small", SMALL)
    project.change(model="knn")
    assert TOO_SMALL in project.notice
    project.change(encoder="pixels")
    assert project.notice == ""
    project.close()
    again = Project(projects / "small")
    assert again.notice == ""
    again.close()


def test_no_word_on_the_features_stands_while_others_are_computed(projects: Path) -> None:
    """Cancelled and started again: "was cancelled" would be untrue beside the encoder's own progress."""
    project = Project.create(projects / "small", SMALL)
    project.set_notice("Computing the features of imagenet was cancelled.")
    project.set_wanted({"encoder": "imagenet"})
    assert project.notice == ""
    project.close()
    again = Project(projects / "small")
    assert (again.notice, again.wanted) == ("", {"encoder": "imagenet"})
    again.close()


def test_a_project_knows_beforehand_which_encoder_its_pool_is_too_small_for(projects: Path) -> None:
    """No job need be started to find out, and the project goes on as it was."""
    project = Project.create(projects / "small", Config(name="small", source="digits", limit=20, encoder="pixels"))
    with pytest.raises(ModelError, match=f"{TOO_SMALL}.*quick features of pixels are used") as raised:
        check_pool(project, SMALL)
    assert raised.value.code == "MODEL_TOO_SMALL"
    check_pool(project, Config(encoder="hog"))
    with pytest.raises(ModelError):
        project.change(encoder="autoencoder")
    assert (project.config.encoder, storing.changes(project.store)) == ("pixels", {})
    project.close()


@pytest.mark.parametrize("damage", ["gone", "cut", "a list"])
def test_a_lost_note_loses_no_project(projects: Path, damage: str) -> None:
    """Without it the dataset is found again by its source."""
    Project.create(projects / "small", SMALL).close()
    note = projects / "small" / "dataset.json"
    if damage == "gone":
        note.unlink()
    else:
        note.write_text({"cut": note.read_text()[:40], "a list": "[1]"}[damage])
    project = Project(projects / "small")
    assert len(project.learner.dataset) == 20
    assert json.loads(note.read_text())["folder"] == project.prepared.folder.name
    project.close()


# ---- projects of before


@pytest.mark.parametrize("has_cache", [True, False])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_project_of_before_goes_on_on_its_images(
    projects: Path, photo_folder: PhotoFolder, tmp_path: Path, kind: str, has_cache: bool
) -> None:
    """P12, P13, P14, P18, P19: made when sources listed otherwise and spelled "100%" as in ids; nothing moves."""
    folder = photo_folder(12, ("test", "train", "100%", "10", "9", "lost+found"))
    for name in ("plain", "train/other"):
        photo("circle", np.random.default_rng(9)).save(folder / name, "PNG")
    path = folder if kind == "folder" else Path(shutil.make_archive(str(tmp_path / "set"), "zip", folder))
    parameters = {"path": str(path), "classes_from_folders": True}
    old = {**parameters, "listing": 1}
    names = ("10", "100%25", "9", "lost+found", "test", "train")
    config = Config(source=kind, source_parameters=old, classes=names, initial="known", encoder="pixels")
    project = Project.create(projects / "p", config)
    ids, labels = list(project.learner.dataset.ids), project.session("you").labels
    storing.record_config(project.store, asdict(replace(config, source_parameters=parameters)))
    note = projects / "p" / "dataset.json"
    note.write_text(note.read_text().replace(', "listing": 1', ""))
    project.close()
    if not has_cache:
        shutil.rmtree(projects / ".cache")
    again = Project(projects / "p")
    assert list(again.learner.dataset.ids) == ids == sorted(ids)
    assert (storing.n_labels(again.store), again.session("you").labels) == (12, labels)
    assert (again.class_names, storing.dropped_labels(again)) == (list(names), "")
    assert again.learner.truth is not None
    assert [names[code] for code in again.learner.truth] == [image_id.partition("/")[0] for image_id in ids]
    assert again.learner.dataset.open_image(0, 0).size == (96, 72)
    assert again.config.source_parameters["listing"] == 1
    again.close()


def test_a_new_project_keeps_how_its_source_lists(projects: Path, photo_folder: PhotoFolder) -> None:
    """Whatever later versions list, its images stay; a source without such rules gets no parameter."""
    config = Config(source="folder", source_parameters={"path": str(photo_folder(6))}, classes=("a",), encoder="pixels")
    project = Project.create(projects / "p", config)
    assert project.config.source_parameters["listing"] == LISTING
    assert storing.config(project.store)[1]["source_parameters"]["listing"] == LISTING
    project.close()
    small = Project.create(projects / "small", SMALL)
    assert small.config.source_parameters == {}
    small.close()


# ---- what accuracy is measured on


@pytest.mark.parametrize(
    ("n_loose", "initial", "share"), [(40, "known", 0.15), (40, "none", 0.15), (0, "none", 0.0), (1, "none", 0.0)]
)
def test_accuracy_is_measured_wherever_it_can_be(
    projects: Path, photo_folder: PhotoFolder, n_loose: int, initial: str, share: float
) -> None:
    """P3: images that will be asked and whose truth is not known get an audit slice; its answers give an accuracy."""
    folder = photo_folder(24, ("cat", "dog"))
    for number in range(n_loose):
        photo("circle", np.random.default_rng(100 + number)).save(folder / f"{number}.png")
    parameters = {"path": str(folder), "classes_from_folders": True}
    config = Config(source="folder", source_parameters=parameters, initial=initial, encoder="pixels", batch_size=4)
    project = Project.create(projects / "p", config)
    assert project._settings().audit_share == share
    session = project.session("you")
    for _ in range(3):
        session.advance()
        for card in session.remaining:
            session.label(card.image_id, "dog", event_id=card.event_id)
    session.advance()
    assert reports.history(session.moment())[-1].headline == ("audit" if share else "rest")
    project.close()


def test_a_held_out_layer_measures_accuracy(projects: Path, photo_folder: PhotoFolder) -> None:
    """P18: train/cat and test/cat are one class; test measures, no audit slice is drawn, bad test files are told."""
    folder = photo_folder(24, ("train/cat", "train/dog", "test/cat", "test/dog"))
    (folder / "test" / "cat" / "bad.png").write_text("no image")
    parameters = {"path": str(folder), "classes_from_folders": True}
    project = Project.create(projects / "p", Config(source="folder", source_parameters=parameters, encoder="pixels"))
    held_out = project.learner.dataset.held_out
    assert (project.class_names, len(project.learner.dataset)) == (["cat", "dog"], 12)
    assert held_out is not None
    assert held_out.truth.tolist() == [0] * 6 + [1] * 6
    assert [record.image_id for record in storing.images(project.store, "set aside")] == ["test/cat/bad.png"]
    assert project._settings().audit_share == 0.0
    session = project.session("you")
    session.advance()
    answer_batch(session, oracle_of(project))
    session.advance()
    assert reports.history(session.moment())[-1].headline == "test"
    project.close()


def test_a_project_of_before_keeps_its_audit_slice(projects: Path, photo_folder: PhotoFolder) -> None:
    """P3: where the share was not decided, no image that was trained on becomes one to measure with."""
    folder = photo_folder(12, ("cat", "dog"))
    photo("circle", np.random.default_rng(7)).save(folder / "loose.png")
    parameters = {"path": str(folder), "classes_from_folders": True}
    config = Config(source="folder", source_parameters=parameters, initial="known", encoder="pixels")
    project = Project.create(projects / "p", config)
    storing.record_config(project.store, asdict(config))
    project.close()
    again = Project(projects / "p")
    assert (again._settings().audit_share, len(again.learner.audit_rows)) == (0.0, 0)
    again.close()


# ---- no room left


def test_a_full_disk_is_told_and_leaves_nothing_half_made(projects: Path) -> None:
    """Wherever the writing stops: a typed error that says what to do, no project, and the next try succeeds."""
    refused = 0
    for n_bytes in (100, 1_000, 3_000, 10_000, 30_000, 60_000, 100_000):
        try:
            with file_size_limit(n_bytes):
                Project.create(projects / "made", Config(source="digits", limit=120)).close()
        except AnnotatorError as error:
            refused += 1
            assert error.code in ("STORE_FULL", "STORE_IO"), error.code
            assert list_projects(projects) == []
            shutil.rmtree(projects / ".cache")
    assert refused >= 5
    Project.create(projects / "last", Config(source="digits", limit=120)).close()
    assert [found.error for found in list_projects(projects)] == [""] * len(list_projects(projects))


def test_a_change_that_finds_no_room_leaves_the_project_as_it_was(projects: Path) -> None:
    """Features in use, configuration and labels stay; with room again the same change is made."""
    project = Project.create(projects / "digits", Config(source="digits", limit=120, encoder="hog"))
    before = project.learner.dataset
    with file_size_limit(1_000), pytest.raises(StoreError, match="Free some space") as raised:
        project.change(encoder="pixels")
    assert raised.value.code == "STORE_FULL"
    assert project.learner.dataset is before
    assert (project.config.encoder, storing.changes(project.store)) == ("hog", {})
    project.change(encoder="pixels")
    assert project.learner.dataset is not before
    project.close()


# ---- presets


def test_a_broken_preset_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with one file, the others are offered, and a sentence names it."""
    known = presets()
    assert broken_presets() == []
    broken = {
        "cut": '{"title": "C',
        "list": "[]",
        "bare": '{"title": "B"}',
        "odd": '{"title": "O", "description": "", "order": 9, "config": {"colour": "red"}}',
        "order": '{"title": "O", "description": "", "order": "last", "config": {}}',
        "strategy": '{"title": "S", "description": "", "order": 9, "config": {"strategy": "magrin"}}',
    }
    shutil.copytree(assets() / "presets", tmp_path / "presets")
    for name, text in broken.items():
        (tmp_path / "presets" / f"{name}.json").write_text(text)
    (tmp_path / "presets" / "bytes.json").write_bytes(b"\xff\xfe")
    monkeypatch.setattr("annotator.config.assets", lambda: tmp_path)
    assert presets() == known
    said = broken_presets()
    assert len(said) == len(broken) + 1
    for name in (*broken, "bytes"):
        assert any(f"The preset {name}.json cannot be used" in sentence for sentence in said)
