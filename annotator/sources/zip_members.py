"""A zip's directory and its members' bytes, with every number that it declares checked. Knows no images and no arrays.

The directory is bounded before it is read, members may not share bytes, and a member is inflated in pieces, never
beyond the size it declares. Nothing is ever written: no name in a zip becomes a path. Members are stored or deflated;
other methods are not read.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from annotator.errors import SourceError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_MEMBERS = 200_000
MAX_DIRECTORY = 64 * 2**20
"""Bytes of the directory: room for that many members with long names."""
ENTRY = b"PK\1\2"
"""How each entry of the directory begins."""
ENCRYPTED = 0x2041
"""Flag bits: encrypted, strongly encrypted, directory masked."""
UTF8 = 0x800
"""Flag bit: the name is UTF-8; zipfile takes it for CP437 where it is not set."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a member in front of its bytes: signature, ..., length of its name, length of its extra field."""
OTHERS = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUM": "one NumPy array",
}
"""What else people take for a zip, by its first bytes."""
PIECE = 1 << 16
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Member:
    """One entry of the directory."""

    name: bytes
    """As it stands in the file; nothing says in which encoding."""
    is_encrypted: bool
    method: int
    mode: int
    """POSIX file type and permissions, 0 where the zip knows none."""
    crc: int
    offset: int
    compressed_size: int
    size: int
    """What it declares to inflate to."""
    end: int
    """Where the next member or the directory begins."""


class MemberStream(io.RawIOBase):
    """A member's bytes, inflated as they are asked for; wrap it in io.BufferedReader.

    Raises SourceError ZIP_CORRUPT where the bytes are not what the directory declares: another name, place, size or
    checksum. Size and checksum are known at the end, so read to it.
    """

    def __init__(self, file: BinaryIO, member: Member) -> None:
        self._file = file
        self._member = member
        self._left = member.compressed_size
        self._size = self._crc = 0
        self._inflater = None if member.method == zipfile.ZIP_STORED else zlib.decompressobj(-zlib.MAX_WBITS)
        self._find()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill at most all of `buffer`; 0 at the end."""
        target = memoryview(buffer).cast("B")
        content = self._next(len(target))
        self._size += len(content)
        self._crc = zlib.crc32(content, self._crc)
        if self._size > self._member.size:
            raise damaged("it inflates to more than it declares")
        if not content:
            self._check_end()
        target[: len(content)] = content
        return len(content)

    def _find(self) -> None:
        member = self._member
        self._file.seek(member.offset)
        header = self._file.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise damaged("it is not where the directory says")
        _, name_length, extra_length = LOCAL_HEADER.unpack(header)
        if self._file.read(name_length) != member.name:
            raise damaged("the directory calls it something else")
        self._file.seek(extra_length, io.SEEK_CUR)
        if self._file.tell() + member.compressed_size > member.end:
            raise damaged("it reaches into what follows it")

    def _next(self, size: int) -> bytes:
        if self._inflater is None:
            return self._take(min(size, PIECE))
        try:
            while not self._inflater.eof:
                piece = self._inflater.unconsumed_tail or self._take(PIECE)
                content = self._inflater.decompress(piece, min(size, PIECE))
                if content or not piece:
                    return content
        except zlib.error as error:
            raise damaged("it cannot be inflated") from error
        return b""

    def _take(self, size: int) -> bytes:
        piece = self._file.read(min(size, self._left))
        self._left -= len(piece)
        return piece

    def _check_end(self) -> None:
        if self._size < self._member.size:
            raise damaged("it ends too soon")
        if self._crc != self._member.crc:
            raise damaged("its checksum is wrong")


def list_members(file: BinaryIO) -> list[Member]:
    """Every entry of the directory, in its order.

    Raises SourceError: ZIP_FORMAT (no zip at all), ZIP_CORRUPT, ZIP_TOO_MANY, ZIP_METHOD, or ZIP_OVERLAP where members
    share bytes, which no honest zip does.
    """
    _check_kind(file)
    try:
        with zipfile.ZipFile(_Directory(file)) as archive:
            entries, directory = archive.infolist(), archive.start_dir
    except SourceError:
        raise
    except NotImplementedError as error:
        told = f"The zip needs a newer program: {error}. Make it again with deflate, the usual method."
        raise SourceError(told, "ZIP_METHOD") from error
    except Exception as error:  # BadZipFile, and whatever else a broken directory leads to
        raise SourceError(f"The zip is damaged or cut short: {error}. Copy or make it again.", "ZIP_CORRUPT") from error
    return _checked(entries, directory)


def read_member(file: BinaryIO, member: Member) -> bytes:
    """All of one member; the caller has judged its declared size. Raises SourceError ZIP_CORRUPT."""
    with MemberStream(file, member) as raw, io.BufferedReader(raw, PIECE) as stream:
        return stream.read()


def damaged(what: str) -> SourceError:
    """ZIP_CORRUPT about one member."""
    return SourceError(f"This entry of the zip is damaged: {what}. Make the zip again.", "ZIP_CORRUPT")


class _Directory:
    """The file as zipfile reads its directory from it: bounded, whichever of its numbers zipfile believes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        """At most MAX_DIRECTORY bytes with at most MAX_MEMBERS entries."""
        content = self._file.read(min(size, MAX_DIRECTORY + 1) if size >= 0 else MAX_DIRECTORY + 1)
        if len(content) > MAX_DIRECTORY or content.count(ENTRY) > MAX_MEMBERS:
            raise SourceError(
                f"It has more than {MAX_MEMBERS:,} entries. Unpack it and import the folder.", "ZIP_TOO_MANY"
            )
        return content


def _check_kind(file: BinaryIO) -> None:
    """Say plainly what is no zip, before its end is searched for a directory."""
    head = file.read(4)
    if not head:
        raise SourceError("The file is empty (0 bytes). Copy it again from where it came from.", "ZIP_FORMAT")
    if not head.startswith(b"PK"):
        what = next(
            (what for magic, what in OTHERS.items() if head.startswith(magic)), "no zip, whatever its name says"
        )
        raise SourceError(f"The file is {what}. Pack what it holds into a .zip.", "ZIP_FORMAT")


def _checked(entries: list[zipfile.ZipInfo], directory: int) -> list[Member]:
    """The entries as members; the least that each takes up must end where the next begins, or before."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in ordered[1:]] + [directory]
    members = {id(entry): _member(entry, end) for entry, end in zip(ordered, ends, strict=False)}
    for member in members.values():
        least = LOCAL_HEADER.size + len(member.name) + member.compressed_size
        if member.offset < 0 or member.offset + least > member.end:
            told = "Entries of the zip share bytes, as in a file made to fill memory. Get it from elsewhere."
            raise SourceError(told, "ZIP_OVERLAP")
    return [members[id(entry)] for entry in entries]


def _member(entry: zipfile.ZipInfo, end: int) -> Member:
    return Member(
        # As zipfile decoded it, so exact.
        name=entry.orig_filename.encode("utf-8" if entry.flag_bits & UTF8 else "cp437"),
        is_encrypted=bool(entry.flag_bits & ENCRYPTED),
        method=entry.compress_type,
        mode=entry.external_attr >> 16,
        crc=entry.CRC,
        offset=entry.header_offset,
        compressed_size=entry.compress_size,
        size=entry.file_size,
        end=end,
    )
