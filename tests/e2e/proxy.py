"""A network that fails on demand: what the browser talks to stands between it and the server."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.e2e.conftest import free_port


class Proxy:
    """Passes bytes on, the server's `delay` seconds late; `cut` breaks every connection, and new ones work at once."""

    def __init__(self, server_port: int, delay: float = 0.0) -> None:
        self.port = free_port()
        self._delay = delay
        self._server_port = server_port
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """What was under way is lost, in both directions."""
        pairs, self._pairs = self._pairs, []
        for one in (end for pair in pairs for end in pair):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            try:
                there = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                here.close()
                continue
            self._pairs.append((here, there))
            _carry(here, there, 0.0)
            _carry(there, here, self._delay)


def _carry(source: socket.socket, sink: socket.socket, delay: float) -> None:
    """Two threads, so that what is late holds nothing else up."""
    under_way: queue.Queue[tuple[float, bytes]] = queue.Queue()
    threading.Thread(target=_take, args=(source, under_way, delay), daemon=True).start()
    threading.Thread(target=_hand_over, args=(under_way, source, sink), daemon=True).start()


def _take(source: socket.socket, under_way: queue.Queue[tuple[float, bytes]], delay: float) -> None:
    received = b"-"
    while received:
        try:
            received = source.recv(65536)
        except OSError:
            received = b""
        under_way.put((time.monotonic() + delay, received))


def _hand_over(under_way: queue.Queue[tuple[float, bytes]], source: socket.socket, sink: socket.socket) -> None:
    while True:
        due, received = under_way.get()
        time.sleep(max(0.0, due - time.monotonic()))
        if not received:
            break
        try:
            sink.sendall(received)
        except OSError:
            break
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(server_port: int, delay: float = 0.0) -> Iterator[Proxy]:
    opened = Proxy(server_port, delay)
    yield opened
    opened.close()
