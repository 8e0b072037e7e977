# SPDX-License-Identifier: Apache-2.0
"""Static memory plan: where constants and activations lie, who lives when, and whether it fits.

Activations share an arena by lifetime. Constants (weights, parameters, descriptors) and arena go to the
interleaved banks; constants that do not fit there end where the interleaved banks begin, above the program.
No array crosses the border between contiguous and interleaved banks. Sizes here are in bytes.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

import numpy as np

from hls.config import System
from hls.errors import HeepgenError, printable

PROGRAM_BYTES = 24 * 1024
"""Room kept at address 0 for code, its data and the stack, but for the bits that outputs must have; the linker checks
the real size."""

ALIGN = 16

MOST_CONTIGUOUS, MOST_BANKS, BANK_KIB = 64, 128, (4, 8, 16, 32, 64, 128, 256)
"""Of contiguous banks, or of one group of interleaved ones; in all; sizes: what the configuration allows."""

LARGEST = MOST_BANKS * BANK_KIB[-1] * 1024
"""Bytes of the largest memory."""

PLACEMENTS = 300
"""Orders of placing the buffers that are tried at most."""

LONGEST_BAR = 64
"""Characters of a life as a bar."""


class DoesNotFit(HeepgenError):
    """Constants and arena find no place in the memory. What would do is looked for only when the message is read."""

    def __init__(self, explain: Callable[[], str]):
        super().__init__()
        self._explain = explain

    def __str__(self) -> str:
        return printable(self._explain())


@dataclass(frozen=True)
class Buffer:
    """A stretch of the arena that lives from step `born` to step `dies`, both included, at a multiple of `align`."""

    name: str
    size: int
    born: int
    dies: int
    align: int = ALIGN

    def through(self, first: int, last: int) -> "Buffer":
        """The same buffer, alive from step `first` to step `last` too."""
        if self.born <= first and last <= self.dies:
            return self
        return replace(self, born=min(self.born, first), dies=max(self.dies, last))

    def overlaps(self, other: "Buffer") -> bool:
        return self.born <= other.dies and other.born <= self.dies


@dataclass(frozen=True)
class Placed:
    """Name, absolute address and size of an array."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class MemoryReport:
    """What the network needs and where it lies. `steps` are layer names; lives index them, -1 is the call.

    program_bytes: what is kept for the program. working_set_bytes: the most that a single layer reads and writes.
    banks_needed: the smallest memory that would do, contiguous banks and groups of interleaved ones.
    """

    network: str
    total_bytes: int
    constant_bytes: int
    weight_bytes: int
    activation_bytes: int
    arena_bytes: int
    program_bytes: int
    peak_bytes: int
    peak_step: str
    working_set_bytes: int
    banks_needed: tuple[int, tuple[int, ...]]
    steps: tuple[str, ...]
    buffers: tuple[dict[str, Any], ...]
    constants: tuple[dict[str, Any], ...]
    fits: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def _banks(self) -> str:
        contiguous, groups = self.banks_needed
        rest = f", of which {sum(groups)} are interleaved ({' + '.join(map(str, groups))})" if groups else ""
        return f"smallest memory that would do: {contiguous + sum(groups)} banks{rest}"

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def summary(self) -> str:
        """Totals, in three lines."""
        lines = [
            f"memory of {self.network}: {self.constant_bytes:,} bytes of constants ({self.weight_bytes:,} of them "
            f"weights), {self.arena_bytes:,} of arena; {self.total_bytes:,} of RAM",
            f"activations: {self.activation_bytes:,} bytes, at most {self.peak_bytes:,} alive at once (in "
            f"{self.peak_step}), {self.working_set_bytes:,} in the largest layer by itself",
            self._banks(),
        ]
        return "\n".join(lines)

    def to_text(self) -> str:
        """Plain text: totals, then one line per buffer with its life as a bar."""
        lines = [self.summary(), ""]
        width = max((len(b["name"]) for b in self.buffers), default=4)
        for b in self.buffers:
            bar = life(b, len(self.steps))
            lines.append(f"  {b['name']:<{width}}  {b['address']:#010x}  {b['size']:>9,}  {bar}")
        return "\n".join(lines) + "\n"


