"""What several commands share: parameters as they are typed, and a line that counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from annotator.errors import ConfigError

if TYPE_CHECKING:
    from annotator.types import Report  # NumPy, for which the app's start need not wait


def pairs(texts: list[str]) -> dict[str, str]:
    """NAME=VALUE, each -> a dict. Raises ConfigError."""
    parted = [text.partition("=") for text in texts]
    for name, equals, _ in parted:
        if not equals or not name:
            raise ConfigError(f"Write a parameter as NAME=VALUE, not {name!r}.")
    return {name: value for name, _, value in parted}


def given(values: dict[str, Any]) -> dict[str, Any]:  # Any: values of Config's fields
    """Only what was typed; the rest stays as in the preset or the defaults."""
    return {key: value for key, value in values.items() if value is not None and value != {}}


@contextmanager
def progress() -> Iterator[Report]:
    """A line on stderr that counts, where somebody is looking."""
    started, shown = time.monotonic(), [0.0]

    def report(stage: str, done: int, total: int) -> None:
        if not sys.stderr.isatty() or time.monotonic() - shown[0] < 0.1:
            return
        shown[0] = time.monotonic()
        counted = f" {done:,} of {total:,}" if total else ""
        print(f"\r{stage}{counted}, {time.monotonic() - started:.0f} s\x1b[K", end="", file=sys.stderr, flush=True)

    yield report
    if shown[0]:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
