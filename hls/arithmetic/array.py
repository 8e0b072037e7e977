# SPDX-License-Identifier: Apache-2.0
"""The systolic array: one FP32 vector in and one FP32 result per column out, in every cycle.

It is weight stationary and free running. Activation row r enters `step * r` cycles late and moves right one
column per cycle, partial sums move down one row per `step` cycles, so that column c's result appears c cycles
after column 0's. Weights are double buffered and enter skewed like the activations; the swap bit travels with
the first vector of a tile. Hence the next tile's load may start in the very cycle in which that vector
enters, and a vector may swap in a tile one cycle after its last load beat.
"""

from dataclasses import dataclass

import numpy as np
from myhdl import ConcatSignal, Signal, always, always_comb, block, concat, intbv

from hls.arithmetic.aligned import (
    LANE_BITS,
    META_BITS,
    NORMALISE_LATENCY,
    aligned_edge,
    edge_latency,
    max_stages,
    meta_skew,
    normaliser,
    psum_bits,
)
from hls.arithmetic.aligned_model import aligned_model
from hls.arithmetic.fma import fma_model
from hls.arithmetic.pe import ALIGNED_STEP, FMA_STEP, aligned_pe, fma_pe
from hls.config import Config
from hls.lib.delay import delay_line, glue, lane_skew, occupancy, skew
from hls.lib.unit import unit
from hls.verilog.myhdl_internals import initial_value


@dataclass(frozen=True)
class Timing:
    """Cycles: `front` from a vector to row 0, `step` from row to row, `back` from there to the result."""

    front: int
    step: int
    back: int


def array_timing(config: Config) -> Timing:
    if config.arithmetic == "fma":
        return Timing(front=2, step=FMA_STEP, back=0)
    return Timing(front=edge_latency(config.rows), step=ALIGNED_STEP, back=1 + NORMALISE_LATENCY)


def array_latency(config: Config) -> int:
    """Cycles from a vector to its result in column 0; column c follows c cycles later."""
    timing = array_timing(config)
    return timing.front + timing.step * config.rows + timing.back


