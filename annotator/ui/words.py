"""Text on the screen: names and numbers from outside are shown as text, never as Markdown or HTML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from annotator.paths import name_of

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&=^@/])")
_JOINERS = "\u200c\u200d"
"""Invisible, but part of how names are spelled in Persian, Hindi and others, and of many emoji."""
_NEWLINES = re.compile(r"[\r\n\t\v\f\u2028\u2029]")


def plain(text: str) -> str:
    """Any text, shown as it is: Markdown escaped, line breaks and direction overrides made visible."""
    return _MARKUP.sub(r"\\\1", visible(text))


def visible(text: str) -> str:
    """Line breaks and invisible controls as symbols; undecodable characters as �. NFC, so that é is é."""
    shown = _NEWLINES.sub("⏎", unicodedata.normalize("NFC", text))
    return "".join("�" if _is_control(character) else character for character in shown)


def _is_control(character: str) -> bool:
    return character not in _JOINERS and unicodedata.category(character) in ("Cc", "Cf", "Cs")


def image_name(image_id: str) -> str:
    """An image as its file is called."""
    return visible(name_of(image_id))


def count(number: int, singular: str, plural: str | None = None) -> str:
    """1 label, 2 labels, 1,000 labels."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def held(names: Sequence[str]) -> str:
    """Where the last images are, while others were asked about them; empty where nobody was."""
    if not names:
        return ""
    whom = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"The last images are with {visible(whom)}. Those that are not begun within half an hour come to you."


def percent(share: float | None) -> str:
    """61 %; a dash where nothing was measured."""
    return "–" if share is None else f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """12 s, 3 min."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
