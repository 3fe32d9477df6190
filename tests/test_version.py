"""One version, wherever it is read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import annotator
from annotator.version import __version__

ROOT = Path(__file__).parents[1]


def test_there_is_one_version() -> None:
    """The package's is the module's; the project file reads that one, and Streamlit's note equals it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    component = tomllib.loads((ROOT / "annotator" / "pyproject.toml").read_text())
    assert annotator.__version__ == __version__
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "annotator/version.py"
    assert component["project"]["version"] == __version__
