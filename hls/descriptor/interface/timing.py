# SPDX-License-Identifier: Apache-2.0
"""Timing and geometry: every latency, depth and size that hardware, models and planner share. All delays are cycles.

Hardware is generated from what stands above the line: a number changed here changes hardware and models together.
What stands below is counted from registers that are written by hand, in the unit named; `tests/test_timing.py`
measures each of them there, and those of `hls.arithmetic`, from which some numbers here are made.
"""

from dataclasses import dataclass

from hls.arithmetic.accumulator import Count, last_to_done
from hls.arithmetic.array import array_latency, load_beats
from hls.arithmetic.epilogue import EPILOGUE_LATENCY
from hls.arithmetic.function import FUNCTION_LATENCY, ROW_WORDS
from hls.config import Config
from hls.descriptor.interface.rules import block_params
from hls.descriptor.interface.table import PROFILE_RECORD, WORDS, Descriptor

ACTIVATION_LATENCY = 2
"""Activation buffer: from an address to its vector. RAM and output register are two; more are registers behind them."""

SCRATCHPAD_LATENCY = 2
"""Scratchpad: from an accepted request to its answer. RAM and output register, as above."""

QUEUED = 4
"""Commands by which a port may lag behind the others."""

OUTSTANDING = 8
"""Beats between command and answer."""

REQUESTS = 2
"""Requests of the load engine, or of the aux reader, that wait for bus or scratchpad."""

AUX_BEATS = 16
"""Aux beats on their way or waiting."""

HALF_BANKS = 4
"""Of the accumulators, two in each of two memories."""

ROW_LATENCY = 2
"""Drain: from the read of an accumulator to the epilogue. RAM, row register."""


def read_to_result(function: bool) -> int:
    """Drain: from the read of an accumulator to its result, or a function of it."""
    return ROW_LATENCY + EPILOGUE_LATENCY + (FUNCTION_LATENCY if function else 0)


def store_beats(config: Config) -> int:
    """Places for beats between accumulator read and arbiter; each is used for two cycles more than a result takes."""
    return 1 << (read_to_result(config.functions) + 1).bit_length()


def table_beat(config: Config) -> int:
    """Words of a function's table that are asked for at once."""
    return min(config.ports, 2)


