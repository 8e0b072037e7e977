# SPDX-License-Identifier: Apache-2.0
"""Random calls of a driver, for every check of them: sizes, activations, weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from firmware_gen.architectures.contract import Limits
from gen.flows.check.rounds import Call, Round

_F = np.float32
LARGE, LARGEST = 1 << 10, 1 << 17
"""Weights of one call, at most; and of those few at both limits."""

SPECIAL = np.array(
    [
        *(0x00000000, 0x80000000),  # zeros
        *(0x00000001, 0x80000001, 0x007FFFFF, 0x807FFFFF, 0x00400000),  # subnormal
        *(0x00800000, 0x80800000),  # the smallest normal
        *(0x7F7FFFFF, 0xFF7FFFFF, 0x7F000000),  # the largest
        *(0x7F800000, 0xFF800000),  # infinities
        *(0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF),  # no numbers
        *(0x3F800000, 0xBF800000, 0x3F7FFFFF, 0x3F800001),  # about one
    ],
    np.uint32,
).view(_F)


@dataclass(frozen=True)
class Draw:
    """Draws calls within `limits` from a generator; `sums`: rows of sums that the driver keeps, or 0."""

    rng: np.random.Generator
    limits: Limits
    sums: int = 0

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, choices: Sequence[int]) -> int:
        return choices[self.integer(0, len(choices) - 1)]

    # Sizes

    def size(self, limit: int) -> int:
        """1 to `limit`: at an end, or near to one, or anywhere with a like chance for every magnitude."""
        if self.chance(0.4):
            return min(limit, max(1, self.pick([1, 2, 3, limit, limit - 1, limit // 2, limit // 2 + 1])))
        return min(limit, int(np.exp(self.rng.uniform(0, np.log(limit + 1)))))

    def matrix(self) -> tuple[int, int]:
        """K and N."""
        k, n = self.size(self.limits.k), self.size(self.limits.n)
        while k * n > LARGE:
            k, n = (self.size(k // 2), n) if self.chance(0.5) else (k, self.size(n // 2))
        return k, n

    def rows(self, k: int, n: int) -> int:
        """M, smaller for larger products."""
        most = max(1, min(70, 10_000 // (k * n), 1_000 // k))
        return self.integer(1, min(most, 4)) if self.chance(0.7) else self.integer(1, most)

    # Values

    def activations(self, m: int, k: int) -> np.ndarray:
        """float32 (m, k) of one of several kinds."""
        kind = self.integer(0, 5)
        if kind == 0:
            a = self.rng.normal(0, 1, (m, k)) * 10 ** self.rng.uniform(-4, 4, (m, 1))
        elif kind == 1:
            a = self.rng.integers(-127, 128, (m, k)).astype(float)
        elif kind == 2:  # rows of many magnitudes
            a = self.rng.normal(0, 1, (m, k)) * 2.0 ** self.rng.integers(-20, 20, (m, k))
        elif kind == 3:  # mostly zeros, as behind a ReLU
            a = np.maximum(self.rng.normal(-1, 1, (m, k)), 0)
        elif kind == 4:  # ties of rounding, with both signs
            a = (self.rng.integers(-300, 300, (m, k)) + 0.5) * 2.0 ** self.rng.integers(-9, 3, (m, 1))
        else:
            a = self.rng.uniform(-1, 1, (m, k))
        return np.asarray(a, _F)

    def specials(self, m: int, k: int) -> np.ndarray:
        """float32 (m, k) with values that arithmetic treats apart."""
        kind = self.integer(0, 5)
        a = self.activations(m, k)
        if kind == 0:  # nothing but
            return self.rng.choice(SPECIAL, (m, k))
        if kind == 1:  # one in a row
            a[np.arange(m), self.rng.integers(0, k, m)] = self.rng.choice(SPECIAL, m)
        elif kind == 2:  # some
            a = np.where(self.rng.random((m, k)) < 0.2, self.rng.choice(SPECIAL, (m, k)), a)
        elif kind == 3:  # subnormal
            a = self.rng.integers(0, 1 << 23, (m, k), np.uint32).view(_F) * self.rng.choice(
                np.array([-1, 1], _F), (m, k)
            )
        elif kind == 4:  # cancellation: pairs that are opposite, and a small rest
            half = k // 2
            large = self.rng.normal(0, 1, (m, half)).astype(_F) * _F(2.0 ** self.integer(0, 120))
            a[:, :half], a[:, half : 2 * half] = large, -large
        else:  # any bits
            a = self.rng.integers(0, 1 << 32, (m, k), np.uint32).view(_F)
        return np.asarray(a, _F)

    def weights(self, k: int, n: int) -> np.ndarray:
        """int8 (k, n), corners among them."""
        kind = self.integer(0, 7)
        if kind == 0:
            b = np.full((k, n), self.pick([-128, 127, -1, 1]))
        elif kind == 1:
            b = self.rng.choice([-128, 127], (k, n))
        elif kind == 2:
            b = self.rng.integers(-128, 128, (k, n)) * (self.rng.random((k, n)) < 0.2)
        else:
            b = self.rng.integers(-128, 128, (k, n))
        return np.asarray(b, np.int8)

    # Rounds

    def round(
        self,
        k: int,
        n: int,
        m: int | None = None,
        calls: int = 1,
        values: Callable[[int, int], np.ndarray] | None = None,
    ) -> Round:
        """Weights (k, n), and calls of `m` rows, or any number."""
        values = values or self.activations
        return Round(
            self.weights(k, n),
            tuple(
                Call(
                    values(m or self.rows(k, n), k),
                    gap=self.integer(0, 5) if self.chance(0.5) else 0,
                    scattered=bool(self.sums) and self.chance(0.5),
                )
                for _ in range(calls)
            ),
            gap=-n % 4 + 4 * self.integer(0, 2) if self.chance(0.7) else self.integer(0, 3),
            shift=0 if self.chance(0.7) else self.integer(0, 3),
        )

    def plain(self) -> Round:
        return self.round(*self.matrix())

    def product(self) -> Round:
        """A product whose cycles are counted: as networks have them its weights are rows of words, if N allows."""
        k, n = self.matrix()
        one = self.round(k, max(4, n - n % 4) if self.limits.n >= 4 else n)
        gap = -one.b.shape[1] % 4
        return Round(one.b, (Call(np.concatenate([call.a for call in one.calls])),), gap=gap, timed=True)

    def special(self) -> Round:
        return self.round(*self.matrix(), values=self.specials)

    def back_to_back(self) -> Round:
        """Several calls with the same weights; where the accelerator keeps sums also blocks of K that are added."""
        k, n = self.matrix()
        one = self.round(k, n, calls=self.integer(1, 4))
        if not self.sums or self.chance(0.4):
            return one
        blocks, m = self.integer(1, 3), min(self.sums, self.integer(1, 6))
        k = max(1, min(k, 2_000 // blocks))
        total = k * (blocks - 1) + self.integer(1, k)
        one = self.round(total, n, m, calls=1)
        parts = np.split(one.calls[0].a, sorted({self.integer(1, m) for _ in range(2)} - {m}))
        return replace(one, depth=k, calls=tuple(replace(one.calls[0], a=part) for part in parts))

    def paused(self) -> Round:
        """With pauses of the CPU here and there."""

        def pause() -> int:
            return self.integer(1, 300) if self.chance(0.3) else 0

        one = self.back_to_back()
        return replace(one, pause=pause(), calls=tuple(replace(call, pause=pause()) for call in one.calls))

    def reset(self) -> Round:
        """With a reset while it works."""
        k, n = self.matrix()
        one = self.round(k, n, max(2, self.rows(k, n)), calls=self.integer(1, 2))
        return replace(one, reset=self.integer(0, 255))

    def corners(self) -> list[Round]:
        """Sizes at the limits."""
        high, wide = self.limits.k, self.limits.n
        shapes = {(k, n) for k in (1, 2, high - 1, high) for n in (1, 2, wide - 1, wide) if k > 0 and n > 0}
        few = sorted(
            shape for shape in shapes if shape[0] <= high and shape[1] <= wide and shape[0] * shape[1] <= LARGEST
        )
        return [self.round(k, n, m) for k, n in few for m in ((1, 3) if k * n <= LARGE else (1,))]

    def partial(self) -> list[Round]:
        """A product as large as it may be, and then a part of it."""
        high, wide = self.limits.k, self.limits.n
        if high * wide > LARGE:
            high, wide = (max(1, LARGE // wide), wide) if self.chance(0.5) else (high, max(1, LARGE // high))
        k, n = (
            self.pick([1, high - 1, self.integer(1, high), high]),
            self.pick([1, wide - 1, self.integer(1, wide), wide]),
        )
        return [self.round(high, wide, 1), self.round(max(1, k), max(1, n), self.integer(1, 3))]
