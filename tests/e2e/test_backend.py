"""The second backend as people meet it: switched to in the middle, killed at any moment, without room to write."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from playwright.sync_api import expect
from sklearn.datasets import load_digits

from annotator.config import Config
from annotator.pointer import CACHE
from annotator.project import Project
from annotator.simulate import answer_batch, oracle_of
from annotator.store import Store
from tests import storing
from tests.conftest import PhotoFolder
from tests.e2e.conftest import ANNOTATOR_RUN, NewPerson, Server, running
from tests.e2e.person import Person
from tests.e2e.processes import command_of, has_tensorflow, started_by

TRUTH = load_digits().target
TRAINING = "annotator.encoders.keras_autoencoder:train"
WEIGHTS = "autoencoder.npz"
TOO_SMALL = "A pool of 20 images is too small to train an autoencoder on"
CURVE = "[data-testid=stVegaLiteChart] svg"


def begun(projects: Path, name: str, config: Config | None = None) -> Path:
    """A project with two rounds answered and a third one open."""
    project = Project.create(projects / name, config or Config(name=name, encoder="pixels", limit=400, batch_size=6))
    session = project.session("you")
    for _ in range(2):
        session.advance()
        answer_batch(session, oracle_of(project))
    session.advance()
    project.close()
    return project.folder


def true_digit(image_id: str) -> str:
    return str(TRUTH[int(image_id.partition("/")[2])])


def label(person: Person) -> dict[str, str]:
    """Answer the open batch truly -> what was answered and is stored."""
    answers = {image_id: true_digit(image_id) for image_id in person.asked}
    for image_id, name in answers.items():
        person.answer(image_id, name)
    person.save()
    return answers


def is_told_at_last(person: Person, reason: str) -> None:
    """By a job that takes its time."""
    person.waits_for(lambda: person.visible(reason).is_visible())
    person.is_told(reason)


def stored_labels(folder: Path) -> dict[str, str]:
    """As they stand in the store, for whoever opens it."""
    project = Project(folder)
    labels = project.session("you").labels
    project.close()
    return labels


def stored_config(folder: Path) -> tuple[int, dict[str, object]]:
    store = Store(folder / "project.sqlite")
    found = storing.config(store)
    store.close()
    return found


def uses(folder: Path, encoder: str) -> bool:
    return stored_config(folder)[1]["encoder"] == encoder


def is_fitted_by(folder: Path, config_version: int) -> bool:
    """Whether the newest model is of this configuration."""
    store = Store(folder / "project.sqlite")
    models = storing.models(store)
    store.close()
    return models[-1].config_version == config_version


def is_asked_by(folder: Path, config_version: int) -> bool:
    """Whether every image of the newest batch was chosen by a model of this configuration."""
    store = Store(folder / "project.sqlite")
    config_of = {model.version: model.config_version for model in storing.models(store)}
    newest = [question for question in storing.questions(store) if question.round == storing.last_round(store)]
    store.close()
    return {config_of[question.model_version or 0] for question in newest} == {config_version}


# ---- what runs (Linux)


def training(server: Server) -> list[int]:
    """The processes that train an encoder for this app."""
    return [pid for pid in started_by(server.pid) if TRAINING in command_of(pid)]


@contextmanager
def held(child: int) -> Iterator[None]:
    """A process that makes no step meanwhile."""
    os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGCONT)


def weights_of(server: Server) -> list[Path]:
    """Weight files that could be loaded, whole or not."""
    return sorted((server.projects / CACHE).rglob(f"{WEIGHTS}*"))


@contextmanager
def room_for(server: Server, n_bytes: int) -> Iterator[None]:
    """As a disk that is nearly full: no file of the app, or of what it starts, can become longer than this."""
    hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))


# ---- from one backend to the other


def test_what_comes_and_goes_above_the_surface_does_not_move_it(shared: Server, new_person: NewPerson) -> None:
    """An encoder on its way, ready, and said so: the image under the cursor stays the image under the cursor."""
    folder = begun(shared.projects, "unmoved", Config(name="unmoved", encoder="pixels", limit=200, batch_size=6))
    person = new_person(shared)
    person.open("?project=unmoved")
    third = person.asked[2]
    person.key("ArrowRight", "ArrowRight")
    person.surface.evaluate("surface => { surface.dataset.known = true }")
    person.change_settings(encoder="autoencoder")
    person.visible("Preparing the encoder autoencoder").wait_for()
    person.waits_for(lambda: uses(folder, "autoencoder"))
    person.sees("The features of autoencoder are ready")
    assert person.surface.get_attribute("data-known") == "true"
    assert person.surface.locator("[data-cursor=true]").get_attribute("data-image") == third


def test_encoder_and_model_are_switched_in_the_middle(shared: Server, new_person: NewPerson) -> None:
    """Labeling goes on while features are learned, the curve marks both changes, then the new model asks.

    All the while TensorFlow is in the app's children alone.
    """
    folder = begun(shared.projects, "switched")
    person = new_person(shared)
    person.open("?project=switched")
    typed = stored_labels(folder)
    person.change_settings(encoder="autoencoder", model="encoder-classifier")
    typed |= label(person)
    person.waits_for(lambda: uses(folder, "autoencoder"))
    version, config = stored_config(folder)
    assert config["model"] == "encoder-classifier"
    typed |= label(person)
    person.waits_for(lambda: is_fitted_by(folder, version))
    for _ in range(3):  # what was chosen ahead comes first
        typed |= label(person)
    person.waits_for(lambda: is_asked_by(folder, version))
    assert stored_labels(folder) == typed
    project = Project(folder)
    assert storing.changes(project.store) == {version - 1: "model: encoder-classifier", version: "encoder: autoencoder"}
    project.close()
    person.go_to("Progress")
    expect(person.page.locator(CURVE).first.locator("[aria-roledescription='rule mark']")).to_have_count(2)
    assert not has_tensorflow(shared.pid)
    assert any(has_tensorflow(pid) for pid in started_by(shared.pid))


def test_an_encoder_is_in_use_though_its_tab_was_closed(shared: Server, new_person: NewPerson) -> None:
    """It was asked for and nobody looked again: whoever opens the project later labels with it."""
    folder = begun(shared.projects, "overnight", Config(name="overnight", encoder="pixels", limit=200, batch_size=6))
    evening = new_person(shared)
    evening.open("?project=overnight")
    evening.change_settings(encoder="autoencoder")
    evening.visible("Preparing the encoder autoencoder").wait_for()
    evening.page.close()
    deadline = time.monotonic() + 300
    while not uses(folder, "autoencoder"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    morning = new_person(shared)
    morning.open("?project=overnight")
    assert len(morning.asked) == 6
    assert not morning.visible("Preparing the encoder").is_visible()
    typed = stored_labels(folder)
    for _ in range(2):  # what was chosen ahead comes first
        typed |= label(morning)
    version, _ = stored_config(folder)
    morning.waits_for(lambda: is_asked_by(folder, version))
    assert stored_labels(folder) == typed


def test_a_pool_too_small_to_train_on_says_so(shared: Server, new_person: NewPerson, photo_folder: PhotoFolder) -> None:
    """Twenty images are labeled on quick features; the page says it now and whenever the project is opened."""
    person = new_person(shared)
    person.open("start")
    person.name_folder(photo_folder(20))
    person.name_classes("round", "cornered")
    person.choose_parts(encoder="autoencoder")
    person.create()
    person.sees(f"{TOO_SMALL}; it takes 200.")
    person.sees("The quick features of hog are used.")
    for image_id in person.asked:
        person.answer(image_id, "round")
    person.save()
    person.reload()
    person.sees(TOO_SMALL)
    project = Project(shared.projects / person.project)
    assert project.config.encoder == "hog"
    assert len(project.session("you").labels) == 12
    project.close()


def test_a_switch_that_the_pool_is_too_small_for_is_refused(shared: Server, new_person: NewPerson) -> None:
    """At once and with the reason; the project goes on as it is."""
    folder = begun(shared.projects, "few", Config(name="few", limit=20, batch_size=4))
    person = new_person(shared)
    person.open("?project=few")
    person.change_settings(encoder="autoencoder")
    person.is_told(TOO_SMALL)
    typed = stored_labels(folder) | label(person)
    assert stored_labels(folder) == typed
    assert uses(folder, "hog")


# ---- killed


def test_training_is_killed_at_a_random_moment(shared: Server, new_person: NewPerson) -> None:
    """The page says what happened, no label is lost, no weights are left to load, and labeling goes on as before."""
    folder = begun(shared.projects, "killed", Config(name="killed", encoder="pixels", order_seed=1, batch_size=6))
    person = new_person(shared)
    person.open("?project=killed")
    typed, weights = stored_labels(folder), weights_of(shared)
    person.change_settings(encoder="autoencoder")
    person.waits_for(lambda: bool(training(shared)))
    (child,) = training(shared)
    person.page.wait_for_timeout(np.random.default_rng().uniform(0, 3000))
    os.kill(child, signal.SIGKILL)
    is_told_at_last(person, "was killed, most likely because the machine ran out of memory. Close other programs")
    typed |= label(person)
    assert stored_labels(folder) == typed
    assert uses(folder, "pixels")
    assert weights_of(shared) == weights
    person.reload()
    assert person.n_saved == len(typed)


def test_the_app_is_killed_while_it_trains(server: Server, new_person: NewPerson) -> None:
    """The child goes with it; the next start opens the project with every label and the batch that was open."""
    folder = begun(server.projects, "cut", Config(name="cut", encoder="pixels", batch_size=6))
    person = new_person(server)
    person.open("?project=cut")
    person.change_settings(encoder="autoencoder", model="encoder-classifier")
    person.waits_for(lambda: bool(training(server)))
    (child,) = training(server)
    with held(child):  # so that it cannot be through before the app is killed
        typed = stored_labels(folder) | label(person)
        asked = person.asked
        server.kill()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert weights_of(server) == []
    assert uses(folder, "pixels")
    with person.offline():
        server.start()
        person.reload()
    assert (person.n_saved, person.asked) == (len(typed), asked)
    typed |= label(person)
    assert stored_labels(folder) == typed


# ---- no room to write


def test_training_finds_no_room(shared: Server, new_person: NewPerson, tmp_path: Path) -> None:
    """The page says to free some space, labels are stored meanwhile; with room again the same switch succeeds."""
    rng = np.random.default_rng(0)
    truth = np.arange(240) % 2
    images = rng.integers(0, 90, (240, 28, 28), dtype=np.uint8)
    images[truth == 1, :, 8:16] = 250
    np.savez(tmp_path / "bars.npz", images=images, labels=truth, class_names=np.array(["blank", "bar"]))
    parameters = {"path": str(tmp_path / "bars.npz")}
    folder = begun(shared.projects, "bars", Config(name="bars", source="arrays", source_parameters=parameters))
    person = new_person(shared)
    person.open("?project=bars")
    n_labels = len(stored_labels(folder))
    with room_for(shared, 1_000_000):  # the store takes a third of it, the weights alone take more
        person.change_settings(encoder="autoencoder")
        is_told_at_last(person, "Free some space")
        asked = person.asked
        for image_id in asked:
            person.answer(image_id, ("blank", "bar")[int(image_id.rpartition("/")[2]) % 2])
        person.save()
        assert len(stored_labels(folder)) == n_labels + len(asked)
        assert uses(folder, "hog")
    person.change_settings(encoder="autoencoder")
    person.waits_for(lambda: uses(folder, "autoencoder"))
    assert len(stored_labels(folder)) == n_labels + len(asked)


def test_labels_find_no_room(server: Server, new_person: NewPerson) -> None:
    """The page says that nothing was stored and keeps it; with room again all that was typed is in the store."""
    folder = begun(server.projects, "full", Config(name="full", encoder="pixels", batch_size=24))
    person = new_person(server)
    person.open("?project=full")
    typed = stored_labels(folder)
    asked = person.asked
    with room_for(server, (folder / "project.sqlite").stat().st_size):
        for image_id in asked[:12]:
            typed[image_id] = true_digit(image_id)
            person.answer(image_id, typed[image_id])
        person.sees("nothing new was stored")
        stored = stored_labels(folder)
        assert stored.items() < typed.items()
    person.save()
    assert person.n_saved == len(typed)
    assert stored_labels(folder) == typed


# ---- what is left behind


def test_folders_of_jobs_go_when_they_are_done_with(
    server: Server, new_person: NewPerson, photo_folder: PhotoFolder
) -> None:
    """An import's when it was taken, an export's with the next one, a dead process's after a day."""
    jobs = server.projects / ".jobs"
    for name in ("tmpold", "999999999-old", "tmpyoung"):
        (jobs / name).mkdir(parents=True)
        (jobs / name / "log.txt").write_text("")
        if name != "tmpyoung":
            for path in (jobs / name / "log.txt", jobs / name):
                os.utime(path, (time.time() - 2 * 86400,) * 2)
    person = new_person(server)
    person.open("start")
    person.name_folder(photo_folder(20))
    person.name_classes("round", "cornered")
    person.create()
    person.waits_for(lambda: [path.name for path in jobs.iterdir()] == ["tmpyoung"])
    for form in ("CSV", "JSON Lines"):
        person.export(form)
    person.waits_for(lambda: len(list(jobs.iterdir())) == 2)


def test_a_broken_preset_is_named_on_the_start_view(projects: Path, tmp_path: Path, new_person: NewPerson) -> None:
    """The first start shows the digits all the same."""
    checkout, copy = Path(__file__).parents[2], tmp_path / "copy"
    shutil.copytree(checkout / "assets", copy / "assets", ignore=shutil.ignore_patterns("screenshots"))
    for name in ("annotator", ".streamlit"):
        (copy / name).symlink_to(checkout / name)
    (copy / "assets" / "presets" / "cut.json").write_text(json.dumps({"title": "Cut"})[:-3])
    with running(Server(projects, tmp_path, *ANNOTATOR_RUN, folder=copy)) as server:
        person = new_person(server)
        person.open()
        assert len(person.asked) == 12
        person.go_to("Start")
        person.sees("The preset cut.json cannot be used")
        person.start_demo("Handwritten digits")
        assert len(person.asked) == 12
        person.leave()
