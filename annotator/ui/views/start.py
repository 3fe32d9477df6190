"""The start view: the ready-made projects, your own images, and what you worked on before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import streamlit as st

from annotator.config import Config, Preset, broken_presets, presets
from annotator.jobs import Job
from annotator.projects import Summary
from annotator.ui import panels, tab
from annotator.ui.shared import workspace
from annotator.ui.views import new_project
from annotator.ui.words import count, plain


def render() -> None:
    """Cards, the folder form, and the list."""
    running = tab.preparing()
    if running is not None:
        _preparing(*running)
        return
    st.markdown("### Teach a model with as few labels as possible")
    st.caption("Choose images; label what the model is least sure about; watch it learn; export the labels.")
    found = workspace().summaries()
    cards = list(presets().values())
    for column, preset in zip(st.columns(max(1, len(cards)), gap="small"), cards, strict=False):
        with column:
            _preset_card(preset, found)
    for said in broken_presets():
        st.warning(plain(said))
    _own_images()
    _recent(found)


def _preset_card(preset: Preset, found: Iterable[Summary]) -> None:
    with st.container(border=True, key=f"preset-{preset.order}"):
        st.markdown(f"**{plain(preset.title)}**")
        st.caption(plain(preset.description))
        mine = [summary for summary in found if _is_started_from(summary, preset)]
        with st.container(horizontal=True):
            if mine:
                label = f"Continue ({count(mine[0].n_labels, 'label')})"
                st.button(
                    label, key=f"continue-{preset.order}", type="primary", on_click=_open, args=(mine[0].folder.name,)
                )
            st.button(
                "Start over" if mine else "Start",
                key=f"start-{preset.order}",
                type="secondary" if mine else "primary",
                on_click=tab.guarded(_create),
                args=(preset.config,),
            )
    _follow()


def _is_started_from(summary: Summary, preset: Preset) -> bool:
    """Whether this project was started from that card; a folder of somebody's own may have the same name."""
    named = (summary.name, summary.source) == (preset.config.name, preset.config.source)
    return named and not summary.error


def _own_images() -> None:
    with st.container(border=True, key="own-folder"):
        st.markdown("**Your own folder**, zip or arrays")
        chosen = new_project.choose_images()
        if chosen is not None:
            new_project.config_form(chosen, _create)
    _follow()


def _recent(found: list[Summary]) -> None:
    st.markdown("#### Your projects")
    if not found:
        st.caption("None yet. They appear here with how far you are.")
    names = Counter(summary.name for summary in found)
    for summary in found:
        where = f" ({plain(summary.folder.name)})" if names[summary.name] > 1 else ""
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            if summary.error:
                st.markdown(f"**{plain(summary.name)}** · :red[{plain(summary.error)}]")
                continue
            share = summary.n_labels / summary.n_images if summary.n_images else 0.0
            words = f"**{plain(summary.name)}**{where} · {summary.n_labels:,} of {summary.n_images:,} labeled"
            st.progress(share, text=words)
            st.button("Open", key=f"open-{summary.folder.name}", on_click=_open, args=(summary.folder.name,))
    _follow()


# ---- creating


def _create(config: Config) -> None:
    if workspace().is_quick(config):
        _open(workspace().create(config))
    else:
        tab.start_preparing(config)


def _preparing(job: Job, config: Config) -> None:
    st.markdown(f"### Preparing {plain(config.name)}")
    st.caption("Reading the images once; the next start is immediate. Nothing in your folder is changed.")

    def done() -> None:
        _open(workspace().create(config))
        tab.forget_preparing()

    panels.running_job(job, done, tab.forget_preparing)
    _follow()


def _open(name: str) -> None:
    st.session_state["playing"] = False
    st.session_state["project"] = name
    st.session_state["go_label"] = True


def _follow() -> None:
    """Go to the labeling view where a callback has just opened a project; only a script may switch pages."""
    if st.session_state.pop("go_label", False):
        st.switch_page(st.session_state["views"]["Label"])
