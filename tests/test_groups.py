"""Near-duplicates and the order of a batch, on real digits, pictures of clothes and copies made of them."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator import due, groups, registry, reports
from annotator.asking import Situation, choose
from annotator.config import ALIKE, AS_CHOSEN, Config
from annotator.eligible import asked_rows
from annotator.errors import ConfigError
from annotator.project import Project
from annotator.purposes import AUDIT
from annotator.reasons import in_words, on_card, to_json
from annotator.session import Settings
from annotator.simulate import answer_batch, oracle_of
from annotator.store import Question
from annotator.store import snapshot as snapshots
from annotator.strategies.confirm import nearest_to_newest
from annotator.strategies.uncertainty import Entropy
from annotator.types import UNLABELED, Choice, Dataset, ImageArray, Pool, Prediction, Reason
from tests.builders import tiny_dataset

NONE = np.empty(0, dtype=np.int64)
N_CLOTHES = 400


@pytest.fixture(scope="module")
def clothes() -> ImageArray:
    """Pictures of clothes that the package ships."""
    source = registry.create("source", "fashion-mnist")
    return np.asarray(source.array[:N_CLOTHES])


def jpeg(image: ImageArray) -> ImageArray:
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))[:, :, None]


def resized(image: ImageArray) -> ImageArray:
    small = Image.fromarray(image[:, :, 0])
    larger = small.resize((56, 56), Image.Resampling.BILINEAR)
    return np.asarray(larger.resize(small.size, Image.Resampling.BILINEAR))[:, :, None]


def brighter(image: ImageArray) -> ImageArray:
    return np.clip(image * 1.1 + 5, 0, 255).astype(np.uint8)


def shifted(image: ImageArray) -> ImageArray:
    return np.pad(image, ((1, 0), (0, 1), (0, 0)), mode="edge")[:-1, 1:]


COPIES = {"jpeg": jpeg, "resized": resized, "brighter": brighter, "shifted": shifted}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_nearly_the_same_picture(name: str, clothes: ImageArray) -> None:
    """Recompressed, resized, a little brighter or a pixel beside: nine in ten or more are known as copies."""
    pairs = [np.stack([image, COPIES[name](image)]) for image in clothes[:60]]
    n_found = sum(len(groups.first_distinct(pair, np.array([1]), np.array([0]), 1)[0]) == 0 for pair in pairs)
    assert n_found >= 54


def test_two_pieces_of_clothing_are_two_pictures(clothes: ImageArray) -> None:
    """Of 400, however many T-shirts among them, at most two are taken for others."""
    found, passed = groups.first_distinct(clothes, np.arange(N_CLOTHES), NONE, N_CLOTHES)
    assert len(passed) <= 2
    assert sorted([*found, *passed]) == list(range(N_CLOTHES))


def test_digits_of_8_px_are_different_pictures() -> None:
    """Small images lose nothing: no digit is taken for another one."""
    digits = np.asarray(registry.create("source", "digits").array)
    assert len(groups.first_distinct(digits, np.arange(len(digits)), NONE, len(digits))[1]) == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3), (300, 40, 3)])
def test_images_of_any_shape_are_compared(shape: tuple[int, int, int]) -> None:
    """One pixel, a strip, a large view: an image is the same as itself; empty ones are all alike."""
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    assert len(groups.first_distinct(images, np.array([0]), np.array([0]), 1)[0]) == 0
    assert len(groups.first_distinct(np.zeros_like(images), np.arange(3), NONE, 3)[0]) == 1


def test_a_short_path_goes_along_a_line() -> None:
    """Points on a line, in any order, are visited from one end to the other."""
    places = np.random.default_rng(0).permutation(20)
    path = groups.short_path(np.array(places, dtype=np.float32)[:, None])
    assert places[path].tolist() in (list(range(20)), list(range(19, -1, -1)))


def test_a_path_through_many_images_takes_the_memory_of_their_distances() -> None:
    """A few tables of every pair, not one of every pair's features; each row stands once."""
    features = np.random.default_rng(0).normal(size=(300, 128)).astype(np.float32)
    tracemalloc.start()
    path = groups.short_path(features)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sorted(path.tolist()) == list(range(300))
    assert peak < 6 * 8 * 300 * 300
    steps = np.linalg.norm(np.diff(features[path], axis=0), axis=1)
    assert steps.sum() < 0.9 * np.linalg.norm(np.diff(features, axis=0), axis=1).sum()


