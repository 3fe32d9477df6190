"""A trained dense network in plain NumPy, applied without TensorFlow. Knows no images and no labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotator.encoders.stored import Array
from annotator.types import FeatureArray


@dataclass(frozen=True, eq=False)
class DenseLayers:
    """max(0, x @ kernel + bias) for each layer; the last layer returns its sums without the max."""

    weights: tuple[NDArray[np.float32], ...]
    """kernel (n_inputs, n_outputs) and bias (n_outputs,) of each layer in turn, as Keras lists them."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers that go in, then those that come out of each layer."""
        return (self.weights[0].shape[0], *(bias.shape[0] for bias in self.weights[1::2]))

    @property
    def arrays(self) -> dict[str, Array]:
        """By name, for `stored.write`."""
        return {f"weights_{number}": array for number, array in enumerate(self.weights)}

    def apply(self, vectors: FeatureArray) -> FeatureArray:
        """(n, n_inputs) -> (n, n_outputs) float32."""
        layers = list(zip(self.weights[::2], self.weights[1::2], strict=True))
        for number, (kernel, bias) in enumerate(layers):
            vectors = vectors @ kernel + bias
            if number < len(layers) - 1:
                vectors = np.maximum(vectors, 0)
        return vectors


def from_keras(weights: Sequence[Array]) -> DenseLayers:
    """Layers from what Keras' `get_weights` returns for a network of dense layers."""
    return DenseLayers(tuple(np.asarray(array, dtype=np.float32) for array in weights))


def from_arrays(arrays: Mapping[str, Array]) -> DenseLayers:
    """Layers from arrays that `DenseLayers.arrays` named; other arrays are ignored."""
    names = sorted((name for name in arrays if name.startswith("weights_")), key=lambda name: int(name[8:]))
    return from_keras([arrays[name] for name in names])
