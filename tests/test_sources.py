"""Where images come from, and what paths and names made of untrusted text may become.

Longer than other files: folders and digits, and every name and path that somebody else may have chosen.
"""

from __future__ import annotations

import io
import json
import os
import unicodedata
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from annotator import decode, registry
from annotator.errors import ConfigError, SourceError
from annotator.ingest import ingest
from annotator.paths import inside, safe_join, slug
from annotator.sources.digits import Digits
from annotator.sources.folder import MAX_BYTES, Folder, class_folders
from annotator.sources.reordered import reorder
from annotator.types import ImageSource


def picture(seed: int) -> bytes:
    """A small PNG of its own colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), tuple(np.random.default_rng(seed).integers(0, 256, 3))).save(buffer, "PNG")
    return buffer.getvalue()


def put(folder: Path, *names: str) -> None:
    """One small picture under each name, sub-folders made as needed."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed))


def aside(source: ImageSource) -> dict[str, str]:
    return {entry.image_id: entry.code for entry in source.set_aside}


def refusal(path: Path | str, root: Path | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        Folder(str(path), root=None if root is None else str(root))
    return caught.value.code


# --- paths


@pytest.mark.parametrize(
    "part",
    [
        "..",
        "../x.png",
        "a/../../x.png",
        "a/..",
        "/etc/passwd",
        "//host/share/x.png",
        "C:\\x.png",
        "C:x.png",
        "a/c:x.png",
        "\\\\host\\share\\x.png",
        "a\\..\\..\\x.png",
        "a\0.png",
        "",
        ".",
        "a//b",
        "a/",
    ],
)
def test_no_text_leads_out_of_the_root(tmp_path: Path, part: str) -> None:
    """Parent steps, absolute paths, drives, shares, backslashes, NUL and empty parts are refused before any look-up."""
    with pytest.raises(SourceError) as caught:
        safe_join(tmp_path, part)
    assert caught.value.code == "SRC_ESCAPES_ROOT"


def test_a_path_needs_a_part(tmp_path: Path) -> None:
    """The root itself is no answer: what is joined names something in it."""
    with pytest.raises(SourceError):
        safe_join(tmp_path)


def test_plain_names_are_joined(tmp_path: Path) -> None:
    """Parts and the folders in them become one path under the root, odd but harmless names included."""
    assert safe_join(tmp_path, "cats/a.png") == tmp_path / "cats" / "a.png"
    assert safe_join(tmp_path, "cats", "..a b;'\n.png") == tmp_path / "cats" / "..a b;'\n.png"
    assert safe_join(Path("relative"), "a.png") == Path("relative").absolute() / "a.png"


@given(st.lists(st.text(alphabet="./\\:aC\0 é", max_size=8), max_size=3))
@example(["::"])
def test_whatever_is_joined_stays_below(parts: list[str]) -> None:
    """Any text gives a path strictly below the root, by POSIX rules and by Windows rules, or the typed error."""
    root = Path("/srv/images")
    try:
        joined = safe_join(root, *parts)
    except SourceError:
        return
    assert joined != root
    assert joined.is_relative_to(root)
    windows = PureWindowsPath("D:/images", *parts)
    assert windows.is_relative_to("D:/images")
    assert ".." not in windows.parts


def test_inside_follows_links(tmp_path: Path) -> None:
    """A link below the root that leads elsewhere is outside; a sibling with a longer name is no child."""
    root, other = tmp_path / "root", tmp_path / "root2"
    root.mkdir()
    other.mkdir()
    (root / "out").symlink_to(other)
    (tmp_path / "in").symlink_to(root)
    assert inside(root, root)
    assert inside(root, root / "a" / ".." / "b.png")
    assert inside(root, tmp_path / "in" / "b.png")
    assert not inside(root, other)
    assert not inside(root, root / "out" / "b.png")
    assert not inside(root, root / ".." / "root2")
    assert not inside(root, Path("a\0b"))


@given(st.text(max_size=200))
def test_a_slug_is_a_safe_file_name_everywhere(text: str) -> None:
    """ASCII, at most 60 characters, not empty, no dots at its ends or in pairs."""
    name = slug(text, "class")
    assert name.isascii()
    assert 1 <= len(name) <= 60
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert name[0] not in ".-"
    assert name[-1] not in ".-"
    assert ".." not in name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tabby cat", "tabby-cat"),
        ("Änderung é", "Anderung-e"),
        ("../../x", "x"),
        ("a/b\\c:d", "a-b-c-d"),
        ("x" * 300, "x" * 60),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("COM¹", "_COM1"),
        ("console", "console"),
        ("=cmd|' /C calc'!A0", "cmd-C-calc-A0"),
        ("...", "class"),
        ("🐈", "class"),
        ("\u202egnp.exe", "gnp.exe"),
        ("", "class"),
    ],
)
def test_what_a_slug_looks_like(text: str, name: str) -> None:
    """Accents go, runs of anything else become a dash, device names get an underscore; the fallback is for nothing."""
    assert slug(text, "class") == name


