"""What a person chooses, and the ready-made choices: names and ranges are checked, no plug-in is imported or made.

A plug-in's own parameters are judged where it is made, when a project is created or changed (see project.py). A plain
dataclass and not pydantic's: importing that takes 0.4 s at every start, and its errors are not ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from annotator import registry
from annotator.class_keys import checked_class_keys
from annotator.class_names import checked_class_names
from annotator.errors import ConfigError
from annotator.paths import assets

QUICK_ENCODER = "hog"
"""What labeling starts on while a slow encoder is computed, and stays on where a pool is too small for that one."""
RECOMMENDED = {"encoder": "auto", "model": "vote", "strategy": "recommended"}
"""Offered first for one's own images; `auto` is mostly `imagenet`, which won in trials on clothes and pictures."""
EARLIER_RECOMMENDED = ("weight", "margin_from")
"""Parameters of `recommended` in earlier versions, which are stored in their projects."""
BATCH_ORDERS = AS_CHOSEN, ALIKE = ("as-chosen", "alike")
"""In which the images of a batch stand: best first, or side by side where they look alike or share a guess.

Alike is answered faster, and is not the default: the browser chooses the next batch when half of this one is answered,
and that half is of few classes then. Clothes, 3 seeds, batches of 12, accuracy at 48, 96 and 192 labels: 82.6, 85.9,
88.2 alike; 84.1, 86.4, 88.4 as chosen. On digits there was no difference beyond the spread.
"""
LARGEST = (1 << 63) - 1
"""The largest number that the database and NumPy take."""
RECOMMENDED_FROM = 100
"""Images. A smaller pool is labeled before a better encoder could save a label: it stays on quick features."""


@dataclass(frozen=True)
class Recipe:
    """All that a dataset is made from; as JSON it is also the argument of the job that makes one."""

    source: str
    source_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    limit: int | None = None
    order_seed: int | None = None
    encoder: str = "hog"
    encoder_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    n_neighbors: int = 10
    seed: int = 0
    development: int | None = None
    """Images at the end of the pool, in its order, that are held out in the place of the source's own test set."""


@dataclass(frozen=True)
class Config:
    """Everything a person chooses; a change in the middle of a project is an event with a version."""

    name: str = "digits"
    source: str = "digits"
    source_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    limit: int | None = None
    order_seed: int | None = None
    classes: tuple[str, ...] = ()
    """Names in the order of their keys; empty = the source's own."""
    encoder: str = "hog"
    encoder_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    n_neighbors: int = 10
    model: str = "label-spreading"
    model_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    strategy: str = "entropy"
    strategy_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    batch_size: int = 12
    seed: int = 0
    encoder_seed: int | None = None
    """The seed of encoder and graph where it is to differ from `seed`, so that runs of several seeds share features."""
    development: int | None = None
    """Images at the end of the pool, in its order, that are held out in the place of the source's own test set."""
    initial: str = "none"
    """Labels taken from the source at the start: "none", a number drawn at random, "first:N", or "known" (all)."""
    audit_share: float | None = None
    """Share of each batch drawn at random for honest accuracy; None = decided when the project is created: 0.15, or 0
    where a test set or the known labels of the images to be asked measure it anyway.
    """
    audit_until: int = 200
    hidden_share: float = 0.0
    """Share of the images whose guess is hidden, drawn at random: 0 shows every guess, 1 none."""
    ask_again_share: float = 0.0
    """Share of each batch, at most, that asks again about labels which the model contradicts; see second_looks.py."""
    batch_order: str = AS_CHOSEN
    """One of BATCH_ORDERS."""
    confirm_share: float = 0.0
    """Share of each batch that is filled with the nearest neighbours of what was just labeled, to be confirmed."""
    class_keys: dict[str, str] = field(default_factory=dict)
    """Class name -> the key that answers with it, a digit or a letter; the others get theirs by rule."""
    rounds: int = 20
    """How many rounds an oracle plays."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a name or a value that cannot be used; plug-ins judge their own parameters."""
        for kind in ("source", "encoder", "model", "strategy"):
            registry.check_name(kind, getattr(self, kind))
        checked_class_names(self.classes, own=self.classes)  # which of them are the source's is not known yet
        _require(self.batch_size >= 1, f"batch_size must be at least 1, not {self.batch_size}.")
        _require(1 <= self.n_neighbors <= LARGEST, f"n_neighbors must be 1 to {LARGEST}, not {self.n_neighbors}.")
        _require(0 <= self.seed <= LARGEST, f"seed must be 0 to {LARGEST}, not {self.seed}.")
        own = self.encoder_seed
        _require(own is None or 0 <= own <= LARGEST, f"encoder_seed must be 0 to {LARGEST}, not {own}.")
        n_out = self.development
        _require(n_out is None or n_out >= 1, f"development must hold out at least 1 image, not {n_out}.")
        share = self.audit_share
        _require(self.rounds >= 0, f"rounds must not be negative: {self.rounds}.")
        _require(share is None or 0 <= share < 1, f"audit_share must be at least 0 and under 1, not {share}.")
        _require(0 <= self.hidden_share <= 1, f"hidden_share must be between 0 and 1, not {self.hidden_share}.")
        again = self.ask_again_share
        _require(0 <= again <= 0.5, f"ask_again_share must be between 0 and 0.5, not {again}.")
        order, orders = self.batch_order, ", ".join(BATCH_ORDERS)
        _require(order in BATCH_ORDERS, f"batch_order must be one of {orders}, not {order!r}.")
        _require(0 <= self.confirm_share <= 1, f"confirm_share must be between 0 and 1, not {self.confirm_share}.")
        checked_class_keys(self.class_keys)
        parse_initial(self.initial)

    @property
    def recipe(self) -> Recipe:
        """What the dataset is made from."""
        recipe = Recipe(**{part.name: getattr(self, part.name) for part in fields(Recipe)})
        return recipe if self.encoder_seed is None else replace(recipe, seed=self.encoder_seed)

    @property
    def features(self) -> str:
        """Whose features are used: the encoder, or what it stands for."""
        return stands_for(self.encoder, self.encoder_parameters)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:  # Any: JSON
        """A config as it was stored; keys of other versions are refused with their names.

        What `recommended` was told by earlier versions is left out: it meant labels in all, and now labels per class.
        """
        known = {part.name for part in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"No setting {', '.join(unknown)}. There are: {', '.join(sorted(known))}.")
        values = {**values, "classes": tuple(values.get("classes", ()))}
        if values.get("strategy") == "recommended":
            told = values.get("strategy_parameters", {}).items()
            values["strategy_parameters"] = {key: value for key, value in told if key not in EARLIER_RECOMMENDED}
        return cls(**values)


