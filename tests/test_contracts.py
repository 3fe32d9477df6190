"""What every plug-in of a kind must do, asked of each that the registry names: a new one is picked up by itself."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotator import registry
from annotator.errors import ConfigError
from annotator.exporters.gather import gather
from annotator.project import Config, Project
from annotator.sources.arranged import arrange
from annotator.strategies.random import Random
from annotator.types import UNLABELED, Dataset, ImageArray, ImageSource, IntArray, Pool
from tests.builders import tiny_dataset
from tests.conftest import PhotoFolder

N_CLASSES = 3
FAST = {"autoencoder": {"code": 8, "max_epochs": 2}, "encoder-classifier": {"max_epochs": 30}}
"""Less training than by default, where a default takes seconds."""


def make(kind: str, name: str) -> Any:
    return registry.create(kind, name, FAST.get(name))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return tiny_dataset(45, seed=1, n_classes=N_CLASSES, n_held_out=12)


def some_labels(dataset: Dataset, rows: list[int]) -> IntArray:
    labels = np.full(len(dataset), UNLABELED, dtype=np.int64)
    assert dataset.truth is not None
    labels[rows] = dataset.truth[rows]
    return labels


# ---- encoders


def pictures(n: int, channels: int, side: int = 12) -> ImageArray:
    return np.random.default_rng(channels).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("name", registry.names("encoder"))
@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoder_gives_finite_features_and_comes_back_from_disk(name: str, channels: int, tmp_path: Path) -> None:
    """float32 rows, the same for the pool, for one image alone and after save and load; versions tell fits apart."""
    pool = pictures(220, channels)
    fitted = make("encoder", name).fit(pool, np.random.default_rng(0))
    features = fitted.encode(pool)
    assert features.dtype == np.float32
    assert features.shape[0] == 220
    assert np.isfinite(features).all()
    np.testing.assert_allclose(fitted.encode(pool[7:8]), features[7:8], atol=1e-5)
    fitted.save(tmp_path)
    loaded = make("encoder", name).load(tmp_path)
    np.testing.assert_array_equal(loaded.encode(pool), features)
    assert loaded.version == fitted.version


@pytest.mark.parametrize("name", registry.names("encoder"))
def test_an_encoder_is_a_function_of_its_images_and_seed(name: str) -> None:
    """Fitted twice with the same generator it gives the same bits."""
    pool = pictures(210, 1)
    first, second = (make("encoder", name).fit(pool, np.random.default_rng(3)).encode(pool) for _ in range(2))
    np.testing.assert_array_equal(first, second)


# ---- models


@pytest.mark.parametrize("name", registry.names("model"))
@pytest.mark.parametrize(
    ("rows", "n_classes"),
    [([0], 3), ([0, 3, 6], 3), ([0, 1, 2], 3), ([0, 1, 2, 3, 4, 5, 7], 5), (list(range(45)), 3)],
    ids=["one label", "one class", "one each", "classes without labels", "all labeled"],
)
def test_a_model_believes_something_of_every_image(
    name: str, rows: list[int], n_classes: int, dataset: Dataset
) -> None:
    """Rows of probabilities that sum to 1, float64, never NaN; for images outside the pool too."""
    model = make("model", name)
    prediction = model.fit_predict(dataset, some_labels(dataset, rows), n_classes)
    assert dataset.held_out is not None
    for probabilities, n in ((prediction.probabilities, 45), (model.predict(dataset.held_out.features), 12)):
        assert probabilities.shape == (n, n_classes)
        assert probabilities.dtype == np.float64
        assert (probabilities >= 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)
    if prediction.evidence is not None:
        assert prediction.evidence.shape == (45,)
        assert (prediction.evidence >= 0).all()


@pytest.mark.parametrize("name", registry.names("model"))
def test_a_model_forgets_what_it_was_fitted_on_before(name: str, dataset: Dataset) -> None:
    """Fitted on other labels first, it answers as a fresh one does."""
    labels = some_labels(dataset, [0, 1, 2, 9, 10, 11])
    used, fresh = make("model", name), make("model", name)
    used.fit_predict(dataset, some_labels(dataset, [3, 4, 5]), 3)
    again = used.fit_predict(dataset, labels, 3).probabilities
    np.testing.assert_array_equal(again, fresh.fit_predict(dataset, labels, 3).probabilities)


@pytest.mark.parametrize("name", registry.names("model"))
def test_a_model_learns_what_is_easy(name: str, dataset: Dataset) -> None:
    """Of bright columns under noise it tells the three classes apart far better than chance."""
    labels = some_labels(dataset, list(range(18)))
    model = registry.create("model", name)
    codes = model.fit_predict(dataset, labels, N_CLASSES).probabilities.argmax(axis=1)
    assert dataset.truth is not None
    assert (codes[18:] == dataset.truth[18:]).mean() > 0.6


# ---- strategies


@pytest.fixture
def pool(dataset: Dataset) -> Pool:
    labels = some_labels(dataset, [0, 1, 2])
    prediction = make("model", "label-spreading").fit_predict(dataset, labels, N_CLASSES)
    return Pool(dataset, labels, prediction, np.arange(5, 45, 2))


@pytest.mark.parametrize("name", registry.names("strategy"))
@pytest.mark.parametrize("size", [1, 7, 20, 50])
def test_a_strategy_asks_candidates_once_and_best_first(name: str, size: int, pool: Pool) -> None:
    """As many as asked for, or all there are; nothing else, nothing twice; scores fall; the generator decides alone."""
    strategy = make("strategy", name)
    choice = strategy.query(pool, size, np.random.default_rng(5))
    assert len(choice.rows) == len(choice.scores) == min(size, len(pool.candidates))
    assert len(set(choice.rows.tolist())) == len(choice.rows)
    assert np.isin(choice.rows, pool.candidates).all()
    assert np.isfinite(choice.scores).all()
    assert (np.diff(choice.scores) <= 0).all()
    again = make("strategy", name).query(pool, size, np.random.default_rng(5))
    np.testing.assert_array_equal(again.rows, choice.rows)


@pytest.mark.parametrize("name", registry.names("strategy"))
def test_a_strategy_changes_nothing(name: str, pool: Pool) -> None:
    """Labels, candidates and probabilities are as they were."""
    before = [pool.labels.copy(), pool.candidates.copy(), pool.prediction.probabilities.copy()]
    make("strategy", name).query(pool, 6, np.random.default_rng(0))
    for kept, now in zip(before, [pool.labels, pool.candidates, pool.prediction.probabilities], strict=True):
        np.testing.assert_array_equal(now, kept)


# ---- sources


@pytest.fixture
def source_of(tmp_path: Path, photo_folder: PhotoFolder) -> Any:
    """A function name -> a small real source of that kind."""

    def open_it(name: str) -> ImageSource:
        parameters: dict[str, Any] = {}
        if name in ("folder", "zip"):
            folder = photo_folder(12, ("circle", "square"))
            parameters = {"path": str(folder), "classes_from_folders": True}
            if name == "zip":
                import shutil

                parameters["path"] = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
        elif name == "arrays":
            np.savez(tmp_path / "bars.npz", images=pictures(12, 1)[..., 0], labels=np.arange(12) % 3)
            parameters = {"path": str(tmp_path / "bars.npz")}
        elif name == "idx":
            header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (12, 12, 12))
            (tmp_path / "train-images-idx3-ubyte").write_bytes(header + pictures(12, 1).tobytes())
            labels = b"\0\0\x08\x01" + (12).to_bytes(4, "big") + bytes(row % 3 for row in range(12))
            (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
            parameters = {"path": str(tmp_path)}
        source: ImageSource = registry.create("source", name, parameters)
        return source

    return open_it


@pytest.mark.parametrize("name", registry.names("source"))
def test_a_source_is_ordered_and_stable(name: str, source_of: Any) -> None:
    """Unique ids that are the same at the next look; an array or files, never both; truth codes name classes."""
    source, again = source_of(name), source_of(name)
    assert isinstance(source, ImageSource)
    assert list(source.ids) == list(again.ids)
    assert len(set(source.ids)) == len(source.ids) > 0
    assert source.stamp(0) == again.stamp(0)
    if source.array is not None:
        assert source.array.dtype == np.uint8
        assert source.array.shape[0] == len(source.ids)
        assert source.array.shape[3] in (1, 3)
    else:
        assert len(source.read(0)) > 0
    if source.truth is not None:
        assert source.truth.shape == (len(source.ids),)
        assert source.truth.max() < len(source.class_names)
    if source.held_out is not None:
        assert not set(source.held_out.ids) & set(source.ids)
        assert source.held_out.class_names == source.class_names


@pytest.mark.parametrize("name", registry.names("source"))
def test_a_source_can_be_shuffled_and_cut(name: str, source_of: Any) -> None:
    """Rows move as a whole: id, picture and truth stay together."""
    source = source_of(name)
    cut = arrange(source, limit=5, order_seed=1)
    assert len(cut.ids) == 5
    for row, image_id in enumerate(cut.ids):
        was = list(source.ids).index(image_id)
        if source.array is None:
            assert cut.read(row) == source.read(was)
        else:
            np.testing.assert_array_equal(cut.array[row], source.array[was])
        if source.truth is not None:
            assert cut.truth[row] == source.truth[was]


@pytest.mark.parametrize("name", registry.names("source"))
def test_a_source_makes_a_project(name: str, source_of: Any, projects: Path, tmp_path: Path) -> None:
    """From source to first batch, through the store, with nothing set aside."""
    source = source_of(name)
    known = {
        "folder": {"path": str(tmp_path / "photos")},
        "zip": {"path": str(tmp_path / "photos.zip")},
        "arrays": {"path": str(tmp_path / "bars.npz")},
        "idx": {"path": str(tmp_path)},
    }
    classes = tuple(source.class_names) or ("a", "b")
    config = Config(source=name, source_parameters=known.get(name, {}), classes=classes, batch_size=4, limit=10)
    made = Project.create(projects / "made", config)
    session = made.session("ada")
    session.advance()
    assert len(session.remaining) == 4
    assert made.prepared.set_aside == ()
    made.close()


# ---- exporters


@pytest.mark.parametrize("name", registry.names("exporter"))
def test_an_exporter_writes_what_it_counts(name: str, projects: Path, tmp_path: Path) -> None:
    """A project's answers and predictions, in a file whose manifest counts them and whose load line runs."""
    config = Config(source="digits", source_parameters={"held_out": 0}, limit=40, encoder="pixels", initial="first:12")
    made = Project.create(projects / "made", config)
    made.session("ada").advance()
    exporter = registry.create("exporter", name)
    path = tmp_path / f"labels{exporter.suffix}"
    manifest = exporter.write(gather(made, predictions=True), path)
    assert (manifest.n_labels, manifest.n_predictions) == (12, 28)
    assert path.stat().st_size > 0
    exec(exporter.load_line(str(path)), {})
    made.close()