# --- digits


def test_digits_are_exactly_proportional() -> None:
    """Over the largest value the pixels are exactly scikit-learn's v / 16, so results on them are the same."""
    digits, bunch = Digits(held_out=0), load_digits()
    assert digits.array.shape == (1797, 8, 8, 1)
    assert digits.array.dtype == np.uint8
    assert np.array_equal(digits.array[..., 0] / digits.array.max(), bunch.images / 16)
    assert np.array_equal(digits.truth, bunch.target)
    assert digits.class_names == tuple("0123456789")
    assert digits.held_out is None


def test_held_out_digits_are_drawn_by_seed() -> None:
    """The same seed holds out the same images, another seed others; none is in the pool, and both keep their order."""
    digits = Digits()
    test = digits.held_out
    assert test is not None
    assert (len(digits.ids), len(test.ids)) == (1297, 500)
    assert sorted([*digits.ids, *test.ids]) == list(Digits(held_out=0).ids)
    assert list(digits.ids) == sorted(digits.ids)
    assert test.class_names == digits.class_names
    assert test.held_out is None
    again, other = Digits().held_out, Digits(seed=1).held_out
    assert again is not None
    assert other is not None
    assert again.ids == test.ids
    assert other.ids != test.ids
    assert np.array_equal(test.truth, load_digits().target[[int(image_id[7:]) for image_id in test.ids]])


def test_a_digit_can_be_read_as_a_file() -> None:
    """`read` gives the same pixels as `array`, as a PNG."""
    digits = Digits()
    shown = np.asarray(decode.decode(digits.read(7)).image)
    assert np.array_equal(shown, np.repeat(digits.array[7], 3, axis=2))


@pytest.mark.parametrize(("held_out", "seed"), [(-1, 0), (1797, 0), (5, -1)])
def test_impossible_digits_are_refused(held_out: int, seed: int) -> None:
    """At least one image stays in the pool; a seed is not negative."""
    with pytest.raises(ConfigError):
        Digits(held_out=held_out, seed=seed)


# --- another order


def test_the_order_is_that_of_the_reference() -> None:
    """Shuffled by seed 0 and cut to 330, the digits are the pool of scikit-learn's example, row by row."""
    order = np.arange(1797)
    np.random.RandomState(0).shuffle(order)
    pool = reorder(Digits(held_out=0), limit=330, order_seed=0)
    assert pool.array is not None
    assert pool.truth is not None
    assert list(pool.ids) == [f"digits/{row:05d}" for row in order[:330]]
    assert np.array_equal(pool.array[:, :, :, 0] / pool.array.max(), load_digits().images[order[:330]] / 16)
    assert np.bincount(pool.truth[40:]).tolist() == [22, 26, 29, 27, 23, 33, 35, 33, 28, 34]
    assert pool.truth[[128, 64, 202, 171, 71]].tolist() == [1, 1, 1, 1, 3]


