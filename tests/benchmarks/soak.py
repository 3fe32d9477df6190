"""Hours of labeling in one browser tab: memory of the server and of the page over thousands of labels.

    python -m tests.benchmarks.soak [--labels 5000] [--svg assets/screenshots/soak.svg]

A digit every 30 ms before the real app, on digits repeated to a pool that is large enough; every 250 labels the
server's resident memory, the page's JavaScript heap after a collection, and its number of DOM nodes are read. In the
end every label pressed is compared with the store. `flat` is the growth from a fifth of the way to the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import CDPSession, Page, sync_playwright
from sklearn.datasets import load_digits

from annotator.config import Config
from annotator.project import Project
from tests import storing
from tests.conftest import find_chromium
from tests.e2e.conftest import BROWSER_FLAGS, Server, running

EVERY = 250
PRESS = """n => {
  let at = 0;
  const root = () => [...document.querySelectorAll('*')].map(one => one.shadowRoot?.querySelector('.surface'))
    .find(Boolean);
  let surface = root();
  return new Promise(done => {
    const timer = setInterval(() => {
      if (!surface?.isConnected) surface = root();
      const saved = Number(surface?.dataset.saved);
      if (saved >= n) { clearInterval(timer); done(saved); return; }
      if (saved + Number(surface?.dataset.unsaved) >= n) return;
      const key = String((at += 3) % 10);
      for (const type of ['keydown', 'keyup']) {
        document.dispatchEvent(new KeyboardEvent(type, { key, code: `Digit${key}`, bubbles: true, composed: true }));
      }
    }, 30);
  });
}"""


def many_digits(path: Path, n_images: int) -> None:
    """Digits, each copy shifted in brightness by noise, so that no two are alike."""
    rng = np.random.default_rng(0)
    digits = load_digits().images
    rows = rng.integers(0, len(digits), n_images)
    noisy = np.clip(digits[rows] * 15 + rng.normal(0, 6, (n_images, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(path, images=noisy, class_names=np.array([str(digit) for digit in range(10)]))


def resident_mb(pid: int) -> float:
    """Of one process, as the kernel counts it."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * 4096 / 2**20, 1)


def look(page: Page, devtools: CDPSession, server: Server, n_labels: int) -> dict[str, float]:
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {entry["name"]: entry["value"] for entry in devtools.send("Performance.getMetrics")["metrics"]}
    return {
        "labels": n_labels,
        "server_mb": resident_mb(server.pid),
        "heap_mb": round(metrics["JSHeapUsedSize"] / 2**20, 1),
        "nodes": metrics["Nodes"],
    }


def soak(server: Server, page: Page, n_labels: int) -> list[dict[str, float]]:
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")
    page.locator(".surface[data-ready=true] .card").first.wait_for()
    points = []
    for wanted in range(EVERY, n_labels + 1, EVERY):
        page.evaluate(PRESS, wanted)
        points.append(look(page, devtools, server, wanted))
        print(points[-1], flush=True)
    return points


def growth(points: list[dict[str, float]], name: str) -> float:
    """Share by which it grew from a fifth of the way to the end."""
    start = points[len(points) // 5][name]
    return round(points[-1][name] / start - 1, 3)


def draw(points: list[dict[str, float]], path: Path) -> None:
    """Server memory and page heap over labels, as an SVG that reads on light and dark ground."""
    width, height, left, bottom = 640, 280, 60, 240
    most = max(point["server_mb"] for point in points) * 1.1
    last = points[-1]["labels"]
    box = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {box}><rect width="{width}" height="{height}" fill="white"/>']
    for share in (0, 0.5, 1):
        y = bottom - 200 * share
        lines.append(
            f'<path d="M{left} {y}H{width - 10}" stroke="#ddd"/><text x="4" y="{y + 4}">{share * most:.0f} MB</text>'
        )
    for name, colour, said in (("server_mb", "#0072b2", "server"), ("heap_mb", "#d55e00", "page (JavaScript heap)")):
        places = " ".join(
            f"{left + (width - 80) * point['labels'] / last:.1f},{bottom - 200 * point[name] / most:.1f}"
            for point in points
        )
        y = bottom - 200 * points[-1][name] / most - 8
        lines.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{width - 20}" y="{y}" text-anchor="end" fill="{colour}">{said}</text>')
    lines.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">labels, up to {last:,.0f}</text></svg>')
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Press, look, compare, and print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=int, default=5000)
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    result: dict[str, Any] = {}  # Any: JSON
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        root = Path(name)
        many_digits(root / "many.npz", arguments.labels + 1000)
        source = {"path": str(root / "many.npz")}
        config = Config(name="soak", source="arrays", source_parameters=source, encoder="pixels", batch_size=25)
        server = Server(root / "projects", root)
        Project.create(server.projects / "soak", config).close()
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=BROWSER_FLAGS)
        with running(server):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(0)
            page.goto(f"{server.url}/?project=soak")
            points = soak(server, page, arguments.labels)
            page.close()
        browser.close()
        project = Project(server.projects / "soak")
        stored, damaged = len(storing.current(project.store)), project.store.verify()
        project.close()
    result = {
        "labels": arguments.labels,
        "stored": stored,
        "damaged_events": len(damaged),
        "growth": {key: growth(points, key) for key in ("server_mb", "heap_mb", "nodes")},
        "points": points,
    }
    if arguments.svg:
        draw(points, arguments.svg)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
