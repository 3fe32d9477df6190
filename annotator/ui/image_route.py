"""Images by address, so that the browser fetches each once and keeps it: signed, upright, always re-encoded.

    /annotator/image/<project's folder>/<row>/<longest side in px, 0 = full size>?v=<dataset version>&s=<signature>

The signature (HMAC-SHA256, RFC 2104) covers all the rest: only what a page was given can be asked for. Its key lies in
the projects folder, so addresses outlive the process. What is sent was encoded by this program, here or at the import,
never by whoever made the file; a file that changed since the import is not shown (originals.py). Runs in the server's
threads and knows no browser tab.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from annotator import durable, images
from annotator.dataset import Prepared
from annotator.errors import AnnotatorError, ConfigError, SourceError
from annotator.ingest import THUMBNAIL_SIDE
from annotator.originals import NEARLY
from annotator.project import Project
from annotator.ui import state
from annotator.ui.pictures import SMALL_IMAGE
from annotator.ui.server import IMAGES

FULL_SIDE = 2560
"""Longest side in px that is ever sent: a 4K screen shows no more of a photo beside the controls."""
KEPT_BYTES = 64 << 20
N_DECODERS = 2
SECRET, SECRET_BYTES = ".secret", 32
_OWN_SECRET = secrets.token_bytes(SECRET_BYTES)
VERSION_DIGITS = 12
ASKED = re.compile(r"([^/]+)/(0|[1-9][0-9]{0,8})/(0|[1-9][0-9]{0,8})")
FOR_A_YEAR, NOT_AT_ALL = "private, max-age=31536000, immutable", "no-store"
HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
PLACEHOLDER = images.png(Image.new("RGB", (32, 32), (128, 128, 128)))
"""Shown for an image that is gone, or is another one by now."""

Key = tuple[str, int, int]
"""Dataset version, row, side: equal keys are equal pictures, in whatever project."""


@dataclass(frozen=True)
class Asked:
    """One image as an address names it."""

    folder: str
    row: int
    side: int
    version: str

    @property
    def signature(self) -> str:
        """Hexadecimal. Only the last part of the text could hold a slash more, so it has one meaning."""
        text = f"image/{self.folder}/{self.row}/{self.side}/{self.version}"
        return hmac.new(_secret(state.projects_folder()), text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


class Kept:
    """Encoded images in memory, those used last, up to `limit` bytes. Each is made once, however many ask for it, and
    at most two at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._n_bytes = 0
        self._images: OrderedDict[Key, bytes] = OrderedDict()
        self._changing = threading.Lock()
        self._turns = [threading.Lock() for _ in range(64)]  # askers for one image share one of them
        self._decoders = threading.BoundedSemaphore(N_DECODERS)

    @property
    def n_bytes(self) -> int:
        """At most the limit."""
        return self._n_bytes

    def get(self, key: Key, make: Callable[[], bytes]) -> bytes:
        """The image of this key; what `make` raises is raised, and nothing kept."""
        found = self._find(key)
        if found is not None:
            return found
        with self._turns[hash(key) % len(self._turns)]:
            found = self._find(key)  # made while this thread waited for its turn
            if found is None:
                with self._decoders:
                    found = make()
                self._keep(key, found)
        return found

    def _find(self, key: Key) -> bytes | None:
        with self._changing:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def _keep(self, key: Key, image: bytes) -> None:
        if len(image) > self._limit:
            return  # it would push out all the others
        with self._changing:
            self._images[key] = image
            self._n_bytes += len(image)
            while self._n_bytes > self._limit:
                self._n_bytes -= len(self._images.popitem(last=False)[1])


_KEPT = Kept(KEPT_BYTES)


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
            _encoded(project, row, side)


# ---- for the server


def respond(request: Request) -> Response:
    """The image at this address, a grey one where it cannot be had; 403 where the address was not signed here."""
    asked = _asked(request)
    if asked is None or not _is_signed(asked, request.query_params.get("s", "")):
        return Response(status_code=403, headers=_headers(NOT_AT_ALL))
    try:
        project = state.open_project(asked.folder)
        image = _encoded(project, asked.row, asked.side)
    except (AnnotatorError, OSError):
        return Response(PLACEHOLDER, headers=_headers(NOT_AT_ALL), media_type="image/png")
    # The address of an earlier version still shows its row, which need not be the same picture for ever.
    keeping = FOR_A_YEAR if asked.version == _version(project) else NOT_AT_ALL
    return Response(image, headers=_headers(keeping), media_type=f"image/{_format(image).lower()}")


def _headers(keeping: str) -> dict[str, str]:
    return {**HEADERS, "Cache-Control": keeping}


def _asked(request: Request) -> Asked | None:
    """What the address asks for; None where no address of ours looks like that."""
    found = ASKED.fullmatch(request.path_params["asked"])
    if found is None:
        return None
    return Asked(found[1], int(found[2]), int(found[3]), request.query_params.get("v", ""))


def _is_signed(asked: Asked, signature: str) -> bool:
    with suppress(ConfigError):  # without a key nothing is signed
        return hmac.compare_digest(asked.signature.encode(), signature.encode("utf-8", "surrogatepass"))
    return False


def _version(project: Project) -> str:
    return project.prepared.dataset.version[:VERSION_DIGITS]


# ---- encoding


def _encoded(project: Project, row: int, side: int) -> bytes:
    """PNG or JPEG. Raises SourceError, ImageError or OSError where the picture cannot be had."""
    prepared = project.prepared
    if row >= len(prepared.dataset):
        raise SourceError(f"There is no image in row {row}. Open the page again.", "SRC_MISSING")
    key = (prepared.dataset.version, row, side)
    return _KEPT.get(key, lambda: _encode(prepared, row, side))


def _encode(prepared: Prepared, row: int, side: int) -> bytes:
    """The import's own encoding where that is what was asked for, else one made here."""
    stored = _stored(prepared.folder, row)
    if stored is not None and _suffices(stored, side):
        return stored
    picture = prepared.dataset.open_image(row, min(side or FULL_SIDE, FULL_SIDE))
    return images.png(picture) if max(picture.size) <= SMALL_IMAGE else images.jpeg(picture)


def _suffices(stored: bytes, side: int) -> bool:
    """Whether the thumbnail is what was asked for: it fits, and a larger one would show hardly more."""
    longest = max(images.DECODERS[_format(stored)](BytesIO(stored)).size)
    is_whole = longest < THUMBNAIL_SIDE
    return is_whole if side == 0 else longest <= side and (is_whole or side <= NEARLY * THUMBNAIL_SIDE)


def _format(encoded: bytes) -> str:
    return "PNG" if encoded.startswith(b"\x89PNG") else "JPEG"


def _stored(dataset_folder: Path, row: int) -> bytes | None:
    """The thumbnail as the import encoded it; None where the pool is an array and has none."""
    found = _thumbnails(dataset_folder)
    if found is None:
        return None
    path, offsets = found
    start, end = (int(offset) for offset in offsets[row : row + 2])
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


@lru_cache(maxsize=16)
def _thumbnails(dataset_folder: Path) -> tuple[Path, NDArray[np.int64]] | None:
    """The import's file of thumbnails, and where in it each begins and the last one ends."""
    manifest = json.loads((dataset_folder / "dataset.json").read_text())
    pool = dataset_folder.parent / str(manifest["images"])
    if not (pool / "thumbnails.bin").exists():
        return None
    return pool / "thumbnails.bin", np.load(pool / "thumbnails.npy", mmap_mode="r", allow_pickle=False)


# ---- the key


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
