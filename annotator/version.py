"""The version, in one place: pyproject.toml, `annotator.__version__` and every export take it from here."""

from __future__ import annotations

__version__ = "0.1.0"
