# SPDX-License-Identifier: Apache-2.0
"""Cycle model of the accelerator: how long the descriptors of a list take, and where they wait.

Steps the stages of `hls/` cycle by cycle through a list of descriptors, as far as they decide when a bus beat, a
vector, a weight tile or a store may go; no data are computed. Memory is assumed to answer without wait states. Cycle
0 is the doorbell. Constants below are the delays of the RTL, counted from the sources named.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from hls.arithmetic.accumulator import ACC_LATENCY
from hls.arithmetic.array import array_latency
from hls.config import Config
from hls.descriptor.drain.aux_reader import AUX_BEATS
from hls.descriptor.drain.drain import READ_TO_RESULT, STORE_BEATS
from hls.descriptor.interface.table import PROFILE_RECORD, WORDS, on_chip
from hls.descriptor.memory.activation_buffer import READ_LATENCY
from hls.descriptor.memory.ports import OUTSTANDING
from hls.descriptor.memory.ports import QUEUED as QUEUED_COMMANDS
from hls.descriptor.memory.scratchpad import READ_LATENCY as ON_CHIP

MASTERS, FIRST_MASTER = 16, 9  # X-HEEP's crossbar: masters that its arbiters are made for, place of port 0
ANSWER = 7  # arbiter, ports: from an accepted request to its answer, where no port waits
LOADED = 1  # load: from an answer to words that may be read
QUEUED = 2  # passes: from an answer to the head of an empty FIFO
AUX_READY = 1  # drain: from an answer to an aux beat that may be used
FIRST_VECTOR = 4  # sequencer: start to the first vector
FIRST_BEAT = 2  # drain: start to the first beat of the walkers
FIRST_AUX = FIRST_BEAT + 1  # drain: start to the first request of the aux reader
FETCH_ASKED = 2  # fetch: go to the first request for a descriptor
FETCH_READY = ANSWER + 3  # fetch: last request to ready

SWAP, STEP_FIRST, STEP_LAST, GROUP_FIRST, GROUP_LAST, STRIP_LAST = (1 << i for i in range(6))


@dataclass(frozen=True)
class Estimate:
    """What the counters say of a layer: cycles since the one before was complete, vectors, how often one waited."""

    cycles: int
    vectors: int
    load_stall: int
    store_stall: int
    bus_words: int


@dataclass(frozen=True)
class Banks:
    """Per stream, the memory bank of each word of a beat; () where no two words of a beat meet in a bank.

    Streams of the same bank wait for each other. ``weights`` may lie in several banks: (word behind the piece, its
    entry), in order. A negative bank, -1 - number, is one of an interleaved group, and is the first beat's only;
    `addresses` of load, store and aux then say where the others lie.
    """

    load: tuple[int, ...] = ()
    weights: tuple[tuple[int, tuple[int, ...]], ...] = ()
    params: tuple[int, ...] = ()
    store: tuple[int, ...] = ()
    aux: tuple[int, ...] = ()
    fetch: tuple[int, ...] = ()
    addresses: tuple[int, int, int] = (0, 0, 0)

    @property
    def contended(self) -> bool:
        return any((self.load, self.params, self.store, self.aux, self.fetch, *(entry for _, entry in self.weights)))

    def weight(self, word: int) -> tuple[int, ...]:
        """Entry of the weights from ``word`` on."""
        return next((entry for end, entry in self.weights if word < end), ())


def word_banks(address: int, stride: int, config: Config) -> tuple[int, ...]:
    """An entry of `Banks`: where a beat at byte ``address`` with words ``stride`` apart meets itself."""
    bank = config.bank_kib * 1024
    if config.ports == 1:
        return ()
    if address < config.memory_banks * bank:
        return (address // bank,) * config.ports
    first = config.memory_banks * bank
    for size in config.memory_banks_interleaved:
        if address < first + size * bank:
            words = tuple(((address - first) // 4 + i * stride) % size for i in range(config.ports))
            return () if len(set(words)) == len(words) else tuple(-1 - w for w in words)
        first += size * bank
    return ()


def pieces(address: int, words: int, config: Config) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """`Banks.weights` of ``words`` words from byte ``address`` on."""
    bank, result, at = config.bank_kib * 1024, [], 0
    while at < words:
        entry = word_banks(address + 4 * at, 1, config)
        at = min(words, ((address + 4 * at) // bank * bank + bank - address) // 4)
        if result and result[-1][1] == entry:
            result.pop()
        result.append((at, entry))
    return tuple(result)


def strip_sizes(f: dict) -> list[int]:
    """Pixels of every strip."""
    sizes = [min(f["FIRST_PX"], f["OUT_PX"])]
    while (left := f["OUT_PX"] - sum(sizes)) > 0:
        sizes.append(min(f["STRIP_PX"], left))
    return sizes


def _groups(f: dict) -> list[list[int]]:
    """Channel blocks accumulated together, for one group."""
    return [list(range(i, min(i + f["CBG"], f["NCB"]))) for i in range(0, f["NCB"], f["CBG"])]


def _vectors(f: dict, config: Config) -> tuple[list[int], list[int], list[int]]:
    """Per vector: words that must be loaded, and marks; per strip: words that are released after it."""
    diagonal = bool(f.get("DIAGONAL"))
    needs, marks, released = [], [], []
    first = 0
    for size in strip_sizes(f):
        oy, ox = np.divmod(np.arange(first, first + size), f["OUT_W"])
        x = f["X0"] + ox * f["SX_WORDS"]
        row = f["ROW0"] + oy * f["SY_WORDS"]
        iy = f["Y0"] + oy * f["STRIDE_Y"]
        for g in range(f["GROUPS"]):
            for blocks in _groups(f):
                for ky in range(f["KH"]):
                    inside = (iy + ky * f["DIL_Y"] >= 0) & (iy + ky * f["DIL_Y"] < f["IN_H"])
                    for step in range(f["KX"] * f["KB"]):
                        kx, kb = divmod(step, f["KB"])
                        offsets = [cb * config.diagonal for cb in blocks] if diagonal else [kb * config.rows]
                        lines = []
                        for offset in offsets:
                            p = x + kx * f["KX_STEP"] + g * f.get("GROUP_IN_STEP", 0) + offset
                            high = np.minimum(min(config.rows, f["RUN"] - offset), f["IN_ROW"] - p)
                            ok = inside & (np.maximum(-p, 0) < high)
                            lines.append(np.where(ok, row + ky * f["KY_STEP"] + p + high, 0))
                        needs.append(np.concatenate(lines if diagonal else lines * len(blocks)))
                        marks.append(
                            _marks(
                                size,
                                len(blocks),
                                ky == 0 and step == 0,
                                ky == f["KH"] - 1 and step == f["KX"] * f["KB"] - 1,
                            )
                        )
        marks[-1][-1] |= STRIP_LAST
        first += size
        oy, ox = divmod(first, f["OUT_W"])
        start = f["ROW0"] + oy * f["SY_WORDS"] + min(max(f["X0"] + ox * f["SX_WORDS"], 0), f["IN_ROW"])
        iy = f["Y0"] + oy * f["STRIDE_Y"]
        released.append(0 if iy < 0 else start if iy < f["IN_H"] else f["LOAD_WORDS"])
    released[-1] = f["LOAD_WORDS"]
    return np.concatenate(needs).tolist(), np.concatenate(marks).tolist(), released


def _marks(pixels: int, blocks: int, group_first: bool, group_last: bool) -> np.ndarray:
    marks = np.zeros((blocks, pixels), np.int64)
    marks[:, 0] |= SWAP
    marks[0, 0] |= STEP_FIRST | (GROUP_FIRST if group_first else 0)
    marks[-1, -1] |= STEP_LAST | (GROUP_LAST if group_last else 0)
    return marks.reshape(-1)


def _store_blocks(f: dict, config: Config) -> list[tuple[int, bool]]:
    """Output beats of every channel block of every strip, and whether it is the last of its bank."""
    width = config.diagonal if f.get("DIAGONAL") else config.cols
    return [
        (size * -(-min(width, f["COUT"] - cb * width) // config.ports), cb == blocks[-1])
        for size in strip_sizes(f)
        for _ in range(f["GROUPS"])
        for blocks in _groups(f)
        for cb in blocks
    ]


class _Uncontended:
    """Memory in which no beat waits for another."""

    def ready(self, t: int) -> bool:
        return True

    def accept(self, t: int, banks: tuple[int, ...], words: int, deliver: Callable[[int], None]) -> None:
        deliver(t + ANSWER)

    def step(self, t: int) -> None:
        pass


class _Command:
    """A beat: the bank of each word (None: its own), words not granted yet, the cycle of the last grant."""

    def __init__(self, banks: list, deliver: Callable[[int], None]):
        self.banks, self.deliver = banks, deliver
        self.missing, self.granted = len(banks), 0


class _Ports:
    """Arbiter, `memory.ports` and the crossbar: ports that lag behind each other, and banks that they share."""

    def __init__(self, ports: int):
        self.picked = self.held = self.arriving = None
        self.queues: list[deque[_Command]] = [deque() for _ in range(ports)]
        self.requests: list[_Command | None] = [None] * ports
        self.order: deque[_Command] = deque()
        self.completed = 0
        self.answered: deque[int] = deque()  # cycles in which beats leave the list of those due
        self.favoured: dict[int, int] = {}

    def _room(self, t: int) -> bool:
        while self.answered and self.answered[0] < t:
            self.answered.popleft()
        return len(self.order) + len(self.answered) < OUTSTANDING and all(
            len(queue) < QUEUED_COMMANDS for queue in self.queues
        )

    def ready(self, t: int) -> bool:
        """Whether a request is accepted in this cycle."""
        return self.picked is None or self.held is None or self._room(t)

    def accept(self, t: int, banks: tuple[int, ...], words: int, deliver: Callable[[int], None]) -> None:
        """``deliver`` learns the cycle of the answer as soon as that is known."""
        self.arriving = _Command(list(banks[:words]) or [None] * words, deliver)

    def step(self, t: int) -> None:
        if not (self.arriving or self.picked or self.held or self.order):
            return
        room = self.held is None or self._room(t)
        wanted: dict[int, int] = {}
        granted = []
        for port, command in enumerate(self.requests):
            if command is not None:
                bank = command.banks[port]
                if bank is None:
                    granted.append(port)
                else:
                    wanted[bank] = wanted.get(bank, 0) | 1 << (FIRST_MASTER + port)
        for bank, masters in wanted.items():
            place, favoured = arbitrate(masters, self.favoured.get(bank, 0))
            self.favoured[bank] = favoured
            granted.append(place - FIRST_MASTER)
        for port in granted:
            command = self.requests[port]
            command.missing -= 1
            command.granted = t
            self.requests[port] = None
        for port, queue in enumerate(self.queues):
            if queue and self.requests[port] is None:
                self.requests[port] = queue.popleft()
        while self.order and not self.order[0].missing:
            command = self.order.popleft()
            self.completed = max(command.granted + 2, self.completed + 1)
            self.answered.append(self.completed)
            command.deliver(self.completed + 1)
        if room:
            if self.held is not None:
                self.order.append(self.held)
                for port in range(len(self.held.banks)):
                    self.queues[port].append(self.held)
            self.held, self.picked = self.picked, self.arriving
        elif self.picked is None:
            self.picked = self.arriving
        self.arriving = None


def arbitrate(wanted: int, favoured: int) -> tuple[int, int]:
    """(the master that a bank of X-HEEP's crossbar takes, the one favoured next) of a bit per master that asks.

    A tree of multiplexers takes, where both halves ask, the one that the favoured master is in.
    """
    chosen, half = 0, MASTERS // 2
    while half:
        side = (1 << half) - 1
        lower, upper = wanted >> chosen & side, wanted >> (chosen + half) & side
        if not lower or (upper and favoured & half):
            chosen += half
        half //= 2
    above = wanted & ~((2 << favoured) - 1) or wanted
    return chosen, (above & -above).bit_length() - 1


class _Plan:
    """What the stages need to know of one descriptor."""

    def __init__(self, fields: dict, banks: Banks, config: Config):
        f = {"GROUP_IN_STEP": 0, "KX_STEP": 0} | fields
        diagonal, unit, ports = bool(f.get("DIAGONAL")), bool(f.get("UNIT_WEIGHTS")), config.ports
        self.banks = banks
        self.strips = len(strip_sizes(f))
        self.needs, self.marks, self.releases = _vectors(f, config)
        self.blocks = _store_blocks(f, config)
        self.beats = sum(n for n, _ in self.blocks)
        self.uniform, self.residual, self.acc_init = (bool(f.get(n)) for n in ("UNIFORM", "RESIDUAL", "ACC_INIT"))
        self.barrier, self.profile = bool(f.get("BARRIER", 1)), bool(f.get("PROFILE", 1))
        self.width = config.diagonal if diagonal else config.cols
        self.param_block = 2 * -(-self.width // ports)
        self.param_words = 0 if self.uniform else f["PARAM_WORDS"]
        self.weight_words = 0 if unit else f["WEIGHT_WORDS"]
        self.tiles = f["GROUPS"] * f["NCB"] * f["KH"] * f["KX"] * f["KB"]
        self.diagonal, self.unit = diagonal, unit
        self.load_words, self.chunk = f["LOAD_WORDS"], f["LOAD_C_COUNT"]
        self.load_chip, self.store_chip, self.aux_chip = (
            bool(config.scratchpad_words) and on_chip(f, stream) for stream in ("LOAD", "STORE", "AUX")
        )
        self.mark_words, self.mark_base = f.get("MARK_WORDS", 0), f.get("MARK_BASE", 0)
        self.stores = self._stores(f, config)
        self.store_banks, self.aux_banks = (
            self._output_banks(f, config, stream, entry, banks.addresses[i])
            for i, stream, entry in ((1, "STORE", banks.store), (2, "AUX", banks.aux))
        )
        self.load_steps = (banks.addresses[0], *(f[f"LOAD_{n}_STRIDE"] for n in "CXY"), f["LOAD_X_COUNT"])
        self.config = config

    def load_banks(self, chunk: int, c: int) -> tuple[int, ...]:
        """Of the beat that begins ``c`` words behind the start of a chunk."""
        entry = self.banks.load
        if not entry or entry[0] >= 0:
            return entry
        address, c_stride, x_stride, y_stride, row = self.load_steps
        offset = c * c_stride + chunk % row * x_stride + chunk // row * y_stride
        return word_banks(address + 4 * offset, c_stride, self.config)

    def _output_banks(self, f: dict, config: Config, stream: str, entry: tuple[int, ...], address: int):
        """Per beat of the output's loops."""
        if not entry or entry[0] >= 0:
            return [entry] * self.beats
        c_step, x_step, y_step, cb_step, g_step = (
            f[f"{stream}_{n}"] for n in ("C_STRIDE", "X_STRIDE", "Y_STRIDE", "CB_STEP", "G_STEP")
        )
        result, first = [], 0
        for size in strip_sizes(f):
            for g in range(f["GROUPS"]):
                for cb in range(f["NCB"]):
                    for px in range(first, first + size):
                        oy, ox = divmod(px, f["OUT_W"])
                        at = oy * y_step + ox * x_step + cb * cb_step + g * g_step
                        result += [
                            word_banks(address + 4 * (at + c * c_step), c_step, config)
                            for c in range(0, min(self.width, f["COUT"] - cb * self.width), config.ports)
                        ]
            first += size
        return result

    def _stores(self, f: dict, config: Config) -> list[tuple[int, bool]]:
        """Per store beat, its words and whether it completes a pixel."""
        result = []
        for size in strip_sizes(f):
            for g in range(f["GROUPS"]):
                for cb in range(f["NCB"]):
                    channels = min(self.width, f["COUT"] - cb * self.width)
                    beats = [min(config.ports, channels - first) for first in range(0, channels, config.ports)]
                    last = g == f["GROUPS"] - 1 and cb == f["NCB"] - 1
                    result += ([(beat, False) for beat in beats[:-1]] + [(beats[-1], last)]) * size
        return result


class _Pass:
    """`memory.passes`: a stream that is read once per strip, or once if it fits the FIFO of ``depth`` rows."""

    def __init__(self, ports: int, depth: int, row: int):
        self.ports, self.depth, self.row = ports, depth, row
        self.used = self.stored = self.in_flight = self.place = 0
        self.left = self.words = self.passes = self.strips = 0
        self.fits = False
        self.answers: deque[int] = deque()
        self.closing: deque[tuple[int, int]] = deque()  # cycle, pass it belongs to
        self.rows: deque[int] = deque()  # cycles from which they may be taken
        self.kept = self.rows_per_pass = self.taken = self.older = 0

    def start(self, words: int, strips: int) -> None:
        self.words, self.strips = words, strips
        self.fits = 0 < words <= self.depth * self.row * self.ports
        self.passes = 0 if not words else 1 if self.fits else strips
        self.left = words
        self.place = 0
        self.rows_per_pass = -(-words // (self.ports * self.row))
        self.taken, self.older = 0, self.stored + len(self.closing)

    def wants(self) -> bool:
        return self.passes > 0 and (self.place != 0 or self.used != self.depth)

    def idle(self) -> bool:
        return not self.passes and not self.in_flight and not (self.fits and self.strips > 1)

    def accept(self) -> Callable[[int], None]:
        """Ask for a beat; the result wants to know the cycle of the answer."""
        self.in_flight += 1
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
        return partial(self._answered, closes)

    def _answered(self, closes: bool, answer: int) -> None:
        self.answers.append(answer + 1)
        if closes:
            self.closing.append(answer + 1)

    def step(self, t: int) -> None:
        while self.answers and self.answers[0] <= t:
            self.answers.popleft()
            self.in_flight -= 1
        while self.closing and self.closing[0] <= t:
            self.closing.popleft()
            self.stored += 1
            self.rows.append(t + 1)

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


class _Cutter:
    """`memory.weights`: the byte gearbox between FIFO and array, and the shadow weights."""

    def __init__(self, config: Config):
        rows, cols, lanes, ports = config.rows, config.cols, config.load_rows, config.ports
        self.config = config
        beats = -(-rows // lanes)
        beat_bytes = lanes * cols
        row = -(-beat_bytes // (4 * ports))
        self.row_bytes = 4 * ports * row
        depth = 1 << ((config.weight_bytes // self.row_bytes).bit_length() - 1)
        self.low_mark = min(depth // 2, -(-2 * rows * cols // self.row_bytes) + 4)
        self.dense = [beat_bytes] * (beats - 1) + [(rows - (beats - 1) * lanes) * cols]
        self.refill = 2 * beat_bytes - 1
        self.fifo = _Pass(ports, depth, row)
        self.need = self.dense
        self.words_left = self.held = self.beat = self.tiles = self.strips = 0
        self.pass_words = self.pass_tiles = 0
        self.full = self.skip = self.begun = False

    def start(self, plan: _Plan) -> None:
        self.need = [0] if plan.unit else [self.config.diagonal] if plan.diagonal else self.dense
        self.pass_words, self.pass_tiles, self.strips = plan.weight_words, plan.tiles, plan.strips
        self.words_left, self.tiles = plan.weight_words, plan.tiles
        self.held = self.beat = 0
        self.begun = False

    def done(self) -> bool:
        return not self.tiles and not self.skip

    def step(self, t: int, take: bool) -> None:
        need = self.need[self.beat]
        out = self.begun and self.tiles and not self.skip and self.held >= need and (not self.full or take)
        self.begun = True
        if take:
            self.full = False
        left = self.words_left
        put = left > 0 and self.held <= self.refill and self.fifo.ready(t)
        ended = False
        if out:
            self.held -= need
            self.beat += 1
            if self.beat == len(self.need):
                self.beat = 0
                self.full = True
                self.tiles -= 1
                if not self.tiles:
                    ended = True
                    self.strips -= 1
                    if self.strips:
                        self.tiles = self.pass_tiles
        if put:
            self.fifo.take(t)
            self.held += self.row_bytes
            self.words_left = max(0, left - self.row_bytes // 4)
        if ended or self.skip:
            self.held = 0
            if left == 0 and self.tiles:
                self.words_left = self.pass_words
            self.skip = left != 0


def simulate(descriptors: list[tuple[dict, Banks]], config: Config) -> list[Estimate]:
    """Run a list of descriptors: fields (absent BARRIER and PROFILE mean 1), and the memory banks of their streams."""
    ports = config.ports
    plans = [_Plan(f, banks, config) for f, banks in descriptors]
    count = len(plans)
    memory = _Ports(ports) if any(p.banks.contended for p in plans) else _Uncontended()
    record_beats = -(-len(PROFILE_RECORD) // ports)
    to_full = READ_LATENCY + array_latency(config) + config.cols - 1 + ACC_LATENCY + 1
    room = config.activation_words - ports

    # The descriptor on offer, and the stages: the layer that each works on, and its start pulse
    offered, ready_at, fetch_from, fetch_left = 0, None, FETCH_ASKED, -(-WORDS // ports)
    missing = {"load", "weights", "cut", "params", "seq", "drain"}
    taken_at: dict[str, int] = {}
    all_taken_at = None
    load_at = drain_at = seq_at = 0
    load = seq = drained = None
    load_layer = drain_layer = -1

    cutter = _Cutter(config)
    weights = cutter.fifo
    params = _Pass(ports, 1 << (4 * -(-config.cols // ports) - 1).bit_length(), 1)
    starts: list[tuple[int, str, _Plan]] = []
    param_filled = param_blocks = 0
    weight_plan = param_plan = None

    chunks_left = chunk_left = layer_asked = load_beat = 0
    load_banks: tuple[int, ...] = ()
    asked = loaded = released = seen = 0  # seen: released, as the load engine knows it
    arrivals: deque[tuple[int, int]] = deque()
    vector, total, go_at, step_count, strip, base, banks = 0, 0, 0, 0, 0, 0, 2
    initialised = False
    finished: deque[int] = deque()
    block = block_left = full = 0
    blocks: list[tuple[int, bool]] = []
    store_room = STORE_BEATS
    results: deque[tuple[int, int]] = deque()  # beats of `_Plan.stores`
    returns: deque[tuple[int, bool]] = deque()
    pending = available = issued = 0
    marked_on_chip = -1
    storing = recording = False
    record_left = record_from = 0
    aux: deque[int] = deque()
    aux_left, aux_room = 0, AUX_BEATS
    init_blocks: deque[tuple[int, bool]] = deque()
    init_left, init_banks = 0, 2
    vectors = load_stall = store_stall = words = 0
    completed: list[tuple[int, int, int, int, int]] = []
    t = 0
    urgent = True

    def ask(banks: tuple[int, ...], beat: int, deliver: Callable[[int], None]) -> None:
        nonlocal words
        words += beat
        memory.accept(t, banks, beat, deliver)

    def ignore(answer: int) -> None:
        pass

    def fetched(answer: int) -> None:
        nonlocal ready_at
        ready_at = answer + FETCH_READY - ANSWER

    def aux_answered(answer: int) -> None:
        aux.append(answer + AUX_READY)

    def stored(marked: bool, answer: int) -> None:
        returns.append((answer + 1, marked))

    def arrived(position: int, answer: int) -> None:
        arrivals.append((answer + LOADED, position))

    while len(completed) < count:
        t += 1
        # Start pulses of this cycle
        for when, name, plan in starts:
            if when != t:
                continue
            if name == "load":
                load, load_at = plan, t
                chunks_left, chunk_left, layer_asked = plan.load_words // plan.chunk, plan.chunk, 0
            elif name == "weights":
                weight_plan = plan
                weights.start(plan.weight_words, plan.strips)
            elif name == "params":
                param_plan = plan
                params.start(plan.param_words, plan.strips)
            elif name == "seq":
                seq, seq_at, vector, total, strip, base = plan, t, 0, len(plan.needs), 0, released
                if plan.acc_init:
                    banks = 0
                elif initialised:
                    banks = 2
                initialised = plan.acc_init
            elif name == "drain":
                drained, drain_at, blocks, block = plan, t, plan.blocks, 0
                block_left, issued, available = blocks[0][0], 0, plan.mark_base
                param_filled = param_blocks = 0
                aux_left = plan.beats if plan.residual or plan.acc_init else 0
                init_blocks = deque(blocks) if plan.acc_init else deque()
                init_left, init_banks = blocks[0][0], 2
        while arrivals and arrivals[0][0] <= t:
            loaded = arrivals.popleft()[1]
        while returns and returns[0][0] <= t:
            if returns.popleft()[1]:
                available += drained.mark_words
            pending -= 1
        if marked_on_chip == t:
            available += drained.mark_words
        weights.step(t)
        params.step(t)
        freed = filled = 0
        release_at = released

        # Sequencer
        take = False
        if vector < total and t >= seq_at + FIRST_VECTOR:
            mark = seq.marks[vector]
            need = seq.needs[vector]
            if (need and need + base > loaded) or (mark & SWAP and not cutter.full):
                load_stall += 1
            elif mark & GROUP_FIRST and not banks:
                store_stall += 1
            elif t >= go_at or mark & GROUP_FIRST or not mark & STEP_FIRST:
                vector += 1
                vectors += 1
                step_count += 1
                if mark:
                    take = bool(mark & SWAP)
                    if mark & GROUP_FIRST:
                        banks -= 1
                    if mark & STEP_LAST:
                        go_at = t + 1 + max(0, ACC_LATENCY - step_count)
                        step_count = 0
                    if mark & GROUP_LAST:
                        finished.append(t + to_full)
                    if mark & STRIP_LAST:
                        release_at = base + seq.releases[strip]
                        strip += 1
            seq_busy = True
        else:
            seq_busy = vector < total

        # Drain
        while finished and finished[0] <= t:
            finished.popleft()
            full += 1
        issue = (
            full
            and store_room
            and block < len(blocks)
            and t >= drain_at + FIRST_BEAT
            and (param_blocks or drained.uniform)
            and (not drained.residual or (aux and aux[0] <= t))
        )

        # Control: who is through takes the descriptor on offer
        drain_free = not storing
        if (
            storing
            and not recording
            and t > drain_at
            and block == len(blocks)
            and store_room == STORE_BEATS
            and not pending
        ):
            if drained.profile:
                recording, record_left, record_from = True, record_beats, t + 1
            else:
                completed.append((t, vectors, load_stall, store_stall, words))
                storing, drain_free = False, True
        if ready_at is not None and t >= ready_at and missing:
            plan = plans[offered]
            drain_ok = drain_free or ("drain" not in missing and taken_at["drain"] < t)
            free = {
                "load": t > load_at and not chunks_left and loaded == asked,
                "weights": weights.idle(),
                "cut": cutter.done(),
                "params": params.idle() and drain_ok,
                "seq": not seq_busy
                and t > seq_at
                and (drain_ok or not (plan.acc_init or (seq is not None and seq.acc_init))),
                "drain": drain_free,
            }
            pulses = {name for when, name, _ in starts if when >= t}
            for name in [n for n in missing if free[n] and n not in pulses]:
                missing.discard(name)
                taken_at[name] = t
                starts.append((t + 1, name, plan))
                if name == "drain":
                    storing = True
                    drain_layer = offered
                elif name == "load":
                    load_layer = offered
            if not missing:
                all_taken_at = t
        elif not missing and t == all_taken_at + 1:
            offered += 1
            ready_at = None
            if offered < count:
                missing = {"load", "weights", "cut", "params", "seq", "drain"}
                taken_at = {}
                fetch_from, fetch_left = t + FETCH_ASKED, -(-WORDS // ports)
        if len(starts) > 20:
            starts = [entry for entry in starts if entry[0] >= t]

        # Scratchpad: one beat read, the aux stream's first, and one written
        aux_asks = aux_left and aux_room and t >= drain_at + FIRST_AUX
        store_asks = bool(results) and results[0][0] <= t
        if store_asks and drained.store_chip:
            store_asks, filled = False, 1
            if drained.stores[results.popleft()[1]][1] and drained.mark_words:
                marked_on_chip = t + 1
        if aux_asks and drained.aux_chip:
            aux_asks = False
            aux_left -= 1
            aux_room -= 1
            aux.append(t + ON_CHIP + AUX_READY)
        elif load_beat and load.load_chip:
            arrivals.append((t + ON_CHIP + LOADED, asked))
            load_beat = 0
        load_asks = load_beat and not load.load_chip

        # Bus: what may be asked for in this cycle, by priority
        if memory.ready(t):
            if fetch_left and t >= fetch_from:
                fetch_left -= 1
                ask(
                    plans[min(offered, count - 1)].banks.fetch,
                    ports if fetch_left else (WORDS - 1) % ports + 1,
                    ignore if fetch_left else fetched,
                )
            elif params.wants():
                ask(param_plan.banks.params, ports, params.accept())
            elif urgent and weights.wants():
                ask(weight_plan.banks.weight(weights.words - weights.left), ports, weights.accept())
            elif aux_asks:
                aux_left -= 1
                aux_room -= 1
                ask(drained.aux_banks[-1 - aux_left], drained.stores[-1 - aux_left][0], aux_answered)
            elif store_asks:
                _, number = results.popleft()
                beat, marked = drained.stores[number]
                filled = 1
                pending += 1
                ask(drained.store_banks[number], beat, partial(stored, marked and drained.mark_words))
            elif record_left and t >= record_from:
                if record_left == record_beats:
                    completed.append((t, vectors, load_stall, store_stall, words))
                record_left -= 1
                pending += 1
                ask(
                    (),
                    min(ports, len(PROFILE_RECORD) - ports * (record_beats - record_left - 1)),
                    partial(stored, False),
                )
                if not record_left:
                    storing = recording = False
            elif load_asks:
                ask(load_banks, load_beat, partial(arrived, asked))
                load_beat = 0
            elif weights.wants():
                ask(weight_plan.banks.weight(weights.words - weights.left), ports, weights.accept())

        memory.step(t)

        # The load's next request, for the bus in the next cycle
        if (
            not load_beat
            and chunks_left
            and t > load_at
            and asked - seen <= room
            and (
                not load.barrier
                or drain_layer >= load_layer
                and taken_at.get("drain", -1) < t
                or layer_asked + min(ports, chunk_left) <= available
            )
        ):
            load_beat = min(ports, chunk_left)
            load_banks = load.load_banks(load.load_words // load.chunk - chunks_left, load.chunk - chunk_left)
            asked += load_beat
            layer_asked += load_beat
            chunk_left -= load_beat
            if not chunk_left:
                chunk_left = load.chunk
                chunks_left -= 1

        if issue:
            store_room -= 1
            results.append((t + READ_TO_RESULT + 1, issued))
            issued += 1
            if drained.residual:
                aux.popleft()
                aux_room += 1
            block_left -= 1
            if not block_left:
                if not drained.uniform:
                    param_blocks -= 1
                if blocks[block][1]:
                    freed = 1
                    full -= 1
                block += 1
                if block < len(blocks):
                    block_left = blocks[block][0]
        store_room += filled
        if param_blocks + (1 if issue and block_left == 0 and not drained.uniform else 0) != 2 and params.ready(t):
            params.take(t)
            param_filled += 1
            if param_filled == drained.param_block:
                param_filled = 0
                param_blocks += 1
        if drained is not None and drained.acc_init:
            if aux and aux[0] <= t and init_banks:
                aux.popleft()
                aux_room += 1
                init_left -= 1
                if not init_left:
                    if init_blocks.popleft()[1]:
                        banks += 1
                        init_banks -= 1
                    init_left = init_blocks[0][0] if init_blocks else 0
            init_banks += freed
        else:
            banks += freed
        urgent = weights.stored < cutter.low_mark
        cutter.step(t, take)
        seen, released = released, release_at
        for when, name, plan in starts:
            if when == t and name == "cut":
                cutter.start(plan)
    origin = (0, 0, 0, 0, 0)
    return [
        Estimate(*(b - a for a, b in zip(before, after, strict=True)))
        for before, after in zip([origin, *completed], completed)
    ]
