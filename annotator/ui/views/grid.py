"""The labeling grid: what the component in the browser is given, and what it gives back.

The component answers key presses by itself and keeps them until the store has them; a run of this fragment stores what
has come, says which events are stored, and hands over the next batch. Nothing here is waited for.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Any

import streamlit as st

from annotator import due, images, reports
from annotator.batches import ShownBatch, ShownCard
from annotator.class_keys import MOST_CLASSES, class_keys
from annotator.errors import AnnotatorError
from annotator.evaluation import MEASURED_ON
from annotator.project import Project
from annotator.reports import Moment
from annotator.session import Session
from annotator.store import LabelClass
from annotator.types import Dataset
from annotator.ui import image_route, panels, tab
from annotator.ui.colours import class_colour
from annotator.ui.grid import component
from annotator.ui.pictures import PHOTO_SIDE, SMALL_IMAGE
from annotator.ui.shared import workspace
from annotator.ui.words import held, image_name, plain, visible
from annotator.wire import inbox
from annotator.workspace import LookAhead, after_first_page

CURVE_POINTS = 400
LEAST_SIDE = 96
"""A small image is enlarged by a whole factor to at least this many px."""


@st.fragment
def render(project: Project, first: list[Moment]) -> None:
    """The grid; where the store fails for a while, it stays as it is, and what is pressed waits in the browser.

    `first` holds the moment that the page around it was drawn from, for the first run; later runs take their own.
    """
    key = f"grid-{project.folder.name}-{tab.annotator()}"
    is_alone = not first
    try:
        moment, drawn = _drawn(project, key, first.pop() if first else None)
    except AnnotatorError as error:
        if f"{key}-drawn" not in st.session_state:
            st.error(plain(str(error)), icon=":material/error:")
            st.button("Try again", key="grid-again")
            return
        moment, drawn = None, st.session_state[f"{key}-drawn"] | {"background": str(error), "results": _results(key)}
    st.session_state[f"{key}-drawn"] = drawn
    _prepare_inbox()
    # In a list: among a dictionary's values Streamlit looks for tables, and imports pandas for that.
    component()(key=key, data=[drawn], on_outbox_change=partial(_receive, project, key))
    if is_alone and moment is not None and panels.has_news(project, moment) and _is_between_batches(moment):
        st.rerun()


def _is_between_batches(moment: Moment) -> bool:
    """Whether nothing of the batch on the screen is answered: then what comes above it moves nothing under a finger."""
    open_now = (batch.cards for batch in reports.batches(moment) if any(map(_is_open, batch.cards)))
    return all(map(_is_open, next(open_now, ())))


@cache
def _prepare_inbox() -> None:
    """Before the first message comes, and after the first page was drawn."""
    after_first_page(inbox.prepare)


def _drawn(project: Project, key: str, moment: Moment | None) -> tuple[Moment, dict[str, Any]]:  # Any: JSON
    session = tab.session(project)
    planner = workspace().look_ahead(project)
    moment = moment or session.moment()
    if not reports.batches(moment):
        with st.spinner("Choosing the first images …"):
            planner.run(session)
        moment = session.moment()
    if workspace().is_due(project, moment) and not planner.is_running:
        planner.start(session, partial(_warm, project, session))
    return moment, payload(project, moment, planner, _results(key))


def _receive(project: Project, key: str) -> None:
    """Store what the browser has sent; what became of each event goes back with the next data."""
    value = st.session_state[key].get("outbox")
    try:
        session = tab.session(project)
        st.session_state[f"{key}-results"] = inbox.receive(session, value)
        session.shown(inbox.rounds_shown(value))
    except AnnotatorError as error:
        results = inbox.keep_all(value, str(error))
        st.session_state[f"{key}-results"] = results | {
            event_key: result for event_key, result in _results(key).items() if result["status"] != "kept"
        }


def _results(key: str) -> dict[str, inbox.Result]:
    found: dict[str, inbox.Result] = st.session_state.get(f"{key}-results", {})
    return found


def _warm(project: Project, session: Session) -> None:
    """Thumbnails of the cards to come are encoded before the browser asks for them."""
    rows = [card.row for batch in reports.batches(session.moment())[-1:] for card in batch.cards]
    dataset = project.prepared.dataset
    if rows and not _is_small(dataset, rows[0]):
        image_route.warm(project, rows, 2 * PHOTO_SIDE)


# ---- what the component is given


def payload(
    project: Project, moment: Moment, planner: LookAhead, results: dict[str, inbox.Result]
) -> dict[str, Any]:  # Any: JSON
    """Everything that is drawn, in the words of the component's contract."""
    batches, classes = reports.batches(moment), reports.classes(moment)
    offered = [label_class for label_class in classes if not label_class.retired]
    n_left = reports.n_left(moment)
    is_open = any(_is_open(card) for batch in batches for card in batch.cards)
    with_others = "" if n_left else held(due.held_by(moment.snapshot, moment.me))
    return {
        "project": project.store.project_id,
        "annotator": moment.me,
        "title": "What are these?",
        "results": results,
        "pages": [_batch(project, batch) for batch in batches],
        "pending": planner.is_running or reports.is_due(moment),
        "finished": not is_open and n_left == 0 and not with_others,
        "held": with_others,
        "status": {
            "saved": reports.n_answered(moment),
            "labels": reports.n_labels(moment),
            "round": reports.current_round(moment),
            "left": n_left,
            "pool": len(project.prepared.dataset),
            "pace": reports.pace(moment),
        },
        "news": reports.news(moment),
        "background": _background(moment, planner),
        "curve": _curve(moment),
        "classes": _classes(project, offered),
        "names": {str(known.class_id): visible(known.name) for known in classes if known.retired},
        "many": len(offered) > MOST_CLASSES,
    }


