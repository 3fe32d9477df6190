"""What a page, a key press, an export and an import cost, beside an earlier commit of this repository in the same run.

    python -m tests.benchmarks.house [--before 214938f] [--answers 5000] [--repeats 7] [--import-images 60000]

Both commits measure themselves in processes of their own, in turn, on the same project: Fashion-MNIST images,
`--answers` of them answered in the rounds of a Session that the earlier commit played, then a copy for each.

- `label_ms`, `progress_ms`: a run of the app's script for that page, as Streamlit's own test runner drives it, without
  a browser; the median of `--repeats` after a first run and after what that begins in the background.
- `label_transactions`, `progress_transactions`: transactions that the store's engine began in such a run.
- `key_ms`, `key_transactions`: one answer by `Session.label` to a card that is open.
- `export_csv_s`: `annotator export` with every label, from a new process. `exports_sha256` is of the files of every
  form, but not of their manifests, which have the time; `exports_same` is whether both commits wrote the same.
- `known_import_s`: what `Project.create` needs more where all images of a prepared pool come with known labels.

The last line is JSON, {"before": {...}, "after": {...}, "exports_same": ...}; what was not measured is null.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
PAGE = """
import streamlit as st
from annotator.ui import main

real = st.Page

def page(target, **options):
    return real(target, **{{**options, "default": options["title"] == "{title}"}})

st.Page = page
try:
    main.main()
finally:
    st.Page = real
