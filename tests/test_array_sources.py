"""Images that come as arrays: .npz files, the MNIST family's files, Fashion-MNIST, and fetching it.

Longer than other files: every key, shape, scale and kind of label is read, and every refusal is read out.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from annotator import decode, registry
from annotator.cli import app
from annotator.dataset import Recipe, prepare
from annotator.errors import ConfigError, SourceError
from annotator.exporters.rows import Export, ExportRow
from annotator.paths import assets
from annotator.sources.arrays import KEYS, Arrays
from annotator.sources.download import FASHION_MNIST, download
from annotator.sources.fashion_mnist import CLASS_NAMES, FashionMnist, fetched_folder
from annotator.sources.idx import Idx, has_family
from annotator.sources.rows import MAX_IMAGES, MAX_VALUES
from annotator.types import ImageSource
from tests.builders import tiny_dataset

Values = np.ndarray[Any, Any]


def pixels(*shape: int, seed: int = 0) -> Values:
    """8-bit noise from 0 to 255, both ends included."""
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    noise.flat[0], noise.flat[-1] = 0, 255
    return noise


def saved(folder: Path, **arrays: Values) -> str:
    """The path of an .npz with these arrays."""
    path = folder / "set.npz"
    np.savez_compressed(path, **arrays)
    return str(path)


def crafted(folder: Path, **members: bytes) -> str:
    """The path of an .npz whose members are these bytes, whatever they are."""
    path = folder / "set.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return str(path)


def npy(array: Values, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **kwargs)
    return buffer.getvalue()


def header(shape: tuple[int, ...], descr: str = "|u1", length: int | None = None) -> bytes:
    """An .npy header alone; `length` lies about its own."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text) if length is None else length) + text


def refusal(make: Callable[[], object]) -> tuple[str, str]:
    """Code and message of the SourceError."""
    with pytest.raises(SourceError) as caught:
        make()
    return caught.value.code, str(caught.value)


def npz_code(folder: Path, **arrays: Values) -> str:
    path = saved(folder, **arrays)
    return refusal(lambda: Arrays(path))[0]


# --- .npz: what is in it


def test_an_npz_is_images_labels_names_and_a_test_set(tmp_path: Path) -> None:
    """Pixels, codes and names come back as they were saved; ids count from 0 in the file's order."""
    train, test = pixels(6, 5, 7), pixels(3, 5, 7, seed=1)
    labels, test_labels = np.array([0, 2, 1, -1, 0, 2]), np.array([1, 1, 0])
    names = np.array(["cat", "dog", "hén"])
    path = saved(tmp_path, x_train=train, y_train=labels, x_test=test, y_test=test_labels, class_names=names)
    source = Arrays(path)
    assert isinstance(source, ImageSource)
    assert list(source.ids) == [f"set/{row:05d}" for row in range(6)]
    assert np.array_equal(source.array, train[..., np.newaxis])
    assert source.array is not None
    assert source.array.dtype == np.uint8
    assert source.class_names == ("cat", "dog", "hén")
    assert source.truth is not None
    assert source.truth.tolist() == labels.tolist()
    assert source.truth.dtype == np.int64
    assert source.held_out is not None
    assert list(source.held_out.ids) == ["set-test/00000", "set-test/00001", "set-test/00002"]
    assert np.array_equal(source.held_out.array, test[..., np.newaxis])
    assert source.held_out.truth is not None
    assert source.held_out.truth.tolist() == [1, 1, 0]
    assert source.held_out.class_names == source.class_names
    shown = np.asarray(decode.decode(source.read(2)).image)
    assert np.array_equal(shown, np.repeat(train[2][..., np.newaxis], 3, axis=2))


def test_images_alone_are_enough(tmp_path: Path) -> None:
    """Without labels and names there is no truth, no class and no test set."""
    source = registry.create("source", "arrays", {"path": saved(tmp_path, images=pixels(2, 8, 8))})
    assert (source.truth, source.class_names, source.held_out, source.set_aside) == (None, (), None, ())


def test_test_images_need_no_labels(tmp_path: Path) -> None:
    """A test set without truth is held out all the same."""
    source = Arrays(saved(tmp_path, x=pixels(2, 8, 8), y=np.array([0, 1]), x_test=pixels(1, 8, 8)))
    assert source.held_out is not None
    assert source.held_out.truth is None


@pytest.mark.parametrize("key", [*KEYS["images"], "X", "X_train", "Images"])
def test_every_usual_key_is_known(tmp_path: Path, key: str) -> None:
    """Each alias, in any case, is the images; so is an array saved without a name."""
    assert len(Arrays(saved(tmp_path, **{key: pixels(2, 8, 8)})).ids) == 2


@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("y",),
        ("pictures",),
        ("x", "images"),
        ("x", "X"),
        ("x", "y", "labels"),
        ("x", "y_test"),
        ("x_test", "y_test"),
        ("x", "lables"),
        ("x", "../x"),
        ("../x",),
        ("/etc/x",),
    ],
)
def test_keys_that_leave_a_doubt_are_refused(tmp_path: Path, keys: tuple[str, ...]) -> None:
    """D11: none, two for one part, unknown ones, paths: the error lists what was seen, and nothing is written."""
    path = saved(tmp_path, **{key: pixels(2, 8, 8) for key in keys})
    code, message = refusal(lambda: Arrays(path))
    assert code == "NPZ_KEYS"
    assert all(repr(key) in message for key in keys)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["set.npz"]


