"""Many simulations beside each other: what is run, what is not run again, and what is made of the curves."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator.cli_compare import run_and_print
from annotator.compare import cell, figures, plot, running, tables
from annotator.compare.figures import Reached, Spread
from annotator.compare.plan import Plan, System, cut, read_schedule, read_system, systems_of
from annotator.compare.running import Ran
from annotator.config import Config
from annotator.dataset import made_from, open_source, prepare
from annotator.errors import ConfigError
from annotator.exclusive import Exclusive
from annotator.pointer import CACHE
from annotator.project import Project
from annotator.simulate import Step, play
from annotator.sources.development import hold_out_last
from annotator.sources.fashion_mnist import FashionMnist

SMALL = Config(name="small", source="digits", limit=60, n_neighbors=5)
RANDOM, MARGIN = System("pixels", "label-spreading", "random"), System("pixels", "label-spreading", "margin")
BROKEN = System("pixels", "sklearn:RadiusNeighborsClassifier", "margin")
"""Finds nobody within a distance of 1 of a digit, which is an error of scikit-learn's."""
UNTRAINED = System("autoencoder", "label-spreading", "margin")
"""Cannot be trained on 60 images."""
CODE = "from annotator.cli import main; main()"


def plan(systems: Sequence[System] = (RANDOM, MARGIN), **changes: object) -> Plan:
    small: dict[str, object] = {"seeds": (0, 1), "budgets": (10, 20, 30), "schedule": (Step(5, 20), Step(10, 100))}
    return Plan(SMALL, tuple(systems), **{**small, **changes})  # type: ignore[arg-type]  # fields of Plan


def played(system: System, seed: int, curve: Sequence[tuple[int, float]]) -> Ran:
    """A cell as if it had been run: this curve, on held-out images."""
    cell = next(each for each in plan([system], seeds=(seed,)).cells())
    rounds = [{"n_labeled": labels, "accuracy_test": share, "accuracy": 0.0} for labels, share in curve]
    return Ran(cell, {"rounds": rounds, "seconds": 1.0, "version": "1"})