def life(buffer: Mapping[str, Any], steps: int) -> str:
    """When a buffer of a report is alive, as a bar: the call, then a character per step, or per several of many."""
    each = -(-(steps + 1) // LONGEST_BAR)
    return "".join(
        "#" if buffer["born"] < first + each and first <= buffer["dies"] else "." for first in range(-1, steps, each)
    )


def allocate(buffers: list[Buffer], enough: int = 0, orders: int = PLACEMENTS) -> dict[str, int]:
    """Offset of every buffer: each in turn in the tightest gap between those it meets in time.

    Big ones go first; other orders around that one are tried, so many in all, while the plan needs more than what is
    alive at once, and more than `enough`.
    """
    if not buffers:
        return {}
    random = Random(0)
    least, meeting = None, _meeting(buffers)
    best, best_extent = {}, None
    for attempt in range(orders):
        spread = 0.0 if attempt == 0 else 1.0
        weight = {b.name: b.size * (1 + spread * random.random()) for b in buffers}
        plan = _place_in_order(by_size(buffers, weight), meeting)
        extent = max(plan[b.name] + rounded(b.size) for b in buffers)
        if best_extent is None or extent < best_extent:
            best, best_extent = plan, extent
        if best_extent <= enough:
            break
        if least is None:
            least = peak([replace(b, size=rounded(b.size)) for b in buffers], max(b.dies for b in buffers) + 1)[0]
        if best_extent <= least:
            break
    return best


def by_size(buffers: Iterable[Buffer], weight: Mapping[str, float] | None = None) -> list[Buffer]:
    """Big ones first; `weight` in place of sizes, by name."""
    return sorted(buffers, key=lambda b: (-(weight[b.name] if weight else b.size), b.born, b.name))


def _meeting(buffers: list[Buffer]) -> dict[str, list[Buffer]]:
    """Which others every buffer, by name, is alive with."""
    meeting: dict[str, list[Buffer]] = {b.name: [] for b in buffers}
    alive: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: b.born):
        alive = [b for b in alive if b.overlaps(buffer)]
        for other in alive:
            meeting[buffer.name].append(other)
            meeting[other.name].append(buffer)
        alive.append(buffer)
    return meeting


