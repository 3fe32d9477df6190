"""Weights of networks of keras.applications, drawn at random: there is no network connection in tests."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

WRITE = """
import pathlib
from annotator.encoders.keras_setup import keras

def save(model, name):
    for weights in model.weights:
        if "variance" not in weights.path:
            weights.assign(keras.random.normal(weights.shape, stddev=0.2, seed=1))
    model.save_weights(name + ".weights.h5")

folder = pathlib.Path({folder!r})
networks = keras.applications
save(networks.MobileNetV3Small(include_top=False, weights=None, input_shape=(75, 75, 3)), str(folder / "small"))
whole = networks.MobileNetV3Small(weights=None)
whole.load_weights(folder / "small.weights.h5", skip_mismatch=True)
whole.save_weights(folder / "whole.weights.h5")
whole.save(folder / "whole.h5")
save(networks.MobileNetV2(include_top=False, weights=None, alpha=0.35, input_shape=(96, 96, 3)), str(folder / "other"))
"""
_kept: list[tempfile.TemporaryDirectory[str]] = []


@cache
def random_weights() -> Path:
    """A folder with small.weights.h5 of MobileNetV3Small, whole.weights.h5 and whole.h5 of the same with a classifier,
    and other.weights.h5 of another network. Made by one process of Keras, once.
    """
    _kept.append(tempfile.TemporaryDirectory(prefix="annotator-weights-"))
    folder = Path(_kept[-1].name)
    subprocess.run([sys.executable, "-c", WRITE.format(folder=str(folder))], check=True, capture_output=True)
    return folder
