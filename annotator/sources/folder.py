"""A folder of images with all its sub-folders. It lists and reads; whether the bytes are an image, the decoder says.

Listed are files whose suffix is that of an image, in the order of their paths' bytes. Formats that are not decoded
(TIFF, HEIC, SVG, ...) are listed too, so that they are reported rather than missed. Hidden entries and `__MACOSX` are
ignored.

Symbolic links: a link to a file counts as that file while it stays inside the folder, and is set aside where it leaves.
A linked folder is never entered, so loops end: inside the folder its images are listed where they really are; one
that leads outside is set aside.

Image ids: the path relative to the folder, "/" between its parts. Every "%" is written "%25" and every byte that is
not UTF-8 "%XX", so two files never share an id and `urllib.parse.unquote_to_bytes` gives the path's bytes back.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from annotator.errors import SourceError
from annotator.paths import expanded, inside, name_of
from annotator.types import UNLABELED, ImageArray, ImageSource, IntArray, SetAside

SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .gif .webp .bmp .tif .tiff .heic .heif .avif .svg .psd".split())
MAX_BYTES = 512 * 2**20
"""Of one file: more than the largest image that is decoded takes without compression."""
READ_BITS = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
"""A file or folder with none of them counts as unreadable, even to an administrator who could."""
READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Never follow a link in the last step, never wait for a pipe's other end; Windows knows neither."""
CODES = {
    errno.ENOENT: "SRC_MISSING",
    errno.ENOTDIR: "SRC_MISSING",
    errno.ELOOP: "SRC_MISSING",
    errno.EACCES: "SRC_PERMISSION",
    errno.EPERM: "SRC_PERMISSION",
    errno.ENAMETOOLONG: "SRC_NAME_TOO_LONG",
}
"""What the system says -> what we say; anything else is SRC_UNREADABLE."""
REASONS = {
    "SRC_MISSING": "It is not there, or is a link to nothing. Put it back, or import the folder again.",
    "SRC_PERMISSION": "It may not be read. Give it read permission, then import the folder again.",
    "SRC_ESCAPES_ROOT": "It is a link that leads out of the folder. Copy what it points to into the folder.",
    "SRC_NOT_A_FILE": "It has an image's name but is a pipe, a device or a linked folder. Take it out of the folder.",
    "SRC_TOO_LARGE": f"It is larger than {MAX_BYTES // 2**20} MiB. Save it smaller.",
    "SRC_NAME_TOO_LONG": "Its path is longer than the system can open. Shorten the names of its folders.",
    "SRC_UNREADABLE": "The system could not read it. Check the disk or the network drive it is on.",
}


class Folder:
    """A folder of image files with its sub-folders; on request its first-level folders are the classes."""

    array: ImageArray | None = None
    held_out: ImageSource | None = None

    def __init__(self, path: str, classes_from_folders: bool = False, root: str | None = None) -> None:
        """List the folder at `path`, which must lie under `root` where that is given.

        Images directly in the folder have no class. Raises SourceError: SRC_ESCAPES_ROOT, SRC_MISSING,
        SRC_NOT_A_FOLDER, SRC_PERMISSION or SRC_EMPTY; a single entry that cannot be used is set aside instead.
        """
        self._root = _open_root(path, root)
        found = list(_walk(self._root))
        self._files = sorted((entry for entry in found if isinstance(entry, str)), key=os.fsencode)
        aside = (entry for entry in found if isinstance(entry, SetAside))
        self.set_aside: Sequence[SetAside] = tuple(sorted(aside, key=lambda entry: entry.image_id))
        if not self._files:
            raise SourceError(_nothing(path, self.set_aside), "SRC_EMPTY")
        self.ids: Sequence[str] = tuple(_image_id(file) for file in self._files)
        self.class_names, self.truth = _classes(self.ids) if classes_from_folders else ((), None)

    def read(self, row: int) -> bytes:
        """The bytes of image `row`'s file.

        Raises SourceError: SRC_MISSING, SRC_PERMISSION, SRC_ESCAPES_ROOT, SRC_NOT_A_FILE, SRC_TOO_LARGE,
        SRC_NAME_TOO_LONG or SRC_UNREADABLE.
        """
        image_id = self.ids[row]
        try:
            # Judged anew: since the listing, the file or a folder above it may have become a link to elsewhere.
            real = Path(os.path.realpath(self._root / self._files[row], strict=True))
            if not real.is_relative_to(self._root):  # both are free of links
                raise _error(name_of(image_id), "SRC_ESCAPES_ROOT")
            with os.fdopen(os.open(real, READ_FLAGS), "rb") as file:
                if fault := _fault(os.fstat(file.fileno())):
                    raise _error(name_of(image_id), fault)
                return file.read(MAX_BYTES)
        except OSError as error:
            raise _error(name_of(image_id), _code(error)) from error

    def stamp(self, row: int) -> str:
        """Size, time of change and inode of the file; "missing" where there is none, since `read` will tell."""
        try:
            status = os.stat(self._root / self._files[row])
        except OSError:
            return "missing"
        return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def class_folders(path: str, root: str | None = None) -> tuple[str, ...]:
    """The first-level sub-folders with an image in or below them, as `Folder` names its classes; sorted.

    Raises SourceError as `Folder` does, but for a folder without images: none is an answer.
    """
    folder = _open_root(path, root)
    names = [entry.name for entry in _entries(folder) if entry.is_dir(follow_symlinks=False)]
    found = sorted(_image_id(name) for name in names if any(isinstance(it, str) for it in _walk(folder, name)))
    return as_class_names(found)


