"""Exports hold what was labeled, exactly, under names that no disk and no spreadsheet takes amiss.

Longer than other files: every format is held to the same rules with one export, and then read back in its own way.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import resource
import shutil
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from annotator import registry
from annotator.errors import Cancelled, ExportError, ImageError
from annotator.exporters.arrays import array_name
from annotator.exporters.folders import class_folders, encode
from annotator.exporters.manifests import read_provenance
from annotator.exporters.rows import COLUMNS, Export, ExportRow, Manifest, complete_or_absent, to_json
from annotator.exporters.tables import FORMULA_STARTS, neutral, write_csv, write_json_lines
from annotator.paths import same_on_disk

EXPORTERS = registry.names("exporter")
CLASSES = (
    *("cat", "Cat", "cat-0", "../../x", "con", "a/b", "", ".", "..", "a..b", "x" * 300, "🐈", "שָׁלוֹם", "\u200b"),
    *("\u202egnp.exe", "007", "NA", "=cmd|' /C calc'!A0", "+1", "-1", "@x", "\tx", "\rx", "\nx", "'=x", "a,b", 'a"b'),
    *("a\nb", "é", "e\u0301", "C:\\x", "a\u2028b"),
)
FILES = (
    *("one/IMG.png", "two/IMG.png", "two/img.png", "é.png", "e\u0301.png", "new\nline.png", "tab\t.png", 'quo"te.png'),
    *("it's.png", "com,ma.png", "=1+1.png", "-x.png", "@x.png", "\u202egnp.png", "🐈.png", "bad%FFbyte.png", "con.png"),
    *("x" * 240 + ".png", "line\u2028.png", " .png", "a\\..\\b.png", "a..b.png", "cr\r.png"),
)
SIDE = 6
BESIDE = 3
"""Two tables and the list of classes, beside the class folders; the manifest is not counted."""


def answer(row: int, class_id: int | None, **changes: Any) -> ExportRow:  # Any: the fields differ in type
    """One label, with every field filled."""
    plain = ExportRow(
        image_id=FILES[row % len(FILES)],
        class_name=None if class_id is None else CLASSES[class_id],
        class_id=class_id,
        annotator="Zoë, 1",
        round=2,
        purpose="train",
        strategy="entropy",
        score=-0.1 - row,
        guess="cat",
        guess_probability=1 / 3,
        guess_shown=True,
        answered_at="2025-03-01T12:00:00.123456Z",
        outcome="label",
        probability=None,
        event_id=f"{row:032x}",
        row=row,
        milliseconds=700 + row,
        comment="blurred",
    )
    return replace(plain, **changes)


def prediction(row: int, class_id: int) -> ExportRow:
    nobody = {"annotator": "", "round": None, "purpose": "", "strategy": "", "score": None, "event_id": ""}
    no_guess = {"guess": None, "guess_probability": None, "guess_shown": None, "answered_at": ""}
    return answer(row, class_id, **nobody, **no_guess, outcome="predicted", probability=0.75)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Files of hostile names on a real disk, labeled with hostile classes, with every outcome there is."""
    rng = np.random.default_rng(5)
    pool = tmp_path / "pool"
    views = rng.integers(0, 256, (len(FILES), SIDE, SIDE, 3), dtype=np.uint8)
    for name, view in zip(FILES, views, strict=True):
        (pool / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(view).save(pool / name)
    n = len(FILES)
    rows = [answer(i % n, i) for i in range(len(CLASSES))]
    rows += [answer(0, None, outcome=outcome) for outcome in ("none-of-these", "unsure", "skip")]
    rows += [answer(0, 0, annotator="second"), prediction(n - 1, 0), prediction(n - 2, 1)]
    return Export(
        project="Hostile 🐈",
        class_names=CLASSES,
        rows=tuple(rows),
        open_image=lambda row: Image.open(pool / FILES[row]).convert("RGB"),
        images=views,
        provenance={"config": {"strategy": "entropy"}, "model_version": 7, "dataset_version": "ab12"},
    )


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to export into, and the working directory."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(name: str, export: Export, folder: Path) -> tuple[Path, Manifest]:
    exporter = registry.create("exporter", name)
    path = folder / f"labels{exporter.suffix}"
    return path, exporter.write(export, path)


def loaded(name: str, path: Path) -> Any:  # Any: each kind of export loads as something else
    """What the exporter's own line of Python gives."""
    scope: dict[str, Any] = {}
    exec(registry.create("exporter", name).load_line(path.name), scope)
    return scope["labels"]


def image_ids(name: str, path: Path) -> list[str]:
    labels = loaded(name, path)
    if name == "npz":
        with labels:
            return [str(one) for one in labels["image_ids"]]
    return [row["image_id"] for row in labels] if name == "jsonl" else list(labels["image_id"])


def stated(name: str, path: Path) -> dict[str, Any]:
    """The manifest that the export states."""
    if name == "npz":
        with np.load(path, allow_pickle=False) as archive:
            return json.loads(str(archive["manifest"]))  # type: ignore[no-any-return]  # an object by our format
    if name == "folders":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("manifest.json"))  # type: ignore[no-any-return]  # as above
    return json.loads(path.with_name(path.name + ".manifest.json").read_text("utf-8"))  # type: ignore[no-any-return]  # as above


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Writes beyond this size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", EXPORTERS)
def test_manifest_counts_what_was_written(name: str, export: Export, out: Path) -> None:
    """Rows, labels, predictions, classes and outcomes are those of the export, and the hash is the file's."""
    path, manifest = write(name, export, out)
    assert manifest.n_rows == len(export.rows) == len(image_ids(name, path))
    assert (manifest.n_labels, manifest.n_predictions) == (len(CLASSES) + 1, 2)
    assert manifest.per_class == dict(Counter(row.class_name for row in export.rows if row.class_id is not None))
    assert sum(manifest.per_outcome.values()) == manifest.n_rows
    assert manifest.sha256 == sha256(path.read_bytes()).hexdigest()
    assert manifest.failed == ()


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_export_states_its_manifest(name: str, export: Export, out: Path) -> None:
    """The manifest stands with the export, with provenance and exact class names; inside a file it has no hash."""
    path, manifest = write(name, export, out)
    inside = name in ("npz", "folders")
    expected = replace(manifest, sha256="" if inside else manifest.sha256)
    assert stated(name, path) == json.loads(to_json(asdict(expected)))
    assert stated(name, path)["class_names"] == list(CLASSES)
    assert stated(name, path)["provenance"]["model_version"] == 7


