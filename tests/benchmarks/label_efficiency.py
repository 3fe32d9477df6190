"""Accuracy over labels of every encoder, with three models, random against margin: `annotator compare` with a protocol.

    python -m tests.benchmarks.label_efficiency [--data fashion-mnist|stamps|emoji|digits|rare|subgroups|twenty]
                                                [--quick | --test] [--seeds 5] [--workers 2] [--out FOLDER]
                                                [--only SYSTEM ... | --strategies random,recommended,...]

--strategies compares these on the encoder and the model that the app takes by default, `random` beside them: which
images to ask for, by macro F1 as well.

fashion-mnist   The pool is the first 50,000 of the 60,000 training images; measured on the last 10,000 of them, the
                development images, on which everything may be chosen. With --test the pool is all 60,000, measured on
                the official 10,000 test images: once for a recorded commit, when nothing is left to choose.
stamps, emoji   Colour pictures of Debian packages, see pictures.py. Each seed splits them anew into a pool and held-out
                images (about 30 %); nothing is chosen on either here.
digits          scikit-learn's 1,797 digits, from zero labels; split anew by each seed, a third held out.
rare            Fashion-MNIST with three classes (pullover, sneaker, bag) at 1 % each: 9,995 of the training images,
                measured on 200 others of each class. Macro F1 is what counts.
subgroups       The emoji in Unicode's subgroups: more than 60 small classes, split anew by each seed.
twenty          A pool of 20 stamps of four classes, drawn anew by each seed; measured on the other 310.

Labels come from the truth, a batch at a time: batches of 10 to 200 labels, of 50 to 1,000, of 100 to 3,000. No class
balance is given; the first batch is the app's own in every row, `random` too. One training of each encoder on the pool
without labels; the spread is over first batches and choices, on colour over splits as well. The network behind
`imagenet` was trained on other people's labeled photos: published rows on Fashion-MNIST use none.

--quick takes minutes: 2,000 of the 5,000 sampled images that come with the package, two seeds, 100 labels. A run that
is stopped goes on where it was. The last line is JSON: accuracy in % as [mean, standard deviation], null for a system
whose encoder is not known here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotator import registry
from annotator.cli_compare import run_and_print
from annotator.compare import figures, tables
from annotator.compare.plan import Plan, System, read_schedule, read_system
from annotator.config import QUICK_ENCODER, Config
from annotator.encoders.auto import BEST
from annotator.errors import ConfigError
from annotator.sources.fashion_mnist import FashionMnist
from tests.benchmarks.pictures import ARRANGE, pictures

Json = Any  # what `json` reads and writes

ENCODERS = ("pixels", "hog", "autoencoder", "contrastive", "imagenet", "imagenet+contrastive", "finetuned")
MODELS = ("label-spreading", "encoder-classifier", "vote")
STRATEGIES = ("random", "margin")
RECOMMENDED = ("vote", "recommended")
"""What the app does by default, on every encoder."""
GOALS = {10: 72.0, 50: 86.0, 100: 88.5, 200: 90.5, 500: 92.0, 1000: 93.0, 3000: 94.5}
"""Budget -> accuracy in %, of the best system on Fashion-MNIST's official test images."""
BUDGETS = (10, 50, 100, 200, 500, 1000, 3000)
DEVELOPMENT = 10_000
QUICK = {"limit": 2000, "development": 1000}
EPOCHS = {"autoencoder": 20, "contrastive": 200}
QUICK_EPOCHS = {"autoencoder": 3, "contrastive": 5}
"""At most, of a training; 200 is the default of `contrastive`."""
HELD_OUT = {"stamps": 213, "emoji": 366, "digits": 597, "subgroups": 300, "twenty": 310}
COLOUR = ("stamps", "emoji")
OTHERS = ("digits", "rare", "subgroups", "twenty")
OTHER_BUDGETS = (10, 20, 50, 100, 200, 300)
OTHER_SCHEDULE = "10:300"
BUDGETS_OF = {"twenty": (4, 8, 12, 16, 20), "rare": (10, 20, 50, 100, 200, 300, 500)}
SCHEDULE_OF = {"twenty": "4:20", "rare": "10:300,50:500"}
DEVELOPMENT_FROM = 50_000
RARE_CLASSES = (2, 7, 8)
N_RARE, N_COMMON, N_TESTED = 100, 1_385, 200
"""Images of each rare class and of each other one in the pool, and of each to measure on."""
TARGETS = {"stamps": 0.7, "emoji": 0.7, "rare": 0.7, "subgroups": 0.4, "twenty": 0.5}
WORSE_ON_COLOUR = ("pixels", "hog", "autoencoder")
AHEAD_FROM = 20