def as_class_names(folders: Sequence[str]) -> tuple[str, ...]:
    """Folders of image ids as their classes are called: as on the disk, unless two would be called the same."""
    names = [name_of(folder) for folder in folders]
    return tuple(name if names.count(name) == 1 else folder for folder, name in zip(folders, names, strict=True))


def _open_root(path: str, root: str | None) -> Path:
    """The real path of the source's folder, known to be a folder that can be listed."""
    folder = expanded(path)
    if root is not None and not inside(Path(root), folder):
        raise SourceError(f"{path!r} is not under {root!r}, the folder that was opened for use.", "SRC_ESCAPES_ROOT")
    if not path or "\0" in path:
        raise SourceError(f"{path!r} is not the path of a folder. Enter one.", "SRC_MISSING")
    try:
        real = Path(os.path.realpath(folder, strict=True))
        if not real.is_dir():
            raise SourceError(f"{path!r} is a file. Choose the folder it lies in.", "SRC_NOT_A_FOLDER")
        _entries(real)
    except OSError as error:
        raise _error(path, _code(error)) from error
    return real


def _walk(root: Path, start: str = "") -> Iterator[str | SetAside]:
    """Relative path of each image file from the folder `start` downwards, or what is wrong with it; in any order."""
    pending = [start]
    while pending:
        folder = pending.pop()
        try:
            entries = _entries(root / folder)
        except OSError as error:
            yield _set_aside(folder, _code(error))
            continue
        for entry in entries:
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append(relative)
            elif fault := _entry_fault(entry, root):
                yield _set_aside(relative, fault)
            elif _has_image_suffix(entry.name):
                yield relative


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder that are not ignored. Raises OSError."""
    if not folder.stat().st_mode & READ_BITS:
        raise PermissionError(errno.EACCES, "no read permission for anyone")
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]


def _entry_fault(entry: os.DirEntry[str], root: Path) -> str | None:
    """Why this file or link cannot be an image; None also for what is not named like one."""
    if not _has_image_suffix(entry.name) and not (entry.is_symlink() and os.path.isdir(entry.path)):
        return None
    if entry.is_symlink() and not inside(root, Path(entry.path)):
        return "SRC_ESCAPES_ROOT"
    if not _has_image_suffix(entry.name):
        return None
    try:
        return _fault(entry.stat()) or (None if os.access(entry.path, os.R_OK) else "SRC_PERMISSION")
    except OSError as error:
        return _code(error)


def _fault(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "SRC_NOT_A_FILE"
    if not status.st_mode & READ_BITS:
        return "SRC_PERMISSION"
    return "SRC_TOO_LARGE" if status.st_size > MAX_BYTES else None


def _has_image_suffix(name: str) -> bool:
    return PurePath(name).suffix.lower() in SUFFIXES


def _image_id(relative: str) -> str:
    text = os.fsencode(relative).decode("utf-8", "surrogateescape").replace("%", "%25")
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)


def _classes(ids: Sequence[str]) -> tuple[tuple[str, ...], IntArray | None]:
    """Class names and truth by the first folder of each id; no truth where there is no folder."""
    folders = [image_id.rpartition("/")[0].partition("/")[0] for image_id in ids]
    names = tuple(sorted(set(folders) - {""}))
    if not names:
        return (), None
    codes = {"": UNLABELED, **{name: code for code, name in enumerate(names)}}
    return as_class_names(names), np.array([codes[folder] for folder in folders], dtype=np.int64)


def _nothing(path: str, set_aside: Sequence[SetAside]) -> str:
    told = f"No images in {path!r} or its sub-folders: no file with a usual suffix (.jpg, .png, ...) that can be read."
    if not set_aside:
        return told
    return f"{told} {len(set_aside):,} set aside, first {name_of(set_aside[0].image_id)!r}: {set_aside[0].reason}"


def _code(error: OSError) -> str:
    return CODES.get(error.errno or 0, "SRC_UNREADABLE")


def _set_aside(relative: str, code: str) -> SetAside:
    return SetAside(_image_id(relative), code, REASONS[code])


def _error(where: str, code: str) -> SourceError:
    return SourceError(f"{where!r}: {REASONS[code]}", code)