"""
FORMATS = {"csv": "labels.csv", "jsonl": "labels.jsonl", "npz": "labels.npz"}
GOALS = {"label_ms": 30, "progress_ms": 300}


# ---- in the process of one commit


def play(folder: Path, n_answers: int) -> None:
    """A project of this many answered questions, an open batch after them."""
    from annotator import Config, Project
    from annotator.simulate import answer_batch, oracle_of

    config = Config(
        name="house",
        source="fashion-mnist",
        source_parameters={"full": True},
        limit=max(2 * n_answers, 2_000),
        encoder="pixels",
        strategy="margin",
        batch_size=12,
    )
    project = Project.create(folder, config)
    session = project.session("you")
    for _ in range(-(-n_answers // config.batch_size)):
        session.advance()
        answer_batch(session, oracle_of(project))
    session.advance()
    project.close()


def measure(projects: Path, repeats: int) -> dict[str, Any]:  # Any: JSON
    """The figures of the commit whose package this process imports, on the project `house` under `projects`."""
    os.environ["ANNOTATOR_PROJECTS"] = str(projects)
    begun = _listen()
    figures: dict[str, Any] = {}  # Any: JSON
    for title in ("Label", "Progress"):
        figures |= _page(title, repeats, begun)
    return figures | _key(projects / "house", repeats, begun)


def _listen() -> list[float]:
    """A list to which every transaction of every engine is added from now on."""
    from sqlalchemy import Engine, event

    begun: list[float] = []
    event.listen(Engine, "begin", lambda _connection: begun.append(time.perf_counter()))
    return begun


def _page(title: str, repeats: int, begun: list[float]) -> dict[str, Any]:  # Any: JSON
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_string(PAGE.format(title=title), default_timeout=600)
    app.query_params["project"] = "house"
    app.run()
    _wait_until_warm()
    app.run()
    assert not app.exception, app.exception
    took, transactions = [], []
    for _ in range(repeats):
        begun.clear()
        started = time.perf_counter()
        app.run()
        took.append(1000 * (time.perf_counter() - started))
        transactions.append(len(begun))
    key = title.lower()
    return {f"{key}_ms": round(statistics.median(took), 1), f"{key}_transactions": min(transactions)}


def _wait_until_warm() -> None:
    """What opening a project begins in the background, a moment after its first page, is over."""
    time.sleep(4)
    while any(thread.name == "rehearsal" for thread in threading.enumerate()):
        time.sleep(0.1)


def _key(folder: Path, repeats: int, begun: list[float]) -> dict[str, Any]:  # Any: JSON
    from annotator.project import Project

    project = Project(folder)
    session = project.session("you")
    names = session.class_names
    cards = session.remaining
    took, transactions = [], []
    for number, card in enumerate(cards[:repeats]):
        begun.clear()
        started = time.perf_counter()
        session.label(card.image_id, names[number % len(names)], card.event_id)
        took.append(1000 * (time.perf_counter() - started))
        transactions.append(len(begun))
    project.close()
    return {"key_ms": round(statistics.median(took), 1), "key_transactions": int(statistics.median(transactions))}


def import_known(projects: Path, n_images: int) -> float:
    """Seconds that `Project.create` needs more for known labels, the pool being prepared."""
    from annotator import Config, Project

    config = Config(
        name="known", source="fashion-mnist", source_parameters={"full": True}, limit=n_images, encoder="pixels"
    )
    took = []
    for number, initial in enumerate(("none", "none", "known")):
        started = time.perf_counter()
        Project.create(projects / f"known-{number}", replace(config, initial=initial)).close()
        took.append(time.perf_counter() - started)
    return took[2] - took[1]


# ---- both commits


class Commit:
    """One of the two: its checkout, and its copy of the project."""

    def __init__(self, checkout: Path, projects: Path) -> None:
        self.checkout, self.projects = checkout, projects

    def python(self, *arguments: str) -> str:
        """What a process with this commit's package prints; this very file is run by both."""
        environment = {**os.environ, "PYTHONPATH": str(self.checkout), "ANNOTATOR_PROJECTS": str(self.projects)}
        command = [sys.executable, "-W", "ignore", *arguments]
        run = subprocess.run(
            command, cwd=self.checkout, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if run.returncode:
            raise SystemExit(f"{' '.join(command)} failed with {run.returncode}")
        return run.stdout

    def house(self, *arguments: str) -> Any:  # Any: JSON
        """The last line that this file prints when asked for a part."""
        return json.loads(self.python(str(Path(__file__).resolve()), *arguments).splitlines()[-1])

    def exported(self, folder: Path) -> tuple[float, str]:
        """Seconds of the CSV export from a new process, and a hash of the files of every form."""
        folder.mkdir()
        took = {}
        for form, name in FORMATS.items():
            started = time.perf_counter()
            to, store = ("--to", str(folder / name)), ("--projects", str(self.projects))
            self.python("-m", "annotator", "export", "house", *to, "--format", form, *store)
            took[form] = time.perf_counter() - started
        return took["csv"], content_sha256(folder)


def content_sha256(folder: Path) -> str:
    """Of the exported files; of the NPZ the arrays, but not its manifest: that has the time of the export."""
    digest = hashlib.sha256()
    for name in (FORMATS["csv"], FORMATS["jsonl"]):
        digest.update((folder / name).read_bytes())
    with np.load(folder / FORMATS["npz"]) as arrays:
        for key in arrays.files:
            digest.update(b"" if key == "manifest" else key.encode() + arrays[key].tobytes())
    return digest.hexdigest()


def compare(commits: dict[str, Commit], arguments: argparse.Namespace, work: Path) -> dict[str, Any]:  # Any: JSON
    """Every figure of both, measured in turn."""
    found: dict[str, dict[str, Any]] = {name: {} for name in commits}  # Any: JSON
    for name, commit in commits.items():
        seconds, digest = commit.exported(work / f"exported-{name}")
        found[name] |= {"export_csv_s": round(seconds, 2), "exports_sha256": digest}
    found["before"] |= commits["before"].house("--measure", "--repeats", str(arguments.repeats))
    found["after"] |= commits["after"].house("--measure", "--repeats", str(arguments.repeats))
    for name, commit in commits.items():
        found[name]["known_import_s"] = (
            round(commit.house("--known", str(arguments.import_images)), 2) if arguments.import_images else None
        )
    return {**found, "exports_same": found["before"]["exports_sha256"] == found["after"]["exports_sha256"]}


def main() -> None:
    """Measure both commits, print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="214938f")
    parser.add_argument("--answers", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--import-images", type=int, default=60_000)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--known", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--play", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    projects = Path(os.environ.get("ANNOTATOR_PROJECTS", "."))
    parts: dict[str, Callable[[], Any]] = {  # Any: JSON
        "measure": lambda: measure(projects, arguments.repeats),
        "known": lambda: import_known(projects, arguments.known),
        "play": lambda: play(projects / "house", arguments.play),
    }
    asked = next((part for part in parts if getattr(arguments, part)), None)
    print(json.dumps(parts[asked]() if asked else _both(arguments)))


def _both(arguments: argparse.Namespace) -> dict[str, Any]:  # Any: JSON
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(work / "before"), arguments.before], check=True)
        try:
            before = Commit(work / "before", work / "projects-before")
            before.projects.mkdir()
            before.house("--play", str(arguments.answers))
            after = Commit(ROOT, work / "projects-after")
            shutil.copytree(before.projects, after.projects, copy_function=shutil.copy2)
            settings = {"answers": arguments.answers, "repeats": arguments.repeats, "before_commit": arguments.before}
            return {**compare({"before": before, "after": after}, arguments, work), **settings, "goals": GOALS}
        finally:
            subprocess.run([*git, "remove", "--force", str(work / "before")], check=True)


if __name__ == "__main__":
    main()
