"""The rule for when two class names are the same. Knows no store, no source and no model.

It is used wherever classes are matched by name: a source's labels with a project's classes, a typed name with existing
ones. Names that differ in outer blanks, or in how an accent is encoded, are equal: nobody could tell them apart. Names
that differ in case are two classes where a source has both; where somebody types one, it is refused with a question.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence

from annotator.errors import ConfigError

MOST_CLASSES = 1_000
"""Most classes of a project, the number that was measured; an older project that has more may keep them."""


def equal_name(name: str) -> str:
    """The spelling that stands for all names equal to this one: NFC, without outer blanks."""
    return unicodedata.normalize("NFC", name).strip()


def distinct_names(names: Iterable[str]) -> tuple[str, ...]:
    """A source's own names as classes of a project: the first of equal ones, blank ones left out."""
    return tuple(dict.fromkeys(name for name in map(equal_name, names) if name))


def code_by_name(names: Iterable[str]) -> dict[str, int]:
    """`equal_name` of each name -> its index; of equal names, the first."""
    codes: dict[str, int] = {}
    for code, name in enumerate(names):
        codes.setdefault(equal_name(name), code)
    return codes


def checked_class_names(names: Sequence[str], taken: Sequence[str] = (), own: Collection[str] = ()) -> list[str]:
    """The names as they are stored; `taken` are there already, `own` are a source's, which may differ in case alone.

    Raises ConfigError: CLASS_EMPTY, CLASS_DUPLICATE for equal names, CLASS_CASE for a typed name that differs from
    another in case alone.
    """
    stored, may_differ = [equal_name(name) for name in taken], set(map(equal_name, own))
    seen = {name.casefold(): name for name in stored}
    for name in map(equal_name, names):
        if not name:
            raise ConfigError("A class needs a name; remove the empty one.", "CLASS_EMPTY")
        if name in stored:
            raise ConfigError(f"The class {name!r} stands twice; name each class once.", "CLASS_DUPLICATE")
        alike = seen.setdefault(name.casefold(), name)
        if alike != name and not {alike, name} <= may_differ:
            raise ConfigError(_question_on_case(name, alike), "CLASS_CASE")
        stored.append(name)
    return stored[len(taken) :]


def check_number_of_classes(n_classes: int) -> None:
    """Raises ConfigError (CLASS_TOO_MANY) for more than `MOST_CLASSES`."""
    if n_classes > MOST_CLASSES:
        raise ConfigError(
            f"{n_classes:,} classes are more than the {MOST_CLASSES:,} that a project may have. Choose fewer, for "
            "example by putting rare ones together.",
            "CLASS_TOO_MANY",
        )


def check_own_classes(names: Iterable[str]) -> None:
    """Whether a source's names can be the classes of a new project. Raises ConfigError: CLASS_NONE, CLASS_TOO_MANY."""
    n_classes = len(distinct_names(names))
    if not n_classes:
        raise ConfigError("This source names no classes; give at least one.", "CLASS_NONE")
    check_number_of_classes(n_classes)


def _question_on_case(name: str, alike: str) -> str:
    return (
        f"{name!r} differs from the class {alike!r} in case alone. Is it the same? Then use {alike!r}. "
        "If it is another class, give it a name that people can tell apart."
    )
