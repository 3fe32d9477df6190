"""Which cached dataset a project stands on, and a word on how that came to be: a small JSON file beside its store.

It may be lost or damaged: the dataset is then found again by its source and its recipe. Knows no labels.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from annotator import durable
from annotator.config import QUICK_ENCODER, Config
from annotator.dataset import Prepared, open_prepared, prepare
from annotator.encoders import networks
from annotator.errors import ModelError, SourceError
from annotator.paths import name_of
from annotator.store import Store, images
from annotator.types import Report

CACHE = ".cache"
"""The folder beside the projects that their datasets lie in."""
FIRST_LISTING = 1
"""By which a source listed for projects whose config does not say it."""
NAME = "dataset.json"
NETWORK = "network"
"""The parameter of an encoder that names a network in the project's folder."""

UNTIL_THEN = f"Until then the features of {QUICK_ENCODER} are used."
"""The end of the notice of a project whose weights are lost."""


@dataclass(frozen=True)
class Pointer:
    """What the file says."""

    folder: str = ""
    """The dataset's name in the cache; empty where it is not known."""
    recipe: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    notice: str = ""
    """What a person should know about the features in use; empty when they are as asked."""
    wanted: dict[str, Any] = field(default_factory=dict)  # Any: fields of Config
    """The encoder and its parameters that are to take over once they are computed; empty when none are."""

    @classmethod
    def read(cls, folder: Path) -> Pointer:
        """Of the project in this folder; empty where that is lost or damaged."""
        with suppress(OSError, ValueError):
            found = json.loads((folder / NAME).read_text())
            if isinstance(found, dict):
                recipe, wanted = found.get("recipe"), found.get("wanted")
                return cls(
                    str(found.get("folder", "")),
                    recipe if isinstance(recipe, dict) else {},
                    str(found.get("notice", "")),
                    wanted if isinstance(wanted, dict) else {},
                )
        return cls()

    def write(self, folder: Path) -> None:
        """Left out where there is no room for it."""
        with suppress(OSError):
            durable.write(folder / NAME, json.dumps(asdict(self)))


def point_to(
    folder: Path,
    config: Config,
    prepared: Prepared,
    notice: str = "",
    wanted: dict[str, Any] | None = None,  # Any: fields of Config
) -> None:
    """Remember that the project in `folder` stands on this dataset, by the recipe that this was really made from."""
    recipe = asdict(config.recipe) | {"encoder_parameters": prepared.encoder_parameters}
    Pointer(prepared.folder.name, recipe, notice, wanted or {}).write(folder)


def reopen(folder: Path, config: Config, store: Store, report: Report) -> Prepared:
    """The cached dataset the project was asked on; made again from the source where the cache is gone.

    Raises SourceError (SRC_CHANGED) where the source has other images by now.
    """
    cache, pointer = folder.parent / CACHE, Pointer.read(folder)
    if _is_of(pointer, config) and (cache / pointer.folder / "dataset.json").exists():
        return open_prepared(cache / pointer.folder, config.recipe)
    prepared, notice = _prepared(folder, config, cache, report)
    _check_ids(prepared, store, folder)
    _check_contents(prepared, store)
    kept = "" if UNTIL_THEN in pointer.notice or _lacked_network(pointer, config) else pointer.notice
    point_to(folder, config, prepared, notice or kept, pointer.wanted)
    return prepared


def prepare_for(folder: Path, config: Config, report: Report) -> Prepared:
    """`prepare` for the project in `folder`, which keeps the network that its encoder may read from the cache."""
    bring_network(folder, config.encoder_parameters)
    return prepare(config.recipe, folder.parent / CACHE, report)


def bring_network(folder: Path, encoder_parameters: dict[str, Any]) -> None:  # Any: JSON
    """Have the network that these parameters name in the cache, whole; nothing to do where they name none.

    Raises ModelError: MODEL_NETWORK where it is lost, MODEL_SAVE where there is no room for it.
    """
    if network := network_of(encoder_parameters):
        networks.available(network, folder, folder.parent / CACHE)


def network_of(encoder_parameters: Mapping[str, Any]) -> str:  # Any: JSON
    """The name of the network that these parameters ask for; empty for none."""
    return str(encoder_parameters.get(NETWORK) or "")


def _prepared(folder: Path, config: Config, cache: Path, report: Report) -> tuple[Prepared, str]:
    """The dataset of the project; where its network or its weights cannot be had, one without, and a notice.

    It is the base encoder's then, or one of quick features.
    """
    recipe = config.recipe
    try:
        return prepare_for(folder, config, report), ""
    except ModelError as error:
        if network_of(config.encoder_parameters) and error.code in ("MODEL_NETWORK", "MODEL_SAVE"):
            base = replace(recipe, encoder_parameters={**config.encoder_parameters, NETWORK: ""})
            return prepare(base, cache, report), str(error)
        if error.code != "MODEL_WEIGHTS":
            raise
        quick = replace(recipe, encoder=QUICK_ENCODER, encoder_parameters={})
        return prepare(quick, cache, report), f"{error} {UNTIL_THEN}"


def _lacked_network(pointer: Pointer, config: Config) -> bool:
    """Whether the project stood on its base encoder, since its network could not be had."""
    wanted, had = network_of(config.encoder_parameters), pointer.recipe.get("encoder_parameters")
    return bool(wanted and pointer.recipe) and not network_of(had if isinstance(had, dict) else {})


def image_ids(store: Store) -> Iterator[str]:
    """The ids of the pool in row order, some thousands read at a time."""
    after = -1
    while found := store.read(images.ids_after, after):
        yield from (image_id for _, image_id in found)
        after = found[-1][0]


def _is_of(pointer: Pointer, config: Config) -> bool:
    recipe = asdict(config.recipe)
    if recipe["source_parameters"].get("listing") == FIRST_LISTING and "listing" not in str(pointer.recipe):
        del recipe["source_parameters"]["listing"]  # written before this was kept
    return pointer.folder != "" and pointer.recipe == recipe


def _check_ids(prepared: Prepared, store: Store, folder: Path) -> None:
    """Refuse images that came or went."""
    ids = prepared.dataset.ids
    if store.read(images.count) == len(ids) and all(map(operator.eq, image_ids(store), ids)):
        return
    changed = sorted(set(image_ids(store)) ^ set(ids))
    raise SourceError(
        f"The images have changed since the project was created, and its cache is gone: {len(changed)} differ, "
        f"for example {list(map(name_of, changed[:3]))}. Put the folder back as it was; the labels are safe in "
        f"{folder}.",
        "SRC_CHANGED",
    )


def _check_contents(prepared: Prepared, store: Store) -> None:
    """Refuse another picture under the id of one that was labeled."""
    labeled = {record.image_id: record.content_sha256 for record in store.read(images.records, "ok")}
    changed = [
        image_id
        for image_id, content in zip(prepared.dataset.ids, prepared.hashes, strict=True)
        if labeled[image_id] not in ("", content.tobytes().hex())
    ]
    if changed:
        raise SourceError(
            f"{len(changed)} images have changed since they were labeled, and the project's cache is gone; for example "
            f"{list(map(name_of, changed[:3]))}. Put the first files back; the labels are safe.",
            "SRC_CHANGED",
        )
