"""Which entries of a folder or a zip are images by their name, which are left out, and which folders are classes.

Used by all sources that list files. Knows no disk and no archive.

The rules have a version number, which a project keeps in its config, so that an image that was asked stays listed:

    1   files with a suffix of `SUFFIXES`; hidden entries and `__MACOSX` are left out
    2   also those of `MORE_SUFFIXES`, and files without a suffix that begin like an image; also left out is what
        systems put beside people's files (`is_left_out`); other spellings of the same name in a zip are read

Layers: where all images lie in folders called train, test, validation and the like, with class folders in train, the
classes are those. Images outside of train are held out where they have a class, and are unlabeled where they have none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.class_names import equal_name
from annotator.errors import ConfigError
from annotator.types import UNLABELED, IntArray

LISTING = 2
"""The newest version of the rules."""
SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .gif .webp .bmp .tif .tiff .heic .heif .avif .svg .psd".split())
MORE_SUFFIXES = frozenset(
    ".ppm .pgm .pbm .pnm .pam .pfm .dib .jp2 .j2k .jpx .jxl .ico .icns .tga .pcx .dds .exr .hdr .fits .xcf .eps .apng "
    ".dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .dcm".split()
)
"""More suffixes of images; most of these formats are not decoded, and are listed so that they are reported."""
SYSTEM_NAMES = frozenset(
    (
        "__macosx",  # macOS, in zips
        "@eadir",  # Synology: thumbnails and indexes
        "@tmp",
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "@__thumb",
        "$recycle.bin",  # Windows
        "system volume information",
        "found.000",
        "lost+found",  # Linux
        "network trash folder",  # macOS, on servers
        "temporary items",
    )
)
"""Names in lower case. Names that begin with a dot (.Trash-1000, .Spotlight-V100, ._a.jpg) are left out anyway."""
TRAIN = frozenset("train training".split())
OTHER_LAYERS = frozenset("test testing val valid validation dev eval evaluation holdout".split())


@dataclass(frozen=True)
class Part:
    """Some of the images: the pool, or the test set."""

    rows: IntArray
    """(n_images_of_the_part,) their indexes among all images."""
    truth: IntArray | None
    """(n_images_of_the_part,)"""


@dataclass(frozen=True)
class Classes:
    """The classes and layers that folders give some images."""

    names: tuple[str, ...]
    """In natural order: 2 before 10."""
    codes: IntArray | None
    """(n_images,) indexes of `names`, -1 without a class; None where no image has one."""
    held_out: NDArray[np.bool_]
    """(n_images,)"""
    layers: tuple[str, ...] = ()
    """The folders whose images are held out."""

    @property
    def pool(self) -> Part:
        """The images to label."""
        return self._part(~self.held_out)

    @property
    def test(self) -> Part | None:
        """The held-out images; None where there are none."""
        return self._part(self.held_out) if self.held_out.any() else None

    def _part(self, mask: NDArray[np.bool_]) -> Part:
        return Part(np.flatnonzero(mask), None if self.codes is None else self.codes[mask])


def no_classes(n_images: int) -> Classes:
    """The value for images whose folders are no classes."""
    return Classes((), None, np.zeros(n_images, dtype=bool))


def checked_listing(listing: int) -> int:
    """Returns the number. Raises ConfigError for one that does not exist."""
    if not 1 <= listing <= LISTING:
        raise ConfigError(f"There is no listing {listing}; the newest is {LISTING}. Update annotator, or leave it out.")
    return listing


def is_left_out(name: str, listing: int) -> bool:
    """Whether an entry of this name, with all that is in it, was put there by a system and not by a person."""
    return name.startswith(".") or name == "__MACOSX" or (listing > 1 and name.lower() in SYSTEM_NAMES)


def has_image_suffix(name: str, listing: int) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in SUFFIXES or (listing > 1 and suffix in MORE_SUFFIXES)


def may_be_image(name: str, listing: int) -> bool:
    """Whether its first bytes must be read to decide."""
    return listing > 1 and "." not in name


def class_of_folder(name: str) -> str:
    """A folder as ids spell it -> the class: "100%25" is the class "100%".

    A folder called "%FF" stays "%25FF": another one's name may be that byte, which is no UTF-8 and spelt "%FF".
    """
    return equal_name(re.sub("%25(?![89A-F][0-9A-F])", "%", name))


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names, numbers in them by value: 2 before 10."""
    return tuple(sorted(set(names), key=lambda name: (_natural_key(name), name)))


def sort_out(folders: Sequence[str], by_layers: bool, strip_common: bool = False) -> Classes:
    """`folders`: of each image the folder it lies in, as ids spell it; with `strip_common` one that holds all is none.

    Distinct folders are few, images many.
    """
    parts = {folder: tuple(folder.split("/")) if folder else () for folder in set(folders)}
    parts = _without_common(parts) if strip_common else parts
    layers = _layers(parts.values()) if by_layers else {}
    found = {folder: _class_in(path, bool(layers)) for folder, path in parts.items()}
    apart = {folder for folder, path in parts.items() if layers and not layers[path[0]] and found[folder]}
    names = natural_order(name for name in found.values() if name)
    held_out = np.fromiter((folder in apart for folder in folders), dtype=bool, count=len(folders))
    if not names:
        return Classes((), None, held_out)
    codes = {"": UNLABELED, **{name: code for code, name in enumerate(names)}}
    code_of = {folder: codes[name] for folder, name in found.items()}
    truth = np.fromiter(map(code_of.__getitem__, folders), dtype=np.int64, count=len(folders))
    return Classes(names, truth, held_out, tuple(sorted({parts[folder][0] for folder in apart})))


def _layers(folders: Iterable[Sequence[str]]) -> dict[str, bool]:
    """First-level folder -> whether it is the layer to train on; empty where the folders are no layers.

    They are where every image is in one, there is one to train on with class folders in it, and another.
    """
    kinds: dict[str, bool] = {}
    has_classes = False
    for parts in folders:
        kind = layer(parts[0]) if parts else None
        if kind is None:
            return {}
        kinds[parts[0]] = kind == "train"
        has_classes |= kind == "train" and bool(below_layer(parts))
    return kinds if has_classes and set(kinds.values()) == {True, False} else {}


def _without_common(parts: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Folders without a first folder that all images share: archives often hold one, and it is no class."""
    paths = parts.values()
    while all(paths) and len({path[0] for path in paths}) == 1 and any(len(path) > 1 for path in paths):
        parts = {folder: path[1:] for folder, path in parts.items()}
        paths = parts.values()
    return parts


def layer(name: str) -> str | None:
    """The kind of layer of a folder with this name: "train", "other", or None."""
    plain = re.sub("[ _-]?set$", "", name.lower())
    return "train" if plain in TRAIN else "other" if plain in OTHER_LAYERS else None


def below_layer(parts: Sequence[str]) -> Sequence[str]:
    """The folders in a layer; archives often hold it twice: training_set/training_set/cats."""
    below = parts[1:]
    return below[1:] if below and below[0].lower() == parts[0].lower() else below


def _class_in(parts: Sequence[str], in_layers: bool) -> str:
    below = below_layer(parts) if in_layers else parts
    return class_of_folder(below[0]) if below else ""


def _natural_key(name: str) -> list[int | str]:
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", name))]
