"""What every plug-in keeps, whoever wrote it. The registry says which there are: a new one is tested once listed.

Longer than other files: it is the whole contract, for all kinds of plug-ins.
"""

from __future__ import annotations

import gzip
import re
import shutil
import struct
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator import registry
from annotator.config import Config
from annotator.errors import ConfigError
from annotator.exporters.rows import Export, ExportRow
from annotator.project import Project
from annotator.simulate import simulate
from annotator.sources.reordered import reorder
from annotator.types import (
    UNLABELED,
    Choice,
    Dataset,
    Encoder,
    FeatureArray,
    FittedEncoder,
    HeldOut,
    ImageArray,
    ImageSource,
    IntArray,
    Model,
    Pool,
    Prediction,
    QueryStrategy,
    predict_held_out,
)
from tests.builders import tiny_dataset
from tests.conftest import PhotoFolder
from tests.random_weights import random_weights

ENCODERS = [*registry.names("encoder"), "hog+pixels"]
MODELS, STRATEGIES = (registry.names(kind) for kind in ("model", "strategy"))
SOURCES, EXPORTERS = registry.names("source"), registry.names("exporter")
EVERY_PLUGIN = [(kind, name) for kind in registry.BUILT_IN for name in registry.names(kind)]
N_IMAGES = 510
"""The smallest pool that every encoder trains on."""


def quick(kind: str, name: str) -> Any:  # Any: a plug-in
    """With little training, where it trains: enough for what does not depend on how well."""
    if (kind, name) == ("encoder", "keras-application"):
        return registry.create(kind, name, {"weights": str(random_weights() / "small.weights.h5"), "side": 75})
    known = [parameter.name for parameter in registry.describe(kind, name)]
    return registry.create(kind, name, {"max_epochs": 3} if "max_epochs" in known else {})


# ---- the registry


@pytest.mark.parametrize(("kind", "name"), EVERY_PLUGIN)
def test_every_plugin_says_in_a_line_what_it_is(kind: str, name: str) -> None:
    """A class of its own docstring, whose first line is a sentence that help texts can show."""
    plugin = registry.load(kind, name)
    assert plugin.__doc__
    assert registry.summary(kind, name) == plugin.__doc__.splitlines()[0].strip()
    assert registry.summary(kind, name).endswith(".")


@pytest.mark.parametrize(("kind", "name"), EVERY_PLUGIN)
def test_every_default_can_be_given_as_text(kind: str, name: str, tmp_path: Path, photo_folder: PhotoFolder) -> None:
    """A command line has only text: numbers and switches written out make the same plug-in."""
    make = MAKERS.get(name) if kind == "source" else None
    given = make(tmp_path, photo_folder) if make else {}
    for parameter in registry.describe(kind, name):
        if isinstance(parameter.default, int | float) and parameter.name not in given:
            typed = registry.create(kind, name, {**given, parameter.name: str(parameter.default)})
            assert plain_values(typed) == plain_values(registry.create(kind, name, given))


def plain_values(plugin: object) -> dict[str, object]:
    """What a plug-in remembers of numbers, switches and words."""
    return {key: value for key, value in vars(plugin).items() if isinstance(value, int | float | str)}


def test_a_class_and_a_line_are_a_query_strategy(monkeypatch: pytest.MonkeyPatch, projects: Path) -> None:
    """Listed in the table it can be chosen by name, and it decides what is asked once the model knows two classes."""
    monkeypatch.setitem(registry.BUILT_IN["strategy"], "oldest", f"{__name__}:Oldest")
    config = Config(
        source="digits", limit=80, encoder="pixels", strategy="oldest", initial="first:20", batch_size=4, rounds=2
    )
    rows = list(simulate(config, projects / "oldest"))
    assert [row["asked_rows"] for row in rows[:2]] == [[20, 21, 22, 23], [24, 25, 26, 27]]
    assert registry.summary("strategy", "oldest") == "The images that came first."


class Oldest:
    """The images that came first."""

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """By row."""
        rows = pool.candidates[:batch_size]
        return Choice(rows, -rows.astype(np.float64))