# ---- what is run


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of four systems, two of which fail; run once."""
    folder = tmp_path_factory.mktemp("compared") / "out"
    run_and_print(plan([RANDOM, MARGIN, BROKEN, UNTRAINED], seeds=(0,)), folder, workers=2)
    return folder


def test_a_cell_is_a_simulation_and_one_file(out: Path, projects: Path) -> None:
    """Its curve is that of the same config and schedule played here; no project is left behind."""
    written = [json.loads(path.read_text()) for path in (out / "cells").iterdir()]
    assert sorted(each["system"] for each in written) == [str(MARGIN), str(RANDOM)]
    own = next(each for each in written if each["system"] == str(MARGIN))
    project = Project.create(projects / "here", Config.from_json(own["config"]))
    rows = list(play(project, schedule=[Step(*step) for step in own["steps"]]))
    project.close()
    assert [row["n_labeled"] for row in own["rounds"]] == [row["n_labeled"] for row in rows] == [0, 5, 10, 15, 20, 30]
    assert [row["accuracy_test"] for row in own["rounds"]] == [row["accuracy_test"] for row in rows]
    assert [path.name for path in (out / "projects").iterdir()] == [".cache"]


def test_a_cell_that_another_comparison_plays_is_left_to_it(tmp_path: Path) -> None:
    """Its project is not touched; what it has written is taken as it is."""
    project, file = tmp_path / "cell-1", tmp_path / "file.json"
    (tmp_path / CACHE).mkdir()
    right = Exclusive(tmp_path / CACHE / "cell-1.lock")
    assert right.acquire()
    project.mkdir()
    stages: list[str] = []

    def report(stage: str, done: int, total: int) -> None:
        stages.append(stage)
        assert project.exists()
        file.write_text("{}")
        right.release()

    config = Config(source="digits", limit=30)
    arguments = {"config": asdict(config), "steps": [], "error_rate": 0.0, "project": str(project), "file": str(file)}
    assert cell.run(arguments, report) == {}
    assert stages == ["Waiting for another comparison"]
    assert (project.exists(), file.read_text()) == (True, "{}")


def test_what_fails_is_said_beside_what_does_not(out: Path) -> None:
    """A cell that fails, and an encoder that cannot be trained, each with its reason; the others are in the table."""
    failed = json.loads((out / "comparison.json").read_text())["failed"]
    assert list(failed) == [f"{BROKEN}, seed 0", f"{UNTRAINED}, seed 0"]
    assert "No neighbors found" in failed[f"{BROKEN}, seed 0"]
    assert "too small to train" in failed[f"{UNTRAINED}, seed 0"]
    table = (out / "table.md").read_text()
    assert [str(one) in table for one in (RANDOM, MARGIN)] == [True, True]
    assert "2 cells failed" in table


def test_table_and_files_have_what_the_cells_have(out: Path) -> None:
    """Of one run the mean is its accuracy at each budget; curves.csv has every fit."""
    report = json.loads((out / "comparison.json").read_text())
    for path in (out / "cells").iterdir():
        cell = json.loads(path.read_text())
        by_labels = {row["n_labeled"]: row["accuracy_test"] for row in cell["rounds"]}
        for budget in (10, 20, 30):
            mean, deviation = report["accuracy"][cell["system"]][str(budget)]
            assert (mean, deviation) == (pytest.approx(100 * by_labels[budget], abs=0.005), 0.0)
            assert f"{100 * by_labels[budget]:.1f} ± 0.0" in (out / "table.md").read_text()
    table = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [(row["strategy"], row["budget"]) for row in table[:4]] == [
        ("random", "10"),
        ("random", "20"),
        ("random", "30"),
        ("margin", "10"),
    ]
    curves = list(csv.DictReader((out / "curves.csv").read_text().splitlines()))
    assert [int(row["labels"]) for row in curves if row["strategy"] == "margin"] == [5, 10, 15, 20, 30]
    assert ElementTree.fromstring((out / "curves.svg").read_text()).tag.endswith("svg")
    assert report["measured_on"] == "test"


def test_macro_f1_stands_beside_accuracy_where_it_is_of_the_same_images(out: Path) -> None:
    """In the table, the CSV and the JSON; a cell that measured it on other images has none."""
    report = json.loads((out / "comparison.json").read_text())
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    for path in (out / "cells").iterdir():
        cell = json.loads(path.read_text())
        by_labels = {row["n_labeled"]: row["macro_f1"] for row in cell["rounds"]}
        mean, _ = report["macro_f1"][cell["system"]]["20"]
        assert mean == pytest.approx(100 * by_labels[20], abs=0.005)
        own = next(row for row in rows if "/".join(list(row.values())[:3]) == cell["system"] and row["budget"] == "20")
        assert float(own["macro_f1"]) == pytest.approx(by_labels[20], abs=1e-6)
        assert f"{100 * by_labels[20]:.1f} ± 0.0" in (out / "table.md").read_text().partition("macro F1")[2]
    elsewhere = {"rounds": [{"n_labeled": 5, "measured_on": "audit", "macro_f1": 0.5}]}
    assert figures.macro_f1_of(elsewhere, "test") == []


def test_a_run_goes_on_where_it_was(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the cell whose file is gone, or not whole, is run again; it comes out the same, however many run beside."""
    before = {path.name: path.read_text() for path in (out / "cells").iterdir()}
    gone = next(name for name in before if "margin" in name)
    (out / "cells" / gone).write_text(before[gone][:100])
    started: list[dict[str, str]] = []
    spawned = subprocess.Popen

    def spawn(*given: Any, **named: Any) -> Any:  # Any: as Popen takes them
        started.append(named["env"])
        return spawned(*given, **named)

    monkeypatch.setattr(subprocess, "Popen", spawn)
    found = running.run(plan(seeds=(0,)), out, workers=1)
    assert [environment.get("OMP_NUM_THREADS") for environment in started[-1:]] == ["1"]
    assert [(ran.cell.system, ran.is_new) for ran in found] == [(RANDOM, False), (MARGIN, True)]
    again = json.loads((out / "cells" / gone).read_text())
    timeless = ("seconds", "cpu_seconds", "peak_mb")
    rows = [[(row["n_labeled"], row["accuracy"]) for row in json.loads(text)["rounds"]] for text in (before[gone],)]
    assert [[(row["n_labeled"], row["accuracy"]) for row in again["rounds"]]] == rows
    assert {key for key in again if again[key] != json.loads(before[gone])[key]} <= {*timeless, "rounds"}


