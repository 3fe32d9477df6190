"""The labeling view: a line with what is one click away, and below it the surface where images are answered."""

from __future__ import annotations

from functools import partial

import streamlit as st

from annotator import registry
from annotator.class_keys import MOST_CLASSES, class_keys
from annotator.project import Project
from annotator.session import Session
from annotator.ui import form, parts, play, state, surface
from annotator.ui.fields import starts_from
from annotator.ui.words import plain, visible

GUESSES = {"shown": 0.0, "hidden for one image in five, at random": 0.2, "hidden": 1.0}
SURFACES = {"keys": "by keys", "form": "by a form"}


def render(project: Project) -> None:
    """The open batch of this tab's session."""
    session = state.session(project)
    _head(project, session)
    if state.is_playing():
        play.render(project, session)
    elif state.surface() == "form":
        form.render(project, session)
    else:
        st.button("Run again", key="wake")  # out of sight: the surface presses it where a new server does not know it
        surface.render(project)


def _head(project: Project, session: Session) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="head"):
        st.markdown(f"##### {plain(project.store.name)}", width="stretch")
        _class_popover(project, session)
        _settings_popover(project, session)
        _play_button(project)
    with st.container():  # of fixed place: what comes and goes in it must not move the surface, which would begin anew
        parts.set_aside(project)
        _switch_panel(project)


def _switch_panel(project: Project) -> None:
    """Another encoder on its way: how far it is, how long it takes, and a way to stop it."""
    switch = state.switching(project)
    if switch is None:
        if project.wanted:
            _until_taken_up(project)
        return
    with st.container(border=True, key="switch"):
        encoder, now = (plain(str(name)) for name in (switch.changes["encoder"], project.config.encoder))
        st.caption(f"Preparing the encoder {encoder}. Labeling goes on meanwhile with the features of {now}.")
        parts.running_job(switch.job, partial(state.finish_switch, project), partial(state.forget_switch, project))


@st.fragment(run_every=0.5)
def _until_taken_up(project: Project) -> None:
    """A server that was started again goes on with the encoder a moment after the first page was drawn."""
    st.caption(f"Going on with the encoder {plain(str(project.wanted.get('encoder')))} in a moment.")
    if state.switching(project) is not None or not project.wanted:
        st.rerun()


def _class_popover(project: Project, session: Session) -> None:
    with st.popover(
        "Add a class", icon=":material/add:", help="Classes and their keys. A new one can be used at once."
    ):
        with st.form("add-class", clear_on_submit=True, border=False):
            st.text_input("Name of the new class", key="new-class", max_chars=300)
            st.form_submit_button("Add", on_click=state.guarded(_add_class), args=(session,))
        names = session.class_names
        if len(names) <= MOST_CLASSES:
            _key_form(project, names)


def _key_form(project: Project, names: list[str]) -> None:
    keys = class_keys(names, project.config.class_keys)
    with st.form("class-keys", border=False):
        for place, name in enumerate(names):
            key = starts_from(f"class-key-{place}", keys[name], (project.store.project_id, name, keys[name]))
            st.text_input(f"Key of {plain(name)}", max_chars=1, key=key)
        st.form_submit_button("Set the keys", on_click=state.guarded(_set_keys), args=(project, names))


def _settings_popover(project: Project, session: Session) -> None:
    config = project.config
    stand = _stand(project, session)
    with st.popover("Settings", icon=":material/tune:"), st.form("settings", border=False):
        for kind in ("strategy", "model", "encoder"):
            _plug_in(kind, getattr(config, kind), stand)
        st.number_input(
            "Images a batch",
            1,
            100,
            key=starts_from("set-batch-size", config.batch_size, stand),
            help="More images a batch: fewer pauses, but the model learns less often.",
        )
        _guesses(config.hidden_share, stand)
        st.caption("They hold from the next batch on.")
        st.text_input(
            "Your name",
            key=starts_from("set-name", session.annotator.name, stand),
            max_chars=state.LONGEST_NAME,
            help="It stands with every answer.",
        )
        st.selectbox(
            "Answer",
            tuple(SURFACES),
            format_func=lambda surface: SURFACES[surface],
            key=starts_from("set-surface", state.surface(), stand),
            help="The form is made of plain widgets: slower, for where the keys do not work.",
        )
        st.form_submit_button("Apply", on_click=state.guarded(_apply_settings), args=(project, session))


def _stand(project: Project, session: Session) -> tuple[object, ...]:
    """What the settings' fields come from: when it has changed, whoever changed it, all of them are set again."""
    ahead = state.switching(project) is not None  # the end of a switch, cancelled or not
    return project.store.project_id, project.config_version, session.annotator.annotator_id, state.surface(), ahead


def _guesses(share: float, stand: tuple[object, ...]) -> None:
    names = {share: f"hidden for {100 * share:.0f} %"} | {value: name for name, value in GUESSES.items()}
    st.selectbox(
        "The model's guesses",
        sorted(names),
        format_func=lambda value: names[value],
        key=starts_from("set-hidden-share", share, stand),
        help="A guess on the screen sways people. Hide a share of them, and Progress says how much.",
    )


def _plug_in(kind: str, current: str, stand: tuple[object, ...]) -> None:
    """A select box of this kind's names, with a line of help on each; a name that is not listed stays selectable."""
    names = registry.names(kind)
    help_lines = "\n".join(f"- **{name}**: {plain(registry.summary(kind, name))}" for name in names)
    if current not in names:
        names = [*names, current]
    st.selectbox(kind.capitalize(), names, key=starts_from(f"set-{kind}", current, stand), help=help_lines)


def _play_button(project: Project) -> None:
    if project.learner.truth is None:
        return
    if state.is_playing():
        st.button("Pause", icon=":material/pause:", key="pause", on_click=state.guarded(state.pause), args=(project,))
    else:
        st.button(
            "Play",
            icon=":material/play_arrow:",
            key="play",
            on_click=state.guarded(state.play),
            args=(project,),
            help="Watch an oracle that knows the truth answer, round by round.",
        )


# ---- callbacks


def _add_class(session: Session) -> None:
    name = st.session_state["new-class"]
    session.add_class(name)
    state.tell(f"Class {visible(name.strip())} added.")


def _set_keys(project: Project, names: list[str]) -> None:
    given = {name: st.session_state[f"class-key-{place}"].strip().lower() for place, name in enumerate(names)}
    project.change(class_keys={name: key for name, key in given.items() if key})
    state.tell("Keys stored.")


def _apply_settings(project: Project, session: Session) -> None:
    state.use_surface(st.session_state["set-surface"])
    state.be(st.session_state["set-name"])
    before = project.config_version
    project.change(
        strategy=st.session_state["set-strategy"],
        model=st.session_state["set-model"],
        batch_size=int(st.session_state["set-batch-size"]),
        hidden_share=float(st.session_state["set-hidden-share"]),
    )
    if project.config_version != before:
        session.withdraw_ahead()
    encoder = st.session_state["set-encoder"]
    if encoder != project.config.encoder:
        state.start_switch(project, encoder=encoder, encoder_parameters={})
        state.tell(f"Encoding with {encoder}; labeling goes on meanwhile.")
    else:
        state.tell("Settings stored; they hold from the next batch on.")
