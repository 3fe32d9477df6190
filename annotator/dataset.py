"""source + encoder + graph -> Dataset, computed once and cached on disk by content.

    cache/images-<key of the source>/      decoded views and thumbnails (see ingest.py), other views (see views.py)
    cache/features-<key>/                  what an encoder gives of them (see features.py)
    cache/dataset-<version>/               features, the fitted encoder, the graph, the held-out features, opinions

A dataset's version is a hash of ordered ids, contents, encoder (name, parameters, what it learned, seed) and graph
parameters, so equal versions give equal batches. Opened a second time everything is memory-mapped and nothing computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from annotator import durable, npy, registry
from annotator.class_names import check_own_classes
from annotator.config import Recipe
from annotator.errors import SourceError
from annotator.features import EncoderChoice, encode, file_keys, joint_revision
from annotator.graph import REVISION, NeighborGraph, build_graph
from annotator.ids import StoredIds
from annotator.ingest import LAYOUT, Ingested, ingest, open_ingested
from annotator.pictures import Pictures
from annotator.shipped import unpack
from annotator.sources.development import hold_out_last
from annotator.sources.reordered import reorder
from annotator.types import (
    Chooses,
    Dataset,
    Encoder,
    FittedEncoder,
    HasOpinion,
    HeldOut,
    ImageArray,
    ImageSource,
    IntArray,
    Opinion,
    Report,
    SaysWhy,
    SetAside,
    keeps,
    silent,
    view_of,
)
from annotator.views import views_of

PIECE = 8192
"""Images whose part of a dataset's version is text at the same time."""


@dataclass(frozen=True)
class Prepared:
    """A dataset, and what the import has to say about it."""

    dataset: Dataset
    pictures: Pictures
    folder: Path
    class_names: tuple[str, ...]
    hashes: ImageArray
    """(n_images, 32) SHA-256 of each content."""
    set_aside: tuple[SetAside, ...]
    flags: dict[str, str]
    n_ignored: int
    left_out: tuple[str, ...] = ()
    """Parts of the source that stand for nothing here, by name."""
    encoder_parameters: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    """Of the recipe's encoder, with what it chose when it had seen the pool."""
    reason: str = ""
    """Why the encoder chose the features that it gives, in a sentence without its full stop; empty without a choice."""

    @cached_property
    def n_duplicates(self) -> int:
        """How many images have the same content as one before them."""
        group = self.dataset.group
        return int((group != np.arange(len(group))).sum())


def open_source(recipe: Recipe) -> ImageSource:
    """The recipe's images in the recipe's order."""
    source: ImageSource = registry.create("source", recipe.source, recipe.source_parameters)
    if recipe.development is None:
        return reorder(source, recipe.limit, recipe.order_seed)
    return reorder(hold_out_last(reorder(source, None, recipe.order_seed), recipe.development), recipe.limit)


def prepare(recipe: Recipe, cache: Path, report: Report = silent, own_classes: bool = False) -> Prepared:
    """List, decode, encode and connect whatever is not in the cache yet.

    With `own_classes` the source's classes are to be those of a new project: where they cannot be, ConfigError is
    raised before the first image is decoded.
    """
    shipped = unpack(made_from(recipe), cache)
    return open_prepared(shipped or prepare_here(recipe, cache, report, own_classes), recipe)


def made_from(recipe: Recipe) -> dict[str, Any]:  # Any: JSON
    """Everything but the images that a dataset comes from: its recipe, and the revisions of what makes it."""
    revisions = {"images": LAYOUT, "graph": REVISION, "encoder": _revision(recipe)}
    return _parts(recipe) | {"revisions": revisions}


def prepare_here(recipe: Recipe, cache: Path, report: Report = silent, own_classes: bool = False) -> Path:
    """`prepare` from the source, whatever comes with the package; the dataset's folder."""
    report("Listing images", 0, 0)
    source = open_source(recipe)
    if own_classes:
        check_own_classes(source.class_names)
    pool = ingest(source, cache, report)
    held_out = ingest(source.held_out, cache, report) if source.held_out is not None else None
    recipe = _with_choice(recipe, pool, report)
    version = _version(recipe, source, pool, held_out)
    folder = cache / f"dataset-{version[:24]}"
    if not (folder / "dataset.json").exists():
        with durable.building(folder) as partial_folder:
            _compute(recipe, source, pool, held_out, version, partial_folder, report)
    return folder


