"""Accuracy on colour pictures by the encoder, for a few random labels: pixels and hog beside imagenet.

The pictures are the stamps of Tux Paint, a painting program for children: photos and drawings on white or transparent
ground, 713 PNG files in the eight folders that hold 30 or more (animals, food, household, plants, seasonal, symbols,
town, vehicles). They are in a Debian package, so anyone can have them:

    apt install tuxpaint-stamps-default            (or: apt-get download, then dpkg -x PACKAGE FOLDER)

Why it is fair: the classes are the package's own folders, taken as they are; they are unequal and mixed within (a bird
and a fish are both animals), and none of ImageNet's. No picture is left out. Every encoder gets the same import of the
same files, the same draws of labels and the same classifier, logistic regression; what is not labeled is tested on.
What is not: imagenet's network was trained on other people's labeled photos, pixels and hog on nothing.

    python -m tests.benchmarks.colour [--stamps FOLDER] [--draws 5]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from annotator.dataset import Prepared, Recipe, prepare
from annotator.types import FeatureArray, IntArray

FOLDER = Path("/usr/share/tuxpaint/stamps")
MIN_PICTURES = 30
BUDGETS = (20, 50, 100, 200)
ENCODERS = ("pixels", "hog", "imagenet")


def arrange(stamps: Path, target: Path) -> int:
    """Every class of enough pictures as a flat folder: how many pictures there are."""
    n_pictures = 0
    for folder in sorted(path for path in stamps.iterdir() if path.is_dir()):
        pictures = sorted(folder.rglob("*.png"))
        if len(pictures) < MIN_PICTURES:
            continue
        (target / folder.name).mkdir(parents=True)
        for picture in pictures:
            shutil.copyfile(picture, target / folder.name / "-".join(picture.relative_to(folder).parts))
        n_pictures += len(pictures)
    return n_pictures


def accuracy(features: FeatureArray, truth: IntArray, n_labels: int, draw: int) -> float:
    """In percent, on all that is not labeled; `draw` chooses the labels."""
    order = np.random.default_rng(draw).permutation(len(truth))
    given, rest = order[:n_labels], order[n_labels:]
    model = LogisticRegression(C=10, max_iter=2000).fit(features[given], truth[given])
    return 100 * float(model.score(features[rest], truth[rest]))


def figures(prepared: Prepared, n_draws: int) -> dict[str, dict[str, float]]:
    """labels -> mean and standard deviation over the draws."""
    truth = prepared.dataset.truth
    assert truth is not None
    found = {}
    for n_labels in BUDGETS:
        draws = [accuracy(prepared.dataset.features, truth, n_labels, draw) for draw in range(n_draws)]
        found[str(n_labels)] = {"mean": round(float(np.mean(draws)), 2), "sd": round(float(np.std(draws, ddof=1)), 2)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stamps", type=Path, default=FOLDER, metavar="FOLDER", help="the package's folder of stamps")
    parser.add_argument("--draws", type=int, default=5, help="how many draws of labels (at least 2)")
    options = parser.parse_args()
    if not options.stamps.is_dir():
        print(f"No stamps in {options.stamps}: apt install tuxpaint-stamps-default, or name their folder.")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        n_pictures = arrange(options.stamps, folder / "pictures")
        source = {"path": str(folder / "pictures"), "classes_from_folders": True}
        results: dict[str, object] = {"n": n_pictures, "draws": options.draws}
        for encoder in ENCODERS:
            start = time.perf_counter()
            prepared = prepare(Recipe("folder", source, encoder=encoder), folder / "cache")
            seconds, found = time.perf_counter() - start, figures(prepared, options.draws)
            results[encoder] = found
            cells = "   ".join(f"{n} labels {one['mean']:.1f} ± {one['sd']:.1f}" for n, one in found.items())
            print(f"{encoder:9s} {cells}   ({seconds:.1f} s)", flush=True)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
