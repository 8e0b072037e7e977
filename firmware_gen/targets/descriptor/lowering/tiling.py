# SPDX-License-Identifier: Apache-2.0
"""Strip lengths and channel-block groups of a descriptor, from a small cost model.

A strip is a run of output pixels. It may not need more input words at once than the activation buffer holds, nor
more accumulators than a bank has. Weights and parameters are counted once per strip (the hardware reads those that
fit its buffers only once), so long strips save bus words; short ones start draining earlier. A cost, in cycles of the
busiest resource, ranks candidates before there are addresses, and predicts nothing. FIRST_PX and STRIP_PX are chosen
anew by `strips` when the whole network is known.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from firmware_gen.targets.descriptor.lowering.job import Symbolic, on_bus
from firmware_gen.targets.descriptor.timing.demand import Demand, demand
from firmware_gen.targets.descriptor.timing.spans import strip_sizes, strip_span, window_words
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
    windows, whole = window_words(f), demand(f, config, padded=True)
    room = activation_room(config)
    best = None
    candidates = [cbg] if cbg else _cbg_candidates(f, config)
    for cbg in candidates:
        longest = min(config.accumulator_entries // cbg, f.out_px)
        if single and longest < f.out_px:
            continue
        for strip in [longest] if single else _strip_candidates(f.out_px, longest):
            for first in {strip} if single else _first_candidates(f, strip):
                span = strip_span(f, first, strip, windows)
                if span > room:
                    continue
                cost, words = _cost(
                    f=f, whole=whole, first=first, strip=strip, cbg=cbg, span=span, windows=windows, config=config
                )
                if best is None or (cost, words) < (best.cost, best.bus_words):
                    best = Strips(first, strip, cbg, cost, words)
    return best


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


def _cost(
    f: Symbolic,
    whole: Demand,
    first: int,
    strip: int,
    cbg: int,
    span: int,
    windows: tuple[np.ndarray, np.ndarray],
    config: Config,
) -> tuple[int, int]:
    """Cost and bus words of a descriptor in these strips."""
    ports = config.ports
    lengths = strip_sizes(f.out_px, first, strip)
    fetch = math.ceil(whole.tile_beats)
    parts = Counter(min(cbg, f.ncb - i) for i in range(0, f.ncb, cbg))
    early = strip * cbg <= bank_entries(config, True)  # the first step of a group
    steps = f.kh * f.kx * f.kb

    def pass_cycles(px: int, n: int) -> float:
        """Of a group of so many channel blocks."""
        tile = max(px, whole.cut, fetch)
        # Over a strip's input: a tile's vectors may wait for the next tile, a step's last for the accumulators
        cycles = (tile * (n - 1) + max(tile, px + max(ACC_LATENCY - px * n, 0))) * steps
        if not f.band:
            return cycles
        # A vector gives as many outputs as are stored in that time: banks are waited for
        wait = vector_to_drain(config, lengths[0] * n) - px * n * early
        return max(cycles, (wait + cycles + px * n * whole.blocks[0]) / 2)

    def compute(px: int) -> float:
        return f.groups * sum(count * pass_cycles(px, n) for n, count in parts.items())

    last = lengths[-1]
    again = int(compute(last) - pass_cycles(last, min(cbg, f.ncb)))  # when the last words are there, one pass is done
    drain = f.groups * sum(whole.blocks)
    bus = on_bus(f, whole.beats(len(lengths), len(lengths)))
    end, room = windows[1], config.activation_words - span
    exposed = 0
    if first < f.out_px:  # new input words of each strip but the first
        reached = end[first - 1 : f.out_px - 1 : strip]
        exposed = int(np.maximum(reached[1:] - reached[:-1] - room, 0).sum()) + max(
            int(end[-1] - reached[-1]) - room, 0
        )
    tail = last * sum(whole.blocks[-min(cbg, f.ncb - (f.ncb - 1) // cbg * cbg) :])
    lead = int(end[0]) // ports + fetch
    busy = int(sum(count * max(compute(px), px * drain) for px, count in Counter(lengths).items()))
    if not f.band:  # whose words come ahead, and whose weights mostly stay
        busy = max(busy, bus, whole.load + again)
    return busy + exposed // ports + tail + lead + 2 * len(lengths), bus * ports
