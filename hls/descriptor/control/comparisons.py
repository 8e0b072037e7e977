# SPDX-License-Identifier: Apache-2.0
"""What the descriptor check asks of one or two fields: whether something is wrong."""

from myhdl import always_comb, block, concat, intbv

from hls.descriptor.interface.table import SCRATCHPAD


@block
def equals(word, number, out):
    @always_comb
    def compare():
        out.next = word == number

    return compare


@block
def is_not(word, number, out):
    @always_comb
    def compare():
        out.next = word != number

    return compare


@block
def same(source, out):
    @always_comb
    def same():
        out.next = source

    return same


@block
def above(word, low, top, out):
    @always_comb
    def look():
        out.next = word[top:low] != 0

    return look


@block
def more(word, bound, out):
    extra = 0 if isinstance(bound, int) else len(bound) - len(word)
    if extra == 0:

        @always_comb
        def compare():
            out.next = word > bound

        return compare

    @always_comb
    def compare_narrow():
        out.next = concat(intbv(0)[extra:], word) > bound

    return compare_narrow


@block
def reaches(word, bound, out):
    extra = len(bound) - len(word)

    @always_comb
    def compare():
        out.next = concat(intbv(0)[extra:], word) >= bound

    return compare


@block
def differs(product, field, out):
    """Whether a field differs from the product, modulo its width."""
    width = len(field)

    @always_comb
    def compare():
        out.next = product[width:] != field[width:]

    return compare


@block
def without(flag, other, out):
    @always_comb
    def without():
        out.next = flag and not other

    return without


@block
def outside(word, low, high, flag, out):
    @always_comb
    def compare():
        out.next = flag and (word < low or word > high)

    return compare


@block
def on_chip(region, flag, out):
    @always_comb
    def compare():
        out.next = flag and region == SCRATCHPAD

    return compare


@block
def not_one(word, flag, out):
    @always_comb
    def compare():
        out.next = flag and word != 1

    return compare


@block
def unequal(word, other, flag, out):
    extra = len(word) - len(other)

    @always_comb
    def compare():
        out.next = flag and word != concat(intbv(0)[extra:], other)

    return compare
