"""A child process that stays: one answer to each request, whatever it prints, and another process after a crash."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotator.errors import AnnotatorError, ImageError, JobError
from annotator.jobs import FIGURES, LOG, TEMPORARY, Job, Worker

TARGETS = '''
import ctypes, fcntl, os, signal, subprocess, sys, tempfile, time
from pathlib import Path

from annotator.errors import ImageError
from annotator.jobs import Job, record

print("loading, and talkative about it")
CALLS = []


def double(arguments, report):
    """Answer, in the middle of noise from this process and from one that it starts."""
    CALLS.append(1)
    print("{\\"result\\": \\"not an answer\\"}", flush=True)
    os.write(1, b"written past Python\\n")
    subprocess.run([sys.executable, "-c", "print('from another process')"], check=True)
    report("doubling", 1, 1)
    return {"doubled": arguments["n"] * 2, "calls": len(CALLS), "pid": os.getpid(), "nice": os.nice(0)}


def act(arguments, report):
    """Do as told."""
    CALLS.append(1)
    if arguments["do"] == "litter":
        return {"named": tempfile.mkdtemp()}
    if arguments["do"] == "refuse":
        raise ImageError("a.jpg: cut in the middle.", "IMG_TRUNCATED")
    if arguments["do"] == "sleep":
        time.sleep(600)
    if arguments["do"] == "segfault":
        ctypes.string_at(0)
    if arguments["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if arguments["do"] == "leave":
        sys.exit(3)
    return {"text": arguments.get("text", ""), "calls": len(CALLS), "pid": os.getpid()}


def hold(arguments, report):
    """Hold a lock as long as the process lives, idle or busy."""
    lock = open(arguments["lock"], "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    CALLS.append(lock)
    Path(arguments["lock"] + ".held").touch()
    time.sleep(arguments["seconds"])
    return {}


def learn(arguments, report):
    for epoch in range(3):
        record({"epoch": epoch, "loss": 1 / (epoch + 1)})
    return {}


def delegate(arguments, report):
    """A job that starts another and waits for it."""
    return Job.start("worker_targets:learn", {}, Path(arguments["inner"])).wait(report)
'''

PARENT = """
import sys, threading, time
from pathlib import Path

from annotator.jobs import Worker

idle, busy = (Worker.start("worker_targets:hold", Path(path + ".worker")) for path in sys.argv[1:])
idle.call({"lock": sys.argv[1], "seconds": 0}, 60)
threading.Thread(target=busy.call, args=({"lock": sys.argv[2], "seconds": 600}, 600), daemon=True).start()
while not Path(sys.argv[2] + ".held").exists():
    time.sleep(0.01)
print("holding", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "worker_targets.py").write_text(TARGETS)
    monkeypatch.setenv("PYTHONPATH", str(modules))


