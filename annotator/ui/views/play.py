"""The oracle at play: its open batch with the answers it will give; the next one follows by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from annotator import reports
from annotator.project import Project
from annotator.reports import Card, Moment
from annotator.session import Session
from annotator.simulate import oracle_of
from annotator.ui import panels, pictures, tab
from annotator.ui.views.form import CARD_WIDTH
from annotator.ui.words import plain

PACE_SECONDS = 1.2


def render(project: Project, session: Session) -> None:
    """The batch, and beside it the curve and the rounds so far."""
    moment = panels.with_batch(project, session)
    if moment is None:
        return
    st.markdown(panels.facts(moment))
    grid, side = st.columns([2.6, 1], gap="medium")
    cards = reports.remaining(moment)
    with grid:
        if cards:
            _batch(project, moment, cards)
        else:
            panels.finished(moment)
    with side:
        panels.beside(moment)
        panels.rounds_panel(project, moment, most=5)


def _batch(project: Project, moment: Moment, cards: Sequence[Card]) -> None:
    oracle = oracle_of(project)
    st.markdown(f"**The oracle answers** round {reports.current_round(moment)} of {project.config.rounds}.")
    with st.container(horizontal=True, gap="xsmall", key="oracle-grid"):
        for card in cards:
            with st.container(border=True, width=CARD_WIDTH, key=f"oracle-card-{card.row}"):
                pictures.show(project.prepared.dataset, card.row)
                answer = oracle.answer(card.image_id)
                sign = "" if card.guess in (None, answer) else " ✗"
                st.markdown(f"{panels.chip(card)} → **{plain(answer or 'skip')}**{sign}")
    st.session_state["pace_from"] = time.monotonic()
    _pacemaker(project)


@st.fragment(run_every=0.4)
def _pacemaker(project: Project) -> None:
    """One oracle round each time the batch has been on the screen long enough."""
    if tab.is_playing() and time.monotonic() - st.session_state["pace_from"] >= PACE_SECONDS:
        tab.guarded(tab.play_round)(project)
        st.rerun()