def beats(words: int, config: Config) -> int:
    """Of neighbouring words."""
    return -(-words // config.ports)


def channels(f: Descriptor[object], config: Config) -> int:
    """Outputs of a channel block: its channels, or of a banded layer's channel neighbouring outputs of a row."""
    return f.cout if f.band else config.diagonal if f.diagonal else config.cols


def block_outputs(f: Descriptor[object], block: int, config: Config) -> int:
    """Of a channel block, of which the last may have fewer."""
    width = channels(f, config)
    return width if f.band else min(width, f.cout - block * width)


def param_beats(f: Descriptor[object], config: Config) -> int:
    """Scales and biases of a channel block, or of a banded layer's channel."""
    return block_params(config, bool(f.diagonal), bool(f.band), bool(f.packed_scales)) // config.ports


def param_depth(config: Config) -> int:
    """Beats in the FIFO of parameters: those of two dense channel blocks, at least."""
    return 1 << (4 * beats(config.cols, config) - 1).bit_length()


def fetch_beats(config: Config) -> int:
    """Of a descriptor."""
    return beats(WORDS, config)


def record_beats(config: Config) -> int:
    """Of a profile record."""
    return beats(len(PROFILE_RECORD), config)


def table_beats(f: Descriptor[object], config: Config) -> int:
    """Requests for the words of the table that a descriptor loads."""
    return f.load_table * f.table_rows * ROW_WORDS // table_beat(config)


@dataclass(frozen=True)
class WeightBuffer:
    """FIFO of weights and the gearbox behind it, which cuts rows of the FIFO into load beats of the array. In bytes.

    load_beats: of a dense tile, each of `beat` bytes, the last one of `last`. row_beats: bus beats of a row, enough
    for a row of INT8 weights; row: its bytes. depth: rows of the FIFO; with fewer than low_mark waiting, weights
    are urgent. refill: with at most so many held, the gearbox takes another row.
    """

    load_beats: int
    beat: int
    last: int
    row_beats: int
    row: int
    depth: int
    low_mark: int
    refill: int

    @property
    def capacity(self) -> int:
        """Of the FIFO."""
        return self.depth * self.row


def weight_buffer(config: Config) -> WeightBuffer:
    dense = load_beats(config)
    beat = config.load_rows * config.cols
    last = config.rows * config.cols - (dense - 1) * beat
    row_beats = -(-config.cols // (4 * config.ports))
    row = 4 * config.ports * row_beats
    depth = 1 << ((config.weight_bytes // row).bit_length() - 1)
    low_mark = min(depth // 2, -(-2 * config.rows * config.cols // row) + 4)
    return WeightBuffer(
        load_beats=dense,
        beat=beat,
        last=last,
        row_beats=row_beats,
        row=row,
        depth=depth,
        low_mark=low_mark,
        refill=2 * beat - 1,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Counted, each in the unit named

COMMAND = 2
"""Arbiter: from an accepted request to the ports' command."""

REQUEST = 2
"""Ports: from a command to the request on the bus."""

MEMORY = 1
"""Bus: from a grant to the answer."""

COLLECTED = 2
"""Ports: from the last word's answer to the beat's."""

ANSWER = COMMAND + REQUEST + MEMORY + COLLECTED
"""From an accepted request to its answer, where no port waits."""

NEXT = 1
"""Control: from the last stage's taking a descriptor to the fetch of the next one."""

FETCH_ASKED = 2
"""Fetch: from there to the first request."""

FETCH_CHECKED = 3
"""Fetch: from the last answer to a descriptor that is ready."""

FETCH_READY = ANSWER + FETCH_CHECKED
"""Fetch: from the last request to a descriptor that is ready."""

FIRST_LOAD = 1
"""Load: from start to the first request's entering the queue."""

LOADED = 1
"""Load: from an answer to words that may be read."""

FIRST_PASS = 1
"""Passes: from start to the first request."""

PASS_STORED = 1
"""Passes: from an answer to a row that is stored."""

PASS_HEAD = 1
"""Passes: from there to the head of an empty FIFO."""

FIRST_VECTOR = 4
"""Sequencer: from start to the first vector."""

RELEASED = 2
"""Sequencer and load: from a strip's last vector to the room that it leaves."""

FIRST_BEAT = 2
"""Drain: from start to the first beat of the walkers."""

FIRST_AUX = FIRST_BEAT + 1
"""Aux reader: from start to the first request, through the queue of requests."""

FIRST_TABLE = 2
"""Aux reader: from start to the first request for words of a table, through the queue of requests."""

TABLE_READY = 1
"""Aux reader: from the last answer to the first read of an accumulator."""

AUX_READY = 1
"""Aux reader: from an answer to a beat that may be used."""

SCRATCHPAD_MARK = 1
"""Scratchpad: from an accepted beat to the mark of its being stored."""

STORED = 1
"""Drain and control: from an answer to a store to its being counted."""

RESULT_QUEUE = 1
"""Drain: from a result to the store's request."""

BANK_FULL = 1
"""Drain: from a bank's last sum to its first read."""

RECORD = 1
"""Control: from a layer's last store to the request for its profile record."""


def vector_to_drain(config: Config, entries: Count) -> Count:
    """From the last vector of an accumulator bank's ``entries`` to the first cycle in which the drain may read it."""
    return ACTIVATION_LATENCY + array_latency(config) + last_to_done(config.cols, entries) + BANK_FULL


def read_to_store(function: bool) -> int:
    """From the read of an accumulator to the store's request, by way of the function unit or not."""
    return read_to_result(function) + RESULT_QUEUE


def fetch_cycles(config: Config) -> int:
    """From the last stage's taking a descriptor to the next descriptor's being ready."""
    return NEXT + FETCH_ASKED + fetch_beats(config) + FETCH_READY


def vector_to_end(config: Config) -> int:
    """From the last vector of a layer without a function to its end, if its last bank is a single beat."""
    return vector_to_drain(config, 1) + read_to_store(False) + ANSWER + STORED + RECORD + record_beats(config)
