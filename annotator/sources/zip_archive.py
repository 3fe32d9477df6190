r"""Images in a zip, read without unpacking: nothing is written to disk, no name becomes a path.

Listed are members with an image's suffix, or that begin like one and have none, in the order of their ids. What systems
leave in zips (`__MACOSX`, `.DS_Store`, `Thumbs.db`, see listing.py) and other files are counted and passed over;
archives inside are never opened. A member that cannot be used is set aside; the zip is refused only where it is wrong
as a whole.

Image ids: the member's name as `folder` writes it; `./cat/0.png`, `cat\0.png` and `/cat/0.png` are `cat/0.png`, since
nothing is written, and ".." stays refused. A name that is not UTF-8 was written by an older program: it reads
as Shift-JIS where that gives two Japanese characters in a row, else as CP437, always the same way.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from annotator.decode import HEAD, begins_like_image
from annotator.errors import SourceError
from annotator.paths import name_of, safe_join
from annotator.sources.files import locate, open_file, printable
from annotator.sources.listing import (
    LISTING,
    Classes,
    checked_listing,
    has_image_suffix,
    is_left_out,
    may_be_image,
    no_classes,
    sort_out,
)
from annotator.sources.zip_members import METHODS, Member, MemberStream, list_members, read_member
from annotator.types import ImageArray, ImageSource, IntArray, SetAside

MAX_BYTES = 64 * 2**20
"""Most bytes of one member, inflated."""
MAX_TOTAL = 256 * 2**30
"""Most bytes of all members together, as declared; no member is inflated beyond that."""
MAX_NAME = 4096
"""Bytes; no path on a disk is longer."""
ARCHIVES = frozenset(".zip .rar .7z .tar .gz .tgz .bz2 .xz".split())
IGNORED = "ignored"
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


class _Members:
    """Listed members of one zip as an `ImageSource`."""

    array: ImageArray | None = None
    held_out: ImageSource | None = None
    set_aside: Sequence[SetAside] = ()

    def __init__(
        self, path: Path, members: dict[str, Member], class_names: tuple[str, ...], truth: IntArray | None
    ) -> None:
        """`members` by their ids, in the order of the rows."""
        self._path = path
        self.ids: Sequence[str] = tuple(members)
        self._members = list(members.values())
        self.class_names = class_names
        self.truth = truth

    def read(self, row: int) -> bytes:
        """The bytes of image `row`, at most what its entry declares. Raises SourceError: SRC_... or ZIP_CORRUPT."""
        try:
            with open_file(self._path) as file:
                return read_member(file, self._members[row])
        except SourceError as error:
            raise SourceError(f"{name_of(self.ids[row])!r}: {error}", error.code) from error

    def stamp(self, row: int) -> str:
        """Size, time of change and inode of the zip, checksum and place of the member in it."""
        try:
            status = os.stat(self._path)
        except OSError:
            return "missing"
        member = self._members[row]
        return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}-{member.crc:08x}-{member.offset}"


class Zip(_Members):
    """Images in a zip file, read without unpacking it; on request its folders are the classes."""

    def __init__(
        self, path: str, root: str | None = None, classes_from_folders: bool = False, listing: int = LISTING
    ) -> None:
        """List the zip at `path`, which must lie under `root` where that is given, by the rules of `listing`.

        Of layers (train/cat, test/cat) what is not to train on is held out. Raises SourceError: SRC_..., ZIP_FORMAT,
        ZIP_CORRUPT, ZIP_TOO_MANY, ZIP_TOO_LARGE, ZIP_OVERLAP, SRC_EMPTY where it holds no image, or the common reason
        why none of them can be used.
        """
        place = locate(path, root)
        with open_file(place) as file:
            members = list_members(file)
            _check_total(members)
            found, refused, self.n_ignored = _sorted_out(members, file, checked_listing(listing))
        self.set_aside = _told_apart(refused, set(found))
        if not found:
            raise _nothing(path, members, self.set_aside, self.n_ignored)
        by_id = {image_id: found[image_id] for image_id in sorted(found)}
        classes = _classes(by_id, listing > 1) if classes_from_folders else no_classes(len(by_id))
        self.layers = classes.layers
        """The folders whose images are held out."""
        pool, test = classes.pool, classes.test
        super().__init__(place, _some(by_id, pool.rows), classes.names, pool.truth)
        if test is not None:
            self.held_out = _Members(place, _some(by_id, test.rows), classes.names, test.truth)


def _some(members: Mapping[str, Member], rows: IntArray) -> dict[str, Member]:
    """The elements at these indexes."""
    listed = list(members.items())
    return dict(listed[row] for row in rows)


Refused = list[tuple[str, str, Member]]
"""(id, code, member) of each entry that is set aside."""


def _sorted_out(members: Sequence[Member], file: BinaryIO, listing: int) -> tuple[dict[str, Member], Refused, int]:
    """Members as images by id, as entries that are set aside, and as a count of ignored ones."""
    found: dict[str, Member] = {}
    refused: Refused = []
    n_ignored = 0
    for member in members:  # one by one: each has its own name and its own faults
        name = _decoded(member) if listing == 1 else _plain_name(_decoded(member))
        image_id = printable(name.encode())
        code = _fault(member, name, file, listing) or ("ZIP_DUPLICATE" if image_id in found else None)
        if code is None:
            found[image_id] = member
        elif code == IGNORED:
            n_ignored += 1
        else:
            refused.append((image_id, code, member))
    return found, refused, n_ignored


def _told_apart(refused: Refused, taken: set[str]) -> tuple[SetAside, ...]:
    """The entries set aside, each with its own id: a name that is taken is followed by the place in the zip."""
    told = []
    for image_id, code, member in refused:
        own = f"{image_id}%@{member.offset}" if image_id in taken else image_id  # "%@" is in no other id
        taken.add(own)
        told.append(SetAside(own, code, REASONS[code]))
    return tuple(told)


def _decoded(member: Member) -> str:
    """The name as text, from the bytes of this name alone, so that an id never changes."""
    try:
        return member.name.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        japanese = member.name.decode("cp932")
    except UnicodeDecodeError:
        japanese = ""
    return japanese if JAPANESE.search(japanese) else member.name.decode("cp437")


def _plain_name(name: str) -> str:
    """The name with "/" between folders, without "./" or one "/" in front, which some programs write."""
    name = name.replace("\\", "/")
    name = name if name.startswith("//") else name.removeprefix("/")
    while name.startswith("./") and name != "./":
        name = name.removeprefix("./")
    return name


def _fault(member: Member, name: str, file: BinaryIO, listing: int) -> str | None:
    """Why this member cannot be an image of the pool, IGNORED where nobody meant it to be one, None for an image."""
    if listing > 1 and name in (".", "./"):  # the folder itself
        return IGNORED
    if not _is_plain(member, name):
        return "ZIP_PATH"
    if stat.S_IFMT(member.mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "ZIP_LINK"
    parts = name.split("/")
    if name.endswith("/") or any(is_left_out(part, listing) for part in parts):
        return IGNORED
    if os.path.splitext(parts[-1])[1].lower() in ARCHIVES:
        return "ZIP_NESTED"
    if has_image_suffix(parts[-1], listing):
        return _content_fault(member)
    is_image = may_be_image(parts[-1], listing) and not _content_fault(member) and _begins_like_image(member, file)
    return None if is_image else IGNORED


def _begins_like_image(member: Member, file: BinaryIO) -> bool:
    try:
        return begins_like_image(MemberStream(file, member).read(HEAD))
    except SourceError:
        return False


def _content_fault(member: Member) -> str | None:
    if member.is_encrypted:
        return "ZIP_ENCRYPTED"
    if member.method not in METHODS:
        return "ZIP_METHOD"
    return "ZIP_TOO_LARGE" if member.size > MAX_BYTES else None


def _is_plain(member: Member, name: str) -> bool:
    try:
        safe_join(Path("zip"), name.removesuffix("/"))
    except SourceError:
        return False
    return len(member.name) <= MAX_NAME


def _classes(ids: Iterable[str], by_layers: bool) -> Classes:
    """By the first folder in which the images differ, in their layers where there are any."""
    return sort_out([image_id.rpartition("/")[0] for image_id in ids], by_layers, strip_common=True)


def _check_total(members: Sequence[Member]) -> None:
    total = sum(member.size for member in members)
    if total > MAX_TOTAL:
        raise SourceError(
            f"The zip inflates to {total / 2**30:,.0f} GiB, more than the limit of {MAX_TOTAL // 2**30}. "
            "Unpack it and import the folder.",
            "ZIP_TOO_LARGE",
        )


def _nothing(path: str, members: Sequence[Member], set_aside: Sequence[SetAside], n_ignored: int) -> SourceError:
    """The error for a zip without an image: the reason that all entries share, or SRC_EMPTY."""
    told = f"No image in {path!r} can be used: {len(set_aside):,} entries set aside, {n_ignored:,} are other files."
    if set_aside:
        told += f" The first: {name_of(set_aside[0].image_id)!r}: {set_aside[0].reason}"
    if any(member.name.endswith(b".npy") for member in members):
        told += " It holds NumPy arrays: import it as arrays, named .npz."
    codes = {entry.code for entry in set_aside}
    return SourceError(told, codes.pop() if len(codes) == 1 else "SRC_EMPTY")
