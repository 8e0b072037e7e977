# SPDX-License-Identifier: Apache-2.0
"""Operators that are written with others: einsum with products of matrices, writing into a part of a tensor as joining
it of its parts, and what else torch's own decompositions write with choices that this one needs none of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

_ATEN = torch.ops.aten

Term = tuple[torch.Tensor, str]
"""A tensor, and a letter for each of its dimensions."""


def einsum(equation: str, tensors: Sequence[torch.Tensor], path: Sequence[int] | None = None) -> torch.Tensor:
    """What torch.einsum computes; tensors are taken two at a time, from the left."""
    letters, result = _terms(equation, [tensor.ndim for tensor in tensors])
    terms = [_diagonal(term) for term in zip(tensors, letters, strict=True)]
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
    return terms, result


def _diagonal(term: Term) -> Term:
    """A tensor without the dimensions of letters that it has twice, whose diagonal is its last one."""
    tensor, own = term
    for letter in dict.fromkeys(own):
        while own.count(letter) > 1:
            first, second = own.index(letter), own.rindex(letter)
            tensor = torch.diagonal(tensor, 0, first, second)
            own = own[:first] + own[first + 1 : second] + own[second + 1 :] + letter
    return tensor, own


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
    """Of a mask of all elements and one number; others stay."""
    (mask, *more) = indices
    if more or accumulate or mask is None or mask.dtype != torch.bool or values.numel() > 1:
        return NotImplemented
    return torch.where(mask, values.reshape(()), self) if mask.shape == self.shape else NotImplemented


def _logsumexp(self: torch.Tensor, dim: list[int], keepdim: bool = False) -> torch.Tensor:
    largest = self.amax(dim, True)
    total = (self - largest).exp().sum(dim, True).log() + largest
    return total if keepdim else total.squeeze(dim)


def _everywhere(index: torch.Tensor, dim: int, shape: Sequence[int]) -> list[torch.Tensor]:
    """Indices of all dimensions, of which `index` is one."""
    places = [torch.arange(size).reshape([-1 if d == own else 1 for d in range(index.ndim)])
              for own, size in enumerate(index.shape)]  # fmt: skip
    dim %= len(shape)
    return [*places[:dim], torch.where(index < 0, index + shape[dim], index), *places[dim + 1 :]]


_put: Callable[..., torch.Tensor] = _ATEN.index_put.default


def _scatter(self: torch.Tensor, dim: int, index: torch.Tensor, src: Any, accumulate: bool = False) -> Any:
    if not self.ndim or index.is_floating_point():
        return NotImplemented
    if isinstance(src, torch.Tensor):
        src = src[tuple(slice(0, size) for size in index.shape)]
    else:
        src = torch.full((), src, dtype=self.dtype)
    return _put(self, _everywhere(index, dim, self.shape), src, accumulate)


def _scatter_add(self: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> Any:
    return _scatter(self, dim, index, src, True)


def _along(self: torch.Tensor, dim: int, index: torch.Tensor) -> list[torch.Tensor | None]:
    return [*[None] * (dim % self.ndim), index]


def _index_fill(self: torch.Tensor, dim: int, index: torch.Tensor, value: Any) -> torch.Tensor:
    value = value if isinstance(value, torch.Tensor) else torch.full((), value, dtype=self.dtype)
    return _put(self, _along(self, dim, index), value)


def _index_copy(self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    return _put(self, _along(self, dim, index), source)


def _index_add(self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, alpha: Any = 1) -> torch.Tensor:
    return _put(self, _along(self, dim, index), source if alpha == 1 else source * alpha, True)


def _take_along_dim(self: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    if dim is None:
        return self.flatten().gather(0, indices.flatten())
    dim %= self.ndim
    own, places = list(self.shape), list(indices.shape)
    both = [max(pair) for pair in zip(own, places, strict=True)]
    own, places = ([*both[:dim], shape[dim], *both[dim:][1:]] for shape in (own, places))
    return self.expand(own).gather(dim, indices.expand(places))


def _clamp(self: torch.Tensor, min: torch.Tensor | None = None, max: torch.Tensor | None = None) -> torch.Tensor:
    low = self if min is None else torch.maximum(self, min)
    return low if max is None else torch.minimum(low, max)


def _bilinear(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    count, rows, columns = weight.shape
    turned = weight.permute(0, 2, 1).reshape(count * columns, rows)
    products = torch.nn.functional.linear(x, turned).reshape(*x.shape[:-1], count, columns)
    total = (products * y.unsqueeze(-2)).sum(-1)
    return total if bias is None else total + bias


def _var_mean(self: torch.Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Any:
    own = torch.var(self, dim, correction=1 if correction is None else correction, keepdim=keepdim)
    return own, torch.mean(self, dim, keepdim)


def _std_mean(self: torch.Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Any:
    own = torch.std(self, dim, correction=1 if correction is None else correction, keepdim=keepdim)
    return own, torch.mean(self, dim, keepdim)


def _avg_pool3d(
    self: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = (),  # type: ignore[assignment]
    padding: list[int] = (0,),  # type: ignore[assignment]
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Over the first dimension alone, or the other two, it is one of a map."""
    kernel, pads = (list(v) * 3 if len(v) == 1 else list(v) for v in (kernel_size, padding))
    steps = (list(stride) * 3 if len(stride) == 1 else list(stride)) or kernel
    *batch, depth, height, width = self.shape
    rest = ceil_mode, count_include_pad, divisor_override
    pool = torch.nn.functional.avg_pool2d
    if kernel[1:] == steps[1:] == [1, 1] and not any(pads[1:]):
        y = pool(self.reshape(1, -1, depth, height * width), (kernel[0], 1), (steps[0], 1), (pads[0], 0), *rest)
        return y.reshape(*batch, -1, height, width)
    if kernel[0] == steps[0] == 1 and not pads[0]:
        y = pool(self.reshape(1, -1, height, width), kernel[1:], steps[1:], pads[1:], *rest)
        return y.reshape(*batch, depth, *y.shape[-2:])
    return NotImplemented