@pytest.fixture
def doubler(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker.start("worker_targets:double", tmp_path / "worker")
    yield worker
    worker.close()


@pytest.fixture
def actor(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker.start("worker_targets:act", tmp_path / "worker")
    yield worker
    worker.close()


def test_one_process_answers_request_after_request(doubler: Worker) -> None:
    """What is slow to load is loaded once; the process gives way to the one that serves people."""
    answers = [doubler.call({"n": n}, 60) for n in range(5)]
    assert [answer["doubled"] for answer in answers] == [0, 2, 4, 6, 8]
    assert [answer["calls"] for answer in answers] == [1, 2, 3, 4, 5]
    assert len({answer["pid"] for answer in answers} - {os.getpid()}) == 1
    assert answers[0]["nice"] == min(os.nice(0) + 5, 19)


def test_noise_goes_to_the_log(doubler: Worker) -> None:
    """Prints while loading or at work, past Python or from another process, are no answers."""
    assert doubler.call({"n": 21}, 60)["doubled"] == 42
    log = (doubler.folder / LOG).read_text()
    for noise in ("talkative", "not an answer", "past Python", "from another process"):
        assert noise in log


def test_text_and_size_do_not_matter(actor: Worker) -> None:
    """Line ends, any script and a megabyte pass in both directions."""
    for text in ("two\nlines\r\n", "grüße 猫 \ud800", "x" * 1_000_000):
        assert actor.call({"do": "answer", "text": text}, 60)["text"] == text


def test_threads_take_turns(actor: Worker) -> None:
    """Each caller gets its own answer."""
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = actor.call({"do": "answer", "text": str(number)}, 60)["text"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: str(number) for number in range(8)}


def test_typed_error_leaves_the_process_alive(actor: Worker) -> None:
    """A target's own error arrives as it was raised; the next request goes to the same process."""
    before = actor.call({"do": "answer"}, 60)["pid"]
    with pytest.raises(ImageError, match="cut in the middle") as raised:
        actor.call({"do": "refuse"}, 60)
    assert raised.value.code == "IMG_TRUNCATED"
    assert actor.call({"do": "answer"}, 60) == {"text": "", "calls": 3, "pid": before}


@pytest.mark.parametrize(
    ("do", "code", "words"),
    [
        ("kill", "JOB_KILLED", "out of memory.*talkative"),
        ("segfault", "JOB_CRASHED", "Segmentation fault"),
        ("leave", "JOB_CRASHED", "exit code 3"),
    ],
)
def test_crash_is_an_error_and_the_next_call_starts_anew(actor: Worker, do: str, code: str, words: str) -> None:
    """However the process ends, the caller hears of it, and the next caller has a new one."""
    with pytest.raises(JobError, match=words) as raised:
        actor.call({"do": do}, 60)
    assert raised.value.code == code
    assert actor.call({"do": "answer"}, 60)["calls"] == 1


def test_too_slow_is_an_error_and_the_next_call_starts_anew(actor: Worker) -> None:
    """A request that takes longer than allowed is stopped with its process; its answer is never another's."""
    before = actor.call({"do": "answer"}, 60)["pid"]
    with pytest.raises(JobError, match=r"no answer in 0\.2 seconds") as raised:
        actor.call({"do": "sleep"}, 0.2)
    assert raised.value.code == "JOB_TIMEOUT"
    after = actor.call({"do": "answer", "text": "mine"}, 60)
    assert after["text"] == "mine"
    assert after["pid"] != before


def test_death_between_calls_goes_unnoticed(actor: Worker) -> None:
    """Where nothing was asked, nothing is lost: another process answers."""
    before = actor.call({"do": "answer"}, 60)["pid"]
    os.kill(before, signal.SIGKILL)
    assert actor._process is not None
    actor._process.wait()
    assert actor.call({"do": "answer"}, 60)["calls"] == 1


def test_temporary_files_of_a_killed_process_are_gone_with_the_next(actor: Worker) -> None:
    """They lie in the worker's own folder, and no process finds its predecessor's."""
    left = Path(actor.call({"do": "litter"}, 60)["named"])
    assert left.parent == actor.folder / TEMPORARY
    with pytest.raises(JobError):
        actor.call({"do": "kill"}, 60)
    again = Path(actor.call({"do": "litter"}, 60)["named"])
    assert list((actor.folder / TEMPORARY).iterdir()) == [again]


def test_module_that_does_not_load_is_told_to_whoever_asks(tmp_path: Path) -> None:
    """Starting does not wait, so the error comes with the first call."""
    worker = Worker.start("no_such_module:fit", tmp_path / "worker")
    with pytest.raises(JobError, match="No module named 'no_such_module'"):
        worker.call({}, 60)
    worker.close()


def test_closed_worker_refuses(actor: Worker) -> None:
    """Closing ends a call in the middle, and no call after it starts a process."""
    failed: list[AnnotatorError] = []

    def ask() -> None:
        try:
            actor.call({"do": "sleep"}, 600)
        except JobError as error:
            failed.append(error)

    actor.call({"do": "answer"}, 60)
    thread = threading.Thread(target=ask)
    thread.start()
    while not actor._turn.locked():
        pass
    actor.close()
    thread.join()
    assert len(failed) == 1
    with pytest.raises(JobError) as raised:
        actor.call({"do": "answer"}, 60)
    assert raised.value.code == "JOB_CLOSED"
    actor.close()


def test_worker_dies_with_its_parent(tmp_path: Path) -> None:
    """When the parent is killed, an idle worker ends, and so does a busy one."""
    locks = [tmp_path / "idle", tmp_path / "busy"]
    command = [sys.executable, "-c", PARENT, *map(str, locks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"holding\n"
        for held in locks:
            with held.open("a") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        parent.kill()
    for released in locks:
        with released.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way is a JobError that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match=r"Cannot start work in .*file") as raised:
        Worker.start("worker_targets:act", tmp_path / "file")
    assert raised.value.code == "JOB_START"


def test_figures_are_passed_on_from_job_to_job(tmp_path: Path) -> None:
    """What a job's own job records reaches whoever watches the first: a loss plot needs no path to the second."""
    job = Job.start("worker_targets:delegate", {"inner": str(tmp_path / "inner")}, tmp_path / "outer")
    job.wait()
    assert [figures["epoch"] for figures in job.figures] == [0, 1, 2]
    assert job.figures[1] == {"epoch": 1, "loss": 0.5}
    with (tmp_path / "outer" / FIGURES).open("a") as file:
        file.write('{"epoch": 3, "lo')
    assert len(job.figures) == 3
