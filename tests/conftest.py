"""What tests share: a folder for projects, photos to put in front of a person, a browser to look with."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")
LONGEST = (
    "e2e/test_backend.py", "e2e/test_plugins.py", "e2e/test_surface.py", "test_contracts.py", "e2e/test_loop.py",
    "test_keras.py", "e2e/test_hostile.py", "e2e/test_recommended.py", "e2e/test_bring.py", "test_label_spreading.py",
    "test_pools.py", "test_course.py", "test_session.py", "e2e/test_launch.py", "e2e/test_accessibility.py",
    "e2e/test_auto.py", "e2e/test_strategies.py", "test_payoff.py",
)  # fmt: skip
"""The files that take longest begin: both cores are then done at about the same time."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_BROWSER = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def find_chromium() -> str | None:
    """The one named in ANNOTATOR_CHROMIUM, else one on the PATH, else one that Playwright fetched."""
    named = os.environ.get("ANNOTATOR_CHROMIUM")
    if named:
        return shutil.which(named)
    on_path = (shutil.which(name) for name in (*BROWSERS, MAC_BROWSER))
    return next((path for path in on_path if path), None) or _fetched()


def _fetched() -> str | None:
    from playwright.sync_api import sync_playwright  # slow, and seldom needed

    with sync_playwright() as playwright:
        return shutil.which(playwright.chromium.executable_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order of LONGEST, the others after them as they were found."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def no_folder_of_scripts() -> Iterator[None]:
    """Streamlit's AppTest keeps its scripts in one folder a process; it goes after the last test of all files."""
    yield
    app_test = sys.modules.get("streamlit.testing.v1.app_test")
    if app_test is not None:
        app_test.TMP_DIR.cleanup()


@pytest.fixture(scope="module", autouse=True)
def main_module() -> Iterator[None]:
    """AppTest leaves a script in the place of the main module; the next file has its own again."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path to the browser. Without one its tests fail: none is ever left out."""
    path = find_chromium()
    assert path, "No Chromium found. Install it (Debian: apt install chromium) or name it in ANNOTATOR_CHROMIUM."
    return path


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    """An empty folder where projects live."""
    folder = tmp_path / "projects"
    folder.mkdir()
    return folder


PhotoFolder = Callable[..., Path]


@pytest.fixture
def photo_folder(tmp_path: Path) -> PhotoFolder:
    """A function (n, classes, seed) -> folder of n photos of shapes, JPEG and PNG in turn, the same for the same seed.

    The shapes alternate, so each is a class. With `classes`, such as ("circle", "square"), those alone are drawn, each
    into the sub-folder of its name; without, all of SHAPES lie flat in one folder.
    """

    def make(n: int = 12, classes: Sequence[str] = (), seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / "photos"
        shapes = classes or SHAPES
        for number in range(n):
            shape = shapes[number % len(shapes)]
            path = folder / (shape if classes else "") / f"{number:04}.{('jpg', 'png')[number % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(shape, rng).save(path)
        return folder

    return make


def photo(shape: str, rng: np.random.Generator) -> Image.Image:
    """96 x 72 px, RGB: a bright shape somewhere on dark noise."""
    image = Image.fromarray(rng.integers(0, 60, (72, 96, 3), dtype=np.uint8))
    size, x, y = (int(value) for value in rng.integers((24, 4, 4), (40, 48, 28)))
    colour = tuple(int(value) for value in rng.integers(140, 256, 3))
    box = (x, y, x + size, y + size)
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse(box, colour)
    elif shape == "square":
        draw.rectangle(box, colour)
    else:
        draw.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], colour)
    return image


if __name__ == "__main__":  # `make test` asks before it starts
    sys.exit(find_chromium() is None)
