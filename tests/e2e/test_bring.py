"""Your own images in a browser: an .npz and a zip uploaded, model and encoder changed in the middle."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from annotator.project import Project
from tests import storing
from tests.conftest import photo
from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person


def upload(person: Person, path: Path) -> None:
    person.page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(path)
    person.page.get_by_role("textbox", name="Classes, one a line").wait_for()


def label_all(person: Person, name_of: dict[str, str]) -> None:
    for image_id in person.asked:
        person.answer(image_id, name_of[image_id])
    person.save()


def test_an_npz_is_uploaded_and_labeled(shared: Server, new_person: NewPerson, tmp_path: Path) -> None:
    """Its labels become classes; two batches are labeled; the curve is measured on the rest, and says so."""
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2
    images = rng.integers(0, 90, (60, 16, 16), dtype=np.uint8)
    images[truth == 1, :, 4:9] = 250
    np.savez(tmp_path / "bars.npz", images=images, labels=truth, class_names=np.array(["blank", "bar"]))
    person = new_person(shared)
    person.open("start")
    upload(person, tmp_path / "bars.npz")
    person.create()
    names = {f"bars/{row:05d}": ("blank", "bar")[truth[row]] for row in range(60)}
    for _ in range(2):
        label_all(person, names)
    person.sees("24 saved")
    person.sees("unlabeled images (rises also because hard images leave)")
    project = Project(shared.projects / person.project)
    assert project.session("you").labels == {image_id: names[image_id] for image_id in project.session("you").labels}
    assert project.learner.history[-1].n_labeled == 18
    project.close()


def test_a_zip_with_three_bad_members_imports_the_rest(shared: Server, new_person: NewPerson, tmp_path: Path) -> None:
    """Forty photos are the pool; the three others are listed with their reasons."""
    rng = np.random.default_rng(1)
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for number in range(40):
            encoded = io.BytesIO()
            photo(("circle", "square")[number % 2], rng).save(encoded, "PNG")
            archive.writestr(f"{('circle', 'square')[number % 2]}/{number:02}.png", encoded.getvalue())
        archive.writestr("empty.png", b"")
        archive.writestr("page.jpg", b"<html></html>")
        archive.writestr("cut.png", encoded.getvalue()[:400])
    person = new_person(shared)
    person.open("start")
    upload(person, tmp_path / "shapes.zip")
    person.name_classes("round", "square")
    person.create()
    person.visible("Imported 40 of 43 images, 3 set aside").click()
    for code in ("IMG_EMPTY", "IMG_FORMAT", "IMG_TRUNCATED"):
        project = Project(shared.projects / person.project)
        assert any(code in record.reason for record in storing.images(project.store, "set aside")), code
        project.close()
    assert len(person.asked) == 12


def test_a_file_that_is_no_zip_is_refused(shared: Server, new_person: NewPerson, tmp_path: Path) -> None:
    """The message says what it is, and the page stays usable."""
    (tmp_path / "liar.zip").write_bytes(b"not a zip at all")
    person = new_person(shared)
    person.open("start")
    person.page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(tmp_path / "liar.zip")
    person.sees("zip")
    person.page.get_by_test_id("stAlert").first.wait_for()
    person.start_demo("Handwritten digits")
    assert len(person.asked) == 12


def test_model_and_encoder_change_in_the_middle(shared: Server, new_person: NewPerson) -> None:
    """Another model and other features: labels stay, labeling goes on, and the curve marks the change."""
    person = new_person(shared)
    person.open("start")
    person.start_demo("Handwritten digits")
    for _ in range(2):
        for image_id, option in zip(person.asked, "012345678901", strict=True):
            person.answer(image_id, option)
        person.save()
    person.change_settings(model="logistic-regression")
    person.save("skip")
    project = Project(shared.projects / person.project)
    assert project.config.model == "logistic-regression"
    assert project.learner.history[-1].n_labeled == 24
    assert storing.changes(project.store) == {2: "model: logistic-regression"}
    project.close()
    person.change_settings(encoder="hog")
    person.sees("The features of hog are ready")
    person.save("skip")
    project = Project(shared.projects / person.project)
    assert project.config.encoder == "hog"
    assert storing.changes(project.store)[3] == "encoder: hog"
    assert len(project.session("you").labels) == 24
    project.close()
    person.go_to("Progress")
    person.sees("Learning curve")


def test_small_pictures_are_enlarged_and_photos_are_not_blurred(
    shared: Server, new_person: NewPerson, tmp_path: Path
) -> None:
    """Each card's picture is at least 96 px on its longer side."""
    folder = tmp_path / "icons"
    folder.mkdir()
    rng = np.random.default_rng(2)
    for number in range(14):
        Image.fromarray(rng.integers(0, 255, (12, 20, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    person = new_person(shared)
    person.open("start")
    person.name_folder(folder)
    person.name_classes("a", "b")
    person.create()
    boxes = [image.bounding_box() for image in person.page.locator(".surface .card img").all()]
    assert len(boxes) == 12
    assert all(box is not None and max(box["width"], box["height"]) >= 96 for box in boxes)
