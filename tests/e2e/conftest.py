"""A real server in its own process, and a real browser in front of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.person import Person

BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


OPTIONS = ("--no-browser", "--port", "{port}", "--projects", "{projects}", "--root", "{root}")
ANNOTATOR_RUN = (sys.executable, "-m", "annotator", "run", *OPTIONS)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """The app as a process: start, kill -9, start again on the same port. Its folders reach it both ways there are."""

    def __init__(self, projects: Path, root: Path, *command: str, folder: Path | None = None) -> None:
        self.projects, self.root, self.port = projects, root, free_port()
        self._log_file = root / f"server-{self.port}.log"
        self._command = command or ANNOTATOR_RUN
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = {"port": self.port, "projects": self.projects, "root": self.root}
        command = [word.format(**words) for word in self._command]
        folders = {"ANNOTATOR_PROJECTS": str(self.projects), "ANNOTATOR_ROOT": str(self.root)}
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, env={**os.environ, **folders}
            )
        self.wait_until_healthy()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything the process has written."""
        return self._log_file.read_text()

    def wait_until_healthy(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server did not become healthy within 60 s")

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=20)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Until the test is over; whatever people did, the app has not stumbled over an error of its own."""
    server.start()
    yield server
    server.stop()
    assert "Traceback" not in server.log, server.log


@pytest.fixture
def server(projects: Path, tmp_path: Path) -> Iterator[Server]:
    """A running app with its own empty projects folder; folders under tmp_path may be opened."""
    with running(Server(projects, tmp_path)) as started:
        yield started


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running app for a whole file of tests that each make projects of their own."""
    folder = tmp_path_factory.mktemp("shared")
    with running(Server(folder / "projects", tmp_path_factory.getbasetemp())) as started:
        yield started


NewPerson = Callable[..., Person]


@pytest.fixture
def new_person(browser: Browser) -> Iterator[NewPerson]:
    """A function (server, width, height) -> somebody before a browser; they fail on errors and on foreign hosts."""
    people: list[Person] = []

    def make(server: Server, width: int = 1280, height: int = 900, **options: object) -> Person:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]  # Playwright's own options
        people.append(Person(context.new_page(), server.url))
        return people[-1]

    yield make
    for person in people:
        person.leave()
    assert [problem for person in people for problem in person.problems] == []
