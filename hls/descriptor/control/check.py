# SPDX-License-Identifier: Apache-2.0
"""Descriptor check: the rules of `rules` in hardware, while the words arrive; one multiplier does all products."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.descriptor.control.check_targets import target
from hls.descriptor.control.comparisons import (
    above,
    equals,
    is_not,
    more,
    not_one,
    on_chip,
    outside,
    reaches,
    same,
    unequal,
    without,
)
from hls.descriptor.interface import rules
from hls.descriptor.interface.job import FieldSignals
from hls.descriptor.interface.rules import PRODUCTS
from hls.descriptor.interface.table import FIELD, LINEAR
from hls.lib.mux import choose
from hls.lib.select import both
from hls.lib.unit import unit
from hls.lib.wiring import join, resize

_A, _B = LINEAR + 1, 17  # operands: both signed, so that Y0 may be negative


def schedule(ports: int, beats: int) -> list[int]:
    """Beat of every product: it is computed in the cycle in which this beat arrives, or, number ``beats``, follows.

    Operands wait in registers from the beat before on, but where that made the last product too late.
    """
    slots: list[int] = []
    last = -1
    for index, product in enumerate(PRODUCTS):
        available = rules.available(product, ports)
        first = max(available, min(available + 1, beats - len(PRODUCTS[index + 1 :])))
        assert product.left or first <= last + 1, "the product before is not the one of the beat before"
        last = max(last + 1, first)
        slots.append(last)
        if product.target == "PARAM_WORDS":
            assert last <= beats - 2, "judged a cycle later than others"
            assert last > FIELD["BAND"].word // ports, "banded is a register"
    assert last <= beats
    assert all(at > rules.available(product, ports) for at, product in zip(slots[1:], PRODUCTS[1:], strict=True))
    return slots


@unit(out="product")
def check_product(clk, en, a, b, product):
    """a * b, both signed, a cycle later; a unit, so that tools look at this multiplier alone, and once."""

    @always(clk.posedge)
    def multiply():
        if en:
            product.next = a.signed() * b.signed()

    return multiply


@block
def descriptor_check(clk, go, tick, beat, job, wrong, *, beats, config):
    """``wrong``: a rule is broken; valid from two cycles after the last ``tick`` on.

    ``tick``: in this cycle beat number ``beat`` of the descriptor arrives, or, last, number ``beats`` would.
    """
    banded, row = (Signal(bool(0)) for _ in range(2))  # registers: nobody needs them in the beat behind BAND
    fields, job = job, FieldSignals({**vars(job), "banded": banded})
    kept = rules.built(config)
    simple = [Signal(bool(0)) for _ in kept]
    broken = Signal(intbv(0)[len(simple) :])
    product_wrong, simple_wrong, last_wrong, fresh = (Signal(bool(0)) for _ in range(4))
    slots = schedule(config.ports, beats)
    # By beats: which product is computed with the beat behind, and whether that is its own; before, it is too early
    number_of = tuple(sum(at <= i for at in slots[:-1]) for i in range(1 << len(beat)))
    is_due = tuple(int(i + 1 in slots) for i in range(1 << len(beat)))
    is_chained = tuple(int(PRODUCTS[i].left is None) for i in number_of)
    left_names = list(dict.fromkeys(step.left for step in PRODUCTS if step.left))
    left_of = tuple(left_names.index(PRODUCTS[i].left) if PRODUCTS[i].left else 0 for i in number_of)
    number, following, computed = (Signal(modbv(0)[len(PRODUCTS).bit_length() :]) for _ in range(3))
    left_following = Signal(modbv(0)[len(left_names).bit_length() :])
    due, due_then, chaining, chaining_then, multiplying = (Signal(bool(0)) for _ in range(5))
    product = Signal(intbv(0, min=-(1 << _A + _B - 1), max=1 << _A + _B - 1))
    unsigned = Signal(modbv(0)[_A + _B :])
    a_following, a_word, chained = (Signal(modbv(0)[LINEAR:]) for _ in range(3))
    b_following, b_word, tile = (Signal(modbv(0)[_B:]) for _ in range(3))
    a, b = Signal(modbv(0)[_A:]), Signal(modbv(0)[_B:])
    lefts, rights, parts = {}, [], []
    dense_tile, row_tile = (rules.tile_weights(config, row) for row in (False, True))
    wrongs = [Signal(bool(0)) for _ in PRODUCTS]
    all_wrong, found_wrong = (Signal(intbv(0)[len(PRODUCTS) :]) for _ in range(2))
    for index, (step, bad) in enumerate(zip(PRODUCTS, wrongs, strict=True)):
        if step.left and step.left not in lefts:
            lefts[step.left] = Signal(modbv(0)[LINEAR:])
            parts.append(_operand(job, step.left, lefts[step.left], config))
        rights.append(Signal(modbv(0)[_B:]) if step.right else tile)
        if step.right:
            parts.append(_operand(job, step.right, rights[-1], config))
        here = Signal(bool(0))
        parts += [_is_here(computed, index, fresh, here), _judge(clk, job, step, here, unsigned, bad, config)]

    @always_comb
    def look_up():
        following.next = number_of[beat]

    @always_comb
    def look_up_left():
        left_following.next = left_of[beat]

    @always_comb
    def look_whether():
        due_then.next = is_due[beat]

    @always_comb
    def look_whether_chained():
        chaining_then.next = is_chained[beat]

    @always_comb
    def operands():
        unsigned.next = product[_A + _B :]
        chained.next = unsigned[LINEAR:]
        multiplying.next = tick and not go
        tile.next = dense_tile
        if row:
            tile.next = row_tile

    @always(clk.posedge)
    def multiply():
        fresh.next = tick and due
        computed.next = number
        if go:  # no product is as early as the first beat
            number.next = 0
            due.next = False
            chaining.next = False
        elif tick:
            number.next = following
            due.next = due_then
            chaining.next = chaining_then
            a_word.next = a_following
            b_word.next = b_following

    @always(clk.posedge)
    def collect():
        banded.next = fields.band != 0
        row.next = fields.diagonal or fields.band != 0
        simple_wrong.next = broken != 0
        found_wrong.next = all_wrong
        if go:
            product_wrong.next = False
        elif found_wrong != 0:
            product_wrong.next = True

    @always_comb
    def judge():
        wrong.next = simple_wrong or product_wrong or found_wrong != 0 or last_wrong

    return (
        parts,
        look_up,
        look_up_left,
        look_whether,
        operands,
        look_whether_chained,
        multiply,
        collect,
        judge,
        choose([lefts[name] for name in left_names], left_following, a_following),
        choose(rights, following, b_following),
        _operands(chaining, a_word, b_word, chained, a, b)
        if slots[0] > rules.available(PRODUCTS[0], config.ports)
        else _operands_at_once(
            number=number,
            first_left=lefts[PRODUCTS[0].left],
            first_right=rights[0],
            chaining=chaining,
            left=a_word,
            right=b_word,
            chained=chained,
            a=a,
            b=b,
        ),
        check_product(clk=clk, en=multiplying, a=a, b=b, product=product),
        [_rule(clk, job, rule, out, config) for rule, out in zip(kept, simple, strict=True)],
        join(simple, broken),
        join(wrongs, all_wrong),
        same(wrongs[-1], last_wrong) if slots[-1] == beats else (),
    )


@block
def _operands(chaining, left, right, chained, a, b):
    """Of the multiplier: what waited, or on the left the product before."""

    @always_comb
    def take():
        a.next = concat(False, left)
        if chaining:
            a.next = concat(False, chained)
        b.next = right

    return take


@block
def _operands_at_once(number, first_left, first_right, chaining, left, right, chained, a, b):
    """`_operands`, but those of the first product had no beat to wait in."""
    to_left, to_right = Signal(modbv(0)[LINEAR:]), Signal(modbv(0)[_B:])

    @always_comb
    def choose_first():
        to_left.next = left
        to_right.next = right
        if number == 0:
            to_left.next = first_left
            to_right.next = first_right

    return choose_first, _operands(chaining, to_left, to_right, chained, a, b)


@block
def _operand(job, name, word, config):
    """A field in the width of ``word``, with its sign; of what is at most the entries of a bank, their bits alone."""
    source, bits = getattr(job, name.lower()), config.accumulator_entries.bit_length()
    if any(step.target == "entries" and name in (step.left, step.right) for step in PRODUCTS) and bits < len(source):
        low = Signal(modbv(0)[bits:])

        @always_comb
        def cut():
            low.next = source[bits:]

        return cut, resize(low, word)
    if source.min == 0:
        return resize(source, word)
    sign = len(source) - 1

    @always_comb
    def extend():
        word.next = concat(source[sign], source[sign + 1 :])

    return extend


@block
def _judge(clk, job, step, here, product, bad, config):
    """Whether ``product``, when it is that of ``step``, breaks its rule; of PARAM_WORDS, a cycle later."""
    over, broken, flag = (Signal(bool(0)) for _ in range(3))
    parts = []
    if step.chained:
        parts.append(above(product, LINEAR + 2 * (step.right is None), len(product), over))
    if step.target:
        parts += [target(clk, job, step, product, broken, config), _unless(job, step, broken, flag, config)]
    if step.target == "PARAM_WORDS":
        here_then, over_then = Signal(bool(0)), Signal(bool(0))

        @always(clk.posedge)
        def wait():
            here_then.next = here
            over_then.next = over

        @always_comb
        def judge_later():
            bad.next = here_then and (over_then or flag)

        return parts, wait, judge_later

    @always_comb
    def judge():
        bad.next = here and (over or flag)

    return parts, judge


@block
def _is_here(number, index, fresh, here):
    @always_comb
    def compare():
        here.next = fresh and number == index

    return compare


@block
def _unless(job, step, broken, flag, config):
    """``flag``: broken, and the step's exemption does not hold."""
    if isinstance(step.unless, str):
        if step.unless:
            return without(broken, getattr(job, step.unless.lower()), flag)
        return same(broken, flag)
    counts = Signal(bool(0))
    return _rule(None, job, step.unless, counts, config), both(broken, counts, flag)