def exported(folder: Path) -> str:
    """The .npz of a project of three classes: two people on one image, one skip, one prediction."""
    dataset = tiny_dataset(4)
    plain = ExportRow(
        "", "b", 1, "you", 1, "train", "margin", 0.5, "a", 0.7, True, "2025", "label", None, "e", 0, 9, "?"
    )
    rows = (
        replace(plain, row=0),
        replace(plain, row=0, annotator="me", class_name="c", class_id=2),
        replace(plain, row=1, class_name=None, class_id=None, outcome="skip"),
        replace(plain, row=3, outcome="predicted", probability=0.9),
    )
    export = Export("tiny", ("a", "b", "c"), rows, lambda row: dataset.open_image(row, 0), dataset.images)
    registry.create("exporter", "npz").write(export, folder / "labels.npz")
    return str(folder / "labels.npz")


def test_our_own_export_is_a_source(tmp_path: Path) -> None:
    """P22: its images and what people labeled are read; what the model predicted is no known label."""
    source = Arrays(exported(tmp_path))
    np.testing.assert_array_equal(source.array, tiny_dataset(4).images[[0, 0, 1, 3]])
    assert source.class_names == ("a", "b", "c")
    assert source.truth is not None
    assert source.truth.tolist() == [1, 2, -1, -1]
    assert {"image_ids", "annotators", "outcomes", "comments", "manifest"} <= set(source.left_out)
    assert not {"images", "labels", "class_names"} & set(source.left_out)


def test_an_export_with_broken_outcomes_is_refused(tmp_path: Path) -> None:
    """P22: without them nobody knows which labels are people's."""
    arrays = {"x": pixels(2, 8, 8), "y": np.array([0, 1]), "event_ids": np.array(["", ""])}
    for outcomes in (np.array(["label"]), np.array([1, 2]), np.array(["label"] * 3)):
        assert npz_code(tmp_path, **arrays, outcomes=outcomes) == "NPZ_LABEL"
    assert npz_code(tmp_path, **arrays, outcomes=np.array([None, 1], dtype=object)) == "NPZ_PICKLE"


def test_extra_keys_are_named_and_left_out(tmp_path: Path) -> None:
    """P22: where the labels are there; a project keeps their names, in another order too."""
    path = saved(tmp_path, x=pixels(9, 8, 8), y=np.arange(9) % 2, scores=np.zeros(3), ids=np.arange(9))
    assert Arrays(path).left_out == ("scores", "ids")
    prepared = prepare(Recipe("arrays", {"path": path}, order_seed=1, encoder="pixels", n_neighbors=2), tmp_path / "c")
    assert prepared.left_out == ("scores", "ids")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """D11: two members of one name are two answers to one question."""
    path = Path(crafted(tmp_path, x=npy(pixels(2, 8, 8)), y=npy(pixels(2, 8, 8))))
    path.write_bytes(path.read_bytes().replace(b"y.npy", b"x.npy"))
    assert refusal(lambda: Arrays(str(path)))[0] == "NPZ_KEYS"


