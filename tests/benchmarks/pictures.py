"""Colour pictures in class folders, made from Debian packages without a network of their own; for the benchmarks.

stamps   Those of Tux Paint, a painting program for children: photos and drawings on white or transparent ground, 713
         PNG files in the eight folders that hold 30 or more (animals, food, household, plants, seasonal, symbols, town,
         vehicles).
             apt install tuxpaint-stamps-default            (or: apt-get download, then dpkg -x PACKAGE FOLDER)
emoji    Noto's colour emoji, 1,216 drawings of 136 x 128 px, one for each emoji of Unicode that is one character, in
         the consortium's own seven groups (smileys, animals and nature, food and drink, travel and places, ...).
             apt install fonts-noto-color-emoji unicode-data
subgroups
         The same emoji in Unicode's subgroups of five or more (face-smiling, animal-bird, food-vegetable, ...): many
         small classes.
twenty   The stamps of four of the classes (animals, food, town, vehicles), for a pool of twenty of them.

Why they are fair: the classes are the packages' own, taken as they are; they are unequal and mixed within (a bird and a
fish are both animals), and none of ImageNet's. No picture is left out but those of classes that are too small, and, of
the emoji, flags and people (hundreds of nearly identical pictures). Every encoder gets the same import of the same
files. What is not fair: imagenet's network was trained on other people's labeled photos, pixels and hog on nothing.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from annotator import durable
from tests.benchmarks.colour import FOLDER, arrange

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
EMOJI = Path("/usr/share/unicode/emoji/emoji-test.txt")
EMOJI_SIZE = 109
"""The font's only size; its pictures are 136 x 128 px."""
LEFT_OUT = ("Component", "Flags", "People & Body")
FOUR = ("animals", "food", "town", "vehicles")
MIN_OF_SUBGROUP = 5
TONES = range(0x1F3FB, 0x1F400)


def arrange_stamps(root: Path, target: Path) -> int:
    """Every class of enough pictures as a flat folder: how many pictures there are."""
    return arrange(root / FOLDER.relative_to("/"), target)


def arrange_twenty(root: Path, target: Path) -> int:
    """The stamps of four classes: how many there are."""
    n_pictures = arrange_stamps(root, target)
    for folder in target.iterdir():
        if folder.name not in FOUR:
            n_pictures -= len(list(folder.iterdir()))
            shutil.rmtree(folder)
    return n_pictures


def arrange_emoji(root: Path, target: Path) -> int:
    """Draw each emoji into the folder of its group: how many there are."""
    return _draw(root, target, [(group, text) for group, _, text in _listed(root)])


def arrange_subgroups(root: Path, target: Path) -> int:
    """Draw each emoji into the folder of its subgroup, without those of few: how many there are."""
    listed = [(subgroup, text) for _, subgroup, text in _listed(root)]
    n_of = Counter(subgroup for subgroup, _ in listed)
    return _draw(root, target, [each for each in listed if n_of[each[0]] >= MIN_OF_SUBGROUP])


def _draw(root: Path, target: Path, emoji: Sequence[tuple[str, str]]) -> int:
    """Draw each (class, emoji) into the folder of its class: how many there are."""
    font = ImageFont.truetype(str(root / FONT.relative_to("/")), EMOJI_SIZE)
    for name, text in emoji:
        folder = target / re.sub(r"\W+", "-", name.lower())
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (136, 128), "white")
        ImageDraw.Draw(picture).text((0, 0), text, font=font, embedded_color=True)
        picture.save(folder / f"{'-'.join(f'{ord(each):x}' for each in text)}.png")
    return len(emoji)


def _listed(root: Path) -> list[tuple[str, str, str]]:
    """(group, subgroup, emoji) of one code point, with or without the mark for colour; longer ones need a shaper."""
    group, subgroup, found = "", "", []
    for line in (root / EMOJI.relative_to("/")).read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.partition(":")[2].strip()
        if line.startswith("# subgroup:"):
            subgroup = line.partition(":")[2].strip()
        codes = [int(code, 16) for code in line.partition(";")[0].split()] if "; fully-qualified" in line else []
        single = [code for code in codes if code != 0xFE0F]
        if len(single) == 1 and group not in LEFT_OUT and single[0] not in TONES:
            found.append((group, subgroup, chr(single[0])))
    return found


ARRANGE: dict[str, Callable[[Path, Path], int]] = {
    "stamps": arrange_stamps,
    "emoji": arrange_emoji,
    "subgroups": arrange_subgroups,
    "twenty": arrange_twenty,
}


def pictures(data: str, out: Path, root: Path = Path("/")) -> Path:
    """The set's folder under `out`, made where it is not there; `root` is where the packages were unpacked.

    Raises FileNotFoundError where they are not.
    """
    folder = out / f"pictures-{data}"
    if not folder.exists():
        with durable.building(folder) as draft:
            ARRANGE[data](root, draft)
    return folder
