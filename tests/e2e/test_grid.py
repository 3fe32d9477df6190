"""The labeling component's own code in a real browser: its rules module by module, then the whole of it with a server
that is a function. Nothing here waits for a clock.

Longer than other files: all tests share one page that stands in for the app.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page

import annotator.ui

GRID = Path(annotator.ui.__file__).parent / "grid"
EVENT_IDS = Path(__file__).parents[1] / "event_ids.json"

Run = Callable[..., Any]  # Any: whatever the script returns, as JSON

CARD = {
    "image": "digits/00012", "q": "q1", "n_events": 0, "head": None, "seq": None, "answer": None,
    "src": "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=", "full": "/full.png", "w": 1, "h": 1,
    "pixelated": True, "guess": {"class": 1, "p": 0.82, "entropy": 1.2}, "hidden": False, "audit": False, "top": [1, 0],
    "flag": None,
}  # fmt: skip
NAMES = ["coat", "bag", "dress", "sandal", "sneaker", "shirt", "boot", "trouser", "pullover", "scarf", "glove"]


class _Quiet(SimpleHTTPRequestHandler):
    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """A machine's own table may know no modules."""
        return "text/javascript" if str(path).endswith(".js") else super().guess_type(path)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def grid_url() -> Iterator[str]:
    """Where the component's files are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(GRID)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """One tab for all of these tests."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def page(tab: Page, grid_url: str) -> Iterator[Page]:
    """An empty page of that server, and an empty storage; it fails on errors."""
    problems: list[str] = []

    def note(error: Error) -> None:
        problems.append(str(error))

    tab.goto(grid_url)
    tab.evaluate("localStorage.clear()")
    tab.set_content("<main></main>")
    tab.on("pageerror", note)
    yield tab
    tab.remove_listener("pageerror", note)
    assert problems == []


@pytest.fixture
def run(page: Page) -> Run:
    """A function (module, script, argument) -> what the script returns; the module's exports are `m` in it."""

    def evaluate(module: str, script: str, argument: object = None) -> Any:  # Any: JSON
        return page.evaluate(
            f"async (given) => {{ const m = await import('/{module}'); {script} }}", {"card": CARD, "given": argument}
        )

    return evaluate


# ---- events


def test_ids_are_minted_as_the_store_mints_them(run: Run) -> None:
    """The examples that tests/test_event_ids.py holds the store's grammar to, those that a browser can mint."""
    minted = [one for one in json.loads(EVENT_IDS.read_text())["minted"] if one["as"] not in ("class", "config")]
    assert {one["as"] for one in minted} == {"answer", "change", "undo", "flag"}
    ids = run(
        "event_ids.js",
        """
        const mint = {
          answer: (one) => m.answerId(one.question, one.n),
          change: (one) => m.changeId(one.seen, one.outcome, one.class),
          undo: (one) => m.undoId(one.seen),
          flag: (one) => m.flagId(one.question, one.unique),
        };
        return given.given.map((one) => mint[one.as](one));
        """,
        minted,
    )
    assert ids == [one["id"] for one in minted]


def test_ids_follow_the_card_s_history(run: Run) -> None:
    """First answer `q.n`, change `head>answer`, undo `head<`; the answer after an undo counts on."""
    ids = run(
        "events.js",
        """
        const states = new Map(); const made = []; let view = m.fold(given.card, [], states);
        const do_ = (event) => { made.push([event.kind, event.id, event.of]); view = m.apply(view, event, states); };
        do_(m.answerEvent(view, { outcome: "label", class: 3 }, 812.4));
        do_(m.answerEvent(view, { outcome: "skip" }, 10));
        do_(m.undoEvent(view));
        do_(m.undoEvent(view));
        do_(m.answerEvent(view, { outcome: "label", class: 0 }, 10));
        return made;
        """,
    )
    assert ids == [
        ["answer", "q1.0", None],
        ["change", "q1.0>skip", "q1.0"],
        ["undo", "q1.0>skip<", "q1.0>skip"],
        ["undo", "q1.0>skip<<", "q1.0>skip<"],
        ["answer", "q1.4", None],
    ]


