"""Why an image was picked: as a strategy says it, as a question keeps it, and as a card shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from annotator import registry
from annotator.errors import ConfigError
from annotator.store.values import Question
from annotator.types import GivesReasons, Reason


def to_json(reason: Reason) -> str:
    """What a question keeps."""
    return json.dumps({"words": reason.words, "classes": list(reason.classes)}, ensure_ascii=False)


def in_words(question: Question, names: Mapping[int, str]) -> str:
    """The phrase on the card, classes by their names of today; empty where the strategy gave no reason.

    Empty as well where it would name classes beside a guess that is hidden. `names` are by class id.
    """
    if question.reason is not None:
        kept = json.loads(question.reason)
        if kept["classes"] and question.guess is not None and not question.guess_visible:
            return ""
        return _filled(Reason(kept["words"], tuple(kept["classes"])), names)
    return "" if question.score is None else _of_score(question.strategy, question.score)


def on_card(question: Question, names: Mapping[int, str]) -> str:
    """As `in_words`; empty where the guess is hidden and the reason names classes, which would tell it."""
    is_hidden = question.guess is not None and not question.guess_visible
    if is_hidden and question.reason is not None and json.loads(question.reason)["classes"]:
        return ""
    return in_words(question, names)


def _filled(reason: Reason, names: Mapping[int, str]) -> str:
    called = {str(place): names.get(code, f"class {code}") for place, code in enumerate(reason.classes)}
    return re.sub(r"\{(\d+)\}", lambda found: called.get(found[1], found[0]), reason.words)


def _of_score(strategy: str, score: float) -> str:
    try:
        plugin = registry.load("strategy", strategy)
    except ConfigError:  # a strategy that is no longer installed
        return ""
    return plugin.reason(score) if isinstance(plugin, GivesReasons) else ""
