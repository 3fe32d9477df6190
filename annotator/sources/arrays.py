"""Images, labels and class names in a NumPy .npz; npz_file.py opens it, and executes nothing in it.

Keys are compared without case, and exactly one of each line may be there (the first is required):

    images           images image x data x_train train_images images_train arr_0
    labels           labels label y targets target y_train train_labels labels_train arr_1
    test images      x_test test_images images_test
    test labels      y_test test_labels labels_test
    class names      class_names label_names target_names

Any other key is ignored and listed in `left_out`; in a file without labels it is refused, since it may be a misspelt
key of labels. Test images are held out. In this app's own exports, which have outcomes and event_ids too, the rows that
a person gave a class are labeled; what the model predicted is no known label.

Shapes: (n, height, width) and (n, height, width, c) with c = 1, 3 or 4, or the channels in front; transparency is laid
on white. A shape that can be read both ways is asked about (`channels`); one image, (height, width, 3), is refused.

Values: 8-bit integers are pixels, booleans black and white. Others are read on a scale, which is taken from the values
where they leave no doubt: 0 to 1 (unit), 0 to 255 with some above 127 (byte), -1 to 1 with some below -0.5 (symmetric);
else it is asked about (`scale`), and "max" takes the largest value for white.

Labels: whole numbers from 0, as any number type; -1 and NaN mean unlabeled; one-hot rows, an empty one unlabeled; or
text, "" unlabeled. Numbers index the class names. Without those, each number or text that occurs is a class of that
name, 2 before 10.

Longer than other files: each of these readings comes with the sentence that refuses what does not fit it, and names the
key, the row and the value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotator.decode import BACKGROUND, MAX_PIXELS
from annotator.errors import ConfigError, SourceError
from annotator.sources.files import locate, printable
from annotator.sources.listing import natural_order
from annotator.sources.npz_file import PIECE, NpzFile, StoredArray, Values, list_keys
from annotator.sources.rows import MAX_IMAGES, MAX_VALUES, ArrayRows, name_codes
from annotator.types import UNLABELED, ImageArray, IntArray

KEYS = {
    "images": "images image x data x_train train_images images_train arr_0".split(),
    "labels": "labels label y targets target y_train train_labels labels_train arr_1".split(),
    "test images": "x_test test_images images_test".split(),
    "test labels": "y_test test_labels labels_test".split(),
    "class names": "class_names label_names target_names".split(),
}
RANGES = {"unit": (0.0, 1.0), "byte": (0.0, 255.0), "symmetric": (-1.0, 1.0)}
"""Scale -> the values of black and white."""
SCALES = ("auto", *RANGES, "max")
CHANNELS = ("auto", "first", "last")
OVERSHOOT = 0.1
"""Share of a scale's range by which values may exceed it, as resizing leaves them; they are clipped."""
MAX_CLASSES = 10_000
OWN = {"outcomes", "event_ids"}
"""Keys by which an export of this app is known."""
BY_A_PERSON = "label"
"""The outcome of such a row where a person gave it a class."""
MAX_CHARACTER = 0x10FFFF
"""Of Unicode; NumPy's text is four bytes a character, whatever they hold."""
MAX_CODE = 2**53
"""The largest label number; beyond it floating-point numbers skip some."""
SHOWN = 5
"""Places named in a message."""
MAX_TEXT_BYTES = 2**28
"""Of an array of labels or names as it is stored."""


