"""What a person does with the app, and what they see; every step waits until the page has caught up."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Dialog, Locator, Page, Request, WebSocket, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

PATIENCE_SECONDS, BACKGROUND_SECONDS = 60, 200

COUNT_FRAMES = """
window.WebSocket = class extends window.WebSocket {
  constructor(...where) {
    super(...where);
    window.frames_seen = 0;
    this.addEventListener('message', () => { window.frames_seen += 1; });
  }
};
"""
"""How many messages of the newest connection have come through to the page's own script."""
SETTLED = """frames => new Promise(done => setTimeout(() => {
  const app = document.querySelector('[data-testid=stApp]');
  done(window.frames_seen >= frames
    && app && app.dataset.testConnectionState === 'CONNECTED' && app.dataset.testScriptState === 'notRunning'
    && !document.querySelector('[data-stale=true], [data-testid=stSkeleton]')
    && [...document.images].every(image => image.complete && image.naturalWidth > 0));
}, 40))"""
"""What was received is on the page: Streamlit holds elements back for 10 ms."""
COMMANDS = {"skip": "Skip", "unsure": "Unsure", "none": "None", "✓": "Accept"}
SAVED = ".surface[data-ready=true][data-unsaved='0'][data-waiting=false]"
"""Nothing is on its way any more, and the next batch is there."""
OPEN_IDS = "surface => [...surface.querySelectorAll('.card[data-state=open]')].map(card => card.dataset.image)"
"""All at one moment, as they stand on the screen."""
ASKED_ELSEWHERE = re.compile(r"/\w+/_stcore/(health|host-config)$")
"""Under a view's own address Streamlit first looks for itself there, and is told 404."""