@pytest.mark.parametrize("name", EXPORTERS)
def test_load_line_loads_every_image_id(name: str, export: Export, out: Path) -> None:
    """The line of Python shown beside the download runs as it is, and gives the ids in order."""
    path, _ = write(name, export, out)
    exact = [row.image_id for row in export.rows]
    assert image_ids(name, path) == (exact if name in ("jsonl", "npz") else [neutral(one) for one in exact])


@pytest.mark.parametrize("name", EXPORTERS)
def test_empty_export_is_valid(name: str, export: Export, out: Path) -> None:
    """No labels yet is no error: the export loads and has no rows."""
    path, manifest = write(name, replace(export, rows=()), out)
    assert image_ids(name, path) == []
    assert (manifest.n_rows, manifest.n_labels, manifest.n_predictions) == (0, 0, 0)
    assert set(manifest.per_class.values()) == {0}


@pytest.mark.parametrize("name", EXPORTERS)
def test_load_line_survives_a_hostile_file_name(name: str, export: Export, out: Path) -> None:
    """Quotes, blanks and other scripts in the name of the export itself are no harm."""
    exporter = registry.create("exporter", name)
    path = out / f'it\'s "my" größe\\n{exporter.suffix}'
    exporter.write(export, path)
    assert len(image_ids(name, path)) == len(export.rows)


