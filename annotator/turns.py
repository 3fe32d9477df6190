"""One process at a time does what several want done: a lock on a file, which the system opens when its owner dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from annotator.types import Report, silent

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

POLL_SECONDS = 0.2


@contextmanager
def turn(path: Path, report: Report = silent, stage: str = "Waiting for another process") -> Iterator[None]:
    """Hold the lock `path`, a file that is there only meanwhile; whoever else holds it is waited for.

    While it waits `report` is told of `stage`; what that raises ends the waiting. Where nothing can be written, or the
    disk knows no locks, nobody waits.
    """
    descriptor = _taken(path, report, stage)
    try:
        yield
    finally:
        if descriptor is not None:
            _give_back(path, descriptor)


def _taken(path: Path, report: Report, stage: str) -> int | None:
    """The open file with the lock; None where there can be none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (descriptor := _tried(path)) is None:
            report(stage, 0, 0)
            time.sleep(POLL_SECONDS)
    except OSError:
        return None
    return descriptor


def _tried(path: Path) -> int | None:
    """The open file with the lock; None where another has it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    is_ours = False
    try:
        is_ours = _lock(descriptor) and _is_at(path, descriptor)
    finally:
        if not is_ours:
            os.close(descriptor)
    return descriptor if is_ours else None


def _lock(descriptor: int) -> bool:
    """Whether the lock was free. Raises OSError where there are no locks."""
    with suppress(BlockingIOError, PermissionError):  # held by another: on Linux and macOS, on Windows
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether this file still has its name: the last owner removes it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _give_back(path: Path, descriptor: int) -> None:
    """Removed while it is held, where the system allows that: who waits then makes a new one."""
    with suppress(OSError):
        path.unlink()
    os.close(descriptor)
    if sys.platform == "win32":
        with suppress(OSError):
            path.unlink()
