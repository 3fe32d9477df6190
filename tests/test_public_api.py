"""The names that others rely on: exported ones, plug-ins, commands. Who changes one says so in the changelog."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command

import annotator
from annotator import registry
from annotator.cli import app

ROOT = Path(__file__).parents[1]
EXPORTED = ["Config", "Project", "Session", "__version__", "simulate"]
PLUGINS = {
    "source": "digits folder arrays idx zip fashion-mnist",
    "encoder": "auto pixels hog imagenet keras-application autoencoder contrastive lstm gan finetuned",
    "model": (
        "label-spreading label-propagation sklearn-label-spreading sklearn-label-propagation encoder-classifier vote "
        "kernel-ridge logistic-regression svc knn random-forest self-training mlp cnn lstm"
    ),
    "strategy": "entropy margin least-confidence diverse-margin graph-change graph-coverage balance random "
    "typical herding recommended",
    "exporter": "csv jsonl npz folders",
}
"""Kind -> names in the order of help texts and menus. A config on disk holds them: they are there for good."""
COMMANDS = {"run", "simulate", "compare", "export", "verify", "info", "fetch"}
ESTIMATORS = ("LabelPropagation", "LabelSpreading")


def test_the_exported_names_are_these() -> None:
    """No more and no fewer."""
    assert annotator.__all__ == EXPORTED


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_name_can_be_imported(name: str) -> None:
    """`from annotator import NAME` works, though nothing is loaded before it is used."""
    scope: dict[str, object] = {}
    exec(f"from annotator import {name}", scope)
    assert scope[name] is getattr(annotator, name)


def test_nothing_else_is_given_out() -> None:
    """A name that is not there is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="has no attribute 'Store'"):
        _ = annotator.Store  # type: ignore[attr-defined]  # on purpose


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Help texts and workers start at once."""
    heavy = ("numpy", "scipy", "sklearn", "pandas", "numba", "sqlalchemy", "streamlit", "keras", "tensorflow")
    code = f"import sys, annotator; print([name for name in {heavy!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", PLUGINS)
def test_the_names_of_plugins_are_these(kind: str) -> None:
    """In this order, and each of them loads."""
    names = PLUGINS[kind].split()
    assert list(registry.BUILT_IN) == list(PLUGINS)
    assert [name for name in registry.BUILT_IN[kind] if not name.endswith(":*")] == names
    for name in names:
        assert registry.load(kind, name).__module__.startswith("annotator.")


def test_the_family_of_scikit_learns_classifiers_is_there() -> None:
    """`sklearn:NAME` stands for any of them."""
    assert registry.load("model", "sklearn:GaussianNB").__doc__


def test_the_commands_are_these() -> None:
    """What stands in scripts goes on working."""
    assert set(get_command(app).commands) == COMMANDS  # type: ignore[attr-defined]  # a group has commands


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_estimators_are_where_programs_import_them(name: str) -> None:
    """The README's import line."""
    assert getattr(import_module("annotator.models.label_spreading"), name).__name__ == name


def test_types_are_given_to_others() -> None:
    """The package says that it is typed, and mypy reads a program that uses it (see pyproject.toml)."""
    assert Path(annotator.__file__).with_name("py.typed").is_file()
    assert "tests/typing_user.py" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_version_is_the_distributions() -> None:
    """`annotator --version` prints what the package and its distribution say."""
    ended = subprocess.run([sys.executable, "-m", "annotator", "--version"], check=True, capture_output=True, text=True)
    assert ended.stdout == f"annotator {annotator.__version__}\n"
    assert version("annotator") == annotator.__version__
