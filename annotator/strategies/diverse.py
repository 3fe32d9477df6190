"""Ask where the model is least sure, but not for images that are alike: one of each cluster of the most uncertain.

Diverse mini-batches (Zhdanov, "Diverse mini-batch Active Learning", arXiv 1901.05954): the `POOL` times batch size
images of smallest margin are clustered by k-means, weighted by 1 - margin, into as many clusters as the batch has
images; asked is the image nearest to each centre. Clusters are of features minus the pool's mean, scaled to length 1
(likeness.py).
"""

from __future__ import annotations

import numpy as np

from annotator.strategies import words
from annotator.strategies.likeness import SinglePrecision, centre, directions, squared_distances
from annotator.strategies.uncertainty import margin, top_k
from annotator.threads import at_most
from annotator.types import Choice, FloatArray, IntArray, Pool

POOL = 5
"""Images for each one that is asked: a round number."""
N_TURNS = 20
"""Of k-means at most; later ones change few clusters. A round number."""
LEAST_DOUBT = 1e-9
"""Weight of an image of which the model is certain."""


class DiverseMargin:
    """The images whose two likeliest classes are closest, one of each cluster of images that are alike."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """A score is 1 - the margin. What is drawn are the first centres of the clusters."""
        doubt = pool.prediction.figures.measured(margin)[pool.candidates]
        best = top_k(pool.candidates, doubt, POOL * batch_size)
        with at_most(1):  # the result is the same bit for bit on any number of cores
            at = directions(pool.dataset.features[best.rows], centre(pool))
            picked = np.sort(one_of_each(at, np.maximum(best.scores, LEAST_DOUBT), batch_size, rng))
        said = words.between(pool.prediction.probabilities[best.rows[picked]])
        return Choice(best.rows[picked], best.scores[picked], reasons=said)


def one_of_each(at: SinglePrecision, weights: FloatArray, n_clusters: int, rng: np.random.Generator) -> IntArray:
    """(n, n_features), (n,) above 0 -> the places nearest to the centres of so many clusters, all where n is fewer."""
    if len(at) <= n_clusters:
        return np.arange(len(at))
    picked = _spread(at, weights, n_clusters, rng)
    centres, before = at[picked], np.empty(0)
    for _ in range(N_TURNS):
        cluster = squared_distances(at, centres).argmin(axis=1)
        if np.array_equal(cluster, before):
            break
        belongs = (cluster == np.arange(n_clusters)[:, None]) * weights.astype(np.float32)
        totals = belongs.sum(axis=1)[:, None]
        centres = np.where(totals > 0, belongs @ at / np.where(totals > 0, totals, 1), centres)
        before = cluster
    return _nearest(squared_distances(centres, at))


def _spread(at: SinglePrecision, weights: FloatArray, n_wanted: int, rng: np.random.Generator) -> IntArray:
    """The first centres: each drawn by weight times squared distance to those before (k-means++; Arthur, 2007)."""
    picked: list[int] = []
    shares = weights
    nearest = np.full(len(at), np.inf)
    for _ in range(n_wanted):
        total = shares.sum()
        picked.append(int(rng.choice(len(at), p=shares / total if total > 0 else None)))
        nearest = np.minimum(nearest, squared_distances(at, at[picked[-1:]])[:, 0])
        shares = weights * nearest
    return np.array(picked, dtype=np.int64)


def _nearest(squared: SinglePrecision) -> IntArray:
    """(n_centres, n) squared distances -> for each centre the nearest place that none before it has, (n_centres,)."""
    picked: list[int] = []
    for distances in squared:
        distances[picked] = np.inf
        picked.append(int(distances.argmin()))
    return np.array(picked, dtype=np.int64)
