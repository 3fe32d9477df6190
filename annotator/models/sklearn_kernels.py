"""scikit-learn's kernels between samples, and its iteration along them. Knows samples and masses, no labels.

What `LabelSpreading` and `LabelPropagation` do where a kernel is named: the answers of scikit-learn's estimators with
the same parameters, including answers that `max_iter` or `tol` ends before they converge. A kernel is a matrix of
every sample by every other ("knn": of its nearest ones), so this is for small pools; see graph.py for large ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import laplacian
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors

from annotator.errors import FeatureError
from annotator.graph import frame_of
from annotator.types import FloatArray, SparseMatrix

Samples = NDArray[Any] | SparseMatrix  # Any: float32 or float64
Weights = FloatArray | SparseMatrix
Kind = str | Callable[[Samples, Samples], Weights]
""" "rbf", "knn", or a function of (n, n_features) and (m, n_features) that gives (n, m) weights."""


class Kernel:
    """Weights among samples, and from new samples to them."""

    def __init__(self, samples: Samples, kind: Kind, gamma: float, n_neighbors: int, n_jobs: int | None) -> None:
        self._kind = kind
        self._gamma = gamma
        # A function may depend on where zero is; and sparse samples that are moved become dense.
        frame = None if callable(kind) or scipy.sparse.issparse(samples) else frame_of(samples)
        self._centre = None if frame is None else frame.centre
        self._samples = self._moved(samples)
        if kind == "knn":
            finder = NearestNeighbors(n_neighbors=min(n_neighbors, samples.shape[0]), n_jobs=n_jobs)
            self._finder = finder.fit(self._samples)
            self._nearest = self._between(self._samples)

    def among(self) -> Weights:
        """(n, n): row i holds the weights from i; with "knn" 1 for each of the nearest, itself the first of them."""
        return self._nearest if self._kind == "knn" else self._between(self._samples)

    def from_new(self, samples: Samples) -> Weights:
        """(n_new, n_features) -> (n_new, n)."""
        return self._between(self._moved(samples)).T if callable(self._kind) else self._between(self._moved(samples))

    def _between(self, samples: Samples) -> Weights:
        """(n_new, n) weights from new samples to fitted ones; a function returns the transpose. Raises FeatureError."""
        with np.errstate(all="ignore"):  # an overflow raises FeatureError below
            if callable(self._kind):
                weights = self._kind(self._samples, samples)
            elif self._kind == "knn":
                weights = self._finder.kneighbors_graph(samples, mode="connectivity")
            else:
                weights = rbf_kernel(samples, self._samples, gamma=self._gamma)
        weights = scipy.sparse.csr_array(weights) if scipy.sparse.issparse(weights) else np.asarray(weights)
        if not np.isfinite(weights.data if scipy.sparse.issparse(weights) else weights).all():
            raise FeatureError("The kernel gave weights that are no finite numbers. Scale the features.")
        return weights

    def _moved(self, samples: Samples) -> Samples:
        return samples if self._centre is None else samples - self._centre


def spreading_steps(weights: Weights) -> Weights:
    """S = D^-1/2 W D^-1/2 without its diagonal, D being the sums of columns."""
    steps = -laplacian(weights, normed=True)
    if scipy.sparse.issparse(steps):
        steps = scipy.sparse.csr_array(steps)
        return steps - scipy.sparse.diags_array(steps.diagonal(), format="csr")
    np.fill_diagonal(steps, 0)
    return steps


def propagation_steps(weights: Weights) -> Weights:
    """P = D^-1 W, D being the sums of rows; rows of zeros stay."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    sums = np.where(sums == 0, 1, sums)
    if scipy.sparse.issparse(weights):
        return scipy.sparse.csr_array(scipy.sparse.diags_array(1 / sums) @ weights)
    return np.asarray(weights / sums[:, None])


def repeated(
    step: Callable[[FloatArray], FloatArray], start: FloatArray, max_iter: int, tol: float
) -> tuple[FloatArray, int]:
    """Repeat `step` until the sum of its changes is below `tol`; returns masses (n, n_classes) and the number of steps.

    Warns (ConvergenceWarning) where `max_iter` steps were not enough.
    """
    before, masses = np.zeros_like(start), start
    for n_iter in range(max_iter):
        if np.abs(masses - before).sum() < tol:
            return masses, n_iter
        before, masses = masses, step(masses)
    advice = f"max_iter={max_iter} was reached without convergence. Raise it, or use the self-tuned graph."
    warnings.warn(advice, ConvergenceWarning, stacklevel=2)
    return masses, max_iter
