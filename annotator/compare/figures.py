"""Curves -> figures with their spread: accuracy at budgets, area, labels to a target, labels saved. Runs nothing.

A curve is what one cell measured: points (labels, accuracy) with rising labels. Spread is the standard deviation over
runs, of which each has its own seed.

The area of a curve is its mean accuracy over the logarithm of the number of labels, from the smallest budget to the
largest: from 10 to 100 labels counts as much as from 100 to 1,000.

Labels saved are those that `random` needs to reach the target, less those that the system needs, with the same encoder,
model and seed. The interval is a bootstrap's over the seeds (2.5 % to 97.5 % of the means of 10,000 draws of pairs;
B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979); of a few seeds it is narrower than it should be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from annotator.compare.plan import Json, Plan, System
from annotator.compare.running import Ran

Curve = Sequence[tuple[int, float]]
Pair = tuple[int, int]
"""(seed, encoder's seed)"""
N_DRAWS = 10_000
RANDOM = "random"


class Spread(NamedTuple):
    """A mean, its standard deviation over n runs (0 of one run), and n."""

    mean: float
    deviation: float
    n: int


class Reached(NamedTuple):
    """Labels to the target: over those runs that reach it, of all."""

    labels: Spread | None
    """None where no run reaches it."""
    n_runs: int


class Saved(NamedTuple):
    """Labels saved against random, with the bootstrap's interval."""

    mean: float
    low: float
    high: float
    n_pairs: int
    is_least: bool
    """Whether random did not reach the target in some pair, so that more was saved than can be said."""


@dataclass(frozen=True)
class Line:
    """What is said of one system."""

    system: System
    accuracy: Mapping[int, Spread | None]
    """Budget -> accuracy, 0 to 1; None where some curve ends before."""
    macro_f1: Mapping[int, Spread | None]
    """Budget -> the mean of the classes' F1, 0 to 1, on the same images; None as above, or where it was not known."""
    area: Spread | None
    to_target: Reached
    saved: Saved | None
    """None for random itself, and where either never reaches the target."""
    seconds: float | None
    """Median of a cell's seconds; with several beside each other more than one alone would take."""
    mean_curve: tuple[tuple[int, Spread], ...]
    """Of every number of labels that all runs have, the accuracy."""


def lines(plan: Plan, found: Sequence[Ran]) -> list[Line]:
    """One for each system that has a finished cell, in the plan's order."""
    curves, of_f1 = _curves(found), _curves(found, macro_f1_of)
    return [_line(plan, system, curves, of_f1[system], found) for system in plan.systems if curves[system]]


def measured_on(found: Sequence[Ran]) -> str:
    """'test' where all curves are on held-out images, else 'rest': those of the pool without a label."""
    results = [ran.result for ran in found if ran.result is not None]
    return "test" if results and all(_on_test(result) for result in results) else "rest"


def curve_of(result: Json, measure: str) -> Curve:
    """(labels, accuracy) of each fit of a cell; `measure` as `measured_on` gives it."""
    name = "accuracy_test" if measure == "test" else "accuracy"
    return [(row["n_labeled"], row[name]) for row in result["rounds"] if row[name] is not None]


def macro_f1_of(result: Json, measure: str) -> Curve:
    """(labels, macro F1) of each fit of a cell, where it is of the images that accuracy is of."""
    rows = [row for row in result["rounds"] if row.get("measured_on") == measure]
    return [(row["n_labeled"], row["macro_f1"]) for row in rows if row["macro_f1"] is not None]


def accuracy_at(curve: Curve, n_labels: int) -> float | None:
    """Of the last fit with at most so many labels; None where the curve ends before, or begins after.

    Of a curve of macro F1 likewise.
    """
    reached = [accuracy for labels, accuracy in curve if labels <= n_labels]
    return reached[-1] if reached and curve[-1][0] >= n_labels else None


def area(curve: Curve, fewest: int, most: int) -> float | None:
    """Mean accuracy over log(labels) from `fewest` to `most`; None where the curve covers less."""
    if not curve or curve[0][0] > fewest or curve[-1][0] < most:
        return None
    if fewest == most:
        return accuracy_at(curve, most)
    logs = np.log([labels for labels, _ in curve])
    between = logs[(logs > math.log(fewest)) & (logs < math.log(most))]
    at = np.array([math.log(fewest), *between, math.log(most)])
    accuracy = np.interp(at, logs, [share for _, share in curve])
    return float(((accuracy[1:] + accuracy[:-1]) / 2 * np.diff(at)).sum() / (at[-1] - at[0]))


def labels_to(curve: Curve, target: float) -> float | None:
    """Labels at which the curve first reaches the target, by a line between two fits; None where it never does."""
    before: tuple[int, float] | None = None
    for labels, accuracy in curve:
        if accuracy >= target:
            if before is None:
                return float(labels)
            share = (target - before[1]) / (accuracy - before[1])
            return before[0] + share * (labels - before[0])
        before = (labels, accuracy)
    return None


def saved(own: Mapping[Pair, Curve], random: Mapping[Pair, Curve], target: float) -> Saved | None:
    """Over the pairs in which the system reaches the target; None where there are none.

    Where random does not reach it in a pair, the last number of labels of its curve stands for what it needs.
    """
    differences, is_least = [], False
    for pair in sorted(set(own) & set(random)):
        needed, by_random = labels_to(own[pair], target), labels_to(random[pair], target)
        if needed is None:
            if by_random is not None:
                return None  # the others alone would flatter the system
            continue
        is_least |= by_random is None
        differences.append((random[pair][-1][0] if by_random is None else by_random) - needed)
    if not differences:
        return None
    low, high = bootstrap(differences)
    return Saved(float(np.mean(differences)), low, high, len(differences), is_least)


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The interval of the mean, as the module says."""
    drawn = np.random.default_rng(seed).choice(np.asarray(values, dtype=float), (N_DRAWS, len(values)))
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Spread(float(np.mean(values)), deviation, len(values))


def _curves(found: Sequence[Ran], read: Callable[[Json, str], Curve] = curve_of) -> dict[System, dict[Pair, Curve]]:
    measure = measured_on(found)
    curves: dict[System, dict[Pair, Curve]] = {ran.cell.system: {} for ran in found}
    for ran in found:
        if ran.result is not None and (curve := read(ran.result, measure)):
            curves[ran.cell.system][ran.cell.pair] = curve
    return curves


def _on_test(result: Json) -> bool:
    return any(row["accuracy_test"] is not None for row in result["rounds"])


def _line(
    plan: Plan,
    system: System,
    curves: Mapping[System, Mapping[Pair, Curve]],
    of_f1: Mapping[Pair, Curve],
    found: Sequence[Ran],
) -> Line:
    own, random = curves[system], curves.get(system._replace(strategy=RANDOM), {})
    runs = list(own.values())
    needed = [labels for curve in runs if (labels := labels_to(curve, plan.target)) is not None]
    seconds = [ran.result["seconds"] for ran in found if ran.cell.system == system and ran.result is not None]
    return Line(
        system=system,
        accuracy={budget: _of_all([accuracy_at(curve, budget) for curve in runs]) for budget in plan.budgets},
        macro_f1={
            budget: _of_all([accuracy_at(of_f1[pair], budget) if pair in of_f1 else None for pair in own])
            for budget in plan.budgets
        },
        area=_of_all([area(curve, min(plan.budgets), max(plan.budgets)) for curve in runs]),
        to_target=Reached(spread(needed) if needed else None, len(runs)),
        saved=saved(own, random, plan.target) if system.strategy != RANDOM else None,
        seconds=float(np.median(seconds)) if seconds else None,
        mean_curve=_mean_curve(runs),
    )


def _of_all(values: Sequence[float | None]) -> Spread | None:
    """None where a value is missing: a mean over other runs would not compare."""
    known = [value for value in values if value is not None]
    return spread(known) if known and len(known) == len(values) else None


def _mean_curve(runs: Sequence[Curve]) -> tuple[tuple[int, Spread], ...]:
    by_labels = [dict(curve) for curve in runs]
    shared = sorted(set.intersection(*(set(one) for one in by_labels)))
    return tuple((labels, spread([one[labels] for one in by_labels])) for labels in shared)
