"""A file that one process holds at a time: the system lets go of it when that process ends, however it ends."""

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


class Exclusive:
    """The right to do what one may do at a time, named by a file; two of them in one process exclude each other too.

    The file is there only while somebody has the right. Where none can be made or locked, as on some network drives,
    everyone gets it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take it; False where somebody has it."""
        try:
            self._descriptor = _locked(self._path)
        except OSError:
            return True
        return self._descriptor is not None

    def release(self) -> None:
        """Let go of it; nothing where it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _unlock(self._path, descriptor)


@contextmanager
def turn(path: Path, report: Report = silent, stage: str = "Waiting for another process") -> Iterator[None]:
    """Hold the right named by `path`; whoever else holds it is waited for.

    While it waits `report` is told of `stage`; what that raises ends the waiting.
    """
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    right = Exclusive(path)
    while not right.acquire():
        report(stage, 0, 0)
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        right.release()


def _locked(path: Path) -> int | None:
    """The open file with the lock; None where another has it. Raises OSError where there can be none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
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
    """Whether this file still has its name: whoever had it last removed it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _unlock(path: Path, descriptor: int) -> None:
    """Removed while it is held, where the system allows that: who waits then makes a new one."""
    with suppress(OSError):
        path.unlink()
    os.close(descriptor)
    if sys.platform == "win32":
        with suppress(OSError):
            path.unlink()