@pytest.mark.parametrize("name", EXPORTERS)
def test_full_disk_leaves_the_older_export(name: str, export: Export, out: Path) -> None:
    """A write that fails half way is a typed error with advice; the older file stays, nothing else appears."""
    path, _ = write(name, replace(export, rows=export.rows[:2]), out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(ExportError, match=r"File too large.*then export again") as caught, file_size_limit(3000):
        write(name, export, out)
    assert caught.value.code == "EXPORT_WRITE"
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert path.name in before


@pytest.mark.parametrize("name", EXPORTERS)
def test_cancelled_export_leaves_nothing(name: str, export: Export, out: Path) -> None:
    """A person who stops the export finds no half of it."""

    def stop(stage: str, done: int, total: int) -> None:
        raise Cancelled("Stopped.")

    exporter = registry.create("exporter", name)
    with pytest.raises(Cancelled):
        exporter.write(export, out / "labels", stop)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", EXPORTERS)
def test_progress_ends_with_everything_done(name: str, export: Export, out: Path) -> None:
    """Progress never falls within a stage and ends at its total."""
    seen: list[tuple[str, int, int]] = []
    exporter = registry.create("exporter", name)
    exporter.write(export, out / "labels", lambda stage, done, total: seen.append((stage, done, total)))
    assert seen == sorted(seen)
    assert seen[-1][1:] == (len(export.rows), len(export.rows))


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize("place", ["missing/labels", "file/labels", "taken"])
def test_unusable_path_is_a_typed_error(name: str, place: str, export: Export, out: Path) -> None:
    """A missing folder, a file for a folder, a folder for a file: said in one sentence, nothing left behind."""
    (out / "file").write_text("")
    (out / "taken").mkdir()
    exporter = registry.create("exporter", name)
    with pytest.raises(ExportError, match="folder") as caught:
        exporter.write(export, out / place)
    assert caught.value.code == "EXPORT_WRITE"
    assert list(out.rglob("*.part")) == []


def test_no_space_says_so(tmp_path: Path) -> None:
    """A full disk gets the advice that helps."""

    def fill_the_disk() -> None:
        with complete_or_absent(tmp_path / "x") as (draft,):
            draft.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ExportError, match="Free some space"):
        fill_the_disk()
    assert list(tmp_path.iterdir()) == []


def test_export_is_readable_as_the_umask_allows(export: Export, out: Path) -> None:
    """An export has the permissions of any new file, not those of a private draft."""
    path, _ = write("csv", export, out)
    (out / "plain").touch()
    assert path.stat().st_mode == (out / "plain").stat().st_mode


def test_csv_round_trips_hostile_text(export: Export, out: Path) -> None:
    """Newlines, quotes, commas and any script come back as they were, formulas with their apostrophe."""
    path, _ = write("csv", export, out)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    for row, exported in zip(rows, export.rows, strict=True):
        assert row["image_id"] == neutral(exported.image_id)
        assert row["class_name"] == neutral(exported.class_name or "")
        assert row["class_id"] == ("" if exported.class_id is None else str(exported.class_id))
        assert row["annotator"] == exported.annotator


def test_no_csv_text_starts_a_formula(export: Export, out: Path) -> None:
    """Cells of text never start as a formula does; numbers, which may be negative, stay numbers."""
    path, _ = write("csv", export, out)
    with path.open(encoding="utf-8", newline="") as stream:
        cells = [(name, cell) for row in csv.DictReader(stream) for name, cell in row.items()]
    assert not [cell for name, cell in cells if name != "score" and cell.startswith(FORMULA_STARTS)]
    scores = [float(cell) for name, cell in cells if name == "score" and cell]
    assert scores == [row.score for row in export.rows if row.score is not None]


def test_csv_loads_with_types(export: Export, out: Path) -> None:
    """The class 007 is text, NA is a name, class ids are whole numbers though some are missing."""
    path, _ = write("csv", export, out)
    labels = loaded("csv", path)
    exact = [None if row.class_id is None else neutral(row.class_name or "") or None for row in export.rows]
    assert [name if isinstance(name, str) else None for name in labels["class_name"]] == exact
    assert labels["class_id"].dropna().tolist() == [row.class_id for row in export.rows if row.class_id is not None]
    assert labels["guess_probability"][0] == 1 / 3


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_neutral_texts_stay_different(texts: list[str]) -> None:
    """Two texts never become one, and a text without risk is untouched."""
    assert neutral(texts[0]) != neutral(texts[1])
    assert not neutral(texts[0]).startswith(FORMULA_STARTS)
    assert neutral("a=b") == "a=b"


