"""Images in a zip: what is listed, what is set aside, what is refused, and that nothing is ever unpacked.

Longer than other files: every refusal of a zip needs a zip that is wrong in just that way.
"""

from __future__ import annotations

import io
import json
import os
import random
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator import registry
from annotator.errors import SourceError
from annotator.ingest import ingest
from annotator.sources import zip_archive
from annotator.sources.reordered import reorder
from annotator.sources.zip_archive import MAX_BYTES, Zip
from annotator.sources.zip_members import MAX_MEMBERS
from annotator.types import ImageSource

LOCAL = struct.Struct("<4s5H3L2H")
ENTRY = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")


def picture(seed: int) -> bytes:
    """A small PNG of its own colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), tuple(np.random.default_rng(seed).integers(0, 256, 3))).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Entry:
    """One member with everything that may be a lie."""

    name: bytes
    content: bytes = b""
    method: int = 0
    flags: int = 0
    mode: int = 0
    declared: int | None = None
    crc: int | None = None
    compressed: bytes | None = None
    place: int | None = None
    """Where the directory says it is."""


def crafted(path: Path, *entries: Entry) -> str:
    """Write a zip by hand, lies and all."""
    body, directory = b"", b""
    for entry in entries:
        stored = entry.content if entry.compressed is None else entry.compressed
        size = len(entry.content) if entry.declared is None else entry.declared
        crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
        common = (entry.flags, entry.method, 0, 0, crc, len(stored), size, len(entry.name))
        place = len(body) if entry.place is None else entry.place
        body += LOCAL.pack(b"PK\3\4", 20, *common, 0) + entry.name + stored
        directory += ENTRY.pack(b"PK\1\2", 20, 20, *common, 0, 0, 0, 0, entry.mode << 16, place) + entry.name
    count = min(len(entries), 0xFFFF)
    end = END.pack(b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    path.write_bytes(body + directory + end)
    return str(path)


def zipped(path: Path, *names: str, method: int = zipfile.ZIP_DEFLATED) -> str:
    """An honest zip with one small picture under each name."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for seed, name in enumerate(names):
            archive.writestr(name, picture(seed))
    return str(path)


def aside(source: ImageSource) -> dict[str, str]:
    return {entry.image_id: entry.code for entry in source.set_aside}


def refusal(make: Callable[[], object]) -> tuple[str, str]:
    """Code and message of the SourceError."""
    with pytest.raises(SourceError) as caught:
        make()
    return caught.value.code, str(caught.value)


def refused(*entries: Entry, path: Path) -> str:
    made = crafted(path, *entries)
    return refusal(lambda: Zip(made))[0]


GOOD = Entry(b"good.png", picture(0))


