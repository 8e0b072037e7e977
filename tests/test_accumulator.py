# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
from fp32_reference import NAN, bus, fma_exact, fp32_bits, is_nan, random_bits, simulate, verilate_and_run
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hls.arithmetic.accumulator import ACC_LATENCY, accumulate_model, accumulators, last_to_done

CLOSE = np.array(
    [0, 0x80000000, 0x3F800000, 0x3F800001, 0xBF800000, 0xBF800001, 0x7F800000, 0xFF800000, NAN, 0xFFC00001], np.uint32
)


def order(x):
    """Key that sorts FP32 patterns by value, both zeros alike."""
    return -(x & 0x7FFFFFFF) if x >> 31 else x & 0x7FFFFFFF


def expected_entry(acc, x, first, max_mode):
    """One operation in plain integers, independent of NumPy's floating point."""
    if first:
        return NAN if is_nan(x) else x
    if not max_mode:
        return fma_exact(x, 1, acc)
    if is_nan(x) or is_nan(acc):
        return NAN
    return x if order(x) > order(acc) else acc


def grouped(ports):
    """Ports by name, those of an interface as one."""
    groups = {"init": SimpleNamespace(), "drain": SimpleNamespace()}
    for name, signal in ports.items():
        group, _, member = name.partition("_")
        if group in groups:
            setattr(groups[group], member, signal)
    return {name: s for name, s in ports.items() if name.split("_")[0] not in groups} | groups


