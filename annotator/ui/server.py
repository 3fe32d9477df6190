"""How the app is served: the same script from `annotator run`, `python -m annotator run` and `streamlit run app.py`.

Loopback only: there is no sign-in yet, so no other address can be asked for, and no page of another origin may talk to
the server (see request_guard.py). Which folders the app may touch reaches the script through the environment, since
Streamlit starts it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from annotator.errors import ConfigError
from annotator.paths import assets, default_projects
from annotator.ui.preload import Preload
from annotator.ui.request_guard import RequestGuard

SCRIPT = str(Path(__file__).with_name("main.py"))
PROJECTS, ROOT = "ANNOTATOR_PROJECTS", "ANNOTATOR_ROOT"
IMAGES = "/annotator/image"
"""Where images are answered; see image_route.py."""
_FIRST_PAGE = ("annotator.ui.views", "annotator.ui.image_route")
_FIRST_DEMO = ("alembic.command", "annotator.strategies.herding")
_LISTENING_SECONDS = 0.05
_SWITCH_SECONDS = 0.0005
"""How long an import may hold up the thread that answers the browser."""


def serve(projects: Path, root: Path, port: int, browser: bool) -> None:
    """Serve until stopped. Raises ConfigError where the port is taken or the root is no folder."""
    if not root.is_dir():
        raise ConfigError(f"--root {root} is not a folder. Name one that holds images.")
    _check_port(port)
    os.environ[PROJECTS], os.environ[ROOT] = str(projects.resolve()), str(root.resolve())
    print(f"annotator: http://localhost:{port} (projects in {projects}; stop with Ctrl+C)", flush=True)
    sys.argv = [SCRIPT]  # what Streamlit takes for the launcher's own arguments
    app = st.App(SCRIPT, routes=routes(), middleware=middleware(), lifespan=importing_ahead)
    own = {
        "server.port": port,
        "server.headless": not browser,
        "server.fileWatcherType": "none",
    }  # no code changes here
    app.run(config={**_options(), **own})


def routes() -> list[BaseRoute]:
    """What is answered beside Streamlit's own addresses, also below a `server.baseUrlPath`, which is not known yet."""
    return [Route(f"{base}{IMAGES}/{{asked:path}}", _image) for base in ("", "/{base:path}")]


def middleware() -> list[Middleware]:
    """What every request passes first."""
    return [Middleware(RequestGuard), Middleware(Preload)]


@asynccontextmanager
async def importing_ahead(app: st.App) -> AsyncIterator[None]:
    """Import what the first page needs as soon as the port answers, while the browser fetches Streamlit's own files."""
    is_first = not any(Path(os.environ.get(PROJECTS) or default_projects()).glob("*/project.sqlite"))
    modules = (*_FIRST_PAGE, *(_FIRST_DEMO if is_first else ()))
    thread = threading.Thread(target=_import_ahead, args=(modules,), name="imports", daemon=True)
    asyncio.get_running_loop().call_later(_LISTENING_SECONDS, thread.start)
    yield


def _image(request: Request) -> Response:
    """Imported when first asked, so that the server is up sooner."""
    respond: Callable[[Request], Response] = import_module("annotator.ui.image_route").respond
    return respond(request)


def _import_ahead(modules: tuple[str, ...]) -> None:
    """Nothing that is imported goes away again: the garbage collector need not look for it."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.disable()
    try:
        for module in modules:
            import_module(module)
    finally:
        gc.freeze()
        gc.enable()
        sys.setswitchinterval(usual)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(f"Port {port} is taken ({error.strerror}). Stop the other app or give --port.") from error


def _options() -> dict[str, Any]:  # Any: option values
    """The app's Streamlit options: the checkout's own file, or its copy in a wheel."""
    beside = Path(__file__).parents[2] / ".streamlit" / "config.toml"
    inside = assets() / "streamlit.toml"
    path = inside if inside.exists() else beside
    return dict(_flat(tomllib.loads(path.read_text())))


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:  # Any: TOML
    pairs: list[tuple[str, Any]] = []  # Any: TOML
    for key, value in table.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return pairs
