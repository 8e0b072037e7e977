# SPDX-License-Identifier: Apache-2.0
"""Inputs with labels, from an .npz file, from arrays, or from a DataLoader.

An .npz file holds: `x` (N, ...), inputs with the batch dimension first. `y`, labels, optional: classes (N,), or, for a
network that rebuilds its input, 1 for what is anomalous and 0 for what is not. `clip`, optional: that many consecutive
inputs are one clip with one label in `y` (N / clip,), and its score is their mean error.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gen.inputs import as_array, load_samples, samples
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from firmware_gen import ir


@dataclass(frozen=True)
class Data:
    """float32 inputs (N, ...), labels (N / clip,) or None, inputs per label."""

    x: np.ndarray
    y: np.ndarray | None
    clip: int

    def whole_batches(self, batch: int) -> "Data":
        """Without the last inputs, where they are no whole batch, or no whole clip of them. Raises HeepgenError where
        nothing is left."""
        count = len(self.x) // math.lcm(batch, self.clip) * math.lcm(batch, self.clip)
        if not count:
            raise HeepgenError(
                f"the data: {len(self.x)} inputs; the model takes {batch} at once, give as many at least."
            )
        return Data(self.x[:count], None if self.y is None else self.y[: count // self.clip], self.clip)


def load_data(path: str | Path, limit: int | None = None, model: tuple[int, ...] | None = None) -> Data:
    """The .npz file described above, or its first `limit` inputs, for a model that takes `model`. Raises HeepgenError
    for other files."""
    arrays = load_samples(path, "--data", ("x", "y", "clip"), model)
    where = f"--data {path}"
    clip = arrays.get("clip", np.ones((), int))
    if clip.size != 1 or clip.dtype.kind not in "iub":
        raise HeepgenError(f"{where}: clip is {clip.dtype} {list(clip.shape)}; one integer is needed.")
    return _checked(arrays["x"], arrays.get("y"), int(clip.reshape(())), limit, where)


def data_of(given: Any, limit: int | None = None, model: tuple[int, ...] | None = None) -> Data:
    """The path of such a file; a DataLoader or Dataset of PyTorch, of (inputs, labels) or of inputs alone; a list of
    such pairs; (x, y); or x, arrays or tensors. Raises HeepgenError for anything else."""
    if isinstance(given, str | Path):
        return load_data(given, limit, model)
    x, y = _arrays(given, limit)
    return _checked(samples(x, "the data", model), y, 1, limit, "the data")


def check_independent(graph: "ir.Graph", what: str) -> None:
    """Raises HeepgenError for a network whose inferences are no rows of one array, where `what` needs that."""
    if len(graph.arguments) > 1 or graph.state:
        has = f"{len(graph.arguments)} inputs" if len(graph.arguments) > 1 else "state"
        raise HeepgenError(f"{graph.name} has {has}: {what} with networks of one input and no state only.")


def _checked(x: np.ndarray, y: np.ndarray | None, clip: int, limit: int | None, where: str) -> Data:
    if limit is not None and limit < 1:
        raise HeepgenError(f"--limit {limit}: must be 1 or more.")
    if clip < 1 or len(x) % clip or (y is not None and (y.shape != (len(x) // clip,) or y.dtype.kind not in "iub")):
        shape = "missing" if y is None else f"{y.dtype} {list(y.shape)}"
        raise HeepgenError(
            f"{where}: y is {shape} and clip {clip}, x has {len(x)} inputs; y must be one integer per clip."
        )
    if limit is not None:
        x = x[: max(limit // clip, 1) * clip]
        y = None if y is None else y[: len(x) // clip]
    return Data(np.ascontiguousarray(x, np.float32), y, clip)


def _arrays(given: Any, limit: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    from torch.utils.data import DataLoader, Dataset

    if isinstance(given, Dataset) or isinstance(given, list) and given and all(isinstance(s, tuple) for s in given):
        given = DataLoader(cast("Dataset[Any]", given), batch_size=256)
    if isinstance(given, DataLoader):
        parts = list(_batches(given, limit))
        if not parts:
            raise HeepgenError("the data: the DataLoader gives nothing; give at least one batch.")
        labelled = all(y is not None for _, y in parts)
        x = np.concatenate([x for x, _ in parts])
        return x, np.concatenate([y for _, y in parts if y is not None]) if labelled else None
    return _pair(given)


def _batches(loader: Any, limit: int | None) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Batches until `limit` inputs are there."""
    count = 0
    for batch in loader:
        x, y = _pair(batch)
        yield x, y
        count += len(x)
        if limit is not None and count >= limit:
            return


def _pair(given: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs and labels of (x, y), (x,) or x."""
    if not isinstance(given, tuple | list):
        return as_array(given, "the data"), None
    if len(given) not in (1, 2):
        raise HeepgenError(f"the data: {len(given)} parts; give inputs x and labels y.")
    x, *y = (as_array(part, "the data") for part in given)
    return x, y[0] if y else None