# --- what is listed


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_images_are_listed_and_read_in_place(tmp_path: Path, method: int) -> None:
    """Ids are the members' paths, sorted; each reads its own bytes; nothing appears on disk."""
    names = ["b.PNG", "a/z.jpg", "a/B.png", "é.bmp", "100%.png", "a b;'\n.png"]
    path = zipped(tmp_path / "set.zip", *names, method=method)
    source = registry.create("source", "zip", {"path": path})
    assert isinstance(source, ImageSource)
    expected = {name.replace("%", "%25"): picture(seed) for seed, name in enumerate(names)}
    assert list(source.ids) == sorted(expected)
    assert {image_id: source.read(row) for row, image_id in enumerate(source.ids)} == expected
    assert (source.array, source.truth, source.class_names, source.held_out) == (None, None, (), None)
    assert (source.set_aside, source.n_ignored) == ((), 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.zip"]


def test_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    """C13: what systems leave in zips, and what is no image by name; folders are entries too."""
    names = "a.png __MACOSX/._a.png .DS_Store x/.DS_Store x/Thumbs.db .hidden/b.png notes.txt folder/".split()
    source = Zip(zipped(tmp_path / "set.zip", *names))
    assert list(source.ids) == ["a.png"]
    assert source.n_ignored == 7
    assert source.set_aside == ()


def test_folders_give_the_truth_on_request(tmp_path: Path) -> None:
    """The first folder in which images differ is the class; one that holds everything is none."""
    source = Zip(
        zipped(tmp_path / "set.zip", "all/cat/1.png", "all/Dog/x/2.png", "all/3.png"), classes_from_folders=True
    )
    assert source.class_names == ("Dog", "cat")
    assert source.truth is not None
    assert dict(zip(source.ids, source.truth.tolist(), strict=True)) == {
        "all/cat/1.png": 1,
        "all/Dog/x/2.png": 0,
        "all/3.png": -1,
    }
    flat = Zip(zipped(tmp_path / "flat.zip", "1.png", "2.png"), classes_from_folders=True)
    assert (flat.class_names, flat.truth) == ((), None)
    one = Zip(zipped(tmp_path / "one.zip", "cat/1.png", "cat/2.png"), classes_from_folders=True)
    assert one.class_names == ("cat",)


def test_a_stamp_is_of_the_zip_and_of_the_member(tmp_path: Path) -> None:
    """Two members differ, and each changes with the file; a file that is gone says so when it is read."""
    path = Path(zipped(tmp_path / "set.zip", "a.png", "b.png"))
    source = Zip(str(path))
    before = source.stamp(0)
    assert before == source.stamp(0)
    assert before != source.stamp(1)
    os.utime(path, (1, 1))
    assert source.stamp(0) != before
    path.unlink()
    assert source.stamp(0) == "missing"
    code, message = refusal(lambda: source.read(0))
    assert code == "SRC_MISSING"
    assert "a.png" in message


def test_another_zip_in_its_place_is_noticed(tmp_path: Path) -> None:
    """Read after the file was replaced, a member is what was listed or an error, never another picture."""
    path = tmp_path / "set.zip"
    source = Zip(zipped(path, "a.png", "b.png"))
    zipped(path, "b.png", "a.png")
    assert refusal(lambda: source.read(0))[0] == "ZIP_CORRUPT"
    path.write_bytes(b"")
    assert refusal(lambda: source.read(0))[0] == "ZIP_CORRUPT"


def test_names_in_old_encodings_are_shown_as_well_as_can_be(tmp_path: Path) -> None:
    """C12: UTF-8 without the flag, Shift-JIS and CP437; the id depends on the name's own bytes alone."""
    names = {
        "猫.png".encode(): "猫.png",
        "テスト.png".encode("cp932"): "テスト.png",
        "größe.png".encode("cp437"): "größe.png",
        "château.png".encode("cp437"): "château.png",
    }
    entries = [Entry(name, picture(seed)) for seed, name in enumerate(names)]
    source = Zip(crafted(tmp_path / "set.zip", *entries))
    assert sorted(source.ids) == sorted(names.values())
    read = {image_id: source.read(row) for row, image_id in enumerate(source.ids)}
    assert read == {names[entry.name]: entry.content for entry in entries}
    for entry in entries:
        assert list(Zip(crafted(tmp_path / "one.zip", entry)).ids) == [names[entry.name]]
    assert json.loads(json.dumps(list(source.ids))) == list(source.ids)


@pytest.mark.parametrize("name", [b"./cat/0.png", b"cat\\0.png", b"/cat/0.png", b".\\cat\\0.png", b"././cat/0.png"])
def test_other_spellings_of_a_name_are_read(tmp_path: Path, name: bytes) -> None:
    """P17: what some programs put in front of names or between folders is no reason to refuse them."""
    source = Zip(crafted(tmp_path / "set.zip", Entry(b"./"), Entry(name, picture(1)), GOOD), classes_from_folders=True)
    assert list(source.ids) == ["cat/0.png", "good.png"]
    assert source.read(0) == picture(1)
    assert (source.class_names, aside(source), source.n_ignored) == (("cat",), {}, 1)
    twice = Zip(crafted(tmp_path / "twice.zip", Entry(name, picture(1)), Entry(b"cat/0.png", picture(2))))
    assert list(aside(twice).values()) == ["ZIP_DUPLICATE"]


def test_what_systems_put_into_zips_is_no_image(tmp_path: Path) -> None:
    """P13, P14: thumbnails, trash and indexes are left out and counted; a file without a suffix is looked at."""
    names = "a.png @eaDir/a.jpg/THUMB.jpg x/#recycle/b.png $RECYCLE.BIN/c.png lost+found/d.png plain scan.pgm".split()
    source = Zip(zipped(tmp_path / "set.zip", *names, "System Volume Information/e.png"))
    assert (list(source.ids), source.n_ignored) == (["a.png", "plain", "scan.pgm"], 5)
    assert source.read(1) == picture(5)
    text = Zip(crafted(tmp_path / "text.zip", Entry(b"README", b"no image"), Entry(b"LICENSE"), GOOD))
    assert (list(text.ids), text.n_ignored, text.set_aside) == (["good.png"], 2, ())


def test_layers_in_a_zip_hold_out_the_test_set(tmp_path: Path) -> None:
    """P18: the classes are the folders inside train and test, also where one folder holds everything."""
    names = "all/train/cat/0.png all/train/dog/1.png all/test/cat/2.png all/test/dog/3.png all/test/4.png".split()
    source = Zip(zipped(tmp_path / "set.zip", *names), classes_from_folders=True)
    assert (source.class_names, source.layers) == (("cat", "dog"), ("test",))
    assert list(source.ids) == [names[4], names[0], names[1]]
    assert source.truth is not None
    assert source.truth.tolist() == [-1, 0, 1]
    assert source.held_out is not None
    assert source.held_out.truth is not None
    assert (list(source.held_out.ids), source.held_out.truth.tolist()) == (names[2:4], [0, 1])
    assert source.held_out.read(1) == picture(3)


# --- what is set aside


@pytest.mark.parametrize(
    "name",
    [
        b"../../etc/x.png",
        b"a/../../x.png",
        b"/../x.png",
        b"C:\\x.png",
        b"C:x.png",
        b"\\\\host\\share\\x.png",
        b"//host/share/x.png",
        b"a\\..\\x.png",
        b"a\0.png",
        b"./../x.png",
        b"a//x.png",
        b"",
        b"n" * 5000 + b".png",
    ],
)
def test_names_that_lead_out_are_set_aside(tmp_path: Path, name: bytes) -> None:
    """C1, C2: the member is refused by its name, whatever it is called; the rest of the zip is read."""
    folder = tmp_path / "in"
    folder.mkdir()
    source = Zip(crafted(folder / "set.zip", Entry(name, picture(1)), GOOD))
    assert list(source.ids) == ["good.png"]
    assert list(aside(source).values()) == ["ZIP_PATH"]
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "set.zip"]


