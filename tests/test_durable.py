"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from annotator import durable
from annotator.errors import SourceError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Text and bytes, in the place of an older file; no draft is left."""
    for content in ("é\n", b"\0", memoryview(b"more")):
        durable.write(tmp_path / "file", content)
        expected = content.encode() if isinstance(content, str) else bytes(content)
        assert (tmp_path / "file").read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_fails_leaves_the_older_files(tmp_path: Path) -> None:
    """Of several files none is replaced by half; drafts go, and the error is the writer's own."""
    for name in "ab":
        (tmp_path / name).write_text("old")

    def fail_between() -> None:
        with durable.drafts(tmp_path / "a", tmp_path / "b") as (first, _):
            first.write_text("new")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail_between()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Any number at once: the file is always one of theirs, whole."""
    texts = [str(number) * 10_000 for number in range(8)]
    threads = [threading.Thread(target=durable.write, args=(tmp_path / "file", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_text() in texts
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_as_long_as_names_get(tmp_path: Path) -> None:
    """The draft's own name is short."""
    durable.write(tmp_path / ("x" * 255), "content")
    assert (tmp_path / ("x" * 255)).read_text() == "content"


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    """It is its owner's alone; who came later reads what was there first."""
    durable.write_new(tmp_path / "key", b"first")
    durable.write_new(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """Built aside; where somebody was sooner, theirs stays; what fails leaves nothing."""

    def build(text: str, fails: bool = False) -> None:
        with durable.building(tmp_path / "deep" / "folder") as draft:
            (draft / "inner").mkdir()
            (draft / "inner" / "file").write_text(text)
            if fails:
                raise ValueError(text)

    with pytest.raises(ValueError, match="broken"):
        build("broken", fails=True)
    assert list((tmp_path / "deep").iterdir()) == []
    for text in ("first", "second"):
        build(text)
    assert (tmp_path / "deep" / "folder" / "inner" / "file").read_text() == "first"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SourceError, match="Choose another --projects folder") as raised,
        durable.building(tmp_path / "file" / "folder"),
    ):
        pass
    assert raised.value.code == "CACHE_READONLY"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_has_one_wording(number: int, tmp_path: Path) -> None:
    """A disk, a quota, a limit: each is told as such, with the advice to free some space."""
    error = OSError(number, os.strerror(number), "/secret/place")
    assert durable.no_room(error)
    told = durable.refusal(tmp_path, error)
    assert told.startswith(f"Cannot write {tmp_path}: {os.strerror(number)}. Free some space")
    assert "secret" not in told


def test_other_faults_are_no_lack_of_room() -> None:
    """Except NumPy's, which tells no number."""
    assert not durable.no_room(OSError(errno.EACCES, "Permission denied"))
    assert not durable.no_room(ValueError("5000 requested and 12 written"))
    assert durable.no_room(OSError("5000 requested and 12 written"))
