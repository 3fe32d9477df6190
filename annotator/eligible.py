"""Which images may be asked about now. Speaks rows; knows no store.

An image may be asked for a purpose while fewer questions are about it than that purpose wants answers: a question that
is open counts as one that is answered, a withdrawn one does not. Identical images are one: the first of a group stands
for all. The audit slice is asked for the audit alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotator.purposes import AUDIT, Purpose
from annotator.types import Dataset, IntArray


@dataclass(frozen=True)
class Asked:
    """What was asked so far and not withdrawn."""

    rows: IntArray
    """(n_asked,) ascending, each row once."""
    n_times: IntArray
    """(n_asked,) how many questions are about each."""
    n_drawn: int
    """How many questions were part of a batch; labels known from the start were not."""


def asked_rows(rows: list[int], n_drawn: int) -> Asked:
    """Of one row for each question."""
    distinct, n_times = np.unique(np.asarray(rows, dtype=np.int64), return_counts=True)
    return Asked(distinct, n_times, n_drawn)


def eligible(dataset: Dataset, audit_rows: IntArray, asked: Asked, purpose: Purpose) -> IntArray:
    """Rows that may be asked now for this purpose: of the audit slice in its order, of others ascending."""
    done = asked.rows[asked.n_times >= purpose.n_wanted]
    if purpose == AUDIT:
        return audit_rows[~np.isin(audit_rows, done)]
    free = dataset.is_first.copy()
    free[dataset.group[done]] = False
    free[audit_rows] = False
    return np.flatnonzero(free)


def audit_due(audit_rows: IntArray, asked: Asked, share: float, batch_size: int) -> int:
    """How many audit images the next batch takes, so that the share holds over all batches."""
    n_audit = int(np.isin(audit_rows, asked.rows).sum())
    due = round(share * (asked.n_drawn + batch_size)) - n_audit
    return int(np.clip(due, 0, batch_size))
