# SPDX-License-Identifier: Apache-2.0
"""The processing elements of the streaming accelerator, fed row by row from one lane."""

from myhdl import Signal, always_comb, block, intbv

from hls.arithmetic.aligned import LANE_BITS, psum_bits
from hls.arithmetic.pe import aligned_pe, fma_pe
from hls.lib.delay import delay_line
from hls.lib.select import both
from hls.lib.unit import unit
from hls.lib.wiring import ignore, join
from hls.streaming.registers import GROUP_BITS, INDEX_BITS, WORD_WEIGHTS
from hls.streaming.timing import Geometry, is_aligned, step
from hls.verilog.myhdl_internals import initial_value


class Load:
    """Weights of row `row` and columns WORD_WEIGHTS * `group` + j, byte j of `data` that of column j."""

    def __init__(self) -> None:
        self.valid = Signal(False)
        self.row, self.group = Signal(intbv(0)[INDEX_BITS:]), Signal(intbv(0)[GROUP_BITS:])
        self.data = Signal(intbv(0)[8 * WORD_WEIGHTS :])


def sum_bits(config: Geometry) -> int:
    """Width of a column's partial sum."""
    return psum_bits(config.rows) if is_aligned(config) else 32


@unit(out="psums")
def weight_grid(clk, valid, some, lane, swap, load, psums, *, config):
    """Partial sums of all columns, column c at [sum_bits c +: sum_bits], c cycles after column 0's.

    Row 0 takes `lane` when `valid`, row r `step * r` cycles later; `aligned` has `some` with it, without which the lane
    is 0. `swap`, one cycle ahead of row 0, makes the weights loaded before the active ones.
    """
    rows, cols = config.rows, config.cols
    aligned = is_aligned(config)
    pe, lane_bits = (aligned_pe, LANE_BITS) if aligned else (fma_pe, 32)
    limit = 1 << sum_bits(config) - 1
    top = Signal(intbv(0, min=-limit, max=limit)) if aligned else Signal(intbv(0)[32:])
    off = Signal(False)
    groups = -(-cols // WORD_WEIGHTS)

    a = [[Signal(intbv(0)[lane_bits:]) for _ in range(cols)] for _ in range(rows)]
    flags = [[[Signal(False) for _ in range(cols)] for _ in range(rows)] for _ in range(5)]
    valid_right, some_right, swap_right, load_right, off_right = flags
    psum = [[Signal(initial_value(top)) for _ in range(cols)] for _ in range(rows)]
    valid_row = [valid, *(Signal(False) for _ in range(rows - 1))]
    some_row = [Signal(False) for _ in range(rows)]
    swap_row = [swap, *(Signal(False) for _ in range(rows - 1))]
    here = [[Signal(False) for _ in range(groups)] for _ in range(rows)]
    bottom = [Signal(intbv(0)[sum_bits(config) :]) for _ in range(cols)]
    parts = []
    for r in range(rows):
        if r:
            parts.append(delay_line(clk, valid_row[r - 1], valid_row[r], width=1, cycles=step(config)))
            parts.append(delay_line(clk, swap_row[r - 1], swap_row[r], width=1, cycles=step(config)))
        if aligned:
            parts.append(both(valid_row[r], some, some_row[r]))
        parts += [_chosen(load, here[r][g], r, g) for g in range(groups)]
        for c in range(cols):
            group, byte = divmod(c, WORD_WEIGHTS)
            of_zeros = {"some": some_right[r][c - 1] if c else some_row[r], "some_out": some_right[r][c]}
            parts.append(
                pe(
                    clk=clk,
                    valid=valid_right[r][c - 1] if c else valid_row[r],
                    a=a[r][c - 1] if c else lane,
                    swap=swap_right[r][c - 1] if c else swap_row[r],
                    load=here[r][group],
                    load_diag=off,
                    weight=load.data(8 * byte + 8, 8 * byte),
                    diag_weight=None,
                    psum=psum[r - 1][c] if r else top,
                    valid_out=valid_right[r][c],
                    a_out=a[r][c],
                    swap_out=swap_right[r][c],
                    load_out=load_right[r][c],
                    load_diag_out=off_right[r][c],
                    psum_out=psum[r][c],
                    **(of_zeros if aligned else {}),
                )
            )

    parts += [_unsigned(one, bits) for one, bits in zip(psum[rows - 1], bottom, strict=True)]
    return parts, join(bottom, psums), ignore(load.data, 8 * min(cols, WORD_WEIGHTS), 8 * WORD_WEIGHTS)


@block
def _unsigned(psum, bits):
    width = len(bits)

    @always_comb
    def same():
        bits.next = psum[width:]

    return same


@block
def _chosen(load, chosen, r, g):
    @always_comb
    def compare():
        chosen.next = load.valid and load.row == r and load.group == g

    return compare