def test_an_undo_brings_back_what_was_replaced(run: Run) -> None:
    """Undoing a change restores the answer before it; undoing that one opens the card."""
    answers = run(
        "events.js",
        """
        const states = new Map(); const seen = []; let view = m.fold(given.card, [], states);
        for (const make of [
          () => m.answerEvent(view, { outcome: "label", class: 3 }, 1),
          () => m.answerEvent(view, { outcome: "unsure" }, 1),
          () => m.undoEvent(view), () => m.undoEvent(view),
        ]) { view = m.apply(view, make(), states); seen.push(view.answer); }
        return seen;
        """,
    )
    three = {"outcome": "label", "class": 3}
    assert answers == [three, {"outcome": "unsure", "class": None}, three, None]


def test_an_answer_that_only_the_server_knows_is_undone_to_an_open_card(run: Run) -> None:
    """What the server's answer replaced is not known here: the card opens, and n_events counts on."""
    view = run(
        "events.js",
        """
        const card = { ...given.card, n_events: 2, head: "h", seq: 9, answer: { outcome: "label", class: 1 } };
        const view = m.fold(card, [m.undoEvent(card)], new Map());
        return [view.answer, view.n_events, view.head];
        """,
    )
    assert view == [None, 3, "h<"]


def test_the_fold_ignores_what_the_server_has_counted_already(run: Run) -> None:
    """An event that the server's card includes changes nothing, however long it stays in the outbox."""
    heads = run(
        "events.js",
        """
        const states = new Map();
        const answer = m.answerEvent(given.card, { outcome: "label", class: 3 }, 1);
        const answered = m.fold(given.card, [answer], states);
        const undo = m.undoEvent(answered);
        const open = m.apply(answered, undo, states);
        return [
          m.fold(answered, [answer], states).head,
          m.fold(open, [answer, undo], states).head,
          m.fold(answered, [answer, undo], states).head,
          m.fold({ ...given.card, q: "other" }, [answer], states).head,
        ];
        """,
    )
    assert heads == ["q1.0", "q1.0<", "q1.0<", None]


def test_a_flag_changes_neither_count_nor_head(run: Run) -> None:
    """A comment is cut at 500 characters, S7: none of them in half, and stands beside the answer."""
    view = run(
        "events.js",
        """
        const view = m.fold(given.card, [m.flagEvent(given.card, "x" + "😀".repeat(600), "r")], new Map());
        return [view.n_events, view.head, view.answer, [...view.flag].length, view.flag.length];
        """,
    )
    assert view == [0, None, None, 500, 999]


def test_the_newest_answer_is_the_one_made_here_last_then_the_highest_seq(run: Run) -> None:
    """Answers of this page come before those that only the server knows; undone ones are no candidates."""
    newest = run(
        "events.js",
        """
        const answer = { outcome: "skip", class: null };
        const card = (q, seq, order) => ({ q, seq, order, head: q, answer });
        const cards = [card("a", 9, null), card("b", 8, 5), card("c", 7, 6), { ...card("d", 99, 99), answer: null }];
        return [m.newestAnswer(cards).q, m.newestAnswer(cards.slice(0, 1)).q, m.newestAnswer(cards.slice(3))];
        """,
    )
    assert newest == ["c", "a", None]


# ---- the outbox


def test_the_outbox_survives_a_reload_with_one_entry_per_event(page: Page, run: Run) -> None:
    """Entries of this project and annotator join, in the order they were made; broken and foreign ones do not."""
    run(
        "outbox.js",
        """
        const box = new m.Outbox("p", "a", "tab", localStorage, () => 1000);
        for (const id of ["z", "y", "x"]) box.add({ id, kind: "answer" });
        new m.Outbox("p", "other", "tab", localStorage).add({ id: "foreign", kind: "answer" });
        localStorage.setItem("annotator:p:a:tab:broken", "{");
        localStorage.setItem("annotator:p:a:tab:renamed", JSON.stringify({ key: "tab:z", id: "z", order: 1 }));
        """,
    )
    page.reload()
    found = run(
        "outbox.js",
        """
        const box = new m.Outbox("p", "a", "tab2", localStorage);
        return [box.events.map((event) => event.key), box.messages().some((event) => "order" in event)];
        """,
    )
    assert found == [["tab:z", "tab:y", "tab:x"], False]


