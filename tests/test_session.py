"""One annotator's loop over a real store and a real dataset: ask, answer, undo, come back, finish.

Longer than other files: a person's whole way through the loop, with all that may happen on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator import registry, reports
from annotator.config import Config, presets
from annotator.consensus import agreement, consensus
from annotator.errors import AnnotatorError, ConfigError, SourceError, StoreError
from annotator.evaluation import describe
from annotator.learner import draw_audit
from annotator.project import Project
from annotator.projects import free_folder, list_projects
from annotator.reasons import in_words, on_card, to_json
from annotator.session import Session
from annotator.simulate import Oracle, answer_batch, oracle_of, simulate
from annotator.store import Question, answers, log, questions
from annotator.strategies import herding
from annotator.types import Reason
from tests import storing
from tests.test_store import question as asked_question

QUESTION = asked_question("digits/00000")

SMALL = Config(
    name="small", source="digits", source_parameters={"held_out": 100}, limit=150, encoder="pixels", batch_size=6
)


@pytest.fixture
def project(projects: Path) -> Iterator[Project]:
    opened = Project.create(projects / "small", SMALL)
    yield opened
    opened.close()


@pytest.fixture
def session(project: Project) -> Session:
    started = project.session("ada")
    started.advance()
    return started


def play(project: Project, session: Session, n_rounds: int) -> None:
    oracle = oracle_of(project)
    for _ in range(n_rounds):
        session.advance()
        answer_batch(session, oracle)
    session.advance()


def test_labeling_starts_without_a_single_label(session: Session) -> None:
    """Nobody brings seeds: the first batch is there, typical of all images, without a guess."""
    assert len(session.remaining) == 6
    assert {(card.guess, card.strategy) for card in session.remaining} == {(None, "typical")}


def test_a_round_moves_the_curve_and_says_what_changed(project: Project, session: Session) -> None:
    """After two rounds there are two points, measured on held-out images, and a sentence that says so."""
    play(project, session, 2)
    assert [point.n_labeled for point in reports.history(session.moment())] == [6, 12]
    assert reports.history(session.moment())[-1].headline == "test"
    assert "12 labels → " in reports.news(session.moment())
    assert "on 100 held-out images" in reports.news(session.moment())


def test_an_untouched_image_is_not_a_label_and_stays(session: Session) -> None:
    """Answering some leaves the others open, and no new batch is asked until they are answered."""
    first, *others = session.remaining
    session.label(first.image_id, "3")
    session.advance()
    assert [card.image_id for card in session.remaining] == [card.image_id for card in others]
    assert session.labels == {first.image_id: "3"}


def test_reopening_asks_the_same_images(project: Project, session: Session) -> None:
    """Another process that opens the project sees the same unanswered cards with the same guesses."""
    play(project, session, 2)
    session.label(session.remaining[0].image_id, "1")
    again = Project(project.folder)
    reopened = again.session("ada")
    reopened.advance()
    assert reopened.remaining == session.remaining
    assert reports.history(reopened.moment()) == reports.history(session.moment())
    again.close()


def test_the_prediction_after_reopening_is_that_of_the_last_fit(project: Project, session: Session) -> None:
    """A rebuilt model has seen exactly what the recorded one saw, not what was answered since."""
    play(project, session, 3)
    before = project.learner.prediction.probabilities
    session.label(session.remaining[0].image_id, "1")
    again = Project(project.folder)
    np.testing.assert_array_equal(again.learner.prediction.probabilities, before)
    assert (again.learner.labels == project.learner.labels).all()
    again.close()


def test_undo_crosses_the_round_and_asks_again(project: Project, session: Session) -> None:
    """The last answer of the round before comes back in front; the offered batch stays as it was."""
    play(project, session, 1)
    offered = [card.image_id for card in session.remaining]
    last = reports.recent(session.moment())[0].image_id
    session.undo()
    assert [card.image_id for card in session.remaining] == [last, *offered]
    assert last not in session.labels


def test_an_answer_given_twice_is_one_and_a_changed_one_is_a_relabel(session: Session) -> None:
    """The same answer again changes nothing; another class supersedes; undo brings the first back."""
    card = session.remaining[0]
    session.label(card.image_id, "3", card.event_id)
    session.label(card.image_id, "3", card.event_id)
    assert reports.n_answered(session.moment()) == 1
    session.label(card.image_id, "5")
    assert session.labels == {card.image_id: "5"}
    session.undo()
    assert session.labels == {card.image_id: "3"}


def test_an_answer_from_a_stale_tab_is_refused(project: Project, session: Session) -> None:
    """Another tab answered differently meanwhile: the second answer is refused, and the first stands."""
    card = session.remaining[0]
    project.session("ada").label(card.image_id, "3", card.event_id)
    with pytest.raises(StoreError) as refused:
        session.label(card.image_id, "5", card.event_id)
    assert refused.value.code == "STORE_CONFLICT"
    assert session.labels == {card.image_id: "3"}


def test_skip_unsure_and_none_of_these_are_answers_without_a_class(project: Project, session: Session) -> None:
    """They close the question, are not trained on, and are not asked again."""
    ids = [card.image_id for card in session.remaining]
    for image_id, outcome in zip(ids, ["skip", "unsure", "none-of-these"] * 2, strict=True):
        session.skip(image_id, outcome)
    session.advance()
    assert reports.history(session.moment()) == ()
    assert not set(ids) & {card.image_id for card in session.remaining}
    assert [answered.outcome for answered in reports.recent(session.moment())[:3]] == [
        "none-of-these",
        "unsure",
        "skip",
    ]
    with pytest.raises(ConfigError):
        session.skip(session.remaining[0].image_id, "maybe")


def test_a_class_added_in_the_middle_is_followed_by_the_model(project: Project, session: Session) -> None:
    """It can be answered at once, and from its first label on the model predicts it."""
    play(project, session, 2)
    session.add_class("smudge")
    for card in session.remaining:
        session.label(card.image_id, "smudge")
    session.advance()
    assert project.learner.prediction.probabilities.shape[1] == 11
    assert {name for name, _ in reports.suggestions(session.moment()).values()} & {"smudge"}


def test_unknown_classes_and_images_are_refused(session: Session) -> None:
    """An unknown class lists the known ones; an image that was not asked says so."""
    with pytest.raises(ConfigError, match="Choose from: 0, 1"):
        session.label(session.remaining[0].image_id, "seven")
    with pytest.raises(StoreError) as refused:
        session.label("digits/99999", "7")
    assert refused.value.code == "STORE_NOT_ASKED"


def test_the_pool_runs_out_and_that_is_the_end(projects: Path) -> None:
    """When every image was asked nothing is open, nothing crashes, and the last figures are there."""
    small = Project.create(projects / "tiny", replace(SMALL, limit=10))
    session = small.session("ada")
    play(small, session, 3)
    assert session.remaining == []
    assert (reports.n_left(session.moment()), len(session.labels)) == (0, 10)
    small.close()


def test_all_skipped_ends_too(projects: Path) -> None:
    """A pool of skips has no model, no error, and nothing left to ask."""
    small = Project.create(projects / "tiny", replace(SMALL, limit=8))
    session = small.session("ada")
    while session.advance() or session.remaining:
        for card in session.remaining:
            session.skip(card.image_id)
    assert reports.history(session.moment()) == ()
    assert reports.n_left(session.moment()) == 0
    small.close()


def test_only_one_class_so_far_asks_typical_images(project: Project, session: Session) -> None:
    """With a single class known all images look alike to the model; the card says who picked it instead."""
    for card in session.remaining:
        session.label(card.image_id, "0")
    session.advance()
    assert {card.strategy for card in session.remaining} == {"typical"}
    assert all(card.guess == "0" for card in session.remaining)


def test_a_card_says_for_how_many_images_it_stands(project: Project, session: Session) -> None:
    """Its reason is true, counted here image by image, and the same when the project is opened again."""
    project.change(strategy="herding")
    session = project.session("ada")
    features, known = project.learner.dataset.features.astype(np.float64), np.empty(0, dtype=np.int64)
    for strategy in ("typical", "herding", "herding"):
        page = reports.batches(session.moment())[-1]
        rows = np.array([card.row for card in page.cards])
        asked = np.concatenate([known, rows])
        others = np.setdiff1d(np.arange(len(features)), asked)
        nearest = np.linalg.norm(features[others][:, None] - features[asked], axis=2).argmin(axis=1)
        counts = np.bincount(nearest, minlength=len(asked))[len(known) :]
        reasons = [card.reason for card in page.cards]
        assert (page.strategy, reasons) == (strategy, [herding.reason(count) for count in counts])
        again = Project(project.folder)
        assert [card.reason for card in reports.batches(again.session("ada").moment())[-1].cards] == reasons
        again.close()
        known = asked
        answer_batch(session, oracle_of(project))
        session.advance()


def test_strategies_without_reasons_and_those_that_are_gone_say_nothing() -> None:
    """So do seeds and audit images, which have no score."""
    asked = [("entropy", 0.5), ("typical", None), ("uniform", 0.1), ("no-longer-installed", 3.0)]
    said = [in_words(replace(QUESTION, strategy=strategy, score=score), {}) for strategy, score in asked]
    assert said == [""] * 4
    assert in_words(replace(QUESTION, strategy="herding", score=340.0), {}) == "stands for 340 others"


def test_a_reason_names_classes_as_they_are_called_today() -> None:
    """What is kept are their ids; a class that is not known any more is named by its id."""
    kept = replace(QUESTION, reason=to_json(Reason("between {0} and {1}", (6, 4))))
    assert in_words(kept, {6: "shirt", 4: "coat"}) == "between shirt and coat"
    assert in_words(kept, {6: "{1}"}) == "between {1} and class 4"


def test_a_reason_does_not_tell_a_hidden_guess() -> None:
    """One that names classes is not on the card where the guess is hidden; others are, and an export has them all."""
    kept = replace(QUESTION, reason=to_json(Reason("between {0} and {1}", (6, 4))), guess=6, guess_visible=True)
    names = {6: "shirt", 4: "coat"}
    assert on_card(kept, names) == "between shirt and coat"
    hidden = replace(kept, guess_visible=False)
    assert on_card(hidden, names) == ""
    assert in_words(hidden, names) == "between shirt and coat"
    assert on_card(replace(hidden, reason=to_json(Reason("would weigh most for 7 others"))), names)


def test_a_strategys_reasons_and_propensities_stand_with_its_questions(project: Project) -> None:
    """Random says with which probability each image was drawn; what a choice says is kept."""
    project.change(strategy="random")
    session = project.session("ada")
    for _ in range(2):
        session.advance()
        answer_batch(session, oracle_of(project))
    drawn = [asked for asked in storing.questions(project.store) if asked.strategy == "random"]
    n_eligible = len(project.learner.dataset) - project.config.batch_size
    assert {asked.propensity for asked in drawn} == {len(drawn) / n_eligible}


def test_two_annotators_share_the_model_and_never_an_image(project: Project) -> None:
    """Their batches are disjoint, both train one model, and undo is each one's own."""
    ada, bob = project.session("ada"), project.session("bob")
    for _ in range(3):
        ada.advance()
        bob.advance()
        asked = [{card.image_id for card in each.remaining} for each in (ada, bob)]
        assert not asked[0] & asked[1]
        answer_batch(ada, oracle_of(project))
        answer_batch(bob, oracle_of(project))
    ada.advance()
    assert reports.history(ada.moment())[-1].n_labeled == 36
    bob.undo()
    assert (len(ada.labels), len(bob.labels)) == (18, 17)


