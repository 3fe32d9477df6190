"""The four ways to start the app, each serving the same; and what is said where it cannot start."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import annotator
from tests.e2e.conftest import ANNOTATOR_RUN, OPTIONS, NewPerson, Server, free_port, running

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
STREAMLIT = ("--server.headless", "true", "--server.port", "{port}")
FROM_THE_CHECKOUT = {
    "streamlit run app.py": (str(SCRIPTS / "streamlit"), "run", "app.py", *STREAMLIT),
    "annotator run": (str(SCRIPTS / "annotator"), "run", *OPTIONS),
    "python -m annotator run": ANNOTATOR_RUN,
}


def shows_the_digits(server: Server, new_person: NewPerson) -> None:
    """Twelve of them, and the project is where it was told to be."""
    person = new_person(server)
    person.open()
    assert len(person.asked) == 12
    assert all(image_id.startswith("digits/") for image_id in person.asked)
    assert (server.projects / "Digits" / "project.sqlite").exists()
    assert person.page.title() == "annotator"
    person.leave()


@pytest.mark.parametrize("way", FROM_THE_CHECKOUT)
def test_from_the_checkout(way: str, projects: Path, tmp_path: Path, new_person: NewPerson) -> None:
    """After the set-up all three commands serve the app, on this machine alone.

    S1, S2: a page of another name or origin is refused on every route, and no answer may be framed.
    """
    with running(Server(projects, tmp_path, *FROM_THE_CHECKOUT[way], folder=CHECKOUT)) as server:
        shows_the_digits(server, new_person)
        assert not answers_from_outside(server.port)
        ours, other = f"127.0.0.1:{server.port}", f"127.0.0.1:{free_port()}"
        for path in ROUTES:
            assert status(server.port, path, ours, f"http://{ours}") != 403, path
            for host, origin in (
                (EVIL, ""),
                (EVIL, f"http://{EVIL}"),
                (ours, f"http://{EVIL}"),
                (ours, f"http://{other}"),
            ):
                assert status(server.port, path, host, origin) == 403, path


EVIL = "evil.example"
ROUTES = ("/", "/label", "/_stcore/health", "/_stcore/host-config", "/_stcore/stream", "/annotator/nothing")
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def status(port: int, path: str, host: str, origin: str) -> int:
    """What the server answers to a request that names this host and comes from this origin; no origin where empty."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Host": host, **({"Origin": origin} if origin else {})}
    connection.request("GET", path, headers=headers | (UPGRADE if path.endswith("stream") else {}))
    answer = connection.getresponse()
    connection.close()
    if answer.status == 200:
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    return answer.status


def answers_from_outside(port: int) -> bool:
    """Whether another address of this machine than 127.0.0.1 is served."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.2", port)) == 0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a new environment that holds the built wheel; what it depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, CHECKOUT], check=True, capture_output=True
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    borrowed = next(path for path in sys.path if Path(path, "streamlit").is_dir())
    own = Path(_prints(folder / "venv" / "bin" / "python", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    (own / "borrowed.pth").write_text(borrowed)
    wheel = next(folder.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "venv" / "bin"


def _prints(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd="/").stdout.strip()


def test_from_a_wheel_outside_the_checkout(
    installed: Path, projects: Path, tmp_path: Path, new_person: NewPerson
) -> None:
    """Its command serves the app with everything that the app needs, the theme included."""
    where = Path(_prints(installed / "python", "import annotator; print(annotator.__file__)"))
    assert where.is_relative_to(installed.parent)
    assert where != Path(str(annotator.__file__))
    with running(Server(projects, tmp_path, str(installed / "annotator"), "run", *OPTIONS, folder=tmp_path)) as server:
        shows_the_digits(server, new_person)
        person = new_person(server, color_scheme="dark")
        person.open()
        assert person.ground == (17, 24, 28)
        person.leave()


@pytest.mark.parametrize("wrong", ["port", "root"])
def test_what_keeps_it_from_starting_is_one_line(wrong: str, tmp_path: Path) -> None:
    """A port that is taken, a root that is no folder: said on stderr in a line that names the way out, exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if wrong == "port" else free_port()
        root = tmp_path / "missing" if wrong == "root" else tmp_path
        words = {"port": port, "projects": tmp_path / "projects", "root": root}
        command = [word.format(**words) for word in ANNOTATOR_RUN]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith(f"annotator: {'Port' if wrong == 'port' else '--root'} ")
