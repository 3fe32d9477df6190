"""Verifying: what was stored is there, whoever changed the file; what was answered can always be had."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import zipfile
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from annotator import registry
from annotator.cli import main
from annotator.config import Config
from annotator.errors import AnnotatorError, StoreError
from annotator.exporters.gather import gather, write_export
from annotator.project import Project
from annotator.projects import STORE_NAME
from annotator.simulate import answer_batch, oracle_of
from annotator.store import Answer, ImageRecord, ModelRecord, Store, answers, log, schema
from annotator.store.verify import MOST_SAID, event_hash
from tests import storing
from tests.test_store import question

OLD = Path(__file__).parent / "old_projects"
SMALL = Config(name="small", source="digits", limit=60, encoder="pixels", batch_size=6, initial="first:3")
IS_LABEL = "kind = 'answer' AND outcome = 'label'"
LAST_LABEL = f"seq = (SELECT max(seq) FROM events WHERE {IS_LABEL})"
LAST_ASKED = f"question_id = (SELECT question_id FROM events WHERE {LAST_LABEL})"

Labels = dict[str, str | None]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two rounds; its features stay beside it."""
    folder = tmp_path_factory.mktemp("verify") / "original"
    project = Project.create(folder, SMALL)
    session = project.session("ada")
    for _ in range(2):
        session.advance()
        answer_batch(session, oracle_of(project))
    session.advance()
    project.close()
    return folder


