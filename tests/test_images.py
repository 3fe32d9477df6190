"""Hostile image files: each gets its own code, and what can be shown looks the same to everybody.

Longer than other files: every code has its file, and every format its own ways to be wrong.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from annotator import decode, images
from annotator.errors import ImageError

RED, GREEN, BLUE, YELLOW = (220, 30, 40), (20, 160, 60), (30, 60, 200), (230, 210, 20)
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Four colours, one in each corner: any turn or flip shows."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(GREEN, (width // 2, 0, width, height))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(YELLOW, (width // 2, height // 2, width, height))
    return picture


def noise(width: int = 320, height: int = 240) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(values, np.ones((8, 8, 1), dtype=np.uint8)))


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(size: tuple[int, int], depth: int, colour: int, rows: Iterable[bytes], *extra: bytes) -> bytes:
    """A PNG written chunk by chunk: depths, colours and lies that no encoder offers."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return PNG_MAGIC + header + b"".join(extra) + pixels + chunk(b"IEND", b"")


def pixels(content: bytes, side: int = 0) -> NDArray[np.uint8]:
    return np.asarray(decode.decode(content, side).image)


def code(content: bytes, side: int = 0) -> str:
    """What the decoder says: "ok" or the code of its refusal."""
    try:
        decode.decode(content, side)
    except ImageError as error:
        return error.code
    return "ok"


def near(colour: Iterable[int], truth: Iterable[int], tolerance: int) -> bool:
    return all(abs(int(value) - wanted) <= tolerance for value, wanted in zip(colour, truth, strict=True))