def _col2im(
    self: torch.Tensor,
    output_size: list[int],
    kernel_size: list[int],
    dilation: list[int],
    padding: list[int],
    stride: list[int],
) -> torch.Tensor:
    """A transposed convolution with ones."""
    count = math.prod(kernel_size)
    steps = [(size + 2 * p - d * (k - 1) - 1) // s + 1
             for size, k, d, p, s in zip(output_size, kernel_size, dilation, padding, stride, strict=True)]  # fmt: skip
    *batch, rows, _ = self.shape
    channels = rows // count
    ones = torch.eye(rows).reshape(rows, channels, *kernel_size)
    left = [size - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for size, n, k, d, p, s in
            zip(output_size, steps, kernel_size, dilation, padding, stride, strict=True)]  # fmt: skip
    maps = self.reshape(*(batch or [1]), rows, *steps)
    y = torch.nn.functional.conv_transpose2d(maps, ones, None, stride, padding, left, 1, dilation)
    return y.reshape(*batch, *y.shape[1:])


def _logaddexp(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.maximum(self, other) + torch.nn.functional.softplus(-(self - other).abs())


def _hypot(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(self.square() + other.square())


def _addbmm(
    self: torch.Tensor, batch1: torch.Tensor, batch2: torch.Tensor, *, beta: Any = 1, alpha: Any = 1
) -> torch.Tensor:
    return torch.add(self * beta, torch.bmm(batch1, batch2).sum(0), alpha=alpha)


def _cdist(first: torch.Tensor, second: torch.Tensor, p: float, compute_mode: int | None = None) -> Any:
    return torch.linalg.vector_norm(first.unsqueeze(-2) - second.unsqueeze(-3), p, -1)


def _asin(x: torch.Tensor) -> torch.Tensor:
    return torch.atan(x * torch.rsqrt((1 - x) * (1 + x)))


def _acos(x: torch.Tensor) -> torch.Tensor:
    return math.pi / 2 - _asin(x)


def _atan2(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """In the eighth of the plane between 0 and 45 degrees, and mirrored into the others; of -0 what it is of 0."""
    height, width = y.abs(), x.abs()
    angle = torch.atan(torch.minimum(height, width) / torch.maximum(height, width).clamp(min=1e-37))
    angle = torch.where(height > width, math.pi / 2 - angle, angle)
    angle = torch.where(x < 0, math.pi - angle, angle)
    return torch.where(y < 0, -angle, angle)


def _asinh(x: torch.Tensor) -> torch.Tensor:
    size = x.abs()
    return torch.sign(x) * torch.log(size + torch.sqrt(size * size + 1))


def _acosh(x: torch.Tensor) -> torch.Tensor:
    return torch.log(x + torch.sqrt((x - 1) * (x + 1)))


def _atanh(x: torch.Tensor) -> torch.Tensor:
    return (torch.log(1 + x) - torch.log(1 - x)) / 2


def _rrelu(x: torch.Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *_: Any) -> torch.Tensor:
    """In evaluation, its slope is the middle one."""
    return torch.nn.functional.leaky_relu(x, (lower + upper) / 2)


def _rrelu_with_noise(x: torch.Tensor, noise: torch.Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *_: Any) -> Any:
    """What it is decomposed to."""
    return _rrelu(x, lower, upper), noise


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
    _ATEN.scatter.src: _scatter,
    _ATEN.scatter.value: _scatter,
    _ATEN.scatter_add.default: _scatter_add,
    _ATEN.index_fill.int_Scalar: _index_fill,
    _ATEN.index_fill.int_Tensor: _index_fill,
    _ATEN.index_copy.default: _index_copy,
    _ATEN.index_add.default: _index_add,
    _ATEN.take_along_dim.default: _take_along_dim,
    _ATEN.clamp.Tensor: _clamp,
    _ATEN.bilinear.default: _bilinear,
    _ATEN.rrelu.default: _rrelu,
    _ATEN.rrelu_with_noise_functional.default: _rrelu_with_noise,
    _ATEN.asin.default: _asin,
    _ATEN.acos.default: _acos,
    _ATEN.atan2.default: _atan2,
    _ATEN.asinh.default: _asinh,
    _ATEN.acosh.default: _acosh,
    _ATEN.atanh.default: _atanh,
    _ATEN.var_mean.correction: _var_mean,
    _ATEN.std_mean.correction: _std_mean,
    _ATEN.avg_pool3d.default: _avg_pool3d,
    _ATEN.col2im.default: _col2im,
    _ATEN._cdist_forward.default: _cdist,
    _ATEN.logaddexp.default: _logaddexp,
    _ATEN.hypot.default: _hypot,
    _ATEN.addbmm.default: _addbmm,
}
"""Operators, and what they are written with."""
WRITTEN_NAMES = frozenset(str(op).split(".")[1] for op in WRITTEN)