@dataclass(frozen=True)
class Preset:
    """A ready-made config with the words of its card on the start view; a file in assets/presets."""

    title: str
    description: str
    config: Config
    order: int
    opens_first: bool = False


def presets() -> dict[str, Preset]:
    """The ready-made projects that come with the app, in the order of their cards; see `broken_presets`."""
    read = {path.stem: _preset(path) for path in _preset_files()}
    usable = [(name, preset) for name, preset in read.items() if isinstance(preset, Preset)]
    return dict(sorted(usable, key=lambda item: item[1].order))


def broken_presets() -> list[str]:
    """A sentence on each ready-made project whose file cannot be used."""
    return [read for read in map(_preset, _preset_files()) if isinstance(read, str)]


def _preset_files() -> list[Path]:
    return sorted(assets().glob("presets/*.json"))


def _preset(path: Path) -> Preset | str:
    """What the file describes, or why it cannot be used."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        preset = Preset(**{**values, "config": Config.from_json(values["config"])})
        return replace(preset, title=str(preset.title), description=str(preset.description), order=int(preset.order))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        return f"The preset {path.name} cannot be used ({error}). Restore the file, or remove it: {path}"


def parse_initial(initial: str) -> tuple[str, int]:
    """("none" | "random" | "first" | "known", how many)."""
    kind, _, number = initial.rpartition(":")
    if initial in ("none", "known"):
        return initial, 0
    if kind in ("", "first") and number.isdecimal():
        return kind or "random", int(number)
    raise ConfigError(f"initial must be none, known, a number or first:N, not {initial!r}.")


def stands_for(encoder: str, parameters: Mapping[str, Any]) -> str:  # Any: JSON
    """The encoder's name, or that of the one it was told to stand for, as `auto` is once it has seen the pool."""
    return str(parameters.get("choice") or encoder)


def plugin_names(config: Mapping[str, Any]) -> dict[str, str]:  # Any: JSON
    """The model, the encoder (or what that stands for) and the strategy of a configuration as it was stored."""
    encoder = stands_for(config["encoder"], config.get("encoder_parameters", {}))
    return {"model": config["model"], "encoder": encoder, "strategy": config["strategy"]}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