def _is_open(card: ShownCard) -> bool:
    return card.head is None or card.head.outcome is None


def _background(moment: Moment, planner: LookAhead) -> str:
    learning = reports.learning(moment)
    failure = planner.failure or learning.failure
    if failure is not None:
        return str(failure)
    return "The model is learning in the background. Keep labeling." if learning.is_running else ""


def _classes(project: Project, offered: Sequence[LabelClass]) -> list[dict[str, Any]]:  # Any: JSON
    keys = class_keys([known.name for known in offered], project.config.class_keys)
    return [
        {
            "id": known.class_id,
            "name": visible(known.name),
            "key": keys.get(known.name),
            "colour": class_colour(known.class_id),
        }
        for known in offered
    ]


def _curve(moment: Moment) -> dict[str, Any]:  # Any: JSON
    """Accuracy with its interval by labels, and where model, encoder or strategy changed."""
    history = reports.history(moment)
    name = history[-1].headline if history else None
    if name is None:
        return {"points": [], "caption": "", "marks": []}
    measured = [(point.n_labeled, point.measures[name]) for point in history if point.measures.get(name, {}).get("n")]
    first = {point.config_version: point.n_labeled for point in reversed(history)}
    newest = measured[-1][1]
    return {
        "points": [[n, found["accuracy"], *found["interval"]] for n, found in measured[-CURVE_POINTS:]],
        "caption": f"{newest['n']:,} {MEASURED_ON[name]}",
        "marks": [[first[version], said] for version, said in reports.changes(moment).items() if version in first],
    }


def _batch(project: Project, batch: ShownBatch) -> dict[str, Any]:  # Any: JSON
    has_reasons = any(card.reason for card in batch.cards)
    return {
        "round": batch.round,
        "why": reports.picked_by(batch.strategy, batch.model_version),
        "labels_at": None if batch.model_version is None else batch.labels_at,
        "cards": [_card(project, card, has_reasons) for card in batch.cards],
    }


def _card(project: Project, card: ShownCard, has_reasons: bool) -> dict[str, Any]:  # Any: JSON
    head = card.head
    stands = head is not None and head.outcome is not None
    return {
        "image": image_name(card.image_id),
        "q": card.question_id,
        "n_events": card.n_events,
        "head": head.event_id if head else None,
        "seq": head.seq if head and stands else None,
        "answer": {"outcome": head.outcome, "class": head.class_id} if head and stands else None,
        "guess": None if card.guess is None else {"class": card.guess, "p": card.probability, "entropy": card.entropy},
        "hidden": card.hides_guess,
        "audit": card.purpose == "audit",
        "top": list(card.top),
        "flag": card.flag,
        "reason": visible(card.reason) if has_reasons else None,
        **_picture(project, card.row),
    }


# ---- pictures


def _picture(project: Project, row: int) -> dict[str, Any]:  # Any: JSON
    """Where the browser finds the image, and at which size in px it is drawn."""
    dataset = project.prepared.dataset
    full = image_route.signed_url(project, row, 0)
    if _is_small(dataset, row):
        source, width, height = _inline(dataset.open_image, dataset.version, row)
        factor = max(1, -(-LEAST_SIDE // max(width, height)))
        return {"src": source, "full": full, "w": width * factor, "h": height * factor, "pixelated": True}
    thumbnail = image_route.signed_url(project, row, 2 * PHOTO_SIDE)
    return {"src": thumbnail, "full": full, "w": PHOTO_SIDE, "h": PHOTO_SIDE, "pixelated": False}


def _is_small(dataset: Dataset, row: int) -> bool:
    """Whether the image is sent with the page: icons are, photos have an address."""
    return max(_inline(dataset.open_image, dataset.version, row)[1:]) <= SMALL_IMAGE


@lru_cache(maxsize=4096)
def _inline(open_image: Any, version: str, row: int) -> tuple[str, int, int]:  # Any: Dataset.open_image
    """(the image as a data URL where it is small, width, height); `version` tells datasets apart."""
    picture = open_image(row, 2 * PHOTO_SIDE)
    if max(picture.size) > SMALL_IMAGE:
        return "", *picture.size
    return "data:image/png;base64," + base64.b64encode(images.png(picture)).decode(), *picture.size
