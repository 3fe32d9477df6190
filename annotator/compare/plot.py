"""The curves of a comparison as an SVG file that reads on light and on dark ground: a panel for each encoder.

A band is one standard deviation to either side. A model has a colour, after Okabe and Ito's,
which people who see few colours tell apart; a strategy has its own dashes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from annotator.compare.figures import Line

COLOURS = ("#1f83d6", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")
DASHES = {"random": "2 4"}
OTHER_DASHES = ("", "8 3", "8 3 2 3", "4 2")
WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 26, 28, 34
LEGEND_ROW = 18
STYLE = (
    "text{fill:#222;font:12px sans-serif}.title{font-weight:bold}.ground{fill:#fff}.grid{stroke:#ddd;fill:none}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.ground{fill:#14171c}.grid{stroke:#3a3f47}}"
)


@dataclass(frozen=True)
class _Frame:
    """One panel's place and scales: labels on a logarithmic axis, accuracy from `lowest` to 1."""

    x0: float
    y0: float
    fewest: int
    most: int
    lowest: float

    def x(self, labels: float) -> float:
        share = math.log(labels / self.fewest) / max(math.log(self.most / self.fewest), 1e-9)
        return self.x0 + LEFT + (WIDTH - LEFT - RIGHT) * share

    def y(self, accuracy: float) -> float:
        share = (accuracy - self.lowest) / (1 - self.lowest)
        return self.y0 + HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(share, 0.0), 1.0)


def svg(lines: Sequence[Line], budgets: Sequence[int]) -> str:
    """Every system's mean and band from the smallest budget to the largest."""
    encoders = list(dict.fromkeys(line.system.encoder for line in lines))
    columns = min(2, max(len(encoders), 1))
    rows = math.ceil(len(encoders) / columns)
    looks = _looks(lines)
    width, height = WIDTH * columns, HEIGHT * rows + LEGEND_ROW * (math.ceil(len(looks) / columns) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>Accuracy over labels</title><style>{STYLE}</style>",
        f'<rect class="ground" width="{width}" height="{height}"/>',
    ]
    for place, encoder in enumerate(encoders):
        frame = _frame(lines, budgets, WIDTH * (place % columns), HEIGHT * (place // columns))
        parts += _panel(encoder, [line for line in lines if line.system.encoder == encoder], frame, budgets, looks)
    for place, (name, look) in enumerate(looks.items()):
        parts += _legend(name, look, WIDTH * (place % columns), HEIGHT * rows + LEGEND_ROW * (place // columns + 1))
    return "\n".join([*parts, "</svg>"]) + "\n"


_Look = tuple[str, str]
"""(colour, dashes)"""


def _looks(lines: Sequence[Line]) -> dict[tuple[str, str], _Look]:
    """(model, strategy) -> its colour, by model, and its dashes, by strategy."""
    models = list(dict.fromkeys(line.system.model for line in lines))
    others = list(dict.fromkeys(line.system.strategy for line in lines if line.system.strategy not in DASHES))
    dashes = DASHES | {name: OTHER_DASHES[place % len(OTHER_DASHES)] for place, name in enumerate(others)}
    return {
        (line.system.model, line.system.strategy): (
            COLOURS[models.index(line.system.model) % len(COLOURS)],
            dashes[line.system.strategy],
        )
        for line in lines
    }


def _frame(lines: Sequence[Line], budgets: Sequence[int], x0: float, y0: float) -> _Frame:
    shown = [point.mean - point.deviation for line in lines for n, point in line.mean_curve if n >= min(budgets)]
    lowest = math.floor(10 * max(min(shown, default=0.0), 0.0)) / 10
    return _Frame(x0, y0, min(budgets), max(max(budgets), min(budgets) + 1), min(lowest, 0.9))


def _panel(
    title: str,
    lines: Sequence[Line],
    frame: _Frame,
    budgets: Sequence[int],
    looks: dict[tuple[str, str], _Look],
) -> list[str]:
    parts = [f'<text x="{frame.x0 + LEFT}" y="{frame.y0 + 18}" class="title">{escape(title)}</text>']
    left, right = frame.x(frame.fewest), frame.x(frame.most)
    for percent in range(round(100 * frame.lowest), 101, 10):
        y = frame.y(percent / 100)
        parts.append(f'<path class="grid" d="M{left:.0f} {y:.1f}H{right:.0f}"/>')
        parts.append(f'<text x="{left - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    for n in budgets:
        at = f'x="{frame.x(n):.0f}" y="{frame.y(frame.lowest) + 16:.0f}"'
        parts.append(f'<text {at} text-anchor="middle">{n:,}</text>')
    parts.append(f'<text x="{right:.0f}" y="{frame.y0 + 18}" text-anchor="end">accuracy over labels</text>')
    for line in lines:
        parts += _curve(line, frame, looks[line.system.model, line.system.strategy])
    return parts


def _curve(line: Line, frame: _Frame, look: _Look) -> list[str]:
    points = [(n, point) for n, point in line.mean_curve if frame.fewest <= n <= frame.most]
    if not points:
        return []
    upper = [f"{frame.x(n):.1f},{frame.y(point.mean + point.deviation):.1f}" for n, point in points]
    lower = [f"{frame.x(n):.1f},{frame.y(point.mean - point.deviation):.1f}" for n, point in reversed(points)]
    middle = " ".join(f"{frame.x(n):.1f},{frame.y(point.mean):.1f}" for n, point in points)
    return [
        f'<polygon points="{" ".join([*upper, *lower])}" fill="{look[0]}" opacity="0.18"/>',
        f'<polyline points="{middle}" fill="none" {_stroke(look)}><title>{escape(str(line.system))}</title></polyline>',
    ]


def _legend(name: tuple[str, str], look: _Look, x: float, y: float) -> list[str]:
    return [
        f'<path d="M{x + LEFT} {y}h34" fill="none" {_stroke(look)}/>',
        f'<text x="{x + LEFT + 42}" y="{y + 4}">{escape(", ".join(name))}</text>',
    ]


def _stroke(look: _Look) -> str:
    dashes = f' stroke-dasharray="{look[1]}"' if look[1] else ""
    return f'stroke="{look[0]}" stroke-width="2"{dashes}'