class Payload:
    """Writes a file when a pickle of it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("key", ["images", "labels", "class_names"])
def test_a_pickle_is_never_loaded(tmp_path: Path, key: str) -> None:
    """D1: an object array is refused by its header, and what it would have run did not run."""
    bait = np.array([Payload(tmp_path / "written"), None], dtype=object)
    np.savez(tmp_path / "set.npz", **{"images": pixels(2, 8, 8), key: bait})
    assert refusal(lambda: Arrays(str(tmp_path / "set.npz")))[0] == "NPZ_PICKLE"
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(bait))
    assert refusal(lambda: Arrays(str(tmp_path / "bare.npz")))[0] == "NPZ_PICKLE"
    assert not (tmp_path / "written").exists()


def test_fields_with_objects_are_a_pickle_too(tmp_path: Path) -> None:
    """D1: so are objects inside a record."""
    record = np.zeros(2, dtype=[("a", object), ("b", "u1")])
    np.savez(tmp_path / "set.npz", images=record)
    assert refusal(lambda: Arrays(str(tmp_path / "set.npz")))[0] == "NPZ_PICKLE"


# --- .npz: pixels


def test_every_shape_with_a_meaning_is_read(tmp_path: Path) -> None:
    """D7: with or without an axis for channels, that axis last or first; the pixels are the same."""
    grey, colour = pixels(3, 6, 7), pixels(3, 6, 7, 3)
    assert np.array_equal(Arrays(saved(tmp_path, x=pixels(9, 4, 4))).array, pixels(9, 4, 4)[..., np.newaxis])
    for stored in (grey, grey[..., np.newaxis], grey[:, np.newaxis]):
        assert np.array_equal(Arrays(saved(tmp_path, x=stored)).array, grey[..., np.newaxis])
    for stored in (colour, np.moveaxis(colour, -1, 1)):
        assert np.array_equal(Arrays(saved(tmp_path, x=stored)).array, colour)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    """D7: four channels become three exactly as Pillow composes them on the common background."""
    rgba = pixels(40, 6, 7, 4)
    source = Arrays(saved(tmp_path, x=rgba))
    assert source.array is not None
    for shown, stored in zip(source.array, rgba, strict=True):
        flat = Image.new("RGB", (7, 6), decode.BACKGROUND)
        flat.paste(Image.fromarray(stored[..., :3]), mask=Image.fromarray(stored[..., 3]))
        assert np.array_equal(shown, np.asarray(flat))


def test_channels_that_could_be_first_or_last_are_asked_about(tmp_path: Path) -> None:
    """D7: three on both sides is a question; either answer is taken."""
    stored = pixels(2, 3, 5, 3)
    path = saved(tmp_path, x=stored)
    code, message = refusal(lambda: Arrays(path))
    assert code == "NPZ_SHAPE"
    assert "channels=first" in message
    assert np.array_equal(Arrays(path, channels="last").array, stored)
    assert np.array_equal(Arrays(path, channels="first").array, np.moveaxis(stored, 1, -1))


@pytest.mark.parametrize(
    "shape",
    [
        (5,),
        (5, 64),
        (28, 28, 3),
        (5, 8, 8, 5),
        (5, 8, 8, 2),
        (2, 2, 2, 8, 8),
        (1, 1, 1, 2, 8, 8),
        (2, 0, 8),
        (2, 8, 8, 0),
    ],
)
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """D7: neither guessed nor broadcast."""
    assert npz_code(tmp_path, x=np.zeros(shape, dtype=np.uint8)) == "NPZ_SHAPE"


def test_flattened_images_are_told_how_to_stand_up(tmp_path: Path) -> None:
    """D7: the message for (n, 784) has the line that mends it."""
    path = saved(tmp_path, x=pixels(5, 784))
    assert "reshape(-1, 28, 28)" in refusal(lambda: Arrays(path))[1]


def test_the_wrong_answer_about_channels_is_refused(tmp_path: Path) -> None:
    """D7: channels that are not where they were said to be."""
    path = saved(tmp_path, x=pixels(2, 8, 8, 3))
    assert refusal(lambda: Arrays(path, channels="first"))[0] == "NPZ_SHAPE"


def test_no_images_are_refused(tmp_path: Path) -> None:
    """D8: an array of none."""
    assert npz_code(tmp_path, x=np.zeros((0, 8, 8), dtype=np.uint8)) == "NPZ_EMPTY"
    assert npz_code(tmp_path, x=np.zeros((0, 8, 8, 3))) == "NPZ_EMPTY"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_scales_without_doubt_are_found(tmp_path: Path, dtype: type[np.floating[Any]]) -> None:
    """D5: 0 to 1, 0 to 255 and -1 to 1 in any floating-point type give the pixels they were made from."""
    wanted = pixels(4, 6, 7)
    unit = wanted.astype(dtype) / dtype(255)
    for stored in (unit, wanted.astype(dtype), unit * dtype(2) - dtype(1)):
        found = Arrays(saved(tmp_path, x=stored)).array
        assert found is not None
        assert np.abs(found[..., 0].astype(int) - wanted).max() <= (1 if dtype is np.float16 else 0)


def test_whole_numbers_and_truth_values_are_pixels(tmp_path: Path) -> None:
    """D5: 0 to 255 in any integer type; True is white."""
    wanted = pixels(4, 6, 7)
    for dtype in ("u2", "i2", "i4", "u8", "i8"):
        assert np.array_equal(Arrays(saved(tmp_path, x=wanted.astype(dtype))).array, wanted[..., np.newaxis])
    mask = wanted > 100
    assert np.array_equal(Arrays(saved(tmp_path, x=mask)).array, mask[..., np.newaxis] * np.uint8(255))


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 16, "f8"), (0, 127, "f8"), (0, 1.2, "f8"), (-0.1, 1, "f8"), (-2.1, 2.6, "f4"), (0, 4095, "u2"), (0, 1, "i8")],
)
def test_scales_in_doubt_are_asked_about(tmp_path: Path, low: float, high: float, dtype: str) -> None:
    """D5: the range is named, and the words to answer with."""
    path = saved(tmp_path, x=np.linspace(low, high, 64).reshape(1, 8, 8).astype(dtype))
    code, message = refusal(lambda: Arrays(path))
    assert code == "NPZ_RANGE"
    assert f"{high:g}" in message
    assert "scale=unit" in message


def test_the_answer_about_the_scale_is_taken(tmp_path: Path) -> None:
    """D5: values a little beyond its ends are cut off; "max" makes the largest white."""
    path = saved(tmp_path, x=np.array([[[-0.05, 0, 0, 0.5, 1, 1.05]]]))
    assert Arrays(path, scale="unit").array.ravel().tolist() == [0, 0, 0, 128, 255, 255]  # type: ignore[union-attr]  # it is an array
    path = saved(tmp_path, x=np.array([[[0, 4, 8, 12, 16, 16]]], dtype=float))
    assert Arrays(path, scale="max").array.ravel().tolist() == [0, 64, 128, 191, 255, 255]  # type: ignore[union-attr]  # it is an array
    path = saved(tmp_path, x=np.array([[[-1, -0.2, 0, 0, 0, 1]]]))
    assert Arrays(path, scale="symmetric").array.ravel().tolist() == [0, 102, 128, 128, 128, 255]  # type: ignore[union-attr]  # it is an array


@pytest.mark.parametrize("scale", ["unit", "symmetric", "byte", "max"])
def test_an_answer_that_cannot_be_is_refused(tmp_path: Path, scale: str) -> None:
    """D5: a scale that most values lie outside would make a white or black picture of them."""
    path = saved(tmp_path, x=np.array([[[-300.0, 0, 0, 0, 0, 300]]]))
    assert refusal(lambda: Arrays(path, scale=scale))[0] == "NPZ_RANGE"


def test_settings_are_words(tmp_path: Path) -> None:
    """A scale or a place of channels that does not exist is told before the file is opened."""
    for wrong in ({"scale": "uint"}, {"channels": "middle"}):
        with pytest.raises(ConfigError):
            Arrays(str(tmp_path / "no.npz"), **wrong)


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_not_finite_is_named_by_its_place(tmp_path: Path, order: str) -> None:
    """D4: NaN and infinities are counted and the first placed, whatever the order in the file."""
    stored = np.zeros((300, 80, 90), order=order)  # type: ignore[call-overload]  # a letter from above
    stored[7, 3, 2], stored[255, 79, 89], stored[40, 0, 0] = np.nan, np.inf, -np.inf
    path = saved(tmp_path, x=stored)
    code, message = refusal(lambda: Arrays(path))
    assert code == "NPZ_NONFINITE"
    assert "3 values" in message
    assert all(place in message for place in ("[7, 3, 2]", "[255, 79, 89]", "[40, 0, 0]"))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", ">u2", ">i8", "<i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_byte_order_and_layout_do_not_matter(tmp_path: Path, dtype: str, order: str) -> None:
    """D12: big-endian and Fortran order give equal pixels, labels too."""
    wanted, labels = pixels(5, 6, 7, 3), np.arange(5, dtype=dtype)
    stored = np.asarray(wanted.astype(dtype), order=order)  # type: ignore[call-overload]  # a letter from above
    source = Arrays(saved(tmp_path, x=stored, y=labels))
    assert np.array_equal(source.array, wanted)
    assert source.truth is not None
    assert source.truth.tolist() == [0, 1, 2, 3, 4]


def test_images_beyond_a_piece_are_whole(tmp_path: Path) -> None:
    """Read in pieces of a million values, two million and a half arrive in order."""
    wanted = pixels(400, 80, 80)
    for stored in (wanted, np.asfortranarray(wanted.astype(np.float32))):
        np.savez(tmp_path / "set.npz", x=stored)
        assert np.array_equal(Arrays(str(tmp_path / "set.npz")).array, wanted[..., np.newaxis])


@pytest.mark.parametrize("dtype", ["complex64", "U3", "M8[s]", "V4"])
def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path, dtype: str) -> None:
    """Complex numbers, text, dates and raw bytes are no pixels."""
    assert npz_code(tmp_path, x=np.zeros((2, 8, 8), dtype=dtype)) == "NPZ_TYPE"


def test_test_images_are_like_the_others(tmp_path: Path) -> None:
    """Another size or number of channels cannot be encoded alike."""
    assert npz_code(tmp_path, x=pixels(2, 8, 8), x_test=pixels(2, 8, 9)) == "NPZ_SHAPE"
    assert npz_code(tmp_path, x=pixels(2, 8, 8), x_test=pixels(2, 8, 8, 3)) == "NPZ_SHAPE"


# --- .npz: labels


def truth(folder: Path, labels: Values, **others: Values) -> list[int]:
    source = Arrays(saved(folder, x=pixels(len(labels), 8, 8), y=labels, **others))
    assert source.truth is not None
    return source.truth.tolist()


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, -1, 0, 1], dtype=np.int8),
        np.array([[2], [-1], [0], [1]]),
        np.array([2.0, -1.0, 0.0, 1.0]),
        np.array([2.0, np.nan, 0.0, 1.0], dtype=np.float32),
        np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]),
        np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float64, order="F"),
        np.array(["c", "", "a", "b"]),
        np.array([b"c", b"", b"a", b"b"]),
    ],
)
def test_labels_of_every_kind_are_mapped(tmp_path: Path, labels: Values) -> None:
    """D10: numbers of any type, one-hot rows and text; -1, NaN, an empty row and "" mean unlabeled."""
    assert truth(tmp_path, labels) == [2, -1, 0, 1]


def test_classes_without_names_are_the_numbers_that_occur(tmp_path: Path) -> None:
    """D10: labels 3, 10 and 70 are three classes; the test set's labels count too."""
    source = Arrays(saved(tmp_path, x=pixels(3, 8, 8), y=np.array([70, -1, 3]), x_test=pixels(1, 8, 8), y_test=[10]))  # type: ignore[arg-type]  # a list will do
    assert source.class_names == ("3", "10", "70")
    assert source.truth is not None
    assert source.truth.tolist() == [2, -1, 0]
    assert source.held_out is not None
    assert source.held_out.truth is not None
    assert source.held_out.truth.tolist() == [1]


