"""What a person chooses, checked before anything is made of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from annotator.config import Config, presets
from annotator.errors import ConfigError
from annotator.project import Project
from tests import storing

UNUSABLE = {
    "encoder": {"encoder": "pixels", "encoder_parameters": {"max_dimensions": -1}},
    "model": {"model": "label-spreading", "model_parameters": {"alpha": 7}},
    "strategy": {"strategy": "herding", "strategy_parameters": {"colour": "red"}},
    "family": {"model": "sklearn:NoSuchEstimator"},
}


def test_a_config_makes_no_plugin() -> None:
    """Neither a preset nor a config with parameters brings in what it names: the first page needs none of it."""
    code = (
        "import sys; from annotator.config import Config, presets; presets(); "
        "Config(model='vote', encoder='imagenet', strategy='recommended', model_parameters={'weight': 0.5}); "
        "heavy = {'sklearn', 'scipy', 'numba', 'numpy', 'pandas', 'keras', 'PIL'} & set(sys.modules); "
        "sys.exit(f'{heavy} were imported' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("wrong", UNUSABLE)
def test_parameters_are_refused_where_a_project_is_made(wrong: str, tmp_path: Path) -> None:
    """Before an image is read, and nothing is left behind."""
    config = replace(Config(limit=30, n_neighbors=3), **UNUSABLE[wrong])  # type: ignore[arg-type]  # fields of Config
    with pytest.raises(ConfigError):
        Project.create(tmp_path / "project", config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", UNUSABLE)
def test_parameters_are_refused_where_a_project_is_changed(wrong: str, tmp_path: Path) -> None:
    """The project goes on as it was."""
    project = Project.create(tmp_path / "project", Config(limit=30, encoder="pixels", n_neighbors=3))
    before = project.config
    with pytest.raises(ConfigError):
        project.change(**UNUSABLE[wrong])
    assert project.config == before
    assert storing.config(project.store)[0] == 1
    project.close()


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 1 << 63}, {"n_neighbors": 0}, {"n_neighbors": 10**20}])
def test_a_number_that_nothing_can_hold_is_refused(wrong: dict[str, int]) -> None:
    """Before a file is made: the database, NumPy's generators and its files refuse it with errors of their own."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Config(**wrong)  # type: ignore[arg-type]  # fields of Config


def test_a_stored_config_is_the_same_again() -> None:
    """Through JSON's lists and back; what is not known is named."""
    for preset in presets().values():
        stored = asdict(preset.config) | {"classes": list(preset.config.classes)}
        assert Config.from_json(stored) == preset.config
    with pytest.raises(ConfigError, match=r"No setting colour\. There are: .*batch_size"):
        Config.from_json({"colour": "red"})


def test_a_project_of_an_earlier_recommended_still_asks(projects: Path) -> None:
    """Its parameters weighed another strategy's doubt and counted labels in all: they are left out, others refused."""
    config = Config(limit=60, encoder="pixels", strategy="recommended", initial="12", batch_size=4)
    project = Project.create(projects / "kept", config)
    for stored in ({"weight": "margin", "margin_from": 500}, {"margin_from": 500}):
        storing.record_config(project.store, asdict(project.config) | {"strategy_parameters": stored})
    project.close()
    again = Project(projects / "kept")
    session = again.session("ada")
    session.advance()
    assert {card.strategy for card in session.remaining} == {"herding"}
    assert again.config.strategy_parameters == {}
    with pytest.raises(ConfigError):
        again.change(strategy_parameters={"margin_from": 500})
    again.close()