def systems(only: Sequence[str] = ()) -> tuple[list[System], list[System]]:
    """(those that can be run, those whose encoder is not known here), of all or of those named."""
    pairs = [*((model, strategy) for model in MODELS for strategy in STRATEGIES), RECOMMENDED]
    wanted = [System(encoder, *pair) for encoder in ENCODERS for pair in pairs]
    wanted = [one for one in wanted if not only or one.encoder in only or str(one) in only]
    wanted += [read_system(name) for name in only if name.count("/") == 2 and name not in map(str, wanted)]
    return [one for one in wanted if _is_known(one)], [one for one in wanted if not _is_known(one)]


def _is_known(system: System) -> bool:
    try:
        registry.check_name("encoder", system.encoder)
    except ConfigError:
        return False
    return True


def by_default(data: str, strategies: Sequence[str]) -> list[System]:
    """These strategies and `random`, with what the app takes by default for this pool."""
    encoder = QUICK_ENCODER if data == "twenty" else BEST
    return [System(encoder, RECOMMENDED[0], name) for name in dict.fromkeys(["random", *strategies])]


def plan_of(options: argparse.Namespace, known: Sequence[System]) -> Plan:
    """The protocol of this data set."""
    data, reshuffle = options.data, options.data not in ("fashion-mnist", "rare")
    budgets = BUDGETS_OF.get(data, BUDGETS if data == "fashion-mnist" else OTHER_BUDGETS)
    schedule = SCHEDULE_OF.get(data, "10:200,50:1000,100:3000" if data == "fashion-mnist" else OTHER_SCHEDULE)
    return Plan(
        base=Config(audit_share=0.0, **_source(options)),
        systems=tuple(known),
        parameters={"encoder": _trained(known, QUICK_EPOCHS if options.quick else EPOCHS)},
        seeds=tuple(range(2 if options.quick else options.seeds)),
        schedule=read_schedule(schedule),
        budgets=tuple(n for n in budgets if n <= (100 if options.quick else options.labels)),
        target=TARGETS.get(data, 0.85),
        reshuffle=reshuffle,
    )


def _source(options: argparse.Namespace) -> dict[str, Json]:
    """Fields of the config: the source, and what of it is the pool."""
    if options.data == "digits":
        return {"source": "digits", "source_parameters": {"held_out": 0}, "development": HELD_OUT["digits"]}
    if options.data == "rare":
        return {"source": "arrays", "source_parameters": {"path": str(rare(options.out).absolute())}}
    if options.data in ARRANGE:
        folder = pictures(options.data, options.out, options.packages)
        files = {"path": str(folder.absolute()), "classes_from_folders": True}
        return {"source": "folder", "source_parameters": files, "development": HELD_OUT[options.data]}
    changes: dict[str, Json] = {"development": None if options.test else DEVELOPMENT, "limit": options.pool}
    whole = {"source_parameters": {} if options.quick else {"full": True}}
    return {"source": "fashion-mnist"} | whole | changes | (QUICK if options.quick else {})


def rare(out: Path) -> Path:
    """A file of clothes with three rare classes, made where it is not there."""
    file = out / "rare.npz"
    if not file.exists():
        found = FashionMnist(full=True)
        assert found.array is not None
        assert found.truth is not None
        images, labels = found.array[:DEVELOPMENT_FROM], found.truth[:DEVELOPMENT_FROM]
        rng = np.random.default_rng(7)
        of_each = [rng.permutation(np.flatnonzero(labels == code)) for code in range(len(found.class_names))]
        tested = np.concatenate([rows[:N_TESTED] for rows in of_each])
        kept = [N_RARE if code in RARE_CLASSES else N_COMMON for code in range(len(of_each))]
        pool = rng.permutation(
            np.concatenate([rows[N_TESTED:][:most] for rows, most in zip(of_each, kept, strict=True)])
        )
        out.mkdir(parents=True, exist_ok=True)
        draft = out / f".{file.name}"
        np.savez(draft, images=images[pool], labels=labels[pool], x_test=images[tested], y_test=labels[tested])
        draft.rename(file)
    return file


def _trained(known: Sequence[System], epochs: dict[str, int]) -> dict[str, dict[str, Json]]:
    """Encoder -> its parameters, of those that are compared."""
    used = {system.encoder for system in known}
    return {encoder: {"max_epochs": most} for encoder, most in epochs.items() if encoder in used}


def commit() -> str:
    """The commit that runs, marked where files differ from it."""
    named = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return named.stdout.strip() or "unknown"