def test_stored_and_refused_leave_the_outbox_and_kept_stays(run: Run) -> None:
    """An entry leaves the browser's storage with its event, and not before."""
    left = run(
        "outbox.js",
        """
        const box = new m.Outbox("p", "a", "t", localStorage);
        for (const id of ["one", "two", "three", "four"]) box.add({ id, kind: "answer" });
        const verdict = box.settle({
          "t:one": { status: "stored" }, "t:two": { status: "refused", reason: "retired" },
          "t:three": { status: "kept", reason: "full" }, "t:unknown": { status: "stored" },
        });
        const names = Object.keys(localStorage).sort();
        const ids = (events) => events.map((event) => event.id);
        return [ids(verdict.stored), verdict.refused, verdict.kept, ids(box.messages()), names];
        """,
    )
    assert left == [
        ["one"],
        ["retired"],
        ["full"],
        ["three", "four"],
        ["annotator:p:a:t:four", "annotator:p:a:t:three"],
    ]


def test_an_old_refusal_does_not_drop_a_newer_event_of_the_same_id(run: Run) -> None:
    """After a refusal the same event id gets another key, as the old verdict may still arrive once more."""
    keys = run(
        "outbox.js",
        """
        const box = new m.Outbox("p", "a", "t", null);
        const refusal = { "t:q.0": { status: "refused", reason: "no" } };
        box.add({ id: "q.0", kind: "answer" });
        box.settle(refusal);
        box.add({ id: "q.0", kind: "answer" });
        box.settle(refusal);
        return box.events.map((event) => event.key);
        """,
    )
    assert keys == ["t-2:q.0"]


def test_without_storage_the_outbox_goes_on_in_memory_and_says_so(run: Run) -> None:
    """A storage that is full or forbidden loses no event of this page."""
    outcome = run(
        "outbox.js",
        """
        const full = { length: 0, key: () => null, setItem() { throw new Error("QuotaExceededError"); } };
        return [full, null].map((storage) => {
          const box = new m.Outbox("p", "a", "t", storage);
          box.add({ id: "q.0", kind: "answer" });
          return [box.size, box.durable];
        });
        """,
    )
    assert outcome == [[1, False], [1, False]]


@pytest.mark.parametrize(
    ("state", "delay"),
    [
        ({"unsaved": 0, "pending": False, "open": 5, "tries": 0, "polls": 0}, None),
        ({"unsaved": 1, "pending": False, "open": 5, "tries": 0, "polls": 0}, 1000),
        ({"unsaved": 1, "pending": False, "open": 5, "tries": 1, "polls": 0}, 2000),
        ({"unsaved": 1, "pending": False, "open": 5, "tries": 2, "polls": 0}, 4000),
        ({"unsaved": 1, "pending": False, "open": 5, "tries": 9, "polls": 0}, 5000),
        ({"unsaved": 0, "pending": True, "open": 4, "tries": 0, "polls": 0}, 700),
        ({"unsaved": 0, "pending": True, "open": 3, "tries": 0, "polls": 0}, 150),
        ({"unsaved": 9, "pending": True, "open": 0, "tries": 9, "polls": 2}, 150),
        ({"unsaved": 9, "pending": True, "open": 0, "tries": 9, "polls": 9}, 700),
        ({"unsaved": 0, "pending": False, "held": "with eve", "open": 0, "tries": 0, "polls": 0}, 10000),
        ({"unsaved": 0, "pending": False, "held": "with eve", "open": 1, "tries": 0, "polls": 0}, None),
    ],
)
def test_when_it_is_sent_again(run: Run, state: dict[str, object], delay: int | None) -> None:
    """Unacknowledged: 1, 2, 4, then every 5 s. While a batch is chosen: often, and less so if the server is silent."""
    assert run("outbox.js", "return m.nextDelay(given.given);", state) == delay


# ---- keys

