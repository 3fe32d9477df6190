"""Small real values for tests: about thirty synthetic images that three classes can be told from."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotator.graph import build_graph
from annotator.types import Dataset, HeldOut, ImageArray, IntArray

SIDE = 8
ODD_PYTHON = """#!{python}
import os, signal
from annotator.jobs import decoders
whole = decoders.decode
def decode(content, sides):
    print("not an answer")
    if content.endswith(b"crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    while content.endswith(b"slow"):
        pass
    return whole(content, sides)
decoders.decode, decoders.IMAGE_CPU_SECONDS = decode, 0.2
decoders.main()
"""
"""In Python's place: a decoder that crashes or stalls on files that end so."""


def tiny_dataset(n: int = 30, seed: int = 0, n_classes: int = 3, n_held_out: int = 0) -> Dataset:
    """`n` grey images of 8 px, a bright column per class under noise; the truth goes round the classes in turn."""
    rng = np.random.default_rng(seed)
    images, truth = _images(n, n_classes, rng)
    features = _features(images)

    def open_image(row: int, side: int) -> Image.Image:
        picture = Image.fromarray(images[row, :, :, 0]).convert("RGB")
        return picture.resize((side, side), Image.Resampling.NEAREST) if side else picture

    return Dataset(
        ids=[f"tiny/{row:05d}" for row in range(n)],
        images=images,
        features=features,
        graph=build_graph(features, n_neighbors=5),
        group=np.arange(n),
        version=f"tiny-{n}-{seed}-{n_classes}",
        open_image=open_image,
        truth=truth,
        held_out=_held_out(n_held_out, n_classes, rng) if n_held_out else None,
    )


def _held_out(n: int, n_classes: int, rng: np.random.Generator) -> HeldOut:
    images, truth = _images(n, n_classes, rng)
    return HeldOut([f"held-out/{row:05d}" for row in range(n)], images, _features(images), truth)


def _images(n: int, n_classes: int, rng: np.random.Generator) -> tuple[ImageArray, IntArray]:
    truth = np.arange(n) % n_classes
    images = rng.integers(0, 100, size=(n, SIDE, SIDE, 1), dtype=np.uint8)
    images[np.arange(n), :, (truth * SIDE) // n_classes] = 240
    return images, truth


def _features(images: ImageArray) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return images.reshape(len(images), SIDE * SIDE).astype(np.float32) / np.float32(255)


def use_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Children are started with this script in Python's place."""
    path = tmp_path / "python"
    path.write_text(script.format(python=sys.executable))
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


def run_to_its_end(coroutine: Coroutine[Any, Any, None]) -> None:  # Any: nothing is sent or yielded
    """In a thread of its own: this one has a loop already once Playwright has been started in it."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()
