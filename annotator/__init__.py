"""Label the images that teach the model most.

    project = annotator.Project.create(folder, annotator.Config(source="digits"))
    session = project.session("ada")
    session.advance()
    for card in session.remaining:
        session.label(card.image_id, "7")

`annotator.simulate` runs the same session answered by an oracle. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from annotator.version import __version__

if TYPE_CHECKING:
    from annotator.config import Config
    from annotator.project import Project
    from annotator.session import Session
    from annotator.simulate import simulate

__all__ = ["Config", "Project", "Session", "__version__", "simulate"]

_HOMES = {
    "Config": "annotator.config",
    "Project": "annotator.project",
    "Session": "annotator.session",
    "simulate": "annotator.simulate",
}


def __getattr__(name: str) -> Any:  # Any: one of __all__
    """Public names by their first use, so that `annotator --help` and the workers start at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'annotator' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