KEYBOARD = (
    "const kb = m.keyboardOf([{ id: 7, key: '1' }, { id: 8, key: 'q' }, { id: 9, key: null }], given.given.many);"
)
PLAIN = {"shiftKey": False, "ctrlKey": False, "metaKey": False, "altKey": False}


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ({"key": "1", "code": "Digit1"}, {"do": "class", "class": 7, "all": False}),
        ({"key": "&", "code": "Digit1"}, {"do": "class", "class": 7, "all": False}),
        ({"key": "!", "code": "Digit1", "shiftKey": True}, {"do": "class", "class": 7, "all": True}),
        ({"key": "1", "code": "Numpad1"}, {"do": "class", "class": 7, "all": False}),
        ({"key": "End", "code": "Numpad1"}, {"do": "class", "class": 7, "all": False}),
        ({"key": "Q", "code": "KeyQ", "shiftKey": True}, {"do": "class", "class": 8, "all": True}),
        ({"key": "2", "code": "Digit2"}, {"do": "nothing"}),
        ({"key": "s", "code": "KeyS"}, {"do": "outcome", "outcome": "skip", "all": False}),
        ({"key": "N", "code": "KeyN", "shiftKey": True}, {"do": "outcome", "outcome": "none-of-these", "all": True}),
        ({"key": "Enter", "code": "NumpadEnter"}, {"do": "accept", "all": False}),
        ({"key": " ", "code": "Space"}, {"do": "accept", "all": False}),
        ({"key": "Backspace", "code": "Backspace"}, {"do": "undo"}),
        ({"key": "z", "code": "KeyZ", "ctrlKey": True}, {"do": "undo"}),
        ({"key": "z", "code": "KeyZ", "metaKey": True}, {"do": "undo"}),
        ({"key": "1", "code": "Digit1", "ctrlKey": True}, None),
        ({"key": "1", "code": "Digit1", "altKey": True}, None),
        ({"key": "End", "code": "End"}, {"do": "move", "to": "end", "extend": False}),
        ({"key": "ArrowUp", "code": "ArrowUp", "shiftKey": True}, {"do": "move", "to": "up", "extend": True}),
        ({"key": "PageUp", "code": "PageUp"}, {"do": "page", "by": -1}),
        ({"key": "?", "code": "Slash", "shiftKey": True}, {"do": "help"}),
        ({"key": "r", "code": "KeyR"}, {"do": "nothing"}),
        ({"key": "x", "code": "KeyX"}, None),
        ({"key": "ы", "code": "KeyS"}, {"do": "outcome", "outcome": "skip", "all": False}),
        ({"key": "Й", "code": "KeyQ", "shiftKey": True}, {"do": "class", "class": 8, "all": True}),
        ({"key": "я", "code": "KeyZ", "ctrlKey": True}, {"do": "undo"}),
        ({"key": "ζ", "code": "KeyZ"}, {"do": "zoom"}),
        ({"key": "כ", "code": "KeyF"}, {"do": "flag"}),
        ({"key": "s", "code": "KeyO"}, {"do": "outcome", "outcome": "skip", "all": False}),
        ({"key": "é", "code": "KeyS"}, None),
        ({"key": "Tab", "code": "Tab"}, None),
    ],
)
def test_what_a_key_stands_for(run: Run, key: dict[str, object], command: dict[str, object] | None) -> None:
    """Digits go by their place on the keyboard or keypad, letters by what they print; Shift means all selected.

    P23: where that is no Latin letter, by their place.
    """
    script = f"{KEYBOARD} return m.lookUp(given.given.key, kb);"
    assert run("keys.js", script, {"many": False, "key": {**PLAIN, **key}}) == command


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ({"key": "5", "code": "Numpad5"}, {"do": "top", "place": 4, "all": False}),
        ({"key": "6", "code": "Digit6"}, {"do": "nothing"}),
        ({"key": "r", "code": "KeyR"}, {"do": "find", "text": "r"}),
        ({"key": "é", "code": "Digit2"}, {"do": "top", "place": 1, "all": False}),
        ({"key": "ж", "code": "Semicolon"}, {"do": "find", "text": "ж"}),
        ({"key": "/", "code": "Digit7", "shiftKey": True}, {"do": "find", "text": ""}),
        ({"key": "u", "code": "KeyU"}, {"do": "outcome", "outcome": "unsure", "all": False}),
        ({"key": "г", "code": "KeyU"}, {"do": "outcome", "outcome": "unsure", "all": False}),
        ({"key": "к", "code": "KeyR"}, {"do": "find", "text": "к"}),
    ],
)
def test_what_a_key_stands_for_with_many_classes(run: Run, key: dict[str, object], command: dict[str, object]) -> None:
    """Digits choose among the card's most probable; a letter that is no command begins a search."""
    script = f"{KEYBOARD} return m.lookUp(given.given.key, kb);"
    assert run("keys.js", script, {"many": True, "key": {**PLAIN, **key}}) == command


