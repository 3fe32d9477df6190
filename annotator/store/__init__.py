"""What was asked and what was answered, on disk. Its public names; what each is stands in the files."""

from annotator.store.snapshot import Snapshot
from annotator.store.store import Store
from annotator.store.values import (
    OUTCOMES,
    Annotator,
    Answer,
    Deciding,
    Event,
    ImageRecord,
    LabelClass,
    ModelRecord,
    Question,
)

__all__ = [
    "OUTCOMES",
    "Annotator",
    "Answer",
    "Deciding",
    "Event",
    "ImageRecord",
    "LabelClass",
    "ModelRecord",
    "Question",
    "Snapshot",
    "Store",
]
