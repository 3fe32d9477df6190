"""The right that one process has at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from annotator.exclusive import Exclusive

HOLDS = """
import sys, time, pathlib
from annotator.exclusive import Exclusive
right = Exclusive(pathlib.Path(sys.argv[1]))
print(right.acquire(), flush=True)
time.sleep(600)
"""


def test_one_has_it_at_a_time(tmp_path: Path) -> None:
    """In one process too; who lets go of it can take it again, and letting go twice does nothing."""
    one, other = Exclusive(tmp_path / "right"), Exclusive(tmp_path / "right")
    assert [one.acquire(), other.acquire()] == [True, False]
    one.release()
    one.release()
    assert [other.acquire(), one.acquire()] == [True, False]
    other.release()


def test_the_system_takes_it_from_a_killed_process(tmp_path: Path) -> None:
    """Nothing has to be cleared away."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path / "right")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"True"
        right = Exclusive(tmp_path / "right")
        assert not right.acquire()
        process.kill()
        process.wait()
        assert right.acquire()
        right.release()


def test_where_no_file_can_be_made_everyone_has_it(tmp_path: Path) -> None:
    """Work goes on, as it would without."""
    assert Exclusive(tmp_path / "nowhere" / "right").acquire()