@given(st.text(), st.text())
def test_any_text_round_trips_through_csv(image_id: str, class_name: str) -> None:
    """RFC 4180 holds for any two texts side by side."""
    stream = io.StringIO(newline="")
    write_csv(stream, ("image_id", "class_name"), [{"image_id": image_id, "class_name": class_name}])
    rows = list(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    assert rows == [["image_id", "class_name"], [neutral(image_id), neutral(class_name)]]


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_round_trips_through_json_lines(text: str) -> None:
    """One line a row for every reader, exact values even for text that UTF-8 cannot hold."""
    assume(text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") == text)
    stream = io.StringIO(newline="")
    write_json_lines(stream, ("image_id",), [{"image_id": text}])
    lines = stream.getvalue().encode("utf-8").decode("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"image_id": text}]


def test_json_lines_hold_exact_values(export: Export, out: Path) -> None:
    """Every field of every row, as it was."""
    path, _ = write("jsonl", export, out)
    assert loaded("jsonl", path) == records_of(path) == [asdict(row) for row in export.rows]


def test_lone_surrogates_are_exported(export: Export, out: Path) -> None:
    """A name that no codec can write is exact in JSON, escaped in CSV, and stops nothing."""
    odd = replace(export, rows=(answer(0, 0, image_id="\udcff.png", class_name="\ud800"),))
    for name in EXPORTERS:
        assert write(name, odd, out)[1].n_rows == 1
    assert records_of(out / "labels.jsonl")[0]["class_name"] == "\ud800"
    assert "\\udcff.png" in (out / "labels.csv").read_text("utf-8")


def test_scores_that_are_not_finite_stay_valid_json(export: Export, out: Path) -> None:
    """JSON has no infinity: such a score is null."""
    path, _ = write("jsonl", replace(export, rows=(answer(0, 0, score=float("inf")),)), out)
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["score"] is None


def test_npz_holds_labels_and_views_without_pickle(export: Export, out: Path) -> None:
    """Every array loads with pickle off; images stand beside their labels; missing values are -1, NaN or empty."""
    path, _ = write("npz", export, out)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    rows = export.rows
    assert arrays["labels"].dtype == np.int64
    assert arrays["labels"].tolist() == [-1 if row.class_id is None else row.class_id for row in rows]
    assert arrays["class_names"].tolist() == list(CLASSES)
    assert arrays["image_ids"].tolist() == [row.image_id for row in rows]
    assert arrays["outcomes"].tolist() == [row.outcome for row in rows]
    assert arrays["images"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["images"], export.images[[row.row for row in rows]])  # type: ignore[index]  # given
    assert (arrays["rounds"][-1], arrays["guess_shown"][-1], arrays["guesses"][-1]) == (-1, -1, "")
    assert np.isnan(arrays["scores"][-1])
    assert {len(array) for name, array in arrays.items() if name not in ("class_names", "manifest")} == {len(rows)}


def test_npz_writes_more_views_than_it_holds_at_once(out: Path, export: Export) -> None:
    """Views are written piece by piece, in the order of the rows."""
    rows = tuple(answer(i % len(FILES), 0) for i in range(2500))
    path, _ = write("npz", replace(export, rows=rows), out)
    with loaded("npz", path) as labels:
        np.testing.assert_array_equal(labels["images"], export.images[labels["rows"]])  # type: ignore[index]  # given


def test_npz_without_views(export: Export, out: Path) -> None:
    """A project without small views exports its labels all the same."""
    path, _ = write("npz", replace(export, images=None), out)
    with loaded("npz", path) as labels:
        assert "images" not in labels.files


def test_no_image_overwrites_another(export: Export, out: Path) -> None:
    """Same basename, names differing by case or by NFC and NFD: as many files as images, on any disk."""
    everything = [answer(row, 0) for row in range(len(FILES))] + [answer(row, 1) for row in range(len(FILES))]
    path, manifest = write("folders", replace(export, rows=tuple(everything)), out)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    images = [name for name in names if name.endswith(".png")]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in images}) == len(everything)
    assert manifest.files == len(images) + BESIDE == len(names) - 1


def test_folder_names_are_safe(export: Export, out: Path) -> None:
    """P21: one folder a class, whatever it is called; none leaves the zip, none is a name that a system reserves."""
    path, _ = write("folders", export, out)
    with zipfile.ZipFile(path) as archive:
        members = [name.split("/") for name in archive.namelist() if "/" in name]
    assert {len(parts) for parts in members} == {3}
    assert {parts[0] for parts in members} == {"labeled", "predicted"}
    folders = {parts[1] for parts in members}
    assert folders == set(class_folders(CLASSES))
    assert len({same_on_disk(folder) for folder in folders}) == len(CLASSES)
    for part in {part for parts in members for part in parts}:
        assert len(part.encode()) <= 255
        assert part.isprintable()
        assert not set(part) & set('<>:"/\\|?*')
        assert ".." not in part
        assert part == part.strip(" .")
        assert part.partition(".")[0].upper() not in {"", "CON", "NUL", "AUX", "PRN"}
        assert not part.startswith(FORMULA_STARTS)


def test_class_folders_are_called_as_their_classes() -> None:
    """P20, P21: in any script, with an id behind it only where a disk would take two names for one."""
    plain = ("animals", "New York", "кошка", "猫", "ศิลปะ", "שלום", "🐈", "100%", "c++", "été", "v1.2")
    assert class_folders(plain) == plain
    clashing = (
        "cat",
        "Cat",
        "CAT",
        "Cat-1",
        "e\u0301",
        "\xe9",
        "a/b",
        "a:b",
        "con",
        "NUL.txt",
        "labels.csv",
        "",
        "\u200b",
    )
    assert class_folders(clashing) == (
        *("cat", "Cat-1", "CAT-2", "Cat-1-3", "\xe9", "\xe9-5", "a-b", "a-b-7", "_con", "_NUL.txt"),
        *("labels.csv-10", "class", "class-12"),
    )


@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=8))
def test_no_two_class_folders_are_one(names: list[str]) -> None:
    """P21: whatever the classes are called, on any disk; and a class that is added later renames none before it."""
    folders = class_folders(names)
    assert len({same_on_disk(folder) for folder in folders}) == len(names)
    assert class_folders(names[:-1]) == folders[:-1] if names else not folders
    for folder in folders:
        assert folder
        assert folder == folder.strip(" .")
        assert folder.isprintable()
        assert not set(folder) & set('<>:"/\\|?*')
        assert len(folder.encode()) <= 220


