"""Draw the sample again: python assets/fashion-mnist-sample/make.py (needs all of Fashion-MNIST on this machine)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from annotator.sources.fashion_mnist import FashionMnist
from annotator.types import ImageSource

SEED = 0
N_TRAIN, N_TEST = 5000, 1000


def drawn(source: ImageSource, n_images: int, rng: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """`n_images` drawn uniformly without replacement, in their original order."""
    rows = np.sort(rng.choice(len(source.ids), n_images, replace=False))
    images, labels = source.array[rows], source.truth[rows].astype(np.uint8)
    return {f"{part}_images": images, f"{part}_labels": labels, f"{part}_numbers": rows.astype(np.int64)}


def main() -> None:
    """Write sample.npz beside this file."""
    whole, rng = FashionMnist(full=True), np.random.default_rng(SEED)
    train = drawn(whole, N_TRAIN, rng, "train")
    test = drawn(whole.held_out, N_TEST, rng, "test")
    np.savez_compressed(Path(__file__).with_name("sample.npz"), **train, **test)


if __name__ == "__main__":
    main()
