"""How well near-duplicates are told from other pictures, over limits: the figures of annotator/groups.py.

    python -m tests.benchmarks.near_duplicates [--folder PHOTOS ...]

On Fashion-MNIST (20,000 images), on digits, and on folders of pictures: of 300 images, how many have another one of the
pool within the limit; of pairs of one class (a folder's sub-folders are its classes), how many of a million lie within
it; of 13 kinds of copies of 40 images, how many are found.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from annotator import groups, images
from annotator.config import Recipe
from annotator.dataset import prepare
from annotator.types import Dataset, ImageArray

N_ASKED, N_COPIED = 300, 40
LIMITS = (0.08, 0.10, 0.12, 0.15)
KEEP = Image.Resampling.BILINEAR


def copies(picture: Image.Image) -> Iterator[Image.Image]:
    """Recompressed, resized there and back, in another light, shifted by a pixel, under noise."""
    values, (width, height) = np.asarray(picture).astype(float), picture.size
    for quality in (85, 60, 40):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        yield Image.open(buffer).convert(picture.mode)
    for factor in (0.75, 0.5, 2):
        size = max(1, round(width * factor)), max(1, round(height * factor))
        yield picture.resize(size, KEEP).resize(picture.size, KEEP)
    for lit in (values * 1.1, values * 0.85, values + 15, values * 1.25):
        yield Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    padded = np.pad(np.asarray(picture), [(1, 1), (1, 1), (0, 0)][: values.ndim], mode="edge")
    for right, down in ((1, 0), (1, 1)):
        yield Image.fromarray(padded[1 + down : 1 + down + height, 1 + right : 1 + right + width])
    noise = np.random.default_rng(0).normal(0, 6, values.shape)
    yield Image.fromarray(np.clip(values + noise, 0, 255).astype(np.uint8))


def differences(shifted: groups.Views, others: groups.Views) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(n, n_others), the least over the shifts."""
    squared = np.full((len(shifted), len(others)), 9.0, np.float32)
    for step in range(shifted.shape[1]):
        one = shifted[:, step]
        apart = (one * one).sum(1)[:, None] + (others * others).sum(1) - 2 * one @ others.T
        squared = np.minimum(squared, apart)
    return np.sqrt(np.maximum(squared, 0))


def found_copies(dataset: Dataset, rows: list[int]) -> list[float]:
    """The difference of each copy from its original."""
    height, width, n_channels = dataset.images.shape[1:]
    is_file = dataset.open_image(0, 0).size != (width, height)
    found = []
    for row in rows:
        picture = dataset.open_image(row, 0).convert("RGB") if is_file else grey(dataset.images[row])
        for copy in copies(picture):
            seen = images.letterbox(copy, height) if is_file else np.asarray(copy).reshape(height, width, n_channels)
            pair = np.stack([dataset.images[row], seen])
            views = groups._shifted(pair, np.arange(2))
            found.append(float(differences(views[1:], views[:1, groups.MIDDLE])[0, 0]))
    return found


def grey(image: ImageArray) -> Image.Image:
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def row(name: str, dataset: Dataset) -> str:
    """A line of the table."""
    rng, rows = np.random.default_rng(0), np.arange(len(dataset))
    asked = rng.permutation(len(dataset))[:N_ASKED]
    views = np.concatenate([groups._views(dataset.images, part) for part in np.array_split(rows, len(rows) // 500 + 1)])
    apart = differences(groups._shifted(dataset.images, asked), views)
    apart[np.arange(len(asked)), asked] = 9
    assert dataset.truth is not None
    is_same = dataset.truth[asked][:, None] == dataset.truth
    is_same[np.arange(len(asked)), asked] = False
    copied = np.array(found_copies(dataset, asked[:N_COPIED].tolist()))
    cells = [
        f"{100 * (apart.min(1) < limit).mean():.1f} / {1e6 * (apart[is_same] < limit).mean():.0f} / "
        f"{100 * (copied < limit).mean():.0f}"
        for limit in LIMITS
    ]
    return " | ".join([f"{name}, {len(dataset):,} of {dataset.images.shape[1]} px", *cells])


def main() -> None:
    """A line for each pool."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", nargs="*", default=[], help="folders of pictures, with a sub-folder for each class")
    arguments = parser.parse_args()
    pools = {
        "clothes": Recipe("fashion-mnist", {"full": True}, limit=20_000),
        "digits": Recipe("digits", encoder="pixels"),
    } | {
        Path(folder).name: Recipe("folder", {"path": str(Path(folder).resolve()), "classes_from_folders": True})
        for folder in arguments.folder
    }
    with tempfile.TemporaryDirectory() as cache:
        for name, recipe in pools.items():
            print(row(name, prepare(recipe, Path(cache)).dataset), flush=True)


if __name__ == "__main__":
    main()
