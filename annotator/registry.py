"""Named plug-ins, imported only when chosen. Adding one is a class in a file and a line in this table.

Third parties register the same way, by an entry point in the group "annotator.<kind>" of their own distribution.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, get_type_hints

from annotator.errors import ConfigError

BUILT_IN: dict[str, dict[str, str]] = {
    "source": {
        "digits": "annotator.sources.digits:Digits",
        "folder": "annotator.sources.folder:Folder",
    },
    "encoder": {
        "pixels": "annotator.encoders.pixels:Pixels",
        "hog": "annotator.encoders.hog:Hog",
    },
    "model": {
        "label-spreading": "annotator.models.sparse_graph:SparseLabelSpreading",
        "label-propagation": "annotator.models.sparse_graph:SparseLabelPropagation",
        "sklearn-label-spreading": "annotator.models.sklearn_graph:DenseLabelSpreading",
        "sklearn-label-propagation": "annotator.models.sklearn_graph:DenseLabelPropagation",
    },
    "strategy": {
        "entropy": "annotator.strategies.uncertainty:Entropy",
        "margin": "annotator.strategies.uncertainty:Margin",
        "least-confidence": "annotator.strategies.uncertainty:LeastConfidence",
        "random": "annotator.strategies.random:Random",
    },
    "exporter": {
        "csv": "annotator.exporters.tables:Csv",
        "jsonl": "annotator.exporters.tables:JsonLines",
        "npz": "annotator.exporters.arrays:Npz",
        "folders": "annotator.exporters.folders:ClassFolders",
    },
}


@dataclass(frozen=True)
class Parameter:
    """One keyword of a plug-in's constructor, as a form or an option can show it."""

    name: str
    type: Any
    default: Any
    required: bool


def names(kind: str) -> list[str]:
    """Every name of this kind: the built-in ones in their order, then third parties'."""
    own = BUILT_IN[kind]
    return [*own, *sorted(set(_third_party(kind)) - set(own))]


def load(kind: str, name: str) -> type[Any]:
    """The class behind a name. Raises ConfigError for an unknown name or a missing extra."""
    own = BUILT_IN[kind]
    if name not in own and name not in _third_party(kind):
        raise ConfigError(f"No {_spoken(kind)} {name!r}. Choose from: {', '.join(names(kind))}.")
    target = own.get(name) or _third_party(kind)[name]
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]  # named by a string
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The {_spoken(kind)} {name!r} needs the package {error.name!r}, which is not installed. "
            f"Install it with: pip install {error.name}"
        ) from error


def create(kind: str, name: str, parameters: dict[str, Any] | None = None) -> Any:
    """A plug-in with its parameters; text is converted to what the constructor's annotations say."""
    plugin = load(kind, name)
    known = {parameter.name: parameter for parameter in describe(kind, name)}
    given = parameters or {}
    for key in given:
        if key not in known:
            raise ConfigError(
                f"The {_spoken(kind)} {name!r} has no parameter {key!r}. It takes: {', '.join(known) or 'none'}."
            )
    missing = [key for key, parameter in known.items() if parameter.required and key not in given]
    if missing:
        raise ConfigError(f"The {_spoken(kind)} {name!r} needs: {', '.join(missing)}.")
    return plugin(**{key: _convert(known[key], value, f"{name}.{key}") for key, value in given.items()})


def describe(kind: str, name: str) -> list[Parameter]:
    """The constructor's keywords."""
    plugin = load(kind, name)
    if plugin.__init__ is object.__init__:
        return []
    hints = get_type_hints(plugin.__init__)
    signature = inspect.signature(plugin)
    return [
        Parameter(key, hints.get(key, str), parameter.default, parameter.default is inspect.Parameter.empty)
        for key, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


def summary(kind: str, name: str) -> str:
    """One line of help: the first line of the class's docstring."""
    return (inspect.getdoc(load(kind, name)) or name).splitlines()[0]


@cache
def _third_party(kind: str) -> dict[str, str]:
    return {entry.name: entry.value for entry in entry_points(group=f"annotator.{kind}")}


def _spoken(kind: str) -> str:
    return "query strategy" if kind == "strategy" else kind


def _convert(parameter: Parameter, value: Any, where: str) -> Any:
    """Text from a command line to int, float or bool; anything else passes as it is."""
    if not isinstance(value, str):
        return value
    kinds: dict[type, Callable[[str], Any]] = {int: int, float: float, bool: _truth}
    wanted = next((kind for kind in kinds if parameter.type == kind or parameter.type == kind | None), None)
    if wanted is None:
        return value
    try:
        return kinds[wanted](value)
    except ValueError:
        raise ConfigError(f"{where} must be a {wanted.__name__}, not {value!r}.") from None


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]