def test_same_seed_same_answers_same_batches(projects: Path) -> None:
    """Bit for bit on one machine; another seed asks other images."""

    def asked(name: str, seed: int) -> list[list[str]]:
        small = Project.create(projects / name, replace(SMALL, seed=seed, strategy="random"))
        session = small.session("ada")
        play(small, session, 4)
        rounds = [[answered.image_id for answered in each] for each in reports.rounds(session.moment())]
        small.close()
        return rounds

    first = asked("one", 0)
    assert asked("two", 0) == first
    assert asked("three", 1) != first


def test_simulate_and_a_hand_driven_session_leave_the_same_store(projects: Path) -> None:
    """Event for event and question for question, ids and times aside."""
    config = replace(SMALL, rounds=3, initial="first:10")
    list(simulate(config, projects / "simulated"))
    typed = Project.create(projects / "typed", config)
    play(typed, typed.session("oracle"), 3)
    simulated = Project(projects / "simulated")
    assert _log(typed) == _log(simulated)
    typed.close()
    simulated.close()


def _log(project: Project) -> list[dict[str, object]]:
    """Events and questions without ids, hashes and times; people by their number."""
    numbers = {person.annotator_id: person.number for person in project.store.snapshot().people}
    rows = [asdict(event) for event in project.store.read(log.events)]
    rows += [asdict(question) for question in storing.questions(project.store)]
    dropped = {"event_id", "created_at", "question_id", "supersedes", "undoes", "shown_at"}
    return [{key: numbers.get(str(value), value) for key, value in row.items() if key not in dropped} for row in rows]


