"""Image workers: whose fault it is when one dies, and that nobody's script is run again."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator.errors import ImageError, JobError
from annotator.ingest import ingest
from annotator.jobs.decoders import Decoded, Decoders, ResidentDecoders, Sides
from annotator.sources.folder import Folder
from tests.builders import ODD_PYTHON, use_python
from tests.conftest import PhotoFolder

SIDES = Sides(16, 32)
SCRIPT = """
import sys
import time
from pathlib import Path
from annotator.config import Config
from annotator.project import Project
print("begun")
config = Config(source="folder", source_parameters={"path": sys.argv[1]}, classes=("a", "b"), encoder="pixels")
project = Project.create(Path(sys.argv[2]), config)
print(len(project.learner.dataset), "imported,", len(project.prepared.set_aside), "set aside")
"""


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, tuple(np.random.default_rng(seed).integers(0, 256, 3))).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(contents: Sequence[bytes], n_workers: int = 1) -> list[Decoded]:
    with Decoders(n_workers) as decoders:
        return decoders.submit(contents, SIDES).result()


@pytest.mark.parametrize("how", ["file", "standard input"])
def test_a_plain_script_imports_a_folder(tmp_path: Path, photo_folder: PhotoFolder, how: str) -> None:
    """P2: without a main guard, and from standard input, a script is run once and every image is imported."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [str(script) if how == "file" else "-", str(photo_folder(16)), str(tmp_path / "projects" / "p")]
    run = subprocess.run([sys.executable, *words], input=SCRIPT, capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.splitlines() == ["begun", "16 imported, 0 set aside"], run.stderr
    assert run.stderr == ""


def test_images_come_back_in_order() -> None:
    """Each with its hash, its square view and its thumbnail; what is no image says why."""
    contents = [picture(0), b"<html>", picture(1, (200, 100)), b""]
    first, page, wide, empty = decoded(contents, n_workers=2)
    assert first.view is not None
    assert first.view.shape == (16, 16, 3)
    assert Image.open(io.BytesIO(wide.thumbnail)).size == (32, 16)
    assert [one.refused and one.refused[0] for one in (page, empty)] == ["IMG_FORMAT", "IMG_EMPTY"]
    assert len({one.content_sha256 for one in (first, page, wide, empty)}) == 4


@pytest.mark.parametrize("script", ["#!/bin/sh\necho no such module >&2\nexit 1\n", "#!/bin/sh\n"])
def test_a_worker_that_dies_before_its_first_image_blames_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_folder: PhotoFolder, script: str
) -> None:
    """P2: the import ends with a typed error and the worker's last words; no image is set aside, nothing is written."""
    source = Folder(str(photo_folder(4)))
    use_python(monkeypatch, tmp_path, script)
    with pytest.raises(JobError, match="No image is at fault") as raised:
        ingest(source, tmp_path / "cache")
    assert raised.value.code == "JOB_START"
    assert ("no such module" in str(raised.value)) == ("echo" in script)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_python_that_is_gone_blames_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: nothing can be started at all."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(JobError, match="No such file"):
        decoded([picture(0)])


def test_residents_stay_for_the_next_picture_and_end_when_idle() -> None:
    """S9: one process serves pictures that are asked for one after the other; nobody asks, and it ends."""
    residents = ResidentDecoders()
    first, reduced = residents.picture(picture(0), 0), residents.picture(picture(1, (90, 60)), 30)
    assert (first.mode, first.size, reduced.size) == ("RGB", (40, 30), (30, 20))
    assert residents._decoders is not None
    [child] = residents._decoders._at_work
    residents._idle_seconds = 0.0
    with pytest.raises(ImageError, match="web page"):
        residents.picture(b"<html>", 0)
    assert child._process.wait(60) != 0
    assert residents.picture(picture(2), 0).size == (40, 30)


def test_a_worker_that_was_killed_between_images_blames_none() -> None:
    """P2: the next image is decoded by a new worker."""
    with Decoders(1) as decoders:
        decoders.submit([picture(0)], SIDES).result()
        [child] = decoders._at_work
        child.kill()
        assert decoders.submit([picture(1)], SIDES).result()[0].refused is None


def test_what_crashes_or_stalls_a_worker_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash is tried twice, a time limit once; the others of the chunk are decoded, prints are no answers."""
    use_python(monkeypatch, tmp_path, ODD_PYTHON)
    contents = [picture(0), b"crash", picture(1), b"slow", picture(2)]
    reasons = [one.refused[1] if one.refused else "" for one in decoded(contents)]
    assert [bool(reason) for reason in reasons] == [False, True, False, True, False]
    assert "crashed" in reasons[1]
    assert "too long" in reasons[3]


STUCK = """#!{python}
import os, sys, time
from pathlib import Path
from annotator.jobs import decoders
def decode(content, sides):
    Path(os.environ["TOLD"]).write_text(str(os.getpid()))
    time.sleep(600)
decoders.decode = decode
decoders.main()
"""
PARENT = """
import sys
from annotator.jobs.decoders import Decoders, Sides
sys.executable = sys.argv[1]
with Decoders(1) as decoders:
    decoders.submit([b"stuck"], Sides(16, 32)).result()
"""


def test_a_worker_at_work_ends_with_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of an image: the worker does not wait for the end of it."""
    python = sys.executable
    told = tmp_path / "worker"
    monkeypatch.setenv("TOLD", str(told))
    use_python(monkeypatch, tmp_path, STUCK)
    parent = subprocess.Popen([python, "-c", PARENT, sys.executable])
    while not (told.exists() and told.read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    until_gone(int(told.read_text()))


def until_gone(process: int) -> None:
    deadline = time.monotonic() + 60
    while (status := Path(f"/proc/{process}/status")).exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)
