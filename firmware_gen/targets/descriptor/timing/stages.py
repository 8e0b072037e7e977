# SPDX-License-Identifier: Apache-2.0
"""Stages of the cycle model between buffers and memory: load engine, sequencer, drain, aux reader, store.

``t`` is the cycle. `start` is the cycle of the start pulse, in which the plan becomes the stage's.
"""

from collections import deque
from collections.abc import Callable

from firmware_gen.architectures.contract import WAITS
from firmware_gen.targets.descriptor.timing.plan import (
    GROUP_FIRST,
    GROUP_LAST,
    STEP_FIRST,
    STEP_LAST,
    STRIP_LAST,
    SWAP,
    Plan,
)
from firmware_gen.targets.descriptor.timing.streams import Beat, Cutter, Params, Stage
from hls.arithmetic.accumulator import ACC_LATENCY
from hls.config import Config
from hls.descriptor.interface.rules import activation_room
from hls.descriptor.interface.timing import (
    AUX_BEATS,
    AUX_READY,
    FIRST_AUX,
    FIRST_BEAT,
    FIRST_LOAD,
    FIRST_TABLE,
    FIRST_VECTOR,
    HALF_BANKS,
    LOADED,
    RELEASED,
    REQUESTS,
    SCRATCHPAD_MARK,
    STORED,
    TABLE_READY,
    read_to_store,
    store_beats,
    vector_to_drain,
)


class Counts:
    """What the performance counters have counted, and what the array has waited for."""

    def __init__(self) -> None:
        self.vectors = self.load_stall = self.store_stall = self.words = 0
        self.waits = dict.fromkeys(WAITS, 0)


class Load(Stage):
    """`memory.load`: asks for the layers' words in order; ``loaded`` may be read."""

    plan: Plan  # of the layer at work

    def __init__(self, config: Config):
        self.ports, self.room = config.ports, activation_room(config)
        self.begins = self.chunks_left = self.chunk_left = self.layer_asked = 0
        self.beat = 0  # of the request that waits
        self.number = 0  # of the next request, in its layer
        self.asked = self.loaded = self.released = 0
        self.on_way: deque[int] = deque()  # positions behind the beats that are due
        self.arrivals: deque[tuple[int, int]] = deque()
        self.leaving: deque[tuple[int, int]] = deque()

    def start(self, t: int, plan: Plan) -> None:
        self.plan, self.begins = plan, t + FIRST_LOAD
        self.chunks_left, self.chunk_left, self.layer_asked = plan.load_words // plan.chunk, plan.chunk, 0
        self.number = 0

    def is_free(self, plan: Plan, drain_free: bool, in_order: bool) -> bool:
        return not self.chunks_left and self.loaded == self.asked

    def step(self, t: int) -> None:
        while self.arrivals and self.arrivals[0][0] <= t:
            self.loaded = self.arrivals.popleft()[1]
        while self.leaving and self.leaving[0][0] <= t:
            self.released = self.leaving.popleft()[1]

    def accept(self, t: int) -> Beat:
        beat, self.beat = self.beat, 0
        self.on_way.append(self.asked)
        return self.plan.banks.load[self.number - 1], beat, self.answered

    def answered(self, answer: int) -> None:
        self.arrivals.append((answer + LOADED, self.on_way.popleft()))

    def may_ask(self, t: int) -> bool:
        """Whether there are words to ask for, and there is room for a beat."""
        return not self.beat and self.chunks_left > 0 and t >= self.begins and self.asked - self.released <= self.room

    def request(self, opened: bool, available: int) -> None:
        """The next beat, for the bus in the next cycle, if its words exist."""
        plan = self.plan
        beat = words = min(self.ports, self.chunk_left - plan.gap)
        if not opened and self.layer_asked + beat > available:
            return
        if self.chunk_left == beat + plan.gap:  # what is passed over comes with the last beat
            words = self.chunk_left
        self.beat = beat
        self.number += 1
        self.asked += words
        self.layer_asked += words
        self.chunk_left -= words
        if not self.chunk_left:
            self.chunk_left = plan.chunk
            self.chunks_left -= 1