def corners(content: bytes) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, row by row."""
    picture = decode.decode(content).image
    width, height = picture.size
    return [
        tuple(picture.getpixel((x, y))) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)
    ]


def with_exif(directory: bytes) -> bytes:
    """A JPEG whose EXIF is big-endian with this directory."""
    return saved(quarters(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08" + directory)


def orientation(kind: int, count: int, value: bytes) -> bytes:
    """A directory of one entry, and no next one."""
    return struct.pack(">HHHI", 1, ORIENTATION, kind, count) + value.ljust(4, b"\0") + bytes(4)


# --- damaged files


def test_an_empty_file_is_said_to_be_empty() -> None:
    """A1: no bytes at all is IMG_EMPTY, not an unknown format."""
    assert code(b"") == "IMG_EMPTY"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_file_cut_short_is_never_half_shown(kind: str, share: float) -> None:
    """A2: a cut file is IMG_TRUNCATED in every format; no grey lower half passes for a picture."""
    content = saved(noise(), kind)
    assert code(content[: int(len(content) * share)]) == "IMG_TRUNCATED"


def test_a_progressive_jpeg_cut_short_is_refused_too() -> None:
    """A2: all of a progressive picture's rows are there early, but not their detail."""
    content = saved(noise(), "JPEG", progressive=True)
    assert code(content[: len(content) // 2]) == "IMG_TRUNCATED"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_one_missing_byte_gets_one_answer(kind: str) -> None:
    """A3: whoever asks and at whatever size, the answer to one file is the same."""
    content = saved(noise(), kind)[:-1]
    answers = {code(content, side) for side in (0, 0, 32, 96)}
    assert len(answers) == 1
    assert answers <= {"ok", "IMG_TRUNCATED"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_flipped_bytes_never_get_past_the_typed_error(kind: str) -> None:
    """A4: random damage decodes or is refused with a code; nothing else is ever raised."""
    rng = np.random.default_rng(4)
    content = saved(noise(96, 64), kind)
    for _ in range(60):
        damaged = np.frombuffer(content, dtype=np.uint8).copy()
        damaged[rng.integers(12, len(damaged), size=5)] = rng.integers(0, 256, size=5)
        assert code(damaged.tobytes()) in {"ok", "IMG_DECODE", "IMG_TRUNCATED", "IMG_META", "IMG_TOO_LARGE"}


@pytest.mark.parametrize("kind", [b"IDAT", b"PLTE", b"IEND"])
def test_a_wrong_checksum_in_a_png_is_damage(kind: bytes) -> None:
    """A5: pixels whose checksum is wrong are not believed, although they inflate."""
    content = bytearray(saved(quarters().quantize(4), "PNG"))
    start = content.rindex(kind)
    length = int.from_bytes(content[start - 4 : start], "big")
    content[start + 4 + length] ^= 1
    assert code(bytes(content)) == "IMG_DECODE"


# --- size


def declared(width: int, height: int) -> bytes:
    """A whole PNG of a few bytes that declares its size, but whose stream of pixels has no end."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return PNG_MAGIC + header + chunk(b"IDAT", zlib.compress(bytes(100))[:-6]) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header() -> None:
    """A6: 65,000 x 65,000 in some bytes is IMG_TOO_LARGE before anything is decoded."""
    content = raw_png((65_000, 65_000), 1, 0, [])
    assert len(content) < 100
    assert code(content) == "IMG_TOO_LARGE"


def test_the_pixel_limit_is_exact() -> None:
    """A7: at the limit the file is decoded (this one then lacks pixels), one pixel above it is not."""
    at_limit, above = (5, decode.MAX_PIXELS // 5), (2, (decode.MAX_PIXELS + 1) // 2)
    assert at_limit[0] * at_limit[1] == decode.MAX_PIXELS
    assert above[0] * above[1] == decode.MAX_PIXELS + 1
    assert code(declared(*at_limit)) == "IMG_TRUNCATED"
    assert code(declared(*above)) == "IMG_TOO_LARGE"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "JPEG", "WEBP"])
def test_every_format_is_measured_before_it_is_decoded(kind: str) -> None:
    """A6: the limit holds for each format's own header."""
    content = bytearray(saved(quarters(), kind, **({"lossless": True} if kind == "WEBP" else {})))
    if kind == "GIF":
        content[6:10] = struct.pack("<HH", 65_000, 65_000)
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", 65_000, 65_000)
    elif kind == "WEBP":
        content[21:25] = struct.pack("<I", 16_382 | 16_382 << 14)
    else:
        start = content.index(b"\xff\xc0")
        content[start + 5 : start + 9] = struct.pack(">HH", 65_000, 65_000)
    assert code(bytes(content)) == "IMG_TOO_LARGE"


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_the_thinnest_image_has_a_thumbnail(size: tuple[int, int]) -> None:
    """A8: no side of a thumbnail is ever 0 px, and it fits its square."""
    decoded = decode.decode(saved(Image.new("RGB", size, RED), "PNG"))
    thumbnail = images.thumbnail(decoded.image, 96)
    assert decoded.image.size == size
    assert 1 <= min(thumbnail.size) <= max(thumbnail.size) <= 96
    assert images.letterbox(decoded.image, 32).shape == (32, 32, 3)


def many_scans(n: int, side: int) -> bytes:
    """A progressive JPEG that says it is `side` px a side and draws its last pass `n` times more."""
    content = saved(Image.new("L", (64, 64), 90), "JPEG", progressive=True)
    frame = content.index(b"\xff\xc2") + 5
    content = content[:frame] + struct.pack(">HH", side, side) + content[frame + 4 :]
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + n * last + content[-2:]


def test_a_jpeg_drawn_over_and_over_is_refused_by_its_markers() -> None:
    """S9: scans times pixels are bounded before anything is decoded; ten over the largest picture are usual."""
    assert code(many_scans(60, 9400), side=320) == "IMG_TOO_LARGE"
    assert code(many_scans(60, 9400)) == "IMG_TOO_LARGE"
    assert code(many_scans(60, 64)) == "ok"
    assert code(many_scans(600, 64)) == "IMG_TOO_LARGE"


def test_scans_are_counted_where_a_decoder_finds_them() -> None:
    """S9: not in a comment or behind the end, and not before a filler, a restart or a stuffed byte is over."""
    picture = saved(noise(), "JPEG", quality=30)
    scan = picture.index(b"\xff\xda")
    comment = b"\xff\xff\xff\xfe" + struct.pack(">H", 402) + 100 * b"\xff\xda\xff\xd9"
    assert decode._n_scans(picture) == 1
    assert decode._n_scans(picture[:scan] + comment + picture[scan:]) == 1
    assert decode._n_scans(picture + picture) == 1
    assert decode._n_scans(many_scans(3, 64)) == 3 + decode._n_scans(many_scans(0, 64))
    assert decode._n_scans(picture[:scan] + b"\xff\xd3\xff\x01\0" + picture[scan:]) == 1


def test_a_png_of_endless_parts_is_refused() -> None:
    """S9: each chunk costs time, so their number is bounded as the pixels are."""
    usual = raw_png((1, 1), 8, 0, [b"\x80"], chunk(b"tEXt", b"a\0b") * 1000)
    assert code(usual) == "ok"
    assert code(raw_png((1, 1), 8, 0, [b"\x80"], chunk(b"IDAT", b"") * (decode.MAX_CHUNKS + 1))) == "IMG_META"


# --- several frames


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_used(kind: str) -> None:
    """A10, A12: the first frame is shown, and the flag says that there are more."""
    frames = [Image.new("RGB", (40, 30), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
    decoded = decode.decode(content)
    assert decoded.flags == ("multi_frame",)
    assert near(decoded.image.getpixel((20, 15)), RED, 2)


def test_ten_thousand_frames_are_not_read() -> None:
    """A11: what comes after the second frame is never looked at, be it damaged."""
    first = saved(quarters().quantize(4), "GIF")
    start = first.rindex(b",", 0, len(first) - 20)
    frame = first[start:-1]
    content = first[:-1] + frame * 10_000 + b"damage"
    decoded = decode.decode(content)
    assert decoded.flags == ("multi_frame",)
    assert decoded.image.tobytes() == decode.decode(first).image.tobytes()
    assert decode.decode(first).flags == ()


def test_the_second_picture_of_a_phone_photo_is_no_frame() -> None:
    """A10: a JPEG with another one behind it (depth, other eye) is a plain JPEG of its first picture."""
    content = saved(quarters(), "MPO", save_all=True, append_images=[noise(64, 48)], quality=95)
    decoded = decode.decode(content)
    assert (decoded.format, decoded.flags) == ("JPEG", ())
    assert near(corners(content)[0], RED, 8)


# --- colours


def cmyk(picture: Image.Image) -> Image.Image:
    """Plain inks without black: cyan = 255 - red, and so on."""
    inverted = Image.fromarray(255 - np.asarray(picture)).split()
    return Image.merge("CMYK", (*inverted, Image.new("L", picture.size, 0)))


def test_an_adobe_cmyk_jpeg_keeps_its_colours() -> None:
    """A13: Adobe stores CMYK inverted; shown are the colours that were meant."""
    content = saved(cmyk(quarters()), "JPEG", quality=95)
    assert b"Adobe" in content
    for shown, truth in zip(corners(content), (RED, GREEN, BLUE, YELLOW), strict=True):
        assert near(shown, truth, 6)


def test_a_ycck_jpeg_keeps_its_colours() -> None:
    """A14: inks stored as luma and chroma plus black are turned back to the colours that were meant."""
    ink = cmyk(quarters()).split()
    luma = Image.merge("RGB", ink[:3]).convert("YCbCr").split()
    # The encoder inverts each channel as Adobe does; luma and chroma of the inks must arrive as they are.
    channels = [Image.fromarray(255 - np.asarray(channel)) for channel in luma]
    content = bytearray(saved(Image.merge("CMYK", (*channels, ink[3])), "JPEG", quality=95))
    content[content.index(b"Adobe") + 11] = 2  # the marker's transform byte: YCCK
    for shown, truth in zip(corners(bytes(content)), (RED, GREEN, BLUE, YELLOW), strict=True):
        assert near(shown, truth, 8)


def test_16_bit_grey_keeps_the_high_byte() -> None:
    """A15: 16-bit grey is value >> 8: not clipped to white, and white stays white."""
    row = struct.pack(">5H", 0, 256, 0x7FFF, 0x8000, 0xFFFF)
    assert pixels(raw_png((5, 1), 16, 0, [row]))[0].tolist() == [[v] * 3 for v in (0, 1, 127, 128, 255)]


def test_16_bit_rgb_keeps_the_high_byte() -> None:
    """A16: 16-bit colour follows the same rule as 16-bit grey."""
    row = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0x8000)
    assert pixels(raw_png((2, 1), 16, 2, [row]))[0].tolist() == [[0x12, 0x56, 0x9A], [255, 0, 128]]


def test_16_bit_with_alpha_is_laid_on_white() -> None:
    """A16: 16-bit colour with alpha becomes RGB like any other."""
    row = struct.pack(">8H", 0xFF00, 0, 0, 0xFFFF, 0xFF00, 0, 0, 0)
    assert pixels(raw_png((2, 1), 16, 6, [row]))[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_a_1_bit_png_is_black_and_white() -> None:
    """A17: one bit a pixel gives 0 and 255."""
    assert pixels(raw_png((8, 1), 1, 0, [b"\xf0"]))[0, :, 0].tolist() == [255] * 4 + [0] * 4


def test_a_palette_with_alpha_is_laid_on_white() -> None:
    """A18: each palette entry has its own transparency; white shows through."""
    palette = chunk(b"PLTE", bytes((*RED, *GREEN, *BLUE)))
    content = raw_png((3, 1), 8, 3, [b"\0\1\2"], palette, chunk(b"tRNS", b"\xff\x80\x00"))
    shown = pixels(content)[0]
    assert shown[0].tolist() == list(RED)
    assert near(shown[1], [(value + 255) // 2 for value in GREEN], 2)
    assert shown[2].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key", "shown"),
    [
        (1, 0, b"\x80", struct.pack(">H", 0), [255, 255]),
        (2, 0, b"\x10", struct.pack(">H", 1), [0, 255]),
        (8, 0, b"\x07\x08", struct.pack(">H", 7), [255, 8]),
        (16, 0, struct.pack(">2H", 0x0707, 0x0708), struct.pack(">H", 0x0707), [255, 7]),
        (8, 2, b"\1\2\3\1\2\4", struct.pack(">3H", 1, 2, 3), [255, 1]),
        (16, 2, struct.pack(">6H", 256, 2, 3, 512, 2, 3), struct.pack(">3H", 256, 2, 3), [255, 2]),
    ],
)
def test_one_transparent_colour_is_found_at_every_depth(
    depth: int, colour: int, row: bytes, key: bytes, shown: list[int]
) -> None:
    """A18: a PNG may name one colour as transparent, in the file's own depth; only that one turns white."""
    assert pixels(raw_png((2, 1), depth, colour, [row], chunk(b"tRNS", key)))[0, :, 0].tolist() == shown


def test_an_invisible_image_is_white_with_a_flag() -> None:
    """A19: nothing to see is accepted as white, with a flag that says so."""
    decoded = decode.decode(saved(Image.new("RGBA", (5, 4), (*RED, 0)), "PNG"))
    assert decoded.flags == ("transparent",)
    assert decoded.image.getcolors() == [(20, (255, 255, 255))]


def bmp32(alpha: Sequence[int]) -> bytes:
    """A BMP (version 4) of one row that declares an alpha channel with these values."""
    pixels = b"".join(bytes((200, 60, 30, value)) for value in alpha)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, len(alpha), 1, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks
    body = header.ljust(108, b"\0")
    return struct.pack("<2sIHHI", b"BM", 14 + len(body) + len(pixels), 0, 0, 14 + len(body)) + body + pixels


def test_a_bmp_without_any_alpha_shows_its_colours() -> None:
    """P15: where the fourth byte is 0 everywhere nobody meant it: the colours are shown."""
    shown = decode.decode(bmp32([0, 0]))
    assert (shown.image.getpixel((0, 0)), shown.flags) == ((30, 60, 200), ())
    assert decode.decode(bmp32([0, 255])).image.getpixel((0, 0)) == decode.BACKGROUND
    assert decode.decode(bmp32([0, 255])).image.getpixel((1, 0)) == (30, 60, 200)


# --- orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    """A21: whichever way the pixels are stored, thumbnails, model views and exports see the same upright picture."""
    upright = [RED, GREEN, BLUE, YELLOW]
    stored = {1: "0123", 2: "1032", 3: "3210", 4: "2301", 5: "0213", 6: "1302", 7: "3120", 8: "2031"}[orientation]
    size = (64, 48) if orientation < 5 else (48, 64)
    picture = Image.new("RGB", size)
    for place, quarter in enumerate(stored):
        x, y = place % 2 * size[0] // 2, place // 2 * size[1] // 2
        picture.paste(upright[int(quarter)], (x, y, x + size[0] // 2, y + size[1] // 2))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = saved(picture, kind, exif=exif, quality=95)
    assert decode.decode(content).image.size == (64, 48)
    for view in (content, images.png(decode.decode(content).image), images.jpeg(decode.decode(content).image, 95)):
        assert all(near(shown, truth, 12) for shown, truth in zip(corners(view), upright, strict=True))


SHORT, ASCII = 3, 2


@pytest.mark.parametrize(
    "directory",
    [
        orientation(SHORT, 1, b"\0\0"),
        orientation(SHORT, 1, b"\0\x09"),
        orientation(SHORT, 1, b"\xff\xff"),
        orientation(SHORT, 2, b"\0\6\0\6"),
        orientation(ASCII, 2, b"6\0"),
        orientation(ASCII, 3, b"\0\6\0"),
        orientation(SHORT, 1, b"\0\6")[:6],
        b"\xff\xff",
        b"",
    ],
)
def test_an_invalid_orientation_counts_as_upright(directory: bytes) -> None:
    """A22: 0, 9, text, several values or EXIF that ends too early is treated as 1; the picture is not lost."""
    assert decode.decode(with_exif(orientation(SHORT, 1, b"\0\6"))).image.size == (48, 64)
    shown = corners(with_exif(directory))
    assert all(near(colour, truth, 12) for colour, truth in zip(shown, (RED, GREEN, BLUE, YELLOW), strict=True))


# --- metadata and profiles


def test_nothing_of_the_metadata_survives_re_encoding() -> None:
    """A24: place, camera serial, comment and profile stay behind, in PNG and JPEG alike."""
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    exif[0x8769] = {0xA431: "SERIAL-4711"}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = saved(quarters(), "JPEG", exif=exif, comment=b"SECRET", icc_profile=profile)
    assert b"SERIAL-4711" in content
    decoded = decode.decode(content).image
    assert not decoded.info
    for encoded in (images.png(decoded), images.jpeg(decoded), images.png(images.thumbnail(decoded, 16))):
        assert not any(word in encoded for word in (b"SERIAL-4711", b"SECRET", b"Exif", b"ICC_PROFILE", b"iCCP"))


@pytest.mark.parametrize("profile", [b"not a profile", b"\0" * 4000, b"acsp" * 40_000])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    """A25: colours are then shown as stored."""
    assert pixels(saved(quarters(), "PNG", icc_profile=profile)).tobytes() == quarters().tobytes()


def test_a_profile_for_other_colours_is_ignored() -> None:
    """A25: an RGB profile in a grey picture means nothing."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = quarters().convert("L")
    assert pixels(saved(grey, "PNG", icc_profile=profile))[..., 0].tobytes() == grey.tobytes()


def test_a_profile_is_applied() -> None:
    """A25: in a profile whose primaries red and green are swapped, a red comes out as the green it means."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    picture = Image.new("RGB", (4, 4), (200, 40, 90))
    shown = decode.decode(saved(picture, "PNG", icc_profile=bytes(profile))).image
    assert near(shown.getpixel((1, 1)), (40, 200, 90), 3)
    assert near(decode.decode(saved(picture, "PNG")).image.getpixel((1, 1)), (200, 40, 90), 0)


@pytest.mark.parametrize("place", ["before the pixels", "behind the pixels"])
def test_a_text_bomb_in_a_png_is_refused(place: str) -> None:
    """A31: 100 MB of text in 100 kB is IMG_META, wherever it stands."""
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 100_000_000, 9))
    content = raw_png((1, 1), 8, 0, [b"\x80"])
    at = content.index(b"IDAT") - 4 if place.startswith("before") else content.index(b"IEND") - 4
    assert len(bomb) < 200_000
    assert code(content[:at] + bomb + content[at:]) == "IMG_META"


# --- what is not decoded


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"8BPS\0\1\0\0\0\0\0\0", "PSD"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"icns\0\0\0\x10", "ICNS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\xd7\xcd\xc6\x9a\0\0", "WMF"),
        (b"DDS |\0\0\0", "DDS"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "SVG"),
        (b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>', "SVG"),
        (b"\xef\xbb\xbf\n<!doctype html><html><body>hello</body></html>", "web page"),
        (b"<HTML><script>alert(1)</script></HTML>", "web page"),
        (b"MZ\x90\0\3\0\0\0", "program"),
        (b"\x7fELF\2\1\1", "program"),
        (b"PK\3\4\x14\0", "zip"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "sound"),
        (struct.pack(">27f", *range(27)), "not recognised"),
        (b"just some text", "not recognised"),
    ],
)
def test_other_formats_are_named_and_never_opened(content: bytes, named: str) -> None:
    """A26 to A29: the first bytes decide, whatever the name says; the message names what was found."""
    with pytest.raises(ImageError, match=named) as caught:
        decode.decode(content)
    assert caught.value.code == "IMG_FORMAT"


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "TGA", "PCX", "SGI", "EPS", "SPIDER", "ICNS", "DDS", "AVIF"])
def test_formats_that_pillow_could_open_are_refused(kind: str) -> None:
    """A27: whole, valid files of other formats are IMG_FORMAT: only five decoders are ever reached."""
    picture = quarters(64, 64).convert("F") if kind == "SPIDER" else quarters(64, 64)
    assert code(saved(picture, kind)) == "IMG_FORMAT"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_the_content_decides_on_the_format(kind: str) -> None:
    """A32: the format is what the bytes are; no name is even asked for."""
    assert decode.decode(saved(quarters(), kind)).format == kind


# --- one view for everybody


def test_a_reduced_jpeg_keeps_what_was_asked_for() -> None:
    """With `side` a JPEG may come out smaller, but no side below `side`, and it is the same picture."""
    content = saved(noise(), "JPEG", quality=95, subsampling=0)
    whole, reduced = decode.decode(content), decode.decode(content, side=60)
    assert whole.image.size == (320, 240)
    assert reduced.image.size == (80, 60)
    assert decode.decode(content, side=300).image.size == (320, 240)
    blocks = np.asarray(whole.image.resize((80, 60), Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(reduced.image).astype(int) - blocks).mean() < 2


def test_a_thumbnail_is_never_enlarged() -> None:
    """A small image stays as it is; a larger one fits the square with its aspect."""
    assert images.thumbnail(quarters(), 96).size == (64, 48)
    assert images.thumbnail(quarters(), 32).size == (32, 24)


def test_a_letterbox_keeps_the_aspect_and_continues_the_edges() -> None:
    """The bars have the mean colour of the edges they touch; the picture in the middle is whole."""
    wide = images.letterbox(Image.new("RGB", (40, 10), RED), 20)
    assert wide.shape == (20, 20, 3)
    assert wide.dtype == np.uint8
    assert (wide == RED).all()
    tall = Image.new("RGB", (8, 16), GREEN)
    tall.paste(BLUE, (2, 0, 6, 16))
    boxed = images.letterbox(tall, 32)
    assert (boxed[:, [0, 7, 24, 31]] == GREEN).all()
    assert (boxed[:, 14:18] == BLUE).all()


def test_an_array_becomes_an_rgb_image() -> None:
    """One channel is repeated, three are kept."""
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert np.asarray(images.from_array(grey)).tolist() == np.repeat(grey, 3, axis=2).tolist()
    assert np.asarray(images.from_array(np.asarray(quarters()))).tobytes() == quarters().tobytes()


def test_png_is_exact_and_jpeg_is_close() -> None:
    """What is re-encoded decodes to the same picture."""
    assert pixels(images.png(quarters())).tobytes() == quarters().tobytes()
    shown = corners(images.jpeg(quarters()))
    assert all(near(colour, truth, 8) for colour, truth in zip(shown, (RED, GREEN, BLUE, YELLOW), strict=True))
