"""Guarded image workers: child processes that decode whatever bytes they are given, under limits of memory and time.

    Decoders()             for an import, ended with it
    ResidentDecoders()     for single pictures on a screen or in an export; ended when nobody asks for one any more
      └─ python -m annotator.jobs.decoders     one for each worker, over pipes; never a fork, never the caller's script

A child answers one image at a time, so what goes wrong is about that image and no other: one that crashes its decoder
twice, or takes too long once, is refused like any other bad file, and a new child goes on with the next. A child that
dies before it is ready has seen no image, and none is blamed: `Decoders` raises JobError with its last words.

A request is the sides of the view and of the thumbnail, the number of bytes, then the bytes. The answer is the numbers
of bytes of three parts, then these: what is known of the image as JSON, the view's pixels, the thumbnail's file. Where
the view's side is 0, the picture itself takes the view's place.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, BinaryIO

import numpy as np
from PIL import Image

from annotator import images
from annotator.decode import decode as to_rgb
from annotator.errors import ImageError, JobError
from annotator.jobs.child import answers_apart, receive
from annotator.types import ImageArray

N_WORKERS = 2
WORKER_BYTES = 4 << 30
"""Of address space, where the system knows such a limit."""
IMAGE_SECONDS = 120.0
"""Of waiting for one image, on however busy a machine."""
IMAGE_CPU_SECONDS = 20.0
"""Of computing on one image, where the system can count them; the largest honest one takes a few."""
REQUEST, ANSWER = struct.Struct("<IIQ"), struct.Struct("<QQQ")
IDLE_SECONDS = 60.0
"""So long a resident worker waits for another picture; a new one takes some tenths of a second to start."""
READY = b"annotator decodes\n"
WORDS = 2000
"""Bytes of a dead child's last words."""
CRASHED = "The decoder crashed or ran out of memory on this file. Save it again with another program."
TOO_SLOW = "The decoder took too long on this file. Save it again with another program."
TOO_MUCH = "Decoding it needs more memory than one image may take."


@dataclass(frozen=True)
class Sides:
    """What to make of an image: a square view for encoders, a thumbnail of this longest side for people."""

    view: int
    """0 = none; in its place the picture itself, no side longer than `thumbnail`, or in full size where that is 0."""
    thumbnail: int


@dataclass(frozen=True)
class Decoded:
    """One image as a worker hands it back: its hash, and either its views or why there are none."""

    content_sha256: str
    view: ImageArray | None = None
    """(side, side, 3), or the picture itself, (height, width, 3)."""
    thumbnail: bytes = b""
    flags: tuple[str, ...] = ()
    refused: tuple[str, str] | None = None


