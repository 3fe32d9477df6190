"""Features of a network that was trained on other people's photos: EfficientNet-Lite0, as it comes with the package.

It learned from ImageNet's 1.3 million labeled photos (Tan & Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks", ICML 2019; see assets/efficientnet-lite0), so its figures do not compare with those of
encoders that see nothing but the pool. Small grey images are described by two early layers, anything else by a late
one and the last. Layers keep their layout, averaged to 4 x 4: where a thing is in the picture counts. Each is divided
by its standard deviation, they are joined and projected on the pool's principal components, rows have length 1.

The network runs in a worker process (imagenet_network.py), the projection in NumPy. Only the projection is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from annotator.encoders import stored
from annotator.encoders.chunks import encode_in_chunks
from annotator.encoders.grey import is_grey
from annotator.encoders.imagenet_network import Cut, layers_of
from annotator.encoders.pca import Projection, fit_projection, sample_rows, unit_rows
from annotator.errors import ConfigError
from annotator.types import FeatureArray, ImageArray, IntArray, Report, View, silent

GREY = Cut(side=64, layers=("block4", "block7"), batch=64, chunk=1024)
COLOUR = Cut(side=128, layers=("block11", "head"), batch=16, chunk=128)
CUTS = {"grey": GREY, "colour": COLOUR}
AUTO = "auto"
SMALL_SIDE = 64
"""Pixels a side up to which grey images are described by early layers."""
MAX_DIMENSIONS = 512
FILE_NAME = "imagenet.npz"


@dataclass(frozen=True, eq=False)
class FittedImagenet:
    """Layers of the network, projected on the pool's principal components; each row of length 1."""

    kind: str
    """A key of `CUTS`."""
    projection: Projection
    pool: tuple[ImageArray, FeatureArray] | None = field(default=None, repr=False)
    """The images it was fitted on with their features, where `fit` had to compute them all anyway."""

    @property
    def version(self) -> str:
        """Name, layers and what was learned."""
        cut = CUTS[self.kind]
        return f"imagenet-{cut.side}-{'-'.join(cut.layers)}-{self.projection.digest}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8, grey or RGB -> (n, n_features) float32. Raises JobError, Cancelled."""
        if self.pool is not None and images is self.pool[0]:
            report("Encoding", len(images), len(images))
            return self.pool[1]
        cut = CUTS[self.kind]
        report("Encoding", 0, len(images))
        return encode_in_chunks(images, lambda chunk: self.project(layers_of(chunk, cut)), report, cut.chunk)

    def project(self, layers: FeatureArray) -> FeatureArray:
        """(n, n_values) of the network -> (n, n_features)."""
        return unit_rows(self.projection.apply(layers))

    def save(self, folder: Path) -> None:
        """Write the projection and its sha256 under `folder`. Raises ModelError (MODEL_SAVE)."""
        arrays = {"mean": self.projection.mean, "components": self.projection.components}
        stored.write(folder / FILE_NAME, {"kind": np.array(self.kind), **arrays})


class Imagenet:
    """A network that knows a million labeled photos (EfficientNet-Lite0): best for photos, good for most pictures."""

    slow = True
    """Takes a minute on a large pool: labeling starts on quick features meanwhile."""

    revision = 1  # part of a dataset's version: raise it when equal settings no longer give equal features

    def __init__(self, dimensions: int = 128, cut: str = "auto") -> None:
        """`cut`: which layers, "grey", "colour", or "auto" = by the pool. Raises ConfigError."""
        if cut not in (AUTO, *CUTS):
            raise ConfigError(f"imagenet.cut must be one of {', '.join((AUTO, *CUTS))}, not {cut!r}.")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise ConfigError(f"imagenet.dimensions must be between 1 and {MAX_DIMENSIONS}, not {dimensions}.")
        self.dimensions = dimensions
        self.cut = cut
        self.view = View(COLOUR.side if cut == AUTO else CUTS[cut].side)
        """Of photos; at 64 px the late layers lose what distinguishes them."""

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedImagenet:
        """Find the directions of most variance in the pool; there are no more of them than images.

        `rng` draws the images to find them by, where there are more than 10,000. The same on every run of one
        machine, bit for bit. Raises JobError, Cancelled, ModelError (MODEL_WEIGHTS).
        """
        rows = sample_rows(len(images), rng)
        kind = _kind_for(images, rows) if self.cut == AUTO else self.cut
        cut = CUTS[kind]
        sample = _sampled(images, rows, cut, report)
        projection = _fit_projection(sample, cut, self.dimensions)
        fitted = FittedImagenet(kind, projection)
        if len(rows) < len(images):
            return fitted
        features = encode_in_chunks(sample, fitted.project, silent, cut.chunk)
        return FittedImagenet(kind, projection, (images, features))

    def load(self, folder: Path) -> FittedImagenet:
        """What `FittedImagenet.save` wrote. Raises ModelError (MODEL_HASH)."""
        arrays = stored.read(folder / FILE_NAME)
        return FittedImagenet(str(arrays["kind"]), Projection(arrays["mean"], arrays["components"]))


def _kind_for(images: ImageArray, rows: IntArray) -> str:
    """Which layers fit a pool."""
    return "grey" if is_small_and_grey(images, rows) else "colour"


def is_small_and_grey(images: ImageArray, rows: IntArray) -> bool:
    """Whether the pool is one of small grey pictures, though they may be stored in colour."""
    return max(images.shape[1:3]) <= SMALL_SIDE and is_grey(images, rows)


def _sampled(images: ImageArray, rows: IntArray, cut: Cut, report: Report) -> FeatureArray:
    """(len(rows), n_values) network outputs of these rows."""

    def told(stage: str, done: int, total: int) -> None:
        report("Fitting imagenet" if len(rows) < len(images) else stage, done, total)

    told("Encoding", 0, len(rows))
    return encode_in_chunks(rows, lambda part: layers_of(images[part], cut), told, cut.chunk)


def _fit_projection(sample: FeatureArray, cut: Cut, dimensions: int) -> Projection:
    """Of layers that are each divided by their standard deviation; the division becomes part of the projection."""
    scales = np.ones(sample.shape[1], dtype=np.float32)
    for columns in cut.columns:
        scales[columns] = sample[:, columns].std(dtype=np.float64) or 1
    found = fit_projection(sample / scales, dimensions)
    return Projection(found.mean * scales, found.components / scales[:, None])
