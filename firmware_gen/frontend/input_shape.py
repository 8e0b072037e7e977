# SPDX-License-Identifier: Apache-2.0
"""The shape of a module's input, where its layers leave one: a Linear first has its features, and a convolution is
tried with square maps of every size, which a Linear behind a Flatten decides. Nothing is computed, only shapes."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn

Shape = tuple[int, ...]
LONGEST, LARGEST, WIDEST = 2048, 320, 128
"""Of the sequences, of the sides of square maps, and of those of others that are tried."""
ENOUGH = 3
"""Shapes that fit, after which no more are looked for."""
GAP = 64
"""Sizes without a fit, behind one with, after which no more are looked for."""


def input_shapes(model: nn.Module, batch: int = 1) -> list[Shape]:
    """Shapes of one input, without the batch dimension, that `model` takes, ENOUGH of them at most: flat, where it
    flattens its input; lines and squares, the smallest first; maps that are no squares, the least oblong first, only
    where no square fits."""
    try:
        shapes_only = copy.deepcopy(model).to("meta", torch.float32).eval()  # other types are refused later, by name
    except Exception:  # a class of the user's that cannot be copied
        return []
    for candidates in _candidates(model):
        if found := _fitting(shapes_only, batch, candidates):
            return found
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            return _fitting(shapes_only, batch, _oblongs(shapes_only, batch, layer.in_channels))
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


def _oblongs(model: nn.Module, batch: int, channels: int) -> list[Shape]:
    """Maps that could give the first Linear its features. What is flattened has as many rows as the height gives it,
    and as many columns as the width does: their number is a product of something of the one and of the other."""
    sides = range(1, WIDEST + 1)
    by_height = [_features(model, (batch, channels, side, WIDEST)) for side in sides]
    by_width = [_features(model, (batch, channels, WIDEST, side)) for side in sides]
    if by_height[-1] is None:
        return []
    whole, wanted = by_height[-1]
    return [
        (channels, height, width)
        for height, width in sorted(itertools.product(sides, sides), key=lambda pair: abs(pair[0] - pair[1]))
        if (tall := by_height[height - 1]) and (wide := by_width[width - 1]) and tall[0] * wide[0] == whole * wanted
    ]


class _Features(Exception):
    """Of the input of a Linear: those that it has, and those that the layer takes."""


def _features(model: nn.Module, shape: Shape) -> tuple[int, int] | None:
    """What _Features says of the first Linear; None when something before it does not take an input of this shape."""

    def stop(layer: nn.Linear, inputs: tuple[torch.Tensor]) -> None:
        raise _Features(inputs[0].shape[-1], layer.in_features)

    hooks = [layer.register_forward_pre_hook(stop) for layer in model.modules() if isinstance(layer, nn.Linear)]
    try:
        with torch.no_grad():
            model(torch.empty(shape, device="meta"))
    except _Features as features:
        return features.args[0], features.args[1]
    except Exception:  # whatever a layer says of a shape that it does not take
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return None


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
