"""Opens a file that a person named: it must lie under the root and be a regular file. Knows no format."""

from __future__ import annotations

import os
import re
import stat
from io import BufferedReader
from pathlib import Path

from annotator.errors import SourceError
from annotator.paths import expanded, inside
from annotator.sources.folder import CODES, READ_BITS, READ_FLAGS

REASONS = {
    "SRC_MISSING": "There is no such file. Check the path.",
    "SRC_PERMISSION": "It may not be read. Give it read permission, then try again.",
    "SRC_ESCAPES_ROOT": "It lies outside the folder that was opened for use. Copy it there.",
    "SRC_NOT_A_FILE": "It is no regular file. Give the path of a file.",
    "SRC_NAME_TOO_LONG": "Its path is longer than the system can open. Shorten the names of its folders.",
    "SRC_UNREADABLE": "The system could not read it. Check the disk or the network drive it is on.",
}


def locate(path: str, root: str | None = None) -> Path:
    """The real path of a file or folder, which must lie under `root` where that is given.

    Raises SourceError: SRC_ESCAPES_ROOT (whether or not it exists), SRC_MISSING, SRC_PERMISSION, SRC_NAME_TOO_LONG.
    """
    named = expanded(path)
    if root is not None and not inside(Path(root), named):
        raise refused(path, "SRC_ESCAPES_ROOT")
    if not path or "\0" in path:
        raise refused(path, "SRC_MISSING")
    try:
        return Path(os.path.realpath(named, strict=True))
    except OSError as error:
        raise unreadable(path, error) from error


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading; never blocks on a pipe or a device.

    Raises SourceError: SRC_NOT_A_FILE, SRC_PERMISSION, SRC_MISSING or SRC_UNREADABLE.
    """
    try:
        file = os.fdopen(os.open(path, READ_FLAGS), "rb")
    except OSError as error:  # Windows cannot open a folder at all
        raise refused(str(path), "SRC_NOT_A_FILE") if path.is_dir() else unreadable(str(path), error) from error
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode) and mode & READ_BITS:
        return file
    file.close()
    raise refused(str(path), "SRC_PERMISSION" if stat.S_ISREG(mode) else "SRC_NOT_A_FILE")


def printable(name: bytes) -> str:
    """A name's bytes as an id: "%" becomes "%25", a byte that is not UTF-8 "%XX"."""
    text = name.decode("utf-8", "surrogateescape").replace("%", "%25")
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)


def refused(where: str, code: str) -> SourceError:
    """The error of this code about this path."""
    return SourceError(f"{where!r}: {REASONS[code]}", code)


def unreadable(where: str, error: OSError) -> SourceError:
    """SourceError for the system's error about this path."""
    return refused(where, CODES.get(error.errno or 0, "SRC_UNREADABLE"))
