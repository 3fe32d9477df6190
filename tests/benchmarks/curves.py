"""Learning curves on all 60,000 Fashion-MNIST images, measured on the official test images, by `annotator simulate`.

    python -m tests.benchmarks.curves [--rounds 100] [--only NAME] [--svg assets/screenshots/curves.svg]

Each system is one process; its peak memory is that process's own and, apart, its children's. The test images choose
nothing. One seed: the spread over seeds is another script's business.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMON = ["--source", "fashion-mnist", "--full", "--batch-size", "10"]
SYSTEMS = {
    "label spreading, margin": ["--encoder", "hog", "--model", "label-spreading", "--strategy", "margin"],
    "label spreading, entropy": ["--encoder", "hog", "--model", "label-spreading", "--strategy", "entropy"],
    "encoder-classifier, margin": [
        *("--encoder", "autoencoder", "--encoder-parameter", "max_epochs=20"),
        *("--model", "encoder-classifier", "--strategy", "margin"),
    ],
}
COLOURS = ("#0072b2", "#d55e00", "#009e73")
SHOWN_AT = (10, 50, 100, 200, 500, 1000)


_WRAPPED = """
import resource, sys
from annotator.cli import main
try:
    main()
finally:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(*(resource.getrusage(each).ru_maxrss / 1024 for each in who), file=sys.stderr)
"""


def run(options: list[str], rounds: int) -> dict[str, Any]:  # Any: JSON
    """One simulation: (labels, accuracy on test images) of every round, seconds, peak MB of the process itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rounds.json"
        command = [sys.executable, "-c", _WRAPPED, "simulate", *COMMON, *options]
        command += ["--rounds", str(rounds), "--json", str(path)]
        started = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        report = json.loads(path.read_text())
    rows = [*report["rounds"], report["final"]]
    curve = [(row["n_labeled"], row["accuracy_test"]) for row in rows if row["accuracy_test"] is not None]
    own, children = (float(text) for text in ended.stderr.split()[-2:])
    fits = sorted(row["fit_seconds"] for row in rows if row["fit_seconds"] is not None)
    return {
        "curve": curve,
        "seconds": round(seconds, 1),
        "fit_s": round(fits[len(fits) // 2], 3),
        "peak_mb": round(own),
        "children_peak_mb": round(children),
    }


def at(curve: list[tuple[int, float]], n_labels: int) -> float | None:
    """Accuracy in percent of the last fit with at most so many labels; None where the curve ends before."""
    reached = [accuracy for labels, accuracy in curve if labels <= n_labels]
    return round(100 * reached[-1], 1) if reached and curve[-1][0] >= n_labels else None


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:  # Any: JSON
    """The curves as an SVG that reads on light and dark ground."""
    width, height, left, bottom = 640, 360, 50, 320
    most = max(labels for result in results.values() for labels, _ in result["curve"])
    box = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {box}>']
    lines.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for percent in range(0, 101, 20):
        y = bottom - 2.9 * percent
        lines.append(f'<path d="M{left} {y}H{width - 10}" stroke="#ddd"/><text x="8" y="{y + 4}">{percent} %</text>')
    for labels in range(0, most + 1, max(100, most // 500 * 100)):
        x = left + (width - 70) * labels / most
        lines.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{labels}</text>')
    lines.append(f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">labels</text>')
    for place, (colour, (name, result)) in enumerate(zip(COLOURS, results.items(), strict=False)):
        places = [(left + (width - 70) * labels / most, bottom - 290 * share) for labels, share in result["curve"]]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = bottom - 60 + 18 * place
        lines.append(f'<text x="{width - 20}" y="{y}" text-anchor="end" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")


def main() -> None:
    """Run, print a table, draw, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--only", choices=list(SYSTEMS))
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else list(SYSTEMS)
    results = {}
    for name in chosen:
        results[name] = run(SYSTEMS[name], arguments.rounds)
        row = "  ".join(f"{n}: {at(results[name]['curve'], n)}" for n in SHOWN_AT)
        print(f"{name:28s} {row}  fit {results[name]['fit_s']} s, {results[name]['peak_mb']} MB", flush=True)
    if arguments.svg:
        draw(results, arguments.svg)
    for result in results.values():
        result["accuracy"] = {str(n): at(result["curve"], n) for n in SHOWN_AT}
    print(json.dumps({name: results.get(name) for name in SYSTEMS}))


if __name__ == "__main__":
    main()