def test_classes_stand_in_their_order(export: Export, out: Path) -> None:
    """P21: classes.txt has the folder of each class id on its own line, also of a class without an image."""
    path, _ = write("folders", replace(export, rows=(answer(0, 1),)), out)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("classes.txt").decode().splitlines() == list(class_folders(CLASSES))
        assert [name for name in archive.namelist() if "/" in name] == ["Cat-1/IMG-0.png"]


def test_predictions_lie_apart_from_peoples_labels(export: Export, out: Path) -> None:
    """P21: a tool pointed at `labeled` sees only what people labeled; without predictions the classes lie on top."""
    path, _ = write("folders", replace(export, rows=(answer(0, 0), prediction(1, 0))), out)
    with zipfile.ZipFile(path) as archive:
        files = [json.loads(line)["file"] for line in archive.read("labels.jsonl").decode().splitlines()]
    assert files == ["labeled/cat/IMG-0.png", "predicted/cat/IMG-1.png"]


def test_every_export_has_every_column(export: Export, out: Path) -> None:
    """R7: a field that is added to a row is in the tables and in the arrays, with its values."""
    path, _ = write("npz", export, out)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name].tolist() for name in archive.files}
    assert arrays["milliseconds"] == [-1 if row.milliseconds is None else row.milliseconds for row in export.rows]
    assert arrays["comments"] == [row.comment for row in export.rows]
    assert {array_name(column) for column in COLUMNS} | {"images", "manifest"} == set(arrays)
    write("csv", export, out)
    write("jsonl", export, out)
    assert tuple(records_of(out / "labels.jsonl")[0]) == COLUMNS == tuple(loaded("csv", out / "labels.csv").columns)


def test_csv_keeps_text_that_looks_like_a_number(export: Export, out: Path) -> None:
    """R7: of every column of text, and whole numbers stay whole where some are missing."""
    rows = (answer(0, 0, comment="007", event_id="1" * 32, milliseconds=1200), answer(1, 0, comment="1e5"))
    path, _ = write("csv", replace(export, rows=rows), out)
    labels = loaded("csv", path)
    assert labels["comment"].tolist() == ["007", "1e5"]
    assert labels["event_id"][0] == "1" * 32
    assert str(labels["milliseconds"].dtype) == "Int64"


