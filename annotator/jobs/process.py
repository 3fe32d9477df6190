"""A child process as its parent starts and ends it, and what to say of one that died."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from annotator import durable
from annotator.errors import JobError
from annotator.jobs.files import LOG, TEMPORARY, UNWRITTEN, tail

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""What keeps a child's numerics, and those of its children, to one thread; TensorFlow has a fixed number of its own."""


def spawn(
    what: list[str], folder: Path, output: int | None = None, one_thread: bool = False
) -> subprocess.Popen[bytes]:
    """-P: what lies in the current folder is not imported. A session of its own: Ctrl-C reaches the parent alone."""
    command = [sys.executable, "-P", "-u", "-X", "utf8", "-m", "annotator.jobs", *what, str(folder.absolute())]
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(_new_temporary(folder)))}
    environment |= ONE_THREAD if one_thread else {}
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output or log, stderr=log, start_new_session=True, env=environment
        )


def _new_temporary(folder: Path) -> Path:
    """An empty temporary folder for a child: a killed TensorFlow leaves files behind."""
    temporary = folder.absolute() / TEMPORARY
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(exist_ok=True)
    return temporary


def cannot_start(folder: Path, error: OSError) -> JobError:
    told = f"Cannot start work in {folder}: {durable.reason_of(error)}. {durable.advice(error)}."
    return JobError(told, "JOB_START")


def kill_group(leader: int) -> None:
    """End a child and whatever it started. Nothing happens where they are gone."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.kill(leader, signal.SIGTERM)
        else:
            os.killpg(leader, signal.SIGKILL)


def crash(target: str, code: int, log: Path) -> JobError:
    """The error for a child that died before it could say why; `code` as subprocess gives it, -9 for signal 9."""
    spoken = _last_words(log)
    if code == -9:  # SIGKILL, which has no name where the system has no such signal
        return JobError(
            f"{target} was killed, most likely because the machine ran out of memory. "
            f"Close other programs, or choose smaller images or fewer of them, and start it again.{spoken}",
            "JOB_KILLED",
        )
    if code == UNWRITTEN:
        message = f"{target} could not write its result into {log.parent}. {durable.FULL}, and start it again."
        return JobError(f"{message}{spoken}", "JOB_NO_ROOM")
    how = f"crashed ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code} and no result"
    return JobError(f"{target} {how}. Start it again; the details are in {log}.{spoken}", "JOB_CRASHED")


def _last_words(log: Path) -> str:
    """The last lines a child printed by itself, in front of the stack that faulthandler adds."""
    printed = tail(log).decode("utf-8", "replace").partition("Fatal Python error: ")[0]
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return f" Its last words: {' / '.join(lines[-3:])}" if lines else ""
