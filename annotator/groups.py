"""Which images of a batch belong together: near-duplicates, and an order in which those alike stand side by side.

Two images are nearly the same picture where their small views differ by less than LIMIT. A view is the image averaged
to at most WHOLE px a side, its outermost pixel cut off, averaged to SIDE px a side, its colours kept (a red and a
blue heart are two pictures), minus its mean, scaled to length 1; the difference is the distance of two views, the
smallest over shifts of one of the two by up to a pixel. Brightness and contrast thereby make none.

Measured with `python -m tests.benchmarks.near_duplicates --folder STAMPS EMOJI` on 300 images of each pool and 13 kinds
of copies of 40 of them: % of images that have another one of the pool within the limit; of a million pairs of one
class how many are within it; % of the copies that are found.

| limit                             | 0.08        | 0.10          | 0.12          | 0.15           |
| clothes, 20,000 of 28 px          | 0.7, 3, 81  | 2.7, 20, 86   | 6.0, 82, 90   | 17.7, 429, 92  |
| digits, 1,297 of 8 px             | 0, 0, 55    | 0, 0, 60      | 0, 0, 63      | 1.3, 104, 66   |
| stamps, 713 photos, 64 px         | 0, 0, 84    | 0, 0, 88      | 0, 0, 91      | 0.7, 47, 93    |
| emoji, 1,216 pictures, 64 px      | 1.0, 52, 77 | 1.3, 70, 83   | 1.3, 70, 88   | 2.0, 122, 92   |

At 0.10 one batch of twelve T-shirts in 800 has a pair by chance. Copies that are missed are those of which little is
left (28 px by way of 14, 8 px by way of 6) and those so bright that much of them is white.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from annotator.types import FeatureArray, ImageArray, IntArray

WHOLE, SIDE = 32, 12
LIMIT = 0.1
LEAST_CONTRAST = 2.0
"""Grey levels, standard deviation: flatter views, of empty images, are not stretched, so that all of them are alike."""
CHUNK = 64
"""Images that are looked at at once."""
N_STARTS = 32
"""Of the paths that are tried: all of them in a usual batch. So many keep 2,000 images under a second."""
SHIFTS = tuple((down, right) for down in range(3) for right in range(3))
MIDDLE = SHIFTS.index((1, 1))

Views = NDArray[np.float32]


def first_distinct(images: ImageArray, rows: IntArray, beside: IntArray, n_wanted: int) -> tuple[IntArray, IntArray]:
    """The first `n_wanted` of `rows` that are near-duplicates of none before them and of none of `beside`.

    images (n_images, height, width, n_channels) uint8. Returns places in `rows`: of those found, and of those passed
    over, both ascending; rows behind the last one needed are not looked at.
    """
    known = _views(images, beside)
    found: list[int] = []
    passed: list[int] = []
    while len(found) < n_wanted and (start := len(found) + len(passed)) < len(rows):
        shifted = _shifted(images, rows[start : start + min(CHUNK, n_wanted - len(found))])
        own = shifted[:, MIDDLE]
        near_known, near_own = _near(shifted, known), _near(shifted, own)
        taken: list[int] = []
        for place in range(len(own)):  # whether one is taken depends on those before it
            is_near = near_known[place].any() or near_own[place, taken].any()
            (passed if is_near else found).append(start + place)
            if not is_near:
                taken.append(place)
        known = np.concatenate([known, own[taken]])
    return np.array(found, dtype=np.int64), np.array(passed, dtype=np.int64)


def _views(images: ImageArray, rows: IntArray) -> Views:
    """(n_rows, n_values)."""
    return _shifted(images, rows)[:, MIDDLE]


def _shifted(images: ImageArray, rows: IntArray) -> Views:
    """(n_rows, 9, n_values): the view of each image, shifted by every step of SHIFTS."""
    reduced = _averaged(np.asarray(images[rows], dtype=np.float32), WHOLE)
    padding = [(0, max(0, 3 - side)) for side in reduced.shape[1:3]]
    reduced = np.pad(reduced, [(0, 0), *padding, (0, 0)], mode="edge")  # images of 1 or 2 px
    height, width = (side - 2 for side in reduced.shape[1:3])
    cut = [_averaged(reduced[:, y : y + height, x : x + width], SIDE) for y, x in SHIFTS]
    values = np.stack([each.reshape(len(rows), prod(each.shape[1:])) for each in cut], axis=1)
    values -= values.mean(axis=2, keepdims=True)
    least = LEAST_CONTRAST * np.sqrt(values.shape[2])
    lengths = np.sqrt(np.einsum("ijk,ijk->ij", values, values))[:, :, None]
    return np.asarray(values / np.maximum(lengths, least))


def _averaged(images: Views, side: int) -> Views:
    """(n, height, width, n_channels), each side averaged to at most `side` values by the area they cover."""
    down, right = (_shares(length, min(side, length)) for length in images.shape[1:3])
    return np.asarray(np.einsum("yh,nhwc,xw->nyxc", down, images, right, optimize=True))


def _shares(length: int, side: int) -> Views:
    """(side, length): how much each of `length` pixels counts for each of `side` values; rows sum to 1."""
    edges, pixels = np.linspace(0, length, side + 1, dtype=np.float32), np.arange(length, dtype=np.float32)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.maximum(covered, 0) * (side / length), dtype=np.float32)


def _near(shifted: Views, others: Views) -> NDArray[np.bool_]:
    """(n, 9, n_values), (m, n_values) -> (n, m) whether any shift of the one is within LIMIT of the other."""
    squared = np.einsum("isk,isk->is", shifted, shifted)[:, :, None] - 2 * shifted @ others.T
    squared += np.einsum("jk,jk->j", others, others)
    return np.asarray((squared < LIMIT**2).any(axis=1))


def short_path(features: FeatureArray) -> IntArray:
    """(n, n_features) -> (n,) an order of the rows in which neighbours lie near each other.

    Always on to the nearest row that is left, from the start that makes the path shortest: of all rows, or of the
    N_STARTS farthest from their mean, since a short path begins at an edge. Memory grows with n * n.
    """
    n = len(features)
    if n < 3:
        return np.arange(n)
    points = np.asarray(features, dtype=np.float64)
    points = points - points.mean(axis=0)
    squares = np.einsum("ij,ij->i", points, points)
    lengths = np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0))
    starts = np.sort(np.argsort(-squares, kind="stable")[:N_STARTS])
    each = np.arange(len(starts))
    left, paths, total = np.ones((len(starts), n), dtype=bool), [starts], np.zeros(len(starts))
    left[each, starts] = False
    for _ in range(n - 1):  # one step on all paths at once
        away = np.where(left, lengths[paths[-1]], np.inf)
        paths.append(away.argmin(axis=1))
        total += away[each, paths[-1]]
        left[each, paths[-1]] = False
    shortest: IntArray = np.stack(paths, axis=1)[int(total.argmin())]
    return shortest
