"""Development images: the last ones of a source, held out in the place of its own test set, to choose by.

Knows no kind of source in particular.
"""

from __future__ import annotations

import numpy as np

from annotator.errors import ConfigError
from annotator.sources.reordered import Reordered
from annotator.types import ImageSource


class Development(Reordered):
    """All but the last `n_held_out` images of a source; those are its held-out images, and its test set is not there.

    Raises ConfigError where that leaves no pool.
    """

    def __init__(self, source: ImageSource, n_held_out: int) -> None:
        n_pool = len(source.ids) - n_held_out
        if n_pool < 1:
            raise ConfigError(
                f"The development set of {n_held_out:,} images leaves none of {len(source.ids):,} to ask about. "
                "Choose a smaller one."
            )
        super().__init__(source, np.arange(n_pool))
        self.held_out = _HeldOut(source, n_pool)


class _HeldOut(Reordered):
    """The images from `first` on; it has nothing beside them."""

    set_aside = ()
    n_ignored = 0
    left_out = ()

    def __init__(self, source: ImageSource, first: int) -> None:
        super().__init__(source, np.arange(first, len(source.ids)))


def hold_out_last(source: ImageSource, n_held_out: int) -> ImageSource:
    """The source without its test set, its last `n_held_out` images held out. Raises ConfigError."""
    return Development(source, n_held_out)
