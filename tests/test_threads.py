"""A limit on threads: it holds while it lasts, is taken back, and costs next to nothing the second time."""

from __future__ import annotations

import threading
import time

import numpy as np
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # ships no types

from annotator.threads import at_most


def most() -> int:
    return max(pool["num_threads"] for pool in threadpool_info())


def linear_algebra() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


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


def test_limits_that_overlap_leave_nothing_behind() -> None:
    """The lowest holds while any lasts; first in, first out brings back what was there before."""
    np.ones((4, 4)) @ np.ones((4, 4))
    before = linear_algebra()
    assert max(before) >= 1
    first, second = at_most(1), at_most(2)
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
    seen: list[list[int]] = []

    def come_first() -> None:
        with first:
            first_is_in.set()
            assert second_is_in.wait(30)
            seen.append(linear_algebra())
        first_is_out.set()

    thread = threading.Thread(target=come_first)
    thread.start()
    assert first_is_in.wait(30)
    with second:
        second_is_in.set()
        assert first_is_out.wait(30)
        seen.append(linear_algebra())
    thread.join()
    assert seen == [[1] * len(before), [2] * len(before)]
    assert linear_algebra() == before


def test_libraries_are_looked_for_once() -> None:
    """A round asks several times: a hundred limits take less than two searches did."""
    with at_most(1):
        pass
    started = time.perf_counter()
    for _ in range(100):
        with at_most(1):
            pass
    assert time.perf_counter() - started < 0.1
