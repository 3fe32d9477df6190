"""Labels that contradict what surrounds them, to be asked again. Speaks rows and class codes; knows no store, no image.

A model that was trained on a label mostly repeats it. The score of a second look is how far it does not,

    max over other classes of p(class) - p(label),

of calibrated probabilities, and a label is contradicted where that is above `-LEAD`. Those of label spreading as they
are would doubt nine labels of ten on stamps at 200 labels, a fifth of them wrong, and one of seven when calibrated,
72 % of them wrong; for the vote, which is nearly calibrated, the two are alike.

**Evidence.** Development pools, the vote, `recommended` in batches of 10, an oracle that errs anew each time, 300
answers of which at most a fifth ask again; 8 seeds, clothes 5; the vote's probabilities were not calibrated. With
asking again against without, at equal answers:

| errors | pool | asked again | of them wrong | wrong labels at the end, % | accuracy, points |
|---|---|---|---|---|---|
| 20 % | digits | 42 | 42 | 19.8 -> 6.7 | +0.2 ± 0.2 |
| | stamps | 25 | 20 | 19.8 -> 14.3 | +0.9 ± 0.5 |
| | emoji | 12 | 10 | 19.8 -> 17.3 | 0.0 ± 0.6 |
| | clothes | 18 | 18 | 19.9 -> 14.8 | -0.5 ± 0.2 |
| 5 % | digits | 17 | 14 | 5.2 -> 0.7 | 0.0 ± 0.0 |
| | stamps | 17 | 7 | 5.2 -> 3.0 | +0.4 ± 0.4 |
| | emoji | 7 | 3 | 5.2 -> 4.4 | -0.3 ± 0.5 |
| | clothes | 6 | 5 | 4.5 -> 3.2 | +0.2 ± 0.3 |
| none | digits | 4 | 0 | 0 | 0.0 ± 0.0 |
| | stamps | 12 | 0 | 0 | +0.1 ± 0.1 |
| | emoji | 5 | 0 | 0 | -0.8 ± 0.3 |

So it mends labels for few answers, and does not make a better model for the same work: a new label teaches as much as
a mended one. It is off unless it is asked for (`ask_again_share`). A rule by fits without the label (the vote, 10
folds, another class ahead by 0.3) asked 56 times whatever the errors, of which 6 to 13 were wrong at 5 %, and cost up
to 2.4 points. To leave contradicted labels out of the training, or to give them half the weight, did not pay either: by
the model's own doubt 0.5 to 0.8 points at 20 % errors, within the spread, and nothing at 5 %; by fits without the
label it cost 0.9 to 3.7 points where no label was wrong.
"""

from __future__ import annotations

import numpy as np

from annotator.types import Choice, FloatArray, IntArray, Prediction, Reason

LEAD = 0.4
"""By how much a label's own class leads the next one, at least, where the label is believed."""
NAME = "second-look"
"""Stands as the strategy of a question that asks again."""
WORDS = "asked again: {0}, or rather {1}?"


def second_looks(prediction: Prediction, labels: IntArray, rows: IntArray, most: int) -> Choice:
    """At most `most` of these labeled rows, the most contradicted first, the first of equals; none where none is.

    `prediction` is that of a model that was trained on labels (n_images,); rows ascending. Nothing is drawn at random.
    """
    scores, others = contradiction(_calibrated(prediction, rows), labels[rows])
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


def _calibrated(prediction: Prediction, rows: IntArray) -> FloatArray:
    """(n_rows, n_classes) as `Prediction.temperature` has them."""
    probabilities = prediction.probabilities[rows]
    if not len(rows) or prediction.temperature == 1:
        return probabilities
    powers = (probabilities / probabilities.max(axis=1, keepdims=True)) ** (1 / prediction.temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
