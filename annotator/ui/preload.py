"""Tells the browser with the page itself which modules it will need, so that it fetches them while Python imports.

The labeling component is two dozen small modules that import each other: found one by one, each would wait for the one
before. So do the parts of Streamlit's own page that are loaded when they are first drawn. Knows files, no project.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GRID = "_stcore/bidi-components/annotator.grid"
DRAWN_FIRST = ("BidiComponent", "Html", "purify.es", "_arrayReduce", "serialization", "recordbatch", "Button")
"""Streamlit's own modules that the labeling view needs and its page does not name; their files' names end in a hash."""


class Preload:
    """ASGI middleware: a page is answered with `Link: <...>; rel=modulepreload` for each of these modules."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_links(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.append("Link", links(str(st.get_option("server.baseUrlPath") or "").strip("/")))
            await send(message)

        await self._app(scope, receive, with_links)


@cache
def links(base: str) -> str:
    """The header's value; `base` is the path under which the app is served."""
    static = Path(st.__file__).parent / "static" / "static" / "js"
    theirs = [f"static/js/{path.name}" for name in DRAWN_FIRST for path in sorted(static.glob(f"{name}.*.js"))]
    ours = [f"{GRID}/{path.name}" for path in sorted(Path(__file__).with_name("grid").glob("*.js"))]
    root = f"/{base}/" if base else "/"
    return ", ".join(f"<{root}{path}>; rel=modulepreload" for path in [*theirs, *ours])
