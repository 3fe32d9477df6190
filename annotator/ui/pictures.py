"""Images as the page shows them: small ones enlarged without blur, photos as thumbnails, always re-encoded."""

from __future__ import annotations

from PIL import Image

from annotator import images
from annotator.errors import AnnotatorError
from annotator.types import Dataset

CARD_SIDE = 168
SMALL_SIDE = 64


def card_picture(dataset: Dataset, row: int, side: int = CARD_SIDE) -> bytes:
    """PNG or JPEG bytes, `side` px on its longer side: whole pixels where the image is small."""
    try:
        picture = dataset.open_image(row, 2 * side)
    except (AnnotatorError, OSError):
        picture = Image.new("RGB", (side, side), (128, 128, 128))
    longest = max(picture.size)
    if longest <= SMALL_SIDE:
        factor = max(1, side // longest)
        return images.png(picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST))
    return images.jpeg(picture)
