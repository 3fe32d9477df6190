"""Labels that contradict what surrounds them, to be asked again. Speaks rows and class codes; knows no store, no image.

A model that was trained on a label mostly repeats it. The score of a second look is how far it does not,

    max over other classes of p(class) - p(label),

and a label is contradicted where that is above `-LEAD`.

EVIDENCE
"""

from __future__ import annotations

import numpy as np

from annotator.types import Choice, FloatArray, IntArray, Reason

LEAD = 0.4
"""By how much a label's own class leads the next one, at least, where the label is believed."""
NAME = "second-look"
"""Stands as the strategy of a question that asks again."""
WORDS = "asked again: {0}, or rather {1}?"


def second_looks(probabilities: FloatArray, labels: IntArray, rows: IntArray, most: int) -> Choice:
    """At most `most` of these labeled rows, the most contradicted first, the first of equals; none where none is.

    probabilities (n_images, n_classes) by a model that was trained on labels (n_images,), not calibrated; rows
    ascending. Nothing is drawn at random.
    """
    scores, others = contradiction(probabilities[rows], labels[rows])
    places = np.flatnonzero(scores > -LEAD)
    first = places[np.argsort(-scores[places], kind="stable")][: max(0, most)]
    pairs = zip(labels[rows[first]].tolist(), others[first].tolist(), strict=True)
    return Choice(rows[first], scores[first], NAME, tuple(Reason(WORDS, pair) for pair in pairs))


def contradiction(probabilities: FloatArray, codes: IntArray) -> tuple[FloatArray, IntArray]:
    """(n, n_classes), (n,) labels -> (n,) scores, -1 to 1, and (n,) the likeliest class beside each label.

    With a single class nothing is contradicted.
    """
    each = np.arange(len(codes))
    if probabilities.shape[1] < 2:
        return np.full(len(codes), -1.0), codes
    others = probabilities.copy()
    others[each, codes] = -np.inf
    likeliest = others.argmax(axis=1)
    return others[each, likeliest] - probabilities[each, codes], likeliest
