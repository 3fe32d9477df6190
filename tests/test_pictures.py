"""One door to the files that were labeled: the picture that people saw, or an error that says it is another by now."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator import registry
from annotator.config import Config
from annotator.errors import ImageError, SourceError
from annotator.exporters.gather import gather
from annotator.pictures import DECODERS
from annotator.project import Project
from annotator.session import Session
from tests import storing
from tests.builders import ODD_PYTHON, use_python

SIDES = (0, 400, 2560)
"""Those for which a file is opened."""


def project_of(projects: Path, source: str, path: Path) -> Project:
    """A project whose images are all answered as class a."""
    config = Config(
        source=source,
        source_parameters={"path": str(path)},
        classes=("a", "b"),
        encoder="pixels",
        n_neighbors=2,
        batch_size=8,
    )
    project = Project.create(projects / source, config)
    label_all(project.session("you"))
    return project


def label_all(session: Session) -> None:
    for _ in range(2):
        session.advance()
        for card in session.remaining:
            session.label(card.image_id, "a", event_id=card.event_id)


def picture(seed: int) -> Image.Image:
    """Large enough that a thumbnail does not show it whole."""
    noise = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((800, 600), Image.Resampling.NEAREST)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        picture(number).save(folder / f"{number}.png")
    return folder


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def refusal(ask: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(SourceError) as error:
        ask()
    return error.value.code, str(error.value)


@pytest.mark.parametrize("source", ["folder", "zip"])
def test_a_replaced_photo_is_not_exported_under_its_label(projects: Path, pictures: Path, source: str) -> None:
    """R3: export, zoom and image address read through one door, which knows the bytes that were labeled."""
    project = project_of(projects, source, pictures if source == "folder" else zipped(pictures))
    kept = np.asarray(project.prepared.dataset.open_image(0, 0))
    picture(99).save(pictures / "1.png")
    if source == "zip":
        zipped(pictures)
    exported = pictures.parent / "labels.zip"
    manifest = registry.create("exporter", "folders").write(gather(project), exported)
    assert [failed.image_id for failed in manifest.failed] == ["1.png"]
    assert "changed since it was labeled" in manifest.failed[0].reason
    with zipfile.ZipFile(exported) as archive:
        lines = [json.loads(line) for line in archive.read("labels.jsonl").decode().splitlines()]
    assert {line["image_id"]: line["file"] is None for line in lines}["1.png"]
    for side in SIDES:
        code, message = refusal(lambda side=side: project.prepared.dataset.open_image(1, side))  # type: ignore[misc]  # bound at once
        assert code == "SRC_CHANGED"
        assert "changed since it was labeled" in message
    assert project.prepared.dataset.open_image(1, 320).size == (320, 240)
    np.testing.assert_array_equal(np.asarray(project.prepared.dataset.open_image(0, 0)), kept)
    project.close()


def test_what_crashes_or_stalls_a_decoder_in_full_size_is_an_error(
    projects: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S9: zoom and export decode in guarded processes too; the import may have seen a file at an eighth of its size."""
    for name, end in (("1.png", b"crash"), ("2.png", b"slow")):
        (pictures / name).write_bytes((pictures / name).read_bytes() + end)
    project = project_of(projects, "folder", pictures)
    kept = np.asarray(project.prepared.dataset.open_image(0, 0))
    DECODERS.end()
    with monkeypatch.context() as patch:
        use_python(patch, projects.parent, ODD_PYTHON)
        for row, word in ((1, "crashed"), (2, "too long")):
            with pytest.raises(ImageError, match=word):
                project.prepared.dataset.open_image(row, 2560)
        manifest = registry.create("exporter", "folders").write(gather(project), pictures.parent / "labels.zip")
        assert [failed.image_id for failed in manifest.failed] == ["1.png", "2.png"]
        np.testing.assert_array_equal(np.asarray(project.prepared.dataset.open_image(0, 0)), kept)
        DECODERS.end()
    assert project.prepared.dataset.open_image(1, 0).size == (800, 600)
    project.close()


def test_an_original_is_found_where_it_moved_to(projects: Path, pictures: Path) -> None:
    """Files that came in front of it or went away change its place, not what it is."""
    project = project_of(projects, "folder", pictures)
    picture(99).save(pictures / "0-before.png")
    (pictures / "2.png").unlink()
    dataset = project.prepared.dataset
    for row in (0, 1, 3):
        np.testing.assert_array_equal(np.asarray(dataset.open_image(row, 0)), np.asarray(picture(row)))
    assert refusal(lambda: dataset.open_image(2, 0))[0] == "SRC_MISSING"
    shutil.rmtree(pictures)
    assert refusal(lambda: dataset.open_image(1, 0))[0] == "SRC_MISSING"
    project.close()


def test_no_other_encoder_sees_a_replaced_photo(projects: Path, pictures: Path) -> None:
    """R3: its features would be another picture's, under the first one's label."""
    project = project_of(projects, "folder", pictures)
    picture(99).save(pictures / "1.png")
    assert refusal(lambda: project.change(encoder="hog"))[0] == "SRC_CHANGED"
    assert project.config.encoder == "pixels"
    project.close()


def test_a_project_without_its_cache_does_not_take_a_replaced_photo(projects: Path, pictures: Path) -> None:
    """R3: decoded anew, every image must have the content that the store knows; put back, the project opens."""
    project_of(projects, "folder", pictures).close()
    shutil.rmtree(projects / ".cache")
    first = (pictures / "1.png").read_bytes()
    picture(99).save(pictures / "1.png")
    code, message = refusal(lambda: Project(projects / "folder"))
    assert code == "SRC_CHANGED"
    assert "1.png" in message
    (pictures / "1.png").write_bytes(first)
    again = Project(projects / "folder")
    assert storing.images(again.store, "ok")[1].content_sha256 == hashlib.sha256(first).hexdigest()
    again.close()


def test_arrays_need_no_source(projects: Path, tmp_path: Path) -> None:
    """A pool that was an array lies in the cache, whole, whatever becomes of its file."""
    views = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=views)
    project = project_of(projects, "arrays", tmp_path / "set.npz")
    (tmp_path / "set.npz").unlink()
    for side in SIDES:
        np.testing.assert_array_equal(np.asarray(project.prepared.dataset.open_image(3, side))[:, :, 0], views[3])
    project.close()
