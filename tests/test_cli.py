"""The command line: every option has help, errors are one line and exit with 2, what it writes can be read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from typer.main import get_command

from annotator.cli import app, main
from tests.conftest import PhotoFolder

SMALL = ["--source", "digits", "--limit", "150", "--encoder", "pixels", "--batch-size", "6", "--rounds", "2"]


def annotator(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command here; its exit code."""
    monkeypatch.setattr("sys.argv", ["annotator", *map(str, arguments)])
    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def simulated(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str | Path) -> dict[str, Any]:
    assert annotator(monkeypatch, "simulate", *arguments, "--json", path) == 0
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if not key.endswith("_seconds")}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def test_every_option_of_every_command_has_help() -> None:
    """And so has every command and argument."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]  # a group
        assert command.help, name
        for option in command.params:
            assert getattr(option, "help", "") or option.name in ("help", "install_completion"), (name, option.name)


def test_a_simulation_prints_a_row_a_round_and_writes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Config, rounds and what holds at the end; each round with the keys that engineers read."""
    report = simulated(monkeypatch, tmp_path / "rounds.json", *SMALL, "--initial", "20", "--strategy", "margin")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[2:]] == ["1", "2", "end"]
    assert report["config"]["strategy"] == "margin"
    assert [row["n_labeled"] for row in report["rounds"]] == [20, 26]
    assert report["final"]["n_labeled"] == 32
    keys = "round n_labeled n_unlabeled accuracy confusion asked_rows asked_predicted asked_true accuracy_test"
    keys += " accuracy_audit macro_f1 weighted_f1 per_class fit_seconds query_seconds"
    for row in report["rounds"]:
        assert set(keys.split()) <= set(row)
        assert len(row["asked_rows"]) == 6


def test_the_same_seed_gives_the_same_rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Apart from the seconds; another seed gives others."""
    runs = [simulated(monkeypatch, tmp_path / f"{n}.json", *SMALL, "--seed", seed) for n, seed in enumerate("001")]
    assert without_times(runs[0]) == without_times(runs[1])
    assert without_times(runs[0]["rounds"]) != without_times(runs[2]["rounds"])


@pytest.mark.parametrize(
    ("initial", "n_labeled"),
    [("none", 0), ("15", 15), ("first:7", 7), ("known", 150)],
    ids=["none", "n", "first", "all"],
)
def test_labels_can_be_given_at_the_start(
    initial: str, n_labeled: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """None, some at random, the first ones, or all that the source knows."""
    report = simulated(monkeypatch, tmp_path / "rounds.json", *SMALL, "--initial", initial)
    first = report["rounds"][0] if report["rounds"] else report["final"]
    assert first["n_labeled"] == n_labeled


def test_an_oracle_that_errs_makes_a_worse_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half of the answers wrong: the final accuracy is lower."""
    options = [*SMALL, "--rounds", "8"]
    right = simulated(monkeypatch, tmp_path / "right.json", *options)
    wrong = simulated(monkeypatch, tmp_path / "wrong.json", *options, "--error-rate", "0.5")
    assert wrong["final"]["accuracy_test"] < right["final"]["accuracy_test"]


