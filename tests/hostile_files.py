"""Files made to harm, by seed: damaged images, zips, .npz and IDX files, each through the source that would read it.

    python -m tests.hostile_files --count 300 --seed 8

Every file is listed, imported and opened in full size as the app does it. What may come out is an import, an entry that
is set aside with its reason, or an AnnotatorError; anything else is a fault and is told with what makes it again. The
last line is one JSON object.

Longer than other files: a kind of harm is a few lines, and there are many kinds in each format.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

from annotator import registry
from annotator.errors import AnnotatorError
from annotator.ingest import ingest
from annotator.pictures import Pictures
from annotator.sources.arrays import KEYS
from annotator.types import ImageSource

SECONDS = 10.0
"""For one file; images are imported some at a time, which have so long for each."""
MEGABYTES = 2000
"""Of this process and of any child; the largest array that is allowed takes half of it."""
IMAGES_A_SOURCE = 8
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
Random = np.random.Generator
Change = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Hostile:
    """One source to try: the files that it reads lie at `path`."""

    source: str
    path: Path
    n_files: int = 1
    n_good: int = 0
    """Images in it that nothing is wrong with: these must come through."""


@dataclass(frozen=True)
class Outcome:
    """What became of one source."""

    source: str
    number: int
    result: str
    """"imported", the code of the AnnotatorError, or "fault"."""
    seconds: float
    n_files: int
    n_imported: int = 0
    fault: str = ""


class TookTooLong(BaseException):  # else a decoder would take it for a damaged file
    """Raised in the middle of whatever hangs."""


# ---- any bytes


def place(content: bytes, rng: Random) -> int:
    """A place in the head, the middle or the tail."""
    last = max(1, len(content) - 1)
    where = rng.integers(3)
    if where == 0:
        return int(rng.integers(min(64, last)))
    return int(rng.integers(last)) if where == 1 else last - int(rng.integers(min(64, last)))


def truncated(content: bytes, rng: Random) -> bytes:
    return content[: place(content, rng)]


def flipped(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.integers(1, 20)):
        changed[place(content, rng) % len(changed)] = rng.integers(256)
    return bytes(changed)


def lying(content: bytes, rng: Random) -> bytes:
    """A number in it says something else: 2 or 4 bytes, either end first."""
    code = str(rng.choice(["<H", ">H", "<I", ">I"]))
    at, size = place(content, rng), struct.calcsize(code)
    value = int(rng.choice(EXTREMES)) & (256**size - 1)
    return content[:at] + struct.pack(code, value) + content[at + size :]


def repeated(content: bytes, rng: Random) -> bytes:
    start, end = sorted((place(content, rng), place(content, rng)))
    return content[:end] + content[start:end] * int(rng.integers(1, 40)) + content[end:]


def cut_out(content: bytes, rng: Random) -> bytes:
    start, end = sorted((place(content, rng), place(content, rng)))
    return content[:start] + content[end:]


def filled(content: bytes, rng: Random) -> bytes:
    start, end = sorted((place(content, rng), place(content, rng)))
    return content[:start] + bytes([int(rng.choice([0, 255, 0x20]))]) * (end - start) + content[end:]


def with_junk(content: bytes, rng: Random) -> bytes:
    junk, at = rng.bytes(int(rng.integers(1, 5000))), int(rng.choice([0, place(content, rng), len(content)]))
    return content[:at] + junk + content[at:]


def spliced(content: bytes, rng: Random) -> bytes:
    other = picture(rng)
    return content[: place(content, rng)] + other[place(other, rng) :]


CHANGES: tuple[Change, ...] = (truncated, flipped, lying, repeated, cut_out, filled, with_junk, spliced)


def changed(content: bytes, rng: Random, more: tuple[Change, ...] = ()) -> bytes:
    """One to three changes, one behind the other."""
    for _ in range(rng.integers(1, 4)):
        changes = CHANGES + more * 3
        content = changes[rng.integers(len(changes))](content or b"\0", rng)
    return content


# ---- images

SAVED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "RGB", {"quality": 60}),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    ("JPEG", "CMYK", {}),
    ("JPEG", "L", {"progressive": True, "comment": b"x" * 300, "exif": b"Exif\0\0MM\0*\0\0\0\x08" + bytes(40)}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "I;16", {}),
    ("PNG", "1", {"icc_profile": b"icc" * 100}),
    ("GIF", "P", {"save_all": True}),
    ("WEBP", "RGB", {"quality": 40}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGB", {"save_all": True}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("BMP", "1", {}),
    ("TIFF", "RGB", {}),
    ("ICO", "RGBA", {}),
    ("PPM", "RGB", {}),
)
SUFFIXES = (".jpg", ".png", ".gif", ".webp", ".bmp", ".tif", ".jpeg")


def picture(rng: Random) -> bytes:
    """A whole image file of some format, up to 90 px a side."""
    kind, mode, options = SAVED[rng.integers(len(SAVED))]
    height, width = rng.integers(1, 90, 2)
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
    else:
        image = noise.convert(mode)
    frames = [image.rotate(90 * turn) for turn in range(3)] if options.get("save_all") else []
    buffer = io.BytesIO()
    image.save(buffer, kind, **options, **({"append_images": frames} if frames else {}))
    return buffer.getvalue()


def chunk_lies(content: bytes, rng: Random) -> bytes:
    """A PNG whose header or chunk says something else, with the right checksum; other files as they are."""
    if not content.startswith(b"\x89PNG") or len(content) < 60:
        return content
    at, size = int(rng.choice([16, 20, 24, 25, 26, 27, 28])), 1
    if at < 24:
        size = 4
    value = int(rng.choice(EXTREMES)) & (256**size - 1)
    head = content[:at] + value.to_bytes(size) + content[at + size :]
    return head[:29] + struct.pack(">I", zlib.crc32(head[12:29])) + head[33:]


def chunks_again(content: bytes, rng: Random) -> bytes:
    """Whole chunks of a PNG put in again, up to thousands of times."""
    if not content.startswith(b"\x89PNG") or len(content) < 60:
        return content
    kinds = (b"IDAT", b"tEXt", b"fcTL", b"acTL", b"PLTE", b"tRNS", b"IHDR", b"zTXt", b"iCCP", b"eXIf", b"sBIT")
    kind, body = bytes(rng.choice(kinds)), rng.bytes(int(rng.integers(0, 40)))
    one = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content[:33] + one * int(rng.choice([1, 2, 3000])) + content[33:]


def frame_lies(content: bytes, rng: Random) -> bytes:
    """A JPEG of other dimensions, components or precision than it was written with."""
    at = next((content.find(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in content), -1)
    if at < 0 or not content.startswith(b"\xff\xd8"):
        return content
    if rng.integers(2):
        sides = struct.pack(">HH", *(int(side) for side in rng.choice([0, 1, 50, 9000, 65535], 2)))
        return content[: at + 5] + sides + content[at + 9 :]
    field = at + int(rng.choice([4, 9, 10, 11, 12]))
    return content[:field] + bytes([int(rng.integers(256))]) + content[field + 1 :]


def scans_again(content: bytes, rng: Random) -> bytes:
    """The last scan of a JPEG, or its tables, again and again."""
    if not content.startswith(b"\xff\xd8"):
        return content
    at = max(content.rfind(bytes(rng.choice([b"\xff\xda", b"\xff\xc4", b"\xff\xdb"]))), 2)
    return content[:-2] + content[at:-2] * int(rng.choice([1, 30, 400])) + content[-2:]


IMAGE_CHANGES: tuple[Change, ...] = (chunk_lies, chunks_again, frame_lies, scans_again)


def good(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (number % 256, 200, 40)).save(buffer, "PNG")
    return buffer.getvalue()


def folder(target: Path, rng: Random) -> Hostile:
    """Damaged images and a good one; one lies deeper, one has an odd name."""
    target.mkdir()
    for number in range(IMAGES_A_SOURCE):
        name = f"{number}{rng.choice(SUFFIXES)}"
        path = target / (f"deep/er/{name}" if number == 3 else f"\u202eodd\n{name}" if number == 4 else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(changed(picture(rng), rng, IMAGE_CHANGES))
    (target / "good.png").write_bytes(good(1))
    (target / "labels.csv").write_bytes(changed(b"file,label\r\n0.png,cat\r\n", rng))
    return Hostile("folder", target, IMAGES_A_SOURCE, n_good=1)


# ---- zips


def zip_of(members: dict[str, bytes], rng: Random) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


DIRECTORY_FIELDS = ((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (38, 4), (42, 4))
"""Offset and size in an entry of a zip's directory: flags, method, checksum, sizes, lengths, mode, place."""
END_FIELDS = ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2))
LOCAL_FIELDS = ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))


