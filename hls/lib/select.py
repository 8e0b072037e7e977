# SPDX-License-Identifier: Apache-2.0
"""Small combinational helpers."""

from myhdl import Signal, always_comb, block, concat, intbv

from hls.lib.wiring import join


@block
def both(one, other, both):
    """Whether both hold."""

    @always_comb
    def combine():
        both.next = one and other

    return combine


@block
def first_of(valid, values, chosen):
    """``chosen`` is the value of the lowest valid one, of the last if there is none."""
    if len(valid) == 1:
        return join(values, chosen)
    rest = Signal(intbv(0)[len(chosen) :])
    here, value = valid[0], values[0]

    @always_comb
    def choose():
        chosen.next = value if here else rest

    return choose, first_of(valid[1:], values[1:], rest)


@block
def words_apart(stride, times, offset):
    """``offset`` (32 bits) is 4 * times * stride, for ``times`` 1..4 and ``stride`` in words."""
    if times == 3:

        @always_comb
        def three():
            offset.next = concat(stride[30:], "00") + concat(stride[29:], "000")

        return three

    shift = {1: 2, 2: 3, 4: 4}[times]
    kept = 32 - shift

    @always_comb
    def power():
        offset.next = concat(stride[kept:], intbv(0)[shift:])

    return power


@block
def multiples(word, products):
    """``products[i]`` (modbv) is ``word`` times i + 1, modulo its width: at most two sums, up to 32 times."""
    return [_multiple(word, products, i + 1) for i in range(len(products))]


@block
def _multiple(word, products, times):
    product = products[times - 1]
    near = times if times == 1 or times % 2 == 0 else times - 1 if times % 4 == 1 else times + 1
    shift = (near & -near).bit_length() - 1
    source = word if near >> shift == 1 else products[(near >> shift) - 1]
    if near == times:

        @always_comb
        def shifted():
            product.next = source << shift

        return shifted
    if near < times:

        @always_comb
        def more():
            product.next = (source << shift) + word

        return more

    @always_comb
    def less():
        product.next = (source << shift) - word

    return less