def test_only_moving_repeats(run: Run) -> None:
    """A key held down answers, accepts, skips or undoes nothing a second time."""
    repeating = run(
        "keys.js",
        """
        const all = ["class", "top", "outcome", "accept", "undo", "find", "page", "move"];
        return all.filter((one) => m.repeats({ do: one }));
        """,
    )
    assert repeating == ["move"]


# ---- cursor and filter


def test_the_next_open_card(run: Run) -> None:
    """In order, wrapping around, and none where all are answered."""
    places = run(
        "cursor.js",
        """
        const asked = [[[0, 1, 0, 1], 1], [[1, 0, 0, 0], 2], [[0, 0], 0], [[1, 1], -1], [[1], 0]];
        return asked.map((one) => m.nextOpen(...one));
        """,
    )
    assert places == [3, 0, -1, 0, 0]


def test_arrows_stay_on_the_page(run: Run) -> None:
    """Off the page leads nowhere, except down into a last row that is shorter."""
    places = run(
        "cursor.js",
        """
        const arrows = [[0, "left"], [3, "right"], [2, "down"], [5, "down"], [6, "right"], [1, "up"], [4, "home"]];
        return [...arrows, [-1, "right"]].map(([place, to]) => m.moved(place, to, 7, 3));
        """,
    )
    assert places == [0, 4, 5, 6, 6, 1, 0, 0]


def test_a_batch_is_laid_out_to_be_seen_whole(run: Run) -> None:
    """All in sight where that can be, then no ragged row, then large; between 120 and 200 px, two columns at least."""
    layouts = run(
        "cursor.js",
        """
        const rooms = [[12, 887, 620], [12, 1976, 1100], [12, 366, 400], [25, 887, 620], [1, 280, 300]];
        return rooms.map(([n, width, height]) => m.layout(n, { width, height, below: 33 }))
          .map(({ columns, size }) => [columns, size]);
        """,
    )
    assert layouts == [[6, 139], [6, 200], [2, 178], [5, 169], [2, 135]]


def test_classes_are_found_by_what_is_probable_then_by_prefix_then_by_any_part(run: Run) -> None:
    """Case and accents make no difference."""
    found = run(
        "filter.js",
        """
        const names = ["Sandal", "Bag", "Dress", "Soulier d'été", "Pullover", "Sneaker"];
        const classes = names.map((name, id) => ({ id, name }));
        return [["", [4, 1]], ["s", [2]], ["ETE", []], ["xyz", [0]]].map(([text, top]) =>
          m.rank(classes, top, text).map((one) => one.id));
        """,
    )
    assert found == [[4, 1, 0, 2, 3, 5], [2, 0, 3, 5], [3], []]


# ---- the whole component


