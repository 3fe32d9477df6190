"""Training of the recurrent network: the target of a job, the only process that imports Keras for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from annotator.encoders import stored
from annotator.encoders.keras_autoencoder import Network, fit, read_inputs
from annotator.encoders.keras_setup import keras
from annotator.encoders.lstm import PARTS
from annotator.types import Report

STAGE = "Training the recurrent network"


def train(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Train on the .npy `images`, write the reading half to `weights`, return the losses of each epoch.

    `order_seed` shuffles the pool: its last fifth is for validation.
    """
    report("Reading images", 0, 1)
    inputs = read_inputs(Path(arguments["images"]), tuple(arguments["shape"]), arguments["order_seed"])
    keras.utils.set_random_seed(arguments["seed"])
    network = _network(tuple(arguments["shape"]), arguments["units"])
    history = fit(STAGE, network, inputs, arguments["max_epochs"], arguments["patience"], report)
    arrays = dict(zip(PARTS, network.get_weights(), strict=False))
    stored.write(Path(arguments["weights"]), {"shape": np.array(arguments["shape"]), **arrays})
    return {"history": history}


def _network(shape: tuple[int, int, int], units: int) -> Network:
    """Flat images in and out, between them the state after the last row."""
    height, width, n_channels = shape
    n_values = height * width * n_channels
    layers = [
        keras.Input((n_values,)),
        keras.layers.Reshape((height, width * n_channels)),
        keras.layers.LSTM(units),
        keras.layers.Dense(n_values, "sigmoid"),
    ]
    network = keras.Sequential(layers)
    network.compile(optimizer="nadam", loss="binary_crossentropy", metrics=["mse"])
    return network
