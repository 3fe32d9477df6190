"""The README says what is there: its strategy runs, its tree is the tree, its commands exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
import types
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from annotator import registry
from annotator.cli import app
from annotator.config import presets
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


def in_the_tree() -> list[str]:
    """The modules and folders of the package, in the order of the README's tree."""
    tree = README.partition("## The tree")[2].partition("```\n\n")[0].partition("annotator/\n")[2]
    lines = [line[2:22] for line in tree.splitlines() if line.startswith("  ")]
    return [name.rstrip("/").removesuffix(".py") for line in lines for name in line.split()]


def test_the_tree_of_the_readme_reads_downwards() -> None:
    """A module stands below all that it may import: in the order of the import layers, the lowest first."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = described["tool"]["importlinter"]["contracts"][0]["layers"]
    level = {name.strip("() "): number for number, layer in enumerate(reversed(layers)) for name in layer.split("|")}
    named = [name for name in in_the_tree() if name in level]
    assert len(named) > 25
    too_low = [name for at, name in enumerate(named) if any(level[above] > level[name] for above in named[:at])]
    assert too_low == []


def test_every_picture_of_the_readme_is_there() -> None:
    """No link leads nowhere."""
    found = re.findall(r"\]\((assets/[^)]+)\)|src=\"(assets/[^\"]+)\"", README)
    assert len(found) > 3
    for target in found:
        assert (ROOT / "".join(target)).is_file(), target


def commands() -> list[str]:
    """Everything typed as `annotator ...`, in blocks and in sentences, without comments."""
    blocks = [block.replace("\\\n", " ") for block in re.findall(r"```\n(.*?)```", README, re.S)]
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    typed = [*lines, *re.findall(r"`(annotator [^`]+)`", README)]
    return sorted({line for line in typed if line.startswith("annotator ")})


def test_the_readme_has_commands() -> None:
    """R8: those that are looked for below are found, of every kind."""
    assert {"run", "simulate", "export", "info", "fetch"} <= {line.split()[1] for line in commands()}


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_is_one(line: str) -> None:
    """R8: the command line takes it, every option with its value; nothing is run."""
    _, name, *words = shlex.split(line)
    command = get_command(app).commands[name]  # type: ignore[attr-defined]  # a group has commands
    context = command.make_context(name, words)
    if name == "simulate":
        assert {value for key in ("preset",) if (value := context.params[key])} <= set(presets())


def test_what_the_readme_runs_is_there() -> None:
    """R8: each benchmark is a module, each `make` a target."""
    modules = set(re.findall(r"python -m ([\w.]+)", README))
    targets = set(re.findall(r"^make (\w+)|`make (\w+)`", README, re.M))
    assert len(modules) > 3
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    assert {"".join(target) for target in targets} <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert targets
