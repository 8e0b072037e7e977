# SPDX-License-Identifier: Apache-2.0
"""Strip lengths and channel-block groups of a descriptor, from a small cost model; the lower bound of a layer.

A strip is a run of output pixels. It may not need more input words at once than the activation buffer holds, nor
more accumulators than a bank has. Weights and parameters are counted once per strip (the hardware reads those that
fit its buffers only once), so long strips save bus words; short ones start draining earlier. Cycles here are
estimates that only rank candidates; `timing.cycles` is the model that predicts. FIRST_PX and STRIP_PX are chosen
anew by `strips` when the whole network is known.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from firmware_gen.targets.descriptor.lowering.job import Symbolic, on_bus
from firmware_gen.targets.descriptor.timing.demand import Demand, demand
from firmware_gen.targets.descriptor.timing.spans import strip_span, strip_starts, window_words
from hls.arithmetic.accumulator import ACC_LATENCY
from hls.config import Config
from hls.descriptor.interface.rules import bank_entries, may_halve
from hls.descriptor.interface.table import AddressT, Descriptor
from hls.descriptor.interface.timing import vector_to_drain


@dataclass(frozen=True)
class Strips:
    """FIRST_PX, STRIP_PX, CBG of a descriptor, with its estimated cycles and bus words."""

    first_px: int
    strip_px: int
    cbg: int
    cycles: int
    bus_words: int


def in_strips(f: Descriptor[AddressT], first_px: int, strip_px: int, config: Config) -> Descriptor[AddressT]:
    """The descriptor in these strips; with half banks, which never wait where whole ones do not, if they do."""
    return replace(f, first_px=first_px, strip_px=strip_px, halves=int(may_halve(f, strip_px, config)))


def choose_strips(f: Symbolic, config: Config, cbg: int | None = None, single: bool = False) -> Strips | None:
    """The cheapest strips of a descriptor whose other fields are set; None when no strip fits the buffers.

    cbg: take this many channel blocks together, so that the weights lie in the order of another descriptor's.
    single: all pixels are one strip.
    """
    # With the exact count of stores, strips are shorter, and networks slower
    windows, whole = window_words(f), demand(f, config, padded=True)
    room = config.activation_words - config.ports
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
                cycles, words = _cost(f, whole, first, strip, cbg, span, windows, config)
                if best is None or (cycles, words) < (best.cycles, best.bus_words):
                    best = Strips(first, strip, cbg, cycles, words)
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
    """Estimated cycles and bus words of a descriptor cut into these strips."""
    ports = config.ports
    begins = strip_starts(f.out_px, first, strip)
    px = np.diff(np.append(begins, f.out_px))
    fetch = math.ceil(whole.tile_beats)
    tile = np.maximum(px, max(whole.cut, fetch))
    sizes = [min(cbg, f.ncb - i) for i in range(0, f.ncb, cbg)]
    steps = f.kh * f.kx * f.kb
    # Over a strip's input: a tile's vectors may wait for the next tile, a step's last for the accumulators
    passes = [(tile * (n - 1) + np.maximum(tile, px + np.maximum(ACC_LATENCY - px * n, 0))) * steps for n in sizes]
    if f.band:  # a vector gives as many outputs as are stored in that time: banks are waited for
        drains = [px * n * whole.blocks[0] for n in sizes]
        early = strip * cbg <= bank_entries(config, True)  # the first step of a group
        waits = [vector_to_drain(config, int(px[0]) * n) - px * n * early for n in sizes]
        passes = [np.maximum(p, (w + p + d) / 2) for p, d, w in zip(passes, drains, waits, strict=True)]
    compute = sum(passes) * f.groups
    again = int(compute[-1] - passes[0][-1])  # when the last input words are there, one pass at most is done
    drain = px * f.groups * sum(whole.blocks)
    bus = on_bus(f, whole.beats(len(px), len(px)))
    start, end = windows
    ahead = np.diff(end[np.append(begins[1:], f.out_px) - 1], prepend=0)  # new input words of each strip
    room = config.activation_words - span
    exposed = np.maximum(ahead[1:] - room, 0).sum() // ports
    tail = int(px[-1]) * sum(whole.blocks[-sizes[-1] :])
    lead = int(end[0]) // ports + fetch
    busy = int(np.maximum(compute, drain).sum())
    if not f.band:  # whose words come ahead, and whose weights mostly stay
        busy = max(busy, bus, whole.load + again)
    return busy + int(exposed) + tail + lead + 2 * len(px), bus * ports


def lower_bound(vector_count: int, inputs: int, outputs: int, weight_bytes: int, ports: int) -> int:
    """max(vectors, bus words / ports); bus words = inputs + outputs (+ residual) + weights / 4."""
    return max(vector_count, -(-(inputs + outputs + -(-weight_bytes // 4)) // ports))
