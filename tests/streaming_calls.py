# SPDX-License-Identifier: Apache-2.0
"""Bus accesses of random calls of the streaming accelerator, and what its reads must give."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from array_stimulus import vectors, weights

from hls.arithmetic.accumulator import accumulate_model
from hls.streaming.model import compute
from hls.streaming.registers import GROUP_BITS, REGISTER, WORD_WEIGHTS

READ, WRITE, RESET = range(3)


@dataclass(frozen=True)
class Access:
    """A read that must give `data` (None: anything), a write of it, or a reset of so many cycles; `pause` before it."""

    kind: int
    address: int = 0
    data: int | None = 0
    pause: int = 0


def _write(name: str, index: int, data: int) -> Access:
    return Access(WRITE, REGISTER[name].offset + 4 * index, data)


def _choose(slot: int, first: bool = False) -> Access:
    return _write("SLOT", 0, REGISTER["SLOT"].word(INDEX=slot, FIRST=first))


def tile_writes(b: np.ndarray, rng: np.random.Generator) -> Iterator[Access]:
    """Writes of weights int8 [K, N]; bytes of columns that there are not may be anything."""
    for r, row in enumerate(b):
        for group in range(-(-len(row) // WORD_WEIGHTS)):
            word = rng.integers(0, 256, WORD_WEIGHTS, np.uint8)
            part = row[WORD_WEIGHTS * group :][:WORD_WEIGHTS].view(np.uint8)
            word[: len(part)] = part
            yield _write("WEIGHT", (r << GROUP_BITS) + group, int.from_bytes(word.tobytes(), "little"))


def vector_writes(lanes: np.ndarray) -> Iterator[Access]:
    """Writes of a vector, uint32 [K]."""
    for j, lane in enumerate(lanes):
        yield _write("LAST" if j == len(lanes) - 1 else "LANE", j, int(lane))


def sum_reads(slot: int, row: np.ndarray, rng: np.random.Generator) -> Iterator[Access]:
    """Reads of sums, uint32 [N], in any order."""
    yield _choose(slot)
    for c in rng.permutation(len(row)):
        yield Access(READ, REGISTER["SUM"].offset + 4 * int(c), int(row[c]))


def _vectors(rng: np.random.Generator, count: int, k: int) -> np.ndarray:
    """Half of them of one size, so that none is lost in a sum."""
    if rng.random() < 0.5:
        return vectors(rng, count, k)
    return rng.standard_normal((count, k)).astype(np.float32).view(np.uint32)


def random_calls(config, tiles: int, seed: int, pauses: float = 0.0, resets: float = 0.0) -> list[Access]:
    """`tiles` tiles of any size with vectors for any rows of sums, read here and there; pauses and resets by chance."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((max(1, config.sums), config.cols), np.uint32)
    filled = np.zeros(len(sums), int)  # columns that hold sums
    accesses: list[Access] = []
    for _ in range(tiles):
        k, n = (int(rng.integers(1, top + 1)) if rng.random() < 0.5 else top for top in (config.rows, config.cols))
        b = weights(rng, k, n)
        call = [*tile_writes(b, rng)]
        chosen = None  # slot and first that the accelerator takes for the next vector
        count = 1 if rng.random() < 0.5 else int(rng.integers(2, 6))
        for lanes in _vectors(rng, count, k):
            slot = int(rng.integers(len(sums))) if rng.random() < 0.7 else 0
            if chosen and rng.random() < 0.5:
                slot = chosen[0]
            spent = not np.isfinite(sums[slot, :n].view(np.float32)).all()
            first = not config.sums or filled[slot] < n or bool(rng.random() < (0.8 if spent else 0.3))
            if chosen != (slot, first):
                call.append(_choose(slot, first))
            call += vector_writes(lanes)
            chosen = (slot + 1) % len(sums), first
            result = compute(config, lanes[None].view(np.float32), b)[0].view(np.uint32)
            sums[slot, :n] = accumulate_model(sums[slot, :n], result, first, False)
            filled[slot] = n
            if not config.sums or rng.random() < 0.3:
                call += sum_reads(slot, sums[slot, :n], rng)
                chosen = None
        accesses += call
        if rng.random() < resets:
            filled[:] = 0
            broken = [replace(a, data=None) if a.kind == READ else a for a in call[: int(rng.integers(len(call)))]]
            accesses += [*broken, Access(RESET, data=int(rng.integers(1, 4)))]
    for slot in np.flatnonzero(filled):
        accesses += sum_reads(int(slot), sums[slot, : filled[slot]], rng)
    waits = np.where(rng.random(len(accesses)) < pauses, rng.integers(1, 40, len(accesses)), 0)
    return [replace(a, pause=int(w)) for a, w in zip(accesses, waits, strict=True)]
