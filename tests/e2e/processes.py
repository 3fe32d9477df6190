"""Which processes an app has started, and what they hold in memory (Linux)."""

from __future__ import annotations

import contextlib
from pathlib import Path


def started_by(ancestor: int) -> list[int]:
    """Every process that a process or one of its children started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = parent = int(folder.name)
            while parent > 1 and parent != ancestor:
                parent = _parent_of(parent)
            if parent == ancestor != pid:
                found.append(pid)
    return found


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def command_of(pid: int) -> str:
    """The words it was started with; empty where it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def has_tensorflow(pid: int) -> bool:
    """Whether TensorFlow's libraries are loaded in it."""
    return "tensorflow" in Path(f"/proc/{pid}/maps").read_text()


def megabytes(pid: int, kind: str = "VmRSS") -> float | None:
    """A line of its status: VmRSS is what it holds, VmHWM the most it ever held; None where that cannot be read."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, amount = line.partition(":")
            if name == kind:
                return int(amount.split()[0]) / 1024
    return None