class Person:
    """A browser tab with somebody in front of it. Whatever goes wrong in it is collected in `problems`."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.problems: list[str] = []
        self._n_runs = self._n_frames = 0
        page.set_default_timeout(1000 * PATIENCE_SECONDS)
        page.add_init_script(COUNT_FRAMES)
        page.on("websocket", self._follow)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        page.on("request", self._watch)
        page.on("dialog", self._refuse)

    # ---- coming and going

    def open(self, path: str = "") -> None:
        """Type the app's address."""
        with self._one_run():
            self.page.goto(f"{self.url}/{path}")

    def reload(self) -> None:
        with self._one_run():
            self.page.reload()

    def go_to(self, view: str) -> None:
        """By the links at the top; on a narrow screen they lie behind a button."""
        behind = self.page.get_by_test_id("stExpandSidebarButton")
        if behind.is_visible():
            behind.click()
        self._settle()
        with self._one_run():
            self.page.get_by_role("link", name=view, exact=True).locator("visible=true").click()

    def leave(self) -> None:
        """Close the tab."""
        self.page.context.close()

    @contextmanager
    def offline(self) -> Iterator[None]:
        """While the server is gone the browser complains, and rightly so."""
        n_problems = len(self.problems)
        yield
        del self.problems[n_problems:]

    # ---- what is on the screen

    @property
    def surface(self) -> Locator:
        """What is labeled on; its attributes say how far it is."""
        return self.page.locator(".surface[data-ready=true]")

    @property
    def asked(self) -> list[str]:
        """The ids of the open cards on the screen, in order."""
        return [str(name) for name in self.page.locator(SAVED).evaluate(OPEN_IDS)]

    @property
    def n_saved(self) -> int:
        self.is_saved()
        return int(self.surface.get_attribute("data-saved") or 0)

    @property
    def n_runs(self) -> int:
        """How often the whole script has run for this tab."""
        return self._n_runs

    @property
    def round(self) -> int:
        return int(self.surface.get_attribute("data-round") or 0)

    @property
    def project(self) -> str:
        """The open project's folder, as the address names it."""
        return str(re.findall(r"[?&]project=([^&]*)", self.page.url)[0])

    @property
    def ground(self) -> tuple[int, ...]:
        """The colour behind everything, red, green, blue."""
        colour = self.page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
        return tuple(int(part) for part in re.findall(r"\d+", colour))

    def card(self, image_id: str) -> Locator:
        return self.page.locator(f".surface .card[data-image={json.dumps(image_id, ensure_ascii=False)}]")

    def guess(self, image_id: str) -> str | None:
        """The class on the card's chip; None where no guess is shown."""
        share = self.card(image_id).locator(".share").inner_text()
        return self.card(image_id).locator(".chip .name").inner_text() if share else None

    def visible(self, text: str | re.Pattern[str]) -> Locator:
        """The first place where this text can be seen."""
        return self.page.get_by_text(text).locator("visible=true").first

    def sees(self, text: str | re.Pattern[str]) -> None:
        """It appears within the time that a person waits."""
        expect(self.visible(text)).to_be_visible(timeout=60_000)

    def is_told(self, reason: str) -> None:
        """An error in words, on the page; anything that looks like a stack of calls is none."""
        alert = self.page.get_by_test_id("stAlert").filter(has_text=reason)
        expect(alert).to_be_visible(timeout=1000 * PATIENCE_SECONDS)
        assert "Traceback" not in self.page.inner_text("body")

    def table(self, column: str) -> list[str]:
        """A column of the table on this view, as it is given to screen readers."""
        rows = self.page.locator("[role=grid] [role=row]")
        rows.first.wait_for(state="attached")
        cells = [row.locator("[role=columnheader], [role=gridcell]").all_text_contents() for row in rows.all()]
        place = cells[0].index(column)
        return [row[place] for row in cells[1:]]

    def waits_for(self, condition: Callable[[], bool]) -> None:
        """Something that happens behind the page, in the background."""
        deadline = time.monotonic() + BACKGROUND_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"it has not come: {self.page.inner_text('body')}"
            self.page.wait_for_timeout(100)

    # ---- what a person does

    def press(self, button: str) -> None:
        with self._one_run():
            self.button(button).click()

    def button(self, name: str) -> Locator:
        """A button with a tooltip stands twice in the page; one of the two is hidden."""
        return self.page.get_by_role("button", name=name, exact=True).locator("visible=true").first

    def button_like(self, name: str) -> Locator:
        """As `button`, where an icon's name stands in the button's own."""
        return self.page.get_by_role("button").filter(has_text=name).locator("visible=true").first

    def answer(self, image_id: str, option: str, tap: bool = False) -> None:
        """Touch the image, then a class, a command, or "✓" for the guess."""
        card = self.card(image_id)
        command = COMMANDS.get(option[:1] if option.startswith("✓") else option)
        buttons = self.page.locator(".surface .commands" if command else ".surface .classes")
        button = buttons.get_by_role("button", name=command or option, exact=True)
        for touched in (card, button):
            touched.tap() if tap else touched.click()

    def key(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def save(self, rest: str = "") -> None:
        """Wait until everything is stored; before that, accept or skip what is still open."""
        if rest == "accept":
            self.page.locator(".surface .commands").get_by_role("button", name="Accept the rest").click()
        elif rest == "skip":
            for image_id in self.asked:
                self.answer(image_id, "skip")
        self.is_saved()

    def undo(self) -> None:
        self.page.locator(".surface .commands").get_by_role("button", name="Undo").click()
        self.is_saved()

    def is_saved(self) -> None:
        """Nothing is on its way any more, and the next batch is there."""
        self.page.locator(SAVED).wait_for()

    def choose(self, key: str, option: str) -> None:
        """An option of the select box with this key, typed and confirmed."""
        box = self.field(key)
        self._settle()  # a run that ends meanwhile would close the list
        box.click()
        box.press_sequentially(option)
        self.page.get_by_role("option", name=option, exact=True).click()
        expect(box).to_have_value(option)

    def field(self, key: str) -> Locator:
        """Where one types, by the key (or its beginning) that the view gives it."""
        return self.page.locator(f"[class*=st-key-{key}]").locator("input, textarea").locator("visible=true").first

    def fill_in(self, key: str, value: str) -> None:
        """Type into the field with this key, and leave it."""
        with self._one_run():
            self.field(key).fill(value)
            self.page.keyboard.press("Tab")

    def name_folder(self, path: str | Path) -> None:
        """Type a path on the start view."""
        box = self.field("folder-path")
        if box.input_value():
            with self._one_run():
                self.button("Clear value").click()
        with self._one_run():
            box.fill(str(path))
            box.press("Enter")

    def name_classes(self, *names: str) -> None:
        box = self.field("folder-classes")
        box.fill("\n".join(names))
        with self._one_run():
            box.press("Control+Enter")

    def use_sub_folders(self, how: str) -> None:
        with self._one_run():
            self.page.get_by_text(how, exact=True).click()

    def choose_parts(self, **names: str) -> None:
        """Another encoder, model or strategy on the start view."""
        self.page.get_by_text("Model and strategy", exact=True).click()
        for kind, name in names.items():
            with self._one_run():
                self.choose(f"folder-{kind}", name)

    def create(self) -> None:
        """Press the button and wait for the first batch."""
        with self._one_run():
            self.button("Create the project").click()
            self.surface.wait_for()

    def start_demo(self, title: str) -> None:
        """By the button on its card: anew, where it was started before."""
        with self._one_run():
            self.press_start(title)
            self.surface.wait_for()

    def press_start(self, title: str) -> None:
        card = self.page.locator("[class*=st-key-preset-]").filter(has_text=title)
        card.get_by_role("button", name=re.compile("^Start")).click()

    def add_class(self, name: str) -> None:
        self.button_like("Add a class").click()
        self.page.get_by_role("textbox", name="Name of the new class").fill(name)
        self.press("Add")
        self.page.keyboard.press("Escape")

    def change_settings(self, parameters: Mapping[str, str] | None = None, **choices: str) -> None:
        """Another strategy, model or encoder, with these `parameters` of it, by the popover of the labeling view."""
        self.button_like("Settings").click()
        for kind, name in choices.items():
            with self._one_run() if kind == "encoder" else nullcontext():  # its parameters are drawn at once
                self.choose(f"set-{kind}", name)
            for parameter, value in (parameters or {}).items():
                self.fill_in(f"set-{kind}-{name}-{parameter}", value)
        self.press("Apply")
        self.page.keyboard.press("Escape")

    def export(self, form: str) -> Path:
        """Write an export of this form and download it."""
        self.go_to("Export")
        radio = self.page.get_by_role("radio", name=form, exact=True)
        if not radio.is_checked():
            with self._one_run():
                radio.click()
        with self._one_run():  # until then the button of an earlier export may stand there
            self.button("Write the export").click()
        self.button("Download").wait_for(timeout=1000 * BACKGROUND_SECONDS)
        with self.page.expect_download() as started:
            self.button("Download").click()
        return Path(started.value.path())

    # ---- waiting

    @contextmanager
    def _one_run(self) -> Iterator[None]:
        """What is done inside makes the app's script run; afterwards its result is on the page."""
        n_runs = self._n_runs
        yield
        self._settle(n_runs + 1)

    def _settle(self, n_runs: int = 0) -> None:
        """Until the script has run so often, and what it drew is on the page."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._n_runs < n_runs or not self.page.evaluate(SETTLED, self._n_frames):
            assert time.monotonic() < deadline, f"the app is still busy: {self.page.inner_text('body')}"
            self.page.wait_for_timeout(10)

    def _follow(self, socket: WebSocket) -> None:
        self._n_frames = 0
        socket.on("framereceived", self._count)

    def _count(self, frame: str | bytes) -> None:
        self._n_frames += 1
        message = ForwardMsg.FromString(frame) if isinstance(frame, bytes) else ForwardMsg()
        if message.WhichOneof("type") == "script_finished":
            self._n_runs += message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY

    def _hear(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        if message.type == "error" and not ASKED_ELSEWHERE.search(where):
            self.problems.append(f"console: {message.text} ({where})")

    def _refuse(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _watch(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.problems.append(f"request to elsewhere: {request.url}")
