"""The labeling surface under a hand that does not wait: keys, undo, tabs, a failing network, a dying server."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from annotator.config import Config
from annotator.project import Project
from annotator.store import Store, log
from tests import storing
from tests.e2e.conftest import NewPerson, Server
from tests.e2e.person import Person
from tests.e2e.proxy import Proxy, proxy_to

DIGITS = Config(name="keys", source="digits", source_parameters={"held_out": 100}, encoder="pixels", batch_size=12)
NOTE_KEYS = """
window.pressed = [];
window.recorded = [];
window.addEventListener('keydown', event => {
  const host = [...document.querySelectorAll('*')].find(one => one.shadowRoot?.querySelector('.surface'));
  const card = host?.shadowRoot.querySelector('.card[data-cursor=true]');
  if (card && card.dataset.state === 'open' && !event.repeat) pressed.push([card.dataset.image, event.key]);
}, true);
const keep = Storage.prototype.setItem;
Storage.prototype.setItem = function (key, value) {
  keep.call(this, key, value);
  if (key.startsWith('annotator:') && value) recorded.push([JSON.parse(value).image, String(JSON.parse(value).class)]);
};
"""
"""Which image was under the cursor when a key fell, heard before the surface hears it; and what the browser kept."""
KEY_EVERY_60_MS = """n => {
  let at = 0;
  const timer = setInterval(() => {
    if (pressed.length >= n) { clearInterval(timer); return; }
    const key = String((at += 7) % 10);
    for (const type of ['keydown', 'keyup']) {
      document.dispatchEvent(new KeyboardEvent(type, { key, code: `Digit${key}`, bubbles: true, composed: true }));
    }
  }, 60);
}"""
"""Without a card under the cursor a key does nothing, and is not counted."""


def made(server: Server, **changes: object) -> Path:
    """A project on digits."""
    name = f"keys-{len(list(server.projects.glob('keys-*')))}" if server.projects.exists() else "keys-0"
    config = Config(**{**DIGITS.__dict__, **changes})  # type: ignore[arg-type]  # fields of Config
    project = Project.create(server.projects / name, config)
    project.close()
    return project.folder


def come(person: Person, folder: Path) -> Person:
    person.open(f"?project={folder.name}")
    person.surface.wait_for()
    return person


@pytest.fixture
def person(shared: Server, new_person: NewPerson) -> Person:
    """In front of twelve digits."""
    return come(new_person(shared), made(shared))


def standing(folder: Path) -> dict[str, str]:
    """image id -> class, as a second process reads it from the disk."""
    project = Project(folder)
    labels = project.session("you").labels
    project.close()
    return labels


def folder_of(server: Server, person: Person) -> Path:
    return server.projects / person.project


# ---- nothing lost


def test_five_hundred_keys_through_cut_sockets_and_a_killed_server(server: Server, new_person: NewPerson) -> None:
    """A key every 60 ms: what was pressed on an image is its label, each once, whatever happens to the network."""
    folder = made(server, batch_size=50)
    with proxy_to(server.port) as proxy:
        person = new_person(server)
        person.url = proxy.url
        person.page.add_init_script(NOTE_KEYS)
        come(person, folder)
        with person.offline():
            person.page.evaluate(KEY_EVERY_60_MS, 500)
            for n_pressed, happens in ((60, proxy.cut), (170, lambda: restart(server, proxy)), (330, proxy.cut)):
                person.waits_for(lambda: n_keys(person) >= n_pressed)  # noqa: B023  # called before the next turn
                happens()
            person.waits_for(lambda: n_keys(person) == 500 and person.surface.get_attribute("data-unsaved") == "0")
            pressed, recorded = person.page.evaluate("[window.pressed, window.recorded]")
            person.leave()
    stored = standing(folder)
    assert dict(pressed).items() <= stored.items()
    assert sorted(stored.items()) == sorted(map(tuple, recorded))
    events = Store(folder / "project.sqlite").read(log.events)
    answers = Counter(event.image_id for event in events if event.kind == "answer")
    assert set(answers.values()) == {1}


def n_keys(person: Person) -> int:
    """How many keys fell on an open image."""
    return int(person.page.evaluate("window.pressed.length"))


def restart(server: Server, proxy: Proxy) -> None:
    server.kill()
    proxy.cut()
    server.start()


def test_what_was_pressed_before_a_reload_is_stored_after_it(server: Server, new_person: NewPerson) -> None:
    """The server hangs, keys are pressed, the tab is closed; another tab of the same browser brings them home."""
    folder = made(server)
    person = come(new_person(server), folder)
    asked = person.asked
    with person.offline():
        os.kill(server.pid, signal.SIGSTOP)
        person.key("1", "2", "3")
        expect(person.surface).to_have_attribute("data-unsaved", "3")
        assert person.page.get_by_text("on their way").is_visible()
        page = person.page.context.new_page()
        person.page.close()
        os.kill(server.pid, signal.SIGCONT)
    again = Person(page, server.url)
    come(again, folder)
    assert again.n_saved == 3
    assert standing(folder) == dict(zip(asked[:3], "123", strict=True))


def test_two_tabs_never_overwrite_each_other(shared: Server, person: Person, new_person: NewPerson) -> None:
    """The same card answered in both: the first stands, the other tab says so and shows it."""
    other = come(new_person(shared), folder_of(shared, person))
    first, second, *_ = person.asked
    person.key("3")
    assert person.n_saved == 1
    other.key("4", "5")
    assert other.n_saved == 2
    other.sees("answered in another tab")
    assert standing(folder_of(shared, person)) == {first: "3", second: "5"}
    expect(other.card(first)).to_have_attribute("data-class", "3")


# ---- keys


def test_undo_goes_back_across_batches(shared: Server, person: Person) -> None:
    """Backspace takes back the newest answer, and the next one, into the batch before; Ctrl+Z as well."""
    first = person.asked
    person.key(*"012345678901")
    person.is_saved()
    assert person.round == 2
    second = person.asked
    person.key("7")
    person.key("Backspace", "Backspace", "Control+z")
    person.is_saved()
    assert (person.round, person.asked) == (1, first[-2:])
    person.key("5", "6")
    person.is_saved()
    assert (person.round, person.asked) == (2, second)
    expected = dict(zip(first, "012345678956", strict=True))
    assert standing(folder_of(shared, person)) == expected


def test_a_key_held_down_labels_one_image(shared: Server, person: Person) -> None:
    """Auto-repeat never reaches the next image."""
    first = person.asked[0]
    for _ in range(6):
        person.page.keyboard.down("4")
    person.page.keyboard.up("4")
    person.is_saved()
    assert standing(folder_of(shared, person)) == {first: "4"}


def test_enter_accepts_space_too_and_letters_say_why_not(shared: Server, person: Person) -> None:
    """Guesses by Enter or Space; S, U and N answer without a class; the keypad has the same digits."""
    person.key(*"012345678901")
    person.is_saved()
    asked = person.asked
    guesses = [person.guess(image_id) for image_id in asked]
    person.key("Enter", "Space", "s", "u", "n", "Numpad7")
    person.is_saved()
    project = Project(folder_of(shared, person))
    given = {event.image_id: event for event in storing.current(project.store)}
    answers = [(given[image_id].outcome, given[image_id].class_id) for image_id in asked[:6]]
    project.close()
    assert [answer for answer, _ in answers] == ["label", "label", "skip", "unsure", "none-of-these", "label"]
    assert [str(code) for _, code in answers if code is not None] == [guesses[0], guesses[1], "7"]
    assert all(given[image_id].client_ms is not None for image_id in asked[:6])


def test_shift_labels_the_selection_and_each_is_undone_alone(shared: Server, person: Person) -> None:
    """Shift+arrows select, Shift+class answers all of them, one undo takes back one."""
    asked = person.asked
    person.key("Shift+ArrowRight", "Shift+ArrowRight", "Shift+Digit6")
    person.is_saved()
    assert standing(folder_of(shared, person)) == dict.fromkeys(asked[:3], "6")
    person.key("Backspace")
    person.is_saved()
    assert len(standing(folder_of(shared, person))) == 2


def test_streamlits_own_keys_do_nothing_while_labeling(person: Person) -> None:
    """R would rerun the app, C would ask to clear the cache."""
    person.page.evaluate("document.activeElement.blur()")
    runs = person.n_runs
    person.key("r", "c", "R", "C")
    person.key("1")
    assert person.n_saved == 1
    assert person.n_runs == runs
    assert person.page.get_by_role("dialog").count() == 0


def test_a_flag_keeps_its_comment(shared: Server, person: Person) -> None:
    """F, a few words, Enter: the comment stands beside the answer in the store, and the keys typed are no answers."""
    first = person.asked[0]
    person.key("f")
    person.page.keyboard.type("is it a 3 or 8?")
    person.key("Enter")
    person.key("3")
    assert person.n_saved == 1
    project = Project(folder_of(shared, person))
    me = project.session("you").annotator.annotator_id
    assert storing.flags(project.store) == {(first, me): "is it a 3 or 8?"}
    project.close()


def test_help_and_zoom_come_and_go_by_keys(person: Person) -> None:
    """? shows every key, Z the image in full size; Escape closes both and labels nothing."""
    person.key("?")
    person.page.get_by_role("dialog").wait_for()
    person.key("1", "Escape")
    expect(person.page.get_by_role("dialog")).to_have_count(0)
    person.key("z")
    full = person.page.locator(".surface .zoom img")
    expect(full).to_be_visible()
    person.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=full.element_handle())
    person.key("z")
    expect(full).to_be_hidden()
    assert person.n_saved == 0


def test_keys_can_be_chosen(shared: Server, person: Person) -> None:
    """A letter set for a class answers with it at once."""
    first = person.asked[0]
    person.button_like("Add a class").click()
    person.field("class-key-3").fill("t")
    person.press("Set the keys")
    person.page.keyboard.press("Escape")
    person.surface.locator(".class[data-class='3'] kbd").get_by_text("T").wait_for()
    person.card(first).click()
    person.key("t")
    assert person.n_saved == 1
    assert standing(folder_of(shared, person)) == {first: "3"}


# ---- other ways in


def test_photos_come_from_signed_addresses(shared: Server, new_person: NewPerson, tmp_path: Path) -> None:
    """Photos are thumbnails with an address of their own, and really drawn."""
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(8):
        Image.effect_noise((640, 480), 40 + number).convert("RGB").save(folder / f"{number}.jpg")
    person = new_person(shared)
    person.open("start")
    person.name_folder(folder)
    person.name_classes("a", "b")
    person.create()
    drawn = person.page.locator(".surface .card img").evaluate_all(
        "images => Promise.all(images.map(image => image.decode().then(() => [image.src, image.naturalWidth])))"
    )
    assert len(drawn) == 8
    assert all("/annotator/image/" in source and width >= 300 for source, width in drawn)


def test_two_people_label_one_project(shared: Server, person: Person, new_person: NewPerson) -> None:
    """Each has their own batch under their own name."""
    other = new_person(shared)
    other.open(f"?project={person.project}&as=bob")
    other.surface.wait_for()
    assert not set(person.asked) & set(other.asked)
    other.key("1")
    assert (other.n_saved, person.n_saved) == (1, 0)
    project = Project(folder_of(shared, person))
    assert {someone.name for someone in project.store.snapshot().people} >= {"you", "bob"}
    project.close()


def test_hidden_guesses_are_hidden_and_counted(shared: Server, new_person: NewPerson) -> None:
    """With all of them hidden no card shows one, and the events say so."""
    folder = made(shared, hidden_share=1.0)
    person = come(new_person(shared), folder)
    person.key(*"012345678901")
    person.is_saved()
    assert [person.guess(image_id) for image_id in person.asked] == [None] * 12
    person.key("1")
    person.is_saved()
    project = Project(folder)
    assert json.loads(storing.current(project.store)[-1].payload)["guess_shown"] is False
    project.close()


def test_the_form_is_there_where_keys_are_not(shared: Server, new_person: NewPerson) -> None:
    """The same batch by plain widgets: what is saved there is saved."""
    folder = made(shared)
    person = new_person(shared)
    person.open(f"?project={folder.name}&answers=form")
    card = person.page.locator("[class*=st-key-card-]").first
    image_id = card.get_by_role("img").get_attribute("alt")
    card.get_by_role("radio", name="5", exact=True).click()
    person.press("Save answers")
    person.sees("1 saved")
    assert standing(folder) == {image_id: "5"}
