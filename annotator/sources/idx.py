"""The files of the MNIST family: images and labels in IDX, gzipped or not. Knows no class by name.

A header is compared with the file's size before anything is allocated. A gzipped file is inflated to the size that its
header declares, and one byte more to see that it ends there.

Format: two zero bytes, the type of value, the number of axes, each axis as 4 bytes (big end first), then the values.
Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotator.errors import SourceError
from annotator.sources.files import locate, open_file, printable, unreadable
from annotator.sources.rows import MAX_IMAGES, MAX_VALUES, ArrayRows, name_codes
from annotator.types import ImageArray, IntArray

NAMES = ("{part}-{what}-idx{axes}-ubyte", "{part}-{what}.idx{axes}-ubyte")
"""How the files are called, as published and as some programs unpack them; each also with .gz behind it."""
UNSIGNED_BYTES = 8
"""The only type of value that the family uses."""
MAX_RATIO = 1100
"""Deflate makes no more than 1,032 bytes of one."""

PIECE = 1 << 20
"""Bytes asked for at a time."""


@dataclass(frozen=True)
class Part:
    """One images file with its labels file."""

    images: ImageArray
    """(n, height, width, 1)"""
    labels: IntArray | None
    """(n,) as they stand in the file"""
    numbers: IntArray | None = None
    """(n,) the images' places in the files they were drawn from; None = all of them"""


class Idx(ArrayRows):
    """Files of the MNIST family: a folder with train-images-idx3-ubyte and the others, or one images file."""

    def __init__(self, path: str, root: str | None = None) -> None:
        """Read the folder or the file at `path`, which must lie under `root` where that is given.

        In a folder the labels may be missing, and so may the test images (t10k-...), which are held out. Of one file,
        the labels are read where they lie beside it. Each label that occurs is a class, named by its number. Raises
        SourceError: SRC_..., IDX_CORRUPT, IDX_TYPE, IDX_TOO_LARGE, IDX_EMPTY, IDX_SHAPE or IDX_LENGTH.
        """
        place = locate(path, root)
        name = printable(place.name.partition(".")[0].encode("utf-8", "surrogateescape"))
        pool, test = read_folder(place) if place.is_dir() else (_read_beside(place), None)
        class_names, (truth, test_truth) = name_codes(pool.labels, test.labels if test else None)
        held_out = ArrayRows(f"{name}-test", test.images, test_truth, class_names) if test else None
        super().__init__(name, pool.images, truth, class_names, held_out)


def read_folder(folder: Path) -> tuple[Part, Part | None]:
    """The training part and, where it is there, the test part. Raises SourceError as `Idx` does."""
    train = _find(folder, "train", "images")
    if train is None:
        raise _not_found(folder)
    pool = _read_part(train, _find(folder, "train", "labels"))
    test_images = _find(folder, "t10k", "images")
    if test_images is None:
        return pool, None
    test = _read_part(test_images, _find(folder, "t10k", "labels"))
    if test.images.shape[1:] != pool.images.shape[1:]:
        raise SourceError(
            f"In {str(folder)!r} the test images have another size than the others. Put files of one set there.",
            "IDX_SHAPE",
        )
    return pool, test


def has_family(folder: Path) -> bool:
    """Whether there is a file of training images."""
    return _find(folder, "train", "images") is not None


def _not_found(folder: Path) -> SourceError:
    try:
        seen = ", ".join(repr(name) for name in sorted(os.listdir(folder))[:10]) or "nothing"
    except OSError as error:
        return unreadable(str(folder), error)
    return SourceError(
        f"There is no train-images-idx3-ubyte[.gz] in {str(folder)!r}, but: {seen}. "
        "Choose the folder it lies in, or one images file.",
        "SRC_MISSING",
    )


def _find(folder: Path, part: str, what: str) -> Path | None:
    """The file of this part, by any of the names it goes by."""
    plain = [name.format(part=part, what=what, axes={"images": 3, "labels": 1}[what]) for name in NAMES]
    there = [folder / f"{name}{suffix}" for name in plain for suffix in ("", ".gz")]
    return next((path for path in (*there, *map(_unpacked, there)) if os.path.isfile(path)), None)


