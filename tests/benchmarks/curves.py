"""Learning curves on all 60,000 Fashion-MNIST images, measured on the official test images, by `annotator simulate`.

    python -m tests.benchmarks.curves [--seeds 5] [--rounds 100] [--only NAME ...] [--workers 2]
                                      [--svg assets/screenshots/curves.svg]

Every system is played once for each seed, one process each; all of them share one folder of encoded images. Table and
picture give the mean over the seeds, the table also the standard deviation. The test images choose nothing. Peak memory
is that of the process itself and, apart, of its children.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

Json = Any  # what `json` reads and writes

COMMON = ["--source", "fashion-mnist", "--full", "--batch-size", "10"]
FEATURES_AND_VOTE = ["--encoder", "imagenet", "--model", "vote"]
BEFORE = ["--encoder", "hog", "--model", "label-spreading"]
SYSTEMS = {
    "imagenet, vote, recommended (default)": [*FEATURES_AND_VOTE, "--strategy", "recommended"],
    "imagenet, vote, margin": [*FEATURES_AND_VOTE, "--strategy", "margin"],
    "imagenet, vote, random": [*FEATURES_AND_VOTE, "--strategy", "random"],
    "imagenet, vote, entropy": [*FEATURES_AND_VOTE, "--strategy", "entropy"],
    "hog, label-spreading, margin": [*BEFORE, "--strategy", "margin"],
    "hog, label-spreading, random": [*BEFORE, "--strategy", "random"],
    "hog, label-spreading, entropy (default before)": [*BEFORE, "--strategy", "entropy"],
}
"""What ships by default, other strategies on the same features and model, and what shipped before."""
COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#e69f00", "#7f7f7f", "#d55e00")
SHOWN_AT = (10, 20, 50, 100, 200, 300, 500, 1000, 3000)

_WRAPPED = """
import resource, sys
from annotator.cli import main
try:
    main()
finally:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(*(resource.getrusage(each).ru_maxrss / 1024 for each in who), file=sys.stderr)
"""


def run(options: list[str], rounds: int, seed: int, projects: Path) -> dict[str, Json]:
    """One simulation: (labels, accuracy on test images) of every round, seconds, peak MB of the process itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rounds.json"
        command = [sys.executable, "-c", _WRAPPED, "simulate", *COMMON, *options, "--seed", str(seed)]
        command += ["--rounds", str(rounds), "--json", str(path), "--projects", str(projects)]
        started = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{' '.join(options)}: {ended.stderr}")
        seconds = time.perf_counter() - started
        report = json.loads(path.read_text())
    rows = [*report["rounds"], report["final"]]
    own, children = (float(text) for text in ended.stderr.split()[-2:])
    return {
        "curve": [(row["n_labeled"], row["accuracy_test"]) for row in rows if row["accuracy_test"] is not None],
        "seconds": round(seconds, 1),
        "fit_s": _median(row["fit_seconds"] for row in rows),
        "query_s": _median(row.get("query_seconds") for row in rows),
        "peak_mb": round(own),
        "children_peak_mb": round(children),
    }


def _median(values: Json) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 3) if known else None


def at(curve: list[tuple[int, float]], n_labels: int) -> float | None:
    """Accuracy in percent of the last fit with at most so many labels; None where the curve ends before."""
    reached = [accuracy for labels, accuracy in curve if labels <= n_labels]
    return 100 * reached[-1] if reached and curve[-1][0] >= n_labels else None


def summary(runs: list[dict[str, Json]], n_labels: int) -> dict[str, float] | None:
    """Mean and standard deviation over the seeds; None where some curve ends before."""
    found = [accuracy for one in runs if (accuracy := at(one["curve"], n_labels)) is not None]
    if len(found) < len(runs):
        return None
    return {"mean": round(mean(found), 1), "sd": round(stdev(found), 1) if len(found) > 1 else 0.0}


def mean_curve(runs: list[dict[str, Json]]) -> list[tuple[int, float]]:
    """(labels, mean accuracy over the seeds) of every round that all of them reached."""
    return [
        (labels[0], mean(shares))
        for labels, shares in (zip(*points, strict=True) for points in zip(*(one["curve"] for one in runs)))  # noqa: B905  # the shortest ends it
    ]


def draw(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """The curves as an SVG that reads on light and dark ground; labels on a logarithmic axis, accuracy from 40 %."""
    width, height, left, right, top, bottom = 720, 400, 50, 700, 20, 350
    most = max(labels for curve in curves.values() for labels, _ in curve)

    def x_of(labels: float) -> float:
        return left + (right - left) * math.log(labels / 10) / math.log(most / 10)

    def y_of(share: float) -> float:
        return bottom - (bottom - top) * (100 * share - 40) / 60

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for percent in range(40, 101, 10):
        y = y_of(percent / 100)
        lines.append(f'<path d="M{left} {y}H{right}" stroke="#ddd"/><text x="8" y="{y + 4}">{percent} %</text>')
    for labels in (n for n in SHOWN_AT if n <= most):
        lines.append(f'<text x="{x_of(labels):.0f}" y="{bottom + 16}" text-anchor="middle">{labels:,}</text>')
    lines.append(f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">labels</text>')
    for place, (colour, (name, curve)) in enumerate(zip(COLOURS, curves.items(), strict=False)):
        points = " ".join(f"{x_of(labels):.1f},{y_of(share):.1f}" for labels, share in curve if labels >= 10)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = bottom - 18 * len(curves) + 18 * place
        lines.append(f'<text x="{right - 5}" y="{y}" text-anchor="end" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")


def row_of(name: str, runs: list[dict[str, Json]]) -> str:
    """A line of the table."""
    cells = [(n, summary(runs, n)) for n in SHOWN_AT]
    shown = "  ".join(f"{n}: {cell['mean']}±{cell['sd']}" for n, cell in cells if cell)
    return f"{name:46s} {shown}  fit {runs[0]['fit_s']} s, choice {runs[0]['query_s']} s, {runs[0]['peak_mb']} MB"


def main() -> None:
    """Run, print a table, draw, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="simulations at the same time; seconds suffer")
    parser.add_argument("--only", choices=list(SYSTEMS), nargs="+", default=list(SYSTEMS))
    parser.add_argument("--projects", type=Path, help="folder that keeps the encoded images; default: thrown away")
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, Json]]] = {}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(arguments.workers) as workers:
        folder = arguments.projects or Path(scratch)
        for name in arguments.only:
            played = [
                workers.submit(run, SYSTEMS[name], arguments.rounds, seed, folder) for seed in range(arguments.seeds)
            ]
            results[name] = [one.result() for one in played]
            print(row_of(name, results[name]), flush=True)
    if arguments.svg:
        draw({name: mean_curve(runs) for name, runs in results.items()}, arguments.svg)
    report = {
        name: {
            "accuracy": {str(n): summary(runs, n) for n in SHOWN_AT},
            "seeds": len(runs),
            **{key: runs[0][key] for key in ("seconds", "fit_s", "query_s", "peak_mb", "children_peak_mb")},
        }
        for name, runs in results.items()
    }
    print(json.dumps({name: report.get(name) for name in SYSTEMS}))


if __name__ == "__main__":
    main()
