"""Images in a zip, read where they lie: nothing is unpacked to disk, no name becomes a path.

Listed are members with an image's suffix, in the order of their ids. What systems leave in zips (`__MACOSX`,
`.DS_Store`, `Thumbs.db`) and other files are counted and passed over; zips inside are never opened. A member that cannot
be used is set aside; only where the zip as a whole is wrong is it refused.

Image ids: the member's name as `folder` writes it. A name that is not UTF-8 was written by an older program: it reads as
Shift-JIS where that gives two Japanese characters in a row, else as CP437, always the same way.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from annotator.errors import SourceError
from annotator.paths import safe_join
from annotator.sources.files import locate, open_file, printable
from annotator.sources.folder import SUFFIXES
from annotator.sources.zip_members import METHODS, Member, list_members, read_member
from annotator.types import UNLABELED, ImageArray, ImageSource, IntArray, SetAside

MAX_BYTES = 64 * 2**20
"""Of one member, inflated."""
MAX_TOTAL = 256 * 2**30
"""Of all members, as they declare it and are held to it."""
MAX_NAME = 4096
"""Bytes; no path on a disk is longer."""
ARCHIVES = frozenset(".zip .rar .7z .tar .gz .tgz .bz2 .xz".split())
JAPANESE = re.compile("[\u3041-\u30ff\u4e00-\u9fff]{2}")
REASONS = {
    "ZIP_PATH": "Its name leads out of the zip, or is no plain path. Rename it and make the zip again.",
    "ZIP_LINK": "It is a symbolic link or a device, not a file. Put the file itself into the zip.",
    "ZIP_NESTED": "It is an archive inside the archive, which is never opened. Unpack it first.",
    "ZIP_ENCRYPTED": "It is encrypted. Make the zip again without a password.",
    "ZIP_METHOD": "It is compressed by a method that is not read. Make the zip again with deflate, the usual one.",
    "ZIP_TOO_LARGE": f"It inflates to more than {MAX_BYTES // 2**20} MiB. Save the image smaller.",
    "ZIP_DUPLICATE": "Another entry has this name. Rename one of them.",
}


class Zip:
    """Images in a zip file, read without unpacking it; on request its folders are the classes."""

    array: ImageArray | None = None
    held_out: ImageSource | None = None

    def __init__(self, path: str, root: str | None = None, classes_from_folders: bool = False) -> None:
        """List the zip at `path`, which must lie under `root` where that is given.

        Raises SourceError: SRC_..., ZIP_FORMAT, ZIP_CORRUPT, ZIP_TOO_MANY, ZIP_TOO_LARGE, ZIP_OVERLAP, SRC_EMPTY where
        it holds no image, or the common reason why none of them can be used.
        """
        self._path = locate(path, root)
        with open_file(self._path) as file:
            members = list_members(file)
        _check_total(members)
        self._members: list[Member] = []
        self.n_ignored = 0
        """Entries that are no images: other files, and what systems leave in zips."""
        self.set_aside: Sequence[SetAside] = ()
        self.ids: Sequence[str] = ()
        self._sort(members)
        if not self.ids:
            raise _nothing(path, members, self.set_aside, self.n_ignored)
        self.class_names, self.truth = _classes(self.ids) if classes_from_folders else ((), None)

    def read(self, row: int) -> bytes:
        """The bytes of image `row`, at most what its entry declares. Raises SourceError: SRC_... or ZIP_CORRUPT."""
        try:
            with open_file(self._path) as file:
                return read_member(file, self._members[row])
        except SourceError as error:
            raise SourceError(f"{self.ids[row]!r}: {error}", error.code) from error

    def stamp(self, row: int) -> str:
        """Size, time of change and inode of the zip, checksum and place of the member in it."""
        try:
            status = os.stat(self._path)
        except OSError:
            return "missing"
        member = self._members[row]
        return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}-{member.crc:08x}-{member.offset}"

    def _sort(self, members: Sequence[Member]) -> None:
        """Each member to the images, to what is set aside, or to what is ignored."""
        found: dict[str, Member] = {}
        aside: dict[str, SetAside] = {}
        for member in members:  # one by one: each has its own name and its own faults
            if member.name.endswith(b"/"):
                continue
            name = _decoded(member)
            image_id = printable(name.encode())
            code = _fault(member, name) or ("ZIP_DUPLICATE" if image_id in found else None)
            if code == "":
                self.n_ignored += 1
            elif code is None:
                found[image_id] = member
            else:
                own = image_id if image_id not in found and image_id not in aside else f"{image_id}%@{member.offset}"
                aside[own] = SetAside(own, code, REASONS[code])
        self.ids = tuple(sorted(found))
        self._members = [found[image_id] for image_id in self.ids]
        self.set_aside = tuple(aside.values())