def _unpacked(path: Path) -> Path:
    """Some programs unpack a file into a folder of its own name; a link to a folder elsewhere is none of these."""
    return path if path.is_symlink() else path / path.name


def _read_beside(path: Path) -> Part:
    """One images file, with the labels file of the same name beside it where there is one."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    labels = path.with_name(name)
    return _read_part(path, labels if name != path.name and os.path.isfile(labels) else None)


def _read_part(images: Path, labels: Path | None) -> Part:
    pixels = _read(images, n_axes=3)
    if labels is None:
        return Part(pixels[..., np.newaxis], None)
    codes = _read(labels, n_axes=1)
    if len(codes) != len(pixels):
        raise SourceError(
            f"{labels.name!r} has {len(codes):,} labels and {images.name!r} {len(pixels):,} images. "
            "These files do not belong together.",
            "IDX_LENGTH",
        )
    return Part(pixels[..., np.newaxis], codes.astype(np.int64))


def _read(path: Path, n_axes: int) -> NDArray[np.uint8]:
    """The values of one file in their shape."""
    with open_file(locate(str(path), str(path.parent))) as file:
        try:
            return _values(file, path.name, n_axes)
        except (EOFError, OSError, zlib.error) as error:  # what gzip says of a damaged file
            raise _corrupt(path.name, f"cannot be read ({error})") from error


def _values(file: BufferedReader, name: str, n_axes: int) -> NDArray[np.uint8]:
    size = file.seek(0, 2)
    file.seek(0)
    zipped = file.peek(2)[:2] == b"\x1f\x8b"
    stream: BufferedIOBase = gzip.GzipFile(fileobj=file) if zipped else file
    shape = _shape(stream, name, n_axes)
    if math.prod(shape) > size * (MAX_RATIO if zipped else 1):
        raise _corrupt(name, "ends before its images do")
    values = np.empty(shape, dtype=np.uint8)
    n_read = _fill(stream, values)
    if n_read < values.nbytes:
        raise _corrupt(name, "ends before its images do")
    if stream.read(1):
        raise _corrupt(name, "goes on behind its last image")
    return values


def _shape(stream: BufferedIOBase, name: str, n_axes: int) -> tuple[int, ...]:
    """The axes by the header, known to be ones that may be allocated."""
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise _corrupt(name, "does not begin as IDX does")
    if head[2] != UNSIGNED_BYTES:
        raise SourceError(f"{name!r} holds other values than unsigned bytes. Convert them to 0 to 255.", "IDX_TYPE")
    if head[3] != n_axes:
        wanted = "images (n, height, width)" if n_axes == 3 else "labels (n)"
        raise SourceError(f"{name!r} has {head[3]} axes, and {wanted} {n_axes}. Choose another file.", "IDX_SHAPE")
    axes = stream.read(4 * n_axes)
    if len(axes) < 4 * n_axes:
        raise _corrupt(name, "ends in its header")
    shape = tuple(int(length) for length in np.frombuffer(axes, dtype=">u4"))
    _check_shape(shape, name)
    return shape


def _check_shape(shape: Sequence[int], name: str) -> None:
    if shape[0] == 0:
        raise SourceError(f"{name!r} is empty: its header says 0. Choose another file.", "IDX_EMPTY")
    if 0 in shape:
        raise SourceError(f"{name!r} has images without pixels: {shape}. Choose another file.", "IDX_SHAPE")
    if shape[0] > MAX_IMAGES or math.prod(shape) > MAX_VALUES:
        raise SourceError(
            f"{name!r} says that it holds {shape}, more than the limits of {MAX_IMAGES:,} images and {MAX_VALUES:,} "
            "values. Split it.",
            "IDX_TOO_LARGE",
        )


def _fill(stream: BufferedIOBase, values: NDArray[np.uint8]) -> int:
    """Read into the array until it is full or the file ends; how many bytes came."""
    target, n_read = values.reshape(-1).data, 0
    while n_read < values.nbytes:
        got = stream.readinto(target[n_read : n_read + PIECE])
        if not got:
            break
        n_read += got
    return n_read


def _corrupt(name: str, what: str) -> SourceError:
    return SourceError(f"{name!r} {what}. Copy or download it again.", "IDX_CORRUPT")
