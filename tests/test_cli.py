"""The command line as it is typed: what it prints, what it writes, and how it fails: one line, exit code 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from annotator import registry
from annotator.cli import app, main
from annotator.config import Config, presets
from annotator.project import Project
from annotator.projects import find_project, list_projects
from annotator.simulate import simulate
from tests.conftest import PhotoFolder

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # a group has commands
DIGITS = ("--source", "digits", "--encoder", "pixels", "--limit", "60", "--batch-size", "5", "--rounds", "2")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]
Simulated = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function (words...) -> what `annotator words...` does, in this process."""

    def command(*words: str | Path) -> Ended:
        monkeypatch.setattr("sys.argv", ["annotator", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return command


@pytest.fixture
def simulated(run: Run, tmp_path: Path) -> Simulated:
    """A function (words...) -> the JSON of `annotator simulate words...`."""

    def simulation(*words: str | Path) -> dict[str, Any]:
        path = tmp_path / "rounds.json"
        ended = run("simulate", *words, "--json", path)
        assert (ended.code, ended.err) == (0, "")
        written: dict[str, Any] = json.loads(path.read_text())
        return written

    return simulation


def asked(report: dict[str, Any]) -> list[int]:
    return [row for each in report["rounds"] for row in each["asked_rows"]]


def timeless(value: Any) -> Any:  # Any: JSON
    """Without what a clock says."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if not key.endswith("_seconds")}
    return [timeless(part) for part in value] if isinstance(value, list) else value


# ---- simulate


def test_the_same_command_twice_gives_the_same_json(simulated: Simulated) -> None:
    """All but the seconds; another seed asks other images."""
    words = (*DIGITS, "--initial", "20", "--seed", "3", "--error-rate", "0.2", "--strategy", "margin")
    first = simulated(*words)
    assert timeless(simulated(*words)) == timeless(first)
    assert asked(simulated(*words, "--seed", "4")) != asked(first)


def test_each_round_is_a_line_and_an_entry(run: Run, tmp_path: Path) -> None:
    """Printed while it runs, written at the end: rounds in order, labels counted, the config as it was used."""
    ended = run("simulate", *DIGITS, "--initial", "first:10", "--json", tmp_path / "rounds.json")
    lines = ended.out.splitlines()
    assert lines[0] == "imported 60 of 60 images, 0 set aside"
    assert lines[1] == "10 neighbours of each image, exact"
    assert [line.split()[0] for line in lines[2:]] == ["round", "1", "2", "end"]
    report = json.loads((tmp_path / "rounds.json").read_text())
    assert [(row["round"], row["n_labeled"]) for row in report["rounds"]] == [(1, 10), (2, 15)]
    assert report["final"]["n_labeled"] == 20
    assert (report["config"]["encoder"], report["config"]["initial"]) == ("pixels", "first:10")


ROUND_KEYS = (
    "round n_labeled n_unlabeled accuracy confusion asked_rows asked_predicted asked_true accuracy_test accuracy_audit"
    " macro_f1 weighted_f1 per_class fit_seconds query_seconds"
).split()


def test_each_round_holds_the_documented_figures(simulated: Simulated) -> None:
    """Every key is there; per class precision, recall, F1 and support; the audit's figure with its interval."""
    report = simulated(*DIGITS, "--audit-share", "0.4", "--rounds", "3")
    newest = report["rounds"][-1]
    assert set(ROUND_KEYS) <= set(newest)
    assert {"precision", "recall", "f1", "support"} <= set(newest["per_class"]["7"])
    assert set(newest["accuracy_audit"]) == {"accuracy", "low", "high", "n"}
    assert newest["measured_on"] == "test"


@pytest.mark.parametrize(
    ("initial", "n_labeled"), [("none", 0), ("7", 7), ("first:12", 12), ("known", 60), ("first:900", 60)]
)
def test_labels_to_begin_with(initial: str, n_labeled: int, simulated: Simulated) -> None:
    """None, a number drawn at random, the first so many, or all that are known."""
    report = simulated(*DIGITS, "--initial", initial)
    assert [*report["rounds"], report["final"]][0]["n_labeled"] == n_labeled


def test_the_order_seed_is_the_pools_order(simulated: Simulated) -> None:
    """The same is the same; another seed shuffles other images to the front."""
    words = (*DIGITS, "--initial", "first:5", "--order-seed")
    first, again, other = ([row["asked_true"] for row in simulated(*words, seed)["rounds"]] for seed in ("0", "0", "1"))
    assert first == again != other


def test_a_model_and_its_parameters_are_used(simulated: Simulated) -> None:
    """Text from the command line becomes what the parameter needs, and moves the figures."""
    words = (*DIGITS, "--initial", "20", "--strategy", "random", "--seed", "1", "--model", "label-spreading")
    low, high = (simulated(*words, "--model-parameter", f"alpha={alpha}") for alpha in (0.05, 0.99))
    assert high["config"]["model_parameters"] == {"alpha": "0.99"}
    assert asked(low) == asked(high)
    assert low["final"]["pool_entropy"] != high["final"]["pool_entropy"]


def test_an_oracle_that_errs_teaches_less(simulated: Simulated) -> None:
    """At an error rate of 1 not one answer is the truth, and the model is about as good as chance."""
    words = (*DIGITS, "--initial", "none", "--batch-size", "25")
    right, wrong = (simulated(*words, "--error-rate", rate)["final"]["accuracy_test"] for rate in ("0", "1"))
    assert wrong < 0.25 < 0.5 < right


def test_a_folder_of_class_folders_is_simulated(simulated: Simulated, photo_folder: PhotoFolder) -> None:
    """Its sub-folders are the truth that the oracle answers with."""
    path = photo_folder(12, ("circle", "square"))
    source = ("--source", "folder", "--source-parameter", f"path={path}")
    report = simulated(*source, "--source-parameter", "classes_from_folders=yes", "--batch-size", "4", "--rounds", "2")
    assert [row["n_labeled"] for row in report["rounds"]] == [0, 4]
    assert set(report["final"]["per_class"]) == {"circle", "square"}


def test_a_simulation_can_be_kept(run: Run, projects: Path) -> None:
    """With --projects the project stays; a second one gets a folder of its own."""
    for _ in range(2):
        assert run("simulate", *DIGITS, "--projects", projects).code == 0
    assert sorted(found.folder.name for found in list_projects(projects)) == ["simulation", "simulation-2"]
    assert run("info", "simulation-2", "--projects", projects).code == 0


def test_a_preset_can_be_varied(simulated: Simulated) -> None:
    """What is typed replaces the preset's own; the rest of it stays."""
    report = simulated("--preset", "digits-reference", "--rounds", "1", "--strategy", "random", "--limit", "100")
    assert (report["config"]["strategy"], report["config"]["initial"]) == ("random", "first:40")
    assert [row["n_labeled"] for row in report["rounds"]] == [40]


# ---- compare


def test_systems_are_compared_from_the_command_line(run: Run, tmp_path: Path) -> None:
    """Lists by commas or repeated, a system beside them; a line for each cell, table, files; again it runs nothing."""
    lists = "--encoder pixels --strategy random --pool 60 --budgets 5,10 --batches 5:10 --seeds 1 --workers 2"
    words = ["compare", "--out", str(tmp_path / "out"), *lists.split(), "--system", "pixels/knn/margin"]
    words += ["--model-parameter", "knn.n_neighbors=3"]
    first, again = run(*words), run(*words)
    assert (first.code, first.err) == (0, "")
    assert "2 cells: 2 systems, 1 seeds" in first.out
    assert "pixels/knn/margin, seed 0: " in first.out
    assert {"table.md", "table.csv", "curves.csv", "comparison.json", "curves.svg"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in first.out
    assert table in again.out
    assert ", seed 0: " not in again.out


# ---- export and info


@pytest.fixture
def project(projects: Path) -> Path:
    """Ten digits labeled by an oracle."""
    config = Config(name="My digits", source="digits", limit=60, encoder="pixels", batch_size=5, rounds=2)
    list(simulate(config, projects / "my-digits"))
    return projects / "my-digits"


@pytest.mark.parametrize("name", registry.names("exporter"))
def test_each_format_is_written_by_name_and_by_ending(name: str, run: Run, project: Path, tmp_path: Path) -> None:
    """Both give the same counts; the line that loads it is printed."""
    suffix = registry.create("exporter", name).suffix
    by_ending = run("export", "my-digits", "--to", tmp_path / f"one{suffix}", "--projects", project.parent)
    by_name = run("export", project, "--to", tmp_path / "two", "--format", name)
    for ended, file in ((by_ending, f"one{suffix}"), (by_name, "two")):
        assert (ended.code, ended.err) == (0, "")
        assert f"{tmp_path / file}: 10 labels, 0 predictions, 10 rows." in ended.out
        assert "Load it with: import " in ended.out
        assert (tmp_path / file).stat().st_size > 0


def test_predictions_are_exported_on_request(run: Run, project: Path, tmp_path: Path) -> None:
    """One row for every image: a label, or the model's class."""
    ended = run("export", project, "--to", tmp_path / "all.jsonl", "--predictions")
    assert "10 labels, 50 predictions, 60 rows." in ended.out
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 60


def test_info_names_everything_there_is(run: Run, project: Path) -> None:
    """Projects with their progress, presets, and each plug-in with its line of help."""
    ended = run("info", "--projects", project.parent)
    assert "my-digits: 10 labels of 60 images" in ended.out
    for preset in presets():
        assert f"  {preset}: " in ended.out
    for kind in registry.BUILT_IN:
        for name in registry.names(kind):
            assert f"  {name}: {registry.summary(kind, name)}" in ended.out


def test_info_says_how_a_project_stands(run: Run, project: Path) -> None:
    """By its name, its folder's name or its path: images, classes, model, store, and the newest sentence."""
    said = ("imported 60 of 60 images", "classes: '0', '1'", "label-spreading on pixels", "intact", "10 labels →")
    for name in ("My digits", "my-digits", project):
        ended = run("info", name, "--projects", project.parent)
        assert ended.code == 0
        assert [words for words in said if words not in ended.out] == []


def test_a_project_is_found_by_its_folder_first(run: Run, projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: then by its name; a text that fits two is a question, and the only one of a name is taken."""
    small = Config(name="photos", source="digits", limit=20, encoder="pixels")
    for folder, name in (("photos", "photos"), ("photos-2", "photos"), ("x", "photos-2"), ("y", "mine")):
        Project.create(projects / folder, replace(small, name=name)).close()
    for text, found in {"photos": "photos", "photos-2": "photos-2", "mine": "y", str(projects / "x"): "x"}.items():
        assert find_project(projects, text).name == found
    (projects / "photos").rename(projects / "first")
    ended = run("info", "photos", "--projects", projects)
    assert ended.code == 2
    assert "'photos' fits 2 projects" in ended.err
    assert all(str(projects / folder) in ended.err for folder in ("first", "photos-2"))
    shutil.copytree(projects / "y", projects.parent / "x")
    monkeypatch.chdir(projects.parent)
    assert "'x' fits 2 projects" in run("info", "x", "--projects", projects).err
    monkeypatch.chdir(projects)
    assert find_project(projects, "x").samefile(projects / "x")


def test_bad_files_are_listed_with_their_reasons(run: Run, projects: Path, photo_folder: PhotoFolder) -> None:
    """At the import and later: three of fifteen set aside, each with what is wrong with it."""
    path = photo_folder(12, ("circle", "square"))
    cut = (path / "circle" / "0000.jpg").read_bytes()
    (path / "circle" / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (path / "circle" / "empty.png").write_bytes(b"")
    (path / "square" / "page\n.jpg").write_bytes(b"<html>")
    words = ("--source", "folder", "--source-parameter", f"path={path}", "--source-parameter", "classes_from_folders=1")
    imported = run("simulate", *words, "--rounds", "1", "--projects", projects)
    later = run("info", "simulation", "--projects", projects)
    for ended in (imported, later):
        assert "imported 12 of 15 images, 3 set aside" in ended.out
        assert "'circle/cut.jpg': IMG_TRUNCATED: " in ended.out
        assert "'circle/empty.png': IMG_EMPTY: " in ended.out
        assert r"'square/page\n.jpg': IMG_FORMAT: " in ended.out


# ---- help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_and_is_shown(command: str, run: Run) -> None:
    """Nobody has to guess what a command or an option does."""
    ended = run(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert COMMANDS[command].help
    for parameter in COMMANDS[command].params:
        assert parameter.help, parameter.name
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in ended.out


def test_without_a_command_there_is_help(run: Run) -> None:
    """All commands are named."""
    ended = run()
    assert [command for command in COMMANDS if command not in ended.out + ended.err] == []


# ---- errors


MISTAKES = {
    "simulate --strategy magrin": "No query strategy 'magrin'. Choose from: ",
    "simulate --model nothing": "No model 'nothing'. Choose from: ",
    "simulate --encoder nothing": "No encoder 'nothing'. Choose from: ",
    "simulate --source nothing": "No source 'nothing'. Choose from: ",
    "simulate --preset nothing": "No preset 'nothing'. Choose from: ",
    "simulate --source folder": "The source 'folder' needs: path.",
    "simulate --source-parameter held_out": "Write a parameter as NAME=VALUE",
    "simulate --source-parameter held_out=many": "digits.held_out must be a",
    "simulate --source-parameter colour=red": "has no parameter 'colour'",
    "simulate --encoder-parameter colour=red": "has no parameter 'colour'",
    "simulate --model-parameter alfa=1": "has no parameter 'alfa'",
    "simulate --model-parameter alpha=much": "label-spreading.alpha must be a",
    "simulate --model-parameter alpha=7": "alpha must lie between 0 and 1",
    "simulate --strategy-parameter colour=red": "has no parameter 'colour'",
    "simulate --initial last:3": "initial must be",
    "simulate --audit-share 1.5": "audit_share",
    "simulate --error-rate 2": "--error-rate",
    "simulate --batch-size 0": "--batch-size",
    "simulate --limit few": "--limit",
    "simulate --order-seed -1": "order seed",
    "simulate --colour red": "--colour",
    "simulate --json missing/rounds.json": "There is no folder missing",
    "simulate --json .": "--json",
    "simulate --source folder --source-parameter path=missing": "It is not there",
    "simulate --source folder --source-parameter path=empty": "No images in",
    "simulate --source folder --source-parameter path=flat": "names no classes",
    "export nothing --to x.csv": "No project 'nothing' under ",
    "export kept --to x.txt": "x.txt does not say its format",
    "export kept --to x --format word": "No exporter 'word'",
    "export kept --to missing/x.csv": "missing/x.csv",
    "export kept": "--to",
    "info nothing": "No project 'nothing' under ",
    "fetch nothing": "No data set 'nothing'",
    "compare --out new --strategy magrin": "No query strategy 'magrin'. Choose from: ",
    "compare --out new --encoder hog,nothing": "No encoder 'nothing'. Choose from: ",
    "compare --out new --model vote --model nothing": "No model 'nothing'. Choose from: ",
    "compare --out new --source nothing": "No source 'nothing'. Choose from: ",
    "compare --out new --system hog/vote": "ENCODER/MODEL/STRATEGY",
    "compare --out new --batches 10": "SIZE:LABELS",
    "compare --out new --budgets many": "Write numbers with commas",
    "compare --out new --model-parameter alpha=0.5": "Say whose parameter it is",
    "compare --out new --model-parameter vote.colour=red": "Parameters of the model 'vote' are given",
    "compare --out new --target 85": "target",
    "compare": "--out",
    "run --port 99999": "--port",
    "run --root missing": "--root missing is not a folder",
    "dance": "dance",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    mistake: str, run: Run, tmp_path: Path, photo_folder: PhotoFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, with what is wrong and what there is instead; no round has run, and no project is left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    photo_folder(3).rename(tmp_path / "flat")
    small = Config(name="kept", source="digits", limit=20, encoder="pixels")
    Project.create(tmp_path / "projects" / "kept", small).close()
    words = mistake.split()
    if words[0] == "simulate":
        words += ["--limit", "20"] if "--limit" not in words else []
        words += ["--encoder", "pixels"] if "--encoder" not in words else []
    ended = run(*words, *(["--projects", "projects"] if words[0] not in ("fetch", "dance") else []))
    assert ended.code == 2
    assert ended.err.startswith("annotator: ")
    assert len(ended.err.splitlines()) == 1
    assert MISTAKES[mistake] in ended.err
    assert "\n    1 " not in ended.out
    assert [found.folder.name for found in list_projects(tmp_path / "projects")] == ["kept"]


def test_a_projects_folder_under_a_file_is_one_line(run: Run, tmp_path: Path) -> None:
    """What cannot be written says so, and where else to go."""
    (tmp_path / "file").write_text("in the way")
    ended = run("simulate", *DIGITS, "--projects", tmp_path / "file" / "projects")
    assert ended.code == 2
    assert "Choose another --projects folder" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(("words", "code"), [(("info", "nothing"), 2), (("simulate", "--help"), 0)])
def test_the_exit_code_reaches_the_shell(words: tuple[str, ...], code: int) -> None:
    """As a process of its own: 2 for bad input with one line, 0 for help."""
    command = [sys.executable, "-m", "annotator", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code
    assert len(ended.stderr.splitlines()) == (1 if code else 0)
    assert code or "--error-rate" in ended.stdout


def test_a_scripted_persons_seconds_are_printed(run: Run, simulated: Simulated) -> None:
    """Each round says what a person would have spent, by the times given, and what a minute brought."""
    words = (*DIGITS, "--look-ms", "1000", "--repeat-ms", "1000", "--confirm-ms", "1000", "--change-ms", "1000")
    ended = run("simulate", *words, "--batch-order", "alike", "--confirm-share", "0.3")
    assert "person s points/min" in ended.out
    report = simulated(*words, "--confirm-share", "0.3")
    assert [row["seconds"] for row in report["rounds"]] == [row["n_labeled"] for row in report["rounds"]]
    assert report["config"]["confirm_share"] == 0.3
