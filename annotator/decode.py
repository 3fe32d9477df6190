"""Bytes -> one upright RGB picture for people, models and exports, safely.

An image is bytes from somewhere: its name is never believed, its first bytes choose one of five decoders, its header is
checked before a pixel is decoded. It knows no folder and no pool.

What every image becomes: 8-bit RGB, upright, in sRGB, its first frame, transparency laid on white.

- Depth: 16-bit samples keep their high byte (`value >> 8`, white stays white).
- Colour: an embedded profile is applied, then dropped; a broken or unfitting one is ignored. CMYK without a profile is
  converted plainly; Adobe's inverted CMYK and YCCK are turned back.
- Orientation: EXIF values 1 to 8 are honoured, anything else counts as 1.
- Metadata (place, camera, comments) never leaves: it is dropped here, and what is encoded carries none.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from annotator.errors import ImageError
from annotator.images import bare

MAX_PIXELS = 89_478_485
"""Width x height at most: 256 MiB as RGB, and the size from which Pillow itself warns of a decompression bomb."""
MAX_SCANNED = 12 * MAX_PIXELS
"""Pixels times scans of a JPEG at most: each scan goes over the whole picture, and encoders write about ten."""
MAX_SCANS = 500
"""Of any JPEG: each costs something, however small the picture."""
MAX_CHUNKS = 200_000
"""Of a PNG: the largest picture in chunks of 2 kB takes fewer."""
BACKGROUND = (255, 255, 255)
"""What shows through transparency."""


class _Jpeg(JpegImageFile):
    """A JPEG without its resolution: looking it up would parse EXIF and warn of every broken one."""

    def _read_dpi_from_exif(self) -> None:
        return


# The decoders by name and no others: Pillow's `open` would import, and could be led to, every plug-in it has.
DECODERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": _Jpeg,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
}
SIGNATURES: tuple[tuple[str, int, bytes], ...] = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    ("WEBP", 8, b"WEBP"),
    ("BMP", 0, b"BM"),
)
OTHER_IMAGES: tuple[tuple[str, int, bytes], ...] = (
    ("AVIF", 4, b"ftypavif"),
    ("AVIF", 4, b"ftypavis"),
    ("HEIC/HEIF", 4, b"ftyphei"),
    ("HEIC/HEIF", 4, b"ftyphev"),
    ("HEIC/HEIF", 4, b"ftypmif1"),
    ("HEIC/HEIF", 4, b"ftypmsf1"),
    ("TIFF or camera raw", 0, b"II*\0"),
    ("TIFF or camera raw", 0, b"MM\0*"),
    ("BigTIFF", 0, b"II+\0"),
    ("BigTIFF", 0, b"MM\0+"),
    ("Photoshop (PSD)", 0, b"8BPS"),
    ("FITS", 0, b"SIMPLE  ="),
    ("PostScript (EPS)", 0, b"%!PS"),
    ("PostScript (EPS)", 0, b"\xc5\xd0\xd3\xc6"),
    ("ICNS", 0, b"icns"),
    ("ICO", 0, b"\0\0\1\0"),
    ("PDF", 0, b"%PDF"),
    ("WMF", 0, b"\xd7\xcd\xc6\x9a"),
    ("EMF", 40, b" EMF"),
    ("DDS", 0, b"DDS "),
    ("JPEG 2000", 4, b"jP  \r\n"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG XL", 4, b"JXL \r\n"),
    *(("Netpbm (PPM, PGM, PBM)", 0, b"P%d%c" % (number, blank)) for number in range(1, 8) for blank in b" \t\r\n"),
)
_BEGINNINGS = {
    offset: tuple(magic for _, place, magic in (*SIGNATURES, *OTHER_IMAGES) if place == offset)
    for offset in {place for _, place, _ in (*SIGNATURES, *OTHER_IMAGES)}
}
"""Offset -> what stands there in an image, of any format."""
NOT_IMAGES: tuple[tuple[str, int, bytes], ...] = (
    ("a Windows program", 0, b"MZ"),
    ("a Linux program", 0, b"\x7fELF"),
    ("a zip archive or office document", 0, b"PK\3\4"),
    ("a gzip archive", 0, b"\x1f\x8b"),
    ("a video or sound", 0, b"RIFF"),
    ("a video or sound", 4, b"ftyp"),
)
HEAD = 64
"""Bytes in which every signature lies."""
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
"""How a whole file of the format ends."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the stored pixels upright."""
ORIENTATION = 0x0112
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""The next marker of a JPEG: neither a 0xFF of the pixels, which a zero follows, nor a restart, nor a filler."""
ALONE = b"\x01\xd8"
"""Markers that no length follows (ITU T.81, table B.1): TEM, SOI."""
START_OF_SCAN, END_OF_IMAGE = b"\xda", b"\xd9"
ONE_SHORT = [3, 1]
"""Type and count of the only form in which EXIF may state the orientation."""


@dataclass(frozen=True)
class Decoded:
    """One image as everybody sees it, and what was noticed on the way."""

    image: Image.Image
    """Upright RGB without metadata."""
    format: str
    """What the bytes are, whatever the name says: JPEG, PNG, GIF, WEBP or BMP."""
    flags: tuple[str, ...] = ()
    """"multi_frame" (only the first is used), "transparent" (not one visible pixel)."""


def decode(content: bytes, side: int = 0) -> Decoded:
    """The bytes of an image file as upright RGB.

    With `side` > 0 a large JPEG may come out at 1/2, 1/4 or 1/8 of its size, both sides still at least `side` px: the
    same picture, several times sooner. Raises ImageError: IMG_EMPTY, IMG_FORMAT, IMG_TOO_LARGE, IMG_META,
    IMG_TRUNCATED or IMG_DECODE.
    """
    if not content:
        raise ImageError("The file is empty (0 bytes). Copy it again from where it came from.", "IMG_EMPTY")
    kind = _kind(content)
    try:
        return _decode(content, kind, side)
    except ImageError:
        raise
    except Exception as error:  # a decoder raises whatever the broken bytes lead it to
        raise _refusal(error, content, kind) from error


def begins_like_image(head: bytes) -> bool:
    """Whether these first bytes, at least `HEAD` of a longer file, are those of an image, of any format."""
    return any(head.startswith(magics, offset) for offset, magics in _BEGINNINGS.items())


def _kind(content: bytes) -> str:
    """Which of the five formats the first bytes announce; IMG_FORMAT for any other."""
    kind = _match(SIGNATURES, content)
    if kind is not None:
        return kind
    other = "SVG" if b"<svg" in content[:1024].lower() else _match(OTHER_IMAGES, content)
    if other is not None:
        what, remedy = f"a {other} file", "Convert it to JPEG or PNG first."
    else:
        what = _match(NOT_IMAGES, content) or _text_kind(content) or "of a kind that is not recognised"
        remedy = "Take it out of the folder, or put the picture it stands for in its place."
    raise ImageError(f"The file is {what}; JPEG, PNG, GIF, WebP and BMP images are read. {remedy}", "IMG_FORMAT")


def _match(signatures: tuple[tuple[str, int, bytes], ...], content: bytes) -> str | None:
    return next((name for name, offset, magic in signatures if content.startswith(magic, offset)), None)


def _text_kind(content: bytes) -> str | None:
    head = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script")):
        return "a web page"
    return "an XML document" if head.startswith(b"<") else None


def _decode(content: bytes, kind: str, side: int) -> Decoded:
    if kind == "PNG":
        _check_png(content)
    opened = DECODERS[kind](io.BytesIO(content))
    _check_size(opened.size)
    if isinstance(opened, PngImageFile):
        _rescale_key(opened, depth=content[24])
    if isinstance(opened, JpegImageFile):
        _check_scans(content, opened.size)
    if isinstance(opened, JpegImageFile) and side > 0:
        opened.draft(None, (side, side))
    # Before loading, and never by counting frames: a GIF of 10,000 would be read to its end.
    flags = ["multi_frame"] if getattr(opened, "is_animated", False) else []
    opened.load()
    image, alpha = _split(opened)
    if kind == "BMP" and alpha is not None and alpha.getextrema() == (0, 0):
        alpha = None  # programs write the fourth byte without meaning it: the colours are the picture
    image = _to_srgb(image, opened.info.get("icc_profile"))
    if alpha is not None:
        flags += ["transparent"] if alpha.getextrema() == (0, 0) else []
        image = _on_background(image, alpha)
    return Decoded(bare(_upright(image, opened.info.get("exif"))), kind, tuple(flags))


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(f"{size[0]:,} x {size[1]:,} pixels are")


def _too_large(what: str) -> ImageError:
    return ImageError(f"{what} more than the limit of {MAX_PIXELS:,}. Scale the image down first.", "IMG_TOO_LARGE")


def _check_scans(content: bytes, size: tuple[int, int]) -> None:
    """Refuse a small JPEG that goes over its pixels again and again; blocks of 8 px are the least that is read."""
    n_scans = _n_scans(content)
    n_pixels = (size[0] + 7) // 8 * 64 * ((size[1] + 7) // 8)
    if n_scans > MAX_SCANS or n_scans * n_pixels > MAX_SCANNED:
        raise ImageError(
            f"The JPEG draws its {size[0]:,} x {size[1]:,} pixels {n_scans:,} times over, far more often than any "
            "picture needs. Save it again as an ordinary JPEG.",
            "IMG_TOO_LARGE",
        )


def _n_scans(content: bytes) -> int:
    """How many scans a JPEG has up to its end (ITU T.81, annex B)."""
    n_scans, position = 0, 0
    while (found := MARKER.search(content, position)) and found[1] != END_OF_IMAGE:
        n_scans += found[1] == START_OF_SCAN
        length = 0 if found[1] in ALONE else int.from_bytes(content[found.end() : found.end() + 2])
        position = found.end() + length
    return n_scans


def _check_png(content: bytes) -> None:
    """Every chunk's checksum up to the end; Pillow skips those of the pixels themselves (PNG 1.2, section 3.2)."""
    position, kind, n_chunks = 8, b"", 0
    while kind != b"IEND":
        n_chunks += 1
        if n_chunks > MAX_CHUNKS:
            raise ImageError(f"The PNG has more than {MAX_CHUNKS:,} parts. Save it again without metadata.", "IMG_META")
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", content, end)
        if zlib.crc32(memoryview(content)[position + 4 : end]) != checksum:
            raise ImageError(
                f"The PNG is damaged: wrong checksum in its {kind.decode('latin-1')!r} part. Copy it again."
            )
        position = end + 4


