"""Images by address, so that the browser fetches each once and keeps it: signed, upright, always re-encoded.

    /annotator/image/<project's folder>/<row>/<longest side in px, 0 = full size>?v=<dataset version>&s=<signature>

The signature (itsdangerous, HMAC-SHA256) covers all the rest: only what a page was given can be asked for. Its key lies
in the projects folder, so addresses outlive the process. What is sent was encoded by this program, here or at the
import, never by whoever made the file; a file that changed since the import is not shown (see pictures.py). Runs in the
server's threads and knows no browser tab.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

import streamlit as st
from itsdangerous import Signer
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from annotator import durable, images
from annotator.errors import AnnotatorError, ConfigError
from annotator.pictures import kind_of
from annotator.project import Project
from annotator.ui import shared
from annotator.ui.server import IMAGES

SECRET, SECRET_BYTES = ".secret", 32
_OWN_SECRET = secrets.token_bytes(SECRET_BYTES)
VERSION_DIGITS = 12
ASKED = re.compile(r"([^/]+)/(0|[1-9][0-9]{0,8})/(0|[1-9][0-9]{0,8})")
FOR_A_YEAR, NOT_AT_ALL = "private, max-age=31536000, immutable", "no-store"
HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
PLACEHOLDER = images.png(Image.new("RGB", (32, 32), (128, 128, 128)))
"""Shown for an image that is gone, or is another one by now."""


@dataclass(frozen=True)
class Asked:
    """One image as an address names it."""

    folder: str
    row: int
    side: int
    version: str

    @property
    def signature(self) -> str:
        """Letters, digits, "-" and "_". Raises ConfigError where the key is damaged."""
        return _signer().get_signature(self._signed).decode()

    def is_signed(self, signature: str) -> bool:
        """Whether it is the signature, letter for letter; none is, where the key is damaged.

        itsdangerous' own `verify_signature` would pass over letters that are not of its alphabet.
        """
        with suppress(ConfigError):
            return hmac.compare_digest(self.signature.encode(), signature.encode("utf-8", "surrogatepass"))
        return False

    @property
    def _signed(self) -> bytes:
        """Only its last part could hold a slash more, so it has one meaning."""
        return f"{self.folder}/{self.row}/{self.side}/{self.version}".encode("utf-8", "surrogatepass")


# ---- for the views


def signed_url(project: Project, row: int, side: int) -> str:
    """The address of an image on this server, from its root: at most `side` px on the longer side, 0 = full size.

    Raises ConfigError where the key to sign with is damaged.
    """
    asked = Asked(project.folder.name, row, side, _version(project))
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    where = f"{IMAGES}/{quote(os.fsencode(asked.folder), safe='')}/{row}/{side}"
    return f"{'/' if base else ''}{base}{where}?v={asked.version}&s={asked.signature}"


def warm(project: Project, rows: Iterable[int], side: int) -> None:
    """Encode images before a page asks for them; meant for a thread in the background."""
    for row in rows:
        with suppress(AnnotatorError, OSError):  # the page will be told when it asks
            project.prepared.pictures.encoded(row, side)


# ---- for the server


def respond(request: Request) -> Response:
    """The image at this address, a grey one where it cannot be had; 403 where the address was not signed here."""
    asked = _asked(request)
    if asked is None or not asked.is_signed(request.query_params.get("s", "")):
        return Response(status_code=403, headers=_headers(NOT_AT_ALL))
    try:
        project = shared.workspace().open(asked.folder)
        image = project.prepared.pictures.encoded(asked.row, asked.side)
    except (AnnotatorError, OSError):
        return Response(PLACEHOLDER, headers=_headers(NOT_AT_ALL), media_type="image/png")
    # The address of an earlier version still shows its row, which need not be the same picture for ever.
    keeping = FOR_A_YEAR if asked.version == _version(project) else NOT_AT_ALL
    return Response(image, headers=_headers(keeping), media_type=f"image/{kind_of(image).lower()}")


def _headers(keeping: str) -> dict[str, str]:
    return {**HEADERS, "Cache-Control": keeping}


def _asked(request: Request) -> Asked | None:
    """What the address asks for; None where no address of ours looks like that."""
    found = ASKED.fullmatch(request.path_params["asked"])
    if found is None:
        return None
    return Asked(found[1], int(found[2]), int(found[3]), request.query_params.get("v", ""))


def _version(project: Project) -> str:
    return project.prepared.dataset.version[:VERSION_DIGITS]


# ---- the key


def _signer() -> Signer:
    """Raises ConfigError where the key is damaged."""
    return _signer_with(_secret(shared.projects_folder()))


@cache
def _signer_with(secret: bytes) -> Signer:
    return Signer(secret, salt="annotator.image", key_derivation="hmac", digest_method=hashlib.sha256)


@cache
def _secret(projects: Path) -> bytes:
    """The key that every process on this projects folder signs with, made by the first.

    Where the folder cannot keep one, it is this process's own. Raises ConfigError for one that is too short to be safe.
    """
    path = projects / SECRET
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.write_new(path, secrets.token_bytes(SECRET_BYTES))
        kept = path.read_bytes()
    except OSError:
        return _OWN_SECRET
    if len(kept) < SECRET_BYTES:
        raise ConfigError(f"The file {path} is damaged. Delete it and start again: another one is made.")
    return kept
