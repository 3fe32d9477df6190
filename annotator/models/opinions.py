"""What a network that was trained on labels adds to a vote. Knows no network and no members of the vote."""

from __future__ import annotations

import numpy as np

from annotator.types import FloatArray, Opinion

SHARE = 0.35


def with_opinion(probabilities: FloatArray, opinion: Opinion | None, share: float = SHARE) -> FloatArray:
    """(n, n_classes) mixed with the opinion on the same images; as they are where there is none.

    Over the classes that the network knows, p = (1 - share) p + share P o, where P is what p gives them together and o
    the opinion: classes that came after its training keep what they had.
    """
    if opinion is None:
        return probabilities
    is_known = opinion.codes < probabilities.shape[1]
    codes = opinion.codes[is_known]
    said = opinion.probabilities[:, is_known].astype(np.float64)
    known = probabilities[:, codes].sum(axis=1, keepdims=True)
    mixed = probabilities.copy()
    mixed[:, codes] *= 1 - share
    mixed[:, codes] += share * known * said / np.maximum(said.sum(axis=1, keepdims=True), 1e-12)
    return mixed
