"""The pretrained network trained on with a project's labels: a voter that knows classes, and features that do.

Without a network it is its base encoder, feature for feature. With one (see networks.py; finetuning.py trains it) it
has an opinion on every image, and where `share` is above 0 the graph sees the network's own features too: both blocks
in rows of length 1, so that a squared distance is (1 - share) times the base's plus share times the network's.

The network runs in a worker process (keras_finetuned.py); this module imports no TensorFlow.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from annotator import registry
from annotator.encoders import networks, stored
from annotator.encoders.chunks import encode_in_chunks
from annotator.encoders.network_worker import NetworkWorker
from annotator.encoders.networks import TrainedNetwork
from annotator.encoders.pca import unit_rows
from annotator.errors import ConfigError
from annotator.types import (
    ChecksPool,
    Encoder,
    FeatureArray,
    FittedEncoder,
    ImageArray,
    Opinion,
    Report,
    Resumes,
    View,
    silent,
    view_of,
)

RUN = "annotator.encoders.keras_finetuned:run"
BASE, NETWORK = "base", "network.npz"
COLOUR_SIDE = 128
"""Pixels a side at which the network sees photos."""
CHUNK = 512
"""Images of one call."""


@dataclass(eq=False)
class FittedFinetuned:
    """A base encoder and, once there is one, a network that was trained on labels."""

    base: FittedEncoder
    path: Path | None = None
    """The network's file; None = not trained yet."""
    share: float = 0.0
    _last: tuple[ImageArray, FeatureArray] | None = field(default=None, repr=False)
    """What the network gave of the images it was last asked about: features and opinion are wanted of the same."""

    @property
    def version(self) -> str:
        """The base's version, the network and its share."""
        if self.path is None:
            return f"finetuned-{self.base.version}"
        return f"finetuned-{self.base.version}-{networks.read(self.path).name[:12]}-{self.share:g}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_features) float32. Raises what the base raises, JobError."""
        return self.extend(self.base.encode(images, report), images, report)

    def extend(self, features: FeatureArray, images: ImageArray, report: Report = silent) -> FeatureArray:
        """The base's features (n, n_base), with a share above 0 beside the network's own. Raises JobError."""
        if self.path is None or not self.share:
            return features
        known = unit_rows(self._outputs(images, report)[:, len(self._network.codes) :])
        return np.hstack([(1 - self.share) ** 0.5 * unit_rows(features), self.share**0.5 * known]).astype(np.float32)

    def opinion(self, images: ImageArray, report: Report = silent) -> Opinion | None:
        """The network's class probabilities; None where it has not been trained yet. Raises JobError, Cancelled."""
        if self.path is None:
            return None
        codes = self._network.codes
        return Opinion(self._outputs(images, report)[:, : len(codes)], codes)

    def save(self, folder: Path) -> None:
        """Write the base and the network under `folder`. Raises ModelError (MODEL_SAVE)."""
        (folder / BASE).mkdir(parents=True, exist_ok=True)
        self.base.save(folder / BASE)
        if self.path is not None:
            stored.write(folder / NETWORK, {**stored.read(self.path), "share": np.array(self.share)})

    @property
    def _network(self) -> TrainedNetwork:
        assert self.path is not None  # the callers looked
        return networks.read(self.path)

    def _outputs(self, images: ImageArray, report: Report) -> FeatureArray:
        """(n, n_codes + n_features): class probabilities, then features."""
        if self._last is None or self._last[0] is not images:
            assert self.path is not None  # as above
            self._last = images, outputs_of(self.path, images, report)
        return self._last[1]


class Finetuned:
    """The pretrained network trained on with your labels: one more voter, from about 150 labels on."""

    slow = True
    """Its base takes a minute on a large pool: labeling starts on quick features meanwhile."""

    revision = 1  # part of a dataset's version: raise it when equal settings no longer give equal features

    def __init__(self, base: str = "imagenet", network: str = "", share: float = 0.0) -> None:
        networks.check_name(network)
        if base == "finetuned":
            raise ConfigError("finetuned.base must be another encoder, for example imagenet.")
        if not 0 <= share <= 1:
            raise ConfigError(f"finetuned.share must be between 0 and 1, not {share}.")
        self.network = network
        self.share = share
        self.base = base
        self._base: Encoder = registry.create("encoder", base)

    @property
    def view(self) -> View:
        """The base's, at least as large as the network's input for photos."""
        wanted = view_of(self._base)
        return View(max(wanted.side, COLOUR_SIDE), 3)

    def check_pool(self, n_images: int) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where the base does."""
        if isinstance(self._base, ChecksPool):
            self._base.check_pool(n_images)

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedFinetuned:
        """The base fitted to the pool. Raises ModelError (MODEL_NETWORK) where a network is wanted: see `fit_in`."""
        if self.network:
            raise networks.lost(networks.path_of(Path(), self.network))
        return FittedFinetuned(self._base.fit(images, rng, report))

    def fit_in(
        self, folder: Path, images: ImageArray, rng: np.random.Generator, report: Report = silent
    ) -> FittedFinetuned:
        """The base fitted to the pool, with the network from the cache that `folder` lies in.

        Raises ModelError (MODEL_NETWORK) where the cache lacks it.
        """
        if isinstance(self._base, Resumes):
            return self.on(self._base.fit_in(folder, images, rng, report), folder.parent)
        return self.on(self._base.fit(images, rng, report), folder.parent)

    def on(self, fitted: FittedEncoder, cache: Path) -> FittedFinetuned:
        """A fitted base with the network from the cache. Raises ModelError (MODEL_NETWORK) where that lacks it."""
        if not self.network:
            return FittedFinetuned(fitted)
        path = networks.path_of(cache, self.network)
        networks.read(path)
        return FittedFinetuned(fitted, path, self.share)

    def load(self, folder: Path) -> FittedFinetuned:
        """What `FittedFinetuned.save` wrote. Raises ModelError (MODEL_HASH)."""
        base, path = self._base.load(folder / BASE), folder / NETWORK
        if not path.exists():
            return FittedFinetuned(base)
        return FittedFinetuned(base, path, float(stored.read(path)["share"]))


def outputs_of(network: Path, images: ImageArray, report: Report = silent) -> FeatureArray:
    """(n, n_codes + n_features): what the network in this file says of images. Raises JobError, Cancelled."""

    def of_chunk(chunk: ImageArray) -> FeatureArray:
        return _shared.run(chunk, {"network": str(network.absolute())})

    return encode_in_chunks(images, of_chunk, report, CHUNK)


_shared = NetworkWorker(RUN)
atexit.register(_shared.close)