# ---- in a batch


def with_copies(dataset: Dataset, n_copies: int) -> Dataset:
    """Each of its images `n_copies` times, brighter and brighter; the features as they are."""
    images = np.concatenate([np.clip(dataset.images + np.uint8(2 * n), 0, 255) for n in range(n_copies)])
    features = np.concatenate([dataset.features] * n_copies)
    big = tiny_dataset(len(images))
    return replace(big, images=images, features=features)


def situation(dataset: Dataset, strategy: str, **settings: object) -> Situation:
    """A model that knows three classes, from the first three rows."""
    labels = np.full(len(dataset), UNLABELED)
    labels[:3] = [0, 1, 2]
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(3), size=len(dataset))
    asked = asked_rows([0, 1, 2], 3)
    chosen = Settings(1, 0, strategy, {}, 6, 0.0)
    return Situation(
        settings=replace(chosen, **settings),  # type: ignore[arg-type]  # fields of Settings
        annotator_number=1,
        round=2,
        dataset=replace(dataset, version="0" * 12),
        audit_rows=NONE,
        asked=asked,
        labels=labels,
        prediction=Prediction(probabilities),
        model_version=1,
        trained_through=3,
        newest=np.array([2, 1, 0]),
    )


def rows_of(dataset: Dataset, batch: list[Question]) -> list[int]:
    return [list(dataset.ids).index(question.image_id) for question in batch]


class ByRow:
    """A third party's: the first candidates, whatever they look like."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        rows = pool.candidates[:batch_size]
        return Choice(rows, np.zeros(len(rows)))


class Counted(ByRow):
    """Notes how many images it was asked for, each time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        self.sizes.append(batch_size)
        return super().query(pool, batch_size, rng)


@pytest.fixture
def by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    create = registry.create

    def made(kind: str, name: str, parameters: dict[str, object] | None = None) -> object:
        return ByRow() if name == "by-row" else create(kind, name, parameters)

    monkeypatch.setattr(registry, "create", made)


@pytest.mark.parametrize("strategy", ["entropy", "margin", "random", "recommended", "herding", "typical", "by-row"])
@pytest.mark.usefixtures("by_row")
def test_no_batch_has_near_duplicates(strategy: str) -> None:
    """Every picture is there eight times: whatever the strategy, a batch has each picture at most once, and is full."""
    dataset = with_copies(tiny_dataset(12), 8)
    batch = choose(situation(dataset, strategy))
    pictures = [row % 12 for row in rows_of(dataset, batch)]
    assert len(set(pictures)) == len(pictures) == 6


@pytest.mark.usefixtures("by_row")
def test_a_batch_of_copies_only_where_nothing_else_is_left() -> None:
    """Two pictures, forty times each: both, and then copies of them fill the batch."""
    dataset = with_copies(tiny_dataset(2), 40)
    batch = choose(situation(dataset, "by-row"))
    pictures = [row % 2 for row in rows_of(dataset, batch)]
    assert (len(batch), set(pictures[:2])) == (6, {0, 1})
    assert len({question.image_id for question in batch}) == 6


