"""Upright RGB pictures: made to fit, and encoded without metadata. How bytes become one is said in decode.py."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """The image made to fit `side` x `side` px, each side at least 1 px; a smaller image stays as it is."""
    if max(image.size) <= side:
        return image.copy()
    return image.resize(_fit(image.size, side), Image.Resampling.LANCZOS, reducing_gap=2.0)


def letterbox(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The image as (side, side, 3), enlarged or reduced to fit, its aspect kept.

    The two bars beside it have the mean colour of the edges they touch: a black bar would be a contour that no object
    in the picture has.
    """
    fitted = np.asarray(image.resize(_fit(image.size, side), Image.Resampling.BILINEAR, reducing_gap=2.0))
    height, width = fitted.shape[:2]
    touched = fitted[:, [0, -1]] if width < side else fitted[[0, -1], :]
    square = np.empty((side, side, 3), dtype=np.uint8)
    square[:] = touched.reshape(-1, 3).mean(axis=0).round()
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = fitted
    return square


def png(image: Image.Image) -> bytes:
    """The image re-encoded as PNG, without metadata."""
    return _encode(image, "PNG")


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """The image re-encoded as JPEG, without metadata; `quality` 1 to 95."""
    return _encode(image, "JPEG", quality=quality)


def from_array(array: NDArray[np.uint8]) -> Image.Image:
    """(height, width, n_channels) with 1 (grey) or 3 (RGB) channels -> RGB."""
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3))))


def bare(image: Image.Image) -> Image.Image:
    """The same pixels without what the file said about them; Pillow's encoders would repeat some of it."""
    bare = image.copy()
    bare.info = {}
    return bare


def _encode(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    bare(image.convert("RGB")).save(buffer, kind, **options)
    return buffer.getvalue()


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
