"""Files and folders that are there whole or not at all: a temporary name, fsync, then a rename.

A draft lies beside its target, under a hidden name of its own: two writers never share one. Whatever goes wrong, the
draft is removed and an older file stays. What fails is an OSError, for the caller to say in its own terms; `refusal`
has the words for it. Knows nothing of what is in the files.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile

from annotator.errors import SourceError

UNFINISHED = ".part"
"""The suffix of every draft."""
FULL = "Free some space there, or choose another disk"
NO_ROOM = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: "Free some space of your quota, or choose another disk",
    errno.EFBIG: "Free some space, raise the limit on file sizes, or choose another disk",
}
"""A disk, a quota or a limit that is full -> what to do."""
NO_PLACE = {
    errno.ENOENT: "Create that folder or choose another",
    None: "Free some space there or allow writing to it, or choose another folder",
}
"""What else can be wrong with a place -> what to do; None = anything else."""

DAMAGED_ZIP = (BadZipFile, KeyError, ValueError, EOFError, RuntimeError, zlib.error)
"""What reading a damaged .zip or .npz raises: each layer has its own, RuntimeError is that of an unknown method."""


def write(path: Path, content: bytes | memoryview | str, synced: bool = True, alone: bool = False) -> None:
    """A file with this content, text as UTF-8, in the place of an older one; see `drafts`."""
    with drafts(path, synced=synced, alone=alone) as (draft,):
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def write_new(path: Path, content: bytes) -> None:
    """A file for its owner's eyes alone (mode 0600); where another process was sooner, the other's stands."""
    draft = draft_of(path)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        sync(draft)
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename it never replaces
        sync(path.parent)
    finally:
        draft.unlink()


@contextmanager
def drafts(*paths: Path, synced: bool = True, alone: bool = False) -> Iterator[tuple[Path, ...]]:
    """Drafts of the given files, which they replace in the order given once the block ends without an error.

    Without `synced` the files are whole for other processes, though not after a loss of power: for what ends with this
    one. A writer that is `alone` drafts NAME.part, so that it replaces what one like it left when it was killed.
    """
    written = tuple(path.with_name(path.name + UNFINISHED) if alone else draft_of(path) for path in paths)
    try:
        yield written
        if synced:
            for draft in written:
                sync(draft)
        for draft, path in zip(written, paths, strict=True):
            draft.replace(path)
        if synced:
            sync(paths[0].parent)
    finally:
        for draft in written:
            with suppress(OSError):
                draft.unlink()


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """The draft of a folder, which gets its name once the block ends without an error.

    Where somebody else finished the same folder first, theirs is as good. Raises SourceError (CACHE_READONLY) where
    nothing can be written there.
    """
    draft = draft_of(folder)
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise unwritable(folder.parent, error) from error
    try:
        yield draft
        for path in draft.rglob("*"):
            sync(path)
        with suppress(OSError):
            draft.rename(folder)
            sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def draft_of(path: Path) -> Path:
    """Another hidden name beside `path` at each call; short, since a file's own name may be as long as names get."""
    return path.with_name(f".{secrets.token_hex(8)}{UNFINISHED}")


def sync(path: Path) -> None:
    """Force a file or a folder to the disk; Windows opens no folders and needs none."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def no_room(error: BaseException) -> bool:
    """Whether a disk, a quota or a limit was full; NumPy says how much of an array was written, not why no more."""
    return isinstance(error, OSError) and (error.errno in NO_ROOM or "requested and" in str(error))


def refusal(path: Path, error: OSError) -> str:
    """What to tell a person of a file or a folder that could not be written; the sentence lacks its full stop."""
    return f"Cannot write {path}: {reason_of(error)}. {advice(error)}"


def advice(error: OSError) -> str:
    """What to do about a file that could not be written, without a full stop."""
    if no_room(error):
        return NO_ROOM.get(error.errno or 0, FULL)
    return NO_PLACE.get(error.errno, NO_PLACE[None])


def reason_of(error: Exception) -> str:
    """What went wrong, without the paths of this machine that an OSError's text has."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def unwritable(folder: Path, error: OSError) -> SourceError:
    """The error for a projects folder in which nothing can be written."""
    return SourceError(
        f"Cannot write under {folder}: {reason_of(error)}. Choose another --projects folder.", "CACHE_READONLY"
    )
