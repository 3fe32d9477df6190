"""Events -> one label an image, by a named rule; agreement between people. Knows no arrays and no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from annotator.errors import ConfigError
from annotator.store import Event


@dataclass(frozen=True)
class BetweenPeople:
    """How far people agree on the images that at least two of them gave a class to."""

    n_images: int
    n_unanimous: int
    alpha: float | None
    """Krippendorff's alpha for nominal data: 1 = always agree, 0 = no more than by chance; None where all labels are
    of one class, or no image has two.
    """


def consensus(current: Sequence[Event], rule: str = "majority") -> dict[str, int]:
    """Standing answers, one for each (image, annotator), by seq -> image id -> class code, by one of `RULES`.

    Answers without a class (skipped, unsure, none of these) have no vote. Raises ConfigError for another rule.
    """
    if rule not in RULES:
        raise ConfigError(f"No consensus rule {rule!r}. Choose from: {', '.join(RULES)}.")
    return {image_id: RULES[rule](codes) for image_id, codes in _votes(current).items()}


def agreement(current: Sequence[Event]) -> BetweenPeople:
    """Between the standing labels, as `consensus` takes them."""
    shared = [Counter(codes) for codes in _votes(current).values() if len(codes) > 1]
    return BetweenPeople(len(shared), sum(len(counts) == 1 for counts in shared), _alpha(shared))


def majority(codes: Sequence[int]) -> int:
    """The class given most often; a tie goes to the one given first."""
    return codes[0] if len(codes) == 1 else Counter(codes).most_common(1)[0][0]


RULES: dict[str, Callable[[Sequence[int]], int]] = {"majority": majority}
"""Rule -> the label of an image to which people gave these class codes, the earliest first."""


def _votes(current: Sequence[Event]) -> dict[str, list[int]]:
    """image id -> the class codes that people gave it, by seq."""
    votes: dict[str, list[int]] = {}
    for event in current:
        if event.outcome == "label" and event.image_id is not None and event.class_id is not None:
            votes.setdefault(event.image_id, []).append(event.class_id)
    return votes


def _alpha(shared: Sequence[Counter[int]]) -> float | None:
    """1 - observed / expected disagreement. Source: Krippendorff, Content Analysis, 4th edition, 2019, chapter 12."""
    totals: Counter[int] = sum(shared, Counter())
    n = totals.total()
    expected = _n_unequal(totals) / (n - 1) if n else 0
    return 1 - sum(_n_unequal(counts) / (counts.total() - 1) for counts in shared) / expected if expected else None


def _n_unequal(counts: Counter[int]) -> int:
    """Ordered pairs of labels of different classes."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())