class Mounted:
    """The component in a shadow root, and a server that stores what it is sent when it is told to."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.evaluate(
            """async () => {
              window.grid = (await import("/grid.js")).default;
              window.host = document.querySelector("main");
              window.root = host.attachShadow({ mode: "open" });
              const link = document.createElement("link");
              link.rel = "stylesheet"; link.href = "/grid.css";
              const loaded = new Promise((done) => { link.onload = done; });
              root.append(link); await loaded;
              window.letters = [];
              window.cleanups = [];
            }"""
        )

    def give(self, data: dict[str, object]) -> None:
        """What Streamlit does on every change of the data."""
        self.page.evaluate(
            """(data) => cleanups.push(grid({ data: [data], parentElement: root,
                 setStateValue: (name, value) => letters.push(JSON.parse(JSON.stringify(value))) }))""",
            data,
        )

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def events(self) -> list[dict[str, Any]]:  # Any: the event's own values
        """Those of the newest letter; one that waits for the answer to the last is waited for."""
        self.page.wait_for_function(
            "(letters.at(-1)?.events.length ?? 0) >= Number(root.querySelector('.surface').dataset.unsaved)"
        )
        events: list[dict[str, Any]] = self.page.evaluate("letters.at(-1)?.events ?? []")  # Any: as above
        return events

    @property
    def cards(self) -> list[str]:
        """State and class of the cards on the page, the one under the cursor marked."""
        cards: list[str] = self.page.evaluate(
            """[...root.querySelectorAll(".page .card")].map(({ dataset }) =>
                 `${dataset.state}:${dataset.class}${dataset.cursor === "true" ? "*" : ""}`)"""
        )
        return cards

    def mark(self, name: str) -> str:
        value: str = self.page.evaluate("(name) => root.querySelector('.surface').dataset[name]", name)
        return value


@pytest.fixture
def mounted(page: Page) -> Mounted:
    return Mounted(page)


def batch(round_number: int, n: int, **changes: object) -> dict[str, object]:
    """A page of n open cards, with guesses of class 1."""
    cards = [{**CARD, "image": f"i{round_number}-{k}", "q": f"q{round_number}-{k}", **changes} for k in range(n)]
    return {"round": round_number, "why": "Picked at random", "labels_at": None, "cards": cards}


def asked(*pages: dict[str, object], n_classes: int = 2, **changes: object) -> dict[str, object]:
    """The data of these pages."""
    many = n_classes > 10
    keys = [None if many else str(number + 1) for number in range(n_classes)]
    return {
        "project": "p", "annotator": "a", "title": "What are these?", "results": {}, "pages": list(pages),
        "pending": False, "finished": False, "held": "", "news": "", "background": "", "many": many, "names": {},
        "status": {"saved": 0, "labels": 0, "round": 1, "left": 9, "pool": 12, "pace": None},
        "curve": {"points": [], "caption": "", "marks": []},
        "classes": [{"id": k, "name": NAMES[k], "key": keys[k], "colour": "#0072b2"} for k in range(n_classes)],
        **changes,
    }  # fmt: skip


def stored(events: list[dict[str, Any]]) -> dict[str, dict[str, str]]:  # Any: the event's own values
    return {event["key"]: {"status": "stored"} for event in events}


def test_a_card_says_why_it_was_picked(mounted: Mounted) -> None:
    """In a line of its own, for whose height every card of the page makes room."""
    told = batch(1, 3, reason="stands for 340 others")
    told["cards"][2]["reason"] = ""  # type: ignore[index]  # an audit image has none
    mounted.give(asked(told))
    card = mounted.page.locator(".page .card")
    assert card.locator(".reason").all_inner_texts() == ["stands for 340 others", "stands for 340 others", ""]
    assert "stands for 340 others" in str(card.first.get_attribute("aria-label"))
    assert len({box["height"] for box in (one.bounding_box() for one in card.all()) if box}) == 1


def test_the_last_images_of_others_are_told_and_asked_for_again(mounted: Mounted) -> None:
    """Not "finished", nor "choosing": where they are, and now and then the server is asked whether that holds."""
    mounted.page.clock.install()
    mounted.give(asked(held="The last images are with eve."))
    message = mounted.page.locator(".message")
    mounted.page.clock.run_for(3_000)
    assert message.inner_text() == "The last images are with eve."
    assert (mounted.mark("waiting"), mounted.page.evaluate("letters.length")) == ("false", 0)
    mounted.page.clock.run_for(8_000)
    assert mounted.page.evaluate("letters.length") == 1
    mounted.give(asked(finished=True))
    assert "Finished" in message.inner_text()


def test_nothing_is_sent_while_mounting_and_everything_with_the_first_key(mounted: Mounted) -> None:
    """The first letter names the rounds that were shown."""
    mounted.give(asked(batch(1, 3)))
    assert mounted.page.evaluate("letters.length") == 0
    mounted.press("1")
    assert mounted.page.evaluate("letters[0].shown") == [1]
    [event] = mounted.events
    assert (event["kind"], event["id"], event["outcome"], event["class"]) == ("answer", "q1-0.0", "label", 0)
    assert event["guess"] is True
    assert mounted.cards == ["label:coat", "open:*", "open:"]


def test_the_last_key_of_a_batch_shows_the_next_one_at_once(mounted: Mounted) -> None:
    """Without a word from the server; an undo leads back to the page before, and its answer forth again."""
    mounted.give(asked(batch(1, 2), batch(2, 3)))
    mounted.press("1", "Enter")
    assert (mounted.mark("round"), mounted.cards) == ("2", ["open:*", "open:", "open:"])
    mounted.press("Backspace")
    assert (mounted.mark("round"), mounted.cards) == ("1", ["label:coat", "open:*"])
    mounted.press("s")
    assert (mounted.mark("round"), mounted.mark("open")) == ("2", "3")
    assert [event["id"] for event in mounted.events] == ["q1-0.0", "q1-1.0", "q1-1.0<", "q1-1.2"]


def test_late_keys_change_nothing_while_the_next_batch_is_chosen(mounted: Mounted) -> None:
    """The last card is answered once; then there is no card under the cursor until there is one to answer."""
    mounted.give(asked(batch(1, 1)))
    mounted.press("1", "2", "Enter", "s")
    assert (mounted.cards, mounted.mark("waiting"), len(mounted.events)) == (["label:coat"], "true", 1)
    mounted.give(asked(batch(1, 1), batch(2, 1)))
    assert (mounted.mark("round"), mounted.cards, mounted.mark("waiting")) == ("2", ["open:*"], "false")


def test_acknowledged_events_leave_and_the_view_stays(mounted: Mounted) -> None:
    """Only what the server counts as saved is called saved."""
    mounted.give(asked(batch(1, 3)))
    mounted.press("1")
    assert (mounted.mark("unsaved"), mounted.mark("saved")) == ("1", "0")
    after = batch(1, 3)
    after["cards"][0] |= {"n_events": 1, "head": "q1-0.0", "seq": 5, "answer": {"outcome": "label", "class": 0}}  # type: ignore[index]  # a list of cards
    status = {"saved": 1, "labels": 1, "round": 1, "left": 8, "pool": 12, "pace": 0.8}
    mounted.give(asked(after, results=stored(mounted.events), status=status))
    assert (mounted.mark("unsaved"), mounted.mark("saved")) == ("0", "1")
    assert mounted.cards == ["label:coat", "open:*", "open:"]
    assert mounted.page.evaluate("Object.keys(localStorage)") == []


def test_a_key_held_down_answers_once(mounted: Mounted) -> None:
    """Auto-repeat never labels the next image."""
    mounted.give(asked(batch(1, 4)))
    for _ in range(4):
        mounted.page.keyboard.down("1")
    mounted.page.keyboard.up("1")
    assert [card.split(":")[0] for card in mounted.cards] == ["label", "open", "open", "open"]


def test_shift_and_a_key_answer_the_selection_one_event_each(mounted: Mounted) -> None:
    """Each of them is taken back on its own."""
    mounted.give(asked(batch(1, 4)))
    mounted.press("Shift+ArrowRight", "Shift+ArrowRight", "Shift+Digit2", "Backspace")
    assert mounted.cards == ["label:bag", "label:bag", "open:*", "open:"]
    assert [event["id"] for event in mounted.events] == ["q1-0.0", "q1-1.0", "q1-2.0", "q1-2.0<"]


def test_a_lasso_selects_what_it_touches(mounted: Mounted) -> None:
    """A button then answers the selection; a click on a card only moves the cursor."""
    mounted.give(asked(batch(1, 4)))
    boxes = [card.bounding_box() for card in mounted.page.locator(".card").all()]
    (x, y), (to_x, to_y) = [(box["x"] + box["width"] / 2, box["y"] + 20) for box in boxes[1:3] if box]
    mounted.page.mouse.move(x, y)
    mounted.page.mouse.down()
    mounted.page.mouse.move(to_x, to_y + 9, steps=3)
    mounted.page.mouse.up()
    mounted.page.locator("button.class[data-class=coat]").click()
    mounted.page.locator(".card").first.click()
    assert mounted.cards == ["open:*", "label:coat", "label:coat", "open:"]


def test_nothing_is_accepted_where_no_guess_is_shown(mounted: Mounted) -> None:
    """Enter on an audited card answers nothing, and "accept the rest" leaves it open."""
    page = batch(1, 2)
    page["cards"][0] |= {"guess": None, "audit": True, "top": []}  # type: ignore[index]  # a list of cards
    mounted.give(asked(page))
    mounted.press("Enter")
    assert mounted.events == []
    mounted.page.locator("[data-command=accept-rest]").click()
    assert mounted.cards == ["open:*", "label:bag"]


def test_cards_never_vanish_while_they_are_shown(mounted: Mounted) -> None:
    """Other cards of the same round come in when the page is left."""
    mounted.give(asked(batch(1, 2)))
    other = batch(1, 2)
    other["cards"][1] |= {"q": "exchanged", "image": "another"}  # type: ignore[index]  # a list of cards
    mounted.give(asked(other))
    assert mounted.page.evaluate("[...root.querySelectorAll('.card')].map((one) => one.dataset.image)") == [
        "i1-0",
        "i1-1",
    ]
    mounted.press("1", "2")
    assert mounted.page.evaluate("[...root.querySelectorAll('.card')].map((one) => one.dataset.image)") == [
        "i1-0",
        "another",
    ]


def test_a_refused_answer_opens_its_card_again_and_says_why(mounted: Mounted) -> None:
    """The reason stands in an alert; nothing moves to another page."""
    mounted.give(asked(batch(1, 2)))
    mounted.press("1")
    results = {event["key"]: {"status": "refused", "reason": "<b>retired</b>"} for event in mounted.events}
    mounted.give(asked(batch(1, 2), results=results))
    assert mounted.cards == ["open:", "open:*"]
    assert "<b>retired</b>" in mounted.page.locator("[role=alert]").inner_text()


def test_the_cleanup_of_an_overtaken_call_stops_nothing(mounted: Mounted) -> None:
    """Streamlit calls it for a call that was overtaken, too; only the newest one's means the end."""
    mounted.give(asked(batch(1, 3)))
    mounted.give(asked(batch(1, 3), background="learning"))
    mounted.page.evaluate("cleanups[0]()")
    mounted.press("1")
    mounted.page.evaluate("cleanups[1]()")
    mounted.press("1")
    assert len(mounted.events) == 1


