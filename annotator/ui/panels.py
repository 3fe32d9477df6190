"""Pieces that more than one view draws: the curve with its caption, the rounds panel, a running job, damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from annotator import due, reports
from annotator.config import RECOMMENDED
from annotator.errors import AnnotatorError
from annotator.evaluation import MEASURED_ON
from annotator.jobs import Job
from annotator.payoff import BASELINE, Payoff
from annotator.project import Project
from annotator.reports import Answered, Card, Moment
from annotator.session import Session
from annotator.store.verify import ADVICE, NOT_AS_LEFT
from annotator.ui import pictures, tab
from annotator.ui.shared import workspace
from annotator.ui.words import count, duration, held, image_name, plain

OUTCOME_SIGNS = {"skip": "skipped", "unsure": "unsure", "none-of-these": "none of these"}


def with_batch(project: Project, session: Session) -> Moment | None:
    """What is drawn: a moment at which a question is open, asked now where none was; None where that failed."""
    moment = session.moment()
    if reports.n_open(moment):
        return moment
    try:
        with st.spinner("Learning from your labels and choosing the next images …"):
            workspace().look_ahead(project).advance(session, wait=False)
    except AnnotatorError as error:
        st.error(plain(str(error)))
        st.button("Try again", key="retry")
        return None
    return session.moment()


def damage(found: Sequence[str]) -> None:
    """What is wrong with a project that does not say what was stored, and what to do; nothing where all is well."""
    if found:
        said = "\n".join(f"- {plain(sentence)}" for sentence in found)
        st.error(f"**{NOT_AS_LEFT}.**\n\n{said}\n\n{plain(ADVICE)}", icon=":material/error:")


def facts(moment: Moment) -> str:
    """How far this annotator is, in a line."""
    pace = reports.seconds_per_label(moment)
    said = [
        f"**{reports.n_answered(moment):,} saved**",
        f"round {reports.current_round(moment):,}",
        f"{reports.n_left(moment) + reports.n_open(moment):,} left in the pool",
    ]
    return " · ".join(said if pace is None else [*said, f"{pace:.1f} s per label"])


def finished(moment: Moment) -> None:
    """Nothing is left to ask about, or nothing that others do not hold."""
    if with_others := held(due.held_by(moment.snapshot, moment.me)):
        st.info(plain(with_others), icon=":material/hourglass_empty:")
        return
    st.success(
        f"Finished: every image has been asked about. {count(len(reports.labels(moment)), 'label')} stand.",
        icon=":material/check_circle:",
    )
    st.page_link(st.session_state["views"]["Export"], label="Export what you labeled", icon=":material/download:")


def beside(moment: Moment) -> None:
    """What the newest model changed, and the curve."""
    _background(moment)
    if news := reports.news(moment):
        st.markdown(f"**{plain(news)}**")
    curve(moment)


def _background(moment: Moment) -> None:
    """A word on a slow model at work, until its fit is there or has failed."""
    learning = reports.learning(moment)
    if learning.failure is not None:
        st.warning(plain(str(learning.failure)))
        st.button("Try again", key="learn-again", on_click=moment.learner.learn, kwargs={"wait": False})
    if learning.is_running:
        _until_learned(moment)


@st.fragment(run_every=0.5)
def _until_learned(moment: Moment) -> None:
    st.caption("The model is learning in the background. Keep labeling.")
    if not reports.learning(moment).is_running:
        st.rerun()


def chip(card: Card) -> str:
    """What the model thinks of this card, or why it does not say."""
    if card.purpose == "audit":
        return ":violet-badge[audit: guess hidden]"
    if card.hides_guess:
        return ":gray-badge[guess hidden]"
    if card.guess is None or card.probability is None or card.entropy is None:
        return ":gray-badge[no guess yet]"
    return f":blue-badge[{plain(card.guess)}? {100 * card.probability:.0f} %] :small[entropy {card.entropy:.2f}]"


def curve(moment: Moment, height: int = 220) -> None:
    """The learning curve, on what it was measured, and where another model, encoder or strategy took effect."""
    history = reports.history(moment)
    newest = history[-1] if history else None
    if newest is None or newest.headline is None:
        st.caption("The learning curve starts with the first round." if newest is None else _not_measured(moment))
        return
    from annotator.ui import charts  # Altair and pandas, which a first page without a curve need not wait for

    drawn = charts.learning_curve(history, newest.headline, reports.changes(moment), height)
    st.altair_chart(drawn, key=f"curve{height}")
    measured = newest.measures[newest.headline]
    low, high = measured["interval"]
    st.caption(
        f"Accuracy {100 * measured['accuracy']:.1f} % (95 % interval {100 * low:.0f} to {100 * high:.0f} %) on "
        f"{measured['n']:,} {MEASURED_ON[newest.headline]}."
    )


def _not_measured(moment: Moment) -> str:
    if len(moment.learner.audit_rows):
        return (
            "Nothing to measure accuracy on yet: a share of each batch is drawn at random for that, and the curve "
            "starts when the first of them are answered."
        )
    return (
        "Nothing to measure accuracy on: no label of the images left is known, and this project draws no share of "
        "each batch at random for that."
    )


def rounds_panel(project: Project, moment: Moment, most: int) -> None:
    """A row per round of the images asked, each under "guess → answer", mistakes marked; the newest first."""
    for number, answered in reports.answered_rounds(moment, most):
        right = sum(image.guess == image.answer for image in answered if image.guess)
        guessed = sum(image.guess is not None for image in answered)
        summary = f"{right} of {guessed} guesses right" if guessed else "no guesses yet"
        st.markdown(f"**Round {number}** · {summary}")
        with st.container(horizontal=True, gap="small"):
            for image in answered:
                _asked_image(project, image)


def _asked_image(project: Project, image: Answered) -> None:
    with st.container(width=92, gap=None):
        st.caption(_guess_and_answer(image))
        pictures.show(project.prepared.dataset, image.row, 84)


def _guess_and_answer(image: Answered) -> str:
    answer = plain(image.answer) if image.answer else OUTCOME_SIGNS.get(str(image.outcome), "–")
    guess = plain(image.guess) if image.guess else "–"
    wrong = image.guess is not None and image.answer is not None and image.guess != image.answer
    return f":red[**{guess} → {answer} ✗**]" if wrong else f"{guess} → {answer}"


def set_aside(project: Project, moment: Moment) -> None:
    """What the import could not use, and why; before it, a word on the features where they are not those asked for."""
    for said in filter(None, (project.notice, reports.dropped_labels(moment, project.prepared.class_names))):
        st.info(plain(said), icon=":material/info:")
    aside = project.prepared.set_aside
    n_images, n_duplicates = len(project.prepared.dataset), project.prepared.n_duplicates
    n_ignored, left_out = project.prepared.n_ignored, project.prepared.left_out
    if not aside and not n_duplicates and not n_ignored and not left_out:
        return
    total = n_images + len(aside)
    title = f"Imported {n_images:,} of {total:,} images, {len(aside):,} set aside"
    if n_duplicates:
        title += f", {count(n_duplicates, 'duplicate')}"
    if n_ignored:
        title += f", {count(n_ignored, 'other entry', 'other entries')} ignored"
    if left_out:
        title += f", {count(len(left_out), 'array')} left out"
    with st.expander(title):
        if n_duplicates:
            st.caption("Identical images are kept as they are; only the first of each is asked about.")
        if n_ignored:
            st.caption("Ignored: files that are no images, and what systems put beside them (thumbnails, trash).")
        if left_out:
            st.caption(plain(f"Left out, since they stand for nothing here: {', '.join(left_out)}."))
        if aside:
            rows = [{"file": image_name(entry.image_id), "code": entry.code, "reason": entry.reason} for entry in aside]
            st.dataframe(rows, hide_index=True)


# ---- whether the strategy pays


def payoff_in_use(project: Project, moment: Moment) -> Payoff | None:
    """What was measured of the strategy in use; None where nothing was yet."""
    found = workspace().payoffs.of_spell(project, reports.in_use_since(moment))
    return found if isinstance(found, Payoff) else None


def has_news(project: Project, moment: Moment) -> bool:
    """Whether there is a warning that the strategy in use trails random, and this tab's page does not show it yet."""
    found = payoff_in_use(project, moment)
    return found is not None and found.warns and st.session_state.get("trailing") is None


