"""The labeling surface, timed in headless Chromium before the real app: all 60,000 Fashion-MNIST images, a real store,
the model `vote` and the strategy `recommended` on the quick features.

    python -m tests.benchmarks.surface [--labels 240] [--only grid photos slow_server training form orders]

A key falls every 120 ms, whatever the app does. `key_ms`: from a key (the browser's own time stamp) until the frame
after its card has changed; `batch_ms`: from a batch's last key until the next batch's first frame. Then every key's
image and class are compared with the store: `wrong` stands on another image or class, `lost` is not there. Without a
card under the cursor (a batch was not there in time) a key does nothing and counts as `idle`.

`photos` are 25 of 1,024 px a batch, `slow_server` answers 0.3 s late, `training` has `contrastive` learn meanwhile,
`form` is the app's fallback of plain widgets: a click instead of a key. `orders` are the labels a minute, with each
order of a batch, of somebody who knows the truth and presses the same key again after REPEAT_SECONDS, another one after
OTHER_SECONDS. Goals: 18 and 34 ms a key, 35 and 100 a batch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from annotator.class_keys import class_keys
from annotator.config import BATCH_ORDERS, Config
from annotator.project import Project
from tests import storing
from tests.conftest import find_chromium
from tests.e2e.conftest import BROWSER_FLAGS, Server, running
from tests.e2e.proxy import proxy_to

PACE_SECONDS = 0.12
SLOW_SECONDS = 0.3
REPEAT_SECONDS, OTHER_SECONDS = 0.12, 0.45
N_PHOTOS, PHOTO_SIZE = 400, (1024, 768)
CLOTHES = Config(
    name="clothes",
    source="fashion-mnist",
    source_parameters={"full": True},
    model="vote",
    strategy="recommended",
    batch_size=12,
)
GOALS = {"key_ms": 18, "key_p95_ms": 34, "batch_ms": 35, "batch_p95_ms": 100}
WATCH = """
window.timed = { pressed: [], keys: [], batches: [], idle: 0 };
const surfaceIn = () => [...document.querySelectorAll('*')].map(one => one.shadowRoot?.querySelector('.surface'))
  .find(Boolean);
