"""Pools that come prepared with the package: a demo opens without listing, encoding or connecting anything.

    assets/prepared/<name>.zip      made_from.json, and the cache's folders as `dataset.prepare` writes them

Such a pool is used only where everything it was made from is the same today, revisions included: what is unpacked is
what preparing would give. Knows files, no images and no features.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from annotator import durable
from annotator.errors import SourceError
from annotator.paths import assets, safe_join

MADE_FROM = "made_from.json"
DATASET = "dataset-"
"""How the name of a dataset's folder begins; the others are folders of images."""

MadeFrom = dict[str, Any]  # Any: JSON


def unpack(made_from: MadeFrom, cache: Path) -> Path | None:
    """The dataset's folder in the cache, unpacked there with its images; None where no such pool is shipped."""
    for path in sorted(assets().glob("prepared/*.zip")):
        try:
            with ZipFile(path) as packed:
                if json.loads(packed.read(MADE_FROM)) == made_from:
                    return _unpacked(packed, cache)
        except (*durable.DAMAGED_ZIP, SourceError):  # the pool is prepared from its source
            continue
    return None


def pack(target: Path, made_from: MadeFrom, folders: list[Path]) -> None:
    """Write such a file: the same folders give the same bytes."""
    with ZipFile(target, "w") as packed:
        packed.writestr(_member(MADE_FROM), json.dumps(made_from, sort_keys=True))
        for folder in folders:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                packed.writestr(_member(path.relative_to(folder.parent).as_posix()), path.read_bytes())


def _unpacked(packed: ZipFile, cache: Path) -> Path:
    names = sorted({name.partition("/")[0] for name in packed.namelist()} - {MADE_FROM})
    for name in sorted(names, key=lambda name: name.startswith(DATASET)):  # last: it points to the others
        if not (cache / name).exists():
            with durable.building(cache / name) as partial_folder:
                for member, part in _parts(packed, name):
                    target = safe_join(partial_folder, part)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with packed.open(member) as read, target.open("wb") as written:
                        shutil.copyfileobj(read, written)
    return cache / next(name for name in names if name.startswith(DATASET))


def _parts(packed: ZipFile, folder: str) -> Iterator[tuple[str, str]]:
    """The members under a folder, and their paths in it."""
    for member in packed.namelist():
        if member.startswith(f"{folder}/"):
            yield member, member.removeprefix(f"{folder}/")


def _member(name: str) -> ZipInfo:
    """Of a fixed date, deflated."""
    info = ZipInfo(name)
    info.compress_type = ZIP_DEFLATED
    return info
