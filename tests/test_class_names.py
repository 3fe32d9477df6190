"""When two class names are the same, and what becomes of labels whose class a project does not have."""

from __future__ import annotations

import json
import shutil
import unicodedata
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator import npy
from annotator.class_names import MOST_CLASSES, checked_class_names, distinct_names
from annotator.config import Config
from annotator.dataset import prepare_job
from annotator.errors import ConfigError
from annotator.project import Project
from annotator.types import silent
from tests import storing

KNOWN = {"encoder": "pixels", "initial": "known", "batch_size": 2}


def arrays(folder: Path, labels: list[str], **more: object) -> Config:
    """An .npz of small images with these labels, as a config that takes them all as known."""
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
    np.savez(folder / "set.npz", images=pixels, labels=np.array(labels), **more)  # type: ignore[arg-type]  # numpy's stub
    return Config(source="arrays", source_parameters={"path": str(folder / "set.npz")}, **KNOWN)


def pictures(folder: Path, *names: str) -> Config:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    parameters = {"path": str(folder), "classes_from_folders": True}
    return Config(source="folder", source_parameters=parameters, **KNOWN)


def labels_of(project: Project) -> list[str | None]:
    """The class of each image by row, as the store holds it."""
    names = project.class_names
    current = storing.current(project.store)
    given = {event.image_id: names[event.class_id] for event in current if event.class_id is not None}
    return [given.get(image_id) for image_id in project.learner.dataset.ids]


def test_a_blank_behind_a_name_drops_no_label(projects: Path, tmp_path: Path) -> None:
    """P5: "cat " in an npz is the class "cat", for its known labels and for the truth alike."""
    project = Project.create(projects / "p", arrays(tmp_path, ["cat ", "dog\t", "\u00a0elm", "cat "] * 3))
    assert project.class_names == ["cat", "dog", "elm"]
    assert labels_of(project)[:4] == ["cat", "dog", "elm", "cat"]
    assert project.learner.truth is not None
    assert (project.learner.truth >= 0).all()
    assert storing.dropped_labels(project) == ""
    project.close()


def test_equal_folders_are_one_class(projects: Path, tmp_path: Path) -> None:
    """P5: folders that differ in blanks or in how an accent is encoded are one class; none of their labels is lost."""
    nfc, nfd = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    config = pictures(tmp_path / "in", "cat/0.png", "cat /1.png", f"{nfc}/2.png", f"{nfd}/3.png")
    project = Project.create(projects / "p", config)
    assert sorted(project.class_names) == ["cat", nfc]
    assert sorted(filter(None, labels_of(project))) == ["cat", "cat", nfc, nfc]
    project.close()


def test_typed_classes_match_the_sources_own(projects: Path, tmp_path: Path) -> None:
    """P5: a class typed with a blank or another encoding takes the labels of the source's class."""
    config = arrays(tmp_path, [unicodedata.normalize("NFD", "café "), "oak"] * 3)
    project = Project.create(projects / "p", Config(**{**vars(config), "classes": (" café", "oak ")}))
    assert project.class_names == ["café", "oak"]
    assert labels_of(project) == ["café", "oak"] * 3
    project.close()


def test_labels_without_a_class_are_counted_and_told(projects: Path, tmp_path: Path) -> None:
    """P5: labels whose class the project lacks are told, with how many and of which classes."""
    config = arrays(tmp_path, ["cat", "dog", "elm", "elm"] * 2)
    project = Project.create(projects / "p", Config(**{**vars(config), "classes": ("cat", "birch")}))
    assert labels_of(project) == ["cat", None, None, None] * 2
    assert storing.dropped_labels(project).startswith("Known labels cannot be used for 6 images")
    assert "no class 'dog', 'elm'." in storing.dropped_labels(project)
    project.close()


@pytest.mark.parametrize("kind", ["arrays", "folder"])
def test_a_source_may_have_classes_that_differ_in_case(projects: Path, tmp_path: Path, kind: str) -> None:
    """P7: A and a are two classes where the source has both (EMNIST), also as the form hands them back."""
    if kind == "arrays":
        config = arrays(tmp_path, ["A", "a", "B"] * 3)
    else:
        config = pictures(tmp_path / "in", "A/0.png", "a/1.png", "B/2.png")
    for number, classes in enumerate([(), ("A", "B", "a")]):
        project = Project.create(projects / str(number), Config(**{**vars(config), "classes": classes}))
        assert project.class_names == ["A", "B", "a"]
        assert None not in labels_of(project)
        with pytest.raises(ConfigError, match="in case alone"):
            project.session("you").add_class("b")
        project.close()


