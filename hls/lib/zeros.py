# SPDX-License-Identifier: Apache-2.0
"""Leading zeros of a word, counted in a tree of two-way choices: as deep as the count has bits."""

from myhdl import Signal, always_comb, block, intbv

from hls.lib.wiring import join


@block
def leading_zeros(word, count):
    """``count`` is the number of zeros above the highest one of ``word``, which is 2**len(count) bits wide.

    All ones if there is none.
    """
    empty, width = [Signal(intbv(0)[len(word) :])], len(word)
    counts, parts = [[]], [_invert(word, empty[0])]
    while width > 1:
        width //= 2
        below = empty[-1]
        counts.append([Signal(intbv(0)[width:]) for _ in range(len(counts[-1]) + 1)])
        parts += [_choose(below, bit, kept) for bit, kept in zip(counts[-2], counts[-1])]
        parts.append(_upper(below, counts[-1][-1]))
        if width > 1:
            empty.append(Signal(intbv(0)[width:]))
            parts.append(_both(below, empty[-1]))
    return parts, join(counts[-1], count)


@block
def _invert(word, empty):
    @always_comb
    def invert():
        empty.next = ~word

    return invert


@block
def _both(below, empty):
    """Whether both parts are empty, per pair."""
    n = len(empty)

    @always_comb
    def look():
        for i in range(n):
            empty.next[i] = below[2 * i + 1] and below[2 * i]

    return look


@block
def _upper(below, kept):
    """Whether the upper part is empty, per pair: the new bit of the count."""
    n = len(kept)

    @always_comb
    def look():
        for i in range(n):
            kept.next[i] = below[2 * i + 1]

    return look


@block
def _choose(below, bit, kept):
    """A bit of the count, per pair: that of the lower part if the upper one is empty."""
    n = len(kept)

    @always_comb
    def choose():
        for i in range(n):
            kept.next[i] = bit[2 * i] if below[2 * i + 1] else bit[2 * i + 1]

    return choose
