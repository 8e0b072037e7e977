# SPDX-License-Identifier: Apache-2.0
"""The shape of a module's input, where its layers leave one: a Linear first has its features, and a convolution is
tried with square maps of every size, which a Linear behind a Flatten decides. Nothing is computed, only shapes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn

Shape = tuple[int, ...]
LONGEST, LARGEST = 2048, 320
"""Of the sequences and of the sides of square maps that are tried."""
ENOUGH = 3
"""Shapes that fit, after which no more are looked for."""
GAP = 64
"""Sizes without a fit, behind one with, after which no more are looked for."""


def input_shapes(model: nn.Module, batch: int = 1) -> list[Shape]:
    """Shapes of one input, without the batch dimension, that `model` takes, the smallest ENOUGH of them: of more than
    one dimension only lines and squares. A model that flattens its input takes it flat."""
    try:
        shapes_only = copy.deepcopy(model).to("meta").eval()
    except Exception:  # a class of the user's that cannot be copied
        return []
    for candidates in _candidates(model):
        if found := _fitting(shapes_only, batch, candidates):
            return found
    return []


def _candidates(model: nn.Module) -> Iterator[Iterable[Shape]]:
    """What the layers that know something of their input could take, in the order of the model."""
    for layer in model.modules():
        match layer:
            case nn.Linear():
                yield [(layer.in_features,)]
            case nn.Unflatten(dim=1) if isinstance(layer.unflattened_size, tuple | list):
                yield [(math.prod(layer.unflattened_size),)]
            case nn.Conv1d() | nn.ConvTranspose1d():
                yield _lines(layer.in_channels)
            case nn.Conv2d() | nn.ConvTranspose2d():
                yield _squares(layer.in_channels)
            case nn.BatchNorm2d():
                yield _squares(layer.num_features)
            case nn.BatchNorm1d():
                yield [(layer.num_features,)]
                yield _lines(layer.num_features)


def _lines(channels: int) -> Iterator[Shape]:
    return ((channels, length) for length in range(1, LONGEST + 1))


def _squares(channels: int) -> Iterator[Shape]:
    return ((channels, side, side) for side in range(1, LARGEST + 1))


def _fitting(model: nn.Module, batch: int, candidates: Iterable[Shape]) -> list[Shape]:
    found: list[Shape] = []
    missed = 0
    for shape in candidates:
        if _takes(model, (batch, *shape)):
            found.append(shape)
            missed = 0
        elif found:
            missed += 1
        if len(found) == ENOUGH or missed == GAP:
            break
    return found


def _takes(model: nn.Module, shape: Shape) -> bool:
    try:
        with torch.no_grad():
            model(torch.empty(shape, device="meta"))
    except Exception:  # whatever a layer says of a shape that it does not take
        return False
    return True