def test_model_parameters_reach_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As text on the command line, as numbers in the model; other parameters give another model."""
    options = [*SMALL, "--initial", "20", "--model", "sklearn-label-spreading"]
    wide = simulated(monkeypatch, tmp_path / "wide.json", *options, "--model-parameter", "gamma=0.01")
    narrow = simulated(monkeypatch, tmp_path / "narrow.json", *options, "--model-parameter", "gamma=64")
    assert wide["rounds"][0]["accuracy"] != narrow["rounds"][0]["accuracy"]


def test_a_simulation_can_be_kept_exported_and_looked_at(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    photo_folder: PhotoFolder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder with three bad files, played, is a project: info lists the three, every format is written, counted."""
    folder = photo_folder(30, ("circle", "square"))
    for name, content in (("empty.png", b""), ("page.jpg", b"<html>"), ("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF")):
        (folder / name).write_bytes(content)
    projects = tmp_path / "projects"
    source = ["--source", "folder", "--source-parameter", f"path={folder}"]
    source += ["--source-parameter", "classes_from_folders=true"]
    assert (
        annotator(monkeypatch, "simulate", *source, "--batch-size", "5", "--rounds", "2", "--projects", projects) == 0
    )
    assert "imported 30 of 33 images, 3 set aside" in capsys.readouterr().out
    assert annotator(monkeypatch, "info", "simulation", "--projects", projects) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("empty.png", "IMG_EMPTY", "page.jpg", "IMG_FORMAT", "cut.jpg"))
    for ending in (".csv", ".jsonl", ".npz", ".zip"):
        target = tmp_path / f"labels{ending}"
        assert annotator(monkeypatch, "export", "simulation", "--to", target, "--projects", projects) == 0
        assert "10 labels, 0 predictions" in capsys.readouterr().out
    assert len(pandas.read_csv(tmp_path / "labels.csv")) == 10
    whole = tmp_path / "whole.jsonl"
    arguments = [
        "export",
        str(projects / "simulation"),
        "--to",
        str(whole),
        "--predictions",
        "--projects",
        str(projects),
    ]
    assert annotator(monkeypatch, *arguments) == 0
    assert len(whole.read_text().splitlines()) == 30


def test_info_lists_what_there_is(
    monkeypatch: pytest.MonkeyPatch, projects: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Presets and every plug-in with a line each."""
    assert annotator(monkeypatch, "info", "--projects", projects) == 0
    told = capsys.readouterr().out
    for name in ("digits-reference", "label-spreading", "entropy", "hog", "folder", "csv"):
        assert re.search(rf"^  {name}: \S", told, re.M), name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate", "--strategy", "magrin"], "No query strategy 'magrin'. Choose from: entropy"),
        (["simulate", "--model", "magic"], "No model 'magic'"),
        (["simulate", "--preset", "nothing"], "No preset 'nothing'"),
        (["simulate", "--model-parameter", "alfa=1"], "no parameter 'alfa'"),
        (["simulate", "--model-parameter", "alpha=much"], "must be a float"),
        (["simulate", "--model-parameter", "alpha"], "NAME=VALUE"),
        (["simulate", "--source", "folder", "--source-parameter", "path=/no/such/folder"], "/no/such/folder"),
        (["simulate", "--source", "folder"], "needs: path"),
        (["simulate", "--initial", "last:3"], "initial"),
        (["simulate", "--batch-size", "0"], "--batch-size"),
        (["simulate", "--bogus"], "--bogus"),
        (["simulate", "--json", "/no/such/folder/rounds.json"], "/no/such/folder"),
        (["export", "nothing", "--to", "labels.csv"], "No project 'nothing'"),
        (["export", "nothing", "--to", "labels.doc"], ".csv"),
        (["info", "nothing"], "No project 'nothing'"),
        (["run", "--root", "/no/such/folder"], "/no/such/folder"),
        (["juggle"], "juggle"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    projects: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It names what was wrong, on stderr, without a traceback."""
    if arguments[0] in ("export", "info"):
        arguments = [*arguments, "--projects", str(projects)]
    assert annotator(monkeypatch, *arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert told.startswith("annotator: ")


def test_an_empty_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to label in it, and it says so."""
    (tmp_path / "empty").mkdir()
    arguments = ["--source", "folder", "--source-parameter", f"path={tmp_path / 'empty'}"]
    assert annotator(monkeypatch, "simulate", *arguments) == 2
    assert "empty" in capsys.readouterr().err


def test_the_exit_code_reaches_the_shell() -> None:
    """As a process of its own: 2 for bad input, 0 for help, and the way by `python -m` is the same."""
    command = [sys.executable, "-m", "annotator"]
    bad = subprocess.run([*command, "simulate", "--strategy", "magrin"], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
    helped = subprocess.run([*command, "simulate", "--help"], capture_output=True, text=True, check=False)
    assert helped.returncode == 0
    assert "--error-rate" in helped.stdout
