"""Cycle model of the accelerator: how long a descriptor takes, and where it waits.

Steps the engines of `hls/` cycle by cycle, as far as they decide when a bus beat, a vector, a weight tile or a
store may go; no data are computed. Memory is assumed to answer without wait states. Cycle 0 is the start pulse of
the layer. Constants below are the delays of the RTL, counted from the sources named.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from hls.accumulator import ACC_LATENCY
from hls.activation_buffer import READ_LATENCY
from hls.array import array_latency
from hls.config import Config
from hls.descriptor import PROFILE_RECORD, WORDS
from hls.drain import AUX_BEATS, READ_TO_RESULT, STORE_BEATS
from hls.ports import OUTSTANDING
from hls.ports import QUEUED as QUEUED_COMMANDS

ANSWER = 7  # arbiter, ports: from an accepted request to its answer, where no port waits
LOADED = 1  # load: from an answer to words that may be read
QUEUED = 2  # passes: from an answer to the head of an empty FIFO
AUX_READY = 1  # drain: from an answer to an aux beat that may be used
FIRST_VECTOR = 3  # sequencer: start to the first vector
FIRST_BEAT = 2  # drain: start to the first beat of the walkers
FETCH_ASKED = 2  # fetch: start to the first request for the next descriptor
FETCH_READY = ANSWER + 3  # fetch: last request to ready
LAUNCH = 1  # control: ready to start
STORED = 1  # control: the last store's answer to the layer's end
DOORBELL = 2  # control, fetch: doorbell to the first request for a descriptor

SWAP, STEP_FIRST, STEP_LAST, GROUP_FIRST, GROUP_LAST, STRIP_LAST = (1 << i for i in range(6))


@dataclass(frozen=True)
class Estimate:
    """Cycles of a layer from start to end, and how many vectors waited for what, as the counters count."""

    cycles: int
    vectors: int
    load_stall: int
    store_stall: int
    bus_words: int


@dataclass(frozen=True)
class Banks:
    """Per stream, the memory bank of each word of a beat; () where no two words of a beat meet in a bank.

    Streams of the same bank wait for each other; a negative bank is only met within its beat.
    """

    load: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    params: tuple[int, ...] = ()
    store: tuple[int, ...] = ()
    aux: tuple[int, ...] = ()
    fetch: tuple[int, ...] = ()

    @property
    def contended(self) -> bool:
        return any((self.load, self.weights, self.params, self.store, self.aux, self.fetch))


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
            words = tuple(i * stride % size for i in range(config.ports))
            return () if len(set(words)) == len(words) else tuple(-1 - w for w in words)
        first += size * bank
    return ()


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
                        marks.append(_marks(size, len(blocks), ky == 0 and step == 0,
                                            ky == f["KH"] - 1 and step == f["KX"] * f["KB"] - 1))
        marks[-1][-1] |= STRIP_LAST
        first += size
        oy, ox = divmod(first, f["OUT_W"])
        start = f["ROW0"] + oy * f["SY_WORDS"] + min(max(f["X0"] + ox * f["SX_WORDS"], 0), f["IN_ROW"])
        released.append(0 if f["Y0"] + oy * f["STRIDE_Y"] < 0 else start)
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
    return [(size * -(-min(width, f["COUT"] - cb * width) // config.ports), cb == blocks[-1])
            for size in strip_sizes(f) for _ in range(f["GROUPS"]) for blocks in _groups(f) for cb in blocks]


class _Weights:
    """`hls.weights`: a FIFO of rows, the byte gearbox, and the shadow weights of the array."""

    def __init__(self, f: dict, config: Config, strips: int):
        ports = config.ports
        diagonal, unit = bool(f.get("DIAGONAL")), bool(f.get("UNIT_WEIGHTS"))
        lanes, rows, cols = config.load_rows, config.rows, config.cols
        self.beats = 1 if diagonal else -(-rows // lanes)
        beat_bytes = lanes * cols
        self.row = -(-beat_bytes // (4 * ports))
        self.row_bytes = 4 * ports * self.row
        self.depth = 1 << ((config.weight_bytes // self.row_bytes).bit_length() - 1)
        self.low_mark = min(self.depth // 2, -(-2 * rows * cols // self.row_bytes) + 4)
        self.need = [beat_bytes] * (self.beats - 1) + [(rows - (self.beats - 1) * lanes) * cols]
        if diagonal:
            self.need = [config.diagonal]
        if unit:
            self.need = [0]
        self.refill = 2 * beat_bytes - 1
        self.pass_tiles = f["GROUPS"] * f["NCB"] * f["KH"] * f["KX"] * f["KB"]
        self.pass_words = 0 if unit else f["WEIGHT_WORDS"]
        self.ports = ports
        self.words_left = self.pass_words
        self.asked_left = [self.pass_words] * strips if not unit else []
        self.row_asked = self.used = self.held = self.beat = 0
        self.tiles_left = self.pass_tiles
        self.full, self.full_at = False, None
        self.skip = False
        self.rows: deque[int] = deque()

    def wants(self) -> bool:
        return bool(self.asked_left) and (self.row_asked != 0 or self.used != self.depth)

    def accept(self, answer: int) -> None:
        if self.row_asked == 0:
            self.used += 1
        self.row_asked += 1
        self.asked_left[0] -= self.ports
        if self.row_asked == self.row or self.asked_left[0] <= 0:
            self.row_asked = 0
            self.rows.append(answer + QUEUED)
        if self.asked_left[0] <= 0:
            self.asked_left.pop(0)

    def step(self, t: int, take: bool) -> None:
        held = self.held
        need = self.need[self.beat]
        out = not self.skip and held >= need and (not self.full or take)
        if take:
            self.full = False
        put = self.words_left > 0 and held <= self.refill and self.rows and self.rows[0] <= t
        pass_end = False
        if out:
            held -= need
            self.beat += 1
            if self.beat == self.beats or len(self.need) == 1:
                self.beat = 0
                self.full = True
                self.tiles_left -= 1
                pass_end = self.tiles_left == 0
        left = self.words_left
        if put:
            self.rows.popleft()
            self.used -= 1
            held += self.row_bytes
            self.words_left = max(0, left - self.ports * self.row)
        if pass_end or self.skip:
            held = 0
            self.tiles_left = self.pass_tiles
            self.skip = left != 0
            if left == 0:
                self.words_left = self.pass_words
        self.held = held


class _Ports:
    """`hls.arbiter` and `hls.ports`: beats in order, ports that lag behind each other, banks that they share."""

    def __init__(self, ports: int):
        self.granted = [0] * ports
        self.left = [deque([0] * QUEUED_COMMANDS, QUEUED_COMMANDS) for _ in range(ports)]
        self.taken = 0
        self.complete = deque([0] * OUTSTANDING, OUTSTANDING)
        self.busy: dict[int, set[int]] = {}  # cycles in which a bank is taken

    def accept(self, t: int, banks: tuple[int, ...]) -> tuple[int, int]:
        """(cycle of the answer, first cycle in which another request may be accepted) of a full beat."""
        before = self.taken
        taken = max(t + 2, before + 1, self.complete[0] + 1, *(left[0] + 1 for left in self.left))
        last, own = 0, {}
        for port, left in enumerate(self.left):
            left.append(max(taken + 1, self.granted[port]))
            grant = left[-1] + 1
            if banks:
                busy = (own if banks[port] < 0 else self.busy).setdefault(banks[port], set())
                while grant in busy:
                    grant += 1
                busy.add(grant)
                if len(busy) > 100:
                    busy.difference_update([cycle for cycle in busy if cycle < t])
            self.granted[port] = grant
            last = max(last, grant)
        self.taken = taken
        self.complete.append(max(last + 2, self.complete[-1] + 1))
        return self.complete[-1] + 1, max(t + 1, before)


def simulate(f: dict, config: Config, banks_of: Banks = Banks(), fetch: bool = True) -> Estimate:
    """Run the descriptor with fields ``f``; ``fetch``: the next descriptor is read meanwhile."""
    f = {"GROUP_IN_STEP": 0, "KX_STEP": 0} | f
    ports = config.ports
    strips = len(strip_sizes(f))
    needs, marks, releases = _vectors(f, config)
    total = len(needs)
    weights = _Weights(f, config, strips)
    blocks = _store_blocks(f, config)
    uniform, residual, acc_init = (bool(f.get(name)) for name in ("UNIFORM", "RESIDUAL", "ACC_INIT"))
    width = config.diagonal if f.get("DIAGONAL") else config.cols

    # Descriptor fetch, parameters, aux, load: what is still to be asked for
    fetch_left = -(-WORDS // ports) if fetch else 0
    param_left = 0 if uniform else f["PARAM_WORDS"] // ports * strips
    param_depth = 1 << (4 * -(-config.cols // ports) - 1).bit_length()
    param_block = 2 * -(-width // ports)
    param_used = param_filled = param_blocks = 0
    params: deque[int] = deque()
    aux_left = sum(n for n, _ in blocks) if residual or acc_init else 0
    aux_room = AUX_BEATS
    aux: deque[int] = deque()
    init_blocks = deque(blocks) if acc_init else deque()
    init_left = init_blocks[0][0] if acc_init else 0
    init_banks = 2
    chunks, chunk_words = f["LOAD_X_COUNT"] * f["LOAD_Y_COUNT"], f["LOAD_C_COUNT"]
    chunk_left, asked, loaded, released = chunk_words, 0, 0, 0
    room = config.activation_words - ports
    arrivals: deque[tuple[int, int]] = deque()

    # Sequencer, drain, stores
    vector, go_at, step_count, strip = 0, FIRST_VECTOR, 0, 0
    banks = 0 if acc_init else 2
    to_full = READ_LATENCY + array_latency(config) + config.cols - 1 + ACC_LATENCY + 1
    finished: deque[int] = deque()
    block, block_left, full, store_room = 0, blocks[0][0], 0, STORE_BEATS
    results: deque[int] = deque()
    stores_left = sum(n for n, _ in blocks)
    load_stall = store_stall = 0
    bus_free, stored_at, loaded_at = 1, 0, 0
    memory = _Ports(ports).accept if banks_of.contended else lambda t, _: (t + ANSWER, t + 1)
    t = 0
    while stores_left:
        t += 1
        while arrivals and arrivals[0][0] <= t:
            loaded = arrivals.popleft()[1]
        freed = filled = 0
        release_at = released

        # Sequencer
        take = False
        if vector < total and t >= FIRST_VECTOR:
            mark = marks[vector]
            if needs[vector] > loaded or (mark & SWAP and not weights.full):
                load_stall += 1
            elif mark & GROUP_FIRST and not banks:
                store_stall += 1
            elif t >= go_at or mark & GROUP_FIRST or not mark & STEP_FIRST:
                vector += 1
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
                        release_at = releases[strip]
                        strip += 1

        # Drain
        while finished and finished[0] <= t:
            finished.popleft()
            full += 1
        issue = (full and store_room and block < len(blocks) and t >= FIRST_BEAT and (param_blocks or uniform)
                 and (not residual or (aux and aux[0] <= t)))

        # Bus: what may be asked for in this cycle, by priority
        if t >= bus_free:
            if fetch_left and t >= FETCH_ASKED:
                fetch_left -= 1
                _, bus_free = memory(t, banks_of.fetch)
            elif param_left and param_used < param_depth:
                param_left -= 1
                param_used += 1
                answer, bus_free = memory(t, banks_of.params)
                params.append(answer + QUEUED)
            elif weights.used < weights.low_mark and weights.wants():
                answer, bus_free = memory(t, banks_of.weights)
                weights.accept(answer)
            elif aux_left and aux_room and t >= FIRST_BEAT:
                aux_left -= 1
                aux_room -= 1
                answer, bus_free = memory(t, banks_of.aux)
                aux.append(answer + AUX_READY)
            elif results and results[0] <= t:
                results.popleft()
                stores_left -= 1
                filled = 1
                stored_at, bus_free = memory(t, banks_of.store)
            elif chunks and asked - released <= room:
                count = min(ports, chunk_left)
                asked += count
                chunk_left -= count
                if not chunk_left:
                    chunk_left = chunk_words
                    chunks -= 1
                answer, bus_free = memory(t, banks_of.load)
                loaded_at = answer + LOADED
                arrivals.append((loaded_at, asked))
            elif weights.wants():
                answer, bus_free = memory(t, banks_of.weights)
                weights.accept(answer)

        if issue:
            store_room -= 1
            results.append(t + READ_TO_RESULT + 1)
            if residual:
                aux.popleft()
                aux_room += 1
            block_left -= 1
            if not block_left:
                if not uniform:
                    param_blocks -= 1
                if blocks[block][1]:
                    freed = 1
                    full -= 1
                block += 1
                if block < len(blocks):
                    block_left = blocks[block][0]
        store_room += filled
        if params and params[0] <= t and param_blocks + (1 if issue and not uniform and not block_left else 0) != 2:
            params.popleft()
            param_used -= 1
            param_filled += 1
            if param_filled == param_block:
                param_filled = 0
                param_blocks += 1
        if acc_init:
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
        weights.step(t, take)
        released = release_at
    end = max(stored_at + STORED, loaded_at + 1)
    words = (f["LOAD_WORDS"] + (weights.pass_words + (0 if uniform else f["PARAM_WORDS"])) * strips
             + f["OUT_PX"] * f["GROUPS"] * f["COUT"] * (2 if residual or acc_init else 1) + WORDS * fetch)
    return Estimate(end, total, load_stall, store_stall, words)


def launch_cycles(config: Config, profile: bool) -> int:
    """Cycles between the end of a layer and the start of the next, whose descriptor has been fetched."""
    return LAUNCH + 1 + (-(-len(PROFILE_RECORD) // config.ports) if profile else 0)


def first_fetch_cycles(config: Config) -> int:
    """Cycles from the doorbell to the start of the first layer."""
    return DOORBELL + -(-WORDS // config.ports) - 1 + FETCH_READY + LAUNCH