let known = null;
const surface = () => (known?.isConnected ? known : (known = surfaceIn()));
window.surfaceNow = surface;
const painted = done => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => done(performance.now());
  channel.port2.postMessage(null);
});
window.addEventListener('keydown', event => {
  const card = surface()?.querySelector('.card[data-cursor=true]');
  if (!/^[0-9]$/.test(event.key)) return;
  if (!card || card.dataset.state !== 'open') { timed.idle += 1; return; }
  timed.pressed.push([card.dataset.image, event.key]);
  const round = surface().dataset.round, isLast = surface().dataset.open === '1', from = event.timeStamp;
  painted(now => timed.keys.push(now - from));
  if (!isLast) return;
  const look = () => painted(now => {
    const there = surface().dataset.round !== round && surface().dataset.open !== '0'
      && [...surface().querySelectorAll('.card img')].every(image => image.complete && image.naturalWidth);
    if (there) timed.batches.push(now - from); else look();
  });
  look();
}, true);
"""

UNDER_THE_CURSOR = """pressed => {
  const card = window.surfaceNow()?.querySelector('.card[data-cursor=true][data-state=open]');
  return card && card.dataset.image !== pressed ? card.dataset.image : null;
}"""


def figures(timed: dict[str, Any]) -> dict[str, float | None]:  # Any: JSON
    """Medians and 95th percentiles in ms."""
    found: dict[str, float | None] = {}
    for name, values in (("key", timed["keys"]), ("batch", timed["batches"])):
        found[f"{name}_ms"] = round(statistics.median(values), 1) if values else None
        found[f"{name}_p95_ms"] = round(float(np.percentile(values, 95)), 1) if values else None
    return found


def by_keys(page: Page, folder: Path, n_labels: int) -> dict[str, Any]:  # Any: JSON
    """Press digits at the pace, wait until all is stored, compare with the store."""
    page.locator(".surface[data-ready=true] .card").first.wait_for()
    before = len(stored(folder)[0])
    started = time.perf_counter()
    for number in range(n_labels):
        time.sleep(max(0.0, started + number * PACE_SECONDS - time.perf_counter()))
        page.keyboard.press(str(number * 7 % 10))
    page.locator(".surface[data-unsaved='0'][data-waiting=false]").wait_for()
    minutes = (time.perf_counter() - started) / 60
    timed = page.evaluate("window.timed")
    labels, names = stored(folder)
    pressed = {image: names[key] for image, key in timed["pressed"]}
    return {
        **figures(timed),
        "labels_per_minute": round((len(labels) - before) / minutes),
        "wrong": sum(labels[image] != name for image, name in pressed.items() if image in labels),
        "lost": sum(image not in labels for image in pressed),
        "idle": timed["idle"],
    }


def by_truth(page: Page, folder: Path, n_labels: int) -> dict[str, Any]:  # Any: JSON
    """Press the right key of every card, the same key as before sooner than another one."""
    truth, keys = true_keys(folder)
    page.locator(".surface[data-ready=true] .card").first.wait_for()
    pressed, last, n_repeats, started = "", "", 0, time.perf_counter()
    for _ in range(n_labels):
        image = page.wait_for_function(UNDER_THE_CURSOR, arg=pressed).json_value()
        key = keys[truth[image]]
        time.sleep(REPEAT_SECONDS if key == last else OTHER_SECONDS)
        page.keyboard.press(key)
        n_repeats += key == last
        pressed, last = image, key
    page.locator(".surface[data-unsaved='0'][data-waiting=false]").wait_for()
    minutes = (time.perf_counter() - started) / 60
    labels, _ = stored(folder)
    return {
        "labels_per_minute": round(n_labels / minutes),
        "repeated": n_repeats,
        "wrong": sum(truth[image] != name for image, name in labels.items()),
        "lost": n_labels - len(labels),
    }


def true_keys(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(image id -> true class, class -> key)."""
    project = Project(folder)
    codes, names = project.learner.truth, project.class_names
    assert codes is not None
    truth = {image_id: names[code] for image_id, code in zip(project.learner.dataset.ids, codes.tolist(), strict=True)}
    keys = class_keys(names, project.config.class_keys)
    project.close()
    return truth, {name: key for name, key in keys.items() if key}


def by_form(page: Page, n_labels: int) -> dict[str, Any]:  # Any: JSON
    """Click a pill a card, save, wait for the next batch."""
    clicks, batches, n_done = [], [], 0
    started = time.perf_counter()
    while n_done < n_labels:
        cards = page.locator("[class*=st-key-card-]")
        cards.first.wait_for()
        shown = cards.first.locator("img").get_attribute("alt")
        for card in cards.all():
            pill = card.get_by_role("radio").first
            clicked = time.perf_counter()
            pill.click()
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
            clicks.append(1000 * (time.perf_counter() - clicked))
            n_done += 1
        clicked = time.perf_counter()
        page.get_by_role("button", name="Save answers").click()
        page.locator(f"[class*=st-key-card-] img:not([alt='{shown}'])").first.wait_for()
        page.wait_for_function("alt => document.querySelector('[class*=st-key-card-] img')?.alt !== alt", arg=shown)
        batches.append(1000 * (time.perf_counter() - clicked))
    minutes = (time.perf_counter() - started) / 60
    return {
        **figures({"keys": clicks, "batches": batches}),
        "labels_per_minute": round(n_done / minutes),
        "clicked": n_done,
    }