def test_reordered_rows_read_their_own_file(tmp_path: Path) -> None:
    """Ids, truth, bytes and stamps move together; what was set aside stays known."""
    put(tmp_path, *(f"{name}/{index}.png" for name in "ab" for index in range(4)))
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    source = Folder(str(tmp_path), classes_from_folders=True)
    reordered = reorder(source, limit=5, order_seed=3)
    assert source.truth is not None
    assert reordered.truth is not None
    rows = [source.ids.index(image_id) for image_id in reordered.ids]
    assert rows != sorted(rows)
    assert [reordered.read(row) for row in range(5)] == [source.read(row) for row in rows]
    assert [reordered.stamp(row) for row in range(5)] == [source.stamp(row) for row in rows]
    assert reordered.truth.tolist() == source.truth[rows].tolist()
    assert reordered.array is None
    assert reordered.set_aside == source.set_aside
    assert len(reordered.set_aside) == 1


def test_arranging_by_nothing_changes_nothing() -> None:
    """Without limit and order the source itself comes back; a limit beyond the end keeps all; the test set passes."""
    digits = Digits()
    assert reorder(digits) is digits
    assert reorder(digits, limit=5000).ids == digits.ids
    assert reorder(digits, limit=5).held_out is digits.held_out


@pytest.mark.parametrize(("limit", "order_seed"), [(0, None), (-3, None), (None, -1), (None, 2**32)])
def test_impossible_orders_are_refused(limit: int | None, order_seed: int | None) -> None:
    """A limit keeps an image at least; a seed is one that numpy takes."""
    with pytest.raises(ConfigError):
        reorder(Digits(), limit, order_seed)


# --- a folder


def test_every_source_keeps_to_the_protocol(tmp_path: Path) -> None:
    """Registered sources, made from text as a command line gives it, have all that `ImageSource` names."""
    put(tmp_path, "a.png")
    folder = registry.create("source", "folder", {"path": str(tmp_path), "classes_from_folders": "yes"})
    digits = registry.create("source", "digits", {"held_out": "10"})
    for source in (folder, digits, digits.held_out, reorder(folder, limit=1)):
        assert isinstance(source, ImageSource)


def test_a_folder_is_listed_by_its_bytes(tmp_path: Path) -> None:
    """All sub-folders, images by suffix in any case, in the order of the path's bytes; each id reads its own file."""
    put(tmp_path, "b.PNG", "a/z.jpg", "a/B.png", "a-b/x.webp", "Z.gif", "a/deep/er/c.JPeG", "é.bmp")
    source = Folder(str(tmp_path))
    assert list(source.ids) == ["Z.gif", "a-b/x.webp", "a/B.png", "a/deep/er/c.JPeG", "a/z.jpg", "b.PNG", "é.bmp"]
    assert [source.read(row) for row in range(7)] == [(tmp_path / image_id).read_bytes() for image_id in source.ids]
    assert source.class_names == ()
    assert source.truth is None
    assert source.set_aside == ()


def test_what_is_not_an_image_by_name_is_ignored(tmp_path: Path) -> None:
    """Hidden files, litter and other suffixes are no images; formats that are not decoded are, to be reported.

    P13, P14: what was passed over is counted, a hidden folder as one.
    """
    put(tmp_path, "a.png", ".hidden.png", ".git/b.png", "__MACOSX/._a.png", ".DS_Store", "Thumbs.db", "notes.txt")
    put(tmp_path, "x.tif", "x.heic", "x.svg", "x.avif", "x.psd")
    source = Folder(str(tmp_path))
    assert list(source.ids) == ["a.png", "x.avif", "x.heic", "x.psd", "x.svg", "x.tif"]
    assert source.n_ignored == 6


def test_images_of_other_formats_and_without_a_suffix_are_listed(tmp_path: Path) -> None:
    """P13: each is read, or set aside with its reason; other files without a suffix are only counted."""
    put(tmp_path, "0.png", "plain", "IMG_0001")
    for name, content in {
        "a.ppm": b"P6\n2 2\n255\n" + bytes(12),
        "b.pgm": b"P5 2 2 255\n....",
        "raw": b"P2\n1 1\n9\n1",
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "README").write_text("no image")
    (tmp_path / "empty").touch()
    source = Folder(str(tmp_path))
    assert list(source.ids) == ["0.png", "IMG_0001", "a.ppm", "b.pgm", "plain", "raw"]
    assert source.n_ignored == 2
    pool = ingest(source, tmp_path / "cache")
    assert list(pool.ids) == ["0.png", "IMG_0001", "plain"]
    assert [entry.image_id for entry in pool.set_aside] == ["a.ppm", "b.pgm", "raw"]
    assert all("Netpbm" in entry.reason for entry in pool.set_aside)
    assert pool.n_ignored == 2


