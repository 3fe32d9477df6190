"""A limit on threads: it holds while it lasts, is taken back, and costs next to nothing the second time."""

from __future__ import annotations

import time

import numpy as np
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # ships no types

from annotator.threads import at_most


def most() -> int:
    return max(pool["num_threads"] for pool in threadpool_info())


def test_the_limit_holds_and_is_taken_back() -> None:
    """As with threadpoolctl's own, one inside another too."""
    np.ones((4, 4)) @ np.ones((4, 4))
    before = most()
    with at_most(1):
        assert most() == 1
        with at_most(1):
            assert most() == 1
        assert most() == 1
    assert most() == before


def test_libraries_are_looked_for_once() -> None:
    """A round asks several times: a hundred limits take less than two searches did."""
    with at_most(1):
        pass
    started = time.perf_counter()
    for _ in range(100):
        with at_most(1):
            pass
    assert time.perf_counter() - started < 0.1
