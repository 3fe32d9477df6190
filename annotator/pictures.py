"""Pictures of a pool, for people and exports: (row, side) -> upright RGB, or the bytes of a PNG or a JPEG.

Every path to a picture leads through here: from the import's thumbnail where that is enough, else from the file that
was imported, opened again. A file is decoded only where its bytes are those that the import has decoded before: so what
people labeled is what they look at and what an export holds. It is decoded in a guarded process under the import's
limits on time and memory: the import may have seen a JPEG at an eighth of its size, and what a decoder does in full
size is not known from that.

Bytes are encoded by this program, never by whoever made the file, and kept in memory, those used last. Knows no labels
and no browser. What encoders see are not pictures but views, see ingest.py and views.py.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO

from PIL import Image

from annotator import decode, images
from annotator.errors import AnnotatorError, SourceError
from annotator.ingest import THUMBNAIL_SIDE, Ingested
from annotator.jobs.decoders import ResidentDecoders
from annotator.paths import name_of
from annotator.types import ImageSource

FULL_SIDE = 2560
"""Longest side in px of any encoded picture: a 4K screen shows no more of a photo beside the controls."""
SMALL_IMAGE = 64
"""A picture of at most this many px a side is small: encoded without loss."""
KEPT_BYTES = 64 << 20
N_ENCODERS = 2

DECODERS = ResidentDecoders()
"""Of this process, for all its pools."""
NEARLY = 1.1
"""Up to so many times a thumbnail's size, the thumbnail is shown: not worth reading a whole photo for."""

Key = tuple[str, int, int]
"""The pool's name, which is made of its contents; row; side. Equal keys are equal pictures, in whatever project."""


class Kept:
    """Encoded images in memory, those used last, up to `limit` bytes. Each is made once, however many ask for it, and
    at most two at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._n_bytes = 0
        self._images: OrderedDict[Key, bytes] = OrderedDict()
        self._changing = threading.Lock()
        self._turns = [threading.Lock() for _ in range(64)]  # askers for one image share one of them
        self._encoders = threading.BoundedSemaphore(N_ENCODERS)

    @property
    def n_bytes(self) -> int:
        """At most the limit."""
        return self._n_bytes

    def get(self, key: Key, make: Callable[[], bytes]) -> bytes:
        """The image of this key; what `make` raises is raised, and nothing kept."""
        found = self._find(key)
        if found is not None:
            return found
        with self._turns[hash(key) % len(self._turns)]:
            found = self._find(key)  # made while this thread waited for its turn
            if found is None:
                with self._encoders:
                    found = make()
                self._keep(key, found)
        return found

    def _find(self, key: Key) -> bytes | None:
        with self._changing:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def _keep(self, key: Key, image: bytes) -> None:
        if len(image) > self._limit:
            return  # it would push out all the others
        with self._changing:
            self._images[key] = image
            self._n_bytes += len(image)
            while self._n_bytes > self._limit:
                self._n_bytes -= len(self._images.popitem(last=False)[1])


_KEPT = Kept(KEPT_BYTES)
"""Of this process, for all its pools."""


class Pictures:
    """The pool's pictures in any size."""

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
        if not self._pool.has_thumbnails:  # the pool is an array, all of it in the cache
            whole = images.from_array(self._pool.views[row])
            return images.thumbnail(whole, side) if side else whole
        if not side:
            return DECODERS.picture(self._content(row), 0)
        thumbnail = self._pool.thumbnail(row)
        if side <= NEARLY * THUMBNAIL_SIDE or max(thumbnail.size) < THUMBNAIL_SIDE:
            return images.thumbnail(thumbnail, side)
        return DECODERS.picture(self._content(row), side)

    def encoded(self, row: int, side: int) -> bytes:
        """PNG or JPEG, at most `side` px on the longer side; 0 = full size, up to FULL_SIDE. Raises as `picture` does.

        The import's own encoding where that is what was asked for, else one made here.
        """
        if row >= len(self._pool.ids):
            raise SourceError(f"There is no image in row {row}. Open the page again.", "SRC_MISSING")
        return _KEPT.get((self._pool.folder.name, row, side), lambda: self._encode(row, side))

    def _encode(self, row: int, side: int) -> bytes:
        stored = self._pool.thumbnail_bytes(row)
        if stored is not None and _suffices(stored, side):
            return stored
        return encode(self.picture(row, min(side or FULL_SIDE, FULL_SIDE)))

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


def encode(picture: Image.Image) -> bytes:
    """PNG of a small picture, JPEG of any other."""
    return images.png(picture) if max(picture.size) <= SMALL_IMAGE else images.jpeg(picture)


def kind_of(encoded: bytes) -> str:
    """PNG or JPEG, by its first bytes."""
    return "PNG" if encoded.startswith(b"\x89PNG") else "JPEG"


def _suffices(stored: bytes, side: int) -> bool:
    """Whether the thumbnail is what was asked for: it fits, and a larger one would show hardly more."""
    longest = max(decode.DECODERS[kind_of(stored)](BytesIO(stored)).size)
    is_whole = longest < THUMBNAIL_SIDE
    return is_whole if side == 0 else longest <= side and (is_whole or side <= NEARLY * THUMBNAIL_SIDE)


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
