"""What a comparison runs: systems x seeds, each cell one simulation with a key. Runs nothing itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

from annotator import registry
from annotator.config import Config, Recipe
from annotator.errors import ConfigError
from annotator.simulate import Step

Json = Any  # what `json` reads and writes
Parameters = Mapping[str, Mapping[str, Json]]
"""Name of a plug-in -> its parameters."""

BUDGETS = (10, 50, 100, 200, 500, 1000)
SCHEDULE = (Step(10, 200), Step(50, 1000), Step(100, 3000))
NOT_IN_KEY = ("name", "rounds", "batch_size", "class_keys")
"""Settings that change no figure of a cell: the schedule stands for `rounds` and `batch_size`."""
ORDER = ("hidden_share", "batch_order")
"""Settings that decide in which order a batch is answered: that changes which answers are wrong, and what was labeled
last, whose neighbours are to be confirmed."""


class System(NamedTuple):
    """What is compared with others."""

    encoder: str
    model: str
    strategy: str

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(frozen=True)
class Plan:
    """Everything that a comparison runs, and where it looks at the curves."""

    base: Config
    """Source and settings that all cells share."""
    systems: tuple[System, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    encoder_seeds: tuple[int, ...] = (0,)
    """One training of each encoder for each of them; cells are all pairs with `seeds`."""
    parameters: Mapping[str, Parameters] = field(default_factory=dict)
    """Kind of plug-in ("encoder", "model", "strategy") -> name -> parameters."""
    schedule: tuple[Step, ...] = SCHEDULE
    budgets: tuple[int, ...] = BUDGETS
    target: float = 0.85
    reshuffle: bool = False
    """Whether each seed shuffles the images anew, so that it has a pool and a development set of its own."""
    error_rate: float = 0.0

    def __post_init__(self) -> None:
        """Raises ConfigError for what cannot be run; plug-ins are made once, so that their parameters are judged."""
        if not self.systems or not self.seeds or not self.encoder_seeds or not self.budgets:
            raise ConfigError("Name at least one encoder, one model, one strategy, one seed and one budget.")
        if min(self.budgets) < 1:
            raise ConfigError(f"A budget must be at least 1 label, not {min(self.budgets)}.")
        if not 0 < self.target <= 1:
            raise ConfigError(f"The target must be an accuracy above 0 and at most 1, not {self.target}.")
        if not self.steps:
            raise ConfigError("The schedule has no batch: write it as SIZE:LABELS, e.g. 10:200.")
        for kind, position in (("encoder", 0), ("model", 1), ("strategy", 2)):
            used = {system[position] for system in self.systems}
            unused = sorted(set(self.parameters.get(kind, {})) - used)
            if unused:
                raise ConfigError(f"Parameters of the {kind} {unused[0]!r} are given, but it is not compared.")
            for name in sorted(used):
                registry.create(kind, name, self._given(kind, name))
        registry.check_name("source", self.base.source)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The schedule, cut where the largest budget is reached."""
        return cut(self.schedule, max(self.budgets))

    def cells(self) -> list[Cell]:
        """Seed by seed, so that every system has a first figure early."""
        found = product(self.seeds, self.encoder_seeds, self.systems)
        return [
            Cell(system, self._config(system, seed, own), self.steps, self.error_rate) for seed, own, system in found
        ]

    def _config(self, system: System, seed: int, encoder_seed: int) -> Config:
        return replace(
            self.base,
            name=str(system),
            encoder=system.encoder,
            encoder_parameters=self._given("encoder", system.encoder),
            model=system.model,
            model_parameters=self._given("model", system.model),
            strategy=system.strategy,
            strategy_parameters=self._given("strategy", system.strategy),
            batch_size=self.steps[0].batch_size,
            seed=seed,
            encoder_seed=encoder_seed,
            order_seed=seed if self.reshuffle else self.base.order_seed,
        )

    def _given(self, kind: str, name: str) -> dict[str, Json]:
        return dict(self.parameters.get(kind, {}).get(name, {}))


@dataclass(frozen=True)
class Cell:
    """One simulation."""

    system: System
    config: Config
    steps: tuple[Step, ...]
    error_rate: float = 0.0

    @property
    def recipe(self) -> Recipe:
        """What its dataset is made from."""
        return self.config.recipe

    @property
    def pair(self) -> tuple[int, int]:
        """(seed, encoder's seed): what it shares with the cells of other systems that it is compared with."""
        return self.config.seed, self.config.encoder_seed or 0

    def __str__(self) -> str:
        return f"{self.system}, seed {self.config.seed}"

    def key(self, dataset_version: str) -> str:
        """Equal keys give equal curves, whatever the commit: a hash of all settings and of the dataset."""
        left_out = NOT_IN_KEY if self.error_rate or self.config.confirm_share else NOT_IN_KEY + ORDER
        settings = {name: value for name, value in asdict(self.config).items() if name not in left_out}
        settings |= {"steps": self.steps, "error_rate": self.error_rate, "dataset": dataset_version}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]

    def file_name(self, dataset_version: str) -> str:
        """Readable, and with the key unmistakable."""
        words = [*self.system, f"seed{self.config.seed}", self.key(dataset_version)[:12]]
        return "--".join("".join(c if c.isalnum() or c in "-+." else "_" for c in word) for word in words) + ".json"


def systems_of(encoders: Sequence[str], models: Sequence[str], strategies: Sequence[str]) -> tuple[System, ...]:
    """Each with each. Raises ConfigError for a name that is not there."""
    for kind, names in (("encoder", encoders), ("model", models), ("strategy", strategies)):
        for name in names:
            registry.check_name(kind, name)
    return tuple(dict.fromkeys(System(*names) for names in product(encoders, models, strategies)))


def read_system(text: str) -> System:
    """ENCODER/MODEL/STRATEGY. Raises ConfigError."""
    parts = text.split("/")
    if len(parts) != 3:
        raise ConfigError(f"Write a system as ENCODER/MODEL/STRATEGY, not {text!r}.")
    return systems_of(*([part] for part in parts))[0]


def read_schedule(text: str) -> tuple[Step, ...]:
    """10:200,50:1000 -> batches of 10 until there are 200 labels, then of 50. Raises ConfigError."""
    steps = []
    for part in text.split(","):
        size, colon, until = part.strip().replace("_", "").partition(":")
        if not (colon and size.isdecimal() and until.isdecimal() and int(size) > 0):
            raise ConfigError(f"Write the schedule as SIZE:LABELS,SIZE:LABELS, e.g. 10:200,50:1000, not {text!r}.")
        steps.append(Step(int(size), int(until)))
    if [step.until for step in steps] != sorted({step.until for step in steps}):
        raise ConfigError(f"The numbers of labels of the schedule must rise: {text!r}.")
    return tuple(steps)


def cut(schedule: Sequence[Step], most: int) -> tuple[Step, ...]:
    """The schedule up to `most` labels."""
    starts = [0, *(step.until for step in schedule)]
    return tuple(
        Step(step.batch_size, min(step.until, most))
        for step, start in zip(schedule, starts, strict=False)
        if start < most
    )