def zip_lies(content: bytes, rng: Random) -> bytes:
    """A field of the directory, of its end or of a member's own header says something else."""
    chosen = int(rng.integers(3))
    signature = (b"PK\1\2", b"PK\5\6", b"PK\3\4")[chosen]
    at = content.rfind(signature) if rng.integers(2) else content.find(signature)
    if at < 0:
        return content
    fields = (DIRECTORY_FIELDS, END_FIELDS, LOCAL_FIELDS)[chosen]
    offset, size = fields[rng.integers(len(fields))]
    value = int(rng.choice(EXTREMES)) & (256**size - 1)
    return content[: at + offset] + value.to_bytes(size, "little") + content[at + offset + size :]


def name_lies(content: bytes, rng: Random) -> bytes:
    """Names become other names of the same length: out of the zip, double, not UTF-8."""
    odd = (b"../x/a.png", b"/abs/a.png", b"C:\\xx\\a.png", b"\xff\xfe\x81a.png", b"a/../b.png", b"\0\0\0\0.png.png")
    new = odd[rng.integers(len(odd))]
    return content.replace(b"cat/00.png", new[:10].ljust(10, b"g"), int(rng.integers(1, 3)))


def zip_member_bombs(content: bytes, rng: Random) -> bytes:
    """Another zip: members that inflate to a lot, or another zip within."""
    inner = {"bomb.png": b"\x89PNG\r\n\x1a\n" + bytes(int(rng.choice([10**6, 3 * 10**7]))), "in.zip": content}
    return zip_of(inner, rng)