class Decoders:
    """Some children at work; a context manager that leaves none behind."""

    def __init__(self, n_workers: int = N_WORKERS) -> None:
        """Start nothing yet: a child starts with the first images that it is given."""
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()  # one that has started goes first
        for _ in range(n_workers):
            self._idle.put(None)
        self._at_work: set[_Child] = set()
        self._closed = threading.Event()
        self._threads = ThreadPoolExecutor(n_workers, "decoder")

    def __enter__(self) -> Decoders:
        threading.Thread(target=self._watch, name="decoders' watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for child in list(self._at_work):
            child.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            idle = self._idle.get()
            if idle is not None:
                idle.end()

    def submit(self, contents: Sequence[bytes], sides: Sides) -> Future[list[Decoded]]:
        """These files' images, in their order. Its result raises JobError (JOB_START) where no child can be started."""
        return self._threads.submit(self._decode, contents, sides)

    def _decode(self, contents: Sequence[bytes], sides: Sides) -> list[Decoded]:
        child = self._idle.get()
        decoded = []
        try:
            for content in contents:
                answer, child = self._answer(child, content, sides)
                decoded.append(answer)
        finally:
            self._idle.put(child)
        return decoded

    def _answer(self, child: _Child | None, content: bytes, sides: Sides) -> tuple[Decoded, _Child | None]:
        """One image, and the child that goes on: a crash is tried once more in a new child, a time limit is not."""
        for _ in range(2):
            child = child or self._started()
            answer = child.decode(content, sides)
            if answer is not None:
                return answer, child
            was_slow, child = self._buried(child), None
            if was_slow or self._closed.is_set():
                return _refused(content, "IMG_DECODE", TOO_SLOW), None
        return _refused(content, "IMG_DECODE", CRASHED), None

    def _started(self) -> _Child:
        child = _Child()
        self._at_work.add(child)
        if self._closed.is_set():  # whoever closed has not seen this one
            child.kill()
        child.wait_ready()
        return child

    def _buried(self, child: _Child) -> bool:
        """Leave nothing of a child that gave no answer; whether it was stopped for its time."""
        self._at_work.discard(child)
        return child.end()

    def _watch(self) -> None:
        while not self._closed.wait(1.0):
            for child in list(self._at_work):
                child.check_time()


class ResidentDecoders:
    """Children that stay between pictures, so that the next one is quick; they end when idle, and with the process."""

    def __init__(self, n_workers: int = N_WORKERS, idle_seconds: float = IDLE_SECONDS) -> None:
        """Start nothing yet: a child starts with the first picture that is asked for."""
        self._n_workers, self._idle_seconds = n_workers, idle_seconds
        self._started = contextlib.ExitStack()
        self._decoders: Decoders | None = None
        self._n_asking = 0
        self._timer: threading.Timer | None = None
        self._changing = threading.Lock()
        atexit.register(self.end)

    def picture(self, content: bytes, side: int) -> Image.Image:
        """Upright RGB as `decode.decode` gives it, at most `side` px on the longer side; 0 = full size.

        Raises ImageError for what cannot be decoded, or not within the limits; JobError (JOB_START) where no child can
        be started.
        """
        with self._asking() as decoders:
            [decoded] = decoders.submit([content], Sides(0, side)).result()
        if decoded.view is None:
            code, reason = decoded.refused or ("IMG_DECODE", CRASHED)
            raise ImageError(reason, code)
        return Image.fromarray(decoded.view)

    def end(self) -> None:
        """End the children, unless a picture is being decoded; the next one starts others."""
        with self._changing:
            if not self._n_asking:
                self._decoders = None
                self._started.close()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Decoders]:
        with self._changing:
            if self._timer is not None:
                self._timer.cancel()
            if self._decoders is None:
                self._decoders = self._started.enter_context(Decoders(self._n_workers))
            self._n_asking += 1
            decoders = self._decoders
        try:
            yield decoders
        finally:
            with self._changing:
                self._n_asking -= 1
                if not self._n_asking:
                    self._timer = threading.Timer(self._idle_seconds, self.end)
                    self._timer.daemon = True
                    self._timer.start()


