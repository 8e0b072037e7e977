# SPDX-License-Identifier: Apache-2.0
"""Streams of weights and parameters in the cycle model, and the cutter that makes tiles of weights."""

from collections import deque
from collections.abc import Callable

from firmware_gen.targets.descriptor.timing.banks import ANYWHERE, ByBeat, Words
from firmware_gen.targets.descriptor.timing.plan import Plan
from hls.config import Config
from hls.descriptor.interface.timing import FIRST_PASS, PASS_HEAD, PASS_STORED, param_depth, weight_buffer

Beat = tuple[Words, int, Callable[[int], None]]
"""Banks and words of a request, and who wants to know the cycle of its answer."""


class Stage:
    """Something that descriptors are offered to."""

    def start(self, t: int, plan: Plan) -> None:
        raise NotImplementedError

    def is_free(self, plan: Plan, drain_free: bool, in_order: bool) -> bool:
        """Whether it takes the one on offer; ``in_order``: the drain has taken that, or does now."""
        raise NotImplementedError


class Pass(Stage):
    """`memory.passes`: a stream that is read once per strip, or once if it fits the FIFO of ``depth`` rows."""

    def __init__(self, ports: int, depth: int, row: int):
        self.ports, self.depth, self.row = ports, depth, row
        self.used = self.stored = self.place = self.begins = 0
        self.left = self.words = self.passes = self.strips = 0
        self.fits = False
        self.banks = ANYWHERE
        self.closing: deque[int] = deque()
        self.rows: deque[int] = deque()  # cycles from which they may be taken
        self.rows_per_pass = self.taken = self.older = 0

    def begin(self, t: int, words: int, strips: int, banks: ByBeat) -> None:
        self.begins, self.words, self.strips, self.banks = t + FIRST_PASS, words, strips, banks
        self.fits = 0 < words <= self.depth * self.row * self.ports
        self.passes = 0 if not words else 1 if self.fits else strips
        self.left = words
        self.place = 0
        self.rows_per_pass = -(-words // (self.ports * self.row))
        self.taken, self.older = 0, self.used

    def wants(self, t: int) -> bool:
        return self.passes > 0 and t >= self.begins and (self.place != 0 or self.used != self.depth)

    def is_free(self, plan: Plan, drain_free: bool, in_order: bool) -> bool:
        return not self.passes and not (self.fits and self.strips > 1)

    def accept(self, t: int) -> Beat:
        banks = self.banks[(self.words - self.left) // self.ports]
        if self.place == 0:
            self.used += 1
        self.place += 1
        self.left -= self.ports
        closes = self.place == self.row or self.left <= 0
        if closes:
            self.place = 0
        if self.left <= 0:
            self.left = self.words
            self.passes -= 1
        return banks, self.ports, self._row_answered if closes else self._answered

    def _row_answered(self, answer: int) -> None:
        self.closing.append(answer + PASS_STORED)

    def _answered(self, answer: int) -> None:
        pass

    def step(self, t: int) -> None:
        while self.closing and self.closing[0] <= t:
            self.closing.popleft()
            self.stored += 1
            self.rows.append(t + PASS_HEAD)

    def ready(self, t: int) -> bool:
        return bool(self.rows) and self.rows[0] <= t

    def take(self, t: int) -> None:
        self.rows.popleft()
        self.stored -= 1
        if self.older:
            self.older -= 1
            self.used -= 1
            return
        self.taken += 1
        keep = self.fits and self.strips > 1
        if not keep:
            self.used -= 1
        if keep and self.taken == self.rows_per_pass:
            self.taken = 0
            self.strips -= 1
            self.stored = self.rows_per_pass
            self.rows = deque([t + 1] * self.rows_per_pass)


class Params(Pass):
    """`memory.params`."""

    def __init__(self, config: Config):
        super().__init__(config.ports, param_depth(config), 1)

    def start(self, t: int, plan: Plan) -> None:
        self.begin(t, plan.param_words, plan.strips, plan.banks.params)

    def is_free(self, plan: Plan, drain_free: bool, in_order: bool) -> bool:
        return in_order and super().is_free(plan, drain_free, in_order)


class Weights(Pass):
    """The fetching side of `memory.weights`."""

    def __init__(self, config: Config):
        buffer = weight_buffer(config)
        super().__init__(config.ports, buffer.depth, buffer.row_beats)
        self.row_bytes, self.low_mark = buffer.row, buffer.low_mark
        self.urgent = True

    def start(self, t: int, plan: Plan) -> None:
        self.begin(t, plan.weight_words, plan.strips, plan.banks.weights)


class Cutter(Stage):
    """The cutting side of `memory.weights`: the byte gearbox between FIFO and array, and the shadow weights."""

    plan: Plan  # of the layer at work

    def __init__(self, config: Config, weights: Weights):
        buffer = weight_buffer(config)
        self.fifo, self.diagonal, self.refill = weights, config.diagonal, buffer.refill
        self.dense = [buffer.beat] * (buffer.load_beats - 1) + [buffer.last]
        self.banded = [self.diagonal] * buffer.load_beats
        self.need = self.dense
        self.coming: Plan | None = None  # of a layer that starts at the end of this cycle
        self.words_left = self.held = self.beat = self.tiles = self.strips = 0
        self.full = self.skip = self.begun = False

    def start(self, t: int, plan: Plan) -> None:
        self.coming = plan

    def is_free(self, plan: Plan, drain_free: bool, in_order: bool) -> bool:
        return not self.tiles and not self.skip

    def step(self, t: int, take: bool) -> None:
        need = self.need[self.beat]
        out = self.begun and self.tiles and not self.skip and self.held >= need and (not self.full or take)
        self.begun = True
        if take:
            self.full = False
        left = self.words_left
        put = left > 0 and self.held <= self.refill and self.fifo.ready(t)
        ended = out and self._leave(need)
        if put:
            self.fifo.take(t)
            self.held += self.fifo.row_bytes * (2 if self.plan.int4 else 1)
            self.words_left = max(0, left - self.fifo.row_bytes // 4)
        if ended or self.skip:
            self.held = 0
            if left == 0 and self.tiles:
                self.words_left = self.plan.weight_words
            self.skip = left != 0
        if self.coming:
            self._begin(self.coming)

    def _leave(self, need: int) -> bool:
        """A beat goes to the array; whether a strip's tiles end with it."""
        self.beat += 1
        last = self.beat == len(self.need)
        self.held -= need if last or not self.plan.banded else 0  # a banded tile is made of what stays until its end
        if not last:
            return False
        self.beat = 0
        self.full = True
        self.tiles -= 1
        if self.tiles:
            return False
        self.strips -= 1
        if self.strips:
            self.tiles = self.plan.tiles
        return True

    def _begin(self, plan: Plan) -> None:
        self.plan, self.coming = plan, None
        tile = [self.diagonal] if plan.diagonal else self.banded if plan.banded else self.dense
        self.need = [0] if plan.unit else tile
        self.strips, self.words_left, self.tiles = plan.strips, plan.weight_words, plan.tiles
        self.held = self.beat = 0
        self.begun = False