def archive(target: Path, rng: Random) -> Hostile:
    """Damaged images in a whole zip, or good ones in a damaged zip."""
    path = target.with_suffix(".zip")
    if rng.integers(2):
        members = {f"{n}{rng.choice(SUFFIXES)}": changed(picture(rng), rng, IMAGE_CHANGES) for n in range(4)}
        path.write_bytes(zip_of({**members, "good.png": good(2)}, rng))
        return Hostile("zip", path, n_good=1)
    members = {f"cat/{number:02}.png": good(number) for number in range(3)} | {"dog/é.png": good(9)}
    path.write_bytes(changed(zip_of(members, rng), rng, (zip_lies, name_lies, zip_member_bombs)))
    return Hostile("zip", path)


# ---- arrays

NUMBERS = ("|u1", "<f8", ">f4", "<f2", "<i8", ">u2", "|b1", "|i1", "<f16")
TYPES = (*NUMBERS, "<U1", ">U2", "|S3", "|O", "|V8", "<M8[s]", "<c8", "<U0", "|S0", "<q", "u1,u1", "", "é", "(2,2)u1")
SHAPES = ((3, 5, 5), (3, 5, 5, 3), (3, 4, 5, 5), (0, 5, 5), (3, 0, 5), (2**40, 8, 8), (3, 2**33), (3,), (), (3, 2))
WORDS = (
    "(3, 5, 5)",
    "(-1, 5, 5)",
    "(3.0, 5, 5)",
    "(True, 5, 5)",
    "[3, 5, 5]",
    "None",
    "(3, '5', 5)",
    "(" * 500,
    "9**9",
    "",
)


