"""What the app holds in memory with all of Fashion-MNIST open: its own process, and those that it starts.

A project on 60,000 images, features from an autoencoder trained on them (for a few epochs: its size counts here, not
how good it is), `encoder-classifier` for a model; some batches are labeled in a real browser before a real server,
until one is asked by a model fitted there. The goal is 1 GB for the app's own process. The last line is one JSON
object; null is what was not measured.

    python -m tests.benchmarks.memory [--rounds 3] [--epochs 3]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import sync_playwright

from annotator.config import Config
from annotator.encoders.training import HISTORY
from annotator.project import Project
from tests import storing
from tests.conftest import find_chromium
from tests.e2e.conftest import BROWSER_FLAGS, Server, running
from tests.e2e.person import Person
from tests.e2e.processes import command_of, has_tensorflow, megabytes, started_by

GOAL_MB = 1024
NAME = "memory"
WORKER = "annotator.models.keras_tasks:run"


@dataclass
class Watched:
    """The most that an app's children held at one moment, together and the resident worker alone."""

    children_mb: list[float] = field(default_factory=list)
    worker_mb: list[float] = field(default_factory=list)

    def look(self, app: int) -> None:
        """Once."""
        held = {pid: megabytes(pid) or 0.0 for pid in started_by(app)}
        self.children_mb.append(sum(held.values()))
        self.worker_mb.append(sum(amount for pid, amount in held.items() if WORKER in command_of(pid)))


@contextmanager
def watching(server: Server) -> Iterator[Watched]:
    """Look at the children of an app twice a second."""
    watched, done = Watched(), threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            watched.look(server.pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield watched
    finally:
        done.set()
        watcher.join()


def made(projects: Path, epochs: int) -> tuple[dict[str, str], int]:
    """The project -> the truth, image by image, and the epochs that its encoder was trained for."""
    config = Config(
        name=NAME,
        source="fashion-mnist",
        source_parameters={"full": True},
        encoder="autoencoder",
        encoder_parameters={"max_epochs": epochs},
        model="encoder-classifier",
        strategy="margin",
    )
    project = Project.create(projects / NAME, config)
    names, truth = project.class_names, project.learner.truth
    assert truth is not None
    answers = {image_id: names[code] for image_id, code in zip(project.learner.dataset.ids, truth, strict=True)}
    history = json.loads((project.prepared.folder / "encoder" / HISTORY).read_text())
    project.close()
    return answers, len(history)


def asked_by_a_model(folder: Path) -> bool:
    """Whether a model chose the newest batch."""
    project = Project(folder)
    newest = storing.questions(project.store)[-1]
    project.close()
    return newest.model_version is not None


def label(person: Person, truth: dict[str, str], rounds: int, folder: Path) -> int:
    """Label `rounds` batches, then go on until a model has chosen one -> how many."""
    n_done = 0
    while n_done < rounds or (not asked_by_a_model(folder) and n_done < 3 * rounds):
        for image_id in person.asked:
            person.answer(image_id, truth[image_id])
        person.save()
        n_done += 1
        person.page.wait_for_timeout(10_000)  # the fit goes on in the background
    return n_done


def measure(rounds: int, epochs: int) -> dict[str, object]:
    """Everything that is printed."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        projects = Path(folder) / "projects"
        truth, n_epochs = made(projects, epochs)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=BROWSER_FLAGS)
        with running(Server(projects, Path(folder))) as server, watching(server) as watched:
            person = Person(browser.new_page(viewport={"width": 1280, "height": 900}), server.url)
            person.open(f"?project={NAME}")
            n_rounds = label(person, truth, rounds, projects / NAME)
            watched.look(server.pid)
            found = {
                "images": len(truth),
                "encoder": "autoencoder",
                "encoder_epochs": n_epochs,
                "model": "encoder-classifier",
                "rounds": n_rounds,
                "labels": person.n_saved,
                "asked_by_a_model": asked_by_a_model(projects / NAME),
                "goal_mb": GOAL_MB,
                "ui_rss_mb": megabytes(server.pid),
                "ui_peak_mb": megabytes(server.pid, "VmHWM"),
                "ui_rss_without_files_mb": megabytes(server.pid, "RssAnon"),
                "ui_has_tensorflow": has_tensorflow(server.pid),
                "children_rss_mb": watched.children_mb[-1],
                "children_peak_mb": max(watched.children_mb),
                "worker_rss_mb": watched.worker_mb[-1] or None,
                "worker_peak_mb": max(watched.worker_mb) or None,
            }
            person.leave()
        browser.close()
    return found


def main() -> None:
    """Print what was measured, one thing a line, then all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="Batches to label at least.")
    parser.add_argument("--epochs", type=int, default=3, help="Epochs to train the autoencoder for at most.")
    options = parser.parse_args()
    found = measure(options.rounds, options.epochs)
    rounded = {key: round(value, 1) if isinstance(value, float) else value for key, value in found.items()}
    for key, value in rounded.items():
        print(f"{key}: {value}")
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
