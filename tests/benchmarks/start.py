"""Seconds from `annotator run` to the first batch painted in Chromium, cold and warm, and the server's peak memory.

Beside it, in the same run, the floor: a Streamlit script of one line. Cold = an empty projects folder, so images are
decoded, encoded and connected; warm = the same folder again. The browser itself is started before the clock.

    python -m tests.benchmarks.start [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.conftest import find_chromium
from tests.e2e.conftest import BROWSER_FLAGS, free_port

GOALS = {"digits": {"cold_s": 4.0, "warm_s": 2.0}, "fashion_mnist": {"cold_s": 10.0, "warm_s": 3.0}}
CARDS = {"digits": None, "fashion_mnist": "Clothes"}


@contextmanager
def timed_server(command: list[str]) -> Iterator[list[float]]:
    """A running server; the list receives its memory in MB, sampled until the end."""
    samples: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, samples, done))
        watcher.start()
        try:
            yield samples
        finally:
            process.terminate()
            done.set()
            watcher.join()


def _watch(pid: int, samples: list[float], done: threading.Event) -> None:
    while not done.wait(0.1):
        samples.append(_tree_mb(pid))


def _tree_mb(pid: int) -> float:
    """Resident memory of a process and everything it started, in MB (Linux)."""
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) / 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return total
    return total + sum(_tree_mb(int(child)) for child in children)


def _wait_until_listening(port: int) -> None:
    """The browser is not asked before: its error pages would cost more than the wait."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)


def seconds_to_paint(
    browser: Browser, command: list[str], port: int, marker: str, card: str | None = None
) -> tuple[float, float]:
    """(seconds from the command to the marker's images being complete, peak MB); `card` is a demo to click first."""
    page = browser.new_page()
    started = time.perf_counter()
    with timed_server(command) as samples:
        _wait_until_listening(port)
        page.goto(f"http://127.0.0.1:{port}/{'start' if card else ''}", wait_until="commit")
        if card:
            demo = page.locator("[class*=st-key-preset-]").filter(has_text=card)
            demo.get_by_role("button", name="Start").locator("visible=true").first.click(timeout=60_000)
        page.wait_for_selector(marker, timeout=60_000)
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        seconds = time.perf_counter() - started
        page.close()
    return seconds, max(samples, default=0.0)


def measure(browser: Browser, runs: int, card: str | None) -> dict[str, float]:
    """Medians over `runs` fresh folders, cold by a click on the demo's card where it is not what opens first."""
    cold, warm, peaks = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            for times in (cold, warm):
                port = free_port()
                command = [sys.executable, "-m", "annotator", "run", "--no-browser", "--port", str(port)]
                command += ["--projects", folder, "--root", folder]
                click = card if times is cold else None
                seconds, peak = seconds_to_paint(browser, command, port, ".surface .card img >> nth=11", click)
                times.append(seconds)
                peaks.append(peak)
    return {"cold_s": statistics.median(cold), "warm_s": statistics.median(warm), "peak_mb": max(peaks)}


def measure_floor(browser: Browser, runs: int) -> dict[str, float]:
    """The same clock for a script that only writes one word."""
    times, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "floor.py"
        script.write_text("import streamlit as st\nst.write('painted')\n")
        for _ in range(runs):
            port = free_port()
            options = [f"--server.port={port}", "--server.headless=true", "--server.address=127.0.0.1"]
            command = [sys.executable, "-m", "streamlit", "run", str(script), *options]
            seconds, peak = seconds_to_paint(browser, command, port, "text=painted")
            times.append(seconds)
            peaks.append(peak)
    return {"start_s": statistics.median(times), "peak_mb": max(peaks)}


def main() -> None:
    """Print both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=BROWSER_FLAGS)
        measured = {name: measure(browser, runs, card) for name, card in CARDS.items()}
        floor = measure_floor(browser, runs)
        browser.close()
    for name, goals in GOALS.items():
        for key, goal in goals.items():
            ratio = measured[name][key] / floor["start_s"]
            print(f"{name} {key}: {measured[name][key]:.2f} (goal {goal:.0f}), {ratio:.1f} x the floor")
        print(f"{name} peak memory: {measured[name]['peak_mb']:.0f} MB")
    print(f"floor: {floor['start_s']:.2f} s, {floor['peak_mb']:.0f} MB")
    rows = {**measured, "streamlit_floor": floor}
    print(json.dumps({name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()}))


if __name__ == "__main__":
    main()
