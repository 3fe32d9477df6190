"""A folder of images with all its sub-folders. Lists and reads files; the decoder decides whether they are images.

Listed are files whose suffix is that of an image, or that begin like one and have none, in the order of their paths'
bytes. Formats that are not decoded (TIFF, HEIC, SVG, ...) are listed too, so that they are reported rather than missed.
Other files, hidden entries and what systems put there (see listing.py) are counted and passed over.

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
from contextlib import suppress
from pathlib import Path

from annotator.decode import HEAD, begins_like_image
from annotator.errors import SourceError
from annotator.paths import expanded, inside, name_of
from annotator.sources import listing as listings
from annotator.sources.listing import LISTING, Classes
from annotator.types import ImageArray, ImageSource, IntArray, SetAside

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
"""errno -> code of our error; any other is SRC_UNREADABLE."""
REASONS = {
    "SRC_MISSING": "It is not there, or is a link to nothing. Put it back, or import the folder again.",
    "SRC_PERMISSION": "It may not be read. Give it read permission, then import the folder again.",
    "SRC_ESCAPES_ROOT": "It is a link that leads out of the folder. Copy what it points to into the folder.",
    "SRC_NOT_A_FILE": "It has an image's name but is a pipe, a device or a linked folder. Take it out of the folder.",
    "SRC_TOO_LARGE": f"It is larger than {MAX_BYTES // 2**20} MiB. Save it smaller.",
    "SRC_NAME_TOO_LONG": "Its path is longer than the system can open. Shorten the names of its folders.",
    "SRC_UNREADABLE": "The system could not read it. Check the disk or the network drive it is on.",
}


class _Files:
    """Listed files of one folder as an `ImageSource`."""

    array: ImageArray | None = None
    held_out: ImageSource | None = None
    set_aside: Sequence[SetAside] = ()

    def __init__(self, root: Path, files: Sequence[str], class_names: tuple[str, ...], truth: IntArray | None) -> None:
        self._root = root
        self._files = files
        self.ids: Sequence[str] = tuple(map(_image_id, files))
        self.class_names = class_names
        self.truth = truth

    def read(self, row: int) -> bytes:
        """The bytes of image `row`'s file.

        Raises SourceError: SRC_MISSING, SRC_PERMISSION, SRC_ESCAPES_ROOT, SRC_NOT_A_FILE, SRC_TOO_LARGE,
        SRC_NAME_TOO_LONG or SRC_UNREADABLE.
        """
        image_id = self.ids[row]
        try:
            # Checked again: since the listing, the file or a folder above it may have become a link to elsewhere.
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


class Folder(_Files):
    """A folder of image files with its sub-folders; on request its first-level folders are the classes."""

    def __init__(
        self, path: str, classes_from_folders: bool = False, root: str | None = None, listing: int = LISTING
    ) -> None:
        """List the folder at `path`, which must lie under `root` where that is given, by the rules of `listing`.

        Images directly in the folder have no class; of layers (train/cat, test/cat) what is not to train on is held
        out. Raises SourceError: SRC_ESCAPES_ROOT, SRC_MISSING, SRC_NOT_A_FOLDER, SRC_PERMISSION or SRC_EMPTY; a single
        entry that cannot be used is set aside instead.
        """
        folder = _open_root(path, root)
        found = list(_walk(folder, listings.checked_listing(listing)))
        files = sorted((entry for entry in found if isinstance(entry, str)), key=os.fsencode)
        aside = (entry for entry in found if isinstance(entry, SetAside))
        self.set_aside = tuple(sorted(aside, key=lambda entry: entry.image_id))
        self.n_ignored = found.count(None)
        """Entries that are no images: other files, and what systems put into folders, each folder as one."""
        if not files:
            raise SourceError(_nothing(path, self.set_aside), "SRC_EMPTY")
        classes = _classes(files, listing > 1) if classes_from_folders else listings.no_classes(len(files))
        pool, test = classes.pool, classes.test
        super().__init__(folder, [files[row] for row in pool.rows], classes.names, pool.truth)
        if test is not None:
            self.held_out = _Files(folder, [files[row] for row in test.rows], classes.names, test.truth)


def class_folders(path: str, root: str | None = None) -> Classes:
    """The classes and layers of the folder as `Folder` finds them, without a look at every file.

    Raises SourceError as `Folder` does, but for a folder without images: none is an answer.
    """
    folders = [_image_id(folder) for folder in _some_folders(_open_root(path, root))]
    return listings.sort_out(folders, by_layers=True)


def _some_folders(root: Path, start: str = "") -> Iterator[str]:
    """Folders with images in or below them; stops once every class and every layer is known."""
    entries = [entry for entry in _entries(root / start) if not listings.is_left_out(entry.name, LISTING)]
    relatives = [f"{start}/{entry.name}" if start else entry.name for entry in entries]
    inner = [relative for relative, entry in zip(relatives, entries, strict=True) if _is_folder(entry)]
    judged = (_judged(entry, "", root, LISTING) for entry in entries if not _is_folder(entry))
    if any(isinstance(found, str) for found in judged):
        yield start
    for relative in inner:
        if _may_hold_layers(relative):
            with suppress(OSError):  # set aside when it is listed
                yield from _some_folders(root, relative)
        elif any(isinstance(found, str) for found in _walk(root, LISTING, relative)):
            yield relative


def _may_hold_layers(relative: str) -> bool:
    parts = relative.split("/")
    return listings.layer(parts[0]) is not None and (len(parts) == 1 or not listings.below_layer(parts))


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


def _walk(root: Path, listing: int, start: str = "") -> Iterator[str | SetAside | None]:
    """From the folder `start` downwards, in any order: each image file's relative path, or what is wrong with it.

    None is an entry that is no image: another file, or something that a system put there.
    """
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
            if listings.is_left_out(entry.name, listing):
                yield None
            elif _is_folder(entry):
                pending.append(relative)
            else:
                yield _judged(entry, relative, root, listing)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Raises OSError."""
    if not folder.stat().st_mode & READ_BITS:
        raise PermissionError(errno.EACCES, "no read permission for anyone")
    with os.scandir(folder) as entries:
        return list(entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _judged(entry: os.DirEntry[str], relative: str, root: Path, listing: int) -> str | SetAside | None:
    """A file or a link: its path where it is an image by its name or its first bytes."""
    is_named = listings.has_image_suffix(entry.name, listing)
    if not is_named and not entry.is_symlink() and not listings.may_be_image(entry.name, listing):
        return None
    if fault := _entry_fault(entry, root, is_named):
        return _set_aside(relative, fault)
    if is_named or (listings.may_be_image(entry.name, listing) and _begins_like_image(entry, root)):
        return relative
    return None


def _begins_like_image(entry: os.DirEntry[str], root: Path) -> bool:
    try:
        if (entry.is_symlink() and not inside(root, Path(entry.path))) or _fault(entry.stat()):
            return False
        with os.fdopen(os.open(os.path.realpath(entry.path), READ_FLAGS), "rb") as file:
            return begins_like_image(file.read(HEAD))
    except OSError:
        return False


def _entry_fault(entry: os.DirEntry[str], root: Path, is_named: bool) -> str | None:
    """Why this file or link cannot be an image; None also for what is not named like one."""
    if not is_named and not (entry.is_symlink() and os.path.isdir(entry.path)):
        return None
    if entry.is_symlink() and not inside(root, Path(entry.path)):
        return "SRC_ESCAPES_ROOT"
    if not is_named:
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


def _image_id(relative: str) -> str:
    text = os.fsencode(relative).decode("utf-8", "surrogateescape").replace("%", "%25")
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)


def _classes(files: Sequence[str], by_layers: bool) -> Classes:
    """By the folders of each file; ids are spelled once for each folder, not for each file."""
    folders = [file.rpartition("/")[0] for file in files]
    spelt = {folder: _image_id(folder) for folder in set(folders)}
    return listings.sort_out([spelt[folder] for folder in folders], by_layers)


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