# ---- the audit slice


def without_truth(photo_folder: Callable[..., Path]) -> Config:
    path = photo_folder(40)
    return Config(
        name="photos", source="folder", source_parameters={"path": str(path)}, classes=("round", "square"),
        batch_size=10, encoder="pixels",
    )  # fmt: skip


def test_without_truth_a_share_of_each_batch_measures(projects: Path, photo_folder: Callable[..., Path]) -> None:
    """15 % of the images asked are drawn at random, with the guess hidden, and the curve is measured on them alone."""
    photos = Project.create(projects / "photos", without_truth(photo_folder))
    session = photos.session("ada")
    purposes = []
    for _ in range(3):
        session.advance()
        purposes += [(card.purpose, card.guess is None) for card in session.remaining]
        for card in session.remaining:
            session.label(card.image_id, "round" if card.row % 2 else "square")
    session.advance()
    audits = [hidden for purpose, hidden in purposes if purpose == "audit"]
    assert 3 <= len(audits) <= 5
    assert all(audits)
    newest = reports.history(session.moment())[-1]
    assert newest.headline == "audit"
    assert newest.measures["audit"]["n"] == len(audits)
    assert newest.n_labeled == len(purposes) - len(audits)
    photos.close()


def test_audit_images_are_never_trained_on(projects: Path, photo_folder: Callable[..., Path]) -> None:
    """Whatever is answered for them, the training labels do not contain them."""
    photos = Project.create(projects / "photos", without_truth(photo_folder))
    session = photos.session("ada")
    for number in range(4):
        session.advance()
        for card in session.remaining:
            session.label(card.image_id, "round" if number % 2 else "square")
    session.advance()
    assert (photos.learner.labels[photos.learner.audit_rows] == -1).all()
    photos.close()


