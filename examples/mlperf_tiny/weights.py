# SPDX-License-Identifier: Apache-2.0
"""Trained weights of Keras, from .h5 files and from the variables of a SavedModel, into the networks in PyTorch."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from hls.errors import HeepgenError

Layers: TypeAlias = list[dict[str, np.ndarray]]
"""Of every Keras layer with weights, in the model's order: kernel or depthwise_kernel and bias, or gamma, beta,
moving_mean and moving_variance."""

_INDEX, _SHARD = "variables.index", "variables.data-00000-of-00001"


def read(path: Path) -> Layers:
    """The weights of an .h5 file, or of a folder with a SavedModel's variables. Raises HeepgenError."""
    return read_bundle(path) if path.is_dir() else read_h5(path)


def read_h5(path: Path) -> Layers:
    """The weights in an .h5 file that Keras 2 wrote. Raises HeepgenError for others."""
    try:
        import h5py
    except ImportError as error:
        raise HeepgenError("reading .h5 files needs h5py: pip install 'heepgen[mlperf]'.") from error
    try:
        with h5py.File(path) as file:
            groups = file["model_weights"]
            return [
                {str(name).split("/")[-1].partition(":")[0]: np.array(groups[layer][name]) for name in names}
                for layer in groups.attrs["layer_names"]
                if len(names := groups[layer].attrs["weight_names"])
            ]
    except (OSError, KeyError) as error:
        raise HeepgenError(f"{path} does not hold a model of Keras ({error}); fetch it again.") from error


def read_bundle(folder: Path) -> Layers:
    """The weights in the variables of a SavedModel, a tensor bundle in one shard. Raises HeepgenError for others."""
    try:
        index, data = (folder / "variables" / _INDEX).read_bytes(), (folder / "variables" / _SHARD).read_bytes()
        found: dict[int, dict[str, np.ndarray]] = {}
        for key, value in _table(index):
            name = re.fullmatch(rb"layer_with_weights-(\d+)/(\w+)/\.ATTRIBUTES/VARIABLE_VALUE", key)
            if name:
                found.setdefault(int(name[1]), {})[name[2].decode()] = _tensor(value, data)
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise HeepgenError(f"{folder} does not hold a SavedModel's variables ({error}); fetch it again.") from error
    return [found[number] for number in sorted(found)]


_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5
_FLOAT = 1
_DTYPE, _SHAPE, _OFFSET, _SIZE = 1, 2, 4, 5


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table in LevelDB's format: blocks, a block with the place of each, a footer with its own."""
    footer = data[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("its index is not a table")
    at = 0
    for _ in range(2):  # of the index of meta blocks, which nobody needs
        _, at = _varint(footer, at)
    for _, place in _block(data, footer[at:]):
        yield from _block(data, place)


def _block(data: bytes, place: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block. An entry: how much of the key before is kept, sizes of the rest and of the value, the
    rest, the value."""
    start, used = _varint(place, 0)
    size, _ = _varint(place, used)
    if data[start + size] != 0:
        raise ValueError("its index is compressed")
    (restarts,) = struct.unpack_from("<I", data, start + size - 4)
    at, end, key = start, start + size - 4 * (restarts + 1), b""
    while at < end:
        kept, at = _varint(data, at)
        rest, at = _varint(data, at)
        length, at = _varint(data, at)
        key = key[:kept] + data[at : at + rest]
        yield key, data[at + rest : at + rest + length]
        at += rest + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Field numbers of a message of Protocol Buffers, each with its number and, if it has them, its bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
            yield key >> 3, value, b""
        elif key & 7 == 2:
            size, at = _varint(message, at)
            yield key >> 3, size, message[at : at + size]
            at += size
        elif key & 7 == 5:
            at += 4
        else:
            raise ValueError(f"a field of type {key & 7}")


def _tensor(entry: bytes, data: bytes) -> np.ndarray:
    """The tensor that a BundleEntryProto is about."""
    numbers = {field: number for field, number, _ in _fields(entry)}
    if numbers.get(_DTYPE) != _FLOAT:
        raise ValueError("a weight is not FP32")
    shape = b"".join(value for field, _, value in _fields(entry) if field == _SHAPE)
    dimensions = [number for *_, size in _fields(shape) for field, number, _ in _fields(size) if field == 1]
    offset, size = numbers.get(_OFFSET, 0), numbers.get(_SIZE, 0)
    return np.frombuffer(data[offset : offset + size], "<f4").reshape(dimensions)


def fill(model: nn.Module, layers: Layers, source: Path) -> None:
    """Put the weights into a network whose layers are made in the same order. Raises HeepgenError unless all fit."""
    modules = list(model.modules())
    weighted = [m for m in modules if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear))]
    norms = [m for m in modules if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    _fill_all(weighted, [layer for layer in layers if "gamma" not in layer], source)
    _fill_all(norms, [layer for layer in layers if "gamma" in layer], source)


def _fill_all(modules: Sequence[nn.Module], layers: Layers, source: Path) -> None:
    if len(modules) != len(layers):
        raise HeepgenError(
            f"{source} has {len(layers)} layers where the network has {len(modules)}: it is another one."
        )
    for module, layer in zip(modules, layers, strict=True):
        tensors = _of_norm(layer) if "gamma" in layer else _of_layer(module, layer)
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        own.pop("num_batches_tracked", None)
        if {n: tuple(t.shape) for n, t in own.items()} != {n: t.shape for n, t in tensors.items()}:
            shapes = ", ".join(f"{n} {list(t.shape)}" for n, t in tensors.items())
            raise HeepgenError(f"{source}: {shapes} do not fit {module}: it is another network.")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(torch.from_numpy(tensors[name].copy()))


def _of_norm(layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return {ours: layer[theirs] for ours, theirs in names.items()}


def _of_layer(module: nn.Module, layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keras' kernels are (height, width, inputs, outputs), depthwise ones (height, width, channels, 1)."""
    if "depthwise_kernel" in layer:
        kernel = layer["depthwise_kernel"].transpose(2, 3, 0, 1)
    else:
        kernel = layer["kernel"].transpose(*range(layer["kernel"].ndim)[::-1])
        kernel = kernel.swapaxes(2, 3) if kernel.ndim == 4 else kernel
    if isinstance(module, nn.Conv1d) and kernel.shape[-1:] == (1,):
        kernel = kernel[..., 0]
    return {"weight": kernel} | ({"bias": layer["bias"]} if "bias" in layer else {})