def test_names_give_text_its_codes(tmp_path: Path) -> None:
    """D10: with class names, their order is the codes' order."""
    assert truth(tmp_path, np.array(["b", "a", ""]), class_names=np.array(["c", "b", "a"])) == [1, 2, -1]


def beyond_unicode(dtype: str) -> Values:
    """S7: four texts, one with a character that there is not."""
    values = np.zeros(4, dtype=dtype)
    values.view(f"{dtype[0]}u4")[0] = 0x7FFFFFFF
    return values


def test_names_beyond_unicode_are_refused(tmp_path: Path) -> None:
    """S7: as class names too."""
    parts = {"x": pixels(4, 8, 8), "y": np.arange(4)}
    assert npz_code(tmp_path, **parts, class_names=beyond_unicode("<U1")) == "NPZ_LABEL"
    assert npz_code(tmp_path, **parts, class_names=beyond_unicode(">U3")) == "NPZ_LABEL"


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1, -2, 0]),
        np.array([0, 1, 0.5, 0]),
        np.array([0, 1, np.inf, 0]),
        np.array([0, 1, 2**63, 0], dtype=np.uint64),
        np.array([[0.2, 0.8], [1, 0], [1, 0], [1, 0]]),
        np.array([[1, 1], [1, 0], [1, 0], [1, 0]]),
        np.array([["a", "b"]] * 4),
        np.zeros((4, 2, 2), dtype=int),
        np.zeros((4, 0), dtype=int),
        np.array(3),
        np.array([b"\xff", b"a", b"a", b"a"]),
        np.array(["\ud800", "a", "a", "a"]),
        beyond_unicode("<U1"),
        beyond_unicode(">U1"),
        beyond_unicode("<U2"),
    ],
)
def test_labels_without_a_meaning_are_refused(tmp_path: Path, labels: Values) -> None:
    """D10: neither rounded nor clipped nor guessed."""
    assert npz_code(tmp_path, x=pixels(4, 8, 8), y=labels) == "NPZ_LABEL"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([0, 3]), np.array(["a", "b"])),
        (np.array(["a", "z"]), np.array(["a", "b"])),
        (np.array([0, 1]), np.array([["a", "b"]])),
        (np.array([0, 1]), np.array([1, 2])),
    ],
)
def test_labels_and_names_fit_together(tmp_path: Path, labels: Values, names: Values) -> None:
    """D10: a code beyond the names, a text that is none of them, names that are no list of text."""
    assert npz_code(tmp_path, x=pixels(2, 8, 8), y=labels, class_names=names) == "NPZ_LABEL"


