# SPDX-License-Identifier: Apache-2.0
"""torch.einsum as permutes, products of matrices and sums."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch

from hls.errors import HeepgenError

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