def npy(rng: Random, shape: tuple[int, ...] | None = None, descr: str | None = None) -> bytes:
    """An .npy whose header may say anything; behind it the bytes that it needs, fewer or more."""
    descr = str(rng.choice(TYPES)) if descr is None else descr
    shape = SHAPES[rng.integers(len(SHAPES))] if shape is None else shape
    said = repr(shape) if rng.integers(4) else str(rng.choice(WORDS))
    order = str(rng.choice(["False", "True", "False", "'C'", "1"]))
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {said}, }}".encode()
    text = flipped(text, rng) if rng.integers(5) == 0 else text
    version = int(rng.choice([1, 2, 1, 2, 3, 9]))
    width = "<H" if version == 1 else "<I"
    length = len(text) if rng.integers(6) else int(rng.choice(EXTREMES)) & (256 ** struct.calcsize(width) - 1)
    n_bytes = min(_n_bytes(shape, descr), 1 << 16) + int(rng.choice([0, 0, 0, -1, 1, 300]))
    values = rng.bytes(max(0, n_bytes)) if rng.integers(2) else bytes(max(0, n_bytes))
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, length) + text + values


def _n_bytes(shape: tuple[int, ...], descr: str) -> int:
    try:
        return int(np.prod(shape, dtype=object)) * np.dtype(descr).itemsize
    except (TypeError, ValueError, SyntaxError):
        return 100


def plain_npy(array: Any) -> bytes:  # Any: an array of any type
    buffer = io.BytesIO()
    # Written only, so that sources meet arrays of objects: nothing here or in the package reads one.
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


def labels_and_names(rng: Random) -> dict[str, bytes]:
    """Some labels, of a kind that fits or not, for three images."""
    beyond = np.frombuffer(struct.pack("<3I", int(rng.choice([0x7FFFFFFF, 0xD800, 0x110000])), 97, 0), dtype="<U1")
    choices: tuple[Any, ...] = (  # Any: whatever NumPy makes an array of
        [0, 1, 2], [0, -2, 1], [0.5, 1, 2], [np.nan, 1, 0], [2**62, 0, 1], ["a", "", "b"], [b"\xff", b"a", b"b"],
        beyond, [[1, 0], [0, 1], [0, 0]], [None, "a", 1], [True, False, True], [1e300, -1e300, np.inf], [], 7,
    )  # fmt: skip  # one line for each would say no more
    named = {"y": plain_npy(np.array(choices[rng.integers(len(choices))], dtype=None))}
    if rng.integers(2):
        names = ([["a", "b", "c"], ["a", "a"], [1, 2], "a", ["a" * 5000, ""], beyond])[rng.integers(6)]
        named["class_names"] = plain_npy(names)
    return named


def arrays(target: Path, rng: Random) -> Hostile:
    """An .npz with headers that lie, labels that do not fit, keys that nobody knows, or a damaged zip."""
    how, path = rng.integers(4), target.with_suffix(".npz")
    images = plain_npy(rng.integers(0, 256, (3, 5, 6), dtype=np.uint8))
    if how == 0:
        members = {"x": npy(rng)} | ({"y": npy(rng, (3,))} if rng.integers(2) else {})
    elif how == 1:
        members = {"images": images} | labels_and_names(rng)
    elif how == 2:
        keys = [*KEYS["images"], *KEYS["labels"], "x_test", "y_test", "outcomes", "event_ids", "../x", "", "manifest"]
        members = {str(key): npy(rng) if rng.integers(3) else images for key in rng.choice(keys, 3)} | {"x": images}
    else:
        members = {"images": npy(rng, (3, 5, 6), str(rng.choice(NUMBERS))), "labels": plain_npy([0, 1, 1])}
    content = zip_of({f"{key}.npy": content for key, content in members.items()}, rng)
    path.write_bytes(content if rng.integers(2) else changed(content, rng, (zip_lies,)))
    return Hostile("arrays", path)


# ---- idx


def idx_file(rng: Random, shape: tuple[int, ...]) -> bytes:
    """A whole file or one whose header lies, gzipped or not; gzip may be damaged too."""
    content = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + rng.bytes(int(np.prod(shape)))
    if rng.integers(3):
        at = int(rng.choice([0, 2, 3, 4, 8, 12]))
        size = 1 if at < 4 else 4
        content = content[:at] + (int(rng.choice(EXTREMES)) & (256**size - 1)).to_bytes(size) + content[at + size :]
    content = changed(content, rng) if rng.integers(3) == 0 else content
    if rng.integers(2):
        zipped = gzip.compress(content)
        return changed(zipped, rng) if rng.integers(2) else zipped
    return content