def test_ctrl_c_stops_children_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """One line, exit code 130, and no process goes on; what was finished before is not run again."""
    code = f"import signal; signal.signal({signal.SIGINT}, signal.default_int_handler); {CODE}"  # a shell may ignore it
    command = [sys.executable, "-c", code, "compare", "--out", str(tmp_path / "out"), "--encoder", "pixels"]
    words = ["--pool", "200", "--neighbors", "5", "--workers", "1", "--budgets", "20", "--batches", "1:20"]
    with subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not list((tmp_path / "out").glob("cells/*.json")):
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "annotator: stopped\n")
    assert len(list((tmp_path / "out" / "cells").glob("*.json"))) < 10
    assert list((tmp_path / "out" / "projects").glob("cell-*")) == []


# ---- the plan


def test_what_cannot_be_compared_is_refused_before_anything_runs() -> None:
    """Unknown names, parameters that a plug-in refuses or that belong to nobody, empty lists."""
    with pytest.raises(ConfigError, match="No encoder 'hogg'"):
        systems_of(["hogg"], ["vote"], ["margin"])
    with pytest.raises(ConfigError, match="ENCODER/MODEL/STRATEGY"):
        read_system("hog/vote")
    with pytest.raises(ConfigError, match="alpha must lie between 0 and 1"):
        plan(parameters={"model": {"label-spreading": {"alpha": "7"}}})
    with pytest.raises(ConfigError, match="'vote' are given"):
        plan(parameters={"model": {"vote": {}}})
    for changes in ({"budgets": ()}, {"seeds": ()}, {"budgets": (0,)}, {"target": 1.5}, {"schedule": ()}):
        with pytest.raises(ConfigError):
            plan(**changes)


def test_a_schedule_is_read_and_cut() -> None:
    """Up to the largest budget; numbers of labels rise."""
    schedule = read_schedule("10:200, 50:1_000,100:3000")
    assert schedule == (Step(10, 200), Step(50, 1000), Step(100, 3000))
    assert cut(schedule, 500) == (Step(10, 200), Step(50, 500))
    assert cut(schedule, 200) == (Step(10, 200),)
    for wrong in ("10", "10:x", "0:100", "10:200,20:100", "10:200,20:200", ""):
        with pytest.raises(ConfigError, match="schedule"):
            read_schedule(wrong)


def test_a_key_is_all_that_moves_a_curve() -> None:
    """Another seed, parameter, schedule or dataset is another cell; another name or key of a class is not."""
    first = plan().cells()[0]
    others = [
        replace(first, config=replace(first.config, seed=7)),
        replace(first, config=replace(first.config, model_parameters={"alpha": 0.5})),
        replace(first, steps=(Step(10, 30),)),
        replace(first, error_rate=0.1),
    ]
    assert len({first.key("a"), first.key("b"), *(other.key("a") for other in others)}) == 6
    assert replace(first, config=replace(first.config, name="other", class_keys={"1": "a"})).key("a") == first.key("a")


@pytest.mark.parametrize("changed", [{"batch_order": "alike"}, {"hidden_share": 0.5}])
def test_the_order_of_a_batch_is_in_the_key_where_it_changes_figures(changed: dict[str, Any]) -> None:
    """With an oracle that errs, and with images to confirm; else an order is only how the same answers come."""
    cell = Plan(Config(), systems_of(["pixels"], ["label-spreading"], ["margin"])).cells()[0]
    for error_rate, confirm_share, is_same in ((0.0, 0.0, True), (0.1, 0.0, False), (0.0, 0.5, False)):
        one = replace(cell, error_rate=error_rate, config=replace(cell.config, confirm_share=confirm_share))
        other = replace(one, config=replace(one.config, **changed))
        assert (one.key("a") == other.key("a")) == is_same


