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
from io import BytesIO
from pathlib import Path

import numpy as np

from annotator import durable
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


def available(name: str, project: Path, cache: Path) -> Path:
    """The network's file in the cache, whole: a copy that is missing or damaged is made again from the other one.

    Raises ModelError: MODEL_NETWORK where no copy is whole, MODEL_SAVE where the cache has no room for one.
    """
    arrays = _first_whole(name, project, cache)
    if arrays is None:
        raise lost(path_of(project, name))
    if not _is_readable(path_of(cache, name)):
        stored.write(path_of(cache, name), arrays)
    if not _is_readable(path_of(project, name)):
        with suppress(ModelError):  # the one in the cache serves until there is room
            stored.write(path_of(project, name), arrays)
    return path_of(cache, name)


def is_lost(name: str, project: Path, cache: Path) -> bool:
    """Whether neither of the two has a whole file of this network; "" is none, which cannot be lost."""
    return bool(name) and _first_whole(name, project, cache) is None


def copy(name: str, source: Path, target: Path) -> None:
    """Copy a network from one folder to another. Raises ModelError: MODEL_NETWORK, or MODEL_SAVE without room."""
    arrays = _whole(path_of(source, name))
    if arrays is None:
        raise lost(path_of(source, name))
    stored.write(path_of(target, name), arrays)


def remove(name: str, folder: Path) -> None:
    """Remove the network of this name from a folder, as far as it is there and can be removed."""
    for path in (path_of(folder, name), stored.hash_of(path_of(folder, name))):
        with suppress(OSError):
            path.unlink()


def names_in(folder: Path) -> list[str]:
    """The names of the networks that a folder has, whole or not."""
    return sorted(path.stem for path in (folder / FOLDER).glob("*.npz") if NAME.fullmatch(path.stem))


def check_name(name: str) -> None:
    """Raises ConfigError for what is no name of a network; "" is none."""
    if name and not NAME.fullmatch(name):
        raise ConfigError(f"finetuned.network must be empty or the 64 hexadecimal digits of a network, not {name!r}.")


def _first_whole(name: str, *folders: Path) -> dict[str, Array] | None:
    return next((arrays for arrays in (_whole(path_of(folder, name)) for folder in folders) if arrays), None)


def _whole(path: Path) -> dict[str, Array] | None:
    """What the file holds; None where that is not what its name says, with or without the hash beside it."""
    with suppress(OSError, *durable.DAMAGED_ZIP), np.load(BytesIO(path.read_bytes()), allow_pickle=False) as found:
        arrays = dict(found)
        return arrays if _name_of(arrays) == path.stem else None
    return None


def _is_readable(path: Path) -> bool:
    """Whether `read` takes the file and it is what its name says."""
    with suppress(ModelError):
        return read(path).name == path.stem
    return False


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
