"""What is drawn first waits for no library that only a fit, a graph or a chart needs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from sklearn.datasets import load_digits

from annotator import shipped
from annotator.config import Config, presets
from annotator.dataset import made_from, prepare_here
from annotator.features import FEATURES
from annotator.paths import assets
from annotator.project import Project
from annotator.shipped import pack, unpack
from annotator.sources.digits import Digits
from annotator.ui.preload import links

HEAVY = {"sklearn", "numba", "pandas", "faiss", "scipy", "joblib", "altair", "tensorflow", "keras"}
FIRST_PAGE = """
import sys
from pathlib import Path
from annotator import registry
from annotator.config import presets
from annotator.project import Project
from annotator.ui import image_route
from annotator.ui.views import grid
from annotator.workspace.look_ahead import LookAhead

project = Project(Path(sys.argv[1]))
session = project.session("you")
drawn = grid.payload(project, session.moment(), LookAhead(), {})
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


def test_the_prepared_demo_is_what_preparing_gives(tmp_path: Path) -> None:
    """File by file; weights to the last digits, which a processor may round otherwise. A new revision needs it anew.

    Features are there once, in the dataset.
    """
    recipe = presets()["digits"].config.recipe
    folder = unpack(made_from(recipe), tmp_path / "shipped")
    assert folder is not None, "python assets/prepared/make.py makes it anew"
    assert folder.name == prepare_here(recipe, tmp_path / "made").name
    made = {path.relative_to(tmp_path / "made"): path for path in (tmp_path / "made").rglob("*") if path.is_file()}
    made = {name: path for name, path in made.items() if not name.parts[0].startswith(FEATURES)}
    found = {path.relative_to(tmp_path / "shipped"): path for path in folder.parent.rglob("*") if path.is_file()}
    assert found.keys() == made.keys()
    for name, path in found.items():
        if path.parent.name == "graph":
            np.testing.assert_allclose(np.load(path), np.load(made[name]), rtol=1e-12)
        elif path.suffix != ".npz":  # its members carry the time
            assert path.read_bytes() == made[name].read_bytes(), name
    assert sum(path.stat().st_size for path in assets().glob("prepared/*.zip")) < 3 << 20


def test_another_recipe_is_prepared_from_its_source(tmp_path: Path) -> None:
    """Only what was made from exactly the same is taken."""
    recipe = presets()["digits"].config.recipe
    assert unpack(made_from(replace(recipe, n_neighbors=11)), tmp_path) is None
    assert unpack(made_from(recipe) | {"revisions": {}}, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def damaged(packed: bytes, member: str, content: bytes) -> bytes:
    """The file with other bytes where the compressed content of a member begins."""
    with ZipFile(BytesIO(packed)) as whole:
        start = whole.getinfo(member).header_offset + 30 + len(member)
    return packed[:start] + content + packed[start + len(content) :]


@pytest.mark.parametrize("wrong", ["stream", "method", "path"])
def test_a_damaged_pool_is_prepared_from_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Whichever layer finds the damage; and no member's name leads out of the cache."""
    folder = tmp_path / "dataset-0"
    folder.mkdir()
    (folder / "x").write_bytes(bytes(range(256)))
    path = tmp_path / "assets" / "prepared" / "demo.zip"
    path.parent.mkdir(parents=True)
    pack(path, {"a": 1}, [folder])
    packed = path.read_bytes()
    path.write_bytes(
        {
            "stream": damaged(packed, "dataset-0/x", b"\xff" * 8),
            "method": packed.replace(b"PK\1\2\x14\x03\x14\x00\x00\x00\x08", b"PK\1\2\x14\x03\x14\x00\x00\x00\x63"),
            "path": packed.replace(b"dataset-0/x", b"dataset-0/\\"),
        }[wrong]
    )
    assert path.read_bytes() != packed
    monkeypatch.setattr(shipped, "assets", lambda: tmp_path / "assets")
    assert shipped.unpack({"a": 1}, tmp_path / "cache") is None
    assert not [left for left in (tmp_path / "cache").rglob("*") if left.is_file()]


def test_digits_are_read_as_scikit_learn_reads_them() -> None:
    """From its own file, without importing it."""
    source, theirs = Digits(held_out=0), load_digits()
    assert np.array_equal(source.array[..., 0], (theirs.images * 15).astype(np.uint8))
    assert np.array_equal(source.truth, theirs.target)


def test_the_page_names_every_module_of_the_surface() -> None:
    """With the page itself, below the path that it is served under."""
    named = links("")
    assert "</_stcore/bidi-components/annotator.grid/surface.js>; rel=modulepreload" in named
    assert named.count("static/js/BidiComponent.") == 1
    assert links("base").count("</base/") == named.count("</")
