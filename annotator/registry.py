"""Named plug-ins, imported only when chosen. Adding one is a class in a file and a line in this table.

Third parties register the same way, by an entry point in the group "annotator.<kind>" of their own distribution.
A line "FAMILY:*" names a function instead, which is handed NAME of "FAMILY:NAME" and returns the class. Names of
encoders joined with "+" are an encoder as well: the function in `JOINED` is handed them all and returns its class.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, get_type_hints, runtime_checkable

from annotator.errors import ConfigError

BUILT_IN: dict[str, dict[str, str]] = {
    "source": {
        "digits": "annotator.sources.digits:Digits",
        "folder": "annotator.sources.folder:Folder",
        "arrays": "annotator.sources.arrays:Arrays",
        "idx": "annotator.sources.idx:Idx",
        "zip": "annotator.sources.zip_archive:Zip",
        "fashion-mnist": "annotator.sources.fashion_mnist:FashionMnist",
    },
    "encoder": {
        "auto": "annotator.encoders.auto:Auto",
        "pixels": "annotator.encoders.pixels:Pixels",
        "hog": "annotator.encoders.hog:Hog",
        "imagenet": "annotator.encoders.imagenet:Imagenet",
        "keras-application": "annotator.encoders.application:KerasApplication",
        "autoencoder": "annotator.encoders.autoencoder:Autoencoder",
        "contrastive": "annotator.encoders.contrastive:Contrastive",
        "lstm": "annotator.encoders.lstm:LstmEncoder",
        "gan": "annotator.encoders.gan:Gan",
        "finetuned": "annotator.encoders.finetuned:Finetuned",
    },
    "model": {
        "label-spreading": "annotator.models.sparse_graph:SparseLabelSpreading",
        "label-propagation": "annotator.models.sparse_graph:SparseLabelPropagation",
        "sklearn-label-spreading": "annotator.models.sklearn_graph:DenseLabelSpreading",
        "sklearn-label-propagation": "annotator.models.sklearn_graph:DenseLabelPropagation",
        "encoder-classifier": "annotator.models.encoder_classifier:EncoderClassifier",
        "vote": "annotator.models.vote:Vote",
        "kernel-ridge": "annotator.models.kernel_ridge:KernelRidge",
        "logistic-regression": "annotator.models.classifiers:LogisticRegression",
        "svc": "annotator.models.classifiers:SupportVectors",
        "knn": "annotator.models.classifiers:NearestNeighbors",
        "random-forest": "annotator.models.classifiers:RandomForest",
        "self-training": "annotator.models.classifiers:SelfTraining",
        "mlp": "annotator.models.pictures:Mlp",
        "cnn": "annotator.models.pictures:Cnn",
        "lstm": "annotator.models.pictures:Lstm",
        "sklearn:*": "annotator.models.classifiers:named",
    },
    "strategy": {
        "entropy": "annotator.strategies.uncertainty:Entropy",
        "margin": "annotator.strategies.uncertainty:Margin",
        "least-confidence": "annotator.strategies.uncertainty:LeastConfidence",
        "diverse-margin": "annotator.strategies.diverse:DiverseMargin",
        "graph-change": "annotator.strategies.graph_change:GraphChange",
        "graph-coverage": "annotator.strategies.graph_change:GraphCoverage",
        "balance": "annotator.strategies.balance:Balance",
        "random": "annotator.strategies.random:Random",
        "typical": "annotator.strategies.herding:Typical",
        "herding": "annotator.strategies.herding:Herding",
        "recommended": "annotator.strategies.recommended:Recommended",
        "skactiveml:*": "annotator.strategies.skactiveml_pool:named",
        "modal:*": "annotator.strategies.modal:named",
    },
    "exporter": {
        "csv": "annotator.exporters.tables:Csv",
        "jsonl": "annotator.exporters.tables:JsonLines",
        "npz": "annotator.exporters.arrays:Npz",
        "folders": "annotator.exporters.folders:ClassFolders",
    },
}

JOIN = "+"
JOINED = {"encoder": "annotator.encoders.combined:named"}
"""What makes one class of several names."""
OFFERED = {"encoder": ("hog+contrastive", "hog+imagenet", "imagenet+contrastive")}
"""Names that lists show beside the plug-ins' own, where all their parts are there."""


@dataclass(frozen=True)
class Parameter:
    """One keyword of a plug-in's constructor, as a form or an option can show it."""

    name: str
    type: Any
    default: Any
    required: bool


@runtime_checkable
class ListsKeywords(Protocol):
    """A plug-in, asked of the class, whose constructor takes keywords that its signature cannot show."""

    def keywords(self) -> list[Parameter]: ...


def names(kind: str) -> list[str]:
    """Every name of this kind: the built-in ones in their order, then third parties'; families are not spelled out."""
    return [name for name in _targets(kind) if not name.endswith(":*")]


