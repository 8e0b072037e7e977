# SPDX-License-Identifier: Apache-2.0
"""Output walker: the loops strip, g, cb, px and beats of ``ports`` channels, with the addresses of each beat."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.config import Config
from hls.descriptor.interface.job import FieldSignals
from hls.descriptor.interface.table import LINEAR
from hls.descriptor.interface.timing import beats
from hls.lib.unit import unit
from hls.lib.wiring import ignore

_LOOPS = "diagonal acc_init halves out_w out_px strip_px first_px cbg groups ncb cout mark_blocks"


def loops(config: Config) -> str:
    """Descriptor fields of the loops."""
    return f"{_LOOPS} band" if config.banded else _LOOPS


_STEPS = "addr c_stride x_stride y_stride cb_step g_step"
_WORD = 30  # bits of a word address


def index_bits(count: int) -> int:
    """Bits of an index 0..count-1, at least one."""
    return max(1, (count - 1).bit_length())


class Beat:
    """Up to ``ports`` neighbouring channels of an output pixel, and where they lie on chip and in memory."""

    def __init__(self, config: Config) -> None:
        self.valid, self.bank, self.block_last, self.bank_last, self.mark = (Signal(bool(0)) for _ in range(5))
        self.addr = Signal(intbv(0)[32:])
        self.count = Signal(intbv(0)[3:])
        self.row = Signal(intbv(0)[index_bits(beats(config.cols, config)) :])
        self.entry = Signal(intbv(0)[index_bits(config.accumulator_entries) :])


def walk_job(job: FieldSignals, prefix: str, config: Config) -> FieldSignals:
    """The loops and the address steps of one side, under common names."""
    return FieldSignals(
        {n: getattr(job, n) for n in loops(config).split()} | {n: getattr(job, f"{prefix}_{n}") for n in _STEPS.split()}
    )


@unit(
    out="beat.valid beat.bank beat.block_last beat.bank_last beat.mark beat.addr beat.count beat.row beat.entry walking"
)
def output_walker(clk, rst, start, job, beat, ready, walking, *, config):
    """All beats of a layer's output, in order, one per cycle with ``ready``.

    beat: byte address, ``count`` channels, ``row`` = index of the beat among the pixel's, accumulator bank and
    entry; block_last and bank_last mark the last beat of a channel block and of a bank, ``mark`` that of a pixel in the
    last block of the last group, with MARK_BLOCKS in every block. ``walking`` from the cycle after start until the last
    beat has been taken.
    Banks go on alternating from layer to layer, as do their halves; ACC_INIT starts at bank 0.
    """
    parts, running, advance = [], Signal(bool(0)), Signal(bool(0))
    at, following, saved, row_start, saved_row, row_next = (Signal(modbv(0)[_WORD:]) for _ in range(6))
    x_step, y_step, c_step, cb_step, g_step, beat_step, first = (Signal(modbv(0)[_WORD:]) for _ in range(7))
    block_off, g_off, beat_off, word = (Signal(modbv(0)[_WORD:]) for _ in range(4))
    ox_left, saved_ox, ox_next, px_after = (Signal(modbv(0)[LINEAR:]) for _ in range(4))
    px_left, strip_px, strip_first, strip_next = (Signal(modbv(0)[16:]) for _ in range(4))
    cb_left, group_left, g_left, ch_after = (Signal(modbv(0)[16:]) for _ in range(4))
    ch_left, ch_block, ch_first, ch_next = (Signal(modbv(0)[6:]) for _ in range(4))
    ch_then = ch_next
    if config.banded:
        ch_then = Signal(modbv(0)[6:])
        parts.append(_then(job, ch_first, ch_next, ch_then))
    row = Signal(modbv(0)[len(beat.row) :])
    entry = Signal(modbv(0)[len(beat.entry) :])
    bank = Signal(modbv(0)[2:])  # memory, half
    half, half_next, pixel_end, block_end, bank_end, group_end, strip_end = (Signal(bool(0)) for _ in range(7))
    below = len(entry) - 1
    cols, diagonal, ports = config.cols, config.diagonal, config.ports
    for source, target in (
        (job.x_stride, x_step),
        (job.y_stride, y_step),
        (job.c_stride, c_step),
        (job.cb_step, cb_step),
        (job.g_step, g_step),
    ):
        parts.append(_low_word(source, target))
    parts.append(_times(c_step, beat_step, ports))

    @always_comb
    def sizes():
        first.next = job.addr[:2]
        strip_first.next = job.first_px
        if job.out_px < concat(intbv(0)[LINEAR - 16 :], job.first_px):
            strip_first.next = job.out_px[16:]
        strip_next.next = job.strip_px
        if px_after < concat(intbv(0)[LINEAR - 16 :], job.strip_px):
            strip_next.next = px_after[16:]

    @always_comb
    def channels():
        block = intbv(0)[6:]
        block[:] = cols
        if job.diagonal:
            block[:] = diagonal
        ch_first.next = block
        if job.cout < concat(intbv(0)[10:], block):
            ch_first.next = job.cout[6:]
        ch_next.next = block
        if ch_after < concat(intbv(0)[10:], block):
            ch_next.next = ch_after[6:]

    @always_comb
    def halve():
        half.next = job.halves and bank[1]
        half_next.next = job.halves and bank[1] != bank[0]

    @always_comb
    def step_pixel():
        following.next = at + x_step
        row_next.next = row_start
        ox_next.next = ox_left - 1
        if ox_left == 1:
            following.next = row_start + y_step
            row_next.next = row_start + y_step
            ox_next.next = job.out_w

    @always_comb
    def ends():
        pixel_end.next = ch_left <= ports
        block_end.next = ch_left <= ports and px_left == 1
        bank_end.next = ch_left <= ports and px_left == 1 and (cb_left == 1 or group_left == 1)
        group_end.next = ch_left <= ports and px_left == 1 and cb_left == 1
        strip_end.next = ch_left <= ports and px_left == 1 and cb_left == 1 and g_left == 1

    @always(clk.posedge)
    def walk():
        if rst:
            running.next = False
            bank.next = 0
        elif start:
            running.next = True
            if job.acc_init:
                bank.next = 0
            row.next = 0
            entry.next = concat(half, intbv(0)[below:])
            at.next = first
            saved.next = first
            row_start.next = first
            saved_row.next = first
            ox_left.next = job.out_w
            saved_ox.next = job.out_w
            px_left.next = strip_first
            strip_px.next = strip_first
            px_after.next = job.out_px - concat(intbv(0)[LINEAR - 16 :], strip_first)
            cb_left.next = job.ncb
            group_left.next = job.cbg
            g_left.next = job.groups
            ch_left.next = ch_first
            ch_block.next = ch_first
            ch_after.next = job.cout - concat(intbv(0)[10:], ch_first)
            block_off.next = 0
            g_off.next = 0
            beat_off.next = 0
        elif running and advance:
            row.next = row + 1
            beat_off.next = beat_off + beat_step
            ch_left.next = ch_left - ports
            if pixel_end:
                row.next = 0
                beat_off.next = 0
                ch_left.next = ch_block
                entry.next = entry + 1
                px_left.next = px_left - 1
                at.next = following
                row_start.next = row_next
                ox_left.next = ox_next
            if block_end:
                px_left.next = strip_px
                at.next = saved
                row_start.next = saved_row
                ox_left.next = saved_ox
                cb_left.next = cb_left - 1
                group_left.next = group_left - 1
                block_off.next = block_off + cb_step
                ch_left.next = ch_then
                ch_block.next = ch_then
                ch_after.next = ch_after - concat(intbv(0)[10:], ch_next)
            if bank_end:
                bank.next = bank + 1
                entry.next = concat(half_next, intbv(0)[below:])
                group_left.next = job.cbg
            if group_end:
                cb_left.next = job.ncb
                g_left.next = g_left - 1
                g_off.next = g_off + g_step
                block_off.next = g_off + g_step
                ch_left.next = ch_first
                ch_block.next = ch_first
                ch_after.next = job.cout - concat(intbv(0)[10:], ch_first)
            if strip_end:
                g_left.next = job.groups
                g_off.next = 0
                block_off.next = 0
                px_left.next = strip_next
                strip_px.next = strip_next
                px_after.next = px_after - concat(intbv(0)[LINEAR - 16 :], strip_next)
                at.next = following
                saved.next = following
                row_start.next = row_next
                saved_row.next = row_next
                ox_left.next = ox_next
                saved_ox.next = ox_next
                if px_after == 0:
                    running.next = False

    @always_comb
    def place():
        word.next = at + block_off + beat_off
        advance.next = ready or not beat.valid
        walking.next = running or beat.valid

    @always(clk.posedge)
    def emit():
        if rst:
            beat.valid.next = False
        elif advance:
            beat.valid.next = running
        if advance:
            beat.addr.next = concat(word, intbv(0)[2:])
            beat.count.next = ports
            if pixel_end:
                beat.count.next = ch_left[3:]
            beat.row.next = row
            beat.entry.next = entry
            beat.bank.next = bank[0]
            beat.block_last.next = block_end
            beat.bank_last.next = bank_end
            beat.mark.next = pixel_end and (job.mark_blocks or (cb_left == 1 and g_left == 1))

    return parts, ignore(job.addr, 0, 2), sizes, channels, halve, step_pixel, ends, walk, place, emit


@block
def _then(job, first, following, then):
    """Outputs of the next channel block: banded ones have equally many."""

    @always_comb
    def choose():
        then.next = first if job.band != 0 else following

    return choose


@block
def _low_word(source, target):
    """Word step modulo the address space."""

    @always_comb
    def cut():
        target.next = source[_WORD:]

    return ignore(source, _WORD, 32), cut


@block
def _times(source, target, factor):
    """``target`` is ``source`` times 1, 2, 3 or 4, modulo its width."""
    if factor == 1:

        @always_comb
        def same():
            target.next = source

        return same

    if factor == 3:

        @always_comb
        def triple():
            target.next = source + concat(source[_WORD - 1 :], False)

        return triple
    shift = factor // 2

    @always_comb
    def scaled():
        target.next = concat(source[_WORD - shift :], intbv(0)[shift:])

    return ignore(source, _WORD - shift, _WORD), scaled
