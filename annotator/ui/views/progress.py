"""The progress view: how good the model is by now, on which images that was measured, and what was asked."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from annotator import reports
from annotator.evaluation import MEASURED_ON
from annotator.metrics import Calibration, Scores, most_mistaken
from annotator.payoff import TRUTH, Payoff, Waiting
from annotator.project import Project
from annotator.reports import Agreement, Moment
from annotator.session import Session
from annotator.store import LabelClass
from annotator.ui import panels, tab
from annotator.ui.shared import workspace
from annotator.ui.views import features
from annotator.ui.words import count, percent, plain, visible

MOST_IN_MATRIX = 40
"""Classes whose confusion matrix can be read on a screen."""


def render(project: Project) -> None:
    """Every figure with its caption."""
    session = tab.session(project)
    moment = session.moment()
    _totals(moment)
    history = reports.history(moment)
    if not history:
        st.info(
            "No model yet: answer a first batch with two classes, and the figures appear here.",
            icon=":material/monitoring:",
        )
        return
    from annotator.ui import charts  # Altair and pandas: not before there is something to draw

    left, right = st.columns(2, gap="medium")
    newest = history[-1]
    with left:
        st.markdown("#### Learning curve")
        panels.curve(moment, height=280)
    with right:
        st.markdown("#### Labels by class")
        counts = {visible(name): number for name, number in reports.class_counts(moment).items()}
        st.altair_chart(charts.class_balance(counts), key="balance")
        st.caption("Standing labels of everyone, those known from the start included.")
        st.markdown("#### Doubt left in the pool")
        st.altair_chart(charts.pool_entropy(history), key="entropy")
        st.caption("Mean entropy of the probabilities shown, over all unlabeled images.")
    if newest.calibration is not None and newest.headline is not None:
        _calibration(newest.calibration, newest.headline)
    if newest.headline is not None:
        _report(reports.classes(moment), newest.scores(newest.headline), newest.headline)
    _payoff(project, session, moment)
    _agreement(reports.agreement(moment))
    features.trials(project)
    st.markdown("#### What was asked")
    _rounds(project, moment)
    st.caption(
        f"{plain(project.folder.name)}: {plain(project.store.note)}; {count(reports.n_events(moment), 'event')}. "
        f"The graph: {plain(project.prepared.dataset.graph.description)}."
    )


def _totals(moment: Moment) -> None:
    history = reports.history(moment)
    newest = history[-1] if history else None
    measured = newest.measures[newest.headline] if newest and newest.headline else None
    with st.container(horizontal=True, key="totals"):
        st.metric("labels", f"{reports.n_labels(moment):,}")
        st.metric("rounds", f"{reports.n_rounds(moment):,}")
        st.metric("left in the pool", f"{reports.n_left(moment) + reports.n_open(moment):,}")
        st.metric("accuracy", percent(measured["accuracy"] if measured else None))
        pace = reports.seconds_per_label(moment)
        st.metric("seconds per label", "–" if pace is None else f"{pace:.1f}")


def _matrix(measured: Scores, name: str, class_names: Sequence[str]) -> None:
    from annotator.ui import charts  # as above

    st.markdown("#### Confusion matrix")
    codes = most_mistaken(measured.confusion, MOST_IN_MATRIX).tolist()
    counts = [[int(measured.confusion[truth, guess]) for guess in codes] for truth in codes]
    st.altair_chart(charts.confusion(counts, [class_names[code] for code in codes]), key="confusion")
    which = f"The {len(codes)} of {measured.n_classes:,} classes with the most mistakes, on"
    on = "On" if len(codes) == measured.n_classes else which
    st.caption(f"{on} {measured.n:,} {MEASURED_ON[name]}.")


def _report(classes: Sequence[LabelClass], measured: Scores, name: str) -> None:
    names = [visible(known.name) for known in classes]
    left, right = st.columns(2, gap="medium")
    with left:
        _matrix(measured, name, names)
    with right:
        st.markdown("#### Classification report")
        rows = [
            {
                "class": names[entry.code],
                "precision": entry.precision,
                "recall": entry.recall,
                "F1": entry.f1,
                "images": entry.support,
            }
            for entry in measured.per_class
        ]
        numbers = {key: st.column_config.NumberColumn(format="%.3f") for key in ("precision", "recall", "F1")}
        st.dataframe(rows, hide_index=True, column_config=numbers, key="report")
        st.caption(
            f"Macro F1 {measured.macro_f1:.3f}, weighted F1 {measured.weighted_f1:.3f}, on {measured.n:,} "
            f"{plain(MEASURED_ON[name])}."
        )


def _calibration(found: Calibration, name: str) -> None:
    """Whether the probabilities on the cards mean what they say."""
    from annotator.ui import charts  # as above

    if found.error is None:
        return
    st.markdown("#### Do the probabilities mean what they say?")
    st.markdown(reliability_sentence(found))
    st.altair_chart(charts.reliability(found), key="reliability")
    st.caption(
        f"Bars on the dashed line are as often right as they say, on {sum(each.n for each in found.bins):,} "
        f"{plain(MEASURED_ON[name])}. Probabilities are corrected by what the model says of labels that it has not "
        "seen; the order in which images are asked is not."
    )


def reliability_sentence(found: Calibration) -> str:
    """The bin with the most images in words, and the error."""
    largest = max(found.bins, key=lambda each: each.n)
    said = f"Where the app says {percent(largest.confidence)} it is right in {percent(largest.accuracy)}"
    mean = f"In the mean over all images the two differ by {100 * (found.error or 0):.1f} points."
    return f"{said} ({count(largest.n, 'image')}). {mean}"


def _payoff(project: Project, session: Session, moment: Moment) -> None:
    """Whether the strategy's labels teach more than labels drawn at random, and how sure that is."""
    measured = [found for found in workspace().payoffs.found(project) if isinstance(found, Payoff)]
    in_use = panels.payoff_in_use(project, moment)
    st.markdown("#### Does the strategy pay?")
    if in_use is None:
        _why_no_payoff(project, moment)
    elif in_use.warns:
        panels.trailing(project, session, moment)
    else:
        st.markdown(plain(in_use.in_words))
    if not measured:
        return
    from annotator.ui import charts  # as above

    with st.container(key="payoff"):
        st.altair_chart(charts.payoff(measured), key="payoff-chart")
    by_truth = " Both sides are given the true classes, whatever was answered." if _is_by_truth(measured) else ""
    st.caption(
        "How many more images in 100 the model gets right with the labels that a strategy chose than with as many "
        "drawn at random, with the 95 % interval: above zero it pays. The strategies used here, the newest first; "
        "measured again as labels grow, test images left out. Since chance has a turn each time, the warning on Label "
        f"takes the 99 % interval.{by_truth}"
    )


