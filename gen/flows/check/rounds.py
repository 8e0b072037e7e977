# SPDX-License-Identifier: Apache-2.0
"""Calls of a driver as data: laid into memory as steps, and what memory must hold afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from firmware_gen.targets.calls.product import Product, multiply
from gen.flows.check.firmware import Kind, KitStep, Memory


@dataclass(frozen=True)
class Call:
    """Rows `a`, float32 (M, K), of one product. gap: words between rows in memory; pause: of the CPU before, in cycles;
    scattered: a row's floats do not lie side by side, where the driver asks for them one by one."""

    a: np.ndarray
    gap: int = 0
    pause: int = 0
    scattered: bool = False


@dataclass(frozen=True)
class Round:
    """Weights b, int8 (K, N), and calls with them.

    gap: bytes between rows of b; shift: bytes from a multiple of 4 to b. depth: of the blocks of K whose products are
    added in the accelerator's sums, for a driver that keeps some; 0: K is one block. pause: before weights, in cycles.
    timed: its only call is a product by our loops, whose cycles are counted. reset: in 256ths of the round, when the
    accelerator is reset while it works, counted from behind the first weights where it is odd; the round is then done
    once before and once after that.
    """

    b: np.ndarray
    calls: tuple[Call, ...]
    gap: int = 0
    shift: int = 0
    depth: int = 0
    pause: int = 0
    timed: bool = False
    reset: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """M of all calls, K, N."""
        return (sum(len(call.a) for call in self.calls), *self.b.shape)

    @property
    def work(self) -> int:
        """A bound of the cycles that one step of it may take: of a bit-serial multiplier, and a CPU that converts."""
        m, k, n = self.shape
        return 20_000 + 32 * m * k * n + 200 * (m * k + k * n + m * n)


@dataclass(frozen=True)
class Result:
    """Where the product of `call` (numbers of round and call) lies, from the first array of the memory; `want`:
    float32 (M, N), None where it may be anything."""

    round: int
    call: int
    place: int
    want: np.ndarray | None


@dataclass
class Plan:
    """Rounds in memory. slow: how many times longer than usual a step may take."""

    memory: Memory
    slow: float
    results: list[Result] = field(default_factory=list)
    times: dict[int, int] = field(default_factory=dict)  # place by number of the round
    steps: list[int] = field(default_factory=list)  # round of every step


def plan(rounds: Sequence[Round], product: Product, sums: int, memory: Memory, slow: float) -> Plan:
    """Lay rounds into memory. sums: rows of sums that the driver keeps, 0 for one that multiplies rows."""
    made = Plan(memory, slow)
    for number, one in enumerate(rounds):
        _Layout(made, number, one, product, sums).lay()
    return made


class _Layout:
    """Lays one round into a plan."""

    def __init__(self, made: Plan, number: int, one: Round, product: Product, sums: int):
        self.made, self.number, self.one, self.sums = made, number, one, sums
        memory = made.memory
        self.columns, depth = one.b.shape[1], one.depth or len(one.b)
        self.blocks = [(start, min(depth, len(one.b) - start)) for start in range(0, len(one.b), depth)]
        self.pitch = self.columns + one.gap
        padding = ((0, 0), (0, one.gap))
        self.b = memory.put(np.pad(one.b, padding, constant_values=85), align=4, shift=one.shift)
        self.inputs = [_input(memory, call) for call in one.calls]
        blocked = Product(depth, product.width, product.compute)
        self.wanted = [multiply(blocked, call.a, one.b) for call in one.calls]

    def lay(self) -> None:
        one = self.one
        if one.timed:
            self.product()
        elif one.reset is not None:
            self.calls(Kind.BEGIN)
            self.made.times[self.number] = self.made.memory.leave(1)
            self.step(Kind.FINISH, c=self.made.times[self.number])
        else:
            self.calls()
        if one.reset is not None:
            self.calls(Kind.RESET, want=False)
            self.step(Kind.HELD)
            self.calls()

    def product(self) -> None:
        """The rows of the only call times b by our loops, which a network goes through; counted."""
        ((a, _, _),), (m, k, n) = self.inputs, self.one.shape
        place = self.made.memory.leave(m * n)
        self.made.results.append(Result(self.number, 0, place, self.wanted[0]))
        self.step(Kind.BEGIN)
        self.step(Kind.PRODUCT, a=a, b=self.b, c=place, rows=m, depth=k, columns=n)
        self.made.times[self.number] = self.made.memory.leave(1)
        self.step(Kind.FINISH, c=self.made.times[self.number])

    def calls(self, begin: Kind | None = None, want: bool = True) -> None:
        """The round's calls; `begin` is a step before them, or behind the first weights."""
        one, late = self.one, self.one.reset is not None and self.one.reset % 2
        if one.pause:
            self.step(Kind.PAUSE, rows=one.pause)
        places = []
        for number, call in enumerate(one.calls):
            places.append(self.made.memory.leave(len(call.a) * self.columns))
            self.made.results.append(Result(self.number, number, places[-1], self.wanted[number] if want else None))
        for start, depth in self.blocks:
            if begin and start == 0 and not late:
                self.step(begin, rows=one.reset or 0)
            self.step(Kind.LOAD, a=self.b + start * self.pitch, rows=depth, columns=self.columns, stride=self.pitch)
            if begin and start == 0 and late:
                self.step(begin, rows=one.reset or 0)
            slot = 0
            for call, (a, stride, offsets), c in zip(one.calls, self.inputs, places, strict=True):
                if call.pause:
                    self.step(Kind.PAUSE, rows=call.pause)
                if not self.sums:
                    self.step(Kind.MULTIPLY, a=a, rows=len(call.a), stride=stride, c=c)
                elif not one.depth:
                    self.stream(len(call.a), a, stride, offsets, c)
                else:
                    where = {"a": a, "offsets": offsets + 4 * start} if offsets else {"a": a + 4 * start}
                    self.step(Kind.PUSH, **where, rows=len(call.a), stride=stride, slot=slot, first=start == 0)
                slot += len(call.a)
        if one.depth:
            rows = [
                c + 4 * self.columns * i for call, c in zip(one.calls, places, strict=True) for i in range(len(call.a))
            ]
            for slot, c in reversed(list(enumerate(rows))):
                self.step(Kind.PULL, slot=slot, columns=self.columns, c=c)

    def stream(self, count: int, a: int, stride: int, offsets: int, c: int) -> None:
        """A product by way of the sums, as many rows at a time as there are."""
        for start in range(0, count, self.sums):
            rows = min(self.sums, count - start)
            self.step(Kind.PUSH, a=a + 4 * start * stride, rows=rows, stride=stride, first=1, offsets=offsets)
            for slot in range(rows):
                self.step(Kind.PULL, slot=slot, columns=self.columns, c=c + 4 * self.columns * (start + slot))

    def step(self, kind: Kind, **values: int) -> None:
        self.made.memory.steps.append(KitStep(kind, int(self.made.slow * self.one.work), **values))
        self.made.steps.append(self.number)


