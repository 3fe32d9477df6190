"""Paths and file names made of untrusted text. Nothing else may build a path from a name somebody typed or sent.

`safe_join` judges the text alone, before the disk is asked anything; `inside` judges where a path leads once every
symbolic link is followed. A reader uses both: the first for the name, the second for what lies there. `expanded` is
the one reading of "~", `name_of` how an image is called on a screen. `slug` and `readable` make a file name of any
text, the one in plain ASCII, the other in its own script. `assets` is the package's own folder, `default_projects`
where a person's projects lie.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from platformdirs import user_data_path

from annotator.errors import SourceError

MAX_SLUG = 60
"""Characters; leaves room for an id and a suffix in a name of at most 255 bytes."""
MAX_NAME_BYTES = 180
"""Of such a name in UTF-8, in which a letter takes up to four."""
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[\d¹²³]|lpt[\d¹²³]) *(\.|$)", re.IGNORECASE)
"""Names that Windows keeps for devices, with or without a suffix."""
FORBIDDEN = re.compile(r'[<>:"/\\|?*]+|\.{2,}')
"""What no name may hold on one system or another, and the dots at which unpackers leave a file out."""
LEADING = " .-_~=+@＝＋－＠"
"""What no name begins with: hidden files, options, formulas."""


def safe_join(root: Path, *parts: str) -> Path:
    """A path under `root`; each part is a relative path with "/" between folders.

    Refuses with SourceError (SRC_ESCAPES_ROOT): no part at all, an empty or "." or ".." component, a leading slash,
    a backslash, a drive (Windows takes any one character before a colon for one), NUL. The text is judged before the
    disk is asked, so symbolic links are not followed: see `inside`.
    """
    components = [component for part in parts for component in part.split("/")]
    base = os.path.abspath(root)
    joined = os.path.abspath(os.path.join(base, *components)) if _plain(components) else ""
    if not joined or os.path.commonpath([base, joined]) != base:
        raise SourceError(
            f"{'/'.join(parts)!r} is not a plain path inside the folder {root}. "
            "Use a relative path, folders separated by '/', without '..', backslashes or drive letters.",
            "SRC_ESCAPES_ROOT",
        )
    return Path(joined)


def expanded(path: str) -> Path:
    """A path as a person typed it: "~" alone and "~/..." lie in their home.

    Any other name that begins with "~" is a name: "~old" is no other user's home.
    """
    return Path(os.path.expanduser(path) if re.match(r"~($|/|\\)", path) else path)


def inside(root: Path, path: Path) -> bool:
    """Whether `path` is `root` or lies below it once every symbolic link in both is followed."""
    try:
        base, real = os.path.realpath(root), os.path.realpath(path)
        return os.path.commonpath([base, real]) == base
    except ValueError:  # another drive, or NUL in the text
        return False


def slug(text: str, fallback: str) -> str:
    """A file name for any text: at most 60 ASCII letters, digits, dots, dashes and underscores.

    Never empty, never of dots alone and never with "..", never a name that Windows keeps for a device; `fallback` where
    nothing of the text is left. Two texts may give one slug: whoever needs distinct names adds an id.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", plain).strip("-._")
    if RESERVED.match(name):
        name = f"_{name}"
    return name[:MAX_SLUG].rstrip("-.") or fallback


def readable(text: str, fallback: str) -> str:
    """A file name for any text in any script, the text itself where that is safe on every system.

    At most 60 characters and 180 bytes, never empty, hidden or a device of Windows; control characters and invisible
    ones are left out. `fallback` where nothing of the text is left. Two texts may give one name, and two names may be
    one on a disk that ignores case: see `same_on_disk`.
    """
    blanks = " ".join(unicodedata.normalize("NFC", text).split())
    plain = "".join(character for character in FORBIDDEN.sub("-", blanks) if character.isprintable())
    name = plain.lstrip(LEADING)[:MAX_SLUG].encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore").rstrip(" .-_")
    return (f"_{name}" if RESERVED.match(name) else name) or fallback


def same_on_disk(name: str) -> str:
    """Equal for two names that some disk takes for one: it ignores case, or how an accent is written."""
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())


def name_of(image_id: str) -> str:
    """An image id, or a folder in one, as people know it: the "%25" in it is "%" again.

    What stands for a byte that is no UTF-8, "%E9" for example, stays as it is. Two ids may read alike then: a folder's
    name as a class, where that would matter, is `sources.listing.class_of_folder`.
    """
    return image_id.replace("%25", "%")


def assets() -> Path:
    """What comes with the package: inside it in a wheel, beside it in a checkout."""
    inside_package = Path(__file__).with_name("assets")
    return inside_package if inside_package.is_dir() else Path(__file__).parent.with_name("assets")


def default_projects() -> Path:
    """Where projects live without --projects: the platform's data folder."""
    return user_data_path("annotator", appauthor=False) / "projects"


def _plain(components: list[str]) -> bool:
    return bool(components) and not any(
        component in ("", ".", "..") or "\\" in component or "\0" in component or re.match("(?s).:", component)
        for component in components
    )