@pytest.fixture
def other_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with a strategy of its own, which it also offers under a name that is taken."""
    (tmp_path / "others.py").write_text(
        textwrap.dedent('''
            class Newest:
                """The images that came last."""

                def query(self, pool, batch_size, rng):
                    from annotator.types import Choice
                    rows = pool.candidates[::-1][:batch_size]
                    return Choice(rows, rows.astype(float))
        ''')
    )
    described = tmp_path / "others-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(
        "[annotator.strategy]\nnewest = others:Newest\nentropy = others:Newest\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry._third_party.cache_clear()  # what is installed is looked up once a process
    yield
    registry._third_party.cache_clear()


@pytest.mark.usefixtures("other_distribution")
def test_another_distribution_brings_a_plugin(projects: Path) -> None:
    """Its entry point is enough: listed last with its line of help, chosen by name; a built-in name stays ours."""
    assert registry.names("strategy") == [*STRATEGIES, "newest"]
    assert registry.summary("strategy", "newest") == "The images that came last."
    assert registry.load("strategy", "entropy").__module__.startswith("annotator.")
    config = Config(source="digits", limit=30, encoder="pixels", initial="first:10", batch_size=3, rounds=1)
    rows = list(simulate(replace(config, strategy="newest"), projects / "newest"))
    assert rows[0]["asked_rows"] == [29, 28, 27]


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in whose package is absent says how to get it."""
    monkeypatch.setitem(registry.BUILT_IN["encoder"], "absent", "no_such_package_anywhere:Encoder")
    with pytest.raises(ConfigError, match="pip install no_such_package_anywhere"):
        registry.load("encoder", "absent")


# ---- encoders


@cache
def pictures(n_channels: int, n: int = N_IMAGES) -> ImageArray:
    """A bright bar at one of three places under noise, 8 x 8 px."""
    rng = np.random.default_rng(n)
    images = rng.integers(0, 90, (n, 8, 8, n_channels), dtype=np.uint8)
    for place in range(3):
        images[place::3, :, 2 * place + 1] = 230
    return images


Steps = list[tuple[str, int, int]]


@cache
def trained(name: str, n_channels: int) -> tuple[FittedEncoder, Steps]:
    """An encoder fitted on the pictures, and the progress that it told of."""
    steps: Steps = []
    encoder: Encoder = quick("encoder", name)
    found = encoder.fit(pictures(n_channels), np.random.default_rng(0), lambda *step: steps.append(step))
    return found, steps


def fitted(name: str, n_channels: int) -> FittedEncoder:
    return trained(name, n_channels)[0]


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("name", ENCODERS)
def test_features_are_finite_numbers_one_row_an_image(name: str, n_channels: int) -> None:
    """float32, as many columns for later images as for the pool; images are told apart."""
    encoder = fitted(name, n_channels)
    features = encoder.encode(pictures(n_channels))
    assert features.dtype == np.float32
    assert features.shape[0] == N_IMAGES
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) > N_IMAGES / 2
    later = encoder.encode(pictures(n_channels, 7))
    assert later.shape == (7, features.shape[1])


