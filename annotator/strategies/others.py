"""What is the same for query strategies of other packages: parameters, errors, scores, and batches without repeats.

They choose among the pool's candidates by its features, its labels and the model's probabilities as they are: the model
is not fitted for them. They run in one thread, and what they draw comes from the batch's own generator.
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from annotator.errors import ConfigError
from annotator.models.classifiers import one_sentence, read_text
from annotator.threads import at_most
from annotator.types import Choice, FloatArray, IntArray, Pool

EXTRA = "pip install '.[active-learning]'"
"""Installs what these strategies need, from the checkout."""
N_MATCHES = 5
LARGEST_SEED = 2**31 - 1

Foreign = Any  # objects of packages that ship no types


class Other(ABC):
    """A query strategy of another package: takes its parameters by keyword, and asks it."""

    name: ClassVar[str]
    """Name in the registry, for messages."""
    __signature__: ClassVar[inspect.Signature]

    def __init__(self, **parameters: Any) -> None:  # Any: each strategy has its own
        given = self.__signature__.bind(**{key: read_text(value) for key, value in parameters.items()})
        self.parameters = given.arguments

    def query(self, pool: Pool, batch_size: int, rng: np.random.Generator) -> Choice:
        """Its batch, best first. Raises ConfigError where it refuses this pool.

        Where a batch names an image twice, as some do, others are asked for in place of the second.
        """
        rows = np.empty(0, dtype=np.int64)
        values, size = np.empty(0), min(batch_size, len(pool.candidates))
        while len(rows) < size:
            left = np.setdiff1d(pool.candidates, rows, assume_unique=True)
            more, worth = self._asked(pool, left, size - len(rows), int(rng.integers(LARGEST_SEED)))
            more, first = np.unique(np.asarray(more, dtype=np.int64), return_index=True)
            order = np.argsort(first)
            rows, values = np.append(rows, more[order]), np.append(values, np.asarray(worth)[first[order]])
        return Choice(rows, _descending(values))

    def _asked(self, pool: Pool, candidates: IntArray, size: int, seed: int) -> tuple[IntArray, FloatArray]:
        """`_choose`, with its errors typed; its warnings are for those who write programs."""
        with at_most(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                rows, values = self._choose(pool, candidates, size, seed)
            except ConfigError:
                raise
            except Exception as error:  # theirs are of many types
                raise ConfigError(
                    f"The query strategy {self.name!r} cannot choose from this pool: {one_sentence(error)} "
                    "Choose another strategy, or other parameters; your labels are safe."
                ) from error
        return rows, values

    @abstractmethod
    def _choose(self, pool: Pool, candidates: IntArray, size: int, seed: int) -> tuple[IntArray, FloatArray]:
        """Rows, best first, at least one and at most `size`, and what each is worth; repeats are allowed."""


def adapter(base: type[Other], name: str, doc: str, signature: inspect.Signature, **members: Any) -> type[Other]:
    """A class for one strategy, named as the registry wants it."""
    _, _, short = name.partition(":")
    return type(short, (base,), {"__doc__": doc, "__signature__": signature, "name": name, **members})


def by_keyword(parameters: Iterable[inspect.Parameter], hidden: Iterable[str]) -> inspect.Signature:
    """Those that a person can set: by keyword, without those that we give ourselves and those that are code."""
    shown = [one for one in parameters if one.name not in hidden and not callable(one.default)]
    return inspect.Signature([_plain(one) for one in shown if one.kind is not one.VAR_KEYWORD])


def _plain(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=parameter.empty)


def installed(module: str, package: str, name: str) -> Foreign:
    """A module of a package that an extra brings. Raises ConfigError, with how to install it, where it is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The query strategy {name!r} needs {package}, which is not installed "
            f"(no module {error.name!r}). Install it from the checkout: {EXTRA}"
        ) from error


def unknown(package: str, name: str, known: Iterable[str], cannot: dict[str, str]) -> ConfigError:
    """The error for a name that cannot be used, with those that can."""
    if name in cannot:
        return ConfigError(f"{package}'s {name} cannot be used here: {cannot[name]}. Choose from: {', '.join(known)}.")
    by_lower = {one.lower(): one for one in known}
    close = [by_lower[match] for match in get_close_matches(name.lower(), by_lower, N_MATCHES)]
    meant = f" Did you mean: {', '.join(close)}?" if close else ""
    return ConfigError(f"{package} has no query strategy {name!r}.{meant} Choose from: {', '.join(by_lower.values())}.")


def at_least_two(probabilities: FloatArray) -> FloatArray:
    """(n, n_classes), with a second class that nothing is of where there is one alone: margins need two."""
    if probabilities.shape[1] > 1:
        return probabilities
    return np.column_stack([probabilities, np.zeros(len(probabilities))])


def members(pool: Pool, name: str) -> tuple[FloatArray, ...]:
    """What each part of a committee says: (n_images, at least 2). Raises ConfigError where the model is none."""
    if not pool.prediction.members:
        raise ConfigError(
            f"The query strategy {name!r} asks where a committee disagrees, and this project's model is none. "
            "Choose the model vote, or another strategy."
        )
    return tuple(at_least_two(part) for part in pool.prediction.members)


def _descending(values: FloatArray) -> FloatArray:
    """Theirs where they fall along the batch; else places in it, counted down to 1."""
    if np.isfinite(values).all() and (np.diff(values) <= 0).all():
        return values
    return np.arange(len(values), 0, -1, dtype=np.float64)