def _input(memory: Memory, call: Call) -> tuple[int, int, int]:
    """Place of a call's rows, words from one to the next, and place of the floats' offsets in a row or 0."""
    k = call.a.shape[1]
    order = np.random.default_rng(k).permutation(k) if call.scattered else np.arange(k)
    rows = np.zeros((len(call.a), k + call.gap), np.float32)
    rows[:, k:] = np.float32(np.nan)
    rows[:, order] = call.a
    return memory.put(rows), k + call.gap, memory.put(order.astype(np.int32)) if call.scattered else 0


@dataclass(frozen=True)
class Difference:
    """The first wrong thing in memory after a run: of a call, or what should not have changed."""

    round: int | None
    text: str


def compare(made: Plan, before: np.ndarray, after: np.ndarray, done: int) -> Difference | None:
    """Whether memory, uint8 before and after a run, holds the products of the rounds before number `done`, and all else
    as it was."""
    first = made.memory.first
    expected = before[first:].copy()
    found = after[first:]
    for result in made.results:
        part = slice(result.place, result.place + (0 if result.want is None else result.want.nbytes))
        if result.want is None or result.round >= done:
            continue
        expected[part] = np.ascontiguousarray(result.want, np.float32).reshape(-1).view(np.uint8)
        got = found[part].view(np.uint8)
        if not np.array_equal(got, expected[part]):
            return Difference(result.round, _words(result, np.frombuffer(got.tobytes(), np.uint32)))
    return _changed(made, expected, found, done)


def _changed(made: Plan, expected: np.ndarray, found: np.ndarray, done: int) -> Difference | None:
    free = np.zeros(len(expected), bool)
    for place in made.times.values():
        free[place : place + 4] = True
    for result in made.results:
        if result.want is None or result.round >= done:
            end = next((r.place for r in made.results if r.place > result.place), len(free))
            free[result.place : end] = True
    wrong = np.flatnonzero((expected != found) & ~free)
    if not len(wrong) or done <= max(made.steps):
        return None
    near = [r for r in made.results if r.place <= wrong[0]]
    where = f"{int(wrong[0]) - near[-1].place} bytes behind the start of a result" if near else "in its inputs"
    return Difference(
        near[-1].round if near else None,
        f"memory that belongs to no result was written, {where}; a driver writes m rows of n floats",
    )


def _words(result: Result, got: np.ndarray) -> str:
    assert result.want is not None
    want = np.ascontiguousarray(result.want, np.float32)
    wrong = int(np.flatnonzero(got != want.reshape(-1).view(np.uint32))[0])
    row, column = divmod(wrong, want.shape[1])
    a, b = got[wrong], want.reshape(-1).view(np.uint32)[wrong]
    return (
        f"c[{row}][{column}] is {shown(int(a))}, and {shown(int(b))} by the NumPy function; "
        f"{int(np.count_nonzero(got != want.reshape(-1).view(np.uint32)))} of {want.size} results differ"
    )


def shown(bits: int) -> str:
    """A float32 with its bits."""
    return f"{np.uint32(bits).view(np.float32):.9g} (0x{bits:08x})"
