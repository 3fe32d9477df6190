"""How many threads numerics may use. Finding the libraries that have any takes 5 ms: done once, not at every fit."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def at_most(n_threads: int) -> AbstractContextManager[object]:
    """While it lasts, linear algebra and OpenMP of the whole process use so many threads at most."""
    limit: AbstractContextManager[object] = _found(len(sys.modules)).limit(limits=n_threads)
    return limit


@lru_cache(maxsize=1)
def _found(_n_modules: int) -> ThreadpoolController:
    """The libraries loaded; looked for again where modules were imported since, which may have brought others."""
    return ThreadpoolController()
