"""Long work in real child processes: what arrives, and what happens when one of the two dies."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from annotator.errors import AnnotatorError, Cancelled, ImageError, JobError
from annotator.jobs import FIGURES, OUTCOME, PROGRESS, TEMPORARY, UNFINISHED, WRITE_SECONDS, Job

TARGETS = '''
import ctypes, errno, fcntl, json, os, resource, signal, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np

from annotator.errors import ImageError


INNER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(600)
"""


class PluginError(ImageError):
    """A third party's own kind of error."""


def count(arguments, report):
    """Report every step, gently where asked."""
    for step in range(arguments["steps"]):
        report("counting", step + 1, arguments["steps"])
        if "pause" in arguments:
            time.sleep(arguments["pause"])
    return {"counted": arguments["steps"], "text": arguments.get("text", "")}


def refuse(arguments, report):
    raise PluginError("a.jpg: cut in the middle. Restore it from its original.", "IMG_TRUNCATED")


def fail(arguments, report):
    return {"ratio": 1 / arguments["zero"]}


def unwritable(arguments, report):
    return {"a set": {1, 2}}


def standing(arguments, report):
    session = Path("/proc/self/autogroup")
    return {"process": os.nice(0), "session": int(session.read_text().split()[-1]) if session.exists() else None}


def leave(arguments, report):
    print("no licence found", file=sys.stderr)
    sys.exit(3)


def allocate(arguments, report):
    return {"size": len(bytearray(arguments["size"]))}


def shoot(arguments, report):
    print("about to end")
    os.kill(os.getpid(), arguments["signal"])


def segfault(arguments, report):
    print("reading the null pointer")
    ctypes.string_at(0)


def half_write(arguments, report):
    Path(arguments["unfinished"]).write_text(json.dumps({"result": {"n": 1}})[:-4])
    os.kill(os.getpid(), signal.SIGKILL)


