"""Training of the encoder `finetuned`, and what its network says of images: the targets of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from annotator.encoders import networks, stored
from annotator.encoders.keras_consistency import BATCH, Training, flattened, network_of, resized
from annotator.encoders.keras_setup import keras, tf
from annotator.encoders.networks import TrainedNetwork
from annotator.encoders.pca import fit_projection
from annotator.encoders.training_plan import Plan
from annotator.jobs import record
from annotator.types import ImageArray, Report

DIMENSIONS = 64
"""Of the network's own features, for the graph."""
SAMPLE = 4_000
"""Images that their directions are found by."""
STAGE = "Training the network on your labels"
CHECKPOINT = "checkpoint.npz"

Network = Any  # a keras.Model: Keras ships no types


def train(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Train by each of `plans` on the .npy `images`; write the networks under `folder` and give their names.

    `vote` is an .npy (n_images, n_codes), `rows` and `labels` are the labeled rows and their columns in it, `codes` the
    class code of each column, `seen` the labeled rows as the project counts them. Goes on from the checkpoint in
    `folder` whose key is `key`.
    """
    report("Reading images", 0, 1)
    images, vote = (np.load(arguments[key], mmap_mode="r", allow_pickle=False) for key in ("images", "vote"))
    rows, labels, codes = (np.asarray(arguments[key], dtype=np.int64) for key in ("rows", "labels", "codes"))
    seen = np.asarray(arguments["seen"], dtype=np.int64)
    folder, names = Path(arguments["folder"]), []
    for plan in arguments["plans"]:
        training = Training(Plan(**plan), images, vote, rows, labels)
        _run(training, folder / CHECKPOINT, arguments["key"], report)
        names.append(networks.write(_trained(training, images, codes, seen), folder))
    return {"networks": names}


def run(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Write to the .npy `answer` what `network` says of the .npy `images`: (n, n_codes + n_features) float32."""
    images = np.load(arguments["images"], allow_pickle=False)
    ask = _asked(arguments["network"])
    parts = [ask(_filled(images[start : start + BATCH])).numpy() for start in range(0, len(images), BATCH)]
    stored.write_npy(Path(arguments["answer"]), np.concatenate(parts)[: len(images)])
    return {}


def _run(training: Training, checkpoint: Path, key: str, report: Report) -> None:
    plan = training.plan
    if not (plan.steps and training.restore(checkpoint, key)):
        training.fit_head()
    since: list[dict[str, float]] = []
    while training.n_done < plan.steps:
        report(STAGE, training.n_done, plan.steps)
        since.append(training.step())
        if training.n_done % plan.checkpoint == 0 or training.n_done == plan.steps:
            means = {name: float(np.mean([losses[name] for losses in since])) for name in since[0]}
            record({"epoch": -(-training.n_done // plan.checkpoint), **means})
            since.clear()
            training.save(checkpoint, key)
    report(STAGE, plan.steps, plan.steps)


def _trained(training: Training, images: ImageArray, codes: Any, seen: Any) -> TrainedNetwork:  # Any: IntArray
    """The averaged network, with the directions of most variance that the pool has in it."""
    plan = training.plan
    network = _with_weights(plan.layer, plan.side, training.weights)
    rng = np.random.default_rng([plan.seed, 3])
    sample = np.sort(rng.permutation(len(images))[:SAMPLE])
    projection = fit_projection(flattened(network, images, sample), DIMENSIONS)
    weights = tuple(training.weights)
    return TrainedNetwork(plan.layer, plan.side, weights, codes, np.sort(seen), projection.mean, projection.components)


def _with_weights(layer: str, side: int, weights: Any) -> Network:  # Any: arrays
    network = network_of(layer, side, weights[-1].shape[0])
    network.set_weights(list(weights))
    return network


@lru_cache(maxsize=2)
def _asked(path: str) -> Callable[[ImageArray], Any]:  # Any: a tensor
    """(n, height, width, n_channels) uint8 -> (n, n_codes + n_features), by the network in this file."""
    trained = networks.read(Path(path))
    network = _with_weights(trained.layer, trained.side, trained.weights)
    both = keras.Model(network.input, [network.get_layer("flat").output, network.output])

    def apply(images: Any) -> Any:  # Any: tensors
        flat, scores = both(resized(images, trained.side), training=False)
        return tf.concat([tf.nn.softmax(scores), (flat - trained.mean) @ trained.components], axis=1)

    return tf.function(apply)  # type: ignore[no-any-return]  # TensorFlow ships no types


def _filled(images: ImageArray) -> ImageArray:
    """A whole batch: an image's outputs do not depend on how many there are."""
    missing = BATCH - len(images)
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), dtype=np.uint8)]) if missing else images
