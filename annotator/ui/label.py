"""The labeling view: the batch as a form, and beside it the curve and what changed. Nothing is preselected.

A label is said to be saved only after the store has committed it. An untouched image is not a label: it stays.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import streamlit as st

from annotator import registry
from annotator.errors import AnnotatorError
from annotator.project import Project
from annotator.session import Answered, Card, Session
from annotator.simulate import oracle_of
from annotator.store import Event
from annotator.ui import parts, pictures, state
from annotator.ui.words import count, plain, visible

ACCEPT = "accept"
OUTCOMES = {"unsure": "unsure", "none-of-these": "none", "skip": "skip"}
MANY_CLASSES = 14
"""From here on a searchable list instead of a button a class."""
PACE_SECONDS = 1.2
CARD_WIDTH = 190


def render(project: Project) -> None:
    """The open batch of this tab's session."""
    session = state.session(project)
    if not _has_batch(session):
        return
    _head(project, session)
    grid, side = st.columns([2.6, 1], gap="medium")
    with grid:
        cards = session.remaining
        if not cards:
            _finished(project, session)
        elif state.is_playing():
            _oracle_batch(project, session, cards)
        else:
            _form(project, session, cards)
    with side:
        _side(project, session)
    if cards and not state.is_playing():
        session.shown()


def _has_batch(session: Session) -> bool:
    """Learn and ask where no question is open."""
    if session.remaining:
        return True
    try:
        with st.spinner("Learning from your labels and choosing the next images…"):
            session.advance(wait=False)
    except AnnotatorError as error:
        st.error(plain(str(error)))
        st.button("Try again", key="retry")
        return False
    return True


# ---- above and beside the grid


def _head(project: Project, session: Session) -> None:
    pace = session.seconds_per_label
    facts = [
        f"**{session.n_answered:,} saved**",
        f"round {session.round:,}",
        f"{session.n_left + len(session.remaining):,} left in the pool",
    ]
    if pace is not None and not state.is_playing():
        facts.append(f"{pace:.1f} s per label")
    with st.container(horizontal=True, vertical_alignment="center", key="head"):
        st.markdown(f"##### {plain(project.store.name)}", width="content")
        st.markdown(" · ".join(facts), width="stretch")
        if not state.is_playing():
            st.button(
                "Undo",
                icon=":material/undo:",
                key="undo",
                on_click=state.guarded(_undo),
                args=(session,),
                disabled=not session.n_answered,
                help="Take back your newest answer, in earlier rounds too.",
            )
        _class_popover(session)
        _settings_popover(project)
        _play_button(project)
    parts.set_aside(project)
    _switch_panel(project)


def _switch_panel(project: Project) -> None:
    """Another encoder on its way: how far it is, how long it takes, and a way to stop it."""
    switch = state.switching(project)
    if switch is None:
        return
    with st.container(border=True, key="switch"):
        st.caption(f"Preparing the encoder {plain(str(switch.changes['encoder']))}. Labeling goes on meanwhile.")
        parts.running_job(switch.job, partial(state.finish_switch, project), partial(state.forget_switch, project))


def _class_popover(session: Session) -> None:
    popover = st.popover("Add a class", icon=":material/add:", help="It can be used at once.")
    with popover, st.form("add-class", clear_on_submit=True, border=False):
        st.text_input("Name of the new class", key="new-class", max_chars=300)
        st.form_submit_button("Add", on_click=state.guarded(_add_class), args=(session,))


def _settings_popover(project: Project) -> None:
    config = project.config
    with st.popover("Settings", icon=":material/tune:"), st.form("settings", border=False):
        for kind in ("strategy", "model", "encoder"):
            _plug_in(kind, getattr(config, kind))
        st.number_input(
            "Images a batch",
            1,
            100,
            config.batch_size,
            key="set-batch-size",
            help="More images a batch: fewer pauses, but the model learns less often.",
        )
        st.caption("They hold from the next batch on.")
        st.form_submit_button("Apply", on_click=state.guarded(_apply_settings), args=(project,))