class Sequencer(Stage):
    """`control.sequencer`; ``finished``: cycles in which accumulator banks are ready to drain, ``banks``: free ones;
    ``drained``: a beat was read of one in the cycle before. Vectors that wait for nothing are counted with the one
    before them; it ``resumes`` after these."""

    plan: Plan  # of the layer at work

    def __init__(self, config: Config, load: Load, cutter: Cutter, counts: Counts):
        self.load, self.cutter, self.counts = load, cutter, counts
        self.config = config
        self.vector = self.total = self.begins = self.go_at = self.step_vectors = self.strip = 0
        self.base = self.released = self.resumes = self.run_end = self.run_need = 0
        self.banks = HALF_BANKS
        self.acc_init = self.busy = self.drained = False
        self.halved = (False, False)  # the last two groups
        self.finished: deque[int] = deque()

    def start(self, t: int, plan: Plan) -> None:
        self.plan, self.begins = plan, t + FIRST_VECTOR
        self.vector, self.total, self.strip, self.base = 0, len(plan.needs), 0, self.released
        if plan.acc_init:
            self.banks = HALF_BANKS - 2
        elif self.acc_init:
            self.banks = HALF_BANKS
        self.acc_init = plan.acc_init

    def is_free(self, plan: Plan, drain_free: bool, in_order: bool) -> bool:
        return not self.busy and (in_order or not (plan.acc_init or self.acc_init))

    def step(self, t: int) -> bool:
        """Issue a vector if it may be; whether it takes a tile."""
        vector = self.vector
        self.busy = vector < self.total
        if not self.busy or t < self.begins:
            self.counts.waits["start"] += 1
            return False
        flags, need = self.plan.flags[vector], self.plan.needs[vector]
        missing = need and need + self.base > self.load.loaded
        if missing or (flags & SWAP and not self.cutter.full):
            self.counts.load_stall += 1
            self.counts.waits["data" if missing else "weights"] += 1
            return False
        if flags & STEP_FIRST and self.banks < self._banks_for(flags):
            self.counts.store_stall += 1
            self.counts.waits["lanes" if self.drained else "drain"] += 1
            return False
        if flags & STEP_FIRST and not flags & GROUP_FIRST and t < self.go_at:
            self.counts.waits["sums"] += 1
            return False
        count = 1
        if flags:
            self.run_end, self.run_need = self.plan.runs[vector]
        if not self.run_need or self.run_need + self.base <= self.load.loaded:
            count = self.run_end - vector
            self.resumes = t + count
        self.vector += count
        self.counts.vectors += count
        self.step_vectors += 1
        if flags:
            self._follow(t, flags)
        self.step_vectors += count - 1
        return bool(flags & SWAP)

    def ahead(self, t: int) -> int:
        """Vectors that are counted and come after this cycle."""
        return max(0, self.resumes - 1 - t)

    def _banks_for(self, flags: int) -> int:
        """Half banks that must be free: for a second step all but those of two groups, since it reads its memory."""
        if not flags & GROUP_FIRST:
            return HALF_BANKS - 2
        return 1 if self.plan.halves and self.halved[0] else HALF_BANKS - 1

    def _follow(self, t: int, flags: int) -> None:
        if flags & GROUP_FIRST:
            self.banks -= 1
            self.halved = (self.halved[1], self.plan.halves)
        if flags & GROUP_LAST:
            self.finished.append(t + vector_to_drain(self.config, self.step_vectors))
        if flags & STEP_LAST:
            self.go_at = t + 1 + max(0, ACC_LATENCY - self.step_vectors)
            self.step_vectors = 0
        if flags & STRIP_LAST:
            self.released = self.base + self.plan.releases[self.strip]
            self.load.leaving.append((t + RELEASED, self.released))
            self.strip += 1


