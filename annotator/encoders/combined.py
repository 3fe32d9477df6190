"""Several encoders as one, named by their names joined with "+": the features of each, side by side.

Rows of each part's features are scaled to length 1 (a row of zeros stays 0) and multiplied by the square root of the
part's share of the weights, so that a row of the whole has length 1 and squared distances are the weighted means of
the parts' own. Knows no encoder by name. Each part is fitted by itself, from an equal generator: its features are
those that it gives alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from annotator import registry
from annotator.encoders.pca import unit_rows
from annotator.errors import ConfigError
from annotator.paths import slug
from annotator.registry import JOIN, Parameter
from annotator.types import (
    ChecksPool,
    Encoder,
    FeatureArray,
    FittedEncoder,
    HasOpinion,
    ImageArray,
    Opinion,
    Report,
    Resumes,
    View,
    is_slow,
    revision,
    silent,
    view_of,
)

REVISION = 1
"""Raise it when equal parts and weights no longer give equal features."""
MOST_REVISIONS = 1000
"""Of a part: the revision of a combination has those of its parts as digits to this base."""
WEIGHTS = "weights"


@dataclass(frozen=True, eq=False)
class FittedCombined:
    """Fitted encoders, by name in the order of their features, and a weight for each."""

    encoders: Mapping[str, FittedEncoder]
    weights: tuple[float, ...]

    @property
    def version(self) -> str:
        """Weights, and the version of each part."""
        weighted = ",".join(f"{weight:g}" for weight in self.weights)
        return f"combined({weighted})-{JOIN.join(part.version for part in self.encoders.values())}"

    def encode(self, images: ImageArray, report: Report = silent) -> FeatureArray:
        """(n, height, width, n_channels) uint8 -> (n, n_features) float32; every part is given the same images."""
        return self.join([part.encode(images, staged(name, report)) for name, part in self.encoders.items()])

    def join(self, blocks: Sequence[FeatureArray]) -> FeatureArray:
        """The features of each part, (n, n_features of the part) -> (n, n_features of all)."""
        total = sum(self.weights)
        scales = [np.float32(sqrt(weight / total)) for weight in self.weights]
        return np.concatenate([unit_rows(block) * scale for block, scale in zip(blocks, scales, strict=True)], axis=1)

    def save(self, folder: Path) -> None:
        """Write each part into a folder of its own under `folder`."""
        for name, part in self.encoders.items():
            (folder / _folder_of(name)).mkdir(parents=True, exist_ok=True)
            part.save(folder / _folder_of(name))

    def opinion(self, images: ImageArray, report: Report = silent) -> Opinion | None:
        """The opinion of the first part that was trained on labels; None where there is none."""
        for part in self.encoders.values():
            found = part.opinion(images, report) if isinstance(part, HasOpinion) else None
            if found is not None:
                return found
        return None


class Combined:
    """The features of several encoders, joined. `named` makes a class for each list of names."""

    names: ClassVar[tuple[str, ...]] = ()
    slow = False
    revision = REVISION

    def __init__(self, weights: str = "", **parameters: Any) -> None:  # Any: each part has its own
        """`weights`: a positive number for each part, "2,1"; equal where empty. `parameters`: as "PART.NAME".

        Raises ConfigError.
        """
        self.weights = _numbers(weights, self.names)
        self.encoders: dict[str, Encoder] = {
            name: registry.create("encoder", name, _of_part(name, parameters)) for name in self.names
        }

    @classmethod
    def keywords(cls) -> list[Parameter]:
        """Those of the constructor: the parts' own with the part's name before them, and `weights`."""
        own = Parameter(WEIGHTS, str, ",".join("1" for _ in cls.names), required=False)
        described = ((name, one) for name in cls.names for one in registry.describe("encoder", name))
        return [*(replace(one, name=f"{name}.{one.name}") for name, one in described), own]

    @property
    def view(self) -> View:
        """The largest that a part wants, in colour if any part wants colour; see also `JoinsEncoders`."""
        views = [view_of(part) for part in self.encoders.values()]
        return View(max(view.side for view in views), max(view.n_channels for view in views))

    def fit(self, images: ImageArray, rng: np.random.Generator, report: Report = silent) -> FittedCombined:
        """Every part, on the same images, as by itself with an equal `rng`. Raises what the parts raise."""
        return self._fitted(lambda name, part: part.fit(images, deepcopy(rng), staged(name, report)))

    def fit_in(
        self, folder: Path, images: ImageArray, rng: np.random.Generator, report: Report = silent
    ) -> FittedCombined:
        """As `fit`; parts whose training can be resumed have a folder of their own under `folder`."""

        def fitted(name: str, part: Encoder) -> FittedEncoder:
            if isinstance(part, Resumes):
                return part.fit_in(folder / _folder_of(name), images, deepcopy(rng), staged(name, report))
            return part.fit(images, deepcopy(rng), staged(name, report))

        return self._fitted(fitted)

    def of_fitted(self, fitted: Mapping[str, FittedEncoder]) -> FittedCombined:
        """Parts that were fitted elsewhere, by name, as one."""
        return FittedCombined({name: fitted[name] for name in self.names}, self.weights)

    def check_pool(self, n_images: int) -> None:
        """Raises ModelError (MODEL_TOO_SMALL) where a part cannot be trained on so few images."""
        for part in self.encoders.values():
            if isinstance(part, ChecksPool):
                part.check_pool(n_images)

    def load(self, folder: Path) -> FittedCombined:
        """What `FittedCombined.save` wrote."""
        return self._fitted(lambda name, part: part.load(folder / _folder_of(name)))

    def _fitted(self, make: Callable[[str, Encoder], FittedEncoder]) -> FittedCombined:
        return self.of_fitted({name: make(name, part) for name, part in self.encoders.items()})


@cache
def named(name: str) -> type[Combined]:
    """The class for names joined with "+". Raises ConfigError as `registry.load` does for a part."""
    names = tuple(name.split(JOIN))
    classes = [registry.load("encoder", part) for part in names]
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    values = {
        "__doc__": f"The features of {listed} side by side.",
        "__module__": __name__,
        "names": names,
        "slow": any(is_slow(part) for part in classes),
        "revision": _joint_revision([REVISION, *(revision(part) for part in classes)]),
    }
    return type("Combined", (Combined,), values)


def staged(name: str, report: Report) -> Report:
    """Progress of one part, told under its name."""
    return lambda stage, done, total: report(f"{name}: {stage}", done, total)


def _joint_revision(revisions: Sequence[int]) -> int:
    """Another number wherever one of them differs."""
    return sum(number * MOST_REVISIONS**place for place, number in enumerate(revisions))


def is_first(joint: int) -> bool:
    """Whether a revision, of a combination or not, was never raised, and neither was that of a part."""
    others, last = divmod(joint, MOST_REVISIONS)
    return last == 1 and (not others or is_first(others))


def _folder_of(name: str) -> str:
    return slug(name, "part")


def _of_part(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:  # Any: each part has its own
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in parameters.items() if key.startswith(start)}


def _numbers(weights: str, names: Sequence[str]) -> tuple[float, ...]:
    """One positive number for each name. Raises ConfigError."""
    if not weights.strip():
        return (1.0,) * len(names)
    try:
        numbers = tuple(float(text) for text in weights.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == len(names) and all(isfinite(number) and number > 0 for number in numbers):
        return numbers
    example = ",".join(str(len(names) - place) for place in range(len(names)))
    raise ConfigError(
        f"{JOIN.join(names)}.weights must be {len(names)} numbers above 0, such as {example!r}, not {weights!r}."
    )