def test_a_link_without_a_suffix_lets_nothing_in(tmp_path: Path) -> None:
    """P13, B1: what lies outside is not looked at, whatever it is called; pipes are not opened."""
    put(tmp_path, "in/a.png", "out/secret")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out" / "secret")
    os.mkfifo(tmp_path / "in" / "pipe")
    source = Folder(str(tmp_path / "in"))
    assert (list(source.ids), source.n_ignored, source.set_aside) == (["a.png"], 2, ())


SYSTEM_FOLDERS = (
    "@eaDir/x.jpg #recycle $RECYCLE.BIN .Trash-1000/files .Trashes lost+found __MACOSX @tmp .thumbnails cat/@eaDir"
).split()


def test_what_systems_put_beside_photos_is_left_out(tmp_path: Path) -> None:
    """P14: thumbnails, trash and indexes of NAS and operating systems are no images and no classes, and are counted."""
    put(tmp_path, "cat/0.png", "dog/1.png", *(f"{name}/SYNOFILE_THUMB_M.jpg" for name in SYSTEM_FOLDERS))
    put(tmp_path, "System Volume Information/x.png")
    source = Folder(str(tmp_path), classes_from_folders=True)
    assert list(source.ids) == ["cat/0.png", "dog/1.png"]
    assert source.class_names == class_folders(str(tmp_path)).names == ("cat", "dog")
    assert source.n_ignored == len(SYSTEM_FOLDERS) + 1


def test_numeric_class_folders_are_in_natural_order(tmp_path: Path) -> None:
    """P19: 2 before 10; the images themselves stay in the order of their paths, which projects hang on."""
    put(tmp_path, *(f"{number}/0.png" for number in range(1, 13)), "x10/0.png", "x9/0.png")
    source = Folder(str(tmp_path), classes_from_folders=True)
    assert source.class_names == (*map(str, range(1, 13)), "x9", "x10")
    assert class_folders(str(tmp_path)).names == source.class_names
    assert list(source.ids[:3]) == ["1/0.png", "10/0.png", "11/0.png"]
    assert source.truth is not None
    assert source.truth[:3].tolist() == [0, 9, 10]


@pytest.mark.parametrize(
    ("names", "classes", "held_out"),
    [
        ("train/cat/0 train/dog/1 test/cat/2 test/dog/3", "cat dog", "test/cat/2 test/dog/3"),
        ("Training_Set/training_set/cat/0 test_set/test_set/dog/1", "cat dog", "test_set/test_set/dog/1"),
        ("train/cat/0 valid/cat/1 test/cat/2", "cat", "test/cat/2 valid/cat/1"),
        ("train/cat/0 train/dog/1 test/2 test/3", "cat dog", ""),
        ("train/0 test/1", "test train", ""),
        ("train/cat/0 test/cat/1 loose", "test train", ""),
        ("train/cat/0 bus/cat/1", "bus train", ""),
        ("train/cat/0 train/dog/1", "train", ""),
    ],
)
def test_layers_are_seen(tmp_path: Path, names: str, classes: str, held_out: str) -> None:
    """P18: in train and test the classes are the folders inside, and the images of test are held out."""
    put(tmp_path, *(f"{name}.png" for name in names.split()))
    source = Folder(str(tmp_path), classes_from_folders=True)
    assert source.class_names == class_folders(str(tmp_path)).names == tuple(classes.split())
    found = () if source.held_out is None else source.held_out.ids
    assert list(found) == [f"{name}.png" for name in held_out.split()]
    assert class_folders(str(tmp_path)).layers == tuple(sorted({name.partition("/")[0] for name in held_out.split()}))
    assert sorted([*source.ids, *found]) == sorted(Folder(str(tmp_path)).ids)
    for part in filter(None, (source, source.held_out)):
        assert part.truth is not None
        told = {image_id: code for image_id, code in zip(part.ids, part.truth.tolist(), strict=True) if code >= 0}
        assert all(source.class_names[code] in image_id.split("/") for image_id, code in told.items())
        assert [part.read(row) for row in range(len(part.ids))] == [(tmp_path / name).read_bytes() for name in part.ids]