def load_beats(config: Config) -> int:
    """Load beats of a dense tile; a diagonal tile has one."""
    return -(-config.rows // config.load_rows)


def beat_bits(config: Config) -> int:
    """Width of `load_beat`."""
    return max(1, (load_beats(config) - 1).bit_length())


def count_bits(config: Config) -> int:
    """Width of the counts of lanes."""
    return config.rows.bit_length()


def array_model(vectors: np.ndarray, weights: np.ndarray, diag: bool, max_mode: bool, arithmetic: str) -> np.ndarray:
    """Column results, uint32 [N, C], of uint32 `vectors` [N, R] and one tile of int8 `weights` [R, C].

    In diagonal mode only the diagonal of `weights` counts, and columns without a lane give +0.
    """
    if arithmetic == "aligned":
        return aligned_model(vectors, weights, diag, max_mode)
    acc = np.zeros((len(vectors), weights.shape[1]), np.uint32)
    if not diag:
        for r, row in enumerate(weights):
            acc = fma_model(vectors[:, r, None], row, acc)
        return acc
    size = min(weights.shape)
    start = np.array(max_mode << 31, np.uint32)  # -0, which a maximum must keep, is lost in a sum with +0
    acc[:, :size] = fma_model(vectors[:, :size], np.diag(weights), start)
    return acc


@unit(out="load diag")
def load_strobes(clk, load_valid, load_beat, load_diag, load, diag, *, rows, load_rows, first, step):
    """Per row, when it takes a weight of a dense tile (`load`), and when of a diagonal tile (`diag`).

    Row r of beat b of a dense tile hears of it `first + step * r - b` cycles after the beat, and of a
    diagonal tile `first + step * r` cycles after it: in time for a vector one cycle after the last beat.
    """
    beats = -(-rows // load_rows)
    beat = Signal(intbv(0)[beats:])
    diagonal = Signal(False)
    row_load, row_diag = ([Signal(False) for _ in range(rows)] for _ in range(2))
    all_load, all_diag = glue(row_load), glue(row_diag)
    dense = [
        delay_line(clk, beat(r // load_rows), row_load[r], width=1, cycles=first + step * r - r // load_rows)
        for r in range(rows)
    ]
    chain = [
        delay_line(clk, row_diag[r - 1] if r else diagonal, row_diag[r], width=1, cycles=step if r else first)
        for r in range(rows)
    ]

    if beats == 1:

        @always_comb
        def select():
            beat.next = load_valid and not load_diag and load_beat == 0
            diagonal.next = load_valid and load_diag
    else:

        @always_comb
        def select():
            beat.next = 0
            if load_valid and not load_diag:
                beat.next = concat(intbv(0)[beats - 1 :], True) << load_beat
            diagonal.next = load_valid and load_diag

    @always_comb
    def output():
        load.next = all_load
        diag.next = all_diag

    return dense, chain, select, output


@unit(out="q")
def valid_pipe(clk, rst, d, q, *, cols, latency):
    """Bit c of q is d, `latency + c` cycles later; nothing survives a reset."""
    bits = latency + cols - 1
    line = Signal(intbv(0)[bits:])

    @always(clk.posedge)
    def advance():
        line.next = concat(line[bits - 1 :], d)
        if rst:
            line.next = 0

    @always_comb
    def output():
        q.next = line[bits : latency - 1]

    return advance, output


@unit(out="col_valid col_data lost_lanes coarse_lanes")
def systolic_array(
    clk,
    rst,
    vec_valid,
    vec,
    vec_swap,
    vec_diag,
    vec_max,
    load_valid,
    load_data,
    load_beat,
    load_diag,
    col_valid,
    col_data,
    lost_lanes,
    coarse_lanes,
    *,
    config,
):
    """rows x cols processing elements with everything that turns them into FP32 in, FP32 out.

    vec: lane i at [32 i +: 32]. vec_swap marks the first vector of a tile, vec_diag a vector of a diagonal
    tile, vec_max one whose results go to a maximum (-0 is kept). load_data: row load_beat * load_rows + j,
    column c at byte j * cols + c; with load_diag, in one beat, the weight of (c, c) at byte c. Column c's
    result is at [32 c +: 32] of col_data when col_valid[c], array_latency(config) + c cycles after its
    vector.
    lost_lanes and coarse_lanes count lanes of one vector (hls.arithmetic.aligned.precision_loss), 0 when there is none.
    """
    rows, cols, load_rows, diagonal = config.rows, config.cols, config.load_rows, config.diagonal
    timing = array_timing(config)
    front, step = timing.front, timing.step
    aligned = config.arithmetic == "aligned"
    pe = aligned_pe if aligned else fma_pe
    lane_bits, limit = (LANE_BITS, 1 << psum_bits(rows) - 1) if aligned else (32, 0)
    zero = Signal(intbv(0, min=-limit, max=limit)) if aligned else Signal(intbv(0)[32:])

    lanes, skewed = (Signal(intbv(0)[lane_bits * rows :]) for _ in range(2))
    swap_vector = Signal(False)
    valid_row, swap_row = ([Signal(False) for _ in range(rows)] for _ in range(2))
    load, diag = (Signal(intbv(0)[rows:]) for _ in range(2))
    late_weights = [
        [Signal(intbv(0)[8 * cols :]) for _ in range(load_rows)]  # [beat][lane]
        for _ in range(load_beats(config))
    ]
    diag_weights = Signal(intbv(0)[8 * diagonal :])
    a = [[Signal(intbv(0)[lane_bits:]) for _ in range(cols)] for _ in range(rows)]
    valid, some, swap, load_right, diag_right = (
        [[Signal(False) for _ in range(cols)] for _ in range(rows)] for _ in range(5)
    )
    some_lane, some_row = (Signal(intbv(0)[rows:]) for _ in range(2))
    psum = [[Signal(initial_value(zero)) for _ in range(cols)] for _ in range(rows)]
    y = [Signal(intbv(0)[32:]) for _ in range(cols)]
    occupied = [Signal(intbv(0)[NORMALISE_LATENCY:]) for _ in range(cols)]
    all_columns = glue(y)
    parts = []

    @always_comb
    def entry():
        swap_vector.next = vec_valid and vec_swap

    @always_comb
    def output():
        col_data.next = all_columns

    # Activations and swap bits
    if aligned:
        meta, late_meta = (Signal(intbv(0)[META_BITS * cols :]) for _ in range(2))
        judged, of_diagonal, exponent = Signal(False), Signal(False), Signal(intbv(0)[8:])
        parts.append(
            aligned_edge(
                clk=clk,
                valid=vec_valid,
                vec=vec,
                diag=vec_diag,
                max_mode=vec_max,
                entering=valid_row[0],
                some=some_lane,
                aligned=lanes,
                judged=judged,
                diagonal=of_diagonal,
                exponent=exponent,
                meta=meta,
                lost_lanes=lost_lanes,
                coarse_lanes=coarse_lanes,
                rows=rows,
                cols=cols,
            )
        )
        parts.append(
            meta_skew(
                clk, judged, of_diagonal, exponent, meta, late_meta, cols=cols, first=front + rows - max_stages(rows)
            )
        )
        if rows > 1:
            parts.append(lane_skew(clk, some_lane, lanes, some_row, skewed, lanes=rows, width=lane_bits, step=step))
        top = [zero] * cols
    else:
        start = Signal(False)
        negative = [Signal(False) for _ in range(diagonal)]
        parts.append(_fma_entry(vec_diag, vec_max, start, lost_lanes, coarse_lanes))
        parts.append(delay_line(clk, vec, lanes, width=32 * rows, cycles=front))
        parts.append(delay_line(clk, vec_valid, valid_row[0], width=1, cycles=front))
        for c in range(diagonal):
            parts.append(
                delay_line(clk, negative[c - 1] if c else start, negative[c], width=1, cycles=1 if c else front)
            )
        top = [ConcatSignal(bit, intbv(0)[31:]) for bit in negative] + [zero] * (cols - diagonal)
    if rows == 1:
        skewed, some_row = lanes, some_lane
    elif not aligned:
        parts.append(skew(clk, lanes, skewed, lanes=rows, width=lane_bits, first=0, step=step))
    for r in range(rows):
        if r:
            parts.append(delay_line(clk, valid_row[r - 1], valid_row[r], width=1, cycles=step))
        parts.append(
            delay_line(
                clk, swap_row[r - 1] if r else swap_vector, swap_row[r], width=1, cycles=step if r else front - 1
            )
        )

    # Weights: a byte for column c comes c cycles late, one for a lower row `step` cycles per row
    parts.append(
        load_strobes(
            clk,
            load_valid,
            load_beat,
            load_diag,
            load,
            diag,
            rows=rows,
            load_rows=load_rows,
            first=front - 1,
            step=step,
        )
    )
    below = step * load_rows - 1  # from a row of one beat to that of the next
    arrival = [[front - 1 + step * j + below * b for j in range(load_rows)] for b in range(load_beats(config))]
    loading = None
    if aligned:
        last = max(arrival[r // load_rows][r % load_rows] for r in range(rows)) + cols - 1
        loading = Signal(intbv(0)[max(last, front - 1 + (1 + step) * (diagonal - 1)) :])
        parts.append(_since(clk, load_valid, loading))

    def moves(begin, cycles):
        return None if loading is None else loading(begin + cycles, begin)

    for j in range(load_rows):
        parts.append(
            skew(
                clk,
                load_data(8 * cols * (j + 1), 8 * cols * j),
                late_weights[0][j],
                moves(0, arrival[0][j] + cols - 1),
                lanes=cols,
                width=8,
                first=arrival[0][j],
                step=1,
            )
        )
        for b in range(1, -(-(rows - j) // load_rows)):
            if below == 0:  # every row is one beat and one cycle later than the one above
                late_weights[b][j] = late_weights[b - 1][j]
            else:
                parts.append(
                    skew(
                        clk,
                        late_weights[b - 1][j],
                        late_weights[b][j],
                        moves(arrival[b - 1][j], below + cols - 1),
                        lanes=cols,
                        width=8,
                        first=below,
                        step=0,
                        apart=1,
                    )
                )
    if diagonal == 1:
        diag_weights = late_weights[0][0](8, 0)
    else:
        parts.append(
            skew(
                clk,
                late_weights[0][0](8 * diagonal, 0),
                diag_weights,
                moves(front, (1 + step) * (diagonal - 1) - 1),
                lanes=diagonal,
                width=8,
                first=0,
                step=step,
                apart=1,
            )
        )

    for r in range(rows):
        for c in range(cols):
            of_zeros = {"some": some[r][c - 1] if c else some_row(r), "some_out": some[r][c]} if aligned else {}
            parts.append(
                pe(
                    clk=clk,
                    valid=valid[r][c - 1] if c else valid_row[r],
                    a=a[r][c - 1] if c else skewed(lane_bits * (r + 1), lane_bits * r),
                    swap=swap[r][c - 1] if c else swap_row[r],
                    load=load_right[r][c - 1] if c else load(r),
                    load_diag=diag_right[r][c - 1] if c else diag(r),
                    weight=late_weights[r // load_rows][r % load_rows](8 * c + 8, 8 * c),
                    diag_weight=diag_weights(8 * r + 8, 8 * r) if r == c else None,
                    psum=psum[r - 1][c] if r else top[c],
                    valid_out=valid[r][c],
                    a_out=a[r][c],
                    swap_out=swap[r][c],
                    load_out=load_right[r][c],
                    load_diag_out=diag_right[r][c],
                    psum_out=psum[r][c],
                    diagonal=r == c,
                    **of_zeros,
                )
            )

    # Results
    parts.append(valid_pipe(clk, rst, vec_valid, col_valid, cols=cols, latency=array_latency(config)))
    for c in range(cols):
        if aligned:
            column_meta = late_meta(META_BITS * (c + 1), META_BITS * c)
            parts.append(occupancy(clk, valid[rows - 1][c], occupied[c]))
            parts.append(normaliser(clk, occupied[c], psum[rows - 1][c], column_meta, y[c], rows=rows))
        else:
            parts.append(_same(psum[rows - 1][c], y[c]))
    return parts, entry, output


@block
def _since(clk, valid, ago):
    """Bit k of ``ago``: ``valid`` was there k cycles ago."""
    line = Signal(intbv(0)[len(ago) - 1 :])

    @always_comb
    def output():
        ago.next = concat(line, valid)

    return output, occupancy(clk, valid, line)


@block
def _fma_entry(vec_diag, vec_max, start, lost_lanes, coarse_lanes):
    @always_comb
    def logic():
        start.next = vec_diag and vec_max  # a chain that starts at -0 keeps a -0
        lost_lanes.next = 0
        coarse_lanes.next = 0

    return logic


@block
def _same(d, q):
    @always_comb
    def wire():
        q.next = d

    return wire
