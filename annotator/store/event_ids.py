"""The grammar of event ids: how each is minted, how each is read. Knows no database and no browser.

    {question}.{n}                an answer: the n-th event on this question, counted from 0
    {seen}>{outcome}{class id}    a change of the answer `seen`; the class id only where the outcome is "label"
    {seen}<                       an undo of what `seen` did
    {question}!{anything}         a flag
    class.{class id}.add          a class was added
    config.{version}              a configuration was stored
    ~{id}                         the id of an event whose own id is taken by a flag of an earlier version

An id is minted where an image is shown, so that an answer sent twice is one event. tests/event_ids.json has examples
that the Python and the JavaScript tests both read: the browser mints the same ids in annotator/ui/grid/events.js.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OUTCOMES = ("label", "skip", "unsure", "none-of-these")
_CHANGE = re.compile(r"(.+)>(?:label(\d+)|(skip|unsure|none-of-these))")
_ANSWER = re.compile(r"(.+)\.(\d+)")
_CLASS, _CONFIG = re.compile(r"class\.(\d+)\.add"), re.compile(r"config\.(\d+)")


@dataclass(frozen=True)
class EventId:
    """An id taken apart."""

    kind: str
    """"answer", "change", "undo", "flag", "class" or "config"."""
    about: str = ""
    """The question of an answer or a flag; the event that a change or an undo replaces."""
    number: int | None = None
    """Of an answer: n. Of a class: its id. Of a configuration: its version."""
    outcome: str | None = None
    """Of a change."""
    class_id: int | None = None
    """Of a change to a label."""


def answer(question_id: str, n_events: int) -> str:
    """The next answer to a question that `n_events` events are about."""
    return f"{question_id}.{n_events}"


def change(seen_id: str, outcome: str, class_id: int | None) -> str:
    """Another answer in place of the one that was seen."""
    return f"{seen_id}>{outcome}{'' if class_id is None else class_id}"


def undo(seen_id: str) -> str:
    """What the event that was seen did is taken back."""
    return f"{seen_id}<"


def flag(question_id: str, unique: str) -> str:
    """A comment on an image that was asked."""
    return f"{question_id}!{unique}"


def class_added(class_id: int) -> str:
    """A class was added."""
    return f"class.{class_id}.add"


def config_stored(version: int) -> str:
    """A configuration was stored."""
    return f"config.{version}"


def escaped(event_id: str) -> str:
    """The id of an event whose own id is taken."""
    return f"~{event_id}"


def unescaped(event_id: str) -> str:
    """The id that `escaped` was given; others as they are."""
    return event_id.removeprefix("~")


def variants(event_id: str) -> tuple[str, str]:
    """Both ids that the log may have an event under."""
    return event_id, escaped(event_id)


def is_flag_of(event_id: str, question_id: str) -> bool:
    """Whether it is an id of a flag on this question: it begins as no other event's does."""
    return bool(question_id) and event_id.startswith(flag(question_id, ""))


def parse(event_id: str) -> EventId | None:
    """An id taken apart; None for what is no id.

    A "~" stays with what is read first: "~a.0>skip" is a change of "~a.0". That it may be the escaped change of "a.0"
    is known only to the log.
    """
    return _flag(event_id) or _undo(event_id) or _change(event_id) or _own(event_id) or _answer(event_id)


def _flag(event_id: str) -> EventId | None:
    question_id, mark, unique = event_id.partition("!")
    return EventId("flag", question_id) if mark and question_id and unique else None


def _undo(event_id: str) -> EventId | None:
    is_undo = event_id.endswith("<") and len(event_id) > 1 and "!" not in event_id
    return EventId("undo", event_id[:-1]) if is_undo else None


def _change(event_id: str) -> EventId | None:
    found = _CHANGE.fullmatch(event_id)
    if found is None or "!" in event_id:
        return None
    seen_id, class_id, outcome = found.groups()
    return EventId("change", seen_id, None, outcome or "label", None if class_id is None else int(class_id))


def _own(event_id: str) -> EventId | None:
    """An event on no image."""
    plain = unescaped(event_id)
    added, stored = _CLASS.fullmatch(plain), _CONFIG.fullmatch(plain)
    if added is not None:
        return EventId("class", "", int(added[1]))
    return None if stored is None else EventId("config", "", int(stored[1]))


def _answer(event_id: str) -> EventId | None:
    found = _ANSWER.fullmatch(event_id)
    is_answer = found is not None and not set("<>!") & set(event_id)
    return EventId("answer", found[1], int(found[2])) if found is not None and is_answer else None