def test_an_earlier_listing_lists_as_it_did(tmp_path: Path) -> None:
    """Projects keep theirs: no image that they asked about is left out, and none is added."""
    put(tmp_path, "train/cat/0.png", "test/cat/@eaDir/1.png", "train/plain", "train/cat/x.pgm", "__MACOSX/y.png")
    source = Folder(str(tmp_path), classes_from_folders=True, listing=1)
    assert list(source.ids) == ["test/cat/@eaDir/1.png", "train/cat/0.png"]
    assert (source.class_names, source.held_out) == (("test", "train"), None)
    with pytest.raises(ConfigError, match="newest is"):
        Folder(str(tmp_path), listing=99)


def test_class_folders_give_the_truth_on_request(tmp_path: Path) -> None:
    """The first folder is the class, however deep the image; an image beside the folders has none.

    P12: it is called as on the disk, unlike in the ids.
    """
    put(tmp_path, "cat/1.png", "cat/more/2.png", "Dog/1.png", "loose.png", "100%/1.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    source = Folder(str(tmp_path), classes_from_folders=True)
    assert source.class_names == class_folders(str(tmp_path)).names == ("100%", "Dog", "cat")
    assert source.truth is not None
    assert dict(zip(source.ids, source.truth.tolist(), strict=True)) == {
        "100%25/1.png": 0,
        "Dog/1.png": 1,
        "cat/1.png": 2,
        "cat/more/2.png": 2,
        "loose.png": -1,
    }


def test_folders_that_read_alike_are_two_classes(tmp_path: Path) -> None:
    """P12: a byte that is no UTF-8 is written "%FF", as another folder may be called."""
    for name in (b"%FF", b"\xff"):
        (tmp_path / os.fsdecode(name)).mkdir()
        (tmp_path / os.fsdecode(name) / "a.png").write_bytes(picture(0))
    source = Folder(str(tmp_path), classes_from_folders=True)
    assert source.class_names == class_folders(str(tmp_path)).names == ("%25FF", "%FF")


def test_a_folder_without_sub_folders_knows_no_truth(tmp_path: Path) -> None:
    """Where no image has a class folder, there is nothing to offer."""
    put(tmp_path, "a.png")
    source = Folder(str(tmp_path), classes_from_folders=True)
    assert (source.class_names, source.truth) == ((), None)
    assert class_folders(str(tmp_path)).names == ()


def test_a_link_out_of_the_folder_is_set_aside(tmp_path: Path) -> None:
    """B1: neither a linked file nor a linked folder lets anything from outside in."""
    put(tmp_path, "in/a.png", "out/secret.png")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out" / "secret.png")
    (tmp_path / "in" / "dir").symlink_to(tmp_path / "out")
    source = Folder(str(tmp_path / "in"))
    assert list(source.ids) == ["a.png"]
    assert aside(source) == {"link.png": "SRC_ESCAPES_ROOT", "dir": "SRC_ESCAPES_ROOT"}


def test_a_link_inside_the_folder_counts_as_its_file(tmp_path: Path) -> None:
    """A linked file is an image under the link's name; a linked folder's images are listed only where they are."""
    put(tmp_path, "all/a.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").symlink_to(Path("..") / "all" / "a.png")
    (tmp_path / "dog").symlink_to(tmp_path / "all")
    source = Folder(str(tmp_path))
    assert list(source.ids) == ["all/a.png", "cat/1.png"]
    assert source.read(1) == source.read(0)
    assert aside(source) == {}


def test_loops_of_links_end(tmp_path: Path) -> None:
    """B2: a folder that links to its parent is not entered; a file that links to itself or to nothing is set aside."""
    put(tmp_path, "a/b.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "me.png").symlink_to(tmp_path / "me.png")
    (tmp_path / "nothing.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    source = Folder(str(tmp_path))
    assert list(source.ids) == ["a/b.png"]
    assert aside(source) == {"me.png": "SRC_MISSING", "nothing.png": "SRC_MISSING"}


def test_unreadable_entries_are_set_aside(tmp_path: Path) -> None:
    """B4: a file or folder that nobody may read is set aside with its reason, whoever runs this; the rest goes on."""
    put(tmp_path, "a.png", "locked.png", "closed/c.png")
    (tmp_path / "locked.png").chmod(0)
    (tmp_path / "closed").chmod(0)
    source = Folder(str(tmp_path))
    (tmp_path / "closed").chmod(0o700)
    assert list(source.ids) == ["a.png"]
    assert aside(source) == {"locked.png": "SRC_PERMISSION", "closed": "SRC_PERMISSION"}
    assert all("permission" in entry.reason for entry in source.set_aside)


def test_equal_names_are_two_images(tmp_path: Path) -> None:
    """B5, B6: the same name in two folders, or names that differ by case, are different images."""
    put(tmp_path, "a/1.png", "b/1.png", "x.png", "X.png")
    assert list(Folder(str(tmp_path)).ids) == ["X.png", "a/1.png", "b/1.png", "x.png"]


def test_both_spellings_of_an_accent_are_two_images(tmp_path: Path) -> None:
    """B7: one é or e with an accent are two names to the file system, and two stable ids."""
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    put(tmp_path, *names)
    source = Folder(str(tmp_path))
    assert sorted(source.ids) == sorted(names)
    assert len({source.read(0), source.read(1)}) == 2


ODD_NAMES = [
    b"new\nline.png",
    b"tab\t.png",
    b"quote\"'.png",
    b"a,b;c.png",
    b"=cmd.png",
    b"-rf.png",
    "\u202egnp.png".encode(),
    "🐈.png".encode(),
    b"back\\slash.png",
    b"C:drive.png",
    b"latin1-\xe9.png",
    b"%E9.png",
    b"\xe9.png",
    b"100%.png",
    b"100%25.png",
    b"a..png..png",
    b" .png",
    b"n" * 251 + b".png",
]


def test_odd_names_round_trip(tmp_path: Path) -> None:
    """B8, B10: every name that a disk can hold has its own id, from which its bytes come back, and can be read."""
    for seed, name in enumerate(ODD_NAMES):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(picture(seed))
    source = Folder(str(tmp_path))
    assert source.set_aside == ()
    assert [unquote_to_bytes(image_id) for image_id in source.ids] == sorted(ODD_NAMES)
    assert len(set(source.ids)) == len(ODD_NAMES)
    assert json.loads(json.dumps(list(source.ids))) == list(source.ids)
    assert all(image_id.encode() for image_id in source.ids)
    shown = {unquote_to_bytes(image_id): source.read(row) for row, image_id in enumerate(source.ids)}
    assert shown == {name: picture(seed) for seed, name in enumerate(ODD_NAMES)}


def test_a_path_too_long_to_open_is_set_aside(tmp_path: Path) -> None:
    """B10: beyond 4,096 bytes of path an entry is refused, and the scan goes on."""
    put(tmp_path, "a.png")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=descriptor)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    source = Folder(str(tmp_path))
    assert list(source.ids) == ["a.png"]
    assert list(aside(source).values()) == ["SRC_NAME_TOO_LONG"]


def test_pipes_and_giants_are_set_aside(tmp_path: Path) -> None:
    """What is no file, or too large for one, is never opened: a pipe would wait for ever."""
    put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "giant.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    source = Folder(str(tmp_path))
    assert list(source.ids) == ["a.png"]
    assert aside(source) == {"pipe.png": "SRC_NOT_A_FILE", "giant.png": "SRC_TOO_LARGE"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("removed", "SRC_MISSING"),
        ("locked", "SRC_PERMISSION"),
        ("linked out", "SRC_ESCAPES_ROOT"),
        ("folder linked out", "SRC_ESCAPES_ROOT"),
        ("made a pipe", "SRC_NOT_A_FILE"),
        ("grown", "SRC_TOO_LARGE"),
    ],
)
def test_a_file_is_judged_again_when_it_is_read(tmp_path: Path, change: str, code: str) -> None:
    """Between listing and reading anything may happen; reading stays inside and says what is wrong."""
    put(tmp_path, "in/a/b.png", "out/b.png")
    source = Folder(str(tmp_path / "in"))
    before = source.stamp(0)
    path = tmp_path / "in" / "a" / "b.png"
    if change == "locked":
        path.chmod(0)
    elif change == "grown":
        os.truncate(path, MAX_BYTES + 1)
    else:
        path.unlink()
    if change == "linked out":
        path.symlink_to(tmp_path / "out" / "b.png")
    elif change == "folder linked out":
        path.parent.rmdir()
        path.parent.symlink_to(tmp_path / "out")
    elif change == "made a pipe":
        os.mkfifo(path)
    with pytest.raises(SourceError, match=r"b\.png") as caught:
        source.read(0)
    assert caught.value.code == code
    assert (source.stamp(0) == before) == (change == "locked")


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    """Other content, or another file in its place, gives another stamp; nothing else does."""
    put(tmp_path, "a.png", "b.png")
    source = Folder(str(tmp_path))
    before = source.stamp(0)
    assert source.stamp(0) == before
    assert source.stamp(1) != before
    (tmp_path / "a.png").write_bytes(picture(5) + b"more")
    assert source.stamp(0) != before
    (tmp_path / "a.png").unlink()
    assert source.stamp(0) == "missing"


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    """Missing, a file, nothing typed, no permission, no images: each has its code."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").write_bytes(picture(0))
    (tmp_path / "locked").mkdir(mode=0)
    assert refusal(tmp_path / "nowhere") == "SRC_MISSING"
    assert refusal("") == "SRC_MISSING"
    assert refusal("a\0b") == "SRC_MISSING"
    assert refusal(tmp_path / "file.png") == "SRC_NOT_A_FOLDER"
    assert refusal(tmp_path / "locked") == "SRC_PERMISSION"
    assert refusal(tmp_path / "empty") == "SRC_EMPTY"


def test_a_folder_with_nothing_readable_says_what_was_set_aside(tmp_path: Path) -> None:
    """Empty because everything was refused is not the same as empty."""
    put(tmp_path, "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(SourceError, match=r"1 set aside, first 'a\.png'.*permission"):
        Folder(str(tmp_path))


def test_folders_stay_under_the_root(tmp_path: Path) -> None:
    """A path outside the operator's root is refused without a word on whether it exists, links and '..' included."""
    put(tmp_path, "root/photos/cat/a.png", "other/b.png")
    root = tmp_path / "root"
    (root / "link").symlink_to(tmp_path / "other")
    assert list(Folder(str(root / "photos"), root=str(root)).ids) == ["cat/a.png"]
    assert list(Folder(str(root), root=str(root)).ids) == ["photos/cat/a.png"]
    for outside in (tmp_path / "other", tmp_path / "nowhere", root / ".." / "other", root / "link", "/etc", ""):
        assert refusal(outside, root) == "SRC_ESCAPES_ROOT"
    with pytest.raises(SourceError):
        class_folders(str(tmp_path / "other"), root=str(root))
    assert class_folders(str(root / "photos"), root=str(root)).names == ("cat",)


def test_the_source_may_be_reached_by_a_link(tmp_path: Path) -> None:
    """The folder itself may be a link: it is the one that was asked for."""
    put(tmp_path, "real/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    source = Folder(str(tmp_path / "link"))
    assert list(source.ids) == ["a.png"]
    assert source.read(0) == picture(0)


def test_bad_images_are_listed_and_found_by_the_decoder(tmp_path: Path) -> None:
    """The source judges names and files; content is judged by whoever decodes it, one file at a time."""
    put(tmp_path, "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"<html>")
    (tmp_path / "empty.png").touch()
    source = Folder(str(tmp_path))
    assert list(source.ids) == ["bad.jpg", "empty.png", "good.png"]
    assert source.read(1) == b""