def prepare_job(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """`prepare` as a job's target; afterwards the parent opens the cached folder by its name.

    "encoder_parameters" are the recipe's, with what the encoder chose.
    """
    recipe, own_classes = Recipe(**arguments["recipe"]), bool(arguments.get("own_classes"))
    prepared = prepare(recipe, Path(arguments["cache"]), report, own_classes)
    return {"folder": prepared.folder.name, "encoder_parameters": prepared.encoder_parameters}


def open_prepared(folder: Path, recipe: Recipe) -> Prepared:
    """What `prepare` wrote, memory-mapped; the source itself is opened only for full-size pictures."""
    manifest = json.loads((folder / "dataset.json").read_text())
    pool = open_ingested(folder.parent / manifest["images"])
    features = npy.load(folder / "features.npy")
    pictures = Pictures(pool, partial(open_source, recipe))
    dataset = Dataset(
        ids=pool.ids,
        images=pool.views,
        features=features,
        graph=NeighborGraph.load(folder / "graph", features),
        group=pool.group,
        version=manifest["version"],
        open_image=pictures.picture,
        truth=_saved_codes(folder / "truth.npy"),
        held_out=_open_held_out(folder, manifest),
        opinion=_saved_opinion(folder / "opinion"),
    )
    aside = (*pool.set_aside, *_set_aside_of_held_out(folder, manifest))
    return Prepared(
        dataset,
        pictures,
        folder,
        tuple(manifest["class_names"]),
        pool.hashes,
        aside,
        pool.flags,
        pool.n_ignored,
        pool.left_out,
        manifest.get("encoder_parameters", recipe.encoder_parameters),
        manifest.get("reason", ""),
    )


def check_same_images(found: Prepared, in_use: Prepared) -> None:
    """Raises SourceError (SRC_CHANGED) where rows of the dataset in use are other images in `found`."""
    if found.dataset.ids != in_use.dataset.ids or not np.array_equal(found.hashes, in_use.hashes):
        message = "The images have changed since the project was created; another encoder needs them as they were."
        raise SourceError(message, "SRC_CHANGED")


def encoder_views(prepared: Prepared, recipe: Recipe, report: Report = silent) -> ImageArray:
    """What the recipe's encoder is given of a prepared pool's images."""
    manifest = json.loads((prepared.folder / "dataset.json").read_text())
    encoder: Encoder = registry.create("encoder", recipe.encoder, recipe.encoder_parameters)
    return views_of(open_ingested(prepared.folder.parent / manifest["images"]), view_of(encoder), report)


def _compute(
    recipe: Recipe,
    source: ImageSource,
    pool: Ingested,
    held_out: Ingested | None,
    version: str,
    folder: Path,
    report: Report,
) -> None:
    choice = EncoderChoice(recipe.encoder, recipe.encoder_parameters, recipe.seed, keeps(source))
    truth = None if source.held_out is None else source.held_out.truth
    encoded = encode(choice, pool, None if truth is None else held_out, folder.parent, report)
    encoded.save(folder)
    _save_opinion(folder / "opinion", choice, encoded.fitted, pool, report)
    (folder / "graph").mkdir()
    build_graph(encoded.features, recipe.n_neighbors, report).save(folder / "graph")
    if source.truth is not None:
        npy.save(folder / "truth.npy", source.truth[pool.source_rows])
    if held_out is not None and truth is not None:
        _save_opinion(folder / "held_out_opinion", choice, encoded.fitted, held_out, report)
        npy.save(folder / "held_out_truth.npy", truth[held_out.source_rows])
    _write_manifest(folder, recipe, version, encoded.fitted, source, pool, held_out)


def _with_choice(recipe: Recipe, pool: Ingested, report: Report) -> Recipe:
    """The recipe that names what its encoder stands for; as it is where that one chooses nothing."""
    encoder: Encoder = registry.create("encoder", recipe.encoder, recipe.encoder_parameters)
    if not isinstance(encoder, Chooses):
        return recipe
    views = partial(views_of, pool, view_of(encoder), report)
    return replace(recipe, encoder_parameters=encoder.chosen(views))


def _write_manifest(
    folder: Path,
    recipe: Recipe,
    version: str,
    fitted: FittedEncoder,
    source: ImageSource,
    pool: Ingested,
    held_out: Ingested | None,
) -> None:
    """Last: a folder that has it is complete."""
    manifest = {
        "version": version,
        "encoder": fitted.version,
        "encoder_parameters": recipe.encoder_parameters,
        "reason": fitted.reason if isinstance(fitted, SaysWhy) else "",
        "images": pool.folder.name,
        "held_out": held_out.folder.name if held_out else None,
        "class_names": list(source.class_names),
    }
    (folder / "dataset.json").write_text(json.dumps(manifest))


def _version(recipe: Recipe, source: ImageSource, pool: Ingested, held_out: Ingested | None) -> str:
    """The held-out images count too: another test set is another dataset, though no other features."""
    made_from = _parts(recipe) | {
        "source": "",
        "source_parameters": "",
        "graph_revision": REVISION,
        "encoder_revision": _revision(recipe),
        "ids": pool.ids,
        "hashes": _Hexadecimal(pool.hashes),
        "held_out": _Hexadecimal(held_out.hashes) if held_out else None,
        "class_names": source.class_names,
        "truth": source.truth,
    }
    if files := file_keys(registry.create("encoder", recipe.encoder, recipe.encoder_parameters)):
        made_from["files"] = files
    digest = hashlib.sha256()
    for piece in _json_pieces(made_from):
        digest.update(piece.encode())
    return digest.hexdigest()


def _revision(recipe: Recipe) -> int | list[int]:
    """Of the recipe's encoder, or of what that stands for, and of the bases of that."""
    return joint_revision(recipe.encoder, recipe.encoder_parameters)


def _parts(recipe: Recipe) -> dict[str, Any]:  # Any: JSON
    """As JSON; without a part that is not used, so that versions stay what they were before there was that part."""
    return {key: value for key, value in asdict(recipe).items() if key != "development" or value is not None}


class _Hexadecimal:
    """Hashes (n, 32) as text."""

    def __init__(self, hashes: ImageArray) -> None:
        self._hashes = hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def __getitem__(self, rows: slice) -> list[str]:
        text, size = self._hashes[rows].tobytes().hex(), 2 * self._hashes.shape[1]
        return [text[start : start + size] for start in range(0, len(text), size)]


def _json_pieces(values: dict[str, Any]) -> Iterator[str]:  # Any: JSON, and what has an element for each image
    """`json.dumps(values, sort_keys=True)` piece by piece, a few thousand images at a time."""
    for place, key in enumerate(sorted(values)):
        yield f"{', ' if place else '{'}{json.dumps(key)}: "
        value = values[key]
        yield from (
            _list_pieces(value)
            if isinstance(value, StoredIds | _Hexadecimal | np.ndarray)
            else [json.dumps(value, sort_keys=True)]
        )
    yield "}"


def _list_pieces(value: StoredIds | _Hexadecimal | IntArray) -> Iterator[str]:
    for start in range(0, len(value), PIECE):
        part = value[start : start + PIECE]
        listed = part.tolist() if isinstance(part, np.ndarray) else list(part)
        yield ("[" if start == 0 else ", ") + json.dumps(listed)[1:-1]
    yield "]" if len(value) else "[]"


def _open_held_out(folder: Path, manifest: dict[str, Any]) -> HeldOut | None:  # Any: JSON
    truth = _saved_codes(folder / "held_out_truth.npy")
    if truth is None:
        return None
    ingested = open_ingested(folder.parent / manifest["held_out"])
    features = npy.load(folder / "held_out.npy")
    return HeldOut(ingested.ids, ingested.views, features, truth, _saved_opinion(folder / "held_out_opinion"))


def _set_aside_of_held_out(folder: Path, manifest: dict[str, Any]) -> tuple[SetAside, ...]:  # Any: JSON
    """Test images that cannot be used are told as well."""
    return open_ingested(folder.parent / manifest["held_out"]).set_aside if manifest["held_out"] else ()


def _save_opinion(path: Path, choice: EncoderChoice, fitted: FittedEncoder, pool: Ingested, report: Report) -> None:
    """PATH.npy and PATH_codes.npy, where the encoder has an opinion."""
    if not isinstance(fitted, HasOpinion):
        return
    opinion = fitted.opinion(views_of(pool, view_of(choice.create()), report), report)
    if opinion is not None:
        npy.save(path.with_suffix(".npy"), opinion.probabilities)
        npy.save(path.with_name(f"{path.name}_codes.npy"), opinion.codes)


def _saved_opinion(path: Path) -> Opinion | None:
    codes = _saved_codes(path.with_name(f"{path.name}_codes.npy"))
    return None if codes is None else Opinion(npy.load(path.with_suffix(".npy")), codes)


def _saved_codes(path: Path) -> IntArray | None:
    return npy.load(path) if path.exists() else None
