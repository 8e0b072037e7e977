# SPDX-License-Identifier: Apache-2.0
"""Selection of one of many words by index, as a balanced tree of two-way multiplexers."""

from myhdl import Signal, always_comb, block, intbv


@block
def choose(parts, index, out):
    """``out`` is parts[index]; a part that is None or beyond the end reads 0 and costs nothing."""
    levels, children = [list(parts)], []
    while len(levels[-1]) > 1:
        below, level, bit = levels[-1], [], len(levels) - 1
        pairs = [(below[i], below[i + 1] if i + 1 < len(below) else None) for i in range(0, len(below), 2)]
        for low, high in pairs:
            both = Signal(intbv(0)[len(out) :]) if low is not None or high is not None else None
            if both is not None:
                children.append(_either(low, high, index, bit, both))
            level.append(both)
        levels.append(level)
    return children, _guard(levels[-1][0], index, len(levels) - 1, out)


@block
def _either(low, high, index, bit, out):
    if high is None:

        @always_comb
        def take_low():
            out.next = 0 if index[bit] else low

        return take_low
    if low is None:

        @always_comb
        def take_high():
            out.next = high if index[bit] else 0

        return take_high

    @always_comb
    def take():
        out.next = high if index[bit] else low

    return take


@block
def _guard(word, index, bits, out):
    """Index bits above those the tree looks at must be 0."""
    if bits >= len(index):

        @always_comb
        def same():
            out.next = word

        return same

    @always_comb
    def guard():
        out.next = 0
        if index[len(index) : bits] == 0:
            out.next = word

    return guard