def test_class_folders_hold_the_right_pixels(export: Export, out: Path) -> None:
    """Unpacked, each row's `file` is the image that was labeled, pixel for pixel, under its class."""
    path, _ = write("folders", export, out)
    shutil.unpack_archive(path, out / "unpacked")
    labels = loaded("folders", path)
    assert len(labels) == len(export.rows)
    for row, record in zip(export.rows, records_of(out / "unpacked" / "labels.jsonl"), strict=True):
        if row.class_id is None:
            assert record["file"] is None
            continue
        folder = "predicted" if row.outcome == "predicted" else "labeled"
        assert record["file"].split("/")[:2] == [folder, class_folders(CLASSES)[row.class_id]]
        with Image.open(out / "unpacked" / record["file"]) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(export.open_image(row.row)))


def test_annotators_who_disagree_are_both_exported(export: Export, out: Path) -> None:
    """One image under two classes is a file in each; two annotators who agree share one file."""
    rows = (answer(0, 0), answer(0, 1, annotator="b"), answer(0, 0, annotator="c"))
    path, manifest = write("folders", replace(export, rows=rows), out)
    assert manifest.files == 2 + BESIDE
    assert manifest.n_labels == 3
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("labels.jsonl").decode().splitlines()
    files = [json.loads(line)["file"] for line in lines]
    assert files[0] == files[2] != files[1]


def test_an_image_that_cannot_be_opened_is_listed(export: Export, out: Path) -> None:
    """It stands in the manifest with its reason and in the tables without a file; the rest is exported."""

    def open_image(row: int) -> Image.Image:
        if row == 1:
            raise ImageError("The image is cut off.", "IMG_TRUNCATED")
        if row == 2:
            return Image.open(out / "gone" / "x.png")
        return export.open_image(row)

    rows = (*(answer(row, 0) for row in range(4)), answer(1, 1))
    path, manifest = write("folders", replace(export, rows=rows, open_image=open_image), out)
    reasons = {failed.image_id: failed.reason for failed in manifest.failed}
    assert reasons == {FILES[1]: "The image is cut off.", FILES[2]: "No such file or directory"}
    assert (manifest.n_rows, manifest.files) == (5, 2 + BESIDE)
    assert [failed["image_id"] for failed in stated("folders", path)["failed"]] == [FILES[1], FILES[2]]
    with zipfile.ZipFile(path) as archive:
        files = [json.loads(line)["file"] for line in archive.read("labels.jsonl").decode().splitlines()]
    assert [file is None for file in files] == [False, True, True, False, True]


@pytest.mark.parametrize(("size", "suffix"), [((512, 3), ".png"), ((3, 513), ".jpg"), ((1, 1), ".png")])
def test_small_images_are_png_and_large_ones_jpeg(size: tuple[int, int], suffix: str) -> None:
    """PNG up to 512 px, JPEG above, each of the image's own size."""
    content, actual = encode(Image.new("RGB", size, (200, 30, 60)))
    assert actual == suffix
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == size
        assert np.abs(np.asarray(image).astype(int) - (200, 30, 60)).max() <= 3


@pytest.mark.parametrize("side", [8, 600])
def test_metadata_stays_behind(side: int) -> None:
    """The camera's place, serial and comments are not part of an export."""
    image = Image.new("RGB", (side, side))
    exif = Image.Exif()
    exif[0xA431] = "SERIAL-123"
    image.info = {"exif": exif.tobytes(), "comment": b"SERIAL-123", "icc_profile": b"SERIAL-123", "xmp": b"SERIAL-123"}
    content, _ = encode(image)
    assert b"SERIAL-123" not in content
    assert image.info


@pytest.mark.parametrize("suffix", [".zip", ".npz"])
def test_a_damaged_export_is_told_by_name(tmp_path: Path, suffix: str) -> None:
    """Also where its directory is whole and the compressed bytes are not."""
    path = tmp_path / f"labels{suffix}"
    member = "manifest.npy" if suffix == ".npz" else "manifest.json"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, bytes(range(256)))
    content = bytearray(path.read_bytes())
    start = 30 + len(member)
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ExportError) as refused:
        read_provenance(path)
    assert refused.value.code == "EXPORT_READ"