def idx(target: Path, rng: Random) -> Hostile:
    """A folder of the family, or one file of it."""
    target.mkdir()
    for part, n in (("train", 5), ("t10k", 2))[: rng.integers(1, 3)]:
        for what, shape in (("images-idx3", (n, 4, 4)), ("labels-idx1", (n,)))[: rng.integers(1, 3)]:
            (target / f"{part}-{what}-ubyte{rng.choice(['', '.gz'])}").write_bytes(idx_file(rng, shape))
    one = sorted(target.iterdir())[0]
    return Hostile("idx", target if rng.integers(2) else one)


KINDS: tuple[Callable[[Path, Random], Hostile], ...] = (folder, archive, archive, arrays, arrays, arrays, idx, idx)
"""Of eight sources: how often each kind comes."""


# ---- trying


def run(count: int, seed: int, within: Path) -> Iterator[Outcome]:
    """At least `count` files, source by source; equal seeds make equal files."""
    number = n_files = 0
    while n_files < count:
        made = make(number, seed, within / str(number))
        yield attempt(made, number)
        n_files += made.n_files
        number += 1


def make(number: int, seed: int, target: Path) -> Hostile:
    """Write one source's files at or beside `target`."""
    return KINDS[number % len(KINDS)](target, np.random.default_rng([seed, number]))


def attempt(made: Hostile, number: int) -> Outcome:
    """List, import and open in full size."""
    began, n_imported, fault = time.monotonic(), 0, ""
    try:
        with at_most(SECONDS * made.n_files), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's words to developers
            n_imported = imported(made)
            result = "imported"
    except AnnotatorError as error:
        result, fault = error.code, untold(str(error))
        fault = fault or ("" if not made.n_good else f"the good image did not come through: {error}")
    except BaseException:  # whatever else comes out is what is looked for
        result, fault = "fault", traceback.format_exc()
    seconds = round(time.monotonic() - began, 2)
    return Outcome(made.source, number, "fault" if fault else result, seconds, made.n_files, n_imported, fault)


def imported(made: Hostile) -> int:
    """How many images came in. Raises AnnotatorError, AssertionError, or what nobody expected."""
    source: ImageSource = registry.create("source", made.source, {"path": str(made.path)})
    pool = ingest(source, made.path.with_name(f"{made.path.name}-cache"))
    originals = Pictures(pool, lambda: source)
    for row in range(len(pool.ids)):
        originals.picture(row, 0)
    for entry in pool.set_aside:
        assert entry.code, entry
        assert not untold(entry.image_id + entry.reason), entry
    if made.n_good:
        assert "good.png" in list(pool.ids), "the good image did not come through"
    return len(pool.ids)


def untold(message: str) -> str:
    """Why a person could not be shown this; empty where they can."""
    try:
        message.encode()
    except UnicodeError:
        return f"the message cannot be written: {message!r}"
    return "" if message and len(message) < 4000 else f"a message of {len(message)} characters"


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TookTooLong in the middle of what takes longer."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def megabytes() -> dict[str, int]:
    """The most memory that this process and any of its children had."""
    whose = {"this process": resource.RUSAGE_SELF, "a decoder": resource.RUSAGE_CHILDREN}
    return {name: resource.getrusage(who).ru_maxrss // 1024 for name, who in whose.items()}


def main() -> int:
    """1 where a file did what none may do, or took more memory than any may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=8)
    wanted = parser.parse_args()
    within = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        outcomes = list(run(wanted.count, wanted.seed, within))
    finally:
        shutil.rmtree(within)
    faults = [asdict(outcome) for outcome in outcomes if outcome.fault]
    for fault in faults:
        print(f"{fault['source']} {fault['number']} (seed {wanted.seed}): {fault['fault']}")
    summary = {
        "files": sum(outcome.n_files for outcome in outcomes),
        "sources": dict(Counter(outcome.source for outcome in outcomes)),
        "results": dict(Counter(outcome.result for outcome in outcomes)),
        "images imported": sum(outcome.n_imported for outcome in outcomes),
        "slowest source (s)": max(outcome.seconds for outcome in outcomes),
        "megabytes": megabytes(),
        "faults": len(faults),
    }
    print(json.dumps(summary))
    return int(bool(faults) or max(megabytes().values()) > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