def test_the_audit_slice_is_a_prefix_of_one_permutation(project: Project) -> None:
    """A larger slice begins with the smaller one; seeded rows are never in it."""
    dataset, none = project.learner.dataset, np.empty(0, dtype=np.int64)
    small = draw_audit(dataset, none, 0.1, 200, seed=0)
    large = draw_audit(dataset, none, 0.3, 200, seed=0)
    assert (large[: len(small)] == small).all()
    seeded = large[:20]
    assert not np.isin(draw_audit(dataset, seeded, 0.3, 200, seed=0), seeded).any()


def test_the_test_set_influences_nothing_but_its_figure(projects: Path) -> None:
    """With other held-out truth the same images are asked; only the figure differs."""

    def rounds(name: str, scrambled: bool) -> tuple[list[list[str]], list[float | None]]:
        made = Project.create(projects / name, SMALL)
        if scrambled:
            held_out = made.prepared.dataset.held_out
            assert held_out is not None
            wrong = replace(held_out, truth=(held_out.truth + 1) % 10)
            made.learner.dataset = replace(made.learner.dataset, held_out=wrong)
        session = made.session("ada")
        play(made, session, 3)
        asked = [[answered.image_id for answered in each] for each in reports.rounds(session.moment())]
        made.close()
        return asked, [point.accuracy for point in reports.history(session.moment())]

    (asked, accuracy), (asked_scrambled, accuracy_scrambled) = rounds("true", False), rounds("scrambled", True)
    assert asked == asked_scrambled
    assert accuracy != accuracy_scrambled


# ---- projects


def test_identical_images_are_never_asked_twice(projects: Path, tmp_path: Path) -> None:
    """Two files with the same bytes are two images of one group: one is asked, both stand in the pool."""
    folder = tmp_path / "twins"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        image = Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8))
        image.save(folder / f"{number}.png")
        image.save(folder / f"{number} copy.png")
    config = Config(source="folder", source_parameters={"path": str(folder)}, classes=("a", "b"), batch_size=4)
    twins = Project.create(projects / "twins", config)
    session = twins.session("ada")
    asked: list[str] = []
    while session.advance() or session.remaining:
        asked += [card.image_id for card in session.remaining]
        for card in session.remaining:
            session.label(card.image_id, "a" if int(card.image_id[0]) % 2 else "b")
    assert len(twins.learner.dataset) == 12
    assert sorted(image_id[0] for image_id in asked) == ["0", "1", "2", "3", "4", "5"]
    twins.close()