class Arrays(ArrayRows):
    """Images in a NumPy .npz, with labels, class names and a test set where it has them."""

    def __init__(self, path: str, root: str | None = None, scale: str = "auto", channels: str = "auto") -> None:
        """Read the .npz at `path`, which must lie under `root` where that is given.

        `scale` is auto, unit, byte, symmetric or max, `channels` auto, first or last. Raises ConfigError for other
        words; SourceError: SRC_..., NPZ_PICKLE, NPZ_CORRUPT, NPZ_KEYS, NPZ_TOO_LARGE, NPZ_EMPTY, NPZ_SHAPE, NPZ_TYPE,
        NPZ_NONFINITE, NPZ_RANGE, NPZ_LENGTH or NPZ_LABEL.
        """
        _check_word("scale", scale, SCALES)
        _check_word("channels", channels, CHANNELS)
        file = locate(path, root)
        name = printable(file.stem.encode("utf-8", "surrogateescape"))
        opened = NpzFile(file)
        parts = _parts(opened)
        pool = _read_images(parts["images"], scale, channels)
        test = _read_images(parts["test images"], scale, channels) if "test images" in parts else None
        _check_alike(pool, test)
        codes, test_codes = _read_labels(parts, "labels", pool), _read_labels(parts, "test labels", test)
        codes = _by_people(opened, codes)
        class_names, truth, test_truth = _truths(codes, test_codes, _read_names(parts))
        held_out = None if test is None else ArrayRows(f"{name}-test", test, test_truth, class_names)
        super().__init__(name, pool, truth, class_names, held_out)
        self.left_out = _unknown(opened.keys)