@pytest.mark.parametrize("name", ENCODERS)
def test_an_images_features_do_not_depend_on_its_company(name: str) -> None:
    """Alone or among others, in any order, to rounding."""
    encoder, images = fitted(name, 1), pictures(1)
    features = encoder.encode(images)
    np.testing.assert_allclose(encoder.encode(images[4:5]), features[4:5], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(images[::-1]), features[::-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_flat_images_have_features_too(name: str) -> None:
    """All black and all white: nothing is divided by zero."""
    for value in (0, 255):
        assert np.isfinite(fitted(name, 1).encode(np.full((2, 8, 8, 1), value, dtype=np.uint8))).all()


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_saved_encoder_is_the_same_encoder(name: str, n_channels: int, tmp_path: Path) -> None:
    """What was written gives equal features and the same version, bit for bit."""
    encoder = fitted(name, n_channels)
    encoder.save(tmp_path)
    loaded = quick("encoder", name).load(tmp_path)
    assert loaded.version == encoder.version
    np.testing.assert_array_equal(loaded.encode(pictures(n_channels)), encoder.encode(pictures(n_channels)))


@pytest.mark.parametrize("name", ENCODERS)
def test_a_fit_is_a_function_of_images_and_seed(name: str) -> None:
    """Fitted again with an equal generator: the same version, the same features; the images are left as they were."""
    images = pictures(1).copy()
    again = quick("encoder", name).fit(images, np.random.default_rng(0))
    assert again.version == fitted(name, 1).version
    np.testing.assert_array_equal(again.encode(images), fitted(name, 1).encode(images))
    np.testing.assert_array_equal(images, pictures(1))


@pytest.mark.parametrize("name", ENCODERS)
def test_progress_never_falls_and_ends_complete(name: str) -> None:
    """Stage by stage, while fitting and while encoding."""
    steps = list(trained(name, 1)[1])
    fitted(name, 1).encode(pictures(1), lambda *step: steps.append(step))
    for (stage, done, _), (next_stage, next_done, total) in pairwise(steps):
        assert next_done >= done or next_stage != stage
        assert 0 <= next_done <= total or total == 0
    assert steps[-1][1] == steps[-1][2]


# ---- models

LABELINGS = {
    "one label": {3: 1},
    "one class only": {3: 1, 8: 1, 20: 1},
    "three classes": {0: 0, 1: 1, 2: 2, 9: 0, 13: 1},
    "all labeled": {row: row % 3 for row in range(30)},
}


def outside_images() -> HeldOut:
    """Seven images of three classes, as a test set holds them: pixels, features, truth."""
    other = tiny_dataset(7, seed=5)
    assert other.truth is not None
    return HeldOut(other.ids, other.images, other.features, other.truth)


def labels_of(given: dict[int, int], n: int = 30) -> IntArray:
    labels = np.full(n, UNLABELED)
    labels[list(given)] = list(given.values())
    labels.setflags(write=False)
    return labels


@pytest.mark.parametrize("labeling", LABELINGS)
@pytest.mark.parametrize("name", MODELS)
def test_a_prediction_is_a_probability_for_each_image_and_class(name: str, labeling: str) -> None:
    """Rows sum to 1, nothing is negative or NaN, classes beyond those seen have a column; outside the pool as well."""
    dataset, labels = tiny_dataset(), labels_of(LABELINGS[labeling])
    model: Model = quick("model", name)
    prediction = model.fit_predict(dataset, labels, 5)
    outside = predict_held_out(model, outside_images())
    for probabilities, n in (
        (prediction.probabilities, 30),
        (outside, 7),
        *((part, 30) for part in prediction.members),
    ):
        assert probabilities.shape == (n, 5)
        assert probabilities.dtype == np.float64
        assert np.isfinite(probabilities).all()
        assert probabilities.min() >= 0
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    if prediction.evidence is not None:
        assert prediction.evidence.shape == (30,)
        assert prediction.evidence.min() >= 0
    if prediction.embedding is not None:
        assert len(prediction.embedding) == 30


@pytest.mark.parametrize("name", MODELS)
def test_only_one_class_seen_is_predicted_where_labels_reach(name: str) -> None:
    """Nothing speaks for a class that nobody named."""
    prediction = quick("model", name).fit_predict(tiny_dataset(), labels_of(LABELINGS["one class only"]), 3)
    reached = np.ones(30, dtype=bool) if prediction.evidence is None else prediction.evidence > 0
    assert (prediction.probabilities[reached].argmax(axis=1) == 1).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_refit_is_a_fresh_fit(name: str) -> None:
    """Whatever was fitted before, on these images or on others: the answer comes from the labels alone."""
    dataset, other = tiny_dataset(), tiny_dataset(40, seed=9)
    used: Model = quick("model", name)
    used.fit_predict(dataset, labels_of({0: 2, 1: 0, 5: 1}), 3)
    used.fit_predict(other, labels_of({0: 0, 1: 1}, 40), 4)
    again = used.fit_predict(dataset, labels_of(LABELINGS["three classes"]), 3)
    fresh: Model = quick("model", name)
    expected = fresh.fit_predict(dataset, labels_of(LABELINGS["three classes"]), 3)
    np.testing.assert_allclose(again.probabilities, expected.probabilities, atol=1e-5)
    outside = [predict_held_out(model, outside_images()) for model in (used, fresh)]
    np.testing.assert_allclose(outside[0], outside[1], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns(name: str) -> None:
    """Eight labels a class tell most other images right, where one in three would be by chance."""
    dataset = tiny_dataset(120)
    assert dataset.truth is not None
    labels = np.where(np.arange(120) < 24, dataset.truth, UNLABELED)
    prediction = registry.create("model", name).fit_predict(dataset, labels, 3)
    assert (prediction.probabilities.argmax(axis=1) == dataset.truth)[24:].mean() > 0.7


# ---- query strategies

HANDS_OVER_TO = {"recommended": "herding"}
"""With the default model."""


@cache
def dataset_for_pools() -> Dataset:
    return tiny_dataset(60)


def pool(
    n_classes: int = 3,
    n_candidates: int = 40,
    seed: int = 0,
    flat: bool = False,
    unseen: int = 0,
    certain: float = 0,
    bare: bool = False,
    features: FeatureArray | None = None,
) -> Pool:
    """Some rows labeled, some of the others free to ask; everything read-only, as from a cache.

    `unseen` classes more have no label and no probability; of `certain` of the images the model is sure; a `bare`
    prediction has probabilities only.
    """
    rng = np.random.default_rng(seed)
    dataset = dataset_for_pools() if features is None else replace(dataset_for_pools(), features=features)
    labels = np.where(np.arange(60) < 9, np.arange(60) % n_classes, UNLABELED)
    weights = np.ones((60, n_classes)) if flat else rng.gamma(0.5, size=(60, n_classes)) + 1e-9
    weights[rng.random(60) < certain] = np.eye(n_classes)[0]
    weights = np.hstack([weights, np.zeros((60, unseen))])
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    evidence = rng.random(60) * (rng.random(60) < 0.9)
    members = probabilities, probabilities[:, ::-1], probabilities[::-1]
    prediction = Prediction(probabilities) if bare else Prediction(probabilities, evidence, members=members)
    candidates = np.sort(rng.permutation(np.arange(9, 60))[:n_candidates])
    for array in (labels, probabilities, evidence, candidates):
        array.setflags(write=False)
    return Pool(dataset, labels, prediction, candidates)


def features_for_pools(constant: slice) -> FeatureArray:
    """Columns that are the same for all images: some, or all of them."""
    features = dataset_for_pools().features.copy()
    features[:, constant] = 0.25
    return features


POOLS = {
    "many": pool(),
    "two classes": pool(n_classes=2, seed=1),
    "one class": pool(n_classes=1, seed=2),
    "classes unseen so far": pool(unseen=4),
    "200 classes": pool(n_classes=200),
    "nearly all of one class": pool(certain=0.99),
    "all certain": pool(certain=1.1),
    "all alike": pool(flat=True),
    "probabilities alone": pool(bare=True),
    "a constant feature": pool(features=features_for_pools(slice(0, 1))),
    "equal features": pool(features=features_for_pools(slice(None))),
    "few left": pool(n_candidates=3),
    "one left": pool(n_candidates=1),
    "none left": pool(n_candidates=0),
}


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
@pytest.mark.parametrize("which", POOLS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_batch_is_candidates_best_first(name: str, which: str, batch_size: int) -> None:
    """As many as asked for or as there are, none twice; finite scores, highest first; the pool stays as it is."""
    asked: QueryStrategy = registry.create("strategy", name)
    choice = asked.query(POOLS[which], batch_size, np.random.default_rng(0))
    candidates = POOLS[which].candidates
    assert len(choice.rows) == len(choice.scores) == min(batch_size, len(candidates))
    assert set(choice.rows.tolist()) <= set(candidates.tolist())
    assert len(set(choice.rows.tolist())) == len(choice.rows)
    assert np.isfinite(choice.scores).all()
    assert (np.diff(choice.scores) <= 0).all()
    assert len(choice.reasons) in (0, len(choice.rows))
    for given in choice.reasons:
        assert max(given.classes, default=-1) < POOLS[which].prediction.probabilities.shape[1]
        assert re.findall(r"\{(\d+)\}", given.words) == [str(place) for place in range(len(given.classes))]
    if choice.propensities is not None:
        assert choice.propensities.shape == choice.rows.shape
        assert ((choice.propensities > 0) & (choice.propensities <= 1)).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_batch_is_a_function_of_pool_and_seed(name: str) -> None:
    """An equal generator asks the same images, with the same scores, reasons and propensities."""
    first, again = (
        registry.create("strategy", name).query(POOLS["many"], 8, np.random.default_rng(4)) for _ in range(2)
    )
    np.testing.assert_array_equal(first.rows, again.rows)
    np.testing.assert_array_equal(first.scores, again.scores)
    np.testing.assert_array_equal(first.propensities, again.propensities)
    assert first.reasons == again.reasons


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_chosen_in_the_config_asks_the_questions(name: str, projects: Path) -> None:
    """It is named on each of them, or the one that it hands over to."""
    config = Config(source="digits", source_parameters={"held_out": 0}, limit=60, encoder="pixels", initial="first:20")
    made = Project.create(projects / "made", replace(config, strategy=name))
    session = made.session("ada")
    session.advance()
    assert {card.strategy for card in session.remaining} == {HANDS_OVER_TO.get(name, name)}
    made.close()


# ---- sources


def make_folder(folder: Path, photos: PhotoFolder) -> dict[str, object]:
    return {"path": str(photos(9, ("circle", "square"))), "classes_from_folders": True}


def make_zip(folder: Path, photos: PhotoFolder) -> dict[str, object]:
    shutil.make_archive(str(folder / "photos"), "zip", photos(9, ("circle", "square")))
    return {"path": str(folder / "photos.zip"), "classes_from_folders": True}


def make_arrays(folder: Path, photos: PhotoFolder) -> dict[str, object]:
    images, truth = pictures(1, 9), np.arange(9) % 3
    np.savez(folder / "made.npz", images=images, labels=truth, x_test=images[:4], y_test=truth[:4])
    return {"path": str(folder / "made.npz")}


def make_idx(folder: Path, photos: PhotoFolder) -> dict[str, object]:
    for part, n in (("train", 9), ("t10k", 4)):
        images, labels = pictures(1, 9)[:n, :, :, 0], (np.arange(n) % 3).astype(np.uint8)
        for what, array in (("images", images), ("labels", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            name = f"{part}-{what}-idx{array.ndim}-ubyte.gz"
            (folder / name).write_bytes(gzip.compress(header + array.tobytes()))
    return {"path": str(folder)}


MAKERS = {"folder": make_folder, "zip": make_zip, "arrays": make_arrays, "idx": make_idx}
"""What a source that cannot do without parameters is given: a new one needs its line here."""


@pytest.fixture(params=SOURCES)
def recipe(request: pytest.FixtureRequest, tmp_path: Path, photo_folder: PhotoFolder) -> tuple[str, dict[str, object]]:
    """A source's name and parameters that open something small."""
    make = MAKERS.get(request.param)
    return request.param, make(tmp_path, photo_folder) if make else {}


@pytest.fixture
def sources(recipe: tuple[str, dict[str, object]]) -> list[ImageSource]:
    """The same source, opened twice."""
    name, parameters = recipe
    return [registry.create("source", name, parameters) for _ in range(2)]


def test_ids_are_unique_and_stable(sources: list[ImageSource]) -> None:
    """The same in the same order whenever it is opened, with the same stamps; valid text, with no blank ends."""
    source, again = sources
    assert len(source.ids) > 0
    assert list(source.ids) == list(again.ids)
    assert len(set(source.ids)) == len(source.ids)
    assert all(image_id.encode("utf-8") for image_id in source.ids)
    rows = range(0, len(source.ids), max(1, len(source.ids) // 10))
    assert [source.stamp(row) for row in rows] == [again.stamp(row) for row in rows]


def test_images_are_an_array_or_files(sources: list[ImageSource]) -> None:
    """One entry an image, 8 bits, one channel or three; or bytes for every row."""
    source = sources[0]
    if source.array is not None:
        assert source.array.dtype == np.uint8
        assert source.array.ndim == 4
        assert len(source.array) == len(source.ids)
        assert source.array.shape[3] in (1, 3)
    for row in (0, len(source.ids) - 1):
        assert len(source.read(row)) > 50


def test_truth_indexes_the_class_names(sources: list[ImageSource]) -> None:
    """A code for each image, -1 where unknown; names are text, each once."""
    source = sources[0]
    assert len(set(source.class_names)) == len(source.class_names) > 0
    assert source.truth is not None
    assert source.truth.shape == (len(source.ids),)
    assert source.truth.dtype == np.int64
    assert UNLABELED <= source.truth.min() <= source.truth.max() < len(source.class_names)


def test_a_test_set_shares_nothing_with_the_pool(sources: list[ImageSource]) -> None:
    """Other ids, the same classes, the same shape, a truth of its own, and no test set of the test set."""
    source = sources[0]
    test = source.held_out
    if test is None:
        return
    assert not set(test.ids) & set(source.ids)
    assert test.class_names == source.class_names
    assert test.truth is not None
    assert len(test.truth) == len(test.ids)
    assert test.truth.max() < len(source.class_names)
    assert test.held_out is None
    assert (test.array is None) == (source.array is None)
    if test.array is not None and source.array is not None:
        assert test.array.shape[1:] == source.array.shape[1:]


def test_a_source_can_be_shuffled_and_cut(sources: list[ImageSource]) -> None:
    """Rows move as a whole: id, picture and truth stay together."""
    source = sources[0]
    cut = reorder(source, limit=5, order_seed=1)
    assert len(cut.ids) == 5
    for row, was in enumerate(source.ids.index(image_id) for image_id in cut.ids):
        assert cut.read(row) == source.read(was)
        assert cut.truth is not None
        assert source.truth is not None
        assert cut.truth[row] == source.truth[was]


def test_a_source_makes_a_project(recipe: tuple[str, dict[str, object]], projects: Path) -> None:
    """From source to first batch, through the store, with nothing set aside."""
    name, parameters = recipe
    config = Config(source=name, source_parameters=parameters, batch_size=4, limit=9)
    made = Project.create(projects / "made", config)
    session = made.session("ada")
    session.advance()
    assert len(session.remaining) == 4
    assert made.prepared.set_aside == ()
    made.close()


def test_every_source_can_be_made_for_the_test() -> None:
    """One that needs a path needs a line in MAKERS."""
    required = {name for name in SOURCES if any(part.required for part in registry.describe("source", name))}
    assert required <= set(MAKERS)


# ---- exporters


@pytest.mark.parametrize("name", EXPORTERS)
def test_an_export_is_a_file_that_its_line_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suffix and media type are stated, the manifest counts the rows, and the printed line of Python runs as it is."""
    monkeypatch.chdir(tmp_path)
    dataset = dataset_for_pools()
    rows = tuple(
        ExportRow(
            image_id=dataset.ids[row], class_name="ab"[row % 2], class_id=row % 2, annotator="ada", round=1,
            purpose="train", strategy="entropy", score=0.5, guess=None, guess_probability=None, guess_shown=False,
            answered_at="2025-03-01T12:00:00Z", outcome="label", probability=None, event_id=f"{row:032x}", row=row,
        )
        for row in range(4)
    )  # fmt: skip
    exporter = registry.create("exporter", name)
    path = tmp_path / f"labels{exporter.suffix}"
    export = Export("tiny", ("a", "b"), rows, lambda row: dataset.open_image(row, 0), dataset.images)
    manifest = exporter.write(export, path)
    assert (manifest.n_rows, manifest.n_labels) == (4, 4)
    assert "/" in exporter.mime
    scope: dict[str, Any] = {}
    exec(exporter.load_line(path.name), scope)
    labels = scope["labels"]
    found = labels["image_ids"] if "image_ids" in labels else [row["image_id"] for row in _rows(labels)]
    assert list(found) == list(dataset.ids[:4])


def _rows(labels: Any) -> list[dict[str, Any]]:  # Any: a list of dicts, or a DataFrame
    return labels if isinstance(labels, list) else labels.to_dict("records")