def test_class_folders_become_known_labels_on_request(projects: Path, photo_folder: Callable[..., Path]) -> None:
    """`initial="known"` takes them over as seeds of round 0; nothing is left to ask, and all is exported as given."""
    path = photo_folder(12, ("circle", "square"))
    Image.new("RGB", (30, 30)).save(path / "unknown.png")
    config = Config(
        source="folder", source_parameters={"path": str(path), "classes_from_folders": True}, initial="known"
    )
    known = Project.create(projects / "known", config)
    session = known.session("ada")
    session.advance()
    assert [card.image_id for card in session.remaining] == ["unknown.png"]
    assert reports.history(session.moment())[-1].n_labeled == 12
    known.close()


def test_a_folder_with_bad_files_imports_the_rest(projects: Path, photo_folder: Callable[..., Path]) -> None:
    """Three bad files among 60 are listed with their reasons; the others are the pool."""
    path = photo_folder(60)
    (path / "empty.jpg").write_bytes(b"")
    (path / "page.png").write_bytes(b"<html><script>alert(1)</script></html>")
    cut = (path / "0000.jpg").read_bytes()
    (path / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    config = Config(source="folder", source_parameters={"path": str(path)}, classes=("a", "b"))
    photos = Project.create(projects / "photos", config)
    aside = {record.image_id: record.reason.split(":")[0] for record in storing.images(photos.store, "set aside")}
    assert aside == {"empty.jpg": "IMG_EMPTY", "page.png": "IMG_FORMAT", "cut.jpg": "IMG_TRUNCATED"}
    assert len(storing.images(photos.store, "ok")) == 60
    photos.close()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"classes": ("a", "a")}, "CLASS_DUPLICATE"),
        ({"classes": ("a", " ")}, "CLASS_EMPTY"),
        ({"strategy": "magrin"}, "CONFIG"),
        ({"batch_size": 0}, "CONFIG"),
        ({"audit_share": 1.0}, "CONFIG"),
        ({"initial": "last:3"}, "CONFIG"),
        ({"n_neighbors": 0}, "CONFIG"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(changes: dict[str, object], code: str) -> None:
    """Before anything is written, with the reason."""
    with pytest.raises(ConfigError) as refused:
        replace(SMALL, **changes)  # type: ignore[arg-type]  # wrong on purpose
    assert refused.value.code == code


def test_an_unknown_name_lists_what_there_is() -> None:
    """The message names the known ones."""
    with pytest.raises(ConfigError, match=r"No query strategy 'magrin'\. Choose from: entropy, margin"):
        registry.load("strategy", "magrin")
    with pytest.raises(ConfigError, match=r"no parameter 'alfa'\. It takes: alpha"):
        registry.create("model", "label-spreading", {"alfa": 1})
    with pytest.raises(ConfigError, match="must be a float"):
        registry.create("model", "label-spreading", {"alpha": "much"})


def test_a_failed_creation_leaves_nothing_behind(projects: Path, tmp_path: Path) -> None:
    """A source without classes, an empty folder: no half-made project is listed afterwards."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SourceError) as refused:
        Project.create(projects / "empty", Config(source="folder", source_parameters={"path": str(empty)}))
    assert refused.value.code == "SRC_EMPTY"
    assert list_projects(projects) == []
    assert not (projects / "empty").exists()


def test_a_project_is_not_created_over_another(project: Project) -> None:
    """The folder that is taken is refused, and a free one is offered."""
    with pytest.raises(StoreError) as refused:
        Project.create(project.folder, SMALL)
    assert refused.value.code == "STORE_EXISTS"
    assert free_folder(project.folder.parent, "small").name == "small-2"


def test_settings_change_in_the_middle_as_an_event(project: Project, session: Session) -> None:
    """Another strategy, batch size and model hold from the next batch; what the dataset is made of stays."""
    play(project, session, 1)
    project.change(strategy="margin", batch_size=3, model="sklearn-label-spreading")
    changed = project.session("ada")
    answer_batch(changed, oracle_of(project))
    changed.advance()
    assert [card.strategy for card in changed.remaining] == ["margin"] * 3
    assert storing.config(project.store)[0] == 2
    with pytest.raises(ConfigError):
        project.change(source="folder")


def test_another_encoder_in_the_middle_keeps_every_label(project: Project, session: Session) -> None:
    """The same images with other features: labels, audit and cards stay, and it is so after reopening."""
    play(project, session, 2)
    waiting, before = session.remaining, project.learner.labels
    old_version = project.learner.dataset.version
    project.change(encoder="hog")
    changed = project.session("ada")
    assert changed.remaining == waiting
    assert project.learner.dataset.version != old_version
    assert (project.learner.labels == before).all()
    again = Project(project.folder)
    assert again.learner.dataset.version == project.learner.dataset.version
    assert storing.changes(again.store) == {2: "encoder: hog"}
    again.close()


def test_a_lost_cache_is_made_again(project: Project, session: Session) -> None:
    """The cache may be deleted: the same dataset comes out, and the same cards wait."""
    play(project, session, 1)
    waiting = session.remaining
    project.close()
    for path in sorted((project.folder.parent / ".cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    again = Project(project.folder)
    assert again.session("ada").remaining == waiting
    assert again.learner.dataset.version == project.learner.dataset.version
    again.close()


def test_a_changed_folder_without_cache_says_so(projects: Path, photo_folder: Callable[..., Path]) -> None:
    """Images gone and the cache gone: a typed error that names one; with the cache the project still opens."""
    config = without_truth(photo_folder)
    Project.create(projects / "photos", config).close()
    Path(config.source_parameters["path"], "0003.png").unlink()
    Project(projects / "photos").close()
    for path in sorted((projects / ".cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(SourceError, match=r"0003\.png") as refused:
        Project(projects / "photos")
    assert refused.value.code == "SRC_CHANGED"


def test_the_list_of_projects_says_how_far_each_is(project: Project, session: Session) -> None:
    """Labels and images of each; one that cannot be opened says why instead of hiding the others."""
    play(project, session, 1)
    broken = project.folder.parent / "broken"
    broken.mkdir()
    (broken / "project.sqlite").write_bytes(b"not a database at all " * 100)
    found = {summary.folder.name: summary for summary in list_projects(project.folder.parent)}
    assert (found["small"].n_labels, found["small"].n_images) == (6, 150)
    assert "not a label store" in found["broken"].error


def test_presets_are_valid_and_one_opens_first() -> None:
    """Each file in assets/presets makes a config; exactly one is what a fresh install shows."""
    assert sum(preset.opens_first for preset in presets().values()) == 1


# ---- the oracle


def test_an_oracle_errs_at_its_rate_and_never_outside_the_classes() -> None:
    """30 % of 2,000 answers are wrong within what chance allows; all are classes."""
    truth = {str(number): "abc"[number % 3] for number in range(2000)}
    oracle = Oracle(truth, ["a", "b", "c"], error_rate=0.3)
    answers = {image_id: oracle.answer(image_id) for image_id in truth}
    wrong = sum(answers[image_id] != name for image_id, name in truth.items())
    assert 500 < wrong < 700
    assert set(answers.values()) == {"a", "b", "c"}
    with pytest.raises(AnnotatorError):
        Oracle(truth, ["a"], error_rate=1.5)


def test_a_source_without_truth_has_no_oracle(projects: Path, photo_folder: Callable[..., Path]) -> None:
    """It says what is missing."""
    photos = Project.create(projects / "photos", without_truth(photo_folder))
    with pytest.raises(ConfigError, match="does not know the truth"):
        oracle_of(photos)
    photos.close()


def test_consensus_is_the_majority_and_the_first_on_a_tie(project: Project) -> None:
    """R8: two against one wins; one against one goes to the answer given first; an undo or a skip is no vote."""
    store, session = project.store, project.session("ada")
    session.advance()
    asked = storing.open_questions(store, session.annotator.annotator_id)[:3]
    image, tied, skipped = (question.image_id for question in asked)

    def give(person: str, number: int, outcome: str, class_id: int | None = None) -> None:
        me = storing.annotator(store, person).annotator_id
        store.write(questions.withdraw, session.annotator.annotator_id)
        [question] = storing.offer(store, [replace(asked[number], round=storing.last_round(store) + 1, rank=1)], me)
        store.append(answers.answer, question, me, outcome, class_id)

    give("eve", 0, "label", 5)
    assert consensus(storing.current(store)) == {image: 5}
    give("bob", 0, "label", 1)
    assert consensus(storing.current(store)) == {image: 5}
    give("dan", 0, "label", 1)
    assert consensus(storing.current(store)) == {image: 1}
    give("eve", 1, "label", 7)
    give("bob", 1, "label", 2)
    give("eve", 2, "skip")
    give("bob", 2, "unsure")
    assert consensus(storing.current(store)) == {image: 1, tied: 7}
    give("dan", 2, "label", 9)
    assert consensus(storing.current(store)) == {image: 1, tied: 7, skipped: 9}
    found = agreement(storing.current(store))
    assert (found.n_images, found.n_unanimous) == (2, 0)
    store.append(answers.undo, storing.annotator(store, "dan").annotator_id)
    store.append(answers.undo, storing.annotator(store, "dan").annotator_id)
    assert consensus(storing.current(store)) == {image: 5, tied: 7}


def test_no_news_before_a_model(session: Session) -> None:
    """A project without labels has nothing to say of what changed."""
    assert (reports.news(session.moment()), describe(())) == ("", "")


def test_figures_are_json(projects: Path) -> None:
    """R8: every row that simulate yields is the same after JSON, with and without a test set."""
    rows = list(simulate(replace(SMALL, rounds=2), projects / "with"))
    rows += list(simulate(replace(SMALL, rounds=2, source_parameters={"held_out": 0}), projects / "without"))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[1]["accuracy_test"] is not None
    assert rows[-1]["accuracy_test"] is None


# ---- looking ahead


def ahead(project: Project, n_rounds: int, name: str = "ada") -> Session:
    """A person who labels without waiting: each next batch is chosen while the open one is answered."""
    session, oracle = project.session(name), oracle_of(project)
    session.look_ahead()
    for _ in range(n_rounds):
        cards = session.remaining
        answer_batch(session, oracle, cards[:3])
        session.look_ahead()
        answer_batch(session, oracle, cards[3:])
    return session


def test_the_next_batch_is_there_before_the_open_one_is_done(session: Session) -> None:
    """Not before; and then two batches are open, while the round on the screen stays."""
    session.label(session.remaining[0].image_id, "1")
    session.label(session.remaining[0].image_id, "2")
    session.look_ahead()
    assert not reports.is_due(session.moment())
    assert len(reports.batches(session.moment())) == 1
    session.label(session.remaining[0].image_id, "3")
    assert reports.is_due(session.moment())
    session.look_ahead()
    assert [page.round for page in reports.batches(session.moment())] == [1, 2]
    assert reports.current_round(session.moment()) == 1
    assert not reports.is_due(session.moment())


def test_what_is_chosen_ahead_knows_no_clock(project: Project, session: Session, projects: Path) -> None:
    """Called at once or after the whole batch, it learns through the same event and asks the same images."""
    late = Project.create(projects / "late", SMALL)
    slow, oracle = late.session("ada"), oracle_of(late)
    ahead(project, 2)
    slow.look_ahead()
    for _ in range(2):
        answer_batch(slow, oracle)
        slow.look_ahead()
    asked = [
        [
            (question.image_id, question.round, question.rank, question.chosen_at_seq)
            for question in storing.questions(store)
        ]
        for store in (project.store, late.store)
    ]
    assert asked[0] == asked[1]
    late.close()


def test_the_simulator_looks_ahead_as_a_person_does(project: Project, projects: Path) -> None:
    """Given the same answers both leave the same log, event for event, ids and times aside."""
    ahead(project, 3)
    rows = list(simulate(replace(SMALL, rounds=3), projects / "simulated", annotator="ada", lookahead=True))
    simulated = Project(projects / "simulated")
    logs = [
        [
            (event.seq, event.kind, event.image_id, event.class_id, event.outcome)
            for event in opened.store.read(log.events)
        ]
        for opened in (project, simulated)
    ]
    asked = [
        [(q.image_id, q.round, q.rank) for q in storing.questions(opened.store)] for opened in (project, simulated)
    ]
    assert logs[0] == logs[1]
    assert asked[0] == asked[1]
    assert [row["round"] for row in rows] == [1, 2, 3, None]
    assert rows[-1]["n_labeled"] == 18
    simulated.close()


def test_a_batch_chosen_ahead_says_how_old_its_model_is(project: Project) -> None:
    """The labels given since it was chosen can be counted."""
    session = ahead(project, 2)
    page = next(
        page for page in reports.batches(session.moment()) if page.round == reports.current_round(session.moment())
    )
    assert (page.model_version, page.labels_at) == (2, 9)
    assert reports.n_labels(session.moment()) == 12


def test_undo_reopens_a_card_of_the_page_before(project: Project) -> None:
    """All pages that can be answered or taken back are there, the newest answer marked by its seq."""
    session = ahead(project, 2)
    assert [page.round for page in reports.batches(session.moment())] == [2, 3]
    session.undo()
    assert [page.round for page in reports.batches(session.moment())] == [1, 2, 3]
    second = reports.batches(session.moment())[1]
    assert sum(card.head is None or card.head.outcome is None for card in second.cards) == 1


def test_only_what_nobody_has_begun_is_withdrawn_ahead(project: Project, session: Session) -> None:
    """New settings reach the batch that was chosen ahead, not the one on the screen."""
    oracle = oracle_of(project)
    answer_batch(session, oracle, session.remaining[:3])
    session.look_ahead()
    session.withdraw(ahead_only=True)
    assert [page.round for page in reports.batches(session.moment())] == [1]
    assert reports.is_due(session.moment())


def test_a_share_of_the_guesses_is_hidden_by_seed(project: Project, session: Session, projects: Path) -> None:
    """Hidden guesses are stored as such; without hiding, every batch is as it was."""
    shown = [(question.image_id, question.guess_visible) for question in chosen(projects, "shown", 0.0)]
    some = [(question.image_id, question.guess_visible) for question in chosen(projects, "some", 0.5)]
    none = [(question.image_id, question.guess_visible) for question in chosen(projects, "none", 1.0)]
    assert [image_id for image_id, _ in shown] == [image_id for image_id, _ in none]
    assert 0 < sum(visible for _, visible in some) < sum(visible for _, visible in shown) == 18
    assert not any(visible for _, visible in none)


def chosen(projects: Path, name: str, share: float) -> list[Question]:
    """Questions of three rounds after the first one, which has no guesses."""
    made = Project.create(projects / name, replace(SMALL, hidden_share=share))
    play(made, made.session("ada"), 3)
    questions = [question for question in storing.questions(made.store) if question.round > 1]
    made.close()
    return questions


def test_the_gap_in_agreement_is_reported(projects: Path) -> None:
    """Answers that follow what is seen, and not what is hidden, leave a gap of all there is."""
    made = Project.create(projects / "swayed", replace(SMALL, hidden_share=0.5))
    session = made.session("ada")
    for _ in range(4):
        session.advance()
        for question in storing.open_questions(made.store, session.annotator.annotator_id):
            guess = question.guess if question.guess is not None else question.rank
            session.label(question.image_id, str(guess if question.guess_visible else (guess + 1) % 10))
    found = reports.agreement(session.moment())
    assert (found.n_shown_agreed, found.n_hidden_agreed) == (found.n_shown, 0)
    assert found.n_shown + found.n_hidden == 18
    assert found.gap == 1.0
    made.close()


def test_a_reopened_project_asks_what_it_would_have_asked(projects: Path) -> None:
    """On a pool so large that the model goes on from its last answer, too: the steps are taken again, bit for bit."""
    config = Config(name="large", source="fashion-mnist", strategy="margin", batch_size=6)
    never_closed = Project.create(projects / "large", config)
    ahead(never_closed, 4)
    again = Project.create(projects / "again", config)
    ahead(again, 3)
    again.close()
    reopened = Project(again.folder)
    session, oracle = reopened.session("ada"), oracle_of(reopened)
    answer_batch(session, oracle, session.remaining[:3])
    session.look_ahead()
    asked = [
        [(question.image_id, question.score) for question in storing.questions(opened.store) if question.round == 5]
        for opened in (never_closed, reopened)
    ]
    assert len(asked[0]) == 6
    assert asked[0] == asked[1]
    never_closed.close()
    reopened.close()
