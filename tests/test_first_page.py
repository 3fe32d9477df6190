"""What is drawn first waits for no library that only a fit, a graph or a chart needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from annotator.project import Config, Project
from annotator.ui.preload import links

HEAVY = {"sklearn", "numba", "pandas", "faiss", "scipy", "joblib", "altair", "tensorflow", "keras"}
FIRST_PAGE = """
import sys
from pathlib import Path
from annotator import registry
from annotator.project import Project, presets
from annotator.ui import image_route, surface, views
from annotator.workspace.look_ahead import LookAhead

project = Project(Path(sys.argv[1]))
session = project.session("you")
drawn = surface.payload(project, session, LookAhead(), {})
assert surface.SurfaceData.model_validate(drawn)
assert len(drawn["pages"][0]["cards"]) == 12
for kind in ("strategy", "model", "encoder"):
    for name in registry.names(kind):
        assert registry.summary(kind, name)
assert len(presets()) == 3
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize("parts", [{"encoder": "pixels"}, {"model": "vote", "strategy": "recommended"}])
def test_a_project_that_opens_imports_nothing_slow(tmp_path: Path, parts: dict[str, str]) -> None:
    """Seconds, on a slow machine: the first fit imports them, in the background, once the page has been drawn."""
    project = Project.create(tmp_path / "first", Config(source="digits", **parts))  # type: ignore[arg-type]  # names
    project.session("you").look_ahead()
    project.close()
    asked = [sys.executable, "-c", FIRST_PAGE, str(project.folder)]
    imported = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert set(imported.split()) & HEAVY == set()


def test_the_page_names_every_module_of_the_surface() -> None:
    """With the page itself, below the path that it is served under."""
    named = links("")
    assert "</_stcore/bidi-components/annotator.grid/surface.js>; rel=modulepreload" in named
    assert named.count("static/js/BidiComponent.") == 1
    assert links("base").count("</base/") == named.count("</")