def test_typed_names_that_differ_in_case_are_a_question(projects: Path, tmp_path: Path) -> None:
    """P7: a typed name that differs from another in case alone is asked about, never taken as a class of its own."""
    config = arrays(tmp_path, ["cat", "dog"] * 3)
    with pytest.raises(ConfigError, match="Is it the same") as raised:
        Project.create(projects / "p", Config(**{**vars(config), "classes": ("cat", "Cat", "dog")}))
    assert raised.value.code == "CLASS_CASE"
    assert not (projects / "p").exists()


@pytest.mark.parametrize(
    ("names", "code"), [(["a", "a "], "CLASS_DUPLICATE"), (["a", "A"], "CLASS_CASE"), (["\u2003"], "CLASS_EMPTY")]
)
def test_names_are_checked_as_they_are_matched(names: list[str], code: str) -> None:
    """P5, P7: equal names stand twice, names of another case are a question, a blank is no name."""
    with pytest.raises(ConfigError) as raised:
        checked_class_names(names)
    assert raised.value.code == code
    assert distinct_names(["b", "a ", " ", "a", "A"]) == ("b", "a", "A")


def test_numbers_as_text_are_in_natural_order(projects: Path, tmp_path: Path) -> None:
    """P19: labels "1" to "12" of an npz are the classes 1, 2, ... 12, whatever stands before or behind the number."""
    numbers = [str(number) for number in range(1, 13)]
    project = Project.create(projects / "p", arrays(tmp_path, numbers))
    assert project.class_names == numbers
    assert labels_of(project) == numbers
    project.close()


def test_a_project_keeps_its_order_of_classes_without_its_cache(projects: Path, tmp_path: Path) -> None:
    """P19: made when 10 came before 2, and listed anew: labels and truth mean what they did."""
    numbers = [str(number) for number in range(1, 13)]
    config = replace(arrays(tmp_path, numbers * 2), classes=tuple(sorted(numbers)), initial="first:12")
    Project.create(projects / "p", config).close()
    shutil.rmtree(projects / ".cache")
    project = Project(projects / "p")
    assert project.class_names == sorted(numbers)
    assert project.prepared.class_names == tuple(numbers)
    assert labels_of(project) == [*numbers, *[None] * 12]
    assert project.learner.truth is not None
    assert [project.class_names[code] for code in project.learner.truth] == numbers * 2
    assert storing.dropped_labels(project) == ""
    project.close()


def test_another_encoder_keeps_the_truth_of_a_dataset_of_before(projects: Path, tmp_path: Path) -> None:
    """P19: the cached dataset has 10 before 2, the one with other features 2 before 10; each is read by its own."""
    numbers = [str(number) for number in range(1, 13)]
    config = replace(arrays(tmp_path, numbers), classes=tuple(sorted(numbers)), n_neighbors=2)
    created = Project.create(projects / "p", config)
    folder = created.prepared.folder
    created.close()
    manifest = json.loads((folder / "dataset.json").read_text()) | {"class_names": sorted(numbers)}
    (folder / "dataset.json").write_text(json.dumps(manifest))
    (folder / "truth.npy").unlink()
    npy.save(folder / "truth.npy", np.array([sorted(numbers).index(number) for number in numbers]))
    project = Project(projects / "p")
    for encoder in ("pixels", "hog"):
        project.change(encoder=encoder)
        assert project.learner.truth is not None
        assert [project.class_names[code] for code in project.learner.truth] == numbers
    project.close()


def test_a_source_whose_classes_cannot_be_used_is_refused_before_its_images_are_read(
    projects: Path, tmp_path: Path
) -> None:
    """S6: too many, or none and none typed: nothing is decoded first, neither at once nor in a job."""
    many = arrays(tmp_path, [f"bird {number}" for number in range(MOST_CLASSES + 1)])
    few = replace(pictures(tmp_path / "in", "0.png", "1.png"), initial="none")
    few = replace(few, source_parameters={"path": str(tmp_path / "in")})
    typed = replace(few, classes=tuple(map(str, range(MOST_CLASSES + 1))))
    for config, code in ((many, "CLASS_TOO_MANY"), (few, "CLASS_NONE"), (typed, "CLASS_TOO_MANY")):
        with pytest.raises(ConfigError) as refused:
            Project.create(projects / "p", config)
        assert refused.value.code == code
    arguments = {"recipe": asdict(many.recipe), "cache": str(projects / ".cache"), "own_classes": True}
    with pytest.raises(ConfigError):
        prepare_job(arguments, silent)
    assert not list(projects.glob(".cache/*"))
    project = Project.create(projects / "p", replace(many, classes=("bird 1", "bird 2")))
    assert project.class_names == ["bird 1", "bird 2"]
    project.close()
