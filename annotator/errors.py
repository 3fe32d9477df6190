"""Everything that can go wrong, as one tree. Each error says what happened, where, and what to do.

    AnnotatorError
    ├── ConfigError          a setting, a name or a value that cannot be used
    ├── SourceError          a folder or file of images that cannot be read     SRC_...
    ├── ImageError           one image that cannot be used                      IMG_...
    ├── StoreError           the label store refuses                            STORE_...
    ├── FeatureError         features that no graph can be made of              FEAT_...
    ├── ModelError           a model that cannot be fitted                      MODEL_...
    ├── ExportError          an export that cannot be written                   EXPORT_...
    └── JobError             long work that failed                              JOB_...
        └── Cancelled        long work that a person stopped

`code` is for programs and tests, the message is for people.
"""

from __future__ import annotations


class AnnotatorError(Exception):
    """The root: whatever this package raises on bad input or a failing machine."""

    default_code = "ERROR"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code


class ConfigError(AnnotatorError):
    """A setting that cannot be used."""

    default_code = "CONFIG"


class SourceError(AnnotatorError):
    """A source of images that cannot be read as a whole, or one entry of it."""

    default_code = "SRC_UNREADABLE"


class ImageError(AnnotatorError):
    """One image that cannot be used; the import sets it aside and goes on."""

    default_code = "IMG_DECODE"


class StoreError(AnnotatorError):
    """The label store could not do what was asked; nothing acknowledged is lost."""

    default_code = "STORE_IO"


class FeatureError(AnnotatorError, ValueError):
    """Features that are no numbers, too large, or not as many as expected; a ValueError for scikit-learn's callers."""

    default_code = "FEAT_UNUSABLE"


class ModelError(AnnotatorError):
    """A model that cannot be fitted on what it was given."""

    default_code = "MODEL_FIT"


class ExportError(AnnotatorError):
    """An export that cannot be written."""

    default_code = "EXPORT_WRITE"


class JobError(AnnotatorError):
    """Long work in a child process that failed."""

    default_code = "JOB_FAILED"


class Cancelled(JobError):
    """Long work that was stopped on request."""

    default_code = "JOB_CANCELLED"
