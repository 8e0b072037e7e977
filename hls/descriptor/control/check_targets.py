# SPDX-License-Identifier: Apache-2.0
"""What the products of a descriptor's check are compared with: a bank's entries, WEIGHT_WORDS, PARAM_WORDS, a field."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.descriptor.control.comparisons import differs
from hls.descriptor.interface import rules
from hls.descriptor.interface.table import LINEAR
from hls.lib.wiring import join

WEIGHTS = LINEAR + 2
"""Bits of a product of tiles and weights of one."""


@block
def target(clk, job, step, product, broken, config):
    """Whether ``product`` breaks the rule of ``step``; of PARAM_WORDS, a cycle later."""
    if step.target == "entries":
        return _more_than(product, job.halves, config, broken)
    if step.target == "WEIGHT_WORDS":
        return _uncovered(product, job, broken, config)
    if step.target == "PARAM_WORDS":
        return _params_differ(clk, product, job, broken, config)
    return differs(product, getattr(job, step.target.lower()), broken)


@block
def _more_than(product, halves, config, out):
    """Whether the product of two numbers up to the entries of a bank is more than that, or half of it."""
    whole, half = (rules.bank_entries(config, halved) for halved in (False, True))
    width = (whole * whole).bit_length()

    @always_comb
    def compare():
        out.next = product[width:] > whole or (halves and product[width:] > half)

    return compare


@block
def _uncovered(product, job, out, config):
    """Whether WEIGHT_WORDS do not hold the weights that are the product, filled up to whole beats."""
    extra = 1 + config.int4_weights
    room, rest = (Signal(modbv(0)[WEIGHTS + extra :]) for _ in range(2))
    ragged, uncovered = (Signal(bool(0)) for _ in range(2))
    words, ports = job.weight_words, config.ports
    bound = 4 * ports

    @always_comb
    def subtract():
        rest.next = room - concat(intbv(0)[extra:], product[WEIGHTS:])

    @always_comb
    def of_bytes():
        room.next = concat(False, words, intbv(0)[2:])
        uncovered.next = rest >= bound

    @always_comb
    def of_either():
        room.next = concat(intbv(0)[2:], words, intbv(0)[2:])
        uncovered.next = rest >= bound
        if job.int4:
            room.next = concat(False, words, intbv(0)[3:])
            uncovered.next = rest >= 2 * bound

    @always_comb
    def judge():
        out.next = uncovered or ragged

    found = subtract, judge, of_either if config.int4_weights else of_bytes
    return found if ports == 1 else (*found, _ragged(words, ragged, ports))


@block
def _ragged(words, ragged, ports):
    """Whether ``words`` are not a multiple of ``ports``."""
    if ports == 3:
        bytes_mod_3 = tuple(i % 3 for i in range(256))
        sum_mod_3 = tuple(int(sum(i >> 2 * k & 3 for k in range(3)) % 3 != 0) for i in range(64))
        rests = [Signal(intbv(0)[2:]) for _ in range(3)]
        all_rests = Signal(intbv(0)[6:])

        @always_comb
        def look():
            ragged.next = sum_mod_3[all_rests]

        return (
            [_look_up(words, 8 * k, bytes_mod_3, rest) for k, rest in enumerate(rests)],
            join(rests, all_rests),
            look,
        )
    low = ports // 2

    @always_comb
    def compare():
        ragged.next = words[low:] != 0

    return compare


@block
def _look_up(words, low, table, out):
    """``table`` at eight bits of ``words``."""
    index = Signal(intbv(0)[8:])

    @always_comb
    def cut():
        index.next = words[low + 8 : low]

    @always_comb
    def look():
        out.next = table[index]

    return cut, look


@block
def _params_differ(clk, product, job, out, config):
    """Whether PARAM_WORDS are not those of the blocks that are the product, a cycle later."""
    dense, diag, one = (rules.block_params(config, *kind) for kind in ((False,), (True,), (False, True)))
    packed_dense, packed_diag = (rules.block_params(config, diagonal, packed=True) for diagonal in (False, True))
    words, diagonal, banded, pairs = job.param_words, job.diagonal, job.banded, job.packed_scales
    width = LINEAR + max(dense, diag).bit_length()
    blocks, needed = Signal(modbv(0)[width:]), Signal(modbv(0)[width:])
    extra = width - LINEAR

    @always_comb
    def widen():
        blocks.next = concat(intbv(0)[extra:], product[LINEAR:])

    @always(clk.posedge)
    def multiply():
        needed.next = blocks * dense
        if banded:
            needed.next = blocks * one
        elif diagonal:
            needed.next = blocks * diag

    @always(clk.posedge)
    def multiply_or_pack():
        if banded:
            needed.next = blocks * one
        elif diagonal:
            needed.next = blocks * diag
            if pairs:
                needed.next = blocks * packed_diag
        else:
            needed.next = blocks * dense
            if pairs:
                needed.next = blocks * packed_dense

    @always_comb
    def compare():
        out.next = needed != concat(intbv(0)[extra:], words)

    return widen, multiply_or_pack if config.packed_scales else multiply, compare