def test_labels_are_of_one_kind(tmp_path: Path) -> None:
    """D10: numbers here and text there cannot be the same classes; dates are none."""
    both = {"x": pixels(2, 8, 8), "x_test": pixels(2, 8, 8)}
    assert npz_code(tmp_path, **both, y=np.array([0, 1]), y_test=np.array(["0", "1"])) == "NPZ_LABEL"
    assert npz_code(tmp_path, x=pixels(2, 8, 8), y=np.zeros(2, dtype="M8[s]")) == "NPZ_TYPE"


def test_every_image_has_one_label(tmp_path: Path) -> None:
    """D9: a label more or less is refused, in the test set too; so are more classes than anybody labels."""
    assert npz_code(tmp_path, x=pixels(4, 8, 8), y=np.zeros(5, dtype=int)) == "NPZ_LENGTH"
    assert npz_code(tmp_path, x=pixels(4, 8, 8), y=np.zeros((3, 2), dtype=int)) == "NPZ_LENGTH"
    assert npz_code(tmp_path, x=pixels(4, 8, 8), x_test=pixels(2, 8, 8), y_test=np.zeros(4)) == "NPZ_LENGTH"
    assert npz_code(tmp_path, x=np.zeros((10_001, 1, 5), dtype=np.uint8), y=np.arange(10_001)) == "NPZ_LABEL"


# --- .npz: files made to harm, or broken