def goals_met(accuracy: Json) -> dict[str, Json]:
    """Budget -> {"goal", "best": the best system's name and accuracy, "met"}."""
    found = {}
    for budget, goal in GOALS.items():
        cells = {name: cell[str(budget)] for name, cell in accuracy.items() if cell and cell.get(str(budget))}
        if cells:
            best = max(cells, key=lambda name: cells[name][0])
            found[str(budget)] = {"goal": goal, "best": best, "accuracy": cells[best][0], "met": cells[best][0] >= goal}
    return found


def not_ahead(accuracy: Json) -> list[str]:
    """Where `imagenet` is not ahead of another encoder by more than the larger spread, from 20 labels on."""
    said = []
    for name, cells in accuracy.items():
        encoder, _, rest = name.partition("/")
        own = accuracy.get(f"imagenet/{rest}")
        if encoder not in WORSE_ON_COLOUR or not cells or not own:
            continue
        for budget, cell in cells.items():
            ahead = own[budget][0] - cell[0] if cell and own[budget] else None
            if ahead is not None and int(budget) >= AHEAD_FROM and ahead <= max(cell[1], own[budget][1]):
                said.append(f"{rest} at {budget}: imagenet {own[budget]}, {encoder} {cell}")
    return said


def main() -> int:
    """Run, print the table and what of the goals is met, and one line of JSON."""
    options = _options()
    if options.test and commit().endswith("-dirty"):
        print("The official figures are those of a recorded commit: commit first.")
        return 2
    known, unknown = systems(options.only)
    if options.strategies:
        known, unknown = by_default(options.data, options.strategies.split(",")), []
    for encoder in dict.fromkeys(system.encoder for system in unknown):
        print(f"{encoder}: no such encoder here, its rows are left out")
    try:
        plan = plan_of(options, known)
    except FileNotFoundError as error:
        print(f"{error.filename} is not there: see tests/benchmarks/pictures.py for the packages.")
        return 2
    goals = GOALS if options.data == "fashion-mnist" and not options.quick else None
    found = run_and_print(plan, options.out, options.projects, options.workers, goals)
    report = tables.report(plan, figures.lines(plan, found), found)
    report["accuracy"] = {str(one): report["accuracy"].get(str(one)) for one in [*known, *unknown]}
    report |= {"data": options.data, "quick": options.quick, "test": options.test, "commit": commit()}
    if goals:
        report["goals"] = goals_met(report["accuracy"])
        for budget, cell in report["goals"].items():
            met = "met" if cell["met"] else "missed"
            print(f"{int(budget):>5,} labels, goal {cell['goal']}: {met} with {cell['accuracy']} by {cell['best']}")
    if options.data in COLOUR:
        report["not_ahead"] = not_ahead(report["accuracy"])
        print("imagenet is ahead by more than the spread from 20 labels on", end="")
        print(", but for:" if report["not_ahead"] else ".", *report["not_ahead"], sep="\n  ")
    print(json.dumps(report))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=["fashion-mnist", *COLOUR, *OTHERS], default="fashion-mnist")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--development", action="store_true", help="measure on development images (what is done anyway)")
    how.add_argument("--test", action="store_true", help="measure on the official test images, of a recorded commit")
    parser.add_argument("--quick", action="store_true", help="2,000 images, two seeds, 100 labels: minutes")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="encoders, or ENCODER/MODEL/STRATEGY")
    parser.add_argument("--strategies", metavar="NAME,NAME", help="these on the default encoder and model")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=max(BUDGETS), help="the largest budget")
    parser.add_argument("--pool", type=int, help="the first so many images of the pool")
    parser.add_argument("--workers", type=int, help="cells at the same time; default: one for each core")
    parser.add_argument("--packages", type=Path, default=Path("/"), help="where Debian packages were unpacked")
    parser.add_argument("--out", type=Path, help="folder that a stopped run goes on from; default: a temporary one")
    parser.add_argument("--projects", type=Path, help="folder with the cache of features; default: under --out")
    options = parser.parse_args()
    if options.strategies and options.only:
        parser.error("--strategies are systems of their own: leave --only out")
    if options.test and (options.quick or options.data != "fashion-mnist"):
        parser.error("only all of Fashion-MNIST has official test images")
    kind = f"-test-{commit()}" if options.test else "-quick" * options.quick
    name = f"annotator-label-efficiency-{options.data}{kind}"
    options.out = options.out or Path(tempfile.gettempdir()) / name
    return options


if __name__ == "__main__":
    sys.exit(main())