def _check_word(parameter: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise ConfigError(f"{parameter} must be one of {', '.join(known)}, not {word!r}.")


# ---- keys


def _parts(file: NpzFile) -> dict[str, StoredArray]:
    """Key -> part of the table above."""
    found = {part: [key for key in file.keys if key.lower() in known] for part, known in KEYS.items()}
    unknown = _unknown(file.keys)
    if unknown and not found["labels"]:
        raise _keys_error(f"finds no labels, and does not know {list_keys(unknown)}", file)
    for part, keys in found.items():
        if len(keys) > 1:
            raise _keys_error(f"could take each of {list_keys(tuple(keys))} for the {part}", file)
    if not found["images"]:
        raise _keys_error("finds no images", file)
    if found["test labels"] and not found["test images"]:
        raise _keys_error("finds test labels without test images", file)
    return {part: file.array(keys[0]) for part, keys in found.items() if keys}


def _unknown(keys: Sequence[str]) -> tuple[str, ...]:
    """Keys that are in no line of the table."""
    return tuple(key for key in keys if not any(key.lower() in known for known in KEYS.values()))


def _keys_error(what: str, file: NpzFile) -> SourceError:
    advice = "Save it with the keys images, and where there are any labels, class_names, x_test, y_test; no others."
    if any(key.lower().endswith((".png", ".jpg", ".jpeg")) for key in file.keys):
        advice = "It holds image files: import it as a zip, named .zip."
    return SourceError(f"The import {what} in the .npz. Its keys: {list_keys(file.keys)}. {advice}", "NPZ_KEYS")


# ---- images


def _read_images(stored: StoredArray, scale: str, channels: str) -> ImageArray:
    """(n, height, width, 1 or 3) uint8 from the stored type. The header is checked before anything is allocated."""
    _check_values(stored)
    axis = _channel_axis(stored.shape, channels)
    flat = np.empty(stored.n_values, dtype=np.uint8)
    black, white = _range(stored, scale)
    for start, piece in stored.pieces():
        flat[start : start + len(piece)] = _eight_bits(piece, black, white)
    shaped = flat.reshape(stored.shape, order="F" if stored.fortran else "C")
    last = shaped[..., np.newaxis] if axis is None else np.moveaxis(shaped, axis, -1)
    return _on_background(last) if last.shape[-1] == 4 else np.ascontiguousarray(last)


def _check_values(stored: StoredArray) -> None:
    if stored.dtype.kind not in "buif":
        raise SourceError(
            f"{stored.key!r} holds {stored.dtype}, and pixels are whole or floating-point numbers. Convert them.",
            "NPZ_TYPE",
        )
    shape, told = stored.shape, f"{stored.key!r} has the shape {stored.shape}"
    if len(shape) not in (3, 4):
        raise SourceError(
            f"{told}; images are (n, height, width) or (n, height, width, channels).{_hint(shape)}", "NPZ_SHAPE"
        )
    if shape[0] == 0:
        raise SourceError(f"{told}: not one image. Save at least one.", "NPZ_EMPTY")
    if 0 in shape:
        raise SourceError(f"{told}: images without pixels. Save some with.", "NPZ_SHAPE")
    if stored.n_values > MAX_VALUES or shape[0] > MAX_IMAGES or stored.n_values // shape[0] > MAX_PIXELS:
        raise SourceError(
            f"{told}, more than the limits: {MAX_IMAGES:,} images of {MAX_PIXELS:,} values each, "
            f"{MAX_VALUES:,} values in all. Scale the images down, or save fewer.",
            "NPZ_TOO_LARGE",
        )


def _hint(shape: tuple[int, ...]) -> str:
    side = round(shape[1] ** 0.5) if len(shape) == 2 else 0
    return f" Flattened images? Save array.reshape(-1, {side}, {side})." if side > 1 and side**2 == shape[1] else ""


def _channel_axis(shape: tuple[int, ...], channels: str) -> int | None:
    """The axis of the channels, None for grey images without one."""
    if len(shape) == 3:
        if shape[2] not in (1, 3, 4) or shape[1] == shape[2]:
            return None
        raise SourceError(
            f"The shape {shape} looks like one image with its channels, not like (n, height, width). "
            "Save it as array[np.newaxis].",
            "NPZ_SHAPE",
        )
    looked_at = {"auto": (1, 3), "first": (1,), "last": (3,)}[channels]
    possible = [axis for axis in looked_at if shape[axis] in (1, 3, 4)]
    if len(possible) == 1:
        return possible[0]
    if possible:
        what = "could have its channels first or last. Say channels=first or channels=last."
    else:
        what = "has no axis of 1, 3 or 4 channels where it is looked for. Save one, last or right behind n."
    raise SourceError(f"The shape {shape} {what}", "NPZ_SHAPE")


def _range(stored: StoredArray, scale: str) -> tuple[float, float]:
    """Which stored values are black and white."""
    if stored.dtype.kind == "b":
        return RANGES["unit"]
    if stored.dtype == np.uint8 and scale == "auto":
        return RANGES["byte"]
    low, high = _span(stored)
    word = _detected(stored, low, high) if scale == "auto" else scale
    black, white = {**RANGES, "max": (0.0, high or 1.0)}[word]
    slack = OVERSHOOT * (white - black)
    if not black - slack <= low <= high <= white + slack:
        raise _range_error(stored, low, high, f"scale={word} is for values from {black:g} to {white:g}.")
    return black, white


def _detected(stored: StoredArray, low: float, high: float) -> str:
    """The scale, where values from `low` to `high` leave no doubt."""
    if stored.dtype.kind == "f" and low >= 0 and high <= 1:
        return "unit"
    if low >= 0 and 127 < high <= 255:
        return "byte"
    if stored.dtype.kind == "f" and -1 <= low <= -0.5 and high <= 1:
        return "symmetric"
    raise _range_error(stored, low, high, "What is black and what is white?")


def _range_error(stored: StoredArray, low: float, high: float, what: str) -> SourceError:
    return SourceError(
        f"{stored.key!r} holds values from {low:g} to {high:g}. {what} Say scale=unit (0 to 1), byte (0 to 255), "
        "symmetric (-1 to 1) or max (0 to the largest), or rescale them.",
        "NPZ_RANGE",
    )


def _span(stored: StoredArray) -> tuple[float, float]:
    """The smallest and the largest value. Raises NPZ_NONFINITE with the first places where there is none."""
    low, high, n_bad = np.inf, -np.inf, 0
    places: list[int] = []
    for start, piece in stored.pieces():
        bad = np.flatnonzero(~np.isfinite(piece))
        n_bad += len(bad)
        places += (bad[: SHOWN - len(places)] + start).tolist()
        low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    if not n_bad:
        return low, high
    found = [np.unravel_index(place, stored.shape, order="F" if stored.fortran else "C") for place in places]
    told = ", ".join(str([int(index) for index in place]) for place in found)
    raise SourceError(
        f"{stored.key!r} holds {n_bad:,} values that are no numbers or infinite, first at {told}. "
        "Leave those images out, or give the values a number.",
        "NPZ_NONFINITE",
    )


def _eight_bits(piece: Values, black: float, white: float) -> NDArray[np.uint8]:
    if piece.dtype == np.uint8 and (black, white) == RANGES["byte"]:
        return piece
    scaled = (piece.astype(np.float64) - black) * (255 / (white - black))
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def _on_background(rgba: ImageArray) -> ImageArray:
    """Transparency laid on the background that every image has, some images at a time."""
    flat = np.empty((*rgba.shape[:3], 3), dtype=np.uint8)
    step = max(1, PIECE * len(rgba) // rgba.size)
    for start in range(0, len(rgba), step):
        part = rgba[start : start + step].astype(np.uint32)
        alpha = part[..., 3:]
        background = np.array(BACKGROUND, dtype=np.uint32) * (255 - alpha)
        flat[start : start + step] = (part[..., :3] * alpha + background + 127) // 255
    return flat


def _check_alike(pool: ImageArray, test: ImageArray | None) -> None:
    if test is not None and test.shape[1:] != pool.shape[1:]:
        raise SourceError(
            f"The test images are {test.shape[1:]} and the others {pool.shape[1:]} (height, width, channels). "
            "Make them alike.",
            "NPZ_SHAPE",
        )


# ---- labels


def _read_labels(parts: dict[str, StoredArray], part: str, labeled: ImageArray | None) -> Values | None:
    """(n,) int64 codes with -1 = unlabeled, or (n,) text with "" = unlabeled; None where there are none."""
    if part not in parts or labeled is None:
        return None
    stored = parts[part]
    _check_small(stored)
    if len(stored.shape) not in (1, 2) or 0 in stored.shape[1:]:
        raise _label_error(stored, f"has the shape {stored.shape}, and labels are (n,) or one-hot rows (n, classes)")
    if stored.shape[0] != len(labeled):
        raise SourceError(
            f"{stored.key!r} has {stored.shape[0]:,} labels for {len(labeled):,} images. Save one for each.",
            "NPZ_LENGTH",
        )
    if stored.n_values > len(labeled):
        return _one_hot(stored)
    return _texts(stored) if stored.dtype.kind in "US" else _numbers(stored)


def _numbers(stored: StoredArray) -> IntArray:
    values = stored.whole().ravel()
    known = np.where(np.isnan(values), UNLABELED, values) if stored.dtype.kind == "f" else values
    bad = ~((known >= UNLABELED) & (known <= MAX_CODE) & (known == np.rint(known)))
    if bad.any():
        raise _label_error(stored, f"holds what is no class number, {_where(bad, values)}")
    return known.astype(np.int64)


def _one_hot(stored: StoredArray) -> IntArray:
    if stored.dtype.kind in "US":
        raise _label_error(stored, f"has {stored.shape[1]} texts for an image")
    values = stored.whole()
    ones, zeros = (values == 1).sum(axis=1), (values == 0).sum(axis=1)
    bad = (ones > 1) | (ones + zeros < values.shape[1])
    if bad.any():
        raise _label_error(stored, f"holds rows that are not one-hot, at {np.flatnonzero(bad)[:SHOWN].tolist()}")
    return np.where(ones == 1, (values == 1).argmax(axis=1), UNLABELED).astype(np.int64)


def _read_names(parts: dict[str, StoredArray]) -> tuple[str, ...]:
    if "class names" not in parts:
        return ()
    stored = parts["class names"]
    _check_small(stored)
    if stored.dtype.kind not in "US" or len(stored.shape) != 1 or stored.n_values > MAX_CLASSES:
        raise _label_error(stored, f"is {stored.dtype} {stored.shape}, and class names are a list of text")
    return tuple(_texts(stored).tolist())


def _texts(stored: StoredArray) -> NDArray[np.str_]:
    """Text or UTF-8 bytes as flat text that can be written anywhere."""
    values = stored.whole().ravel()
    try:
        if stored.dtype.kind == "U" and (values.view(stored.dtype.byteorder + "u4") > MAX_CHARACTER).any():
            raise ValueError("beyond the last character")
        texts: NDArray[np.str_] = np.strings.decode(values, "utf-8") if stored.dtype.kind == "S" else values
        "".join(np.unique(texts).tolist()).encode()
    except ValueError as error:  # UnicodeError is one
        raise _label_error(stored, "holds text that is not Unicode") from error
    return texts


def _by_people(file: NpzFile, codes: Values | None) -> Values | None:
    """Of an export of this app only what people answered; of any other file everything."""
    if codes is None or not set(file.keys) >= OWN:
        return codes
    stored = file.array("outcomes")
    _check_small(stored)
    if stored.shape != codes.shape or stored.dtype.kind not in "US":
        raise _label_error(stored, f"is {stored.dtype} {stored.shape}, and each label has one as text")
    nobody = "" if codes.dtype.kind == "U" else UNLABELED
    return np.where(_texts(stored) == BY_A_PERSON, codes, nobody)


def _truths(
    codes: Values | None, test_codes: Values | None, names: tuple[str, ...]
) -> tuple[tuple[str, ...], IntArray | None, IntArray | None]:
    """Class names, and both label arrays as codes into them."""
    given = [part for part in (codes, test_codes) if part is not None]
    if len({part.dtype.kind for part in given}) > 1:
        raise SourceError("Labels are text in one part and numbers in the other. Save them alike.", "NPZ_LABEL")
    if given and given[0].dtype.kind == "U":
        names = names or natural_order(set(np.unique(np.concatenate(given)).tolist()) - {""})
        truth, test_truth = (None if part is None else _looked_up(part, names) for part in (codes, test_codes))
    elif names:
        truth, test_truth = codes, test_codes
        highest = max((int(part.max()) for part in given), default=UNLABELED)
        if highest >= len(names):
            raise SourceError(
                f"The labels go up to {highest}, and there are {len(names)} class names, numbered from 0. "
                "Name them all.",
                "NPZ_LABEL",
            )
    else:
        names, (truth, test_truth) = name_codes(codes, test_codes)
    if len(names) > MAX_CLASSES:
        raise SourceError(f"There are {len(names):,} different labels. Are these classes? Save others.", "NPZ_LABEL")
    return names, truth, test_truth


def _looked_up(texts: Values, names: tuple[str, ...]) -> IntArray:
    distinct, inverse = np.unique(texts, return_inverse=True)
    codes = {"": UNLABELED, **{name: code for code, name in enumerate(names)}}
    unknown = [text for text in distinct.tolist() if text not in codes]
    if unknown:
        raise SourceError(
            f"Labels that are not among the class names: {list_keys(tuple(unknown))}. Add them there.", "NPZ_LABEL"
        )
    return np.array([codes[text] for text in distinct.tolist()], dtype=np.int64)[inverse]


def _check_small(stored: StoredArray) -> None:
    if stored.dtype.kind not in "buifUS":
        raise SourceError(
            f"{stored.key!r} holds {stored.dtype}, and labels are numbers or text. Convert them.", "NPZ_TYPE"
        )
    if stored.n_values * stored.dtype.itemsize > MAX_TEXT_BYTES:
        raise SourceError(
            f"{stored.key!r} takes {stored.n_values * stored.dtype.itemsize:,} bytes, "
            f"more than the limit of {MAX_TEXT_BYTES:,}. Save shorter labels.",
            "NPZ_TOO_LARGE",
        )


def _where(bad: NDArray[np.bool_], values: Values) -> str:
    places = np.flatnonzero(bad)[:SHOWN]
    told = ", ".join(f"{values[place]} at {place}" for place in places)
    return f"{told} and {bad.sum() - len(places):,} more" if bad.sum() > len(places) else told


def _label_error(stored: StoredArray, what: str) -> SourceError:
    return SourceError(
        f"{stored.key!r} {what}. Save class numbers from 0, -1 where there is none, or text.", "NPZ_LABEL"
    )