class _Child:
    """One decoding process as its parent sees it."""

    def __init__(self) -> None:
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `end`
        command = [sys.executable, "-P", "-X", "utf8", "-m", "annotator.jobs.decoders"]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._words)
        except OSError as error:
            self._words.close()
            raise _cannot_start(f" {error.strerror}.") from error
        self._deadline = time.monotonic() + IMAGE_SECONDS
        self._is_late = False

    def wait_ready(self) -> None:
        """Raises JobError (JOB_START) with the child's last words where it dies first."""
        assert self._process.stdout is not None
        if self._process.stdout.read(len(READY)) != READY:
            self._process.kill()
            self._process.wait()
            self._words.seek(0)
            words = self._words.read().decode("utf-8", "replace").strip()[-WORDS:]
            self.end()
            raise _cannot_start(f" Its last words: {words}" if words else "")

    def decode(self, content: bytes, sides: Sides) -> Decoded | None:
        """What became of one image; None where the child died of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._deadline = time.monotonic() + IMAGE_SECONDS
        try:
            self._process.stdin.write(REQUEST.pack(sides.view, sides.thumbnail, len(content)))
            self._process.stdin.write(content)
            self._process.stdin.flush()
            return _read_answer(self._process.stdout)
        except (OSError, ValueError):  # a broken pipe; an answer that ends too soon
            return None
        finally:
            self._deadline = float("inf")

    def check_time(self) -> None:
        """Stop it where it takes too long."""
        if time.monotonic() > self._deadline:
            self._is_late = True
            self.kill()

    def kill(self) -> None:
        """Nothing happens where it has gone."""
        self._process.kill()

    def end(self) -> bool:
        """Leave no process and no open file; whether it had used up its time."""
        self._process.kill()
        code = self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._words):
            with contextlib.suppress(OSError):  # what was not read any more
                if file is not None:
                    file.close()
        return self._is_late or code == -getattr(signal, "SIGPROF", 0) != 0


def _cannot_start(why: str) -> JobError:
    told = f"No image could be read: the process that decodes them does not start.{why}"
    return JobError(f"{told} No image is at fault; see what is wrong with this Python, then try again.", "JOB_START")


def _refused(content: bytes, code: str, reason: str) -> Decoded:
    return Decoded(hashlib.sha256(content).hexdigest(), refused=(code, reason))


def _read_answer(stream: IO[bytes]) -> Decoded:
    """Raises ValueError where it ends too soon."""
    n_known, n_view, n_thumbnail = ANSWER.unpack(_exactly(stream, ANSWER.size))
    known = json.loads(_exactly(stream, n_known))
    view = np.frombuffer(_exactly(stream, n_view), dtype=np.uint8).reshape(known["shape"]) if n_view else None
    refused = known["refused"]
    return Decoded(
        known["sha256"],
        view,
        _exactly(stream, n_thumbnail),
        tuple(known["flags"]),
        (refused[0], refused[1]) if refused else None,
    )


def _exactly(stream: IO[bytes], n_bytes: int) -> bytes:
    content = stream.read(n_bytes)
    if len(content) < n_bytes:
        raise ValueError("The other end of the pipe has gone.")
    return content


# ---- from here on: the child


def decode(content: bytes, sides: Sides) -> Decoded:
    """One image with its views; whatever is wrong with it is its refusal."""
    digest = hashlib.sha256(content).hexdigest()
    try:
        decoded = to_rgb(content, side=sides.thumbnail)
        if not sides.view:
            picture = images.thumbnail(decoded.image, sides.thumbnail) if sides.thumbnail else decoded.image
            return Decoded(digest, np.asarray(picture), flags=decoded.flags)
        thumbnail = images.thumbnail(decoded.image, sides.thumbnail)
        small = max(thumbnail.size) <= sides.view
        encoded = images.png(thumbnail) if small else images.jpeg(thumbnail)
        return Decoded(digest, images.letterbox(thumbnail, sides.view), encoded, decoded.flags)
    except ImageError as error:
        return Decoded(digest, refused=(error.code, str(error)))
    except MemoryError:
        return Decoded(digest, refused=("IMG_TOO_LARGE", TOO_MUCH))


def serve(answers: BinaryIO) -> None:
    """Answer image by image, until the parent closes the pipe or dies."""
    _limit_memory()
    requests = receive(_read_request, partial(os._exit, 0))
    answers.write(READY)
    answers.flush()
    while True:
        sides, content = requests.get()
        _limit_time(IMAGE_CPU_SECONDS)
        _write_answer(answers, decode(content, sides))
        _limit_time(0)


def _read_request(pipe: BinaryIO) -> tuple[Sides, bytes] | None:
    """None at its end."""
    with contextlib.suppress(ValueError, struct.error):  # it ends within a request
        view, thumbnail, n_bytes = REQUEST.unpack(pipe.read(REQUEST.size))
        return Sides(view, thumbnail), _exactly(pipe, n_bytes)
    return None


def _write_answer(answers: BinaryIO, decoded: Decoded) -> None:
    known = {"sha256": decoded.content_sha256, "flags": decoded.flags, "refused": decoded.refused}
    view: memoryview | bytes = b""
    if decoded.view is not None:
        known["shape"] = decoded.view.shape
        view = np.ascontiguousarray(decoded.view).data.cast("B")
    parts = (json.dumps(known).encode(), view, decoded.thumbnail)
    answers.write(ANSWER.pack(*map(len, parts)))
    for part in parts:
        answers.write(part)
    answers.flush()


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on every platform

        resource.setrlimit(resource.RLIMIT_AS, (WORKER_BYTES, WORKER_BYTES))


def _limit_time(seconds: float) -> None:
    """The system ends this process after so many seconds of computing; 0 = never."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def main() -> None:
    """Be the child, on this process's own pipes; whatever else it prints goes to its last words."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    with contextlib.suppress(ValueError, OSError), answers_apart() as answers:  # the parent has gone
        serve(answers)


if __name__ == "__main__":
    main()
