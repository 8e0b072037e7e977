# SPDX-License-Identifier: Apache-2.0
"""Operators that are written with others: einsum with products of matrices, writing into a part of a tensor as joining
it of its parts, and what else torch's own decompositions write with choices that this one needs none of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from hls.errors import HeepgenError

_ATEN = torch.ops.aten

Term = tuple[torch.Tensor, str]
"""A tensor, and a letter for each of its dimensions."""


def einsum(equation: str, tensors: Sequence[torch.Tensor], path: Sequence[int] | None = None) -> torch.Tensor:
    """What torch.einsum computes; tensors are taken two at a time, from the left. HeepgenError for diagonals."""
    letters, result = _terms(equation, [tensor.ndim for tensor in tensors])
    terms = list(zip(tensors, letters, strict=True))
    while len(terms) > 1:
        first, second, *rest = terms
        terms = [_product(first, second, {*result, *(letter for _, own in rest for letter in own)}), *rest]
    tensor, own = _summed(terms[0], result)
    return _permuted((tensor, own), result)


def _terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Letters of the tensors and of the result, an ellipsis written out."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    free = [chr(code) for code in range(0x3B1, 0x3B1 + max(ranks))]
    for number, (term, rank) in enumerate(zip(terms, ranks, strict=True)):
        if "..." in term:
            terms[number] = term.replace("...", "".join(free[: rank - len(term) + 3][::-1]))
    others = {letter for term in terms for letter in term if letter in free}
    every = "".join(letter for letter in reversed(free) if letter in others)
    if not arrow:
        joined = "".join(terms)
        result = every + "".join(sorted(x for x in set(joined) - others if joined.count(x) == 1))
    result = result.replace("...", every)
    if any(len(set(term)) < len(term) for term in terms):
        raise HeepgenError(f"einsum {equation} takes a diagonal, which is not supported; write it with other operators")
    return terms, result


def _product(first: Term, second: Term, kept: Collection[str]) -> Term:
    """The product of two, summed over the letters that nothing else has."""
    a, b = _summed(first, {*kept, *second[1]}), _summed(second, {*kept, *first[1]})
    both = [letter for letter in a[1] if letter in b[1]]
    outer, inner = ([x for x in both if (x in kept) == is_kept] for is_kept in (True, False))
    rows, columns = ([x for x in own if x not in both] for own in (a[1], b[1]))
    sizes = dict(zip(a[1] + b[1], (*a[0].shape, *b[0].shape), strict=True))
    order = "".join([*outer, *rows, *columns])
    if not inner:
        shape = [sizes[x] for x in (*outer, *rows)] + [1] * len(columns)
        return _permuted(a, [*outer, *rows]).reshape(shape) * _spread(b, outer, rows, columns), order
    groups = [math.prod(sizes[x] for x in group) for group in (outer, rows, inner, columns)]
    batch = groups[:1] if outer else []
    x = _permuted(a, [*outer, *rows, *inner]).reshape(*batch, groups[1], groups[2])
    y = _permuted(b, [*outer, *inner, *columns]).reshape(*batch, groups[2], groups[3])
    return torch.matmul(x, y).reshape([sizes[x] for x in order]), order


def _spread(term: Term, outer: Sequence[str], rows: Sequence[str], columns: Sequence[str]) -> torch.Tensor:
    """A tensor with a dimension of size 1 for each of `rows`."""
    tensor = _permuted(term, [*outer, *columns])
    shape = tensor.shape
    return tensor.reshape([*shape[: len(outer)], *[1] * len(rows), *shape[len(outer) :]])


def _summed(term: Term, kept: Collection[str]) -> Term:
    """Summed over all other letters."""
    tensor, letters = term
    dims = [place for place, letter in enumerate(letters) if letter not in kept]
    return (tensor.sum(dims) if dims else tensor), "".join(x for x in letters if x in kept)


def _permuted(term: Term, letters: Sequence[str]) -> torch.Tensor:
    tensor, own = term
    places = [own.index(letter) for letter in letters]
    return tensor if places == list(range(len(places))) else tensor.permute(places)


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
    _ATEN.einsum.default: einsum,
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
