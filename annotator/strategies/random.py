"""Random choice: the baseline for every other strategy."""

from __future__ import annotations

import numpy as np

from annotator.types import Choice, Pool


class Random:
    """Any images, each as likely as every other."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Drawn without replacement; every score is 0, as none is sooner than another."""
        n_asked = min(batch_size, len(pool.candidates))
        return Choice(rng.choice(pool.candidates, n_asked, replace=False), np.zeros(n_asked))
