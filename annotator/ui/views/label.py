"""The labeling view: a line with what is one click away, and below it the grid where images are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import streamlit as st

from annotator import reports
from annotator.class_keys import MOST_CLASSES, class_keys
from annotator.config import ALIKE, AS_CHOSEN
from annotator.project import Project
from annotator.reports import Moment
from annotator.session import Session
from annotator.ui import panels, tab
from annotator.ui.fields import held, starts_from
from annotator.ui.shared import workspace
from annotator.ui.views import features, form, grid, play, plugin_fields
from annotator.ui.words import plain, visible

GUESSES = {"shown": 0.0, "hidden for one image in five, at random": 0.2, "hidden": 1.0}
ASKED_AGAIN = {"never": 0.0, "at most one image in ten": 0.1, "at most one image in five": 0.2}
GUESSES_HELP = "A guess on the screen sways people. Hide a share of them, and Progress says how much."
ASKED_AGAIN_HELP = (
    "Answers of yours that the model doubts come back once, a few in a batch. Their cards show no guess, but name two "
    "classes: the one that you gave, and the one that the model finds. It finds slips of the finger."
)
ORDERS = {AS_CHOSEN: "as chosen: the most useful first", ALIKE: "alike side by side"}
ORDER_HELP = (
    "Alike side by side: images with the same guess stand together, and among them those that look alike, so that the "
    "same key often answers the next image too. The model may learn a little less from the first half of a batch, with "
    "which the next one is chosen."
)
CONFIRM = {0.0: "none", 0.3: "30 % of a batch", 0.5: "50 % of a batch"}
CONFIRM_HELP = (
    "A share of each batch are images that look like what you just labeled, and that the model takes for the same. "
    "Enter confirms the guess and goes on. They are answered fast, and teach the model less."
)
Value = TypeVar("Value", float, str)
ANSWERS_BY = {"keys": "by keys", "form": "by a form"}


def render(project: Project) -> None:
    """The open batch of this tab's session."""
    session = tab.session(project)
    moment = session.moment()
    _head(project, session, moment)
    if tab.is_playing():
        play.render(project, session)
    elif tab.answers_by() == "form":
        form.render(project, session)
    else:
        st.button("Run again", key="wake")  # out of sight: the grid presses it where a new server does not know it
        grid.render(project, [moment])


def _head(project: Project, session: Session, moment: Moment) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="head"):
        st.markdown(f"##### {plain(project.config.name)}", width="stretch")
        _class_popover(project, session, reports.class_names(moment))
        _settings_popover(project, session)
        _play_button(project)
        features.trial_popover(project)
    with st.container():  # fixed position: if the component's index in the page changes, Streamlit remounts it
        panels.set_aside(project, moment)
        features.render(project)
        panels.trailing(project, session, moment)


def _class_popover(project: Project, session: Session, names: list[str]) -> None:
    with st.popover(
        "Add a class", icon=":material/add:", help="Classes and their keys. A new one can be used at once."
    ):
        with st.form("add-class", clear_on_submit=True, border=False):
            st.text_input("Name of the new class", key="new-class", max_chars=300)
            st.form_submit_button("Add", on_click=tab.guarded(_add_class), args=(session,))
        if len(names) <= MOST_CLASSES:
            _key_form(project, names)


def _key_form(project: Project, names: list[str]) -> None:
    keys = class_keys(names, project.config.class_keys)
    with st.form("class-keys", border=False):
        for place, name in enumerate(names):
            key = starts_from(f"class-key-{place}", keys[name], (project.folder, name, keys[name]))
            st.text_input(f"Key of {plain(name)}", held(key), max_chars=1, key=key)
        st.form_submit_button("Set the keys", on_click=tab.guarded(_set_keys), args=(project, names))


def _settings_popover(project: Project, session: Session) -> None:
    config = project.config
    basis = _settings_basis(project, session)
    with st.popover("Settings", icon=":material/tune:"):
        encoder = plugin_fields.choice("set", "encoder", config.encoder, basis)
        plugin_fields.fields(
            "set", "encoder", encoder, config.encoder_parameters if encoder == config.encoder else {}, basis
        )
        with st.form("settings", border=False):
            for kind in ("strategy", "model"):
                plugin_fields.choice("set", kind, getattr(config, kind), basis)
            size = starts_from("set-batch-size", config.batch_size, basis)
            st.number_input(
                "Images a batch",
                1,
                100,
                held(size),
                key=size,
                help="More images a batch: fewer pauses, but the model learns less often.",
            )
            _guesses(config.hidden_share, basis)
            _asked_again(config.ask_again_share, basis)
            _pick("set-batch-order", "Order of a batch", ORDERS, config.batch_order, basis, ORDER_HELP)
            shares = {config.confirm_share: f"{100 * config.confirm_share:.0f} % of a batch"} | CONFIRM
            _pick("set-confirm-share", "Images to confirm", shares, config.confirm_share, basis, CONFIRM_HELP)
            st.caption("They hold from the next batch on.")
            _your_answers(session, basis)
            st.form_submit_button("Apply", on_click=tab.guarded(_apply_settings), args=(project, session))


