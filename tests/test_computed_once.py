"""A lock on what several processes want to compute: one does, the others wait and find it."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from annotator import registry
from annotator.config import Recipe
from annotator.dataset import prepare
from annotator.encoders import checkpoint
from annotator.encoders.pixels import FittedPixels, Pixels
from annotator.errors import Cancelled
from annotator.exclusive import turn
from annotator.types import ImageArray, Report, silent

HOLDER = """
import sys, time
from pathlib import Path
from annotator.exclusive import turn

with turn(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def stop(stage: str, done: int, total: int) -> None:
    raise Cancelled(stage)


def test_who_waits_says_so_and_can_stop(tmp_path: Path) -> None:
    """In this process as in another one; the lock leaves no file."""
    path = tmp_path / "cache" / "lock"
    with turn(path), pytest.raises(Cancelled, match="Waiting for that"), turn(path, stop, "Waiting for that"):
        pytest.fail("Two hold it.")
    with turn(path, stop):
        assert path.exists()
    assert not path.exists()


def test_a_lock_is_free_when_its_owner_was_killed(tmp_path: Path) -> None:
    """Held by another process until then."""
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Cancelled), turn(path, stop):
            pytest.fail("Two hold it.")
        holder.kill()
    with turn(path, stop):
        pass
    assert not path.exists()


def test_where_nothing_can_be_written_nobody_waits(tmp_path: Path) -> None:
    """As where the disk knows no locks."""
    (tmp_path / "file").write_text("")
    with turn(tmp_path / "file" / "lock", stop):
        pass


class Watched(Pixels):
    """Whose training another one waits for."""

    n_fits = 0
    begun, is_waited_for = threading.Event(), threading.Event()

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedPixels:
        """Ends once somebody waits."""
        type(self).n_fits += 1
        self.begun.set()
        assert self.is_waited_for.wait(30)
        return super().fit(images, rng, report)


def test_features_are_computed_once_though_two_want_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second says that it waits, and finds what the first has stored."""
    monkeypatch.setitem(registry.BUILT_IN["encoder"], "watched", f"{__name__}:Watched")
    recipe = Recipe("digits", {"held_out": 0}, 20, 0, encoder="watched", n_neighbors=3)

    def heard(stage: str, done: int, total: int) -> None:
        if stage == "Waiting for another project's training":
            Watched.is_waited_for.set()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(prepare, recipe, tmp_path)
        assert Watched.begun.wait(30)
        second = threads.submit(prepare, recipe, tmp_path, heard)
        versions = {made.result().dataset.version for made in (first, second)}
    assert (len(versions), Watched.n_fits) == (1, 1)
    assert [path.name for path in tmp_path.iterdir() if "lock" in path.name or "training" in path.name] == []


def test_two_write_checkpoints_at_one_path(tmp_path: Path) -> None:
    """The file is one of theirs, whole; no draft is left."""
    path = tmp_path / "checkpoint"

    def write(number: int) -> None:
        checkpoint.write(path, "key", {"weights": np.full(50_000, number)})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(40)))
    found = checkpoint.read(path, "key")
    assert found is not None
    assert len(set(found["weights"])) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint"]
