# SPDX-License-Identifier: Apache-2.0
"""Strip lengths and channel-block groups of a descriptor, from a small cost model.

A strip is a run of output pixels. It may not need more input words at once than the activation buffer holds, nor
more accumulators than a bank has. Weights and parameters are counted once per strip (the hardware reads those that
fit its buffers only once), so long strips save bus words; short ones start draining earlier. A cost, in cycles of the
busiest resource, ranks candidates before there are addresses, and predicts nothing. FIRST_PX and STRIP_PX are chosen
anew by `strips` when the whole network is known.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from firmware_gen.targets.descriptor.lowering.job import Symbolic, on_bus
from firmware_gen.targets.descriptor.timing.demand import Demand, demand
from firmware_gen.targets.descriptor.timing.spans import strip_span, window_words
from hls.arithmetic.accumulator import ACC_LATENCY
from hls.config import Config
from hls.descriptor.interface.rules import activation_room, bank_entries, may_halve
from hls.descriptor.interface.table import AddressT, Descriptor
from hls.descriptor.interface.timing import vector_to_drain


@dataclass(frozen=True)
class Strips:
    """FIRST_PX, STRIP_PX, CBG of a descriptor, with what they are compared by: cost, then bus words."""

    first_px: int
    strip_px: int
    cbg: int
    cost: int
    bus_words: int


def in_strips(f: Descriptor[AddressT], first_px: int, strip_px: int, config: Config) -> Descriptor[AddressT]:
    """The descriptor in these strips; with half banks, which never wait where whole ones do not, if they do."""
    return f.but(first_px=first_px, strip_px=strip_px, halves=int(may_halve(f, strip_px, config)))


def choose_strips(f: Symbolic, config: Config, cbg: int | None = None, single: bool = False) -> Strips | None:
    """The cheapest strips of a descriptor whose other fields are set; None when no strip fits the buffers.

    cbg: take this many channel blocks together, so that the weights lie in the order of another descriptor's.
    single: all pixels are one strip.
    """
    # With the exact count of stores, strips are shorter, and networks slower
    whole, windows = demand(f, config, padded=True), window_words(f)
    tried = [
        (first, strip, each)
        for each in ([cbg] if cbg else _cbg_candidates(f, config))
        for first, strip in _pairs(f, min(config.accumulator_entries // each, f.out_px), single)
    ]
    spans = {pair: strip_span(f, *pair, windows) for pair in dict.fromkeys((first, strip) for first, strip, _ in tried)}
    tried = [own for own in tried if spans[own[:2]] <= activation_room(config)]
    if not tried:
        return None
    exposed = {pair: _exposed(f, *pair, config.activation_words - spans[pair], windows[1]) for pair in spans}
    costs, words = _costs(f, whole, tried, [exposed[own[:2]] for own in tried], int(windows[1][0]), config)
    best = int(np.lexsort((words, costs))[0])
    return Strips(*tried[best], int(costs[best]), int(words[best]))


def _pairs(f: Symbolic, longest: int, single: bool) -> Iterable[tuple[int, int]]:
    """First strips and others, up to the longest allowed."""
    if single:
        return [(longest, longest)] if longest == f.out_px else []
    return [(first, strip) for strip in _strip_candidates(f.out_px, longest) for first in _first_candidates(f, strip)]


def _cbg_candidates(f: Symbolic, config: Config) -> list[int]:
    most = min(f.ncb, config.accumulator_entries)
    found = {most, *(1 << i for i in range(most.bit_length()))}
    if f.band:  # many that fill a half bank
        half = bank_entries(config, True)
        found |= {min(most, half // pixels) for pixels in _strip_candidates(f.out_px, min(half, f.out_px))}
    return sorted(found)


def _first_candidates(f: Symbolic, strip: int) -> set[int]:
    """Lengths of the first strip. A banded layer's input comes while it computes: not all in one strip."""
    half = -(-strip // 2)
    return {half} if f.band and strip == f.out_px else {strip, f.out_px % strip or strip, half}


def _strip_candidates(out_px: int, longest: int) -> Iterable[int]:
    """Lengths that split the pixels evenly, up to the longest allowed."""
    fewest = -(-out_px // longest)
    counts = [*range(fewest, fewest + 4), 2 * fewest, 3 * fewest, 4 * fewest, 8 * fewest]
    return sorted({longest, *(-(-out_px // n) for n in counts if n <= out_px), 1}, reverse=True)


def _exposed(f: Symbolic, first: int, strip: int, room: int, end: np.ndarray) -> int:
    """Input words of all strips but the first for which there is no room beside the one before."""
    if first >= f.out_px or end[-1] - end[first - 1] <= room:
        return 0
    reached = end[first - 1 : f.out_px - 1 : strip]
    inner = int(np.maximum(reached[1:] - reached[:-1] - room, 0).sum()) if len(reached) > 1 else 0
    return inner + max(int(end[-1] - reached[-1]) - room, 0)


def _costs(
    f: Symbolic,
    whole: Demand,
    tried: Sequence[tuple[int, int, int]],
    exposed: Sequence[int],
    first_words: int,
    config: Config,
) -> tuple[np.ndarray, np.ndarray]:
    """Cost and bus words of a descriptor, for every FIRST_PX, STRIP_PX and CBG that is tried.

    exposed: input words of each that wait for room; first_words: those of the first pixel.
    """
    first, strip, cbg = np.array(tried, np.int64).T
    fetch, steps = math.ceil(whole.tile_beats), f.kh * f.kx * f.kb
    begin = np.minimum(first, f.out_px)
    full, rest = np.divmod(f.out_px - begin, strip)
    last = np.where(rest > 0, rest, np.where(full > 0, strip, begin))
    strips = 1 + full + (rest > 0)
    groups, few = np.divmod(f.ncb, cbg)  # of cbg channel blocks, and one of fewer
    early = strip * cbg <= bank_entries(config, True)  # the first step of a group

    def pass_cycles(px: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Of a group of so many channel blocks."""
        tile = np.maximum(px, max(whole.cut, fetch))
        # Over a strip's input: a tile's vectors may wait for the next tile, a step's last for the accumulators
        waiting = np.maximum(tile, px + np.maximum(ACC_LATENCY - px * n, 0))
        cycles: np.ndarray = (tile * (n - 1) + waiting) * steps
        if not f.band:
            return cycles
        # A vector gives as many outputs as are stored in that time: banks are waited for
        wait = vector_to_drain(config, begin * n) - px * n * early
        return np.asarray(np.maximum(cycles, (wait + cycles + px * n * whole.blocks[0]) / 2))

    def compute(px: np.ndarray) -> np.ndarray:
        total: np.ndarray = f.groups * (groups * pass_cycles(px, cbg) + np.where(few > 0, pass_cycles(px, few), 0))
        return total

    drain = f.groups * sum(whole.blocks)
    once, twice = (on_bus(f, whole.beats(passes, passes)) for passes in (1, 2))
    bus = once + (strips - 1) * (twice - once)
    by_last = compute(last)
    busy = np.maximum(compute(begin), begin * drain) + full * np.maximum(compute(strip), strip * drain)
    busy = np.trunc(busy + (rest > 0) * np.maximum(by_last, rest * drain))
    if not f.band:  # whose words come ahead, and whose weights mostly stay
        again = by_last - pass_cycles(last, np.minimum(cbg, f.ncb))  # when the last words are there, one pass is done
        busy = np.maximum(np.maximum(busy, bus), whole.load + again)
    stored = np.cumsum([0, *reversed(whole.blocks)])[np.where(few > 0, few, cbg)]
    lead = first_words // config.ports + fetch
    cost = busy + np.array(exposed) // config.ports + last * stored + lead + 2 * strips
    return cost.astype(np.int64), bus * config.ports