def test_what_cannot_be_used_is_set_aside_one_by_one(tmp_path: Path) -> None:
    """C3, C4, C8, C15: links, devices, zips in zips, encrypted and oddly compressed members; each has its code."""
    source = Zip(
        crafted(
            tmp_path / "set.zip",
            GOOD,
            Entry(b"link.png", b"/etc/passwd", mode=0o120777),
            Entry(b"link", b"..", mode=0o120777),
            Entry(b"device.png", mode=0o020666),
            Entry(b"file.png", picture(2), mode=0o100644),
            Entry(b"inner.zip", Path(zipped(tmp_path / "inner.zip", "a.png")).read_bytes()),
            Entry(b"inner.7z", b"7z"),
            Entry(b"secret.png", picture(3), flags=1),
            Entry(b"lzma.png", picture(4), method=14),
            Entry(b"zstd.png", picture(5), method=93),
            Entry(b"aes.png", picture(6), method=99),
            Entry(b"giant.png", picture(7), declared=MAX_BYTES + 1),
            Entry(b"good.png", picture(8)),
        )
    )
    assert list(source.ids) == ["file.png", "good.png"]
    assert source.read(1) == picture(0)
    codes = aside(source)
    duplicate = next(image_id for image_id in codes if image_id.startswith("good.png%@"))
    assert codes == {
        "link.png": "ZIP_LINK",
        "link": "ZIP_LINK",
        "device.png": "ZIP_LINK",
        "inner.zip": "ZIP_NESTED",
        "inner.7z": "ZIP_NESTED",
        "secret.png": "ZIP_ENCRYPTED",
        "lzma.png": "ZIP_METHOD",
        "zstd.png": "ZIP_METHOD",
        "aes.png": "ZIP_METHOD",
        "giant.png": "ZIP_TOO_LARGE",
        duplicate: "ZIP_DUPLICATE",
    }


def test_every_id_is_its_own(tmp_path: Path) -> None:
    """A refused member of an image's name, before or behind it, is told apart from it."""
    link = Entry(b"good.png", b"/etc/passwd", mode=0o120777)
    source = Zip(crafted(tmp_path / "set.zip", link, GOOD, link))
    assert list(source.ids) == ["good.png"]
    assert source.read(0) == picture(0)
    assert list(aside(source).values()) == ["ZIP_LINK", "ZIP_LINK"]
    assert len({*aside(source), *source.ids}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"crc": 1},
        {"declared": 1000},
        {"declared": 10},
        {"method": 8},
        {"method": 8, "compressed": zlib.compress(picture(1), wbits=-15)[:-3]},
        {"method": 8, "compressed": b""},
    ],
)
def test_a_damaged_member_is_that_one_alone(tmp_path: Path, change: dict[str, int | bytes]) -> None:
    """C10: a wrong checksum or size, or bytes that cannot be inflated, is told when the member is read."""
    bad = Entry(b"bad.png", picture(1), **change)  # type: ignore[arg-type]  # fields of Entry by name
    source = Zip(crafted(tmp_path / "set.zip", bad, GOOD))
    code, message = refusal(lambda: source.read(0))
    assert code == "ZIP_CORRUPT"
    assert "bad.png" in message
    assert source.read(1) == picture(0)


