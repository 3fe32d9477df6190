"""What is kept of every image on disk, and the version that batches hang on."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotator import dataset as dataset_module
from annotator import npy, registry, types
from annotator.config import Config
from annotator.dataset import Prepared, Recipe, _Hexadecimal, _json_pieces, made_from, open_prepared, prepare
from annotator.encoders.combined import named
from annotator.encoders.pixels import FittedPixels, Pixels
from annotator.errors import FeatureError, ModelError
from annotator.ids import StoredIds
from annotator.pointer import CACHE
from annotator.pool import first_of_equal
from annotator.project import Project
from annotator.simulate import answer_batch, oracle_of
from annotator.types import FeatureArray, ImageArray, Report, silent
from tests import storing

PINNED = "e6631780b14b06b3c4d6445e78f27885e17eca4f58fc66ec97284cc7616117af"
"""The version of `recipe` as projects have it on their disks."""


def recipe(folder: Path) -> Recipe:
    """Twelve images, the sixth the same as the third, one without a label; three more to test on."""
    images = (np.arange(12 * 8 * 8) * 7 % 251).astype(np.uint8).reshape(12, 8, 8)
    images[5] = images[2]
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, -1])
    path = folder / "sämple.npz"
    names = np.array(["ant", "bée", "cat"])
    np.savez(path, images=images, labels=labels, class_names=names, x_test=images[:3] // 2, y_test=labels[:3])
    return Recipe("arrays", {"path": str(path)}, encoder="pixels", n_neighbors=3)


def with_an_old_manifest(prepared: Prepared) -> Path:
    """Turn the folder of images into one of an earlier version: everything of every image in one JSON."""
    folder = prepared.folder.parent / json.loads((prepared.folder / "dataset.json").read_text())["images"]
    manifest = json.loads((folder / "manifest.json").read_text()) | {
        "ids": list(prepared.dataset.ids),
        "source_rows": list(range(len(prepared.dataset))),
        "hashes": [content.tobytes().hex() for content in prepared.hashes],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for path in sorted((folder / "columns").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "columns").rmdir()
    return folder


def same(prepared: Prepared, other: Prepared) -> bool:
    """Everything known of every image."""
    arrays = [(part.hashes, part.dataset.group, part.dataset.truth) for part in (prepared, other)]
    return prepared.dataset.ids == other.dataset.ids and all(
        np.array_equal(mine, others) for mine, others in zip(*arrays, strict=True)
    )


def test_the_version_of_a_dataset_stays(tmp_path: Path) -> None:
    """Every batch of every project is drawn by it."""
    prepared = prepare(recipe(tmp_path), tmp_path / "cache")
    assert prepared.dataset.version == PINNED


def test_the_version_is_not_computed_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor anything else that goes through every image."""
    made = recipe(tmp_path)
    prepared = prepare(made, tmp_path / "cache")
    monkeypatch.delattr(dataset_module, "_json_pieces")
    assert same(open_prepared(prepared.folder, made), prepared)


@given(st.lists(st.text(max_size=6)), st.integers(0, 5), st.text(max_size=4))
def test_a_version_in_pieces_is_the_hash_of_the_whole_json(names: list[str], n: int, name: str) -> None:
    """Whatever the names, also where nothing is there, and across the pieces' ends."""
    hashes = np.random.default_rng(n).integers(0, 256, (n, 32), dtype=np.uint8)
    truth = np.arange(n) - 1
    plain = {"z": {"b": 1.5, "a": [name]}, "class_names": (name, "é"), "none": None}
    as_arrays = {"ids": StoredIds.from_ids(names), "hashes": _Hexadecimal(hashes), "truth": truth}
    as_lists = {"ids": names, "hashes": [row.tobytes().hex() for row in hashes], "truth": truth.tolist()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_module, "PIECE", 2)
        in_pieces = "".join(_json_pieces(plain | as_arrays))
    assert in_pieces == json.dumps(plain | as_lists, sort_keys=True)


@given(st.lists(st.binary(min_size=32, max_size=32) | st.sampled_from([bytes(32), bytes(31) + b"\1", b"\1" * 32])))
def test_equal_contents_are_of_one_group(contents: list[bytes]) -> None:
    """Named by the first row; contents that differ in one byte are two."""
    hashes = np.frombuffer(b"".join(contents), dtype=np.uint8).reshape(-1, 32)
    assert first_of_equal(hashes).tolist() == [contents.index(content) for content in contents]


def test_duplicates_are_counted(tmp_path: Path) -> None:
    """Each image that another one before it is the same as."""
    prepared = prepare(recipe(tmp_path), tmp_path / "cache")
    assert prepared.n_duplicates == 1
    assert prepared.dataset.group[5] == 2


def test_images_of_an_earlier_version_are_opened(tmp_path: Path) -> None:
    """Without the source, and as they were; the second time without the JSON."""
    made = recipe(tmp_path)
    before = prepare(made, tmp_path / "cache")
    folder = with_an_old_manifest(before)
    Path(made.source_parameters["path"]).unlink()
    assert same(open_prepared(before.folder, made), before)
    assert "ids" not in json.loads((folder / "manifest.json").read_text())
    assert same(open_prepared(before.folder, made), before)