def _is_by_truth(measured: Sequence[Payoff]) -> bool:
    return any(found.measured_on == TRUTH for found in measured)


def _why_no_payoff(project: Project, moment: Moment) -> None:
    wanted = reports.measurement(moment)
    known = wanted if isinstance(wanted, Waiting) else workspace().payoffs.of_spell(project, wanted.spell.first)
    if isinstance(known, Waiting):
        st.markdown(plain(known.reason))
    else:
        workspace().payoffs.look(project)
        _until_measured(project)


@st.fragment(run_every=1.0)
def _until_measured(project: Project) -> None:
    st.caption("It is being measured in the background.")
    if not workspace().payoffs.is_looking(project):
        st.rerun()


def _agreement(found: Agreement) -> None:
    """Whether a guess on the screen sways the answers; only where some were hidden."""
    if found.gap is None:
        return
    shown, hidden = found.n_shown_agreed / found.n_shown, found.n_hidden_agreed / found.n_hidden
    st.markdown("#### Agreement with the model's guess")
    st.markdown(
        f"{percent(shown)} where it was shown ({count(found.n_shown, 'image')}), {percent(hidden)} where it was hidden "
        f"({count(found.n_hidden, 'image')}): a gap of {100 * found.gap:+.0f} points."
    )
    st.caption("A gap far above zero means that guesses sway the answers: hide more of them in the settings.")


def _rounds(project: Project, moment: Moment) -> None:
    n_rounds = reports.n_rounds(moment)
    most = 10
    if n_rounds > most and st.toggle(f"Show all {n_rounds} rounds", key="all-rounds"):
        most = n_rounds
    st.caption("Guess → answer for every image asked, the newest round first; mistakes of the model are marked ✗.")
    panels.rounds_panel(project, moment, most)