@block
def _rule(clk, job, rule, out, config):
    """Whether a rule of one or two fields is broken."""

    def field(name):
        return getattr(job, name.lower())

    def flag(name):
        return job.banded if name == "BAND" else field(name)

    match rule:
        case rules.NotZero():
            return equals(field(rule.name), 0, out)
        case rules.AtMost():
            return more(field(rule.name), field(rule.bound) if rule.bound else config.accumulator_entries, out)
        case rules.Below():
            return reaches(field(rule.name), field(rule.bound), out)
        case rules.Excludes():
            return both(flag(rule.flag), flag(rule.other), out)
        case rules.Requires():
            return without(flag(rule.flag), flag(rule.other), out)
        case rules.Needs():  # of an option that is missing: others are always kept
            return same(flag(rule.flag), out)
        case rules.Within():
            return outside(field(rule.name), rule.low, rule.high, flag(rule.flag), out)
        case rules.OffChip():
            return on_chip(field(f"{rule.name}_region"), flag(rule.flag), out)
        case rules.IsOne():
            if rule.flag:
                return not_one(field(rule.name), flag(rule.flag), out)
            return is_not(field(rule.name), 1, out)
        case rules.Equals():
            return unequal(field(rule.name), field(rule.other), flag(rule.flag), out)
        case rules.InColumns():
            return outside(field(rule.name), 1, config.cols, flag(rule.flag), out)
        case rules.OneInBanks():
            return not_one(field(rule.name)((config.banks - 1).bit_length(), 0), flag(rule.flag), out)
        case rules.Blocks():
            sizes = [rule.size(config, diagonal) for diagonal in (False, True)]
            wrong = Signal(bool(0))
            return (
                _not_blocks(clk, field(rule.count), field(rule.length), job.diagonal, *sizes, wrong),
                without(wrong, flag(rule.unless), out) if rule.unless else same(wrong, out),
            )


@block
def _not_blocks(clk, count, length, diagonal, dense_size, diagonal_size, out):
    width = max(len(length), len(count) + max(dense_size, diagonal_size).bit_length()) + 1
    size, blocks, total, words, surplus = (Signal(modbv(0)[width:]) for _ in range(5))

    @always_comb
    def sizes():
        size.next = dense_size
        if diagonal:
            size.next = diagonal_size

    @always(clk.posedge)
    def measure():
        total.next = blocks * size

    @always_comb
    def compare():
        surplus.next = total - words

    @always_comb
    def judge():
        out.next = surplus >= size

    return resize(count, blocks), resize(length, words), sizes, measure, compare, judge
