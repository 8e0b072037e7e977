# SPDX-License-Identifier: Apache-2.0
"""Writing into a part of a tensor as joining it of its parts, and what else torch's own decompositions write with
choices that this one needs none of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch

_ATEN = torch.ops.aten


def _slice_scatter(
    self: torch.Tensor, src: torch.Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> torch.Tensor:
    written = range(*slice(start, end, step).indices(self.shape[dim]))
    if not written:
        return self.clone()
    parts = []
    for is_new, places in itertools.groupby(range(self.shape[dim]), written.__contains__):
        own = list(places)
        first = written.index(own[0]) if is_new else own[0]
        parts.append((src if is_new else self).narrow(dim, first, len(own)))
    return torch.cat(parts, dim) if len(parts) > 1 else parts[0].clone()


def _select_scatter(self: torch.Tensor, src: torch.Tensor, dim: int, index: int) -> torch.Tensor:
    index %= self.shape[dim]
    return _slice_scatter(self, src.unsqueeze(dim), dim, index, index + 1)


def _copy(self: torch.Tensor, src: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    return src.to(self.dtype).expand(self.shape).clone()


def _fill(self: torch.Tensor, value: Any) -> torch.Tensor:
    return _copy(self, value) if isinstance(value, torch.Tensor) else torch.full_like(self, value)


def _zero(self: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(self)


def _zeros(size: list[int], dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
    return torch.zeros(size, dtype=dtype)


def _zeros_like(self: torch.Tensor, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
    """Of a tensor of nothing in particular, which is written to later."""
    return torch.zeros_like(self, dtype=dtype)


def _index_put(
    self: torch.Tensor, indices: list[torch.Tensor | None], values: torch.Tensor, accumulate: bool = False
) -> Any:
    """Of a mask of all elements and one number."""
    (mask, *more) = indices
    if more or accumulate or mask is None or mask.dtype != torch.bool or values.numel() > 1:
        return NotImplemented
    return torch.where(mask, values.reshape(()), self) if mask.shape == self.shape else NotImplemented


def _logsumexp(self: torch.Tensor, dim: list[int], keepdim: bool = False) -> torch.Tensor:
    largest = self.amax(dim, True)
    total = (self - largest).exp().sum(dim, True).log() + largest
    return total if keepdim else total.squeeze(dim)


WRITTEN: Mapping[torch._ops.OperatorBase, Callable[..., torch.Tensor]] = {
    _ATEN.slice_scatter.default: _slice_scatter,
    _ATEN.select_scatter.default: _select_scatter,
    _ATEN.copy.default: _copy,
    _ATEN.fill.Scalar: _fill,
    _ATEN.fill.Tensor: _fill,
    _ATEN.zero.default: _zero,
    _ATEN.empty.memory_format: _zeros,
    _ATEN.empty_like.default: _zeros_like,
    _ATEN.index_put.default: _index_put,
    _ATEN.logsumexp.default: _logsumexp,
}
"""Operators, and what they are written with."""
WRITTEN_NAMES = frozenset(str(op).split(".")[1] for op in WRITTEN)
