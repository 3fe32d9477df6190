"""The README says what is there: its strategy runs, its tree is the tree, its commands exist."""

from __future__ import annotations

import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from annotator import registry
from annotator.project import presets
from annotator.simulate import simulate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_query_strategy_of_the_readme_runs(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code, as printed, is chosen by name and asks a full batch of other images than entropy does."""
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "class OnePerPair" in block)
    module = types.ModuleType("one_per_pair")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "one_per_pair", module)
    monkeypatch.setitem(registry.BUILT_IN["strategy"], "one-per-pair", "one_per_pair:OnePerPair")
    config = replace(presets()["digits"].config, rounds=3)
    own = [row.get("asked_rows") for row in simulate(replace(config, strategy="one-per-pair"), projects / "own")]
    plain = [row.get("asked_rows") for row in simulate(config, projects / "plain")]
    assert [len(rows) for rows in own[:3] if rows] == [12, 12, 12]
    assert own[0] == plain[0]
    assert own[1] != plain[1]


def test_the_tree_of_the_readme_names_every_module() -> None:
    """Nothing of the package is missing from it."""
    tree = README.partition("## The tree")[2].partition("```\n\n")[0]
    for path in (ROOT / "annotator").iterdir():
        if path.name.startswith("_") or path.suffix == ".typed":
            continue
        assert path.name in tree, path.name


def test_every_picture_of_the_readme_is_there() -> None:
    """No link leads nowhere."""
    for target in re.findall(r"\]\((assets/[^)]+)\)|src=\"(assets/[^\"]+)\"", README):
        assert (ROOT / "".join(target)).is_file(), target
