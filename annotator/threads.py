"""How many threads numerics may use. Finding the libraries that have any takes 5 ms: done once, not at every fit.

Linear algebra has one limit for the whole process: while several callers ask for one, the lowest holds, and the last to
leave brings back what was there before the first came. OpenMP has a limit for each thread, set and taken back there.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

Library = Any  # threadpoolctl's controller of one library: it ships no types
_changing = threading.Lock()
_asked_for: list[int] = []
"""The limits on linear algebra that hold now."""
_before: dict[str, tuple[Library, int]] = {}
"""Its libraries by file, each with the number of threads that it had before the first limit."""


@contextmanager
def at_most(n_threads: int) -> Iterator[None]:
    """While it lasts, linear algebra of the whole process and OpenMP of this thread use so many threads at most."""
    openmp, linear_algebra = _found(len(sys.modules))
    n_openmp = min([n_threads, *(library.num_threads for library in openmp.lib_controllers)])
    with openmp.limit(limits=n_openmp):
        _come(n_threads, linear_algebra.lib_controllers)
        try:
            yield
        finally:
            _leave(n_threads)


def _come(n_threads: int, libraries: list[Library]) -> None:
    with _changing:
        for library in libraries:
            _before.setdefault(library.filepath, (library, library.num_threads))
        _asked_for.append(n_threads)
        _set_lowest()


def _leave(n_threads: int) -> None:
    with _changing:
        _asked_for.remove(n_threads)
        if _asked_for:
            _set_lowest()
            return
        for library, n_before in _before.values():
            library.set_num_threads(n_before)
        _before.clear()


def _set_lowest() -> None:
    for library, n_before in _before.values():
        library.set_num_threads(min([n_before, *_asked_for]))


@lru_cache(maxsize=1)
def _found(_n_modules: int) -> tuple[ThreadpoolController, ThreadpoolController]:
    """(OpenMP, linear algebra): the libraries loaded; looked for again where modules were imported since."""
    loaded = ThreadpoolController()
    return loaded.select(user_api="openmp"), loaded.select(user_api="blas")