def test_seeds_share_one_training_of_the_encoder() -> None:
    """The recipe is the same for every seed; other encoder seeds, or splits, are other recipes."""
    assert len({str(cell.recipe) for cell in plan().cells()}) == 1
    assert len({str(cell.recipe) for cell in plan(encoder_seeds=(0, 3)).cells()}) == 2
    split = plan(reshuffle=True).cells()
    assert [cell.config.order_seed for cell in split] == [0, 0, 1, 1]
    assert len({str(cell.recipe) for cell in split}) == 2


def test_the_encoders_seed_is_the_runs_where_none_is_given() -> None:
    """So what was stored before there was one is what it was; it cannot be changed in a project."""
    assert Config(seed=3).recipe.seed == 3
    assert Config(seed=3, encoder_seed=0).recipe.seed == 0
    assert Config.from_json({"seed": 3}).recipe == Config(seed=3).recipe
    with pytest.raises(ConfigError, match="encoder_seed"):
        Config(encoder_seed=-1)


def test_batches_are_chosen_by_the_runs_seed_and_features_by_the_encoders(projects: Path) -> None:
    """Two seeds share a dataset and ask other images."""
    small = replace(SMALL, encoder="pixels", strategy="random", encoder_seed=0, batch_size=5, rounds=2)
    asked = {}
    for seed in (0, 1):
        project = Project.create(projects / f"of-{seed}", replace(small, seed=seed))
        asked[project.prepared.dataset.version, seed] = [row["asked_rows"] for row in list(play(project))[:-1]]
        with pytest.raises(ConfigError, match="encoder_seed cannot be changed"):
            project.change(encoder_seed=5)
        project.close()
    assert len({version for version, _ in asked}) == 1
    assert len({str(rows) for rows in asked.values()}) == 2


# ---- the development split


def test_a_development_split_never_shows_a_test_image() -> None:
    """The pool and what is held out are both of the pool; together they are it, in its order."""
    whole = FashionMnist()
    assert whole.held_out is not None
    split = hold_out_last(whole, 500)
    assert split.held_out is not None
    assert [*split.ids, *split.held_out.ids] == list(whole.ids)
    assert len(split.held_out.ids) == 500
    assert not set(whole.held_out.ids) & {*split.ids, *split.held_out.ids}
    assert split.array is not None
    assert split.held_out.array is not None
    assert whole.array is not None
    assert np.array_equal(np.concatenate([split.array, split.held_out.array]), whole.array)
    with pytest.raises(ConfigError, match="leaves none"):
        hold_out_last(whole, len(whole.ids))


def test_a_recipe_can_hold_out_a_development_set(tmp_path: Path) -> None:
    """After the order seed and before the limit; the dataset measures on it, and without one it is what it was."""
    recipe = replace(SMALL, encoder="pixels", order_seed=3, development=40, limit=60).recipe
    order = list(open_source(replace(recipe, development=None, limit=None)).ids)
    dataset = prepare(recipe, tmp_path / "cache").dataset
    assert list(dataset.ids) == order[:60]
    assert dataset.held_out is not None
    assert list(dataset.held_out.ids) == order[-40:]
    assert "development" not in made_from(replace(recipe, development=None))
    with pytest.raises(ConfigError, match="development"):
        Config(development=0)


# ---- the figures


def test_accuracy_at_a_budget_is_that_of_the_last_fit() -> None:
    """With at most so many labels; none before the curve begins or after it ends."""
    curve = [(10, 0.5), (20, 0.6), (40, 0.8)]
    assert [figures.accuracy_at(curve, n) for n in (5, 10, 19, 20, 39, 40, 41)] == [None, 0.5, 0.5, 0.6, 0.6, 0.8, None]


