"""Features of a pool by one encoder, computed once and cached on disk: what datasets and combinations share.

    cache/features-<key>/       features.npy, encoder/, encoder.json, and held_out-<key>.npy for each test set
    cache/training-<key>/       what an encoder has learned so far, while it is trained

The key is a hash of the images' contents, and of the encoder with its parameters, seed and revision: the same images
from another source, with other neighbours or another test set, are not encoded again. What an encoder gives is checked
before it is kept: a row for each image, in numbers that have distances. Knows no graph.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from annotator import durable, npy, registry
from annotator.encoders.combined import is_first
from annotator.errors import FeatureError
from annotator.exclusive import turn
from annotator.graph import checked, frame_of
from annotator.ingest import LAYOUT, Ingested
from annotator.types import (
    ChangesImages,
    Chooses,
    Encoder,
    Extends,
    FeatureArray,
    FittedEncoder,
    ImageArray,
    JoinsEncoders,
    Keeps,
    ReadsFile,
    Report,
    Resumes,
    revision,
    silent,
    suited,
    view_of,
)
from annotator.views import views_of

FEATURES, TRAINING = "features-", "training-"
"""How the folders in the cache begin that hold features, and an unfinished training of an encoder."""
WAITING = "Waiting for another project's training"
MANIFEST = "encoder.json"
UNKNOWN_IMAGES = Keeps()


@dataclass(frozen=True)
class EncoderChoice:
    """An encoder by name, with its parameters, and the seed of the generator that it is fitted with."""

    name: str
    parameters: dict[str, Any]  # Any: JSON
    seed: int
    keeps: Keeps = UNKNOWN_IMAGES
    """Of the images' source."""

    def create(self) -> Encoder:
        """Raises ConfigError."""
        return suited(registry.create("encoder", self.name, self.parameters), self.keeps)

    def of_part(self, name: str) -> EncoderChoice:
        """One part of a combination, as it is by itself."""
        start = f"{name}."
        given = {key.removeprefix(start): value for key, value in self.parameters.items() if key.startswith(start)}
        return EncoderChoice(name, given, self.seed, self.keeps)


@dataclass(frozen=True)
class Encoded:
    """A fitted encoder, and what it gives of a pool and of its test set."""

    fitted: FittedEncoder
    features: FeatureArray
    held_out: FeatureArray | None = None
    files: tuple[Path, ...] = ()
    """Where features and held-out features are in the cache, if they are there as they are here."""

    def save(self, folder: Path) -> None:
        """Write everything under `folder`: features.npy, encoder/, and held_out.npy where there is a test set.

        A file of the cache gets a second name, where the disk can do that, and takes no more space.
        """
        arrays = {"features.npy": self.features, "held_out.npy": self.held_out}
        for (name, array), file in zip_longest(arrays.items(), self.files):
            if array is not None:
                _put(folder / name, array, file)
        (folder / "encoder").mkdir()
        self.fitted.save(folder / "encoder")


def encode(
    choice: EncoderChoice, pool: Ingested, held_out: Ingested | None, cache: Path, report: Report = silent
) -> Encoded:
    """The features of a pool and, where there is one, of its test set; what is in the cache is not computed again.

    Raises FeatureError (FEAT_...) where an encoder gives no usable row for each image, and what the encoder raises.
    """
    encoder = choice.create()
    if isinstance(encoder, Chooses):
        images = views_of(pool, view_of(encoder), report)
        found = encode(EncoderChoice(*encoder.chosen_encoder, choice.seed, choice.keeps), pool, held_out, cache, report)
        return replace(found, fitted=encoder.standing_for(found.fitted, images))
    if isinstance(encoder, Extends):
        return _extended(encoder, choice, pool, held_out, cache, report)
    if isinstance(encoder, JoinsEncoders):
        return _joined(encoder, choice, pool, held_out, cache, report)
    folder = cache / f"{FEATURES}{_key(choice, pool)}"
    fitted = _made(encoder, choice, pool, folder, report) or encoder.load(folder / "encoder")
    path = folder / "features.npy"
    if held_out is None:
        return Encoded(fitted, npy.load(path), None, (path,))
    held = _held_out(encoder, fitted, held_out, folder, report)
    return Encoded(fitted, npy.load(path), npy.load(held), (path, held))


def _extended(
    encoder: Extends,
    choice: EncoderChoice,
    pool: Ingested,
    held_out: Ingested | None,
    cache: Path,
    report: Report,
) -> Encoded:
    """The base's features from the cache, and what the encoder adds to them."""
    base = encode(EncoderChoice(encoder.base, {}, choice.seed, choice.keeps), pool, held_out, cache, report)
    fitted = encoder.on(base.fitted, cache)

    def extended(features: FeatureArray, images: Ingested) -> FeatureArray:
        return fitted.extend(features, views_of(images, view_of(choice.create()), report), report)

    features = extended(base.features, pool)
    if features is base.features:
        return replace(base, fitted=fitted)
    held = None if held_out is None or base.held_out is None else extended(base.held_out, held_out)
    return Encoded(fitted, _usable(features, len(pool.ids), fitted), held)


def _joined(
    encoder: JoinsEncoders,
    choice: EncoderChoice,
    pool: Ingested,
    held_out: Ingested | None,
    cache: Path,
    report: Report,
) -> Encoded:
    """Each part's features from its own views, then one beside the other."""

    def of_part(name: str) -> Encoded:
        def staged(stage: str, done: int, total: int) -> None:
            report(f"{name}: {stage}", done, total)

        return encode(choice.of_part(name), pool, held_out, cache, staged)

    parts = {name: of_part(name) for name in encoder.encoders}
    fitted = encoder.of_fitted({name: part.fitted for name, part in parts.items()})
    of_test_set = [part.held_out for part in parts.values() if part.held_out is not None]
    features = fitted.join([part.features for part in parts.values()])
    return Encoded(fitted, _usable(features, len(pool.ids), fitted), fitted.join(of_test_set) if of_test_set else None)


