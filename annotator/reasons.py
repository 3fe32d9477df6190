"""Why an image was picked: as a strategy says it, as a question keeps it, and as a card shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from annotator import registry
from annotator.errors import ConfigError
from annotator.purposes import REVIEW
from annotator.store.values import Question
from annotator.types import GivesReasons, Reason


def to_json(reason: Reason) -> str:
    """What a question keeps."""
    return json.dumps({"words": reason.words, "classes": list(reason.classes)}, ensure_ascii=False)


def in_words(question: Question, names: Mapping[int, str]) -> str:
    """Why it was picked, classes by their names of today (`names` by class id); empty where no reason is known."""
    reason = _kept(question)
    if reason is not None:
        return _filled(reason, names)
    return "" if question.score is None else _of_score(question.strategy, question.score)


def on_card(question: Question, names: Mapping[int, str]) -> str:
    """As `in_words`; empty where the guess is hidden and the classes that the reason names would tell it.

    A second look names them on purpose: neither stands there as the model's guess.
    """
    is_hidden = question.hides_guess and question.purpose != REVIEW.name
    reason = _kept(question)
    return "" if is_hidden and reason is not None and reason.classes else in_words(question, names)


def _kept(question: Question) -> Reason | None:
    """None as well where a damaged store holds something else."""
    try:
        kept = json.loads(question.reason or "null")
        return None if kept is None else Reason(str(kept["words"]), tuple(map(int, kept["classes"])))
    except (ValueError, TypeError, KeyError):
        return None


def _filled(reason: Reason, names: Mapping[int, str]) -> str:
    called = {str(place): names.get(code, f"class {code}") for place, code in enumerate(reason.classes)}
    return re.sub(r"\{(\d+)\}", lambda found: called.get(found[1], found[0]), reason.words)


def _of_score(strategy: str, score: float) -> str:
    try:
        plugin = registry.load("strategy", str(strategy))
    except ConfigError:  # a strategy that is no longer installed, or what a damaged store has in its place
        return ""
    return plugin.reason(score) if isinstance(plugin, GivesReasons) else ""
