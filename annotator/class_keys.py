"""Which key answers with which class. Knows names and keys, no browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from annotator.errors import ConfigError

MOST_CLASSES = 10
"""With more classes than this, keys could not be remembered: people type to find a class."""
KEYS = "1234567890" + "abcdeghijklmopqrtvwxy"
"""Keys that a class can have; s, u, n, f and z are commands of the labeling grid."""


def checked_class_keys(keys: Mapping[str, str]) -> None:
    """Raises ConfigError (CLASS_KEY) for a key that cannot be one, or that stands twice."""
    taken: dict[str, str] = {}
    for name, key in keys.items():
        if len(key) != 1 or key not in KEYS:
            there_are = "the digits and " + " ".join(KEYS[10:])
            raise ConfigError(f"{key!r} cannot be the key of {name!r}. There are: {there_are}.", "CLASS_KEY")
        if key in taken:
            raise ConfigError(f"{name!r} and {taken[key]!r} have the same key {key!r}; give each its own.", "CLASS_KEY")
        taken[key] = name


def class_keys(names: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Class name -> key: as chosen, else the name itself where it is a digit, else the next free digit.

    With more than `MOST_CLASSES` classes only the chosen ones have a key.
    """
    keys = {name: key for name, key in chosen.items() if name in names}
    if len(names) > MOST_CLASSES:
        return keys
    keys |= {name: name for name in names if name not in keys and _is_digit(name) and name not in keys.values()}
    for name in names:
        if name not in keys:
            keys[name] = next(key for key in KEYS if key not in keys.values())
    return keys


def _is_digit(name: str) -> bool:
    return len(name) == 1 and name in KEYS[:10]