def _made(
    encoder: Encoder, choice: EncoderChoice, pool: Ingested, folder: Path, report: Report
) -> FittedEncoder | None:
    """The encoder, fitted, with its features in `folder`; None where they are there already, by another process."""
    if (folder / MANIFEST).exists():
        return None
    unfinished = folder.with_name(folder.name.replace(FEATURES, TRAINING))
    with turn(unfinished.with_name(f".{unfinished.name}.lock"), report, WAITING):
        if (folder / MANIFEST).exists():
            return None
        with durable.building(folder) as draft:
            fitted = _compute(encoder, choice, pool, unfinished, draft, report)
        shutil.rmtree(unfinished, ignore_errors=True)
    return fitted


def _compute(
    encoder: Encoder, choice: EncoderChoice, pool: Ingested, unfinished: Path, folder: Path, report: Report
) -> FittedEncoder:
    """Fit and encode; the manifest is written last: a folder that has it is complete."""
    views = views_of(pool, view_of(encoder), report)
    fitted = _fitted(encoder, views, choice.seed, unfinished, report)
    Encoded(fitted, _features(fitted, views, report)).save(folder)
    (folder / MANIFEST).write_text(json.dumps({"encoder": fitted.version}))
    return fitted


def _fitted(encoder: Encoder, views: ImageArray, seed: int, unfinished: Path, report: Report) -> FittedEncoder:
    """Trained, on from where a process that died left it in `unfinished`."""
    rng = np.random.default_rng(seed)
    if isinstance(encoder, Resumes):
        return encoder.fit_in(unfinished, views, rng, report)
    return encoder.fit(views, rng, report)


def _held_out(encoder: Encoder, fitted: FittedEncoder, held_out: Ingested, folder: Path, report: Report) -> Path:
    """The file of a test set's features, computed where it is missing."""
    path = folder / f"held_out-{_digest(held_out)[:24]}.npy"
    if not path.exists():
        features = _features(fitted, views_of(held_out, view_of(encoder), report), report)
        with durable.drafts(path) as (draft,):
            npy.save(draft, features)
    return path


def _put(path: Path, array: FeatureArray, file: Path | None) -> None:
    """Save an array, which `file` holds already if it is given."""
    try:
        if file is not None:
            os.link(file, path)
            return
    except OSError:
        pass  # the disk knows no second names
    npy.save(path, array)


def _features(fitted: FittedEncoder, images: ImageArray, report: Report) -> FeatureArray:
    return _usable(np.asarray(fitted.encode(images, report)), len(images), fitted)


def _usable(features: FeatureArray, n_images: int, fitted: FittedEncoder) -> FeatureArray:
    """The features as they are. Raises FeatureError where there is no usable row for each image."""
    try:
        if len(features) != n_images:
            message = f"There are {len(features):,} rows of features for {n_images:,} images."
            raise FeatureError(message, "FEAT_SHAPE")
        checked(features, frame_of(features))
    except FeatureError as error:
        raise FeatureError(f"The encoder {fitted.version} cannot be used here: {error}", error.code) from error
    return features


def joint_revision(name: str, parameters: dict[str, Any]) -> int | list[int]:  # Any: JSON
    """Of the encoder that is fitted; followed by those of its bases, once one of these was raised."""
    encoder: Encoder = registry.create("encoder", name, parameters)
    if isinstance(encoder, Chooses):
        return joint_revision(*encoder.chosen_encoder)
    bases = [one.base for one in _made_of(encoder) if isinstance(one, Extends)]
    own, *others = [revision(registry.load("encoder", one)) for one in (name, *bases)]
    return own if all(map(is_first, others)) else [own, *others]


def file_keys(encoder: Encoder) -> list[str]:
    """Of the files that the encoder reads, or what it is made of. Raises ModelError (MODEL_WEIGHTS)."""
    return [key for one in _made_of(encoder) if isinstance(one, ReadsFile) and (key := one.file_key())]


def _made_of(encoder: Encoder) -> Iterator[Encoder]:
    """The encoder, and those that it stands for, adds to or joins."""
    yield encoder
    if isinstance(encoder, Chooses):
        yield from _made_of(registry.create("encoder", *encoder.chosen_encoder))
    if isinstance(encoder, Extends):
        yield from _made_of(registry.create("encoder", encoder.base))
    for part in encoder.encoders.values() if isinstance(encoder, JoinsEncoders) else ():
        yield from _made_of(part)


def _key(choice: EncoderChoice, pool: Ingested) -> str:
    """Of everything that features depend on; a parameter left out counts as its default."""
    made_from = {
        "images": _digest(pool),
        "encoder": choice.name,
        "parameters": registry.complete("encoder", choice.name, choice.parameters),
        "seed": choice.seed,
        "revision": revision(registry.load("encoder", choice.name)),
    }
    encoder = choice.create()
    if isinstance(encoder, ChangesImages):
        made_from["keeps"] = asdict(choice.keeps)
    if files := file_keys(encoder):
        made_from["files"] = files
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:24]


def _digest(pool: Ingested) -> str:
    """Of the contents, in their order; the shape tells arrays apart whose bytes are the same."""
    shape = repr((LAYOUT, pool.has_thumbnails, pool.views.shape))
    return hashlib.sha256(shape.encode() + np.ascontiguousarray(pool.hashes).tobytes()).hexdigest()