def _place_in_order(buffers: list[Buffer], meeting: dict[str, list[Buffer]]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    for buffer in buffers:
        taken = sorted(
            (offsets[b.name], offsets[b.name] + rounded(b.size)) for b in meeting[buffer.name] if b.name in offsets
        )
        offsets[buffer.name] = best_gap(taken, rounded(buffer.size), buffer.align)
    return offsets


def best_gap(taken: list[tuple[int, int]], size: int, align: int) -> int:
    """Where a buffer fits best between (begin, end) of others, sorted, or behind them."""
    best, end = None, 0
    for first, last in taken:
        start = -(-end // align) * align
        gap = first - start
        if gap >= size and (best is None or gap < best[0]):
            best = (gap, start)
        end = max(end, last)
    return best[1] if best else -(-end // align) * align


def rounded(size: int) -> int:
    """Bytes that a size takes."""
    return -(-size // ALIGN) * ALIGN


@dataclass(frozen=True)
class Access:
    """One step: the values it reads, the value it defines, and which of that value's elements it writes (bool, in the
    value's shape); the others are elements of what it reads, where they lie."""

    reads: tuple[str, ...]
    defines: str
    writes: np.ndarray


def check_overlaps(
    places: dict[str, np.ndarray],
    steps: list[Access],
    outputs: tuple[str, ...] = (),
    kept: dict[str, np.ndarray] | None = None,
) -> None:
    """Prove a plan by replaying it, independently of lifetimes and buffers: every word read is the one that was meant.

    places: the word of every element of every value. outputs are read at the end; no step writes a word in `kept`
    (words by name), but for the first one that defines it. Raises HeepgenError naming the two values.
    """
    kept = kept or {}
    words = max((int(p.max(initial=-1)) for p in (*places.values(), *kept.values())), default=-1) + 1
    written_by = np.full(words, -1)  # step
    keepers = np.zeros(words, np.int64)  # a bit for every name in `kept`
    for number, region in enumerate(kept.values()):
        keepers[region] |= 1 << number
    expected: dict[str, np.ndarray] = {}
    taken = np.zeros(words, bool)  # by the elements of one value

    def check(value: str) -> None:
        now = written_by[places[value]]
        wrong = now[now != expected[value]]
        if wrong.size:
            raise HeepgenError(f"memory plan: {value} is overwritten by {steps[wrong[0]].defines} before its last use")

    for number, step in enumerate(steps):
        for value in step.reads:
            check(value)
        place = places[step.defines]
        taken[place] = True
        whole = np.count_nonzero(taken) == place.size
        taken[place] = False
        if not step.writes.all():
            found = np.concatenate([places[v] for v in step.reads], axis=None) if step.reads else np.zeros(0, int)
            whole = whole and bool(np.isin(place[~step.writes], found).all())
        if not whole:
            raise HeepgenError(f"memory plan: {step.defines} is not whole")
        overwritten = np.bitwise_or.reduce(keepers[place[step.writes]], initial=0)
        for number, name in enumerate(kept):
            if name != step.defines and overwritten >> number & 1:
                raise HeepgenError(f"memory plan: {name} is overwritten by {step.defines} before its last use")
        written_by[place[step.writes]] = number
        expected[step.defines] = written_by[place]
    for value in outputs:
        check(value)


def peak(buffers: Sequence[Buffer], steps: int) -> tuple[int, int]:
    """(bytes alive, step) where most is alive; no plan can do with less."""
    change = [0] * (steps + 2)  # of the bytes alive, from step -1 on
    for b in buffers:
        first, end = max(b.born, -1), min(b.dies, steps - 1) + 1
        if first < end:
            change[first + 1] += b.size
            change[end + 1] -= b.size
    alive = [(size, s) for s, size in enumerate(itertools.accumulate(change[:-1]), -1)]
    return max(alive, key=lambda pair: (pair[0], -pair[1]))


def memory_map(config: System) -> tuple[int, int]:
    """Bytes of contiguous banks, which start at 0, and of all banks."""
    return config.contiguous_bytes, config.ram_bytes


def rooms(arena: int, config: System, program: int = PROGRAM_BYTES) -> tuple[int, int]:
    """Bytes for constants in interleaved banks, and in contiguous ones, beside an arena and a program."""
    border, end = memory_map(config)
    arena = rounded(arena)
    interleaved = border < end and arena <= end - border
    return end - border - arena * interleaved, border - program - arena * (not interleaved)


def locate(
    network: str, constants: list[tuple[str, int]], arena: int, config: System, program: int = PROGRAM_BYTES
) -> tuple[list[Placed], int]:
    """Absolute addresses of constants (name, bytes), in order, and of the arena, beside a program of so many bytes.

    Raises HeepgenError with the numbers when they do not fit beside the program.
    """
    border, end = memory_map(config)
    arena = rounded(arena)
    total = sum(rounded(size) for _, size in constants) + arena
    if border == end or arena > end - border:
        low_end, high_start, high_end = (end - arena, end, end) if border == end else (border - arena, border, end)
        arena_address = low_end
    else:
        low_end, high_start, high_end = border, border, end - arena
        arena_address = None
    high = _suffix_that_fits(constants, high_end - high_start)
    low = constants[: len(constants) - len(high)]
    low_start = low_end - sum(rounded(size) for _, size in low)
    if low_start < program:
        raise DoesNotFit(
            lambda: (
                f"{network} does not fit: {total - arena:,} bytes of constants and {arena:,} bytes of arena need "
                f"{total:,} bytes beside {program:,} for the program, memory.banks and memory.banks_interleaved "
                f"give {end:,} ({end - border:,} of them interleaved, where no program can lie)"
                f"{_largest(constants, arena, total + program <= end)}; {_remedy(constants, arena, config, program)}."
            )
        )
    placed = _sequence(low, low_start) + _sequence(high, high_start)
    if arena_address is None:
        arena_address = placed[-1].address + rounded(placed[-1].size) if high else high_start
    return placed, arena_address


@dataclass(frozen=True)
class Demand:
    """What a network needs that shares a program with others: constants (name, bytes), in their order, and bytes of
    arena."""

    network: str
    constants: tuple[tuple[str, int], ...]
    arena: int


@dataclass(frozen=True)
class Share:
    """Where it gets that: constants in their order, and the arena. program: bytes kept for the program of all;
    banks_needed: the smallest memory that would do for all, see `MemoryReport`."""

    constants: tuple[Placed, ...]
    arena_address: int
    program: int
    banks_needed: tuple[int, tuple[int, ...]]


def locate_together(demands: Sequence[Demand], config: System, program: int) -> list[Share]:
    """`locate` for networks that take turns in one arena, the largest: constants of one lie behind those of the one
    before it, so that those of the first ones leave the interleaved banks where these do not hold all. Raises
    `DoesNotFit` naming the first network that finds no place."""
    constants: list[tuple[str, int]] = []
    arena, before = 0, ""
    for demand in demands:
        constants, arena = [*constants, *demand.constants], max(arena, demand.arena)
        name = f"{demand.network}, in one program with {before}," if before else demand.network
        placed, address = locate(name, constants, arena, config, program)
        before += f" and {demand.network}" if before else demand.network
    banks, own = smallest_memory(constants, arena, config, program), iter(placed)
    return [Share(tuple(itertools.islice(own, len(d.constants))), address, program, banks) for d in demands]


def _largest(constants: list[tuple[str, int]], arena: int, enough: bool) -> str:
    """Why the numbers alone do not tell."""
    if not enough:
        return ""
    name, size = max([*constants, ("the arena", arena)], key=lambda item: item[1])
    return (
        f", but no array may lie in contiguous and in interleaved banks at once, and the largest, {name}, has "
        f"{rounded(size):,} bytes"
    )


def _remedy(constants: list[tuple[str, int]], arena: int, config: System, program: int) -> str:
    for kib in (config.bank_kib, *(kib for kib in BANK_KIB if kib > config.bank_kib)):
        found = _fewest_banks(constants, arena, replace(config, bank_kib=kib), program, MOST_BANKS)
        if found is not None:
            larger = "" if kib == config.bank_kib else f" and memory.bank_kib = {kib}"
            return f"memory.banks = {found[0]} with memory.banks_interleaved = {list(found[1])}{larger} would do"
    return "no memory that can be configured is that large: shrink the network"


def smallest_memory(
    constants: list[tuple[str, int]], arena: int, config: System, program: int = PROGRAM_BYTES
) -> tuple[int, tuple[int, ...]]:
    """The fewest banks of the configuration's size that would do, for what fits the configuration itself: contiguous
    ones and groups of interleaved ones, as many of these as possible."""
    given = config.memory_banks + sum(config.memory_banks_interleaved)
    found = _fewest_banks(constants, arena, config, program, given)
    return found or (config.memory_banks, config.memory_banks_interleaved)


def _fewest_banks(
    constants: list[tuple[str, int]], arena: int, config: System, program: int, most: int
) -> tuple[int, tuple[int, ...]] | None:
    needed = program + rounded(arena) + sum(rounded(size) for _, size in constants)
    for total in range(max(2, -(-needed // config.bank_bytes)), most + 1):
        for interleaved in range((total - 2) // 2 * 2, -1, -2):
            groups = tuple(1 << bit for bit in reversed(range(interleaved.bit_length())) if interleaved >> bit & 1)
            if total - interleaved > MOST_CONTIGUOUS or max(groups, default=0) > MOST_CONTIGUOUS:
                continue
            banks = replace(config, memory_banks=total - interleaved, memory_banks_interleaved=groups)
            if _fits(constants, arena, banks, program):
                return banks.memory_banks, groups
    return None


def _fits(constants: list[tuple[str, int]], arena: int, config: System, program: int) -> bool:
    try:
        locate("", constants, arena, config, program)
    except HeepgenError:
        return False
    return True


def _suffix_that_fits(items: list[tuple[str, int]], room: int) -> list[tuple[str, int]]:
    used, count = 0, 0
    for _, size in reversed(items):
        used += rounded(size)
        if used > room:
            break
        count += 1
    return items[len(items) - count :]


def _sequence(items: list[tuple[str, int]], address: int) -> list[Placed]:
    placed = []
    for name, size in items:
        placed.append(Placed(name, address, size))
        address += rounded(size)
    return placed