def trailing(project: Project, session: Session, moment: Moment) -> None:
    """The warning that the strategy in use trails random, with a button that changes it; else nothing."""
    found = payoff_in_use(project, moment)
    if found is None or not found.warns:
        st.session_state["trailing"] = None
        return
    st.session_state["trailing"] = found.since
    best = str(RECOMMENDED["strategy"])
    other = BASELINE if found.strategy == best else best
    with st.container(border=True, key="trailing"):
        said, change = st.columns([5, 1], vertical_alignment="center")
        said.markdown(f":material/trending_down: {plain(found.in_words)}")
        change.button(
            f"Change to {other}",
            key="change-strategy",
            type="primary",
            width="stretch",
            on_click=tab.guarded(_change_strategy),
            args=(project, session, other),
            help="From the next batch on; what is open stays. Settings has every strategy.",
        )


def _change_strategy(project: Project, session: Session, strategy: str) -> None:
    project.change(strategy=strategy, strategy_parameters={})
    session.withdraw(ahead_only=True)
    tab.notify(f"Strategy {strategy} from the next batch on.")


def running_job(job: Job, on_done: Callable[[], None], on_gone: Callable[[], None]) -> None:
    """A progress line with the time left and a cancel button; polls by itself, then hands over."""

    @st.fragment(run_every=0.4)
    def poll() -> None:
        if job.status == "running":
            job_progress(job)
            return
        try:
            job.result()
            on_done()
        except AnnotatorError as error:
            on_gone()
            st.session_state.setdefault("notices", []).append(("error", str(error)))
        st.rerun()

    poll()


def job_progress(job: Job) -> None:
    """How far a job is, the losses of its training, and a button that cancels it."""
    progress = job.progress
    share = progress.done / progress.total if progress.total else 0.0
    st.progress(min(1.0, share), text=progress_text(job))
    losses = [figures for figures in job.figures if "loss" in figures]
    if len(losses) > 1:
        from annotator.ui import charts  # as above

        st.altair_chart(charts.losses(losses), key="losses")
    st.button("Cancel", on_click=job.cancel, key="cancel-job")


def progress_text(job: Job) -> str:
    """How far a job is, in a line."""
    progress = job.progress
    total = f" {progress.done:,} of {progress.total:,}" if progress.total else f", {duration(progress.seconds)}"
    left = f", about {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
    return f"{progress.stage}{total}{left}"