def stored(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(image id -> class, read from the disk; key -> class)."""
    project = Project(folder)
    names, events = project.class_names, storing.current(project.store)
    keys = class_keys(names, project.config.class_keys)
    project.close()
    labels = {str(event.image_id): names[event.class_id] for event in events if event.class_id is not None}
    return labels, {key: name for name, key in keys.items()}


def photos(folder: Path) -> Path:
    """Noise of 1,024 x 768 px as JPEG files."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(N_PHOTOS):
        coarse = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(folder / f"{number:03d}.jpg")
    return folder


class Bench:
    """One server, one browser; every scenario is a project and a page of its own."""

    def __init__(self, server: Server, browser: Browser, n_labels: int) -> None:
        self.server, self.browser, self.n_labels = server, browser, n_labels

    def measure(
        self, config: Config, name: str, url: str | None = None, ready: Callable[[Page], None] | None = None
    ) -> dict[str, Any]:  # Any: JSON
        folder = self.server.projects / name
        Project.create(folder, config).close()
        page = self.page(f"{url or self.server.url}/?project={name}")
        if ready is not None:
            page.locator(".surface[data-ready=true] .card").first.wait_for()
            ready(page)
        found = by_keys(page, folder, self.n_labels)
        page.context.close()
        return found

    def page(self, address: str) -> Page:
        page = self.browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(120_000)
        page.add_init_script(WATCH)
        page.goto(address)
        return page

    def grid(self) -> dict[str, Any]:  # Any: JSON
        return self.measure(CLOTHES, "grid")

    def photos(self) -> dict[str, Any]:  # Any: JSON
        folder = photos(self.server.root / "photos")
        classes = tuple(f"class {number}" for number in range(10))
        source = {"path": str(folder)}
        return self.measure(
            Config(name="photos", source="folder", source_parameters=source, classes=classes, batch_size=25), "photos"
        )

    def slow_server(self) -> dict[str, Any]:  # Any: JSON
        with proxy_to(self.server.port, SLOW_SECONDS) as proxy:
            return self.measure(CLOTHES, "slow", proxy.url)

    def training(self) -> dict[str, Any]:  # Any: JSON
        def train(page: Page) -> None:
            page.get_by_role("button").filter(has_text="Settings").locator("visible=true").first.click()
            box = page.locator("[class*=st-key-set-encoder] input").first
            box.click()
            box.press_sequentially("contrastive")
            page.get_by_role("option", name="contrastive", exact=True).click()
            page.get_by_label("max epochs").wait_for()  # the fields of its parameters have been drawn
            page.get_by_role("button", name="Apply", exact=True).locator("visible=true").first.click()
            page.keyboard.press("Escape")
            page.get_by_text("Learning from the unlabeled images").first.wait_for(timeout=120_000)
            page.locator(".surface .card").first.click()

        return self.measure(CLOTHES, "training", ready=train)

    def form(self) -> dict[str, Any]:  # Any: JSON
        folder = self.server.projects / "form"
        Project.create(folder, CLOTHES).close()
        before = len(stored(folder)[0])
        page = self.page(f"{self.server.url}/?project=form&answers=form")
        found = by_form(page, self.n_labels // 4)
        page.context.close()
        return found | {"lost": before + found.pop("clicked") - len(stored(folder)[0])}

    def orders(self) -> dict[str, Any]:  # Any: JSON
        found = {}
        for order in BATCH_ORDERS:
            folder = self.server.projects / order
            Project.create(folder, replace(CLOTHES, batch_order=order)).close()
            page = self.page(f"{self.server.url}/?project={order}")
            found[order] = by_truth(page, folder, self.n_labels)
            page.context.close()
        return found


SCENARIOS = ("grid", "photos", "slow_server", "training", "form", "orders")


def measured(bench: Bench, scenario: str) -> dict[str, Any] | None:  # Any: JSON
    """A scenario's figures; None, with what went wrong on standard error, where it fails: the others go on."""
    try:
        found: dict[str, Any] = getattr(bench, scenario)()
    except Exception:  # whatever a browser or a server raises
        traceback.print_exc()
        return None
    return found


def main() -> None:
    """Every scenario, a line each, and one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=int, default=240, help="keys pressed in each scenario")
    parser.add_argument("--only", nargs="+", default=SCENARIOS, choices=SCENARIOS)
    arguments = parser.parse_args()
    results: dict[str, Any] = dict.fromkeys(SCENARIOS)  # Any: JSON
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        root = Path(name)
        server = Server(root / "projects", root)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=BROWSER_FLAGS)
        with running(server):
            bench = Bench(server, browser, arguments.labels)
            for scenario in arguments.only:
                results[scenario] = measured(bench, scenario)
                print(scenario, results[scenario], flush=True)
        browser.close()
    print(f"goals: {GOALS}; {os.cpu_count()} cores")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