def test_a_member_inflates_no_further_than_it_declares(tmp_path: Path) -> None:
    """C6: 256 MB behind a declared kilobyte are stopped while they are read, in a few hundred kilobytes of memory."""
    squeezer, piece = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 20)
    bomb = b"".join([squeezer.compress(piece) for _ in range(256)]) + squeezer.flush()
    source = Zip(crafted(tmp_path / "set.zip", Entry(b"bomb.png", method=8, compressed=bomb, declared=1000), GOOD))
    tracemalloc.start()
    try:
        assert refusal(lambda: source.read(0))[0] == "ZIP_CORRUPT"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_an_import_goes_on_around_bad_members(tmp_path: Path) -> None:
    """The rest of the import is whole: bad members and bad images are set aside, each with its reason."""
    bad = [
        Entry(b"../out.png", picture(1)),
        Entry(b"crc.png", picture(2), crc=1),
        Entry(b"empty.png"),
        Entry(b"page.png", b"<html>"),
    ]
    good = [Entry(f"cat/{seed}.png".encode(), picture(seed)) for seed in range(6)]
    source = reorder(Zip(crafted(tmp_path / "set.zip", *bad, *good)), order_seed=1)
    pool = ingest(source, tmp_path / "cache")
    assert sorted(pool.ids) == [f"cat/{seed}.png" for seed in range(6)]
    assert {entry.image_id: entry.code for entry in pool.set_aside} == {
        "../out.png": "ZIP_PATH",
        "crc.png": "ZIP_CORRUPT",
        "empty.png": "IMG_EMPTY",
        "page.png": "IMG_FORMAT",
    }


# --- what is refused as a whole


def test_a_million_members_are_refused(tmp_path: Path) -> None:
    """C7: counted in the directory before an entry is parsed, whatever number the zip states."""
    entry = ENTRY.pack(b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    path = tmp_path / "set.zip"
    for n_members, stated in ((1_000_000, 0xFFFF), (MAX_MEMBERS + 1, 1), (1_500_000, 1)):
        end = END.pack(b"PK\5\6", 0, 0, stated, stated, len(entry) * n_members, 4, 0)
        path.write_bytes(b"PK\3\4" + entry * n_members + end)
        code, message = refusal(lambda: Zip(str(path)))
        assert code == "ZIP_TOO_MANY"
        assert "folder" in message
    path.unlink()  # 70 MB


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """Many entries for one place, nested entries, an entry in the directory: a bomb's ways to be small."""
    inner = Entry(b"a.png", picture(1))
    for entries in (
        [inner, Entry(b"b.png", picture(1), place=0)],
        [inner, Entry(b"b.png", picture(1), place=20)],
        [inner, Entry(b"b.png", picture(1), place=10_000)],
        [Entry(b"a.png", picture(1), place=4_000_000_000)],
    ):
        assert refused(*entries, path=tmp_path / "set.zip") == "ZIP_OVERLAP"


def test_what_all_members_inflate_to_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even members that are each small enough may be too much together."""
    monkeypatch.setattr(zip_archive, "MAX_TOTAL", 1000)
    bombs = [Entry(f"{number}.png".encode(), declared=300) for number in range(4)]
    assert refused(*bombs, path=tmp_path / "set.zip") == "ZIP_TOO_LARGE"
    assert len(Zip(crafted(tmp_path / "set.zip", *bombs[:3])).ids) == 3


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (Entry(b"a.png", picture(1), flags=1), "ZIP_ENCRYPTED"),
        (Entry(b"a.png", picture(1), method=14), "ZIP_METHOD"),
        (Entry(b"lib 0.zip", b"PK"), "ZIP_NESTED"),
        (Entry(b"../a.png", picture(1)), "ZIP_PATH"),
        (Entry(b"notes.txt", b"none"), "SRC_EMPTY"),
        (Entry(b"images.npy", b"\x93NUMPY"), "SRC_EMPTY"),
    ],
)
def test_a_zip_without_a_usable_image_says_why(tmp_path: Path, entry: Entry, code: str) -> None:
    """C4, C8, C15: the reason that all members share is the zip's; arrays are sent elsewhere."""
    twice = Entry(b"z" + entry.name if code != "ZIP_PATH" else entry.name, entry.content, entry.method, entry.flags)
    path = crafted(tmp_path / "set.zip", entry, twice)
    told = refusal(lambda: Zip(path))
    assert told[0] == code
    assert (".npz" in told[1]) == (entry.name == b"images.npy")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "0 bytes"),
        (b"<html>", "no zip"),
        (b"Rar!\x1a\x07", "RAR"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x93NUMPY", "NumPy"),
        (b"\x89PNG\r\n\x1a\n", "no zip"),
    ],
)
def test_what_is_no_zip_says_what_it_is(tmp_path: Path, content: bytes, told: str) -> None:
    """C14: nothing at all, or another file under the name of a zip."""
    path = tmp_path / "set.zip"
    path.write_bytes(content)
    code, message = refusal(lambda: Zip(str(path)))
    assert code == "ZIP_FORMAT"
    assert told in message