@pytest.fixture
def folder(original: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of it."""
    copy = original.with_name(hashlib.sha256(request.node.name.encode()).hexdigest()[:16])
    shutil.copytree(original, copy)
    return copy


def damage(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / STORE_NAME)) as file, file:
        for statement in statements:
            file.execute(statement)


def labels_of(folder: Path) -> Labels:
    """image id -> the class it is exported with."""
    project = Project(folder)
    found = {row.image_id: row.class_name for row in gather(project).rows if row.outcome == "label"}
    project.close()
    return found


DAMAGES: dict[str, tuple[bool, str, tuple[str, ...]]] = {
    "newest five gone": (True, "the newest 5 are gone", (
        "DELETE FROM events WHERE seq > (SELECT max(seq) - 5 FROM events)",)),
    "head moved on": (True, "the newest 4 are gone", ("UPDATE projects SET head_seq = head_seq + 4",)),
    "head moved back": (True, "behind its head", ("UPDATE projects SET head_seq = head_seq - 2",)),
    "head hash": (True, "head's hash", ("UPDATE projects SET head_hash = 'f' || substr(head_hash, 2) || 'x'",)),
    "one gone": (True, "some are gone", ("DELETE FROM events WHERE seq = 14",)),
    "every event gone": (True, "ends at event 0", ("DELETE FROM events",)),
    "classes swapped": (True, "Class 1 was added as '1', and is called '2' now", (
        "UPDATE classes SET name = 'x' WHERE class_id = 1", "UPDATE classes SET name = '1' WHERE class_id = 2",
        "UPDATE classes SET name = '2' WHERE class_id = 1")),
    "class gone": (True, "'9', and is gone", ("DELETE FROM classes WHERE class_id = 9",)),
    "class in the middle gone": (True, "'4', and is gone", ("DELETE FROM classes WHERE class_id = 4",)),
    "class from nowhere": (True, "added by no event", (
        "INSERT INTO classes SELECT project_id, 10, 'ten', created_at, NULL FROM classes WHERE class_id = 1",)),
    "class retired": (True, "retired by no event", (
        "UPDATE classes SET retired_at = 'now' WHERE class_id = 3",)),
    "config": (True, "Configuration 1 is not the one", (
        """UPDATE configs SET config = replace(config, '"seed":0', '"seed":1')""",)),
    "config unreadable": (True, "Configuration 1 is not the one", ("UPDATE configs SET config = '{'",)),
    "config gone": (True, "Configuration 1 is in the log", ("DELETE FROM configs",)),
    "config from nowhere": (True, "Configuration 2 was stored by no event", (
        "INSERT INTO configs SELECT project_id, 2, seq, config, created_at FROM configs",)),
    "label": (False, "is not what was stored", (
        f"UPDATE events SET class_id = (class_id + 1) % 10 WHERE {LAST_LABEL}",)),
    "bytes": (False, "is not what was stored", (f"UPDATE events SET payload = x'00ff' WHERE {LAST_LABEL}",)),
    "image asked": (False, "asks about 'digits/00059' now", (
        f"UPDATE questions SET image_id = 'digits/00059' WHERE {LAST_ASKED}",)),
    "guess": (False, "not as it was when it was answered", (
        f"UPDATE questions SET guess = (guess + 1) % 10 WHERE {LAST_ASKED}",)),
    "purpose": (False, "not as it was when it was answered", (
        f"UPDATE questions SET purpose = 'audit' WHERE {LAST_ASKED}",)),
    "seeds": (False, "not as it was when it was answered", ("UPDATE questions SET guess = 1 WHERE purpose = 'seed'",)),
    "person asked": (False, "asked of somebody else", (
        f"UPDATE questions SET annotator_id = 'eve' WHERE {LAST_ASKED}",)),
    "question gone": (False, "gone from the table of questions", (f"DELETE FROM questions WHERE {LAST_ASKED}",)),
    "person gone": (False, "gone from the table of people", ("DELETE FROM annotators WHERE name = 'ada'",)),
    "image gone": (False, "gone from the table of images", (
        f"DELETE FROM images WHERE image_id = (SELECT image_id FROM events WHERE {LAST_LABEL})",)),
}  # fmt: skip
"""What -> whether the quick form sees it, what is said, and how it is done."""


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_found_and_said(what: str, folder: Path) -> None:
    """S4: the whole form finds each, the quick form what it says, and only then new answers are refused."""
    is_quick, said, statements = DAMAGES[what]
    damage(folder, *statements)
    project = Project(folder)
    assert any(said in found for found in project.store.verify()), project.store.verify()
    assert any(said in found for found in project.store.damage) == is_quick
    session = project.session("ada")
    assert gather(project).provenance["damage"] == project.store.verify()
    if is_quick:
        with pytest.raises(StoreError, match=r"Restore the project's folder from a backup") as refused:
            session.add_class("new")
        assert refused.value.code == "STORE_DAMAGED"
    project.close()


def test_images_are_told_and_exported_as_people_know_them(projects: Path, tmp_path: Path) -> None:
    """P12: "50%.png", not "50%25.png", in what verifying finds and as the name of an exported file."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(pictures / f"{number}0%.png")
    config = Config(source="folder", source_parameters={"path": str(pictures)}, classes=("a", "b"), encoder="pixels")
    project = Project.create(projects / "p", replace(config, n_neighbors=2, batch_size=4))
    session = project.session("ada")
    session.advance()
    for card in session.remaining:
        session.label(card.image_id, "a", event_id=card.event_id)
    registry.create("exporter", "folders").write(gather(project), tmp_path / "labels.zip")
    with zipfile.ZipFile(tmp_path / "labels.zip") as archive:
        assert {f"a/{number}0%-{number}.png" for number in range(4)} <= set(archive.namelist())
    damage(projects / "p", f"UPDATE questions SET image_id = '00%25.png' WHERE {LAST_ASKED}")
    damage(projects / "p", "DELETE FROM images WHERE image_id = '10%25.png'")
    told = " ".join(project.store.verify())
    assert "10%.png" in told
    assert "%25" not in told
    project.close()


@pytest.mark.parametrize(
    "what", [what for what in DAMAGES if "event" not in what and what not in ("label", "one gone")]
)
def test_labels_keep_their_meaning_in_a_damaged_project(what: str, folder: Path, original: Path) -> None:
    """S4: what is exported is what the log says: images and class names are those of the answers, not of a table."""
    expected = labels_of(original)
    damage(folder, *DAMAGES[what][2])
    n_gone = 5 if what == "newest five gone" else 0
    assert list(labels_of(folder).items() - expected.items()) == []
    assert len(labels_of(folder)) == len(expected) - n_gone


def test_what_is_well_is_not_doubted(original: Path) -> None:
    """Neither form finds anything, and the note of the head is that of the log."""
    project = Project(original)
    store = project.store
    assert (store.damage, store.verify(), store.damage_since(storing.head(store))) == ((), [], [])
    project.close()


def test_an_event_is_never_put_on_a_broken_log(folder: Path) -> None:
    """S4: damage that comes while the project is open is seen by the next answer, which is not stored."""
    project = Project(folder)
    session = project.session("ada")
    first, second, *_ = session.remaining
    session.label(first.image_id, "1")
    damage(folder, "UPDATE projects SET head_seq = head_seq - 1")
    n_events = len(project.store.read(log.events))
    with pytest.raises(StoreError) as refused:
        session.label(second.image_id, "1")
    assert refused.value.code == "STORE_DAMAGED"
    assert len(project.store.read(log.events)) == n_events
    project.close()


def test_a_thousand_faults_are_five_and_a_number(folder: Path) -> None:
    """Findings of one kind are counted, not listed without end."""
    damage(folder, f"UPDATE events SET class_id = 7, created_at = 'then' WHERE {IS_LABEL}")
    project = Project(folder)
    found = project.store.verify()
    n_labels = storing.n_labels(project.store)
    assert sum("is not what was stored" in said for said in found) == MOST_SAID
    assert f"... and {n_labels - MOST_SAID} more of this kind." in found
    project.close()


def test_a_flag_that_cannot_be_read_hides_nothing(folder: Path) -> None:
    """S4: a flag that is no JSON, or bytes in a question, stop neither labels nor the export."""
    expected = labels_of(folder)
    project = Project(folder)
    session = project.session("ada")
    asked = session.remaining[0].event_id.rpartition(".")[0]
    session.give(Answer("flag", f"{asked}!1", asked, comment="odd"))
    project.close()
    damage(
        folder,
        "UPDATE events SET payload = '{' WHERE kind = 'flag'",
        f"UPDATE questions SET strategy = x'00ff' WHERE {LAST_ASKED}",
    )
    assert labels_of(folder) == expected


COLUMNS = [(table.name, column.name) for table in schema.metadata.sorted_tables for column in table.columns]


def test_any_value_in_any_column_is_a_finding_or_a_typed_error(tmp_path: Path) -> None:
    """S4: SQLite lets any type stand in any column; nothing but an error of ours comes of it."""
    made = Store.create(tmp_path / "made" / STORE_NAME, "birds", 3)
    made.add_classes(["wren", "owl"])
    made.add_images(ImageRecord(f"{row}.png", row, f"hash{row}") for row in range(4))
    made.record_config({"seed": 3})
    made.seed([(question("0.png", 0), 1)], made.annotator("import").annotator_id)
    made.record_model(ModelRecord(1, made.head_seq, "data", 1, {"accuracy": 0.5}))
    ada = made.annotator("ada").annotator_id
    [asked, _] = made.offer([question(f"{rank}.png", rank=rank) for rank in (1, 2)], ada)
    made.append(answers.flag, asked, ada, f"{asked.question_id}!1", "odd")
    made.append(answers.answer, asked, ada, "label", 1)
    made.close()
    cases = [(table, column, "x'00ff'") for table, column in COLUMNS]
    cases += [("classes", "class_id", "9e18"), ("events", "class_id", "9e18"), ("projects", "head_seq", "'words'")]
    for table, column, value in cases:
        path = tmp_path / f"{table} {column} {value}" / STORE_NAME
        shutil.copytree(made.path.parent, path.parent)
        with suppress(sqlite3.Error):
            damage(
                path.parent,
                f"UPDATE {table} SET {column} = {value} WHERE rowid IN (SELECT max(rowid) FROM {table})",
            )
        with suppress(AnnotatorError), closing(Store(path)) as store:
            store.verify()
            store.snapshot()
            storing.flags(store)
            storing.current(store)


def test_events_that_cannot_be_read_are_findings(folder: Path) -> None:
    """A payload that is no JSON stops nothing: the project opens, and says so."""
    damage(folder, "UPDATE events SET payload = '{' WHERE kind = 'class'")
    project = Project(folder)
    assert any("Class 0 was added as None" in said for said in project.store.damage)
    assert len(project.class_names) == 10
    project.close()


# ---- cut off, and the head made to fit

CUT = (
    "DELETE FROM events WHERE seq > (SELECT max(seq) - 5 FROM events)",
    "UPDATE projects SET head_seq = (SELECT max(seq) FROM events)",
    "UPDATE projects SET head_hash = (SELECT hash FROM events WHERE seq = head_seq)",
)
TRACES = (
    "DELETE FROM models WHERE trained_through > (SELECT head_seq FROM projects)",
    "DELETE FROM questions WHERE chosen_at_seq > (SELECT head_seq FROM projects)",
    "UPDATE questions SET closed_at = NULL, closed_by = NULL WHERE closed_by = 'answer'"
    " AND question_id NOT IN (SELECT question_id FROM events WHERE question_id IS NOT NULL)",
)


def test_a_cut_with_a_head_that_fits_is_found_by_what_refers_to_it(folder: Path) -> None:
    """S4: the newest model and the answered questions speak of events that are gone."""
    damage(folder, *CUT)
    project = Project(folder)
    assert any("has learned from event" in said for said in project.store.damage)
    assert any("counts as answered" in said for said in project.store.verify())
    project.close()


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """The exit code of `annotator words...`."""
    monkeypatch.setattr("sys.argv", ["annotator", *map(str, words)])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.mark.parametrize("name", registry.names("exporter"))
def test_a_cut_without_a_trace_is_found_by_an_export(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """S4: nothing in the file tells, but an export of before does: by its manifest, or by the project's note of it."""
    exporter = registry.create("exporter", name)
    path = tmp_path / f"kept{exporter.suffix}"
    project = Project(folder)
    write_export(project, exporter, path)
    project.close()
    assert run(monkeypatch, "verify", folder, "--export", path) == 0
    assert "as it was left" in capsys.readouterr().out
    damage(folder, *CUT, *TRACES)
    assert run(monkeypatch, "verify", folder) == 1
    noted = capsys.readouterr().out
    (folder / "exports.jsonl").unlink()
    assert run(monkeypatch, "verify", folder) == 0
    capsys.readouterr()
    assert run(monkeypatch, "verify", folder, "--export", path) == 1
    for said in (noted, capsys.readouterr().out):
        assert "The log ended at event" in said
        assert "Restore the project's folder from a backup" in said


def test_an_export_of_another_log_is_found(folder: Path) -> None:
    """S4: a log written anew up to the same number has another hash; another project's export is named as such."""
    project = Project(folder)
    kept = storing.head(project.store)
    project.close()
    with closing(sqlite3.connect(folder / STORE_NAME)) as file, file:
        file.row_factory = sqlite3.Row
        previous = "0" * 64
        for row in file.execute("SELECT * FROM events ORDER BY seq").fetchall():
            changed = dict(row) | ({"client_ms": 1} if row["seq"] == 14 else {})
            previous = event_hash(previous, changed)
            file.execute(
                "UPDATE events SET client_ms = ?, hash = ? WHERE seq = ?",
                (changed["client_ms"], previous, row["seq"]),
            )
        file.execute("UPDATE projects SET head_hash = ?", (previous,))
    project = Project(folder)
    assert project.store.verify() == []
    assert "is not the one that was the newest" in project.store.damage_since(kept)[0]
    assert "another project" in project.store.damage_since(kept | {"project_id": "other"})[0]
    assert project.store.damage_since({"store_head_seq": kept["store_head_seq"]}) == []  # of an earlier version
    assert "no manifest" in project.store.damage_since({})[0]
    project.close()


def test_verify_says_what_it_cannot_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is no database is damage (1); a file that is no export is a mistake of the caller (2)."""
    (tmp_path / "notes.txt").write_text("no manifest")
    assert run(monkeypatch, "verify", folder, "--export", tmp_path / "notes.txt") == 2
    assert "No manifest of an export" in capsys.readouterr().err
    (folder / STORE_NAME).write_bytes(b"not a database at all " * 100)
    assert run(monkeypatch, "verify", folder) == 1
    assert "is not a label store" in capsys.readouterr().out


def test_a_damaged_project_is_exported_with_a_warning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """S4: the file is written, stderr and the manifest say what is wrong; `annotator info` says it too."""
    damage(folder, "UPDATE projects SET head_seq = head_seq + 4")
    assert run(monkeypatch, "export", folder, "--to", tmp_path / "labels.csv") == 0
    assert "the newest 4 are gone" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "labels.csv.manifest.json").read_text())
    assert any("the newest 4 are gone" in said for said in manifest["provenance"]["damage"])
    assert run(monkeypatch, "info", folder) == 0
    assert "the newest 4 are gone" in capsys.readouterr().out


# ---- projects of earlier versions


@pytest.mark.parametrize("schema", sorted(path.stem for path in OLD.glob("*.sqlite")))
def test_a_project_of_each_schema_opens_with_its_labels(schema: str, tmp_path: Path) -> None:
    """Made by an earlier version: nothing is doubted, every label stands, figures are read, and labeling goes on."""
    folder = tmp_path / "projects" / "old"
    folder.mkdir(parents=True)
    shutil.copy(OLD / f"{schema}.sqlite", folder / STORE_NAME)
    project = Project(folder)
    assert project.store.verify() == []
    assert {event.image_id: event.class_id for event in storing.current(project.store) if event.outcome == "label"} == {
        "digits/00000": 0, "digits/00001": 1, "digits/00002": 2, "digits/00003": 3, "digits/00004": 4,
        "digits/00038": 8, "digits/00017": 7, "digits/00033": 5, "digits/00028": 8,
        "digits/00016": 10, "digits/00026": 6, "digits/00021": 1, "digits/00034": 6,
    }  # fmt: skip
    assert [event.outcome for event in storing.current(project.store) if event.outcome != "label"] == [
        "unsure", "none-of-these", "skip"
    ]  # fmt: skip
    assert (project.class_names[-1], list(storing.flags(project.store).values())) == ("smudge", ["half a digit"])
    assert [point.headline for point in project.learner.history] == ["test"] * 3
    assert len(gather(project).rows) == 16
    session = project.session("ada")
    answer_batch(session, oracle_of(project))
    session.advance()
    assert len(project.learner.history) == 4
    assert json.loads(storing.current(project.store)[-1].payload)["asked"]
    assert project.store.verify() == []
    project.close()
