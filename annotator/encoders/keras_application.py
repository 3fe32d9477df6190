"""Networks of keras.applications: the target of a worker, the only process that imports Keras for them."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np

from annotator.encoders import stored
from annotator.encoders.keras_imagenet import Tensor, in_batches
from annotator.encoders.keras_setup import keras, tf
from annotator.errors import ModelError
from annotator.types import Report

PREPROCESSING = {
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3",
    "MobileNetV3Large": "mobilenet_v3",
    "EfficientNetB0": "efficientnet",
    "EfficientNetB1": "efficientnet",
    "EfficientNetB2": "efficientnet",
    "EfficientNetV2B0": "efficientnet_v2",
    "ResNet50": "resnet",
    "ResNet50V2": "resnet_v2",
    "ResNet101": "resnet",
    "DenseNet121": "densenet",
    "InceptionV3": "inception_v3",
    "Xception": "xception",
    "ConvNeXtTiny": "convnext",
}
"""The module of keras.applications that knows how each network's images are scaled."""
CONNECT_SECONDS = 5.0
"""How long a download waits for a name to be found, for a connection, and for each piece."""

Model = Any  # a keras.Model: Keras ships no types


def run(arguments: dict[str, Any], report: Report) -> dict[str, Any]:  # Any: JSON
    """Write the network's outputs for the .npy `images` to the .npy `answer`: (n, n_values) float32."""
    images = np.load(arguments["images"], allow_pickle=False)
    network = _compiled(arguments["network"], arguments["side"], arguments["weights"], arguments["digest"])
    stored.write_npy(Path(arguments["answer"]), in_batches(network, images, arguments["batch"]))
    return {}


@lru_cache(maxsize=1)
def _compiled(name: str, side: int, weights: str, digest: str) -> Callable[[Tensor], Tensor]:
    """(n, height, width, 1 or 3) uint8 -> (n, n_values); `digest` tells files of one name apart."""
    network = _from_file(name, side, weights) if weights else _downloaded(name, side)
    preprocess = getattr(keras.applications, PREPROCESSING[name]).preprocess_input

    def apply(images: Tensor) -> Tensor:
        resized = tf.image.resize(tf.cast(images, tf.float32), (side, side), antialias=True)
        colours = tf.repeat(resized, 3, axis=-1) if images.shape[-1] == 1 else resized
        return network(preprocess(colours), training=False)

    return tf.function(apply)  # type: ignore[no-any-return]  # TensorFlow ships no types


def _build(name: str, side: int, weights: str | None = None) -> Model:
    """Without the classifier."""
    keras.utils.clear_session()  # layers are named from 1 on, as in the files
    make = getattr(keras.applications, name)
    return make(include_top=False, weights=weights, pooling="avg", input_shape=(side, side, 3))


def _from_file(name: str, side: int, path: str) -> Model:
    """Weights with or without those of the classifier. Raises ModelError (MODEL_WEIGHTS)."""
    network = _build(name, side)
    try:
        network.load_weights(path)
        return network
    except Exception as first:  # whatever Keras and its readers of files raise
        try:
            return _without_classifier(network, name, path)
        except Exception:
            raise _refused(name, path, first) from first


def _without_classifier(network: Model, name: str, path: str) -> Model:
    """`network` with the weights of a file that has those of the classifier as well."""
    keras.utils.clear_session()
    whole = getattr(keras.applications, name)(weights=None)
    whole.load_weights(path)
    for mine, theirs in zip(network.layers[:-1], whole.layers, strict=False):  # the last one is the average
        mine.set_weights(theirs.get_weights())
    return network


def _refused(name: str, path: str, error: Exception) -> ModelError:
    why = " ".join(str(error).split())[:200]
    return ModelError(
        f"The file {path} cannot be used as weights of {name}: {why}. Give one that was saved from keras.applications."
        f"{name} (.weights.h5, or Keras' own .h5), choose the network that it belongs to, or the encoder imagenet, "
        "which comes with its own.",
        "MODEL_WEIGHTS",
    )


def _downloaded(name: str, side: int) -> Model:
    """The weights that Keras offers, from its folder or from the network. Raises ModelError (MODEL_WEIGHTS)."""
    socket.setdefaulttimeout(CONNECT_SECONDS)
    urllib.request.install_opener(urllib.request.build_opener(_Impatient))
    try:
        return _build(name, side, "imagenet")
    except Exception as error:  # Keras raises a plain Exception
        why = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The weights of {name} are not on this machine, and could not be downloaded: {why}. Connect this machine "
            "to the network, give a file (the encoder's parameter weights), or choose the encoder imagenet, which "
            "works without either.",
            "MODEL_WEIGHTS",
        ) from error


class _Impatient(urllib.request.HTTPSHandler):
    """Gives up where a name is not found in time: a system's own search for it may take half a minute."""

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """As without, once the host's name was found."""
        host, found = request.host.rpartition(":")[0] or request.host, threading.Event()

        def look_up() -> None:
            with suppress(OSError):  # said better by what asks again below
                socket.getaddrinfo(host, 443)
            found.set()

        threading.Thread(target=look_up, daemon=True).start()
        if not found.wait(CONNECT_SECONDS):
            raise URLError(f"the host {host} was not found")
        return super().https_open(request)