def _your_answers(session: Session, basis: tuple[object, ...]) -> None:
    """Who answers in this tab, and how."""
    name = starts_from("set-name", session.annotator.name, basis)
    st.text_input(
        "Your name",
        held(name),
        key=name,
        max_chars=tab.LONGEST_NAME,
        help="It stands with every answer.",
    )
    way = starts_from("set-answers-by", tab.answers_by(), basis)
    st.selectbox(
        "Answer",
        list(ANSWERS_BY),
        list(ANSWERS_BY).index(held(way)),
        format_func=lambda way: ANSWERS_BY[way],
        key=way,
        help="The form is made of plain widgets: slower, for where the keys do not work.",
    )


def _settings_basis(project: Project, session: Session) -> tuple[object, ...]:
    """What the settings' fields come from: when it has changed, whoever changed it, all of them are set again."""
    swapping = workspace().swaps.running(project) is not None  # the end of a swap, cancelled or not
    return project.folder, project.config_version, session.annotator.annotator_id, tab.answers_by(), swapping


def _guesses(share: float, basis: tuple[object, ...]) -> None:
    names = {share: f"hidden for {100 * share:.0f} %"} | {value: name for name, value in GUESSES.items()}
    _pick("set-hidden-share", "The model's guesses", names, share, basis, GUESSES_HELP)


def _pick(
    key: str, label: str, names: Mapping[Value, str], value: Value, basis: tuple[object, ...], help_text: str
) -> None:
    """A list of values by their names; `value` is the one in use."""
    key = starts_from(key, value, basis)
    values = sorted(names)
    st.selectbox(label, values, values.index(held(key)), format_func=lambda one: names[one], key=key, help=help_text)


def _asked_again(share: float, basis: tuple[object, ...]) -> None:
    names = {share: f"at most {100 * share:.0f} %"} | {value: name for name, value in ASKED_AGAIN.items()}
    _pick("set-ask-again-share", "Ask again about doubtful labels", names, share, basis, ASKED_AGAIN_HELP)


def _play_button(project: Project) -> None:
    if project.prepared.dataset.truth is None:
        return
    if tab.is_playing():
        st.button("Pause", icon=":material/pause:", key="pause", on_click=tab.guarded(tab.pause), args=(project,))
    else:
        st.button(
            "Play",
            icon=":material/play_arrow:",
            key="play",
            on_click=tab.guarded(tab.play),
            args=(project,),
            help="Watch an oracle that knows the truth answer, round by round.",
        )


# ---- callbacks


def _add_class(session: Session) -> None:
    name = st.session_state["new-class"]
    session.add_class(name)
    tab.notify(f"Class {visible(name.strip())} added.")


def _set_keys(project: Project, names: list[str]) -> None:
    given = {name: st.session_state[f"class-key-{place}"].strip().lower() for place, name in enumerate(names)}
    project.change(class_keys={name: key for name, key in given.items() if key})
    tab.notify("Keys stored.")


def _apply_settings(project: Project, session: Session) -> None:
    tab.set_answers_by(st.session_state["set-answers-by"])
    tab.set_annotator(st.session_state["set-name"])
    before, strategy = project.config_version, st.session_state["set-strategy"]
    project.change(
        strategy=strategy,
        strategy_parameters=project.config.strategy_parameters if strategy == project.config.strategy else {},
        model=st.session_state["set-model"],
        batch_size=int(st.session_state["set-batch-size"]),
        hidden_share=float(st.session_state["set-hidden-share"]),
        ask_again_share=float(st.session_state["set-ask-again-share"]),
        batch_order=st.session_state["set-batch-order"],
        confirm_share=float(st.session_state["set-confirm-share"]),
    )
    if project.config_version != before:
        session.withdraw(ahead_only=True)
    encoder = st.session_state["set-encoder"]
    given = plugin_fields.values("set", "encoder", encoder)
    if _is_other_encoder(project, encoder, given):
        workspace().swaps.start(project, {"encoder": encoder, "encoder_parameters": given})
        tab.notify(f"Encoding with {encoder}; labeling goes on meanwhile.")
    else:
        tab.notify("Settings stored; they hold from the next batch on.")


def _is_other_encoder(project: Project, encoder: str, given: dict[str, Any]) -> bool:  # Any: JSON
    config = project.config
    return encoder != config.encoder or not plugin_fields.is_same("encoder", encoder, given, config.encoder_parameters)
