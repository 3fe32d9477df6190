"""What was asked and what was answered, on disk. Its public names; what each is stands in the files."""

from annotator.store.store import (
    OUTCOMES,
    Annotator,
    Deciding,
    Event,
    ImageRecord,
    LabelClass,
    ModelRecord,
    Question,
    Store,
    record_prediction,
)

__all__ = [
    "OUTCOMES",
    "Annotator",
    "Deciding",
    "Event",
    "ImageRecord",
    "LabelClass",
    "ModelRecord",
    "Question",
    "Store",
    "record_prediction",
]