def _rescale_key(opened: PngImageFile, depth: int) -> None:
    """Bring the one transparent colour to the 8 bits of the pixels; Pillow leaves it at the file's depth."""
    key = opened.info.get("transparency")
    if depth == 16 and isinstance(key, tuple):
        opened.info["transparency"] = tuple(value >> 8 for value in key)
    if depth in (2, 4) and opened.mode == "L" and isinstance(key, int):
        opened.info["transparency"] = key * 255 // (2**depth - 1)


def _split(opened: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours as 8-bit L, RGB or CMYK, and the alpha channel where anything could be transparent."""
    if opened.mode == "I;16":
        return _split_grey16(opened)
    if opened.has_transparency_data:
        rgba = opened.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if opened.mode in ("L", "RGB", "CMYK"):
        return opened, None
    return opened.convert("RGB"), None


def _split_grey16(opened: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(opened)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" not in opened.info:
        return grey, None
    opaque = values != opened.info["transparency"]
    return grey, Image.fromarray(opaque.astype(np.uint8) * np.uint8(255))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB by the embedded colour profile; by plain conversion where there is none, or none that can be used."""
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def _on_background(image: Image.Image, alpha: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size, BACKGROUND)
    flat.paste(image, mask=alpha)
    return flat


def _upright(image: Image.Image, exif: bytes | None) -> Image.Image:
    turn = UPRIGHT.get(_orientation((exif or b"").removeprefix(b"Exif\0\0")))
    return image if turn is None else image.transpose(turn)


def _orientation(tiff: bytes) -> int:
    """The orientation in the first directory of EXIF, 1 where there is none that is valid (EXIF 2.3, section 4.6).

    Read here and not by Pillow, which would bring in its TIFF reader for the sake of one number.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (n_entries,) = struct.unpack_from(f"{order}H", tiff, start)
        entries = [struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * entry) for entry in range(n_entries)]
    except struct.error:  # shorter than it says
        return 1
    return next((value for tag, *kind, value in entries if tag == ORIENTATION and kind == ONE_SHORT), 1)


def _refusal(error: Exception, content: bytes, kind: str) -> ImageError:
    """What a decoder's complaint means to a person."""
    complaint = str(error)
    if isinstance(error, MemoryError | Image.DecompressionBombError | Image.DecompressionBombWarning):
        return _too_large("Its pixels are")
    if "Decompressed data too large" in complaint or "Too much memory used in text" in complaint:
        return ImageError(
            "The text or colour profile inside the PNG unpacks to far more than any picture needs. "
            "Save the image again without metadata.",
            "IMG_META",
        )
    if _is_cut_short(content, kind, complaint):
        return ImageError(f"The {kind} ends before its picture does. Copy it again, whole.", "IMG_TRUNCATED")
    return ImageError(f"The {kind} is damaged: {complaint or type(error).__name__}. Copy or save it again.")


def _is_cut_short(content: bytes, kind: str, complaint: str) -> bool:
    if kind == "WEBP":
        return len(content) < 8 + int.from_bytes(content[4:8], "little")
    return "truncated" in complaint.lower() or not content.endswith(ENDINGS.get(kind, b""))