def test_a_strategy_of_another_package_is_asked_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one answer of theirs takes grows with its size: never more than a batch, three times at most; it is full."""
    counted = Counted()
    monkeypatch.setattr(registry, "create", lambda *_: counted)
    batch = choose(situation(with_copies(tiny_dataset(2), 40), "skactiveml:CoreSet"))
    assert len({question.image_id for question in batch}) == 6
    assert len(counted.sizes) == 3
    assert max(counted.sizes) == 6


def test_propensities_are_kept_only_where_the_batch_is_the_draw() -> None:
    """Each the share of the candidates that was drawn; none where copies were passed over, or others drawn for them."""
    dataset = tiny_dataset(60)
    plain, copies = (choose(situation(each, "random")) for each in (dataset, with_copies(tiny_dataset(7), 12)))
    assert [one.propensity for one in plain] == [6 / 57] * 6
    assert [one.propensity for one in copies] == [None] * 6


def test_without_near_duplicates_a_batch_is_the_strategys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strategy is asked once, and its images stand as it chose them."""
    dataset = tiny_dataset(60)
    sizes: list[int] = []
    query = Entropy.query

    def counted(self: Entropy, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        sizes.append(batch_size)
        return query(self, pool, batch_size, rng)

    asked = situation(dataset, "entropy")
    assert asked.prediction is not None
    assert asked.labels is not None
    pool = Pool(dataset, asked.labels, asked.prediction, np.arange(3, 60), asked.asked.rows)
    expected = registry.create("strategy", "entropy").query(pool, 6, np.random.default_rng(0)).rows
    monkeypatch.setattr(Entropy, "query", counted)
    assert rows_of(dataset, choose(asked)) == expected.tolist()
    assert sizes == [6]


# ---- the order


def test_alike_asks_the_same_images_in_another_order() -> None:
    """Guesses stand together; nothing else changes."""
    dataset = tiny_dataset(60)
    as_chosen = choose(situation(dataset, "entropy", batch_size=20))
    alike = choose(situation(dataset, "entropy", batch_size=20, batch_order=ALIKE))
    assert {one.image_id for one in alike} == {one.image_id for one in as_chosen}
    guesses = [one.guess for one in alike]
    assert guesses == sorted(guesses, key=lambda guess: -1 if guess is None else guess)
    assert guesses != [one.guess for one in as_chosen]
    assert [one.rank for one in alike] == list(range(1, 21))
    assert alike == choose(situation(dataset, "entropy", batch_size=20, batch_order=ALIKE))


def test_a_place_does_not_betray_a_hidden_guess() -> None:
    """Audit images and hidden guesses come first, and over many batches every guess is as often at each place."""
    dataset = tiny_dataset(400)
    audit = np.arange(100, 130)
    n_ascending = 0
    for number in range(40):
        asked = situation(dataset, "random", batch_size=12, batch_order=ALIKE, hidden_share=0.5, audit_share=0.15)
        batch = choose(replace(asked, round=number, audit_rows=audit))
        blind = [one.purpose == AUDIT.name or not one.guess_visible for one in batch]
        assert blind == sorted(blind, reverse=True)
        hidden = [one.guess for one, hides in zip(batch, blind, strict=True) if hides]
        assert None not in hidden
        n_ascending += hidden == sorted(hidden)  # type: ignore[type-var]  # no None among them
    assert n_ascending < 10


# ---- images to confirm


def test_confirm_takes_neighbours_of_the_newest_labels_with_their_guess() -> None:
    """The nearest by features, of the graph's neighbours that the model takes for the class just given."""
    dataset = tiny_dataset(60)
    labels = np.full(60, UNLABELED)
    labels[[7, 8]] = [1, 2]
    assert dataset.truth is not None
    sure = np.eye(3)[dataset.truth]
    pool = Pool(dataset, labels, Prediction(sure), np.setdiff1d(np.arange(60), [7, 8]), newest=np.array([8, 7]))
    choice = nearest_to_newest(pool, 4)
    assert [reason.classes for reason in choice.reasons[:2]] == [(2,), (1,)]
    for row, reason in zip(choice.rows.tolist(), choice.reasons, strict=True):
        assert dataset.truth[row] == reason.classes[0]
    near = nearest(dataset, 8, [row for row in range(60) if dataset.truth[row] == 2 and row != 8])
    assert choice.rows[0] == near
    assert nearest_to_newest(replace(pool, candidates=NONE), 4).rows.tolist() == []


def nearest(dataset: Dataset, row: int, others: list[int]) -> int:
    linked = set(dataset.graph.affinity[[row]].indices.tolist())
    known = [other for other in others if other in linked]
    return min(known, key=lambda other: float(np.linalg.norm(dataset.features[other] - dataset.features[row])))


SMALL = Config(name="confirmed", source="digits", source_parameters={"held_out": 100}, limit=400, encoder="pixels")


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Three batches of digits, half of each to confirm."""
    folder = tmp_path_factory.mktemp("confirmed") / "project"
    project = Project.create(folder, replace(SMALL, confirm_share=0.5, strategy="margin", batch_order=ALIKE))
    session = project.session("ada")
    for _ in range(3):
        session.advance()
        answer_batch(session, oracle_of(project))
    session.advance()
    yield project
    project.close()


def test_a_share_of_each_batch_is_to_be_confirmed(confirmed: Project) -> None:
    """Half of it from the second model on; the reason names the guess on the card, which was just given as a label."""
    snapshot, names = confirmed.store.snapshot(), dict(enumerate(confirmed.class_names))
    asked = snapshots.open_of(snapshot, confirmed.session("ada").annotator.annotator_id)
    nods = [one for one in asked if one.strategy == "confirm"]
    assert len(nods) == 6
    labels = {*confirmed.session("ada").labels.values()}
    for one in nods:
        assert one.guess is not None
        assert in_words(one, names) == f"looks like {names[one.guess]}, which you just labeled"
        assert names[one.guess] in labels


@pytest.mark.parametrize("order", [AS_CHOSEN, ALIKE])
def test_what_is_to_be_confirmed_has_a_guess_to_confirm(order: str) -> None:
    """Its guess is never hidden, and where every guess is hidden nothing is to be confirmed; the batch is full."""
    dataset = tiny_dataset(60)
    assert dataset.truth is not None
    labels = np.where(np.arange(60) < 12, dataset.truth, UNLABELED)
    given = situation(dataset, "margin", batch_size=12, confirm_share=0.5, hidden_share=0.8, batch_order=order)
    given = replace(given, labels=labels, prediction=Prediction(np.eye(3)[dataset.truth]), newest=np.arange(12))
    given = replace(given, asked=asked_rows(list(range(12)), 12))
    batch = choose(given)
    assert [one.guess_visible for one in batch if one.strategy == "confirm"] == [True] * 6
    assert not all(one.guess_visible for one in batch)
    hidden = choose(replace(given, settings=replace(given.settings, hidden_share=1.0)))
    assert (len(hidden), {one.strategy for one in hidden}) == (12, {"margin"})


def test_agreement_leaves_out_what_was_to_be_confirmed(confirmed: Project) -> None:
    """Such images agree more often than others, and are never among the hidden ones."""
    moment = confirmed.session("ada").moment()
    asked = [found.question for found in reports.recent(moment) if found.question is not None]
    others = [one for one in asked if one.guess is not None and one.guess_visible and one.strategy != "confirm"]
    assert len(others) < sum(one.guess is not None and one.guess_visible for one in asked)
    assert reports.agreement(moment).n_shown == len(others)


def test_nothing_is_just_labeled_that_this_annotator_did_not_label_lately(projects: Path) -> None:
    """Labels known from the start, those of other people and those of older batches are no reason for a nod."""
    made = Project.create(projects / "known", replace(SMALL, confirm_share=0.5, strategy="margin", initial="40"))
    ada, bob = made.session("ada"), made.session("bob")
    given: list[set[str]] = []
    for _ in range(4):
        for session in (ada, bob):
            session.advance()
            answer_batch(session, oracle_of(made))
        given.append({found.image_id for found in reports.recent(ada.moment(), SMALL.batch_size)})
    asked = snapshots.by_place(made.store.snapshot())
    first = [one for one in asked if one.annotator_id == ada.annotator.annotator_id and one.round][: SMALL.batch_size]
    assert "confirm" in {one.strategy for one in asked}
    assert "confirm" not in {one.strategy for one in first}
    snapshot, learner, me = made.store.snapshot(), made.learner, ada.annotator.annotator_id
    newest = due.newest_labeled(snapshot, learner, me, snapshot.head_seq)
    ids = [learner.dataset.ids[row] for row in newest]
    assert ids == [found.image_id for found in reports.recent(ada.moment(), 2 * SMALL.batch_size)]
    assert set(ids) == given[-1] | given[-2]
    before = snapshots.given(snapshot, snapshot.heads[ids[0], me]).seq - 1
    assert due.newest_labeled(snapshot, learner, me, before).tolist() == newest[1:].tolist()
    ada.undo()
    now = made.store.snapshot()
    assert due.newest_labeled(now, learner, me, now.head_seq).tolist() == newest[1:].tolist()
    made.close()


def test_a_reason_does_not_name_a_hidden_guess() -> None:
    """Of a card whose guess is hidden a reason with classes says nothing."""
    dataset = tiny_dataset(60)
    question = choose(situation(dataset, "entropy", hidden_share=1.0))[0]
    kept = replace(question, reason=to_json(Reason("looks like {0}", (1,))))
    assert on_card(kept, {1: "coat"}) == ""
    assert on_card(replace(kept, guess_visible=True), {1: "coat"}) == "looks like coat"


@pytest.mark.parametrize("wrong", [{"batch_order": "sorted"}, {"confirm_share": 1.5}, {"confirm_share": -0.1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(SMALL, **wrong)  # type: ignore[arg-type]  # as above
