"""Originals: the files that a pool was decoded from, opened again. Every path to one leads through here.

A file is decoded only where its bytes are those that the import has decoded before: so what people labeled is what
they look at and what an export holds. It is decoded in a guarded process under the import's limits on time and memory:
the import may have seen a JPEG at an eighth of its size, and what a decoder does in full size is not known from that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from PIL import Image

from annotator import images
from annotator.errors import AnnotatorError, SourceError
from annotator.ingest import THUMBNAIL_SIDE, Ingested
from annotator.jobs.decoders import ResidentDecoders
from annotator.paths import name_of
from annotator.types import ImageSource

DECODERS = ResidentDecoders()
"""Of this process, for all its pools."""
NEARLY = 1.1
"""Up to so many times a thumbnail's size, the thumbnail is shown: not worth reading a whole photo for."""


class Originals:
    """The pool's pictures in any size: from the cache where that is enough, else from the source."""

    def __init__(self, pool: Ingested, open_source: Callable[[], ImageSource]) -> None:
        """`open_source` lists the source again; called for the first picture that the cache cannot give."""
        self._pool = pool
        self._open_source = open_source
        self._opened: ImageSource | None = None
        self._stamp = ""

    def picture(self, row: int, side: int) -> Image.Image:
        """Upright RGB, at most `side` px on the longer side; 0 = full size, and always the original.

        Raises SourceError: SRC_CHANGED where the file is another one by now, SRC_MISSING and the like; ImageError
        where it cannot be decoded within the limits; JobError (JOB_START) where no decoder can be started.
        """
        if not (self._pool.folder / "thumbnails.bin").exists():  # the pool is an array, all of it in the cache
            whole = images.from_array(self._pool.views[row])
            return images.thumbnail(whole, side) if side else whole
        if not side:
            return DECODERS.picture(self._content(row), 0)
        thumbnail = self._pool.thumbnail(row)
        if side <= NEARLY * THUMBNAIL_SIDE or max(thumbnail.size) < THUMBNAIL_SIDE:
            return images.thumbnail(thumbnail, side)
        return DECODERS.picture(self._content(row), side)

    def _content(self, row: int) -> bytes:
        """The bytes of the file, known to be those that were imported."""
        source, image_id = self._source(), self._pool.ids[row]
        content = source.read(_position(source, image_id, int(self._pool.source_rows[row])))
        if hashlib.sha256(content).digest() != self._pool.hashes[row].tobytes():
            raise SourceError(
                f"{name_of(image_id)} has changed since it was labeled. Put the first file back to see it.",
                "SRC_CHANGED",
            )
        return content

    def _source(self) -> ImageSource:
        """Listed again where its first file has changed: in another zip all members lie elsewhere."""
        source = self._opened
        if source is None or source.stamp(0) != self._stamp:
            source = self._listed()
            self._opened, self._stamp = source, source.stamp(0)
        return source

    def _listed(self) -> ImageSource:
        try:
            return self._open_source()
        except AnnotatorError as error:
            raise SourceError(f"The full-size images are out of reach: {error}", error.code) from error


def _position(source: ImageSource, image_id: str, row: int) -> int:
    """Where an image is by now; files may have come or gone since it was in `row`."""
    if row < len(source.ids) and source.ids[row] == image_id:
        return row
    try:
        return source.ids.index(image_id)
    except ValueError:
        raise SourceError(
            f"{name_of(image_id)} is no longer in its folder. Put it back to see it.", "SRC_MISSING"
        ) from None