def test_a_zip_cut_short_is_corrupt(tmp_path: Path) -> None:
    """Wherever an upload or a copy broke off, the file is refused, since its directory is at its end."""
    path = Path(zipped(tmp_path / "set.zip", "a.png", "b.png"))
    whole = path.read_bytes()
    for length in range(2, len(whole), 7):
        path.write_bytes(whole[:length])
        assert refusal(lambda: Zip(str(path)))[0] == "ZIP_CORRUPT"


def test_a_flag_that_lies_about_the_name_is_corrupt(tmp_path: Path) -> None:
    """A name that claims to be UTF-8 and is not; no traceback comes of it."""
    assert refused(Entry(b"\xff.png", picture(1), flags=0x800), path=tmp_path / "set.zip") == "ZIP_CORRUPT"


def test_flipped_bytes_never_give_a_wrong_picture(tmp_path: Path) -> None:
    """With any byte of the zip changed: the same picture, or a typed error, or an entry set aside."""
    path = Path(zipped(tmp_path / "set.zip", "a.png", "b/c.png"))
    whole, rng = path.read_bytes(), random.Random(0)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        try:
            source = Zip(str(path))
        except SourceError:
            continue
        for row in range(len(source.ids)):
            try:
                assert source.read(row) in (picture(0), picture(1))
            except SourceError as error:
                assert error.code == "ZIP_CORRUPT"


def test_a_zip_with_a_file_in_front_is_no_zip(tmp_path: Path) -> None:
    """A program that unpacks itself is a program; a comment behind the directory does no harm."""
    path = Path(zipped(tmp_path / "set.zip", "a.png"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"made by hand"
    assert Zip(str(path)).read(0) == picture(0)
    path.write_bytes(b"MZ" + path.read_bytes())
    assert refusal(lambda: Zip(str(path)))[0] == "ZIP_FORMAT"


def test_large_zips_are_read_by_their_long_numbers(tmp_path: Path) -> None:
    """A zip written as zip64, as programs do that do not know its size beforehand, is like any other."""
    path = tmp_path / "set.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.png", "w", force_zip64=True) as file,
    ):
        file.write(picture(0))
    source = Zip(str(path))
    assert source.read(0) == picture(0)


def test_a_zip_stays_under_the_root(tmp_path: Path) -> None:
    """A path elsewhere, a link that leads out, a folder and nothing at all are refused before they are opened."""
    root = tmp_path / "root"
    root.mkdir()
    outside = zipped(tmp_path / "set.zip", "a.png")
    (root / "link.zip").symlink_to(outside)
    for path in (outside, str(root / "link.zip"), str(root / ".." / "set.zip")):
        assert refusal(lambda path=path: Zip(path, root=str(root)))[0] == "SRC_ESCAPES_ROOT"  # type: ignore[misc]  # bound now
    assert refusal(lambda: Zip(str(root)))[0] == "SRC_NOT_A_FILE"
    assert refusal(lambda: Zip(str(root / "no.zip")))[0] == "SRC_MISSING"
    os.chmod(outside, 0)
    assert refusal(lambda: Zip(outside))[0] == "SRC_PERMISSION"
