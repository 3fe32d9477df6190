"""Prepare the demo that opens first again: python assets/prepared/make.py."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from annotator.config import Recipe, presets
from annotator.dataset import made_from, prepare_here
from annotator.shipped import pack


def pack_prepared(recipe: Recipe, cache: Path, target: Path) -> None:
    """Prepare in `cache`, and write what is there then."""
    folder = prepare_here(recipe, cache)
    manifest = json.loads((folder / "dataset.json").read_text())
    images = [cache / name for name in (manifest["images"], manifest["held_out"]) if name]
    pack(target, made_from(recipe), [*images, folder])


def main() -> None:
    """Write digits.zip beside this file."""
    with TemporaryDirectory() as cache:
        pack_prepared(presets()["digits"].config.recipe, Path(cache), Path(__file__).with_name("digits.zip"))


if __name__ == "__main__":
    main()
