"""Which features a project uses and why, and what is on its way to take over: how far it is, and a way to stop it."""

from __future__ import annotations

import streamlit as st

from annotator import finetuning
from annotator.project import Project
from annotator.ui import panels, tab
from annotator.ui.shared import workspace
from annotator.ui.words import count, plain
from annotator.workspace import EncoderSwap


def trial_popover(project: Project) -> None:
    """The trial at work, in the line of buttons: what appears while people label must not move the images."""
    swap = workspace().swaps.running(project)
    if swap is not None and swap.work.is_trial:
        with st.popover("Trial", icon=":material/science:", help="Better features are being tried in the background."):
            _progress(project, swap)


def render(project: Project) -> None:
    """A line on the features in use; where a person waits for others, a panel."""
    swap = workspace().swaps.newest(project)
    is_running = swap is not None and not swap.over.is_set()
    if message := _message(project):
        st.caption(plain(message))
    if swap is not None and is_running:
        st.session_state["swap"] = swap.key
        if swap.work.is_trial:
            _until_over(project, swap)
        else:
            with st.container(border=True, key="swap"):
                _progress(project, swap)
    elif swap is not None and st.session_state.get("swap") == swap.key:
        _say_over(project, swap)
    elif project.wanted:
        _until_taken_up(project)
    elif workspace().improvements.may_begin(project):
        _until_begun(project)


def trials(project: Project) -> None:
    """Why the features in use were chosen, and what came of every trial of others; nothing where there is neither."""
    attempts = workspace().improvements.trials(project).tried.values()
    told = [f"At {count(attempt.n_labels, 'label')}: {attempt.message}" for attempt in attempts if attempt.message]
    messages = [_reason(project), finetuning.hint(project), *told]
    if any(messages):
        st.markdown("#### Features")
        st.markdown("\n".join(f"- {plain(message)}" for message in messages if message))


def _message(project: Project) -> str:
    """Why the features in use were chosen, and what came of the last trial that they stand since; empty for neither."""
    told = _trial_message(project)
    return " ".join(filter(None, (_reason(project), told, finetuning.hint(project))))


def _trial_message(project: Project) -> str:
    """What came of the last trial, where the features in use are still those that it ended with."""
    return workspace().improvements.trials(project).message_on(project.prepared.dataset.version)


def _reason(project: Project) -> str:
    reason = project.prepared.reason
    return f"auto chose {reason}. Settings changes it." if reason else ""


@st.fragment(run_every=0.4)
def _progress(project: Project, swap: EncoderSwap) -> None:
    if swap.over.is_set():
        _say_over(project, swap)
    now = plain(project.config.features)
    st.caption(f"{plain(swap.work.title)}. Labeling goes on meanwhile with the features of {now}.")
    panels.job_progress(swap.job)


@st.fragment(run_every=1.0)
def _until_over(project: Project, swap: EncoderSwap) -> None:
    if swap.over.is_set():
        _say_over(project, swap)
    st.caption(f"{plain(swap.work.title)}: {plain(panels.progress_text(swap.job))}.")


def _say_over(project: Project, swap: EncoderSwap) -> None:
    """Say once, in a tab that saw it begin, what is in use now; the project itself says why nothing has changed."""
    st.session_state.pop("swap", None)
    if swap.is_applied:
        ready = f"The features of {project.config.features} are ready; the next batch uses them."
        tab.notify((_trial_message(project) if swap.work.is_trial else "") or ready)
    st.rerun()


@st.fragment(run_every=0.5)
def _until_taken_up(project: Project) -> None:
    """A server that was started again goes on with the encoder a moment after the first page was drawn."""
    st.caption(f"Going on with the encoder {plain(str(project.wanted.get('encoder')))} in a moment.")
    if workspace().swaps.running(project) is not None or not project.wanted:
        st.rerun()


@st.fragment(run_every=2.0)
def _until_begun(project: Project) -> None:
    """A trial begins by itself, when there are labels enough to judge by; only where one can become due."""
    if workspace().swaps.running(project) is not None:
        st.rerun()
