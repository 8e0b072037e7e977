# SPDX-License-Identifier: Apache-2.0
"""Cycle model of the accelerator: how long the descriptors of a list take, and where they wait.

Steps the stages of `hls/` cycle by cycle through a list of descriptors, as far as they decide when a bus beat, a
vector, a weight tile or a store may go; no data are computed. Memory is assumed to answer without wait states. Cycle
0 is the doorbell.
"""

from dataclasses import dataclass

from firmware_gen.targets.descriptor.timing.banks import ANYWHERE, UNCONTENDED, Places, beats_of, sharing
from firmware_gen.targets.descriptor.timing.crossbar import Ports, Uncontended
from firmware_gen.targets.descriptor.timing.plan import Plan
from firmware_gen.targets.descriptor.timing.stages import Aux, Counts, Drain, Load, Sequencer, Store
from firmware_gen.targets.descriptor.timing.streams import Beat, Cutter, Params, Stage, Weights
from hls.config import Config
from hls.descriptor.interface.table import PROFILE_RECORD, WORDS, Linked
from hls.descriptor.interface.timing import FETCH_ASKED, FETCH_CHECKED, NEXT, RECORD, SCRATCHPAD_LATENCY, fetch_beats

NEVER = 1 << 62


@dataclass(frozen=True)
class Estimate:
    """What the counters say of a layer: cycles since the one before was complete, vectors, how often one waited; and
    how often for what, by `WAITS`."""

    cycles: int
    vectors: int
    load_stall: int
    store_stall: int
    bus_words: int
    waits: tuple[int, ...] = ()


class Fetch:
    """`control.fetch`: the descriptor that is ``ready_at`` some cycle."""

    def __init__(self, config: Config):
        self.ports, self.beats = config.ports, fetch_beats(config)
        self.left = self.begins = 0
        self.ready_at = NEVER
        self.banks = ANYWHERE

    def go(self, t: int, plan: Plan) -> None:
        self.begins, self.left, self.ready_at = t + FETCH_ASKED, self.beats, NEVER
        self.banks = plan.banks.fetch

    def accept(self, t: int) -> Beat:
        banks = self.banks[self.beats - self.left]
        self.left -= 1
        if self.left:
            return banks, self.ports, self._more
        return banks, (WORDS - 1) % self.ports + 1, self._last

    def _more(self, answer: int) -> None:
        pass

    def _last(self, answer: int) -> None:
        self.ready_at = answer + FETCH_CHECKED