class Store:
    """The store side's requests, and what becomes of them: ``available`` words of the next input are stored."""

    plan: Plan  # of the layer at work

    def __init__(self, config: Config) -> None:
        self.room = self.places = store_beats(config)
        self.latency = 0
        self.results: deque[tuple[int, int]] = deque()  # cycle, beat of `Plan.stores`
        self.returns: deque[tuple[int, bool]] = deque()
        self.marks: deque[int] = deque()  # of beats that the scratchpad has accepted
        self.issued = self.pending = self.available = self.freed = 0

    def start(self, t: int, plan: Plan) -> None:
        self.plan, self.issued, self.available = plan, 0, plan.mark_base
        self.latency = read_to_store(plan.function)

    def step(self, t: int) -> None:
        self.room += self.freed
        self.freed = 0
        while self.returns and self.returns[0][0] <= t:
            if self.returns.popleft()[1]:
                self.available += self.plan.mark_words
            self.pending -= 1
        while self.marks and self.marks[0] <= t:
            self.marks.popleft()
            self.available += self.plan.mark_words

    def read(self, t: int) -> None:
        """An accumulator entry's beat is read."""
        self.room -= 1
        self.results.append((t + self.latency, self.issued))
        self.issued += 1

    def asks(self, t: int) -> bool:
        return bool(self.results) and self.results[0][0] <= t

    def accept(self, t: int) -> Beat:
        number = self.results.popleft()[1]
        words, marked = self.plan.stores[number]
        self.freed = 1
        return self.plan.banks.store[number], words, self.due(bool(marked and self.plan.mark_words))

    def accept_on_chip(self, t: int) -> None:
        if self.plan.stores[self.results.popleft()[1]][1] and self.plan.mark_words:
            self.marks.append(t + SCRATCHPAD_MARK + STORED)
        self.freed = 1

    def all_accepted(self) -> bool:
        return self.room == self.places

    def due(self, marked: bool) -> Callable[[int], None]:
        """Who hears of the answer to a beat, of a profile record too."""
        self.pending += 1
        return self._marked if marked else self._unmarked

    def _marked(self, answer: int) -> None:
        self.returns.append((answer + STORED, True))

    def _unmarked(self, answer: int) -> None:
        self.returns.append((answer + STORED, False))


class Aux:
    """`drain.aux_reader`: a function's table, then residual beats, or initial values for banks that are free."""

    plan: Plan  # of the layer at work

    def __init__(self, sequencer: Sequencer):
        self.sequencer = sequencer
        self.beats: deque[int] = deque()  # cycles from which they may be used
        self.room = AUX_BEATS
        self.queue: deque[int] = deque()  # cycles from which requests are on offer
        self.left = self.unasked = self.begins = self.bank_left = 0
        self.table_asks = self.table_due = self.table_ready = 0
        self.blocks: deque[tuple[int, bool]] = deque()
        self.banks = 2

    def start(self, t: int, plan: Plan) -> None:
        self.plan, self.begins = plan, t + (FIRST_TABLE if plan.table_beats else FIRST_AUX)
        self.table_asks = self.table_due = plan.table_beats
        self.table_ready = t
        self.left = self.unasked = plan.beats if plan.residual or plan.acc_init else 0
        self.blocks = deque(plan.blocks if plan.acc_init else ())
        self.bank_left, self.banks = plan.blocks[0][0], 2

    def asks(self, t: int) -> bool:
        if self.table_due:
            return bool(self.table_asks and t >= self.begins)
        return bool(self.queue) and self.queue[0] <= t

    def ask(self, t: int) -> None:
        """Queue a request for which there is room, once its table is there."""
        if self.room and len(self.queue) < REQUESTS and t + 1 >= self.begins and not self.table_due:
            self.unasked -= 1
            self.room -= 1
            self.queue.append(t + 1)

    def on_chip(self) -> bool:
        """Whether the scratchpad has what is asked for."""
        return self.plan.aux_chip and not self.table_due

    def accept(self, t: int) -> Beat:
        if self.table_due:
            banks = self.plan.banks.table[self.plan.table_beats - self.table_asks]
            self.table_asks -= 1
            return banks, self.plan.table_words, self._table_answered
        number = self.plan.beats - self.left
        self.left -= 1
        self.queue.popleft()
        return self.plan.banks.aux[number], self.plan.stores[number][0], self.answered

    def answered(self, answer: int) -> None:
        self.beats.append(answer + AUX_READY)

    def _table_answered(self, answer: int) -> None:
        self.table_due -= 1
        if not self.table_due:
            self.begins, self.table_ready = answer + FIRST_AUX, answer + TABLE_READY

    def ready(self, t: int) -> bool:
        return bool(self.beats) and self.beats[0] <= t

    def table_is_there(self, t: int) -> bool:
        return not self.table_due and self.table_ready <= t

    def take(self) -> None:
        self.beats.popleft()
        self.room += 1

    def initialise(self, t: int, freed: int) -> None:
        """Write a beat to a free bank; one that is complete is the sequencer's."""
        if self.banks and self.ready(t):
            self.take()
            self.bank_left -= 1
            if not self.bank_left:
                if self.blocks.popleft()[1]:
                    self.sequencer.banks += 1
                    self.banks -= 1
                self.bank_left = self.blocks[0][0] if self.blocks else 0
        self.banks += freed


