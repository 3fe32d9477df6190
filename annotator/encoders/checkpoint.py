"""What a training has reached, in one file: whole or absent, checked by its hash, and refused where it is another's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from annotator import durable

Array = NDArray[Any]  # any numeric kind
KEY = "key"


def write(path: Path, key: str, arrays: Mapping[str, Array]) -> None:
    """Replace what was written before; `key` says which training it is of. Raises OSError."""
    content = BytesIO()
    np.savez(content, **{KEY: np.array(key)}, **arrays)  # type: ignore[arg-type]  # its stub takes them for `allow_pickle`
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, hashlib.sha256(content.getbuffer()).digest() + content.getvalue())


def read(path: Path, key: str) -> dict[str, Array] | None:
    """What `write` wrote with this key; None, and no file any more, where it is missing, damaged or another's."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    arrays = _arrays(content[32:]) if hashlib.sha256(content[32:]).digest() == content[:32] else {}
    if str(arrays.pop(KEY, "")) == key:
        return arrays
    with suppress(OSError):
        path.unlink()
    return None


def _arrays(content: bytes) -> dict[str, Array]:
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, BadZipFile, EOFError):
        return {}