class Record:
    """`control.profile_writer`: the record of a layer that is complete."""

    def __init__(self, ports: int, store: Store):
        self.ports, self.store = ports, store
        self.left = self.begins = 0
        self.banks = ANYWHERE

    def start(self, t: int, plan: Plan) -> None:
        self.left, self.begins, self.banks = len(PROFILE_RECORD), t + RECORD, plan.banks.record

    def accept(self, t: int) -> Beat:
        words, banks = min(self.ports, self.left), self.banks[(len(PROFILE_RECORD) - self.left) // self.ports]
        self.left -= words
        return banks, words, self.store.due(False)


class Machine:
    """All stages, and the descriptor on offer, which each takes when it is through with the one before."""

    def __init__(self, descriptors: list[tuple[Linked, Places]], config: Config):
        ports = config.ports
        contended = any(sharing(f, places, config).contended for f, places in descriptors)
        self.plans = [
            Plan(f, beats_of(f, places, config) if contended else UNCONTENDED, config) for f, places in descriptors
        ]
        self.memory = Ports(ports) if contended else Uncontended()
        self.counts = Counts()
        self.completed: list[tuple[int, ...]] = []
        self.fetch, self.load = Fetch(config), Load(config)
        self.weights, self.params = Weights(config), Params(config)
        self.cutter = Cutter(config, self.weights)
        self.sequencer = Sequencer(config, self.load, self.cutter, self.counts)
        self.store, self.aux = Store(config), Aux(self.sequencer)
        self.drain = Drain(self.sequencer, self.params, self.aux, self.store)
        self.record = Record(ports, self.store)
        self.stages: tuple[Stage, ...] = (self.load, self.weights, self.cutter, self.params, self.sequencer, self.drain)
        self.offered = 0
        self.waiting: list[Stage] = list(self.stages)
        self.starting: list[tuple[Stage, Plan]] = []
        self.all_taken_at = self.drain_taken_at = -1
        self.drain_layer = self.load_layer = -1
        self.storing = self.recording = False
        self.fetch.go(0, self.plans[0])

    def run(self) -> list[tuple[int, ...]]:
        """Per descriptor, when it is complete (cycle), and what `Counts` says then."""
        t, end = 0, len(self.plans)
        while len(self.completed) < end:
            t += 1
            self.step(t)
        return self.completed

    def step(self, t: int) -> None:
        """One cycle: what has arrived, what the stages decide, who gets scratchpad and bus, and what follows; of stages
        that have something to do, which most have in few cycles only."""
        load, store, weights, params = self.load, self.store, self.weights, self.params
        sequencer, drain = self.sequencer, self.drain
        if self.starting:
            for stage, plan in self.starting:
                stage.start(t, plan)
            self.starting.clear()
        if load.arrivals or load.leaving:
            load.step(t)
        if store.freed or store.returns or store.marks:
            store.step(t)
        if weights.closing:
            weights.step(t)
        if params.closing:
            params.step(t)
        take = t >= sequencer.resumes and sequencer.step(t)
        if drain.full or sequencer.finished or drain.issues:
            drain.decide(t)
        self._control(t)
        self._serve(t)
        self.memory.step(t)
        if load.chunks_left and not load.beat and load.may_ask(t):
            load.request(not load.plan.barrier or self._is_behind(t), store.available)
        if drain.issues or drain.initialises or params.rows:
            drain.step(t)
        weights.urgent = weights.stored < weights.low_mark
        self.cutter.step(t, take)

    def _control(self, t: int) -> None:
        """Complete a layer, offer the fetched descriptor, fetch the next one."""
        drain_free = not self.storing
        if not drain_free and not self.recording and self.drain.walked() and self._all_stored():
            if self.drain.plan.profile:
                self.recording = True
                self.record.start(t, self.drain.plan)
            else:
                self._complete(t)
                self.storing, drain_free = False, True
        if t >= self.fetch.ready_at and self.waiting:
            self._offer(t, drain_free)
        elif not self.waiting and t == self.all_taken_at + NEXT:
            self.offered += 1
            if self.offered < len(self.plans):
                self.waiting = list(self.stages)
                self.fetch.go(t, self.plans[self.offered])

    def _all_stored(self) -> bool:
        return self.store.all_accepted() and not self.store.pending

    def _complete(self, t: int) -> None:
        counts = self.counts
        counted = counts.vectors - self.sequencer.ahead(t), counts.load_stall, counts.store_stall, counts.words
        self.completed.append((t, *counted, *counts.waits.values()))

    def _offer(self, t: int, drain_free: bool) -> None:
        plan = self.plans[self.offered]
        in_order = drain_free or (self.drain not in self.waiting and self.drain_taken_at < t)
        free = None
        for stage in self.waiting:
            if stage.is_free(plan, drain_free, in_order):
                free = [*(free or ()), stage]
        for stage in free or ():
            self.waiting.remove(stage)
            self.starting.append((stage, plan))
            if stage is self.drain:
                self.storing = True
                self.drain_layer, self.drain_taken_at = self.offered, t
            elif stage is self.load:
                self.load_layer = self.offered
        if not self.waiting:
            self.all_taken_at = t

    def _is_behind(self, t: int) -> bool:
        """Whether the layers before the load engine's are complete."""
        return self.drain_layer >= self.load_layer and self.drain_taken_at < t

    def _serve(self, t: int) -> None:
        """The scratchpad reads a beat, the aux stream's first, and writes one; the bus has one of what is left."""
        aux, store, load = self.aux, self.store, self.load
        if aux.unasked:
            aux.ask(t)
        aux_asks = bool(aux.left or aux.table_due) and aux.asks(t)
        store_asks, load_asks = bool(store.results) and store.asks(t), load.beat
        if store_asks and store.plan.store_chip:
            store.accept_on_chip(t)
            store_asks = False
        if aux_asks and aux.on_chip():
            _, _, answered = aux.accept(t)
            answered(t + SCRATCHPAD_LATENCY)
            aux_asks = False
            load_asks = load_asks and not load.plan.load_chip
        elif load_asks and load.plan.load_chip:
            _, _, answered = load.accept(t)
            answered(t + SCRATCHPAD_LATENCY)
            load_asks = 0
        if self.memory.ready(t):
            self._bus(t, aux_asks, store_asks, load_asks)

    def _bus(self, t: int, aux_asks: bool, store_asks: bool, load_asks: int) -> None:
        """By priority."""
        stream: Fetch | Record | Load | Store | Aux | Weights | Params
        if self.fetch.left and t >= self.fetch.begins:
            stream = self.fetch
        elif self.params.passes and self.params.wants(t):
            stream = self.params
        elif self.weights.urgent and self.weights.passes and self.weights.wants(t):
            stream = self.weights
        elif aux_asks:
            stream = self.aux
        elif store_asks:
            stream = self.store
        elif self.record.left and t >= self.record.begins:
            stream = self.record
            if self.record.left == len(PROFILE_RECORD):
                self._complete(t)
        elif load_asks:
            stream = self.load
        elif self.weights.wants(t):
            stream = self.weights
        else:
            return
        banks, words, answered = stream.accept(t)
        self.counts.words += words
        self.memory.accept(t, banks, words, answered)
        if stream is self.record and not self.record.left:
            self.storing = self.recording = False


def simulate(descriptors: list[tuple[Linked, Places]], config: Config) -> list[Estimate]:
    """Run a list of descriptors, each with where its streams lie."""
    completed = Machine(descriptors, config).run()
    before, estimates = (0,) * len(completed[0]), []
    for after in completed:
        cycles, vectors, load, store, words, *waits = (b - a for a, b in zip(before, after, strict=True))
        estimates.append(
            Estimate(
                cycles=cycles, vectors=vectors, load_stall=load, store_stall=store, bus_words=words, waits=tuple(waits)
            )
        )
        before = after
    return estimates