def offered(kind: str) -> list[str]:
    """The names to choose from: every plug-in's, then some that are joined of them."""
    single = names(kind)
    joined = [name for name in OFFERED.get(kind, ()) if set(name.split(JOIN)) <= set(single)]
    return single + joined


def check_name(kind: str, name: str) -> None:
    """Raises ConfigError for an unknown name; imports nothing, so whether a family has this member is not known."""
    _target(kind, name)


def load(kind: str, name: str) -> type[Any]:
    """The class behind a name. Raises ConfigError for an unknown name or a missing extra."""
    target, handed = _target(kind, name)
    module, _, attribute = target.partition(":")
    try:
        plugin = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The {_spoken(kind)} {name!r} needs the package {error.name!r}, which is not installed. "
            f"Install it with: pip install {error.name}"
        ) from error
    return plugin if handed is None else plugin(handed)  # type: ignore[no-any-return]  # named by a string


def create(kind: str, name: str, parameters: dict[str, Any] | None = None) -> Any:
    """A plug-in with its parameters; text is converted to what the constructor's annotations say."""
    given = _converted(kind, name, parameters or {})
    return load(kind, name)(**given)


def complete(kind: str, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters as the constructor gets them, with the defaults of those left out. Raises ConfigError."""
    defaults = {one.name: one.default for one in describe(kind, name) if not one.required}
    return defaults | _converted(kind, name, parameters)


def describe(kind: str, name: str) -> list[Parameter]:
    """The constructor's keywords."""
    plugin = load(kind, name)
    if isinstance(plugin, ListsKeywords):
        return plugin.keywords()
    if plugin.__init__ is object.__init__:
        return []
    hints = get_type_hints(plugin.__init__)
    signature = inspect.signature(plugin)
    return [
        Parameter(key, hints.get(key, str), parameter.default, parameter.default is inspect.Parameter.empty)
        for key, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


@cache
def summary(kind: str, name: str) -> str:
    """One line of help: the first line of the class's docstring, read from its source so that nothing is imported."""
    target = BUILT_IN[kind].get(name) or _third_party(kind).get(name, "")
    module, _, attribute = target.partition(":")
    found = find_spec(module) if module else None
    if found is None or found.origin is None:
        return (inspect.getdoc(load(kind, name)) or name).splitlines()[0]
    body = ast.parse(Path(found.origin).read_text()).body
    text = next((ast.get_docstring(it) for it in body if isinstance(it, ast.ClassDef) and it.name == attribute), None)
    return (text or name).splitlines()[0]


def _targets(kind: str) -> dict[str, str]:
    """name or family -> "module:attribute"; a built-in name cannot be taken."""
    own = BUILT_IN[kind]
    return own | {name: target for name, target in sorted(_third_party(kind).items()) if name not in own}


def _target(kind: str, name: str) -> tuple[str, str | None]:
    """Where the class of a name is, or the function that makes it with what that is handed. Raises ConfigError."""
    targets = _targets(kind)
    family, _, member = name.partition(":")
    if name in names(kind):
        return targets[name], None
    if kind in JOINED and JOIN in name:
        _check_parts(kind, name)
        return JOINED[kind], name
    if f"{family}:*" in targets:
        return targets[f"{family}:*"], member
    known = ", ".join(one.replace(":*", ":NAME") for one in targets)
    joined = f", or several of them joined with {JOIN!r}" if kind in JOINED else ""
    raise ConfigError(f"No {_spoken(kind)} {name!r}. Choose from: {known}{joined}.")


def _check_parts(kind: str, name: str) -> None:
    """Raises ConfigError for names joined with "+" that are not all known, or not all different."""
    parts = name.split(JOIN)
    for part in parts:
        _target(kind, part)
    if len(set(parts)) < len(parts):
        raise ConfigError(f"The {_spoken(kind)} {name!r} has a part twice. Join different ones.")


@cache
def _third_party(kind: str) -> dict[str, str]:
    return {entry.name: entry.value for entry in entry_points(group=f"annotator.{kind}")}


def _spoken(kind: str) -> str:
    return "query strategy" if kind == "strategy" else kind


def _converted(kind: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Parameters by name, converted. Raises ConfigError for an unknown one, a missing one, and text of another type."""
    known = {parameter.name: parameter for parameter in describe(kind, name)}
    for key in given:
        if key not in known:
            raise ConfigError(
                f"The {_spoken(kind)} {name!r} has no parameter {key!r}. It takes: {', '.join(known) or 'none'}."
            )
    missing = [key for key, parameter in known.items() if parameter.required and key not in given]
    if missing:
        raise ConfigError(f"The {_spoken(kind)} {name!r} needs: {', '.join(missing)}.")
    return {key: _convert(known[key], value, f"{name}.{key}") for key, value in given.items()}


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
        article = "an" if wanted is int else "a"
        raise ConfigError(f"{where} must be {article} {wanted.__name__}, not {value!r}.") from None


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]
