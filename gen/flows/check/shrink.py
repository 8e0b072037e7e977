# SPDX-License-Identifier: Apache-2.0
"""Smaller cases that still fail: fewer calls first, then smaller M, K and N."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from gen.flows.check.rounds import Round

_P = TypeVar("_P")

TRIES, SECONDS = 60, 20.0
"""Runs that shrinking may take, and when it ends at the latest."""


def shrink(
    rounds: Sequence[Round], problem: _P, fails: Callable[[Sequence[Round]], _P | None]
) -> tuple[list[Round], _P]:
    """The smallest rounds found that fail, of `rounds` that fail with `problem`, and how they do."""
    best, left, end = list(rounds), TRIES, time.monotonic() + SECONDS
    progressed = True
    while progressed and left:
        progressed = False
        for candidate in _smaller(best):
            found = fails(candidate)
            left -= 1
            if found is not None:
                best, problem, progressed = candidate, found, True
                break
            left = 0 if time.monotonic() > end else left
            if not left:
                break
    return best, problem


def _smaller(rounds: list[Round]) -> Iterator[list[Round]]:
    count = len(rounds)
    size = count // 2
    while size:
        for start in range(0, count, size):
            if start + size <= count and size < count:
                yield rounds[:start] + rounds[start + size :]
        size //= 2
    for i, one in enumerate(rounds):
        for other in _smaller_round(one):
            yield [*rounds[:i], other, *rounds[i + 1 :]]


def _smaller_round(one: Round) -> Iterator[Round]:
    """Half of a dimension, then one less."""
    if len(one.calls) > 1:
        for i in range(len(one.calls)):
            yield replace(one, calls=one.calls[:i] + one.calls[i + 1 :])
    for i, call in enumerate(one.calls):
        for part in _parts(len(call.a)):
            yield replace(one, calls=(*one.calls[:i], replace(call, a=call.a[part]), *one.calls[i + 1 :]))
    for part in _parts(one.b.shape[0]):
        calls = tuple(replace(call, a=call.a[:, part]) for call in one.calls)
        yield replace(one, b=one.b[part], calls=calls)
    for part in _parts(one.b.shape[1]):
        yield replace(one, b=one.b[:, part])


def _parts(size: int) -> Iterator[slice]:
    half = size // 2
    if half:
        yield from (slice(0, half), slice(half, size))
    if half > 1:
        yield from (slice(0, size - 1), slice(1, size))
