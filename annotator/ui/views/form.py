"""The batch as a form of Streamlit's own widgets: what remains where the labeling grid cannot run.

Nothing is preselected, and an untouched image is not a label: it stays. A label is said to be saved only after the
store has committed it.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from annotator import reports
from annotator.project import Project
from annotator.reports import Answered, Card, Moment
from annotator.session import Session
from annotator.store import Answer, Event
from annotator.ui import panels, pictures, tab
from annotator.ui.words import count, plain, visible

ACCEPT = "accept"
OUTCOMES = {"unsure": "unsure", "none-of-these": "none", "skip": "skip"}
MANY_CLASSES = 14
"""From here on a searchable list instead of a button a class."""
CARD_WIDTH = 190


def render(project: Project, session: Session) -> None:
    """The open batch, and beside it the curve and what changed."""
    moment = panels.with_batch(project, session)
    if moment is None:
        return
    _facts(session, moment)
    grid, side = st.columns([2.6, 1], gap="medium")
    cards = reports.remaining(moment)
    with grid:
        if cards:
            _form(project, session, moment)
        else:
            panels.finished(moment)
    with side:
        panels.beside(moment)
        if reports.n_answered(moment):
            _recent(project, session, moment)
    session.shown()


def _facts(session: Session, moment: Moment) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="facts"):
        st.markdown(panels.facts(moment), width="stretch")
        st.button(
            "Undo",
            icon=":material/undo:",
            key="undo",
            on_click=tab.guarded(_undo),
            args=(session,),
            disabled=not reports.n_answered(moment),
            help="Take back your newest answer, in earlier rounds too.",
        )


def _recent(project: Project, session: Session, moment: Moment) -> None:
    """The newest answers, to look at and to change."""
    with st.expander("Your latest answers"):
        for answered in reports.recent(moment, most=8):
            picture, change = st.columns([1, 3], vertical_alignment="center")
            with picture:
                pictures.show(project.prepared.dataset, answered.row, 48)
            with change:
                _change_box(session, moment, answered)


def _change_box(session: Session, moment: Moment, answered: Answered) -> None:
    if answered.event is None:
        return
    options = _options(moment, None)
    now = f"class:{answered.answer}" if answered.answer is not None else str(answered.outcome)
    st.selectbox(
        "Answer",
        options,
        index=options.index(now),
        format_func=_shown,
        label_visibility="collapsed",
        key=f"change:{answered.event.event_id}",
        on_change=tab.guarded(_change),
        args=(session, answered.event),
    )


def _form(project: Project, session: Session, moment: Moment) -> None:
    cards = reports.remaining(moment)
    _picked_by(reports.chosen_for(cards))
    with st.form("batch", border=False):
        with st.container(horizontal=True, gap="xsmall", key="grid"):
            for card in cards:
                _card(project, moment, card)
        with st.container(horizontal=True, key="answers"):
            st.form_submit_button(
                "Save answers",
                type="primary",
                icon=":material/save:",
                on_click=tab.guarded(_save),
                args=(session, cards, None),
                help="Untouched images are not labels; they stay.",
            )
            if any(card.guess for card in cards):
                st.form_submit_button(
                    "Accept the rest",
                    icon=":material/done_all:",
                    on_click=tab.guarded(_save),
                    args=(session, cards, ACCEPT),
                    help="Save, and take the model's guess for every untouched image that shows one.",
                )
            st.form_submit_button(
                "Skip the rest",
                icon=":material/skip_next:",
                on_click=tab.guarded(_save),
                args=(session, cards, "skip"),
                help="Save, and skip every untouched image.",
            )


def _picked_by(card: Card) -> None:
    ago = f", {count(card.labels_ago, 'label')} ago" if card.model_version is not None and card.labels_ago else ""
    st.markdown(f"**What are these?** {plain(reports.picked_by(card.strategy, card.model_version))}{ago}.")


def _card(project: Project, moment: Moment, card: Card) -> None:
    with st.container(border=True, width=CARD_WIDTH, gap="small", key=f"card-{card.event_id.replace('.', '-')}"):
        pictures.show(project.prepared.dataset, card.row)
        st.markdown(panels.chip(card))
        if card.reason:
            st.caption(plain(card.reason))
        options = _options(moment, card)
        if len(reports.class_names(moment)) < MANY_CLASSES:
            st.pills(
                "Your answer", options, format_func=_shown_escaped, key=_answer_key(card), label_visibility="collapsed"
            )
        else:
            st.selectbox(
                "Your answer",
                options,
                index=None,
                format_func=_shown,
                key=_answer_key(card),
                placeholder="type to find a class",
                label_visibility="collapsed",
            )


def _options(moment: Moment, card: Card | None) -> list[str]:
    """What can be answered, as keys that `_save` understands."""
    accept = [f"{ACCEPT}:{card.guess}"] if card is not None and card.guess is not None else []
    return [*accept, *(f"class:{name}" for name in reports.class_names(moment)), *OUTCOMES]


def _shown(option: str) -> str:
    kind, colon, name = option.partition(":")
    if not colon:
        return OUTCOMES[option]
    return f"✓ {visible(name)}" if kind == ACCEPT else visible(name)


def _shown_escaped(option: str) -> str:
    return plain(_shown(option)) if ":" in option else f":small[{_shown(option)}]"


# ---- callbacks


def _answer_key(card: Card) -> str:
    return f"answer:{card.event_id}"


def _save(session: Session, cards: Sequence[Card], rest: str | None) -> None:
    """Store what was answered, and `rest` ("accept", "skip" or None) for what was not touched."""
    n_saved = 0
    try:
        for card in cards:
            option = st.session_state.get(_answer_key(card)) or _rest_option(card, rest)
            if option is not None:
                _answer(session, card.image_id, option, card.event_id)
                n_saved += 1
    finally:
        if n_saved:
            tab.notify(f"{n_saved} saved; {reports.n_answered(session.moment()):,} in all")
    if not n_saved:
        tab.notify("Nothing was answered yet: choose a class, accept the guess, or skip.", "error")


def _rest_option(card: Card, rest: str | None) -> str | None:
    if rest == ACCEPT:
        return None if card.guess is None else f"{ACCEPT}:{card.guess}"
    return rest


def _answer(session: Session, image_id: str, option: str, event_id: str | None) -> None:
    _, colon, name = option.partition(":")
    if colon:
        session.label(image_id, name, event_id)
    else:
        session.skip(image_id, option, event_id)


def _change(session: Session, seen: Event) -> None:
    option = st.session_state[f"change:{seen.event_id}"]
    _, colon, name = option.partition(":")
    code = {known.name: known.class_id for known in reports.classes(session.moment())}.get(name) if colon else None
    session.give(Answer("change", seen_id=seen.event_id, outcome="label" if colon else option, class_id=code))
    tab.notify("Changed; the next round learns from it.")


def _undo(session: Session) -> None:
    session.undo()
    tab.notify("Undone: the image is asked again.")