# ---- the registry


@pytest.mark.parametrize("kind", registry.BUILT_IN)
def test_every_plug_in_says_in_a_line_what_it_is(kind: str) -> None:
    """A sentence of its own, read without importing the plug-in, and the same as its docstring's first line."""
    for name in registry.names(kind):
        said = registry.summary(kind, name)
        assert 20 < len(said) < 120, name
        assert said == (registry.load(kind, name).__doc__ or "").strip().splitlines()[0]


def test_a_third_partys_plug_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point of its own distribution; a built-in name cannot be taken over."""
    entries = [
        EntryPoint("anything", "annotator.strategies.random:Random", "annotator.strategy"),
        EntryPoint("entropy", "annotator.strategies.random:Random", "annotator.strategy"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "annotator.strategy" else [])
    registry._third_party.cache_clear()
    try:
        assert "anything" in registry.names("strategy")
        assert registry.load("strategy", "anything") is Random
        assert registry.load("strategy", "entropy") is not Random
    finally:
        monkeypatch.undo()
        registry._third_party.cache_clear()


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in whose package is absent says how to get it."""
    monkeypatch.setitem(registry.BUILT_IN["encoder"], "absent", "no_such_package_anywhere:Encoder")
    with pytest.raises(ConfigError, match="pip install no_such_package_anywhere"):
        registry.load("encoder", "absent")


def test_a_plug_in_chosen_in_the_config_is_the_one_that_runs(projects: Path) -> None:
    """A strategy that is given by name in the config asks the questions, and is named on them."""
    config = Config(source="digits", source_parameters={"held_out": 0}, limit=60, encoder="pixels", initial="first:20")
    for name in registry.names("strategy"):
        made = Project.create(projects / name, replace(config, strategy=name))
        session = made.session("ada")
        session.advance()
        assert {card.strategy for card in session.remaining} == {name}
        made.close()