def test_many_classes_are_found_by_typing(mounted: Mounted) -> None:
    """A letter opens the search, Enter takes the first; digits take the card's most probable."""
    mounted.give(asked(batch(1, 3), n_classes=11))
    mounted.press("g", "l", "Enter", "2")
    assert mounted.cards == ["label:glove", "label:coat", "open:*"]


def test_keys_typed_elsewhere_on_the_page_are_left_alone(mounted: Mounted) -> None:
    """Labeling keys act with the focus on the page's ground or in the component, and never under a dialog."""
    mounted.give(asked(batch(1, 3)))
    mounted.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<input id=other><div id=box></div>')")
    mounted.page.locator("#other").focus()
    mounted.press("1")
    mounted.page.evaluate("document.activeElement.blur(); box.role = 'dialog'; box.textContent = 'busy'")
    mounted.press("1")
    assert mounted.events == []
    mounted.page.evaluate("box.remove()")
    mounted.press("1")
    assert len(mounted.events) == 1


def test_names_from_outside_are_text(mounted: Mounted) -> None:
    """A class may be called anything."""
    data = asked(batch(1, 2))
    data["classes"][0]["name"] = "<img src=x onerror=alert(1)>"  # type: ignore[index]  # a list of classes
    mounted.give(data)
    mounted.press("1")
    assert json.dumps(mounted.cards[0]) == '"label:<img src=x onerror=alert(1)>"'
    assert mounted.page.locator("img[src=x]").count() == 0