def _plug_in(kind: str, current: str) -> None:
    """A select box of this kind's names, with a line of help on each; a name that is not listed stays selectable."""
    names = registry.names(kind)
    help_lines = "\n".join(f"- **{name}**: {plain(registry.summary(kind, name))}" for name in names)
    if current not in names:
        names = [*names, current]
    st.selectbox(kind.capitalize(), names, index=names.index(current), key=f"set-{kind}", help=help_lines)


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


def _side(project: Project, session: Session) -> None:
    _background(project)
    if session.news:
        st.markdown(f"**{plain(session.news)}**")
    parts.curve(session, project.changes)
    if state.is_playing() or any(person.name == state.ORACLE for person in project.store.annotators()):
        parts.rounds_panel(project, session, most=5)
    elif session.n_answered:
        _recent(project, session)


def _background(project: Project) -> None:
    """A word on a slow model at work, until its fit is there or has failed."""
    learner = project.learner
    if learner.failure is not None:
        st.warning(plain(str(learner.failure)))
        st.button("Try again", key="learn-again", on_click=learner.learn, args=(False,))
    if learner.is_learning:
        _until_learned(project)


@st.fragment(run_every=0.5)
def _until_learned(project: Project) -> None:
    st.caption("The model is learning in the background. Keep labeling.")
    if not project.learner.is_learning:
        st.rerun()


def _recent(project: Project, session: Session) -> None:
    """The newest answers, to look at and to change."""
    with st.expander("Your latest answers"):
        for answered in session.recent[:8]:
            picture, change = st.columns([1, 3], vertical_alignment="center")
            with picture:
                pictures.show(project.learner.dataset, answered.row, 48)
            with change:
                _change_box(session, answered)


def _change_box(session: Session, answered: Answered) -> None:
    if answered.event is None:
        return
    options = _options(session, None)
    now = f"class:{answered.answer}" if answered.answer is not None else str(answered.outcome)
    st.selectbox(
        "Answer",
        options,
        index=options.index(now),
        format_func=_shown,
        label_visibility="collapsed",
        key=f"change:{answered.event.event_id}",
        on_change=state.guarded(_change),
        args=(session, answered.event),
    )


# ---- the grid


def _form(project: Project, session: Session, cards: Sequence[Card]) -> None:
    _picked_by(session, cards)
    with st.form("batch", border=False):
        with st.container(horizontal=True, gap="xsmall", key="grid"):
            for card in cards:
                _card(project, session, card)
        with st.container(horizontal=True, key="answers"):
            st.form_submit_button(
                "Save answers",
                type="primary",
                icon=":material/save:",
                on_click=state.guarded(_save),
                args=(session, cards, None),
                help="Untouched images are not labels; they stay.",
            )
            if any(card.guess for card in cards):
                st.form_submit_button(
                    "Accept the rest",
                    icon=":material/done_all:",
                    on_click=state.guarded(_save),
                    args=(session, cards, ACCEPT),
                    help="Save, and take the model's guess for every untouched image that shows one.",
                )
            st.form_submit_button(
                "Skip the rest",
                icon=":material/skip_next:",
                on_click=state.guarded(_save),
                args=(session, cards, "skip"),
                help="Save, and skip every untouched image.",
            )


def _picked_by(session: Session, cards: Sequence[Card]) -> None:
    card = cards[0]
    if card.model_version is None or card.strategy == "random" != session.settings.strategy:
        st.markdown("**What are these?** They are drawn at random until the model knows two classes.")
        return
    ago = f", {count(card.labels_ago, 'label')} ago" if card.labels_ago else ""
    st.markdown(f"**What are these?** Picked by model {card.model_version} with {plain(card.strategy)}{ago}.")