def hold(arguments, report):
    """Hold a lock as long as the process lives, with a child of its own that holds another."""
    lock = open(arguments["lock"], "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    child = subprocess.Popen([sys.executable, "-c", INNER, arguments["lock"] + ".inner"], stdout=subprocess.PIPE)
    child.stdout.readline()
    tempfile.mkdtemp()
    report("holding", 1, 1)
    time.sleep(600)


def litter(arguments, report):
    """Leave a file in the temporary folder, by Python and by another program."""
    subprocess.run(["mktemp"], check=True)
    return {"named": tempfile.mkstemp()[1]}


def overflow(arguments, report):
    """Write more than fits: a list of bytes, or an array."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    if arguments["array"]:
        np.save(arguments["path"], np.zeros(5000))
    Path(arguments["path"]).write_bytes(b"x" * 5000)


def full(arguments, report):
    """Nothing can be written any more when the work is done."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return {}


def ignore(arguments, report):
    """Report once, then never look whether somebody wants it to stop."""
    report("deaf", 0, 1)
    time.sleep(600)
'''

PARENT = """
import sys, time
from pathlib import Path
from annotator.jobs import Job

job = Job.start("job_targets:hold", {"lock": sys.argv[1]}, Path(sys.argv[2]))
while job.progress.stage != "holding":
    time.sleep(0.01)
print("holding", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "job_targets.py").write_text(TARGETS)
    monkeypatch.setenv("PYTHONPATH", str(modules))


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does; the test's own time limit ends it."""
    while not condition():
        time.sleep(0.01)


def run(target: str, folder: Path, **arguments: object) -> dict[str, object]:
    return Job.start(f"job_targets:{target}", arguments, folder).wait()


def test_result_comes_back_as_json(tmp_path: Path) -> None:
    """What goes in and what comes out is JSON, any text included."""
    text = "grüße 猫 \ud800"
    assert run("count", tmp_path / "job", steps=3, text=text) == {"counted": 3, "text": text}


def test_progress_is_relayed_and_ends_at_its_total(tmp_path: Path) -> None:
    """The caller's report hears where the work is, in order, and at last that it is finished."""
    heard: list[tuple[str, int, int]] = []
    job = Job.start("job_targets:count", {"steps": 40, "pause": 0.02}, tmp_path)
    job.wait(lambda stage, done, total: heard.append((stage, done, total)))
    counted = [done for stage, done, _ in heard if stage == "counting"]
    assert heard[0] == ("starting", 0, 0)
    assert heard[-1] == ("counting", 40, 40)
    assert counted == sorted(counted)
    assert len(set(counted)) > 2
    assert job.status == "done"


def test_time_left_is_told_from_the_current_stage(tmp_path: Path) -> None:
    """Once a stage has moved, there is an estimate, and at its end nothing is left."""
    job = Job.start("job_targets:count", {"steps": 40, "pause": 0.02}, tmp_path)
    assert job.progress.seconds_left is None
    until(lambda: 1 < job.progress.done < 40)
    assert job.progress.seconds_left is not None
    job.wait()
    assert job.progress.seconds_left == 0
    assert job.progress.seconds > 0


def test_reporting_often_writes_seldom(tmp_path: Path) -> None:
    """A hundred thousand reports leave a few lines, at most one each time the writer wakes up."""
    job = Job.start("job_targets:count", {"steps": 100_000}, tmp_path)
    job.wait()
    lines = (tmp_path / PROGRESS).read_text().splitlines()
    assert len(lines) <= job.progress.seconds / WRITE_SECONDS + 2
    assert json.loads(lines[-1])["done"] == 100_000


def test_sign_of_life_stops_with_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child at work gives signs of life, however slow its stage; one that is suspended falls silent."""
    monkeypatch.setattr("annotator.jobs.job.GRACE_SECONDS", 0.1)
    job = Job.start("job_targets:count", {"steps": 2, "pause": 600}, tmp_path)
    progress = tmp_path / PROGRESS
    until(progress.exists)
    size = progress.stat().st_size
    until(lambda: progress.stat().st_size > size)
    os.kill(job._process.pid, signal.SIGSTOP)
    until(lambda: job.seconds_silent > 3)
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait()


def test_typed_error_arrives_as_it_was_raised(tmp_path: Path) -> None:
    """Class, code and message survive; a third party's class arrives as the nearest of ours."""
    with pytest.raises(ImageError, match="Restore it") as raised:
        run("refuse", tmp_path)
    assert type(raised.value) is ImageError
    assert raised.value.code == "IMG_TRUNCATED"


@pytest.mark.parametrize(
    ("target", "arguments", "code", "words"),
    [
        ("fail", {"zero": 0}, "JOB_FAILED", "ZeroDivisionError: division by zero"),
        ("unwritable", {}, "JOB_FAILED", "not JSON serializable"),
        ("missing", {}, "JOB_FAILED", "has no attribute 'missing'"),
        ("leave", {}, "JOB_CRASHED", "exit code 3 and no result.*no licence found"),
        ("shoot", {"signal": int(signal.SIGKILL)}, "JOB_KILLED", "out of memory.*about to end"),
        ("segfault", {}, "JOB_CRASHED", "Segmentation fault.*reading the null pointer$"),
        ("overflow", {"array": False, "path": "{tmp_path}/x.npy"}, "JOB_NO_ROOM", "File too large.*Free some space"),
        ("overflow", {"array": True, "path": "{tmp_path}/x.npy"}, "JOB_NO_ROOM", "5000 requested.*Free some space"),
        ("full", {}, "JOB_NO_ROOM", "could not write its result.*Free some space"),
    ],
)
def test_crash_is_a_job_error(tmp_path: Path, target: str, arguments: dict[str, object], code: str, words: str) -> None:
    """However a child ends without a result, the parent gets a typed error that says what happened."""
    given = {key: str(value).format(tmp_path=tmp_path) if key == "path" else value for key, value in arguments.items()}
    job = Job.start(f"job_targets:{target}", given, tmp_path)
    with pytest.raises(JobError, match=words) as raised:
        job.wait()
    assert raised.value.code == code
    assert job.status == "failed"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no niceness")
def test_a_child_gives_way_to_the_process_that_serves_people(tmp_path: Path) -> None:
    """As a process, and as a session where Linux shares out time among sessions first."""
    found = Job.start("job_targets:standing", {}, tmp_path / "job", niceness=7).wait()
    assert found["process"] == os.nice(0) + 7
    assert found["session"] in (7, None)


def test_memory_limit_holds(tmp_path: Path) -> None:
    """A child that wants more than it may have gets JOB_MEMORY, not the machine's last bytes."""
    job = Job.start("job_targets:allocate", {"size": 8 << 30}, tmp_path, memory_limit=4 << 30)
    with pytest.raises(JobError, match="out of memory") as raised:
        job.wait()
    assert raised.value.code == "JOB_MEMORY"


def test_cancel_stops_at_the_next_report(tmp_path: Path) -> None:
    """The child's report raises Cancelled, with where it was."""
    job = Job.start("job_targets:count", {"steps": 100_000, "pause": 0.01}, tmp_path)
    until(lambda: job.progress.done > 0)
    job.cancel()
    job.cancel()
    with pytest.raises(Cancelled, match="during 'counting', at"):
        job.wait()
    assert job.status == "cancelled"


def test_cancel_before_the_child_has_begun(tmp_path: Path) -> None:
    """Changing one's mind at once is a cancel too."""
    job = Job.start("job_targets:count", {"steps": 100_000, "pause": 0.01}, tmp_path)
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait()


def test_deaf_child_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that never reports again is ended after the grace time, and that is no crash."""
    monkeypatch.setattr("annotator.jobs.job.GRACE_SECONDS", 0.1)
    job = Job.start("job_targets:ignore", {}, tmp_path)
    until(lambda: job.progress.stage == "deaf")
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait()


def test_report_that_raises_stops_the_child(tmp_path: Path) -> None:
    """Ctrl-C in the command line, or a caller that has had enough: the child ends before `wait` does."""

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "counting":
            raise KeyboardInterrupt

    job = Job.start("job_targets:count", {"steps": 100_000, "pause": 0.01}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        job.wait(interrupt)
    assert job.status == "cancelled"


def test_half_written_result_is_never_read(tmp_path: Path) -> None:
    """A child killed between the first byte of its result and the rename has no result."""
    unfinished = tmp_path / (OUTCOME + UNFINISHED)
    with pytest.raises(JobError) as raised:
        run("half_write", tmp_path, unfinished=str(unfinished))
    assert raised.value.code == "JOB_KILLED"
    assert unfinished.exists()


def test_folder_is_used_again_without_its_past(tmp_path: Path) -> None:
    """A job in a folder where an earlier one finished does not report that one's result."""
    run("count", tmp_path, steps=3)
    with pytest.raises(AnnotatorError) as raised:
        run("shoot", tmp_path, signal=int(signal.SIGKILL))
    assert raised.value.code == "JOB_KILLED"


def test_result_is_refused_while_running(tmp_path: Path) -> None:
    """Asking too early is an error of its own, not a failed job."""
    job = Job.start("job_targets:count", {"steps": 100_000, "pause": 0.01}, tmp_path)
    with pytest.raises(JobError) as raised:
        job.result()
    assert raised.value.code == "JOB_RUNNING"
    assert job.status == "running"
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder in the way of a file is a JobError that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match=r"Cannot start work in .*file") as raised:
        run("count", tmp_path / "file", steps=1)
    assert raised.value.code == "JOB_START"


def test_current_folder_is_not_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A json.py beside somebody's photos is not run."""
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert run("count", tmp_path / "job", steps=1)["counted"] == 1


def test_what_a_child_leaves_in_its_temporary_folder_goes_with_the_job(tmp_path: Path) -> None:
    """Whoever makes it and however the child ends, it is in the job's own folder; the next job there starts clean."""
    named = Path(str(run("litter", tmp_path)["named"]))
    assert named.parent == tmp_path / TEMPORARY
    assert len(list(named.parent.iterdir())) == 2
    run("count", tmp_path, steps=1)
    assert list(named.parent.iterdir()) == []


def test_lines_cut_off_by_a_full_disk_are_passed_over(tmp_path: Path) -> None:
    """Half a line, with a whole one behind it: what can be read is told."""
    job = Job.start("job_targets:count", {"steps": 3}, tmp_path)
    job.wait()
    with (tmp_path / PROGRESS).open("a") as file:
        file.write('{"stage": "coun{"stage": "counting", "done": 4}\n')
    assert job.progress.done == 3
    (tmp_path / FIGURES).write_text('{"loss": 3}\n{"lo{"loss": 2}\n{"loss": 1}\n{"lo')
    assert job.figures == [{"loss": 3}, {"loss": 1}]


def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    """When the parent is killed, the child and what it started let go of their locks; no temporary file stays."""
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", PARENT, str(lock), str(tmp_path / "job")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"holding\n"
        for held in (lock, Path(f"{lock}.inner")):
            with held.open("a") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        parent.kill()
    for released in (lock, Path(f"{lock}.inner")):
        with released.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
    assert not (tmp_path / "job" / TEMPORARY).exists()


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    """A killed child leaves no process of its own behind."""
    lock = tmp_path / "lock"
    job = Job.start("job_targets:hold", {"lock": str(lock)}, tmp_path / "job")
    until(lambda: job.progress.stage == "holding")
    os.kill(job._process.pid, signal.SIGKILL)
    with pytest.raises(JobError):
        job.wait()
    with Path(f"{lock}.inner").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def test_a_child_imports_no_more_than_it_needs() -> None:
    """What only some targets need they import themselves: a child is there soon, and small."""
    code = "import sys, annotator.jobs.child; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in told.stdout.split()}
    assert not imported & {"PIL", "scipy", "sklearn", "sqlalchemy", "pandas", "streamlit", "keras", "tensorflow"}
    assert "annotator.jobs.decoders" not in told.stdout.split()
