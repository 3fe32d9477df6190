"""Random choice: the baseline for every other strategy."""

from __future__ import annotations

import numpy as np

from annotator.types import Choice, Pool


class Random:
    """Any images, each as likely as every other."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Drawn without replacement; every score is 0, as none is sooner than another.

        The propensity is that of being in the batch, equal for all.
        """
        n_asked = min(batch_size, len(pool.candidates))
        rows = rng.choice(pool.candidates, n_asked, replace=False)
        each = n_asked / max(1, len(pool.candidates))
        return Choice(rows, np.zeros(n_asked), propensities=np.full(n_asked, each))
