"""A file that one process holds at a time: the system lets go of it when that process ends, however it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class Exclusive:
    """The right to do what one may do at a time, named by a file; two of them in one process exclude each other too.

    The file stays, empty. Where none can be made or locked, as on some network drives, everyone gets the right.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take it; False where somebody has it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return True
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):  # what Linux and Windows say of one that is held
            os.close(descriptor)
            return False
        except OSError:  # no locks here
            os.close(descriptor)
            return True
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go of it; nothing where it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError or PermissionError where another one holds it."""
    if sys.platform == "win32":
        import msvcrt  # only there

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl  # only elsewhere

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