def test_the_area_is_the_mean_over_the_logarithm_of_labels() -> None:
    """A straight line in log labels has its middle as its area; a curve that covers less has none."""
    line = [(10, 0.2), (100, 0.5), (1000, 0.8)]
    assert figures.area(line, 10, 1000) == pytest.approx(0.5)
    assert figures.area(line, 10, 100) == pytest.approx(0.35)
    assert figures.area(line, 100, 100) == 0.5
    assert figures.area(line, 5, 1000) is None
    assert figures.area(line, 10, 2000) is None


def test_labels_to_a_target_lie_between_two_fits() -> None:
    """The first time it is reached; none where it never is."""
    curve = [(10, 0.5), (20, 0.7), (40, 0.6), (80, 0.9)]
    assert [figures.labels_to(curve, share) for share in (0.4, 0.5, 0.6, 0.8, 0.95)] == [
        10,
        10,
        pytest.approx(15),
        pytest.approx(40 + 40 * 2 / 3),
        None,
    ]


def test_labels_saved_are_counted_pair_by_pair() -> None:
    """Random's labels to the target less the system's, of the same seed; the interval is of the pairs' mean."""
    own = {(0, 0): [(10, 0.5), (20, 0.9)], (1, 0): [(10, 0.5), (30, 0.9)], (2, 0): [(10, 0.5), (30, 0.9)]}
    random = {pair: [(10, 0.5), (100, 0.9)] for pair in own}
    saved = figures.saved(own, random, 0.9)
    assert saved is not None
    assert saved[:4] == pytest.approx((220 / 3, 70, 80, 3))
    assert not saved.is_least
    never = {pair: [(10, 0.5), (100, 0.8)] for pair in own}
    at_least = figures.saved(own, never, 0.9)
    assert at_least is not None
    assert at_least.is_least
    assert at_least.mean == pytest.approx(saved.mean)
    assert figures.saved(never, own, 0.9) is None
    assert figures.saved(own, {}, 0.9) is None


def test_a_line_is_the_mean_over_seeds() -> None:
    """Mean and sample deviation at each budget; nothing where one seed's curve is too short."""
    found = [
        played(RANDOM, 0, [(10, 0.5), (20, 0.6), (30, 0.7)]),
        played(RANDOM, 1, [(10, 0.7), (20, 0.8)]),
        played(MARGIN, 0, [(10, 0.5), (20, 0.9), (30, 0.9)]),
        played(MARGIN, 1, [(10, 0.5), (20, 0.9), (30, 0.9)]),
    ]
    random, margin = figures.lines(plan(target=0.75), found)
    assert random.accuracy[10] == pytest.approx((0.6, 0.1 * 2**0.5, 2))
    assert random.accuracy[30] is None
    assert random.to_target == Reached(Spread(15.0, 0.0, 1), 2)
    assert [n for n, _ in random.mean_curve] == [10, 20]
    assert random.saved is None
    assert margin.saved is not None
    assert margin.saved.is_least


def test_tables_and_plot_are_made_of_what_there_is() -> None:
    """A goal row; no number where there is none; the plot has a panel for each encoder, and colours for dark ground."""
    found = [
        played(System(encoder, "vote", strategy), seed, [(10, 0.5), (20, 0.6 + seed / 10)])
        for encoder in ("pixels", "hog")
        for strategy in ("random", "margin")
        for seed in (0, 1)
    ]
    compared = plan(list(dict.fromkeys(ran.cell.system for ran in found)))
    lines = figures.lines(compared, found)
    table = tables.text(compared, lines, found, {10: 72.0})
    assert "| **goal** " in table
    assert "65.0 ± 7.1" in table
    assert "not reached" in table
    drawn = plot.svg(lines, compared.budgets)
    names = [text.text for text in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"pixels", "hog", "vote, random", "vote, margin"} <= set(names)
    assert "prefers-color-scheme:dark" in drawn
    assert len(list(ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}polygon"))) == 4