class Traffic:
    """Legal random input of `accumulators` cycle by cycle, and what must come out.

    Phase after phase accumulates in alternating banks; meanwhile the other bank is drained, from the very cycle
    of its bank_done, and some of its entries are initialised for the next phase. Half of the phases end with a step
    over their entries, and are then drained in order; while they are, the next but one may write the other half.
    """

    def __init__(self, seed, cols, entries, phases=6, length=40):
        self.rng = np.random.default_rng(seed)
        self.cols, self.entries, self.bits = cols, entries, (entries - 1).bit_length()
        self.inputs = {
            "rst": 1,
            "valid": 1,
            "addr": self.bits,
            "bank": 1,
            "first": 1,
            "max_mode": 1,
            "last": 1,
            "many": 1,
            "col_data": 32 * cols,
            "init_valid": cols,
            "init_bank": 1,
            "init_addr": self.bits,
            "init_data": 32 * cols,
            "drain_valid": 1,
            "drain_bank": 1,
            "drain_addr": self.bits,
        }
        self.outputs = {"bank_done": 1, "drain_data": 32 * cols}
        self.cycles = 10 + phases * (3 * length + 3 * entries + cols + 40)
        self.columns = self._noise()
        self.done, self.drained = [], {}
        content = [[[None] * cols for _ in range(entries)] for _ in range(2)]
        start, free = 2, [2, 2]
        for phase in range(phases):
            bank = phase % 2
            entry_of_bank = content[bank]
            start = self._initialise(max(start, free[bank]), bank, entry_of_bank)
            step = int(self.rng.integers(1, self.entries // 2 + 1)) if self.rng.random() < 0.5 else 0
            last, entry = self._operate(start, bank, entry_of_bank, length, ends=not step)
            if step:
                last = self._step(last + ACC_LATENCY, bank, entry_of_bank, step)
            done = last + last_to_done(cols, step)
            self.done.append(done)
            order = range(step) if step else [entry, *self.rng.permutation(entries)]
            free[bank] = self._drain(done, bank, entry_of_bank, order)
            start = last + 1
            if step:
                self._write_above(done, free[bank] - ACC_LATENCY - cols, bank, entry_of_bank)
        self.used = max(free) + 2

    def _noise(self):
        columns = {name: self.rng.integers(0, 1 << min(width, 32), self.cycles) for name, width in self.inputs.items()}
        for name in ("col_data", "init_data"):
            shape = self.cycles, self.cols
            any_bits = random_bits(self.rng, self.cycles * self.cols).reshape(shape)
            columns[name] = np.where(self.rng.random(shape) < 0.4, self.rng.choice(CLOSE, shape), any_bits)
        for name in ("rst", "valid", "init_valid"):
            columns[name][:] = 0
        columns["rst"][:2] = 1
        return columns

    def _set(self, cycle, **values):
        for name, value in values.items():
            self.columns[name][cycle] = value

    def _initialise(self, cycle, bank, content):
        for _ in range(self.rng.integers(0, self.entries)):
            entry, lanes = self.rng.integers(self.entries), self.rng.integers(1, 1 << self.cols)
            self._set(cycle, init_valid=lanes, init_bank=bank, init_addr=entry)
            for c in range(self.cols):
                if lanes >> c & 1:
                    content[entry][c] = int(self.columns["init_data"][cycle, c])
            cycle += 1
        return cycle

    def _operate(self, cycle, bank, content, length, ends):
        max_mode = self.rng.random() < 0.5
        busy = [-ACC_LATENCY] * self.entries
        hot = self.rng.integers(1, self.entries + 1)  # few entries: many at the minimum distance
        for n in range(length):
            entry = int(self.rng.integers(hot))
            cycle = self._idle(max(cycle + int(self.rng.integers(0, 3) == 0), busy[entry] + ACC_LATENCY))
            busy[entry] = cycle
            first = None in content[entry] or self.rng.random() < 0.1
            last = ends and n == length - 1
            self._set(cycle, valid=1, addr=entry, bank=bank, first=first, max_mode=max_mode, last=last, many=0)
            for c in range(self.cols):
                x = int(self.columns["col_data"][cycle + c, c])
                content[entry][c] = expected_entry(content[entry][c], x, first, max_mode)
            cycle += 1
        return cycle - 1, entry

    def _step(self, cycle, bank, content, entries):
        """Sums of so many entries, in order; in a row, or with pauses."""
        for entry in range(entries):
            first, last = None in content[entry], entry == entries - 1
            cycle = self._idle(cycle)
            self._set(cycle, valid=1, addr=entry, bank=bank, first=first, max_mode=0, last=last)
            self._set(cycle, many=entries >= ACC_LATENCY)
            at = cycle
            for c in range(self.cols):
                x = int(self.columns["col_data"][cycle + c, c])
                content[entry][c] = expected_entry(content[entry][c], x, first, False)
            cycle += 1 + int(self.rng.integers(0, 4) == 0)
        return at

    def _idle(self, cycle):
        """The first cycle from this one on without an operation."""
        while self.columns["valid"][cycle]:
            cycle += 1
        return cycle

    def _write_above(self, cycle, end, bank, content):
        """First sums in the upper half of a bank whose lower one is drained."""
        while cycle < end:
            if not self.columns["valid"][cycle] and self.rng.random() < 0.5:
                entry = int(self.rng.integers(self.entries // 2, self.entries))
                self._set(cycle, valid=1, addr=entry, bank=bank, first=1, max_mode=0, last=0)
                for c in range(self.cols):
                    content[entry][c] = expected_entry(None, int(self.columns["col_data"][cycle + c, c]), True, False)
            cycle += 1

    def _drain(self, cycle, bank, content, order):
        for entry in order:
            self._set(cycle, drain_valid=1, drain_bank=bank, drain_addr=entry)
            self.drained[cycle + 1] = list(content[entry])
            cycle += 1 + int(self.rng.integers(0, 4) == 0)
        return cycle

    def check(self, bank_done, drain_data):
        assert list(np.flatnonzero(bank_done[2:]) + 2) == sorted(self.done)
        for cycle, expected in self.drained.items():
            for got, value in zip(drain_data[cycle], expected, strict=True):
                assert value is None or got == value, (cycle, hex(got), hex(value))


def pack(words):
    return sum(int(w) << 32 * i for i, w in enumerate(words))


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 1 << 32), st.integers(1, 5), st.sampled_from([16, 32]))
def test_myhdl(seed, cols, entries):
    traffic = Traffic(seed, cols, entries, phases=3, length=30)
    rows = zip(
        *(
            ([pack(v) for v in values] if values.ndim == 2 else values)[: traffic.used]
            for values in traffic.columns.values()
        ),
        strict=True,
    )

    def make(clk, **ports):
        return accumulators(clk, **grouped(ports), cols=cols, entries=entries)

    done, data = zip(*simulate(make, traffic.inputs, traffic.outputs, list(rows)), strict=True)
    lanes = [[d >> 32 * c & 0xFFFFFFFF for c in range(cols)] for d in data]
    traffic.check(np.array(done), lanes)


@pytest.mark.parametrize(("cols", "entries"), [(1, 16), (2, 32), (7, 64)])
def test_verilog(cols, entries, tmp_path):
    traffic = Traffic(cols, cols, entries, phases=40, length=100)
    vectors = np.concatenate([np.atleast_2d(v.T).T.reshape(traffic.cycles, -1) for v in traffic.columns.values()], 1)[
        : traffic.used
    ]
    ports = {name: bus(width) for name, width in {**traffic.inputs, **traffic.outputs}.items()}
    dut = accumulators(bus(1), **grouped(ports), cols=cols, entries=entries)
    got = verilate_and_run(dut, traffic.inputs, traffic.outputs, vectors, tmp_path)
    traffic.check(got[:, 0], got[:, 1:])


@settings(max_examples=3000, deadline=None)
@given(fp32_bits(), fp32_bits(), st.booleans(), st.booleans())
def test_model(acc, x, first, max_mode):
    got = int(accumulate_model(acc, x, first, max_mode))
    expected = expected_entry(acc, x, first, max_mode)
    assert got == expected


def test_model_broadcasts_first():
    acc, x = np.zeros((3, 4), np.uint32), np.full((3, 4), 0xFFC00001, np.uint32)
    assert (accumulate_model(acc, x, True, True) == NAN).all()
