"""The pictures of the README, taken of the real app in Chromium: `python -m tests.benchmarks.screenshots [NAME ...]`.

The labels on them are the truth, given through the same session that the page uses.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from annotator.config import presets
from annotator.project import Project
from annotator.simulate import answer_batch, oracle_of
from tests.conftest import find_chromium
from tests.e2e.conftest import BROWSER_FLAGS, Server

TARGET = Path(__file__).parents[2] / "assets" / "screenshots"
SHOTS = {
    "label": ("digits", "label", 1280, 860, "light"),
    "label-dark": ("digits", "label", 1280, 860, "dark"),
    "label-phone": ("digits", "label", 390, 844, "light"),
    "progress": ("digits", "progress", 1280, 1250, "light"),
    "progress-phone-dark": ("digits", "progress", 390, 844, "dark"),
    "tutorial": ("tutorial", "progress", 1280, 1480, "light"),
    "export": ("digits", "export", 1280, 620, "light"),
    "start": ("digits", "start", 1280, 920, "light"),
}

PLAIN_ROOT = """root => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(root, "/photos");
}"""
"""Every run has a root of its own, with a name that says nothing: the pictures show another."""


def make_projects(folder: Path) -> None:
    """The digits after eight rounds, and the tutorial's run played to its end."""
    for name, preset, who, rounds in (
        ("digits", "digits", "you", 8),
        ("film", "digits", "you", 6),
        ("tutorial", "digits-reference", "oracle", 5),
    ):
        project = Project.create(folder / name, presets()[preset].config)
        session, oracle = project.session(who), oracle_of(project)
        for _ in range(rounds):
            session.advance()
            answer_batch(session, oracle)
        session.advance()
        project.close()


def take(browser: Browser, server: Server, name: str) -> None:
    """One picture."""
    project, view, width, height, scheme = SHOTS[name]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]  # light or dark
    page = context.new_page()
    path = "" if view == "label" else view
    page.goto(f"{server.url}/{path}?project={project}")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    _drawn(page, view)
    page.evaluate(PLAIN_ROOT, str(server.root))
    page.screenshot(path=TARGET / f"{name}.png")
    context.close()


def film(browser: Browser, server: Server) -> None:
    """Two batches answered by keys, a picture after each key, as an animated GIF; the last key is taken back."""
    page = browser.new_page(viewport={"width": 1280, "height": 650})
    page.goto(f"{server.url}/?project=film")
    _drawn(page, "label")
    truth = dict(load_truth(server.projects / "film"))
    frames = [page.screenshot()]
    for number in range(20):
        image_id = page.locator(".surface .card[data-cursor=true]").get_attribute("data-image")
        page.keyboard.press("Backspace" if number == 19 else truth[str(image_id)])
        page.wait_for_timeout(150)
        page.locator(".surface[data-waiting=false]").wait_for()
        frames.append(page.screenshot())
    page.context.close()
    shots = [Image.open(BytesIO(frame)).convert("RGB").resize((880, 447), Image.Resampling.LANCZOS) for frame in frames]
    pictures = [shot.quantize(96, dither=Image.Dither.NONE) for shot in shots]
    pace = [900, *[350] * (len(pictures) - 2), 1500]
    pictures[0].save(
        TARGET / "surface.gif", save_all=True, append_images=pictures[1:], duration=pace, loop=0, optimize=True
    )


def load_truth(folder: Path) -> list[tuple[str, str]]:
    """(image id, class) of every image of the pool."""
    project = Project(folder)
    oracle = oracle_of(project)
    known = [(image_id, str(oracle.answer(image_id))) for image_id in project.learner.dataset.ids]
    project.close()
    return known


def _drawn(page: Page, view: str) -> None:
    marker = {"label": ".surface[data-ready=true] .card", "progress": "canvas"}
    page.wait_for_selector(marker.get(view, "[data-testid=stButton]"))
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    page.wait_for_timeout(1500)  # charts draw after the script has run


def main(names: Sequence[str] = ()) -> None:
    """Take these, or all of them and the film."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        projects = Path(scratch) / "projects"
        projects.mkdir()
        make_projects(projects)
        server = Server(projects, Path(scratch))
        server.start()
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=BROWSER_FLAGS)
        try:
            for name in names or SHOTS:
                take(browser, server, name)
            if not names:
                film(browser, server)
        finally:
            browser.close()
            server.stop()
    print(json.dumps({"screenshots": sorted(names) or [*sorted(SHOTS), "surface"]}))


if __name__ == "__main__":
    main(sys.argv[1:])
