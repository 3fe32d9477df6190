"""Images as the page shows them: small ones enlarged without blur, photos as thumbnails, always re-encoded."""

from __future__ import annotations

import base64

import streamlit as st
from PIL import Image

from annotator import images
from annotator.errors import AnnotatorError
from annotator.pictures import SMALL_IMAGE as SMALL_IMAGE  # shown enlarged, pixel by pixel
from annotator.pictures import kind_of
from annotator.types import Dataset
from annotator.ui.words import visible

PHOTO_SIDE, SMALL_SIDE = 168, 104


def show(dataset: Dataset, row: int, side: int | None = None) -> None:
    """One image, at most `side` px on its longer side; its id is the alternative text."""
    encoded, size = _encoded(dataset, row, side)
    # By an address it could be gone before it is asked for.
    inline = f"data:image/{kind_of(encoded).lower()};base64,{base64.b64encode(encoded).decode()}"
    st.image(inline, width=size[0], alt=visible(dataset.ids[row]))


def _encoded(dataset: Dataset, row: int, wanted: int | None) -> tuple[bytes, tuple[int, int]]:
    """The bytes to send and the size to show them at, in px."""
    try:
        picture = dataset.open_image(row, 2 * (wanted or PHOTO_SIDE))
    except (AnnotatorError, OSError):
        picture = Image.new("RGB", (PHOTO_SIDE, PHOTO_SIDE), (128, 128, 128))
    longest = max(picture.size)
    side = wanted or (SMALL_SIDE if longest <= SMALL_IMAGE else PHOTO_SIDE)
    if longest <= SMALL_IMAGE:
        factor = max(1, side // longest)
        enlarged = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
        return images.png(enlarged), enlarged.size
    scale = side / longest
    return images.jpeg(picture), (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
