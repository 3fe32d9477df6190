"""Reads an untrusted .npz: its keys, its arrays' headers, and values in pieces. Knows no images.

Pickles are never loaded. A header is read and its size checked before anything is allocated. Values are read in pieces,
so that no array is in memory in its stored type: 60,000 images in float64 take the memory of 8-bit images.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from annotator.errors import SourceError
from annotator.sources.files import open_file
from annotator.sources.zip_members import METHODS, Member, MemberStream, list_members

MAX_HEADER = 4096
"""Most characters of a header; a plain array's has about a hundred."""
PIECE = 1 << 20
"""Values in a piece."""
VERSIONS = {(1, 0): (2, npy.read_array_header_1_0), (2, 0): (4, npy.read_array_header_2_0)}
"""Header version -> bytes of its length field, and its reader. Version 3 is for named fields."""
Values = NDArray[Any]  # Any: whatever number type the file holds


@dataclass(frozen=True)
class StoredArray:
    """One array of the file, by its header; its values stay on disk."""

    path: Path
    member: Member
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # Any: whatever number type the file holds
    fortran: bool
    """The first axis varies fastest in the file."""

    @property
    def n_values(self) -> int:
        return math.prod(self.shape)

    def pieces(self) -> Iterator[tuple[int, Values]]:
        """Yields (index of the first value, flat piece) in the file's order; a piece is valid until the next.

        Raises SourceError NPZ_CORRUPT, at the end for a wrong checksum.
        """
        buffer = np.empty(min(PIECE, self.n_values), dtype=self.dtype)
        with _as_npz(self.key), _stream(self.path, self.member) as stream:
            _header(stream)
            for start in range(0, self.n_values, PIECE):
                piece = buffer[: min(PIECE, self.n_values - start)]
                if stream.readinto(piece.view(np.uint8).data) < piece.nbytes:
                    raise corrupt(f"the array {self.key!r} is cut short")
                yield start, piece
            if stream.read(1):
                raise corrupt(f"the array {self.key!r} is longer than its header says")

    def whole(self) -> Values:
        """The whole array in its shape: for labels and names."""
        flat = np.empty(self.n_values, dtype=self.dtype)
        for start, piece in self.pieces():
            flat[start : start + len(piece)] = piece
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


class NpzFile:
    """The directory of an .npz: the arrays that it holds."""

    def __init__(self, path: Path) -> None:
        """Raises SourceError: SRC_..., NPZ_CORRUPT, NPZ_PICKLE (a bare pickle), NPZ_KEYS (a key that stands twice)."""
        self._path = path
        with open_file(path) as file:
            _check_kind(file.peek(8))
            with _as_npz(path.name):
                members = list_members(file)
        self._members = {_key(member): member for member in members}
        self.keys = tuple(self._members)
        if len(self.keys) < len(members):
            raise SourceError(
                f"A key stands twice among {list_keys([_key(member) for member in members])}. Save the file again.",
                "NPZ_KEYS",
            )

    def array(self, key: str) -> StoredArray:
        """An array's header. Raises SourceError: NPZ_PICKLE or NPZ_CORRUPT."""
        member = self._members[key]
        if member.is_encrypted or member.method not in METHODS:
            raise corrupt(f"the array {key!r} is encrypted, or compressed in a way that NumPy does not")
        with _as_npz(key), _stream(self._path, member) as stream:
            shape, fortran, dtype = _header(stream)
        if dtype.hasobject:
            raise _pickle(f"The array {key!r} holds Python objects")
        if min(shape, default=0) < 0 or dtype.itemsize == 0:
            raise corrupt(f"the header of {key!r} makes no sense")
        return StoredArray(self._path, member, key, shape, dtype, fortran)


def corrupt(what: str) -> SourceError:
    """The SourceError NPZ_CORRUPT, with what to do."""
    return SourceError(f"The .npz cannot be read: {what}. Copy it, or save it with np.savez, again.", "NPZ_CORRUPT")


def list_keys(keys: Sequence[str]) -> str:
    """The first of the keys, quoted, for a message."""
    shown = [repr(key[:60]) for key in keys]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10:,} more" if len(shown) > 10 else "") or "none"


def _key(member: Member) -> str:
    return member.name.decode("utf-8", "backslashreplace").removesuffix(".npy")


@contextmanager
def _stream(path: Path, member: Member) -> Iterator[io.BufferedIOBase]:
    with open_file(path) as file, MemberStream(file, member) as raw, io.BufferedReader(raw, 1 << 16) as stream:
        yield stream


def _header(stream: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:  # Any: whatever is stored
    """Shape, Fortran order, number type; see numpy.lib.format for the layout. Nothing in it is executed."""
    try:
        width, parse = VERSIONS[npy.read_magic(io.BytesIO(stream.read(npy.MAGIC_LEN)))]
        length = stream.read(width)
        # Judged here: NumPy would first read as much as the length says.
        text = stream.read(min(int.from_bytes(length, "little"), MAX_HEADER))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # written by Python 2: read all the same
            return parse(io.BytesIO(length + text), max_header_size=MAX_HEADER)
    except SourceError:
        raise
    except Exception as error:  # whatever broken text leads NumPy's parser to
        raise corrupt("an array in it has no valid header") from error


@contextmanager
def _as_npz(key: str) -> Iterator[None]:
    """Turns the errors of a damaged zip into NPZ_CORRUPT."""
    try:
        yield
    except SourceError as error:
        if not error.code.startswith("ZIP_"):
            raise
        raise SourceError(f"The .npz cannot be read, at {key!r}: {error}", "NPZ_CORRUPT") from error


def _check_kind(head: bytes) -> None:
    if head[:1] == b"\x80":
        raise _pickle("The file is a Python pickle")
    if head.startswith(b"\x93NUMPY"):
        raise SourceError(
            "The file is one array (.npy). Save it under a key: np.savez_compressed(path, images=array).",
            "NPZ_KEYS",
        )


def _pickle(what: str) -> SourceError:
    return SourceError(
        f"{what}, which could run a program when loaded, and is never loaded. "
        "Save numbers only: images of one shape as one array, names as text (dtype=str).",
        "NPZ_PICKLE",
    )
