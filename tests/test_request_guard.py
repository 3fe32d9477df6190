"""Who may talk to the server, and what stands on every answer: the middleware over an app that counts its calls."""

from __future__ import annotations

from typing import Any

import pytest

from annotator.ui.request_guard import RequestGuard
from tests.builders import run_to_its_end

HEADERS = list[tuple[str, str]]
OURS: list[HEADERS] = [
    [("host", "localhost:8501")],
    [("host", "127.0.0.1:8501"), ("origin", "http://127.0.0.1:8501")],
    [("host", "[::1]:8501"), ("origin", "http://[::1]:8501")],
    [("host", "localhost"), ("origin", "https://localhost")],
]
FOREIGN: list[HEADERS] = [
    [],
    [("host", "evil.example:8501")],
    [("host", "evil.example"), ("origin", "http://evil.example")],
    [("host", "localhost.evil.example:8501")],
    [("host", "a.localhost:8501")],
    [("host", "localhost:8501@evil.example")],
    [("host", "localhost:8501\n")],
    [("host", "192.168.0.7:8501")],
    [("host", "localhost:8501"), ("host", "evil.example")],
    [("host", "localhost:8501"), ("origin", "http://evil.example")],
    [("host", "localhost:8501"), ("origin", "http://localhost:3000")],
    [("host", "localhost:8501"), ("origin", "http://127.0.0.1:8501")],
    [("host", "localhost:8501"), ("origin", "null")],
    [("host", "localhost:8501"), ("origin", "http://localhost:8501"), ("origin", "http://evil.example")],
]


class Asked:
    """An app that says yes to everything and remembers that it was asked."""

    def __init__(self) -> None:
        self.n_times = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI's own
        self.n_times += 1
        headers = [(b"content-security-policy", b"default-src 'none'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"yes"})


def answered(kind: str, headers: HEADERS) -> tuple[int, list[dict[str, Any]]]:  # Any: ASGI's messages
    """How often the app behind the guard was asked, and what was sent."""
    app, sent = Asked(), []

    async def send(message: Any) -> None:  # Any: ASGI's own
        sent.append(message)

    async def receive() -> Any:  # Any: ASGI's own
        return {"type": f"{kind}.connect"}

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "path": "/", "method": "GET", "headers": raw}
    run_to_its_end(RequestGuard(app)(scope, receive, send))
    return app.n_times, sent


@pytest.mark.parametrize("headers", OURS)
def test_a_page_of_this_machine_is_let_in(headers: HEADERS) -> None:
    """By each of its names, with and without an origin."""
    assert answered("http", headers)[0] == answered("websocket", headers)[0] == 1


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_elsewhere_is_refused_before_anything_is_done(headers: HEADERS) -> None:
    """S1, S2: another host, another origin, another port of this machine, none or two of them: nothing behind the
    guard is asked, so no address is looked up either.
    """
    n_asked, sent = answered("http", headers)
    assert (n_asked, sent[0]["status"]) == (0, 403)
    n_asked, sent = answered("websocket", headers)
    assert (n_asked, [message["type"] for message in sent]) == (0, ["websocket.close"])


@pytest.mark.parametrize("headers", [OURS[0], FOREIGN[1]])
def test_no_answer_may_be_framed(headers: HEADERS) -> None:
    """S1: the ban stands beside what an answer says itself, and on refusals too."""
    _, sent = answered("http", headers)
    policies = [value for name, value in sent[0]["headers"] if name.lower() == b"content-security-policy"]
    assert policies[-1] == b"frame-ancestors 'none'"
    assert (b"x-frame-options", b"DENY") in [(name.lower(), value) for name, value in sent[0]["headers"]]