def test_images_of_an_earlier_version_are_opened_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As slowly as ever; nothing is left behind."""
    made = recipe(tmp_path)
    before = prepare(made, tmp_path / "cache")
    folder = with_an_old_manifest(before)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(npy, "save", refuse)
    assert same(open_prepared(before.folder, made), before)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "views.npy"]


def test_a_project_goes_on_on_images_of_an_earlier_version(projects: Path) -> None:
    """It asks the same batch as one that was never closed."""
    config = Config(name="one", source="digits", limit=60, encoder="pixels", batch_size=5)
    project = Project.create(projects / "one", config)
    session = project.session("you")
    session.advance()
    answer_batch(session, oracle_of(project))
    with_an_old_manifest(project.prepared)
    again = Project(projects / "one")
    session.advance()
    asked = [(question.image_id, question.rank) for question in storing.questions(project.store)]
    again.session("you").advance()
    assert [(question.image_id, question.rank) for question in storing.questions(again.store)] == asked
    assert asdict(again.config) == asdict(config)
    project.close()
    again.close()


class Brokenly:
    """An encoder whose pool, or whose test images, come out wrong."""

    version = "brokenly-1"

    def __init__(self, value: float = 0.0, held_out: bool = False, rows: int = 0) -> None:
        self.value, self.held_out, self.rows = value, held_out, rows

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> Brokenly:
        return self

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        features = images.reshape(len(images), -1).astype(np.float32)
        if self.held_out == (len(images) == 3):
            features[1, 4] = self.value
            return features[self.rows :]
        return features

    def save(self, folder: Path) -> None:
        """Nothing was learned."""


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"value": np.inf}, "FEAT_NOT_FINITE"),
        ({"value": np.nan}, "FEAT_NOT_FINITE"),
        ({"value": 1e20}, "FEAT_TOO_LARGE"),
        ({"rows": 1}, "FEAT_SHAPE"),
    ],
)
def test_an_encoder_that_gives_no_features_is_named(
    wrong: dict[str, float], code: str, held_out: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: of the pool or of the test images; nothing is kept of it."""
    monkeypatch.setitem(registry.BUILT_IN["encoder"], "brokenly", f"{__name__}:Brokenly")
    made = replace(recipe(tmp_path), encoder="brokenly", encoder_parameters=wrong | {"held_out": held_out})
    with pytest.raises(FeatureError, match="encoder brokenly-1 cannot be used") as raised:
        prepare(made, tmp_path / "cache")
    assert raised.value.code == code
    assert not list((tmp_path / "cache").glob("dataset-*/dataset.json"))


class Shortened(Pixels):
    """As many principal components of the pixels as a file says."""

    def __init__(self, weights: str = "") -> None:
        super().__init__()
        self.weights = weights

    def file_key(self) -> str:
        """What the file says; it is read when it is asked for."""
        try:
            return Path(self.weights).read_text()
        except OSError as error:
            raise ModelError("There is no file of weights.", "MODEL_WEIGHTS") from error

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedPixels:
        return Pixels(int(self.file_key())).fit(images, rng, report)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says 2, which the encoder `shortened` reads."""
    monkeypatch.setitem(registry.BUILT_IN["encoder"], "shortened", f"{__name__}:Shortened")
    path = tmp_path / "weights.txt"
    path.write_text("2")
    return path


@pytest.mark.parametrize("encoder", ["shortened", "shortened+hog"])
def test_another_file_of_weights_is_another_dataset(tmp_path: Path, weights: Path, encoder: str) -> None:
    """Under the same name too: nothing that was computed from the first is used."""
    parameters = {"weights" if encoder == "shortened" else "shortened.weights": str(weights)}
    made = replace(recipe(tmp_path), encoder=encoder, encoder_parameters=parameters)
    two = prepare(made, tmp_path / "cache").dataset
    weights.write_text("3")
    three = prepare(made, tmp_path / "cache").dataset
    assert two.version != three.version
    assert three.features.shape[1] == two.features.shape[1] + 1


def test_a_project_opens_without_its_weights(tmp_path: Path, weights: Path) -> None:
    """Cache and file are gone: the labels are there, on quick features, and it says why; with the file, as before."""
    source = recipe(tmp_path)
    changes = {"encoder": "shortened", "encoder_parameters": {"weights": str(weights)}, "initial": "known"}
    config = Config(source=source.source, source_parameters=source.source_parameters, n_neighbors=3, **changes)
    folder = tmp_path / "projects" / "one"
    Project.create(folder, config).close()
    shutil.rmtree(folder.parent / CACHE)
    weights.unlink()
    for _ in range(2):
        opened = Project(folder)
        assert "There is no file of weights. Until then the features of hog are used." in opened.notice
        opened.learner.learn()
        assert (opened.learner.labels >= 0).sum() == 11
        assert opened.prepared.dataset.features.shape[1] > 2
        opened.close()
    weights.write_text("2")
    again = Project(folder)
    assert again.notice == ""
    assert again.prepared.dataset.features.shape[1] == 2
    again.close()


@pytest.mark.parametrize(
    ("encoder", "parameters"),
    [
        ("finetuned", {}),
        ("auto", {"choice": "finetuned"}),
        ("hog+finetuned", {}),
        ("finetuned", {"base": "hog+pixels"}),
    ],
)
def test_a_new_revision_of_a_base_makes_another_dataset(
    encoder: str, parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the base stands; what it was before stays what it was."""
    made = Recipe("digits", encoder=encoder, encoder_parameters=parameters)
    before = made_from(made)
    assert isinstance(before["revisions"]["encoder"], int)
    for base in ("Imagenet", "Pixels"):
        loaded = registry.load("encoder", base.lower())
        monkeypatch.setattr(loaded, "revision", types.revision(loaded) + 1, raising=False)
    named.cache_clear()
    assert made_from(made) != before
    monkeypatch.undo()
    named.cache_clear()
    assert made_from(made) == before
