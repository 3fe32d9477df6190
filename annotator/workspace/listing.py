"""The list of projects, each read again only when its file has changed. Knows no browser.

Opening a store verifies its log, which takes a while; a file of the same size and time says what it said before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from annotator.projects import STORE_NAME, Summary, folder_names, summarize

SETTLED_SECONDS = 2.0
"""A file that changed more recently than this may change again without another time or size."""
Stamp = tuple[tuple[int, int, int], ...]


class Listing:
    """Summaries of the projects under one folder."""

    def __init__(self, projects: Path) -> None:
        self._projects = projects
        self._known: dict[str, tuple[Stamp, Summary]] = {}

    def summaries(self) -> list[Summary]:
        """Every project, the newest first; one that cannot be opened says why."""
        found = [self._summary(name) for name in folder_names(self._projects)]
        return sorted(found, key=lambda summary: summary.created_at, reverse=True)

    def _summary(self, name: str) -> Summary:
        folder = self._projects / name
        stamp = _stamp(folder / STORE_NAME)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        summary = summarize(folder)
        if _is_settled(stamp) and not summary.error:
            self._known[name] = stamp, summary
        return summary


def _stamp(store: Path) -> Stamp:
    """Inode, size and time of the store's file and of the write-ahead log beside it, which newer events are in."""
    beside = store.with_name(f"{store.name}-wal")
    return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in _statuses(store, beside))


def _statuses(*paths: Path) -> Iterator[os.stat_result]:
    """Of the files that are there: the last connection to close takes the write-ahead log away at any moment."""
    for path in paths:
        with suppress(FileNotFoundError):
            yield path.stat()


def _is_settled(stamp: Stamp) -> bool:
    newest = max((changed for _, _, changed in stamp), default=0)
    return time.time_ns() - newest > SETTLED_SECONDS * 1e9
