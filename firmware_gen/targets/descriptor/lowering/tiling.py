# SPDX-License-Identifier: Apache-2.0
"""Strip lengths and channel-block groups of a descriptor, from a small cost model; the lower bound of a layer.

A strip is a run of output pixels. It may not need more input words at once than the activation buffer holds, nor
more accumulators than a bank has. Weights and parameters are counted once per strip (the hardware reads those that
fit its buffers only once), so long strips save bus words; short ones start draining earlier. Cycles here are
estimates that only rank candidates; `timing.cycles` is the model that predicts. FIRST_PX and STRIP_PX are chosen
anew by `strips` when the whole network is known.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hls.arithmetic.accumulator import ACC_LATENCY
from hls.config import Config


@dataclass(frozen=True)
class Strips:
    """FIRST_PX, STRIP_PX, CBG of a descriptor, with its estimated cycles and bus words."""

    first_px: int
    strip_px: int
    cbg: int
    cycles: int
    bus_words: int


def vectors(f: dict) -> int:
    """Vectors streamed by a descriptor."""
    return f["OUT_PX"] * f["GROUPS"] * f["NCB"] * f["KH"] * f["KX"] * f["KB"]


def tile_bytes(f: dict, config: Config) -> int:
    if f.get("UNIT_WEIGHTS"):
        return 0
    return config.diagonal if f.get("DIAGONAL") else config.rows * config.cols


def window_words(f: dict) -> tuple[np.ndarray, np.ndarray]:
    """Per output pixel: linear input words that are released when it starts a strip, and that must be loaded.

    The second is a running maximum. Both follow `table`'s addressing rule.
    """
    oy, ox = np.divmod(np.arange(f["OUT_PX"], dtype=np.int64), f["OUT_W"])
    x = f["X0"] + ox * f["SX_WORDS"]
    iy = f["Y0"] + oy * f["STRIDE_Y"]
    row = f["ROW0"] + oy * f["SY_WORDS"]
    start = np.where(iy < 0, 0, np.where(iy < f["IN_H"], row + np.clip(x, 0, f["IN_ROW"]), f["LOAD_WORDS"]))
    start[0] = 0
    last = x + (f["KX"] - 1) * f["KX_STEP"] + (f["GROUPS"] - 1) * f["GROUP_IN_STEP"] + f["RUN"]
    end_x = np.clip(last, 0, f["IN_ROW"])
    end = np.zeros_like(row)
    for ky in range(f["KH"]):
        inside = (iy + ky * f["DIL_Y"] >= 0) & (iy + ky * f["DIL_Y"] < f["IN_H"])
        end = np.where(inside, np.maximum(end, row + ky * f["KY_STEP"] + end_x), end)
    return start, np.maximum.accumulate(end)


def strip_starts(out_px: int, first: int, strip: int) -> np.ndarray:
    """First pixel of every strip."""
    return np.concatenate([[0], np.arange(first, out_px, strip)]) if first < out_px else np.zeros(1, np.int64)


def strip_span(f: dict, first: int, strip: int, windows=None) -> int:
    """Input words that the most demanding strip needs in the activation buffer at once."""
    start, end = windows or window_words(f)
    begins = strip_starts(f["OUT_PX"], first, strip)
    ends = np.append(begins[1:], f["OUT_PX"])
    return int((end[ends - 1] - start[begins]).max())


def choose_strips(f: dict, config: Config, cbg: int | None = None) -> Strips | None:
    """The cheapest strips of a descriptor whose other fields are set; None when no strip fits the buffers.

    cbg: take this many channel blocks together, so that the weights lie in the order of another descriptor's.
    """
    windows = window_words(f)
    room = config.activation_words - config.ports
    best = None
    candidates = [cbg] if cbg else _cbg_candidates(f["NCB"], config.accumulator_entries)
    for cbg in candidates:
        longest = min(config.accumulator_entries // cbg, f["OUT_PX"])
        for strip in _strip_candidates(f["OUT_PX"], longest):
            for first in {strip, f["OUT_PX"] % strip or strip, -(-strip // 2)}:
                span = strip_span(f, first, strip, windows)
                if span > room:
                    continue
                cycles, words = _cost(f, first, strip, cbg, span, windows, config)
                if best is None or (cycles, words) < (best.cycles, best.bus_words):
                    best = Strips(first, strip, cbg, cycles, words)
    return best


def _cbg_candidates(ncb: int, entries: int) -> list[int]:
    most = min(ncb, entries)
    return sorted({most, *(1 << i for i in range(most.bit_length()))})


def _strip_candidates(out_px: int, longest: int) -> Iterable[int]:
    """Lengths that split the pixels evenly, up to the longest allowed."""
    fewest = -(-out_px // longest)
    counts = [*range(fewest, fewest + 4), 2 * fewest, 3 * fewest, 4 * fewest, 8 * fewest]
    return sorted({longest, *(-(-out_px // n) for n in counts if n <= out_px), 1}, reverse=True)


def _cost(f, first, strip, cbg, span, windows, config) -> tuple[int, int]:
    """Estimated cycles and bus words of a descriptor cut into these strips."""
    ports, diagonal = config.ports, bool(f.get("DIAGONAL"))
    begins = strip_starts(f["OUT_PX"], first, strip)
    px = np.diff(np.append(begins, f["OUT_PX"]))
    size = tile_bytes(f, config)
    beats = -(-config.rows // config.load_rows) if size and not diagonal else 1
    tile = np.maximum(px, max(beats, -(-size // (4 * ports))))
    sizes = [min(cbg, f["NCB"] - i) for i in range(0, f["NCB"], cbg)]
    steps = f["KH"] * f["KX"] * f["KB"]
    # Over a strip's input: a tile's vectors may wait for the next tile, a step's last for the accumulators
    passes = [(tile * (n - 1) + np.maximum(tile, px + np.maximum(ACC_LATENCY - px * n, 0))) * steps for n in sizes]
    compute = sum(passes) * f["GROUPS"]
    again = int(compute[-1] - passes[0][-1])  # when the last input words are there, one pass at most is done
    beats_out = pixel_beats(f, config)
    drain = px * f["NCB"] * f["GROUPS"] * beats_out
    streams = stream_beats(f, len(px), config)
    loads = streams["LOAD"]
    bus = sum(n for stream, n in streams.items() if not is_on_chip(f, stream))
    start, end = windows
    ahead = np.diff(end[np.append(begins[1:], f["OUT_PX"]) - 1], prepend=0)  # new input words of each strip
    room = config.activation_words - span
    exposed = np.maximum(ahead[1:] - room, 0).sum() // ports
    tail = int(px[-1]) * sizes[-1] * beats_out
    lead = int(end[0]) // ports + -(-size // (4 * ports))
    cycles = max(int(np.maximum(compute, drain).sum()), bus, loads + again) + int(exposed) + tail + lead + 2 * len(px)
    return cycles, bus * ports


def pixel_beats(f: dict, config: Config) -> int:
    """Store beats of a pixel's channel block."""
    block = config.diagonal if f.get("DIAGONAL") else config.cols
    return -(-min(block, f["COUT"]) // config.ports)


def stream_beats(f: dict, strips: int, config: Config) -> dict[str, int]:
    """Beats of every stream of a descriptor in so many strips, on the bus or on chip."""
    ports, block = config.ports, config.diagonal if f.get("DIAGONAL") else config.cols
    weights = -(-vectors(f) // f["OUT_PX"] * tile_bytes(f, config) // (4 * ports))
    params = 0 if f.get("UNIFORM") else f["GROUPS"] * f["NCB"] * 2 * -(-block // ports)
    stores = f["OUT_PX"] * f["NCB"] * f["GROUPS"] * pixel_beats(f, config)
    return {
        "WEIGHT": weights * strips,
        "PARAM": params * strips,
        "LOAD": f["LOAD_Y_COUNT"] * f["LOAD_X_COUNT"] * -(-f["LOAD_C_COUNT"] // ports),
        "STORE": stores,
        "AUX": stores if f.get("RESIDUAL") or f.get("ACC_INIT") else 0,
    }


def is_on_chip(f: dict, stream: str) -> bool:
    """Whether a stream of a descriptor whose addresses are not resolved yet leaves the bus alone."""
    return getattr(f.get(f"{stream}_ADDR"), "on_chip", False)


def lower_bound(vector_count: int, inputs: int, outputs: int, weight_bytes: int, ports: int) -> int:
    """max(vectors, bus words / ports); bus words = inputs + outputs (+ residual) + weights / 4."""
    return max(vector_count, -(-(inputs + outputs + -(-weight_bytes // 4)) // ports))
