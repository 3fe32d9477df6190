"""A comparison's figures as text, CSV and JSON. Computes none."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from annotator.compare.figures import Line, Reached, Saved, Spread, curve_of, measured_on
from annotator.compare.plan import Json, Plan
from annotator.compare.running import Ran

MEASURED_ON = {
    "test": "held-out images",
    "rest": "images without a label (rises also because hard ones leave)",
}
Goals = Mapping[int, float]
"""Budget -> percent."""


def text(plan: Plan, figures: Sequence[Line], found: Sequence[Ran], goals: Goals | None = None) -> str:
    """The table as Markdown: percent with the standard deviation over the runs; cells that failed, with reasons."""
    heads = ["system", *(f"{budget:,}" for budget in plan.budgets), "area", f"labels to {_percent(plan.target)} %"]
    heads += ["labels saved against random"]
    rows = [
        [
            str(line.system),
            *(_cell(line.accuracy[n]) for n in plan.budgets),
            _cell(line.area),
            _reached(line.to_target),
            _saved(line.saved),
        ]
        for line in figures
    ]
    if goals:
        rows.append(["**goal**", *(f"{goals[n]:g}" if n in goals else "" for n in plan.budgets), "", "", ""])
    return "\n".join([*_aligned([heads, *rows]), "", *_notes(plan, found), *_macro_f1(plan, figures)])


def _macro_f1(plan: Plan, figures: Sequence[Line]) -> list[str]:
    """A table of its own; nothing where none was measured."""
    rows = [[str(line.system), *(_cell(line.macro_f1[n]) for n in plan.budgets)] for line in figures]
    if not any(cell for row in rows for cell in row[1:]):
        return []
    heads = ["macro F1", *(f"{budget:,}" for budget in plan.budgets)]
    return ["", *_aligned([heads, *rows]), "", "Macro F1 in %, the mean over the classes, on the same images."]


def table_csv(plan: Plan, figures: Sequence[Line]) -> str:
    """A row for each system and budget, then its other figures in the same row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        "encoder model strategy budget accuracy deviation runs area area_deviation target labels_to_target "
        "labels_deviation runs_that_reach_it saved saved_low saved_high saved_at_least macro_f1 "
        "macro_f1_deviation".split()
    )
    for line in figures:
        others = [*_numbers(line.area)[:2], plan.target, *_numbers(line.to_target.labels), *_saved_numbers(line.saved)]
        for budget in plan.budgets:
            f1 = _numbers(line.macro_f1[budget])[:2]
            writer.writerow([*line.system, budget, *_numbers(line.accuracy[budget]), *others, *f1])
    return out.getvalue()


def curves_csv(found: Sequence[Ran]) -> str:
    """A row for each fit of each cell."""
    measure = measured_on(found)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow("encoder model strategy seed encoder_seed measured_on labels accuracy".split())
    for ran in found:
        for labels, accuracy in curve_of(ran.result, measure) if ran.result is not None else []:
            writer.writerow([*ran.cell.system, *ran.cell.pair, measure, labels, accuracy])
    return out.getvalue()


def report(plan: Plan, figures: Sequence[Line], found: Sequence[Ran]) -> Json:
    """All figures, shares in percent: {"accuracy": {"ENCODER/MODEL/STRATEGY": {"100": [mean, std]}}}."""
    by_name = {str(line.system): line for line in figures}
    return {
        "accuracy": {name: {str(n): _pair(line.accuracy[n]) for n in plan.budgets} for name, line in by_name.items()},
        "macro_f1": {name: {str(n): _pair(line.macro_f1[n]) for n in plan.budgets} for name, line in by_name.items()},
        "area": {name: _pair(line.area) for name, line in by_name.items()},
        "target": plan.target,
        "labels_to_target": {name: _reached_json(line.to_target) for name, line in by_name.items()},
        "labels_saved": {name: line.saved._asdict() if line.saved else None for name, line in by_name.items()},
        "seconds": {name: line.seconds for name, line in by_name.items()},
        "seeds": list(plan.seeds),
        "encoder_seeds": list(plan.encoder_seeds),
        "schedule": [list(step) for step in plan.steps],
        "measured_on": measured_on(found),
        "failed": {str(ran.cell): ran.error for ran in found if ran.error},
    }


def _notes(plan: Plan, found: Sequence[Ran]) -> list[str]:
    """What a reader of the table has to know."""
    n_seeds, n_trainings = len(plan.seeds), len(plan.encoder_seeds)
    over = "first batches, choices and images" if plan.reshuffle else "first batches and choices"
    trained = (
        f"one training of each encoder; the spread is over {over}"
        if n_trainings == 1
        else f"{n_trainings} trainings of each encoder; the spread is over them as well as over {over}"
    )
    notes = [
        f"Accuracy in % on {MEASURED_ON[measured_on(found)]}, mean ± standard deviation of "
        f"{n_seeds * n_trainings} runs: {n_seeds} seed{'s' * (n_seeds > 1)}, {trained}.",
        f"Batches of {', '.join(f'{step.batch_size} to {step.until:,} labels' for step in plan.steps)}. Area: mean "
        f"accuracy over the logarithm of labels, {min(plan.budgets):,} to {max(plan.budgets):,}.",
        "Labels saved: what random needs to the target with the same encoder, model and seed, less what the system "
        "needs; 95 % bootstrap interval over the runs.",
    ]
    others = sum(ran.is_of_another_version for ran in found)
    if others:
        notes.append(f"{others} cells are of another version of this package; remove their files to run them again.")
    failed = [ran for ran in found if ran.error]
    notes += [f"{len(failed)} cells failed and are in no figure; the next run tries them again:"] if failed else []
    return notes + [f"  {ran.cell}: {ran.error}" for ran in failed]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in ruled]
    return [f"| {' | '.join(row)} |" for row in padded]


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def _cell(found: Spread | None) -> str:
    return "" if found is None else f"{100 * found.mean:.1f} ± {100 * found.deviation:.1f}"


def _reached(found: Reached) -> str:
    if found.labels is None:
        return "not reached"
    few = f" ({found.labels.n} of {found.n_runs})" if found.labels.n < found.n_runs else ""
    return f"{found.labels.mean:,.0f} ± {found.labels.deviation:,.0f}{few}"


def _saved(found: Saved | None) -> str:
    if found is None:
        return ""
    return f"{'at least ' * found.is_least}{found.mean:,.0f} ({found.low:,.0f} to {found.high:,.0f})"


def _pair(found: Spread | None) -> list[float] | None:
    return None if found is None else [round(100 * found.mean, 2), round(100 * found.deviation, 2)]


def _reached_json(found: Reached) -> Json:
    mean = None if found.labels is None else [round(found.labels.mean, 1), round(found.labels.deviation, 1)]
    return {"labels": mean, "runs": found.labels.n if found.labels else 0, "of": found.n_runs}


def _numbers(found: Spread | None) -> list[float | str]:
    return ["", "", ""] if found is None else [round(found.mean, 6), round(found.deviation, 6), found.n]


def _saved_numbers(found: Saved | None) -> list[float | str]:
    return ["", "", "", ""] if found is None else [found.mean, found.low, found.high, found.is_least]
