"""annotator compare."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from annotator.console import given, pairs, progress
from annotator.errors import ConfigError

if TYPE_CHECKING:
    from annotator.compare.plan import Plan  # NumPy, for which `annotator --help` need not wait
    from annotator.compare.running import Ran

QUICK_POOL, QUICK_SEEDS, QUICK_BUDGETS, QUICK_BATCHES = 1000, "2", "10,50,100", "10:100"
"""What --quick puts in the place of what was not typed."""
N_SEEDS = "5"
Listed = list[str]


def compare(
    out: Annotated[Path, Option(help="Folder for the cells, the tables and the plot; a run goes on where it was.")],
    source: Annotated[str, Option(help="Where images come from; see `annotator info`.")] = "digits",
    source_parameter: Annotated[Listed, Option(help="NAME=VALUE, repeatable, e.g. path=photos.")] = [],  # noqa: B006  # typer copies it
    full: Annotated[bool, Option("--full", help="Short for --source-parameter full=true.")] = False,
    encoder: Annotated[Listed, Option(help="Encoders, repeatable or with commas.")] = ["hog"],  # noqa: B006  # typer copies it
    model: Annotated[Listed, Option(help="Models, repeatable or with commas.")] = ["label-spreading"],  # noqa: B006  # typer copies it
    strategy: Annotated[Listed, Option(help="Query strategies, repeatable or with commas.")] = ["random,margin"],  # noqa: B006  # typer copies it
    system: Annotated[Listed, Option(help="ENCODER/MODEL/STRATEGY beside each with each; repeatable.")] = [],  # noqa: B006  # typer copies it
    encoder_parameter: Annotated[Listed, Option(help="ENCODER.NAME=VALUE, repeatable.")] = [],  # noqa: B006  # typer copies it
    model_parameter: Annotated[Listed, Option(help="MODEL.NAME=VALUE, repeatable.")] = [],  # noqa: B006  # typer copies it
    strategy_parameter: Annotated[Listed, Option(help="STRATEGY.NAME=VALUE, repeatable.")] = [],  # noqa: B006  # typer copies it
    neighbors: Annotated[int | None, Option(min=1, help="Neighbours of an image in the graph.")] = None,
    initial: Annotated[
        str | None, Option(help="Labels given at the start: none, a number, first:40, or known.")
    ] = None,
    pool: Annotated[int | None, Option("--pool", "--limit", min=1, help="Keep the first so many images.")] = None,
    order_seed: Annotated[int | None, Option(help="Shuffle the images first.")] = None,
    development: Annotated[
        int | None, Option(min=1, help="Hold out the last so many images, in the place of the source's test set.")
    ] = None,
    reshuffle: Annotated[
        bool, Option("--reshuffle", help="Each seed shuffles the images, so splits them anew.")
    ] = False,
    audit_share: Annotated[float | None, Option(help="Share of a batch drawn at random to measure with.")] = None,
    error_rate: Annotated[float, Option(min=0.0, max=1.0, help="Share of the oracle's answers that are wrong.")] = 0.0,
    seeds: Annotated[str | None, Option(help="A number of seeds, or seeds with commas: 5, or 0,7,9.")] = None,
    encoder_seeds: Annotated[str, Option(help="Seeds of the encoders: one training for each of them.")] = "0,",
    budgets: Annotated[str | None, Option(help="Numbers of labels that the table shows.")] = None,
    batches: Annotated[str | None, Option(help="SIZE:LABELS with commas: batches of SIZE up to LABELS labels.")] = None,
    target: Annotated[float, Option(help="Accuracy whose labels are counted, 0 to 1.")] = 0.85,
    workers: Annotated[int | None, Option(min=1, help="Cells at the same time; default: one for each core.")] = None,
    projects: Annotated[Path | None, Option(help="Folder with the cache; default: one in the output folder.")] = None,
    quick: Annotated[
        bool, Option("--quick", help="1,000 images, two seeds, 100 labels, where nothing else is said.")
    ] = False,
) -> None:
    """Compare strategies, models and encoders over several seeds: a table, a plot, CSV and JSON."""
    from annotator.compare import plan as plans
    from annotator.config import Config

    if quick:
        pool, seeds = pool or QUICK_POOL, seeds or QUICK_SEEDS
        budgets, batches = budgets or QUICK_BUDGETS, batches or QUICK_BATCHES
    typed: dict[str, Any] = {  # Any: values of Config's fields
        "source_parameters": pairs(source_parameter) | ({"full": True} if full else {}),
        "n_neighbors": neighbors,
        "initial": initial,
        "limit": pool,
        "order_seed": order_seed,
        "development": development,
        "audit_share": audit_share,
    }
    systems = plans.systems_of(_names(encoder), _names(model), _names(strategy))
    plan = plans.Plan(
        base=replace(Config(name="comparison", source=source), **given(typed)),
        systems=tuple(dict.fromkeys([*systems, *map(plans.read_system, system)])),
        seeds=_seeds(seeds or N_SEEDS),
        encoder_seeds=_seeds(encoder_seeds),
        parameters={
            kind: _parameters(texts)
            for kind, texts in (
                ("encoder", encoder_parameter),
                ("model", model_parameter),
                ("strategy", strategy_parameter),
            )
        },
        schedule=plans.read_schedule(batches) if batches else plans.SCHEDULE,
        budgets=_numbers(budgets) if budgets else plans.BUDGETS,
        target=target,
        reshuffle=reshuffle,
        error_rate=error_rate,
    )
    found = run_and_print(plan, out, projects, workers)
    if all(ran.result is None for ran in found):
        raise ConfigError(f"No cell could be run. The first: {found[0].error}")


def run_and_print(
    plan: Plan,
    out: Path,
    projects: Path | None = None,
    workers: int | None = None,
    goals: dict[int, float] | None = None,
) -> list[Ran]:
    """Run what is not finished, print a line for each cell and the table, write table, curves, JSON and plot."""
    from annotator import durable
    from annotator.compare import figures, plot, running, tables

    print(f"{len(plan.cells())} cells: {len(plan.systems)} systems, {len(plan.seeds)} seeds; in {out}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{durable.refusal(out, error)}.") from error
    with progress() as report:
        found = running.run(plan, out, projects, workers or os.cpu_count() or 1, report, _print_cell)
    lines = figures.lines(plan, found)
    told = tables.text(plan, lines, found, goals)
    for name, content in {
        "table.md": told + "\n",
        "table.csv": tables.table_csv(plan, lines),
        "curves.csv": tables.curves_csv(found),
        "comparison.json": json.dumps(tables.report(plan, lines, found), indent=1) + "\n",
        "curves.svg": plot.svg(lines, plan.budgets),
    }.items():
        durable.write(out / name, content)
    print(f"\n{told}")
    return found


def _print_cell(ran: Ran, done: int, total: int) -> None:
    if ran.result is None:
        said = f"failed: {ran.error}"
    elif not ran.is_new:
        return
    else:
        newest = ran.result["rounds"][-1]
        accuracy = newest["accuracy_test"] if newest["accuracy_test"] is not None else newest["accuracy"]
        shown = "" if accuracy is None else f"{100 * accuracy:.1f} % at "
        said = f"{shown}{newest['n_labeled']:,} labels ({ran.result['seconds']:.0f} s)"
    print(f"{done:>4} of {total}  {ran.cell}: {said}", flush=True)


def _names(texts: Iterable[str]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip().replace("_", "") for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"Write numbers with commas between them, e.g. 10,50,100, not {text!r}.")
    return tuple(sorted({int(part) for part in parts}))


def _seeds(text: str) -> tuple[int, ...]:
    """A number of seeds, or the seeds themselves where there is a comma."""
    numbers = _numbers(text)
    return numbers if "," in text else tuple(range(numbers[0]))


def _parameters(texts: list[str]) -> dict[str, dict[str, str]]:
    """NAME.PARAMETER=VALUE, each -> plug-in -> its parameters."""
    found: dict[str, dict[str, str]] = {}
    for key, value in pairs(texts).items():
        name, dot, parameter = key.rpartition(".")
        if not dot or not name or not parameter:
            raise ConfigError(f"Say whose parameter it is: NAME.{key}={value}.")
        found.setdefault(name, {})[parameter] = value
    return found
