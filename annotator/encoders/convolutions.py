"""A small convolutional network: what its layers are, and how it is computed in NumPy. Knows no training.

Each layer is a convolution, a bias (normalisation is part of both by then) and relu; a layer with a `shortcut` ends a
residual block of two (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from annotator.types import FeatureArray


@dataclass(frozen=True)
class Layer:
    """One convolution, padded so that the output has a cell for each `stride` pixels (TensorFlow's "SAME")."""

    side: int
    channels: int
    stride: int = 1
    shortcut: bool = False
    """Whether what went into the layer before is added to the output, before relu."""


def kernel_shapes(layers: Sequence[Layer], n_channels: int) -> list[tuple[int, int, int, int]]:
    """(height, width, channels in, channels out) of each layer's kernel."""
    into = [n_channels, *(layer.channels for layer in layers)]
    return [(layer.side, layer.side, into[place], layer.channels) for place, layer in enumerate(layers)]


def outputs_of(
    layers: Sequence[Layer], kernels: Sequence[FeatureArray], biases: Sequence[FeatureArray], images: FeatureArray
) -> list[FeatureArray]:
    """(n, height, width, n_channels) float32 -> what each layer gives of it, the last layer's last."""
    found: list[FeatureArray] = [images]
    for layer, kernel, bias in zip(layers, kernels, biases, strict=True):
        flow = convolve(found[-1], kernel, layer.stride)
        flow += bias
        if layer.shortcut:
            flow += found[-2]
        found.append(np.maximum(flow, 0, out=flow))
    return found[1:]


def convolve(images: FeatureArray, kernel: FeatureArray, stride: int) -> FeatureArray:
    """(n, height, width, channels in) by (k, k, channels in, channels out), as one product of matrices."""
    side = kernel.shape[0]
    padded = np.pad(images, ((0, 0), *(_padding(length, side, stride) for length in images.shape[1:3]), (0, 0)))
    windows = sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kernel[..., 0].size)
    return np.asarray(columns @ kernel.reshape(-1, kernel.shape[3])).reshape(*windows.shape[:3], -1)


def average_cells(maps: FeatureArray, cells: int) -> FeatureArray:
    """(n, side, side, channels) -> (n, cells * cells * channels): means over cells that may share a row or column."""
    side = maps.shape[1]
    starts, ends = (
        [place * side // cells for place in range(cells)],
        [-(-place * side // cells) for place in range(1, cells + 1)],
    )
    tall = np.stack([maps[:, start:end].mean(axis=1) for start, end in zip(starts, ends, strict=True)], axis=1)
    wide = np.stack([tall[:, :, start:end].mean(axis=2) for start, end in zip(starts, ends, strict=True)], axis=2)
    return wide.reshape(len(maps), -1)


def _padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return missing // 2, missing - missing // 2
