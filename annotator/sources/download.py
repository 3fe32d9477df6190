"""Downloads a known data set's files and checks their hashes. Used by the command line; the app uses no network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from annotator import durable
from annotator.errors import ConfigError, SourceError
from annotator.types import Report, silent

FASHION_MNIST_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
FASHION_MNIST = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
"""File -> sha256 of what its authors published (the files whose MD5 sums their README lists)."""
MAX_BYTES = 64 * 2**20
"""Of one file; more than twice the largest of them."""
PIECE = 1 << 18
SECONDS = 30.0
"""Seconds without a byte until the server counts as gone."""


def download(base_url: str, checksums: Mapping[str, str], folder: Path, report: Report = silent) -> None:
    """Fetch each file of `checksums` (name -> sha256) from `base_url` into `folder`; those there already are kept.

    A file appears whole and checked or not at all. Raises ConfigError for an address that is no http(s) one,
    SourceError FETCH_FAILED where the server does not give a file, FETCH_CHANGED where it gives another one.
    """
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise ConfigError(f"{base_url!r} is no address to fetch from. It begins with https:// or http://.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, checksum in checksums.items():
        if not _is_there(folder / name, checksum):
            _fetch(f"{base_url.rstrip('/')}/{name}", folder / name, checksum, report)


def _is_there(path: Path, checksum: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == checksum


def _fetch(url: str, target: Path, checksum: str, report: Report) -> None:
    with durable.drafts(target) as (draft,):
        with draft.open("xb") as file:
            received = _receive(url, file, report)
        if received != checksum:
            raise SourceError(
                f"{url} is not the file that was published (its sha256 is {received}, not {checksum}). "
                "Nothing was kept. Try another --from.",
                "FETCH_CHANGED",
            )


def _receive(url: str, file: BinaryIO, report: Report) -> str:
    """Write what the server sends; returns its sha256."""
    digest, n_received = hashlib.sha256(), 0
    response = _open(url)
    with response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else 0
        while piece := _next(response, url):
            file.write(piece)
            digest.update(piece)
            n_received += len(piece)
            if n_received > MAX_BYTES:
                raise _failed(url, f"it sends more than {MAX_BYTES:,} bytes")
            report(f"Fetching {url.rpartition('/')[2]}, bytes", n_received, total)
    if n_received < total:
        raise _failed(url, f"the connection ended after {n_received:,} of {total:,} bytes")
    return digest.hexdigest()


def _open(url: str) -> HTTPResponse:
    try:
        response: HTTPResponse = urlopen(url, timeout=SECONDS)
    except HTTPError as error:
        error.close()
        raise _failed(url, f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError; ValueError: no valid address
        raise _failed(url, str(getattr(error, "reason", error))) from error
    return response


def _next(response: HTTPResponse, url: str) -> bytes:
    try:
        return response.read(PIECE)
    except (OSError, HTTPException) as error:
        raise _failed(url, str(error)) from error


def _failed(url: str, what: str) -> SourceError:
    return SourceError(
        f"{url} could not be fetched: {what}. Check the connection and try again, or give another --from.",
        "FETCH_FAILED",
    )