class Drain(Stage):
    """`drain.drain`: reads a beat of a finished bank per cycle."""

    plan: Plan  # of the layer at work

    def __init__(self, sequencer: Sequencer, params: Params, aux: Aux, store: Store):
        self.sequencer, self.params, self.aux, self.store = sequencer, params, aux, store
        self.blocks: list[tuple[int, bool]] = []
        self.begins = self.block = self.block_left = self.full = 0
        self.param_blocks = self.param_beats = 0
        self.issues = self.initialises = False

    def start(self, t: int, plan: Plan) -> None:
        self.plan, self.begins, self.blocks = plan, t + FIRST_BEAT, plan.blocks
        self.initialises = plan.acc_init
        self.block, self.block_left = 0, plan.blocks[0][0]
        self.param_blocks = self.param_beats = 0
        self.aux.start(t, plan)
        self.store.start(t, plan)

    def is_free(self, plan: Plan, drain_free: bool, in_order: bool) -> bool:
        return drain_free

    def walked(self) -> bool:
        return self.block == len(self.blocks)

    def decide(self, t: int) -> None:
        """Whether a beat is read in this cycle."""
        finished = self.sequencer.finished
        while finished and finished[0] <= t:
            finished.popleft()
            self.full += 1
        self.issues = bool(
            self.full
            and self.store.room
            and self.block < len(self.blocks)
            and t >= self.begins
            and (self.param_blocks or self.plan.uniform)
            and (not self.plan.residual or self.aux.ready(t))
            and self.aux.table_is_there(t)
        )
        self.sequencer.drained = self.issues

    def step(self, t: int) -> None:
        takes = self.param_blocks != 2 and self.params.ready(t)
        freed = self.read_beat(t) if self.issues else 0
        if takes:
            self.params.take(t)
            self.param_beats += 1
            if self.param_beats == self.plan.param_block:
                self.param_beats = 0
                self.param_blocks += 1
        if self.initialises:
            self.aux.initialise(t, freed)
        else:
            self.sequencer.banks += freed

    def read_beat(self, t: int) -> int:
        """The beat is read; how many banks it frees."""
        self.store.read(t)
        if self.plan.residual:
            self.aux.take()
        self.block_left -= 1
        if self.block_left:
            return 0
        freed = int(self.blocks[self.block][1])
        self.full -= freed
        self.block += 1
        if not self.plan.uniform:
            self.param_blocks -= 1
        if self.block < len(self.blocks):
            self.block_left = self.blocks[self.block][0]
        return freed
