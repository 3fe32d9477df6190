"""When two class names are the same, and what becomes of labels whose class a project does not have."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator.class_names import checked_class_names, distinct_names
from annotator.errors import ConfigError
from annotator.project import Config, Project

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
    given = {event.image_id: names[event.class_id] for event in project.store.current() if event.class_id is not None}
    return [given.get(image_id) for image_id in project.learner.dataset.ids]


def test_a_blank_behind_a_name_drops_no_label(projects: Path, tmp_path: Path) -> None:
    """P5: "cat " in an npz is the class "cat", for its known labels and for the truth alike."""
    project = Project.create(projects / "p", arrays(tmp_path, ["cat ", "dog\t", "\u00a0elm", "cat "] * 3))
    assert project.class_names == ["cat", "dog", "elm"]
    assert labels_of(project)[:4] == ["cat", "dog", "elm", "cat"]
    assert project.learner.truth is not None
    assert (project.learner.truth >= 0).all()
    assert project.dropped_labels == ""
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
    assert project.dropped_labels.startswith("Known labels cannot be used for 6 images")
    assert "no class 'dog', 'elm'." in project.dropped_labels
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
