"""One colour a class, the same in the labeling grid and in the charts.

Ten that colour-blind people tell apart, after Okabe & Ito, "Color Universal Design", 2008, with four more; beyond them
they come again. Colours only accompany names.
"""

from __future__ import annotations

PALETTE = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#b5a800",
    "#7f5aa8",
    "#8c6d4f",
    "#6b7785",
)


def class_colour(class_id: int) -> str:
    """#rrggbb of this class."""
    return PALETTE[class_id % len(PALETTE)]