@pytest.mark.parametrize(
    ("shape", "descr"),
    [
        ((20 * 2**30 // 784, 28, 28), "|u1"),
        ((MAX_VALUES // 64 + 1, 8, 8), "<f8"),
        ((MAX_IMAGES + 1, 1, 5), "|u1"),
        ((1, 30_000, 30_000), "|u1"),
        ((2**70, 8, 8), "|u1"),
    ],
)
def test_a_giant_is_refused_by_its_header(tmp_path: Path, shape: tuple[int, ...], descr: str) -> None:
    """D3: before a byte is allocated, whether or not the zeros are there."""
    path = crafted(tmp_path, images=header(shape, descr))
    assert refusal(lambda: Arrays(path))[0] == "NPZ_TOO_LARGE"


def test_zeros_behind_a_small_header_are_not_inflated(tmp_path: Path) -> None:
    """D3: what inflates to more than the header says is refused after one byte more, or by the zip's own count."""
    honest = header((2, 8, 8)) + bytes(64 << 20)
    path = Path(crafted(tmp_path, images=honest))
    assert refusal(lambda: Arrays(str(path)))[0] == "NPZ_CORRUPT"
    content = path.read_bytes()
    lying = content.replace(struct.pack("<I", len(honest)), struct.pack("<I", len(header((2, 8, 8))) + 128))
    path.write_bytes(lying)
    assert refusal(lambda: Arrays(str(path)))[0] == "NPZ_CORRUPT"


def test_labels_cannot_be_giants_either(tmp_path: Path) -> None:
    """D3: text of a gigabyte for two images, one-hot rows of a billion classes."""
    for giant in (header((2,), "<U268435456"), header((2, 2**30))):
        path = crafted(tmp_path, images=npy(pixels(2, 8, 8)), labels=giant)
        assert refusal(lambda path=path: Arrays(path))[0] == "NPZ_TOO_LARGE"  # type: ignore[misc]  # bound now


@pytest.mark.parametrize(
    "content",
    [
        npy(pixels(4, 8, 8))[:-1],
        npy(pixels(4, 8, 8))[:40],
        npy(pixels(4, 8, 8)) + b"\0",
        b"",
        b"\x93NUMPY",
        b"no array",
        b"\x93NUMPY\x09\x00" + npy(pixels(4, 8, 8))[8:],
        header((2, 8, 8), length=2**32 - 1),
        header((2, -8, 8)),
        header((2, 8, 8), "|V0"),
        header((2, 8, 8), "no type"),
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 3000) + b"(" * 3000,
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9) + b"{'descr':",
    ],
)
def test_a_broken_array_is_corrupt(tmp_path: Path, content: bytes) -> None:
    """D13: cut anywhere, longer than it says, or with a header that makes no sense."""
    path = crafted(tmp_path, images=content)
    assert refusal(lambda: Arrays(path))[0] == "NPZ_CORRUPT"


def test_a_broken_zip_is_corrupt(tmp_path: Path) -> None:
    """D13: empty, cut, no zip at all, a wrong checksum: one code, and the message says which."""
    path, stored = tmp_path / "set.npz", pixels(4, 8, 8)
    np.savez(path, images=stored)
    whole = path.read_bytes()
    flipped = whole.replace(stored.tobytes(), (255 - stored).tobytes())
    for content in (b"", whole[: len(whole) // 2], whole[:-1], b"<html>", flipped):
        path.write_bytes(content)
        assert refusal(lambda: Arrays(str(path)))[0] == "NPZ_CORRUPT"


def test_what_is_no_npz_says_what_it_is(tmp_path: Path) -> None:
    """C14, D13: a single array and a zip of images under this name get advice; lzma is not what NumPy writes."""
    path = tmp_path / "set.npz"
    path.write_bytes(npy(pixels(4, 8, 8)))
    assert "savez" in refusal(lambda: Arrays(str(path)))[1]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/1.png", b"")
    code, message = refusal(lambda: Arrays(str(path)))
    assert code == "NPZ_KEYS"
    assert "as a zip" in message
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", npy(pixels(4, 8, 8)))
    assert refusal(lambda: Arrays(str(path)))[0] == "NPZ_CORRUPT"


def test_an_npz_stays_under_the_root(tmp_path: Path) -> None:
    """A path elsewhere, a folder, a pipe and nothing at all are refused before they are opened."""
    root = tmp_path / "root"
    root.mkdir()
    outside = saved(tmp_path, x=pixels(2, 8, 8))
    (root / "link.npz").symlink_to(outside)
    os.mkfifo(root / "pipe.npz")
    assert refusal(lambda: Arrays(outside, root=str(root)))[0] == "SRC_ESCAPES_ROOT"
    assert refusal(lambda: Arrays(str(root / "link.npz"), root=str(root)))[0] == "SRC_ESCAPES_ROOT"
    assert refusal(lambda: Arrays(str(root)))[0] == "SRC_NOT_A_FILE"
    assert refusal(lambda: Arrays(str(root / "pipe.npz")))[0] == "SRC_NOT_A_FILE"
    for nothing in (str(root / "no.npz"), "", "a\0b"):
        assert refusal(lambda nothing=nothing: Arrays(nothing))[0] == "SRC_MISSING"  # type: ignore[misc]  # bound now
    assert len(Arrays(str(root / ".." / "set.npz"), root=str(tmp_path)).ids) == 2


# --- IDX


def idx(array: Values, shape: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    """An IDX file; `shape` lies about its own."""
    axes = array.shape if shape is None else shape
    return bytes([0, 0, kind, len(axes)]) + struct.pack(f">{len(axes)}I", *axes) + array.tobytes()


def family(folder: Path, zipped: bool = True, **files: bytes) -> Path:
    """A folder of the MNIST family; keywords replace its files, train_images for train-images."""
    train, test = pixels(20, 6, 7), pixels(5, 6, 7, seed=1)
    contents = {
        "train_images": idx(train),
        "train_labels": idx(np.arange(20, dtype=np.uint8) % 4),
        "t10k_images": idx(test),
        "t10k_labels": idx(np.arange(5, dtype=np.uint8) % 4),
    } | files
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        part, what = name.split("_")
        path = folder / f"{part}-{what}-idx{3 if what == 'images' else 1}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


def idx_code(folder: Path, zipped: bool = True, **files: bytes) -> str:
    made = family(folder / "clothes", zipped, **files)
    return refusal(lambda: Idx(str(made)))[0]


@pytest.mark.parametrize("zipped", [True, False])
def test_the_familys_files_are_read(tmp_path: Path, zipped: bool) -> None:
    """Gzipped or not: images and labels in their order, t10k held out, classes named by their numbers."""
    source = registry.create("source", "idx", {"path": str(family(tmp_path / "clothes", zipped))})
    assert isinstance(source, ImageSource)
    assert list(source.ids[:2]) == ["clothes/00000", "clothes/00001"]
    assert np.array_equal(source.array, pixels(20, 6, 7)[..., np.newaxis])
    assert source.truth.tolist() == [row % 4 for row in range(20)]
    assert source.class_names == ("0", "1", "2", "3")
    assert source.held_out is not None
    assert source.held_out.ids[0] == "clothes-test/00000"
    assert np.array_equal(source.held_out.array, pixels(5, 6, 7, seed=1)[..., np.newaxis])
    assert source.held_out.truth.tolist() == [0, 1, 2, 3, 0]


def test_only_the_images_are_needed(tmp_path: Path) -> None:
    """Labels and test files may be missing; names with a dot, as some programs unpack them, are known."""
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx(pixels(4, 6, 7)))
    source = Idx(str(tmp_path))
    assert (len(source.ids), source.truth, source.class_names, source.held_out) == (4, None, (), None)


@pytest.mark.parametrize("with_plain_files", [True, False])
def test_a_folder_of_a_files_name_is_not_the_file(tmp_path: Path, with_plain_files: bool) -> None:
    """P8: as MNIST is handed out, each file lies in a folder of its own name, and beside it under a name with a dot."""
    plain = family(tmp_path / "plain", zipped=False)
    folder = tmp_path / "mnist"
    for file in plain.iterdir():
        (folder / file.name).mkdir(parents=True)
        shutil.copy(file, folder / file.name / file.name)
        if with_plain_files:
            shutil.copy(file, folder / file.name.replace("-idx", ".idx"))
    assert has_family(folder)
    source = Idx(str(folder))
    assert (len(source.ids), source.held_out is not None, source.truth is not None) == (20, True, True)
    one = Idx(str(folder / "train-images-idx3-ubyte" / "train-images-idx3-ubyte"))
    assert (len(one.ids), one.truth) == (20, None)


def test_a_linked_folder_of_a_files_name_is_not_entered(tmp_path: Path) -> None:
    """P8: what it leads to may lie outside of the folder."""
    plain = family(tmp_path / "plain", zipped=False)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train-images-idx3-ubyte").symlink_to(plain)
    assert refusal(lambda: Idx(str(tmp_path / "in")))[0] == "SRC_MISSING"


def test_one_images_file_brings_its_labels(tmp_path: Path) -> None:
    """Of one file only its own labels, beside it, are read; it is named by what stands before its first dot."""
    folder = family(tmp_path / "clothes")
    source = Idx(str(folder / "t10k-images-idx3-ubyte.gz"))
    assert source.ids[4] == "t10k-images-idx3-ubyte/00004"
    assert source.truth is not None
    assert source.truth.tolist() == [0, 1, 2, 3, 0]
    assert source.held_out is None
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert Idx(str(folder / "t10k-images-idx3-ubyte.gz")).truth is None


@pytest.mark.parametrize("zipped", [True, False])
def test_broken_idx_is_corrupt(tmp_path: Path, zipped: bool) -> None:
    """Cut in the header or behind it, longer than it says, or nothing of the kind."""
    good = idx(pixels(20, 6, 7))
    for content in (b"", good[:3], good[:9], good[:-1], good + b"\0", b"<html>", b"\x80" + good[1:]):
        assert idx_code(tmp_path, zipped, train_images=content) == "IDX_CORRUPT"


def test_broken_gzip_is_corrupt(tmp_path: Path) -> None:
    """A gzipped file cut short, or with a wrong checksum, is told from a short array."""
    folder = family(tmp_path / "clothes")
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for content in (whole[:-9], whole[: len(whole) // 2], whole[:12], whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]):
        path.write_bytes(content)
        assert refusal(lambda: Idx(str(folder)))[0] == "IDX_CORRUPT"


def test_idx_headers_are_judged_before_anything_is_allocated(tmp_path: Path) -> None:
    """Giants by their header, giants behind a small header, and headers that the file is too short for."""
    none = np.empty(0, dtype=np.uint8)
    assert idx_code(tmp_path, train_images=idx(none, (2**32 - 1, 28, 28))) == "IDX_TOO_LARGE"
    assert idx_code(tmp_path, train_images=idx(none, (MAX_IMAGES + 1, 1, 1))) == "IDX_TOO_LARGE"
    assert idx_code(tmp_path, train_images=idx(none, (1_000_000, 28, 28))) == "IDX_CORRUPT"
    assert idx_code(tmp_path, zipped=False, train_images=idx(none, (1_000_000, 28, 28))) == "IDX_CORRUPT"
    bomb = idx(np.zeros(64 << 20, dtype=np.uint8), (2, 8, 8))
    assert idx_code(tmp_path, train_images=bomb) == "IDX_CORRUPT"


def test_idx_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Other types, other numbers of axes, none, sizes that differ: each has its code."""
    some = pixels(20, 6, 7)
    assert idx_code(tmp_path, train_images=idx(some, kind=13)) == "IDX_TYPE"
    assert idx_code(tmp_path, train_images=idx(some.reshape(20, 42))) == "IDX_SHAPE"
    assert idx_code(tmp_path, train_labels=idx(some)) == "IDX_SHAPE"
    assert idx_code(tmp_path, train_images=idx(some[:0])) == "IDX_EMPTY"
    assert idx_code(tmp_path, train_images=idx(some[:, :0])) == "IDX_SHAPE"
    assert idx_code(tmp_path, t10k_images=idx(pixels(5, 7, 7))) == "IDX_SHAPE"
    assert idx_code(tmp_path, train_labels=idx(np.zeros(19, dtype=np.uint8))) == "IDX_LENGTH"
    assert idx_code(tmp_path, t10k_labels=idx(np.zeros(19, dtype=np.uint8))) == "IDX_LENGTH"


def test_idx_stays_in_its_folder(tmp_path: Path) -> None:
    """A folder outside the root, a file that links out, a folder without the files: refused by name."""
    folder = family(tmp_path / "clothes")
    other = family(tmp_path / "other")
    assert refusal(lambda: Idx(str(other), root=str(folder)))[0] == "SRC_ESCAPES_ROOT"
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    (folder / "train-labels-idx1-ubyte.gz").symlink_to(other / "train-labels-idx1-ubyte.gz")
    assert refusal(lambda: Idx(str(folder)))[0] == "SRC_ESCAPES_ROOT"
    (other / "train-images-idx3-ubyte.gz").rename(other / "something.gz")
    code, message = refusal(lambda: Idx(str(other)))
    assert code == "SRC_MISSING"
    assert "'something.gz'" in message


# --- Fashion-MNIST


def test_the_sample_comes_with_its_licence() -> None:
    """5,000 images and 1,000 held out in ten classes, ids by original number, under 4 MB with script and licence."""
    source = FashionMnist()
    test = source.held_out
    assert isinstance(source, ImageSource)
    assert test is not None
    for part, n_images, name, n_whole in (
        (source, 5000, "fashion-mnist", 60_000),
        (test, 1000, "fashion-mnist-test", 10_000),
    ):
        numbers = [int(image_id.removeprefix(f"{name}/")) for image_id in part.ids]
        assert (len(part.ids), part.array.shape) == (n_images, (n_images, 28, 28, 1))  # type: ignore[union-attr]  # it is an array
        assert numbers == sorted(set(numbers))
        assert 0 <= numbers[0] <= numbers[-1] < n_whole
        assert part.truth is not None
        assert np.bincount(part.truth, minlength=10).min() > n_images / 10 * 0.85
        assert part.class_names == CLASS_NAMES
    folder = assets() / "fashion-mnist-sample"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000
    assert "Zalando" in (folder / "LICENSE").read_text()


def test_the_whole_is_read_from_a_path(tmp_path: Path) -> None:
    """`full` with a path reads the four files there; the class names and ids are the sample's."""
    source = registry.create("source", "fashion-mnist", {"full": "true", "path": str(family(tmp_path / "clothes"))})
    assert source.ids[19] == "fashion-mnist/00019"
    assert source.held_out.ids[4] == "fashion-mnist-test/00004"
    assert source.truth.tolist() == [row % 4 for row in range(20)]
    assert source.class_names == source.held_out.class_names == CLASS_NAMES


def test_the_fetched_copy_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path the fetched files are read; where nothing is anywhere, the error says how to get them."""
    monkeypatch.setattr("annotator.sources.fashion_mnist.user_data_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr("annotator.sources.fashion_mnist.DEBIAN_FOLDER", tmp_path / "debian")
    code, message = refusal(lambda: FashionMnist(full=True))
    assert code == "SRC_MISSING"
    assert "annotator fetch fashion-mnist" in message
    assert "dataset-fashion-mnist" in message
    fetched_folder().parent.mkdir(parents=True)
    family(fetched_folder())
    assert len(FashionMnist(full=True).ids) == 20


def test_a_path_alone_is_refused(tmp_path: Path) -> None:
    """The sample lies nowhere else; a path without `full` would be ignored."""
    with pytest.raises(ConfigError):
        FashionMnist(path=str(tmp_path))


# --- fetching


class Silent(SimpleHTTPRequestHandler):
    """Serves a folder and prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Into the void."""


class Broken(BaseHTTPRequestHandler):
    """Promises a hundred bytes and sends three."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"abc")

    def log_message(self, format: str, *args: object) -> None:
        """Into the void."""


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function (handler) -> the address of a server on this machine."""
    servers = []

    def start(handler: Any) -> str:  # Any: a class or a partial of one
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def published(folder: Path) -> dict[str, str]:
    """Two files to serve, with their checksums."""
    folder.mkdir()
    contents = {"a.gz": pixels(900_000).tobytes(), "b.gz": b"b"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def test_fetched_files_are_checked_and_kept(tmp_path: Path, serve: Serve) -> None:
    """Each arrives whole, with progress, and is not asked for again; one that was damaged since is."""
    checksums = published(tmp_path / "server")
    url = serve(partial(Silent, directory=str(tmp_path / "server")))
    seen: list[tuple[str, int, int]] = []
    target = tmp_path / "deep" / "target"
    download(url + "/", checksums, target, lambda *progress: seen.append(progress))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "server").iterdir()
    }
    assert seen[-1] == ("Fetching b.gz, bytes", 1, 1)
    assert [done for _, done, total in seen if total == 900_000][-1] == 900_000
    (tmp_path / "server" / "a.gz").unlink()
    (target / "b.gz").write_bytes(b"damaged")
    download(url, checksums, target)
    assert (target / "b.gz").read_bytes() == b"b"


def test_another_file_than_the_published_one_is_not_kept(tmp_path: Path, serve: Serve) -> None:
    """A wrong checksum leaves what was there before, and no half of the new."""
    checksums = published(tmp_path / "server")
    url = serve(partial(Silent, directory=str(tmp_path / "server")))
    (tmp_path / "b.gz").write_bytes(b"older")
    assert refusal(lambda: download(url, checksums | {"b.gz": "0" * 64}, tmp_path))[0] == "FETCH_CHANGED"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gz", "b.gz", "server"]
    assert (tmp_path / "b.gz").read_bytes() == b"older"


def test_a_failing_server_leaves_nothing(tmp_path: Path, serve: Serve) -> None:
    """Not found, nobody there, a connection that ends too soon, no address: the error says which, no file stays."""
    empty = tmp_path / "empty"
    empty.mkdir()
    gone = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    gone.server_close()
    target = tmp_path / "target"
    for url, told in (
        (serve(partial(Silent, directory=str(empty))), "404"),
        (serve(Broken), "3 of 100"),
        (f"http://127.0.0.1:{gone.server_port}", "refused"),
        ("http://", "could not be fetched"),
    ):
        code, message = refusal(lambda url=url: download(url, {"a.gz": ""}, target))  # type: ignore[misc]  # bound now
        assert code == "FETCH_FAILED"
        assert told in message
        assert list(target.iterdir()) == []
    for wrong in ("file:///etc", "ftp://x", "/etc", ""):
        with pytest.raises(ConfigError):
            download(wrong, {"a.gz": ""}, target)


def test_fetch_is_a_command(tmp_path: Path, serve: Serve) -> None:
    """It asks --from for the four files, takes no others for them, and knows one data set."""
    url = serve(partial(Silent, directory=str(family(tmp_path / "server"))))
    target = tmp_path / "target"
    result = CliRunner().invoke(app, ["fetch", "fashion-mnist", "--from", url, "--to", str(target)])
    assert isinstance(result.exception, SourceError)
    assert result.exception.code == "FETCH_CHANGED"
    assert list(target.iterdir()) == []
    other = CliRunner().invoke(app, ["fetch", "mnist"])
    assert isinstance(other.exception, ConfigError)
    assert "fashion-mnist" in str(other.exception)


def test_the_checksums_are_of_the_published_files() -> None:
    """Four files, named as the reader looks for them."""
    assert sorted(FASHION_MNIST) == sorted(
        f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
    )
    assert all(len(bytes.fromhex(checksum)) == 32 for checksum in FASHION_MNIST.values())
