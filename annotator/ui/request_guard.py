"""Who may talk to the server: pages that this machine's browser opened by a name of this machine, and nobody else.

Stands in front of every route, the websocket and Streamlit's own files included. A page elsewhere whose name was made
to resolve to this machine (DNS rebinding) sends that name as Host; any other page, one on another port of this machine
too, sends itself as Origin. Both are refused here, before Streamlit sees them: for an Origin it does not know it would
ask the internet for its own address. The port in Host is not compared, so that a forwarded port (`ssh -L`) works: no
page can choose it. Nothing that is answered may be framed by, or loaded into, a page of another origin.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")
"""A Host header that names this machine, as browsers write it."""
POLICY_VIOLATION = 1008
ON_EVERY_ANSWER = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
REFUSED = "This app answers on this machine alone. Open it here, at the address that was printed when it was started.\n"


class RequestGuard:
    """ASGI middleware: 403 for a request that names another host or comes from another origin."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _forbid_framing(message)
            await send(message)

        answer = self._app if is_ours(Headers(scope=scope)) else _refusal(scope)
        await answer(scope, receive, guarded)


def is_ours(headers: Headers) -> bool:
    """Whether exactly one Host is named, it is this machine, and the Origin, where there is one, is the same."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or not LOOPBACK.fullmatch(hosts[0]):
        return False
    return all(origin in (f"http://{hosts[0]}", f"https://{hosts[0]}") for origin in origins)


def _refusal(scope: Scope) -> ASGIApp:
    if scope["type"] == "websocket":
        return WebSocketClose(POLICY_VIOLATION)
    return PlainTextResponse(REFUSED, status_code=403)


def _forbid_framing(message: Message) -> None:
    """Beside what an answer says itself: of several policies a browser applies each."""
    headers = MutableHeaders(scope=message)
    for name, value in ON_EVERY_ANSWER.items():
        headers.append(name, value)