def _card(project: Project, session: Session, card: Card) -> None:
    with st.container(border=True, width=CARD_WIDTH, gap="small", key=f"card-{card.event_id.replace('.', '-')}"):
        pictures.show(project.learner.dataset, card.row)
        st.markdown(_chip(card))
        options = _options(session, card)
        if len(session.class_names) < MANY_CLASSES:
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


def _chip(card: Card) -> str:
    if card.purpose == "audit":
        return ":violet-badge[audit: guess hidden]"
    if card.guess is None or card.probability is None or card.entropy is None:
        return ":gray-badge[no guess yet]"
    return f":blue-badge[{plain(card.guess)}? {100 * card.probability:.0f} %] :small[entropy {card.entropy:.2f}]"


def _options(session: Session, card: Card | None) -> list[str]:
    """What can be answered, as keys that `_save` understands."""
    accept = [f"{ACCEPT}:{card.guess}"] if card is not None and card.guess is not None else []
    return [*accept, *(f"class:{name}" for name in session.class_names), *OUTCOMES]


def _shown(option: str) -> str:
    kind, colon, name = option.partition(":")
    if not colon:
        return OUTCOMES[option]
    return f"✓ {visible(name)}" if kind == ACCEPT else visible(name)


def _shown_escaped(option: str) -> str:
    return plain(_shown(option)) if ":" in option else f":small[{_shown(option)}]"


def _oracle_batch(project: Project, session: Session, cards: Sequence[Card]) -> None:
    """The oracle's open batch with the answers it will give; the next one follows by itself."""
    oracle = oracle_of(project)
    st.markdown(f"**The oracle answers** round {session.round} of {project.config.rounds}.")
    with st.container(horizontal=True, gap="xsmall", key="oracle-grid"):
        for card in cards:
            with st.container(border=True, width=CARD_WIDTH, key=f"oracle-card-{card.row}"):
                pictures.show(project.learner.dataset, card.row)
                answer = oracle.answer(card.image_id)
                sign = "" if card.guess in (None, answer) else " ✗"
                st.markdown(f"{_chip(card)} → **{plain(answer or 'skip')}**{sign}")
    st.session_state["pace_from"] = time.monotonic()
    _pacemaker(project)


@st.fragment(run_every=0.4)
def _pacemaker(project: Project) -> None:
    """One oracle round each time the batch has been on the screen long enough."""
    if state.is_playing() and time.monotonic() - st.session_state["pace_from"] >= PACE_SECONDS:
        state.guarded(state.play_round)(project)
        st.rerun()


def _finished(project: Project, session: Session) -> None:
    st.success(
        f"Finished: every image has been asked about. {count(len(session.labels), 'label')} stand.",
        icon=":material/check_circle:",
    )
    st.page_link(st.session_state["pages"]["Export"], label="Export what you labeled", icon=":material/download:")


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
            state.tell(f"{n_saved} saved; {session.n_answered:,} in all")
    if not n_saved:
        state.tell("Nothing was answered yet: choose a class, accept the guess, or skip.", "error")


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
    session.change(seen, name if colon else None, "label" if colon else option)
    state.tell("Changed; the next round learns from it.")


def _undo(session: Session) -> None:
    session.undo()
    state.tell("Undone: the image is asked again.")


def _add_class(session: Session) -> None:
    name = st.session_state["new-class"]
    session.add_class(name)
    state.tell(f"Class {visible(name.strip())} added.")


def _apply_settings(project: Project) -> None:
    project.change(
        strategy=st.session_state["set-strategy"],
        model=st.session_state["set-model"],
        batch_size=int(st.session_state["set-batch-size"]),
    )
    encoder = st.session_state["set-encoder"]
    if encoder != project.config.encoder:
        state.start_switch(project, encoder=encoder, encoder_parameters={})
        state.tell(f"Encoding with {encoder}; labeling goes on meanwhile.")
    else:
        state.tell("Settings stored; they hold from the next batch on.")
