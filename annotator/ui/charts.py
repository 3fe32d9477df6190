"""The figures as Altair charts. They draw what they are given; on what it was measured, the caller's caption says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any  # Any: what Altair's methods return is not typed

import altair as alt
import pandas as pd

from annotator.evaluation import Measured
from annotator.metrics import Calibration
from annotator.payoff import Payoff
from annotator.ui.colours import class_colour

WHOLE = alt.Axis(tickMinStep=1, format=",d")
BAND, LINE, ACCENT = "#2a8bc8", "#2a8bc8", "#d55e00"


def learning_curve(history: Sequence[Measured], measure: str, changes: Mapping[int, str], height: int = 220) -> Any:
    """Accuracy against labels with its 95 % interval; one point a model, a rule where the configuration changed."""
    rows = [
        {
            "round": point.round,
            "labels": point.n_labeled,
            "accuracy": point.measures[measure]["accuracy"],
            "low": point.measures[measure]["interval"][0],
            "high": point.measures[measure]["interval"][1],
            "images": point.measures[measure]["n"],
        }
        for point in history
        if point.measures.get(measure, {}).get("n")
    ]
    frame = pd.DataFrame(rows, columns=["round", "labels", "accuracy", "low", "high", "images"])
    base = alt.Chart(frame, height=height).encode(
        x=alt.X("labels:Q", title="labels", axis=WHOLE, scale=alt.Scale(zero=True))
    )
    percent = alt.Axis(format="%")
    band = base.mark_area(opacity=0.2, color=BAND).encode(
        y=alt.Y("low:Q", title="accuracy", axis=percent, scale=alt.Scale(domain=[0, 1])), y2="high:Q"
    )
    tooltip = [
        alt.Tooltip("round:Q", title="after round"),
        alt.Tooltip("labels:Q"),
        alt.Tooltip("accuracy:Q", format=".1%"),
        alt.Tooltip("low:Q", format=".1%", title="95 % from"),
        alt.Tooltip("high:Q", format=".1%", title="to"),
        alt.Tooltip("images:Q", title="measured on"),
    ]
    line = base.mark_line(color=LINE, point={"size": 45, "filled": True, "color": LINE}).encode(
        y=alt.Y("accuracy:Q"), tooltip=tooltip
    )
    return alt.layer(band, line, _change_marks(history, changes))


def _change_marks(history: Sequence[Measured], changes: Mapping[int, str]) -> Any:
    """A dashed rule at the first model of each configuration that changed model, encoder or strategy."""
    first = {point.config_version: point.n_labeled for point in reversed(history)}
    rows = [{"labels": first[version], "change": said} for version, said in changes.items() if version in first]
    frame = pd.DataFrame(rows, columns=["labels", "change"])
    return alt.Chart(frame).mark_rule(strokeDash=[4, 3], size=2, color=ACCENT).encode(x="labels:Q", tooltip="change:N")


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Any:
    """A heatmap, rows = truth; the counts stand in the cells."""
    rows = [
        {"truth": names[truth], "guess": names[guess], "images": counts[truth][guess]}
        for truth in range(len(names))
        for guess in range(len(names))
    ]
    order = list(names)
    base = alt.Chart(pd.DataFrame(rows), height=max(180, 30 * len(names))).encode(
        x=alt.X("guess:N", sort=order, title="guess", axis=alt.Axis(labelAngle=0, orient="top", labelLimit=90)),
        y=alt.Y("truth:N", sort=order, title="truth", axis=alt.Axis(labelLimit=120)),
        tooltip=["truth:N", "guess:N", "images:Q"],
    )
    cells = base.mark_rect().encode(
        color=alt.Color("images:Q", scale=alt.Scale(type="symlog", scheme="blues"), legend=None)
    )
    top = max(1, max((max(row) for row in counts), default=1))
    ink = alt.condition(alt.datum.images > 0.35 * top, alt.value("white"), alt.value("#1c2b33"))
    text = base.transform_filter("datum.images > 0").mark_text(fontSize=12).encode(text="images:Q", color=ink)
    return alt.layer(cells, text)


def class_balance(counts: dict[str, int]) -> Any:
    """Labels given per class, in order of creation, in the colours of the labeling grid."""
    colours = alt.Scale(domain=list(counts), range=[class_colour(class_id) for class_id in range(len(counts))])
    frame = pd.DataFrame({"class": list(counts), "labels": list(counts.values())})
    return (
        alt.Chart(frame, height=max(120, 24 * len(counts)))
        .mark_bar()
        .encode(
            color=alt.Color("class:N", scale=colours, legend=None),
            x=alt.X("labels:Q", axis=WHOLE),
            y=alt.Y("class:N", sort=list(counts), title=None, axis=alt.Axis(labelOverlap=False)),
            tooltip=["class:N", "labels:Q"],
        )
    )


def pool_entropy(history: Sequence[Measured], height: int = 200) -> Any:
    """Mean entropy of the unlabeled images, model by model."""
    points = [point for point in history if point.pool_entropy is not None]
    rows = {
        "round": [point.round for point in points],
        "labels": [point.n_labeled for point in points],
        "entropy": [point.pool_entropy for point in points],
    }
    return (
        alt.Chart(pd.DataFrame(rows), height=height)
        .mark_line(point={"filled": True, "color": ACCENT}, color=ACCENT)
        .encode(
            x=alt.X("labels:Q", axis=WHOLE, scale=alt.Scale(zero=True)),
            y=alt.Y("entropy:Q", title="mean entropy, nats", scale=alt.Scale(zero=True)),
            tooltip=[alt.Tooltip("round:Q", title="after round"), "labels:Q", alt.Tooltip("entropy:Q", format=".3f")],
        )
    )


def reliability(found: Calibration, height: int = 200) -> Any:
    """Accuracy against the probability shown, a bar for each bin that holds images; on the line both are equal."""
    held = [each for each in found.bins if each.n]
    rows = {
        "from": [each.lower for each in held],
        "to": [each.upper for each in held],
        "shown": [each.confidence for each in held],
        "right": [each.accuracy for each in held],
        "images": [each.n for each in held],
    }
    share = alt.Axis(format=".0%", grid=False)
    bars = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(color=ACCENT, opacity=0.7)
        .encode(
            x=alt.X("from:Q", title="probability shown", axis=share, scale=alt.Scale(domain=[0, 1])),
            x2="to:Q",
            y=alt.Y("right:Q", title="right", axis=share, scale=alt.Scale(domain=[0, 1])),
            tooltip=[
                alt.Tooltip("shown:Q", title="shown, mean", format=".1%"),
                alt.Tooltip("right:Q", format=".1%"),
                "images:Q",
            ],
        )
    )
    line = alt.Chart(pd.DataFrame({"x": [0, 1], "y": [0, 1]})).mark_line(strokeDash=[4, 4], color="gray")
    return (bars + line.encode(x="x:Q", y="y:Q")).properties(height=height)


def payoff(found: Sequence[Payoff]) -> Any:
    """A line for each strategy: points of accuracy that its labels give beyond random ones, with the interval."""
    rows = [
        {
            "strategy": f"{each.strategy}, {each.n_each:,} labels",
            "difference": 100 * (each.right_chosen - each.right_random),
            "low": 100 * each.low,
            "high": 100 * each.high,
            "chosen": each.right_chosen,
            "random": each.right_random,
            "verdict": "less" if each.trails else "more" if each.pays else "either",
        }
        for each in found
    ]
    order = list(dict.fromkeys(str(row["strategy"]) for row in rows))
    colour = alt.Color(
        "verdict:N", legend=None, scale=alt.Scale(domain=["less", "more", "either"], range=[ACCENT, LINE, "gray"])
    )
    across = alt.Scale(
        domain=[100 * min(-0.05, *(each.low for each in found)), 100 * max(0.05, *(each.high for each in found))],
        nice=True,
    )
    base = alt.Chart(pd.DataFrame(rows), height=100 + 34 * len(order)).encode(
        y=alt.Y("strategy:N", sort=order, title=None, axis=alt.Axis(labelLimit=160)),
        color=colour,
        tooltip=[
            "strategy:N",
            alt.Tooltip("chosen:Q", format=".1%", title="right with its labels"),
            alt.Tooltip("random:Q", format=".1%", title="with random ones"),
            alt.Tooltip("low:Q", format="+.1f", title="95 % from"),
            alt.Tooltip("high:Q", format="+.1f", title="to"),
        ],
    )
    title = "points of accuracy beyond random labels"
    signed = "datum.value == 0 ? '0' : format(datum.value, '+d')"
    axis = alt.Axis(labelExpr=signed, labelBound=True, tickMinStep=1, tickCount=8)
    interval = base.mark_rule(size=4).encode(x=alt.X("low:Q", title=title, axis=axis, scale=across), x2="high:Q")
    point = base.mark_point(size=110, filled=True, opacity=1).encode(x="difference:Q")
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeDash=[4, 4], color="gray").encode(x="zero:Q")
    return alt.layer(zero, interval, point)


def losses(epochs: Sequence[Mapping[str, float]], height: int = 160) -> Any:
    """Training loss of an encoder, and validation loss where there is one, epoch by epoch."""
    rows = [
        {"epoch": each["epoch"], "loss": each[key], "measured on": name}
        for each in epochs
        for key, name in (("loss", "training images"), ("val_loss", "validation images"))
        if key in each
    ]
    return (
        alt.Chart(pd.DataFrame(rows), height=height)
        .mark_line(point={"filled": True})
        .encode(
            x=alt.X("epoch:Q", axis=WHOLE),
            y=alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False)),
            color=alt.Color("measured on:N", scale=alt.Scale(range=[LINE, ACCENT]), legend=alt.Legend(orient="top")),
            tooltip=["epoch:Q", alt.Tooltip("loss:Q", format=".4f"), "measured on:N"],
        )
    )
