"""Networks that were trained on a project's labels, as files named by what is in them. Knows no project.

<project>/networks/<sha256 of the arrays>.npz   the truth
<cache>/networks/<the same>.npz                 where the encoder `finetuned` reads it; copied there as needed
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotator.encoders import stored
from annotator.encoders.stored import Array
from annotator.errors import ConfigError, ModelError
from annotator.types import FeatureArray, IntArray

FOLDER = "networks"
NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network, the classes it knows and the directions of its features."""

    layer: str
    """The last block of EfficientNet-Lite0 that it has."""
    side: int
    """Pixels a side of its input."""
    weights: tuple[Array, ...]
    """In the order of the layers; the last two are those of the class scores, (n_values, n_codes) and (n_codes,)."""
    codes: IntArray
    """(n_codes,) the class code of each column."""
    seen: IntArray
    """Rows of the pool whose labels it learned, ascending."""
    mean: FeatureArray
    """(n_values,) and (n_values, n_features) project the layer before the class scores on the pool's directions."""
    components: FeatureArray

    @property
    def arrays(self) -> dict[str, Array]:
        """As a file holds them."""
        weights = {f"weights{number:03}": array for number, array in enumerate(self.weights)}
        rest = {"codes": self.codes, "seen": self.seen, "mean": self.mean, "components": self.components}
        return {"layer": np.array(self.layer), "side": np.array(self.side), **rest, **weights}

    @property
    def name(self) -> str:
        """The sha256 of all that is in it."""
        return _name_of(self.arrays)


def write(network: TrainedNetwork, *folders: Path) -> str:
    """Write the file in `networks/` of each folder, whole or not at all; its name. Raises ModelError (MODEL_SAVE)."""
    name = network.name
    for folder in folders:
        stored.write(path_of(folder, name), network.arrays)
    return name


def read(path: Path) -> TrainedNetwork:
    """Raises ModelError (MODEL_NETWORK) for a file that is missing, cut short or changed."""
    try:
        arrays = stored.read(path)
        weights = tuple(arrays[key] for key in sorted(arrays) if key.startswith("weights"))
        found = TrainedNetwork(
            str(arrays["layer"]),
            int(arrays["side"]),
            weights,
            *(arrays[key] for key in ("codes", "seen", "mean", "components")),
        )
    except (ModelError, KeyError) as error:
        raise lost(path) from error
    return found


def path_of(folder: Path, name: str) -> Path:
    """Where `folder` has the network of this name."""
    return folder / FOLDER / f"{name}.npz"


def restore(name: str, project: Path, cache: Path) -> None:
    """Copy a project's network to the cache, where that lacks it; nothing where the project lacks it too."""
    source, target = path_of(project, name), path_of(cache, name)
    if target.exists() and stored.hash_of(target).exists():
        return
    with suppress(ModelError):
        stored.write(target, stored.read(source))


def check_name(name: str) -> None:
    """Raises ConfigError for what is no name of a network; "" is none."""
    if name and not NAME.fullmatch(name):
        raise ConfigError(f"finetuned.network must be empty or the 64 hexadecimal digits of a network, not {name!r}.")


def _name_of(arrays: Mapping[str, Array]) -> str:
    found = hashlib.sha256()
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        found.update(f"{key} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return found.hexdigest()


def lost(path: Path) -> ModelError:
    """The error for a network whose file cannot be read."""
    return ModelError(
        f"The network that was trained on this project's labels is missing or damaged ({path.stem[:12]}). Put the "
        f"file {path.name} back in the project's folder {FOLDER}, or go on: it is trained again from the labels.",
        "MODEL_NETWORK",
    )
