"""Drain: accumulator banks through the epilogue to memory; residual or initial values from memory.

Both sides walk the same loops (strip, g, cb, px, beats of ``ports`` channels), each with its own
`output_walker`: the store side one accumulator entry row per cycle, the aux side ahead of it.
"""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.arithmetic.epilogue import EPILOGUE_LATENCY, epilogue_lane
from hls.descriptor.job import Job
from hls.descriptor.table import LINEAR
from hls.lib.fifo import fifo
from hls.lib.mux import choose
from hls.lib.ram import ram
from hls.lib.unit import unit
from hls.lib.wiring import ignore, join, split

_LOOPS = "diagonal acc_init out_w out_px strip_px first_px cbg groups ncb cout"
_STEPS = "addr c_stride x_stride y_stride cb_step g_step"

DRAIN_JOB = (f"{_LOOPS} uniform residual act_first slope_en scale bias slope low high store_addr store_addr_region "
             "store_c_stride store_x_stride store_y_stride store_cb_step store_g_step mark_words mark_base")
"""Descriptor fields that `drain` reads."""

AUX_JOB = (f"{_LOOPS} residual aux_addr aux_addr_region aux_c_stride aux_x_stride aux_y_stride aux_cb_step "
           "aux_g_step")
"""Descriptor fields that `aux_reader` reads."""

AUX_BEATS = 16
"""Aux beats on their way or waiting."""

READ_TO_RESULT = 2 + EPILOGUE_LATENCY
"""Cycles from an accumulator read to its result: RAM, row register, epilogue."""

STORE_BEATS = 1 << (READ_TO_RESULT + 1).bit_length()
"""Places for beats between accumulator read and arbiter; a place is used for READ_TO_RESULT + 2 cycles or longer."""

_WORD = 30  # bits of a word address


def beat_rows(config):
    """Beats of one accumulator entry with all columns valid."""
    return -(-config.cols // config.ports)


def index_bits(count):
    """Bits of an index 0..count-1, at least one."""
    return max(1, (count - 1).bit_length())


class Beat:
    """Up to ``ports`` neighbouring channels of an output pixel, and where they lie on chip and in memory."""

    def __init__(self, config):
        self.valid, self.bank, self.block_last, self.bank_last, self.mark = (Signal(bool(0)) for _ in range(5))
        self.addr = Signal(intbv(0)[32:])
        self.count = Signal(intbv(0)[3:])
        self.row = Signal(intbv(0)[index_bits(beat_rows(config)):])
        self.entry = Signal(intbv(0)[index_bits(config.accumulator_entries):])


def walk_job(job, prefix):
    """The loops and the address steps of one side, under common names."""
    return Job({n: getattr(job, n) for n in _LOOPS.split()}
               | {n: getattr(job, f"{prefix}_{n}") for n in _STEPS.split()})


@unit(out="beat.valid beat.bank beat.block_last beat.bank_last beat.mark beat.addr beat.count beat.row beat.entry "
          "walking")
def output_walker(clk, rst, start, job, beat, ready, walking, *, config):
    """All beats of a layer's output, in order, one per cycle with ``ready``.

    beat: byte address, ``count`` channels, ``row`` = index of the beat among the pixel's, accumulator bank and
    entry; block_last and bank_last mark the last beat of a channel block and of a bank, ``mark`` that of a pixel in the
    last block of the last group. ``walking`` from the cycle after start until the last beat has been taken.
    Banks go on alternating from layer to layer; ACC_INIT starts at bank 0.
    """
    parts, running, advance = [], Signal(bool(0)), Signal(bool(0))
    at, following, saved, row_start, saved_row, row_next = (Signal(modbv(0)[_WORD:]) for _ in range(6))
    x_step, y_step, c_step, cb_step, g_step, beat_step, first = (Signal(modbv(0)[_WORD:]) for _ in range(7))
    block_off, g_off, beat_off, word = (Signal(modbv(0)[_WORD:]) for _ in range(4))
    ox_left, saved_ox, ox_next, px_after = (Signal(modbv(0)[LINEAR:]) for _ in range(4))
    px_left, strip_px, strip_first, strip_next = (Signal(modbv(0)[16:]) for _ in range(4))
    cb_left, group_left, g_left, ch_after = (Signal(modbv(0)[16:]) for _ in range(4))
    ch_left, ch_block, ch_first, ch_next = (Signal(modbv(0)[6:]) for _ in range(4))
    row = Signal(modbv(0)[len(beat.row):])
    entry = Signal(modbv(0)[len(beat.entry):])
    bank, pixel_end, block_end, bank_end, group_end, strip_end = (Signal(bool(0)) for _ in range(6))
    cols, diagonal, ports = config.cols, config.diagonal, config.ports
    for source, target in ((job.x_stride, x_step), (job.y_stride, y_step), (job.c_stride, c_step),
                           (job.cb_step, cb_step), (job.g_step, g_step)):
        parts.append(_low_word(source, target))
    parts.append(_times(c_step, beat_step, ports))

    @always_comb
    def sizes():
        first.next = job.addr[:2]
        strip_first.next = job.first_px
        if job.out_px < concat(intbv(0)[LINEAR - 16:], job.first_px):
            strip_first.next = job.out_px[16:]
        strip_next.next = job.strip_px
        if px_after < concat(intbv(0)[LINEAR - 16:], job.strip_px):
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
            bank.next = False
        elif start:
            running.next = True
            if job.acc_init:
                bank.next = False
            row.next = 0
            entry.next = 0
            at.next = first
            saved.next = first
            row_start.next = first
            saved_row.next = first
            ox_left.next = job.out_w
            saved_ox.next = job.out_w
            px_left.next = strip_first
            strip_px.next = strip_first
            px_after.next = job.out_px - concat(intbv(0)[LINEAR - 16:], strip_first)
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
                ch_left.next = ch_next
                ch_block.next = ch_next
                ch_after.next = ch_after - concat(intbv(0)[10:], ch_next)
            if bank_end:
                bank.next = not bank
                entry.next = 0
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
                px_after.next = px_after - concat(intbv(0)[LINEAR - 16:], strip_next)
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
            beat.bank.next = bank
            beat.block_last.next = block_end
            beat.bank_last.next = bank_end
            beat.mark.next = pixel_end and cb_left == 1 and g_left == 1

    return parts, ignore(job.addr, 0, 2), sizes, channels, step_pixel, ends, walk, place, emit


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
            target.next = source + concat(source[_WORD - 1:], False)

        return triple
    shift = factor // 2

    @always_comb
    def scaled():
        target.next = concat(source[_WORD - shift:], intbv(0)[shift:])

    return ignore(source, _WORD - shift, _WORD), scaled


@unit(out="bank_free drain_bank drain_addr param_take aux_take req.valid req.addr req.stride req.count req.region "
          "req.data req.mark available done left")
def drain(
    clk, rst, start, job, bank_done, bank_free, drain_bank, drain_addr, drain_data, param_valid, param_data,
    param_take, aux_valid, aux_data, aux_take, req, mark_returned, available, done, left, *, config
):
    """Read finished accumulator banks, apply the epilogue, store; one beat per cycle.

    Banks alternate; ``bank_done`` announces each, also before its layer starts here, ``bank_free`` says that its
    last entry is being read. drain_data (cols lanes) follows drain_bank and drain_addr by one cycle. Parameters come
    first word fall through, 2 beats (scales, biases) per row of a channel block, for every block of every strip, unless
    UNIFORM; residual beats likewise, one per store beat. ``done`` is low from the cycle after start until the
    last store beat was accepted (req.valid and req.ready), high otherwise. ``available``: MARK_BASE, and MARK_WORDS
    for every marked store beat that was answered (``mark_returned``) since start.
    ``left``: level, finished banks or parameters wait.
    """
    ports, width = config.ports, 32 * config.ports
    beat = Beat(config)
    walking, issue, params_ready, params_release = (Signal(bool(0)) for _ in range(4))
    full = Signal(intbv(0)[2:])
    room = Signal(intbv(0)[STORE_BEATS.bit_length():])
    row = Signal(intbv(0)[len(beat.row):])
    selected, acc, aux1, aux2, scales, biases, scale, bias, result = (Signal(intbv(0)[width:]) for _ in range(9))
    issued, operands_valid, data_valid, taken, place_valid, place_ready, data_ready = (
        Signal(bool(0)) for _ in range(7))
    place, place_in = (Signal(intbv(0)[36:]) for _ in range(2))
    words_done = Signal(modbv(0)[LINEAR:])
    same_scale, same_bias = (Signal(intbv(0)[width:]) for _ in range(2))
    result_valids = [Signal(bool(0)) for _ in range(ports)]

    @always_comb
    def decide():
        issue.next = (beat.valid and full != 0 and room != 0 and (params_ready or job.uniform)
                      and (aux_valid or not job.residual))

    @always_comb
    def drive():
        drain_bank.next = beat.bank
        drain_addr.next = beat.entry
        bank_free.next = issue and beat.bank_last
        aux_take.next = issue and job.residual
        params_release.next = issue and beat.block_last and not job.uniform
        place_in.next = concat(beat.mark, beat.count, beat.addr)

    @always_comb
    def store():
        req.valid.next = data_valid
        req.addr.next = place[32:]
        req.count.next = place[35:32]
        req.mark.next = place[35]
        req.stride.next = job.store_c_stride
        req.region.next = job.store_addr_region
        taken.next = data_valid and req.ready
        done.next = not walking and room == STORE_BEATS
        available.next = words_done
        left.next = full != 0 or params_ready

    @always(clk.posedge)
    def account():
        if start:
            words_done.next = job.mark_base
        elif mark_returned:
            words_done.next = words_done + job.mark_words
        if rst:
            full.next = 0
            room.next = STORE_BEATS
        else:
            if bank_done and not (issue and beat.bank_last):
                full.next = full + 1
            elif issue and beat.bank_last and not bank_done:
                full.next = full - 1
            if issue and not taken:
                room.next = room - 1
            elif taken and not issue:
                room.next = room + 1

    @always(clk.posedge)
    def follow():
        row.next = beat.row
        acc.next = selected
        aux1.next = aux_data
        aux2.next = aux1
        scale.next = scales
        bias.next = biases
        if job.uniform:
            scale.next = same_scale
            bias.next = same_bias
        issued.next = issue and not rst
        operands_valid.next = issued and not rst

    lanes = [[Signal(intbv(0)[32:]) for _ in range(ports)] for _ in range(5)]
    accs, scale_lanes, bias_lanes, aux_lanes, results = lanes
    return (
        decide, drive, store, account, follow,
        output_walker(clk, rst, start, walk_job(job, "store"), beat, issue, walking, config=config),
        param_rows(clk, rst, start, job.diagonal, param_valid, param_data, param_take, beat.row, params_release,
                   params_ready, scales, biases, config=config),
        _row_select(drain_data, row, selected, config),
        join([job.scale] * ports, same_scale), join([job.bias] * ports, same_bias),
        [split(bus, parts) for bus, parts in zip((acc, scale, bias, aux2), lanes)],
        [epilogue_lane(clk, rst, operands_valid, accs[i], scale_lanes[i], bias_lanes[i], aux_lanes[i],
                       job.residual, job.act_first, job.slope_en, job.slope, job.low, job.high, result_valids[i],
                       results[i]) for i in range(ports)],
        join(results, result),
        fifo(clk, rst, issue, place_ready, place_in, place_valid, taken, place, width=36, depth=STORE_BEATS),
        fifo(clk, rst, result_valids[0], data_ready, result, data_valid, taken, req.data, width=width,
             depth=STORE_BEATS),
    )


@block
def _row_select(entry, row, selected, config):
    """Words ``row * ports`` and following of an accumulator entry; anything where there is no such column."""
    ports = config.ports
    lanes = [Signal(intbv(0)[32:]) for _ in range(config.cols)]
    parts = [split(entry, lanes)]
    picked = [Signal(intbv(0)[32:]) for _ in range(ports)]
    for i in range(ports):
        parts.append(choose(lanes[i::ports] or lanes[:1], row, picked[i]))
    return parts, join(picked, selected)


@unit(out="take ready scales biases")
def param_rows(clk, rst, start, diagonal, valid, data, take, row, leave, ready, scales, biases, *, config):
    """Scales and biases of two channel blocks: one being used, one being filled from the stream.

    ``ready`` when the block in use is complete; its scales and biases of ``row`` follow one cycle later.
    ``leave`` ends its use.
    """
    row_bits = len(row)
    dense_last, diagonal_last = (-(-n // config.ports) - 1 for n in (config.cols, config.diagonal))
    width = 32 * config.ports
    blocks = Signal(intbv(0)[2:])
    fill_row = Signal(modbv(0)[row_bits:])
    fill_block, use_block, bias_next, scale_we, bias_we, filled = (Signal(bool(0)) for _ in range(6))
    waddr, raddr = (Signal(intbv(0)[row_bits + 1:]) for _ in range(2))

    @always_comb
    def decide():
        take.next = valid and blocks != 2
        scale_we.next = valid and blocks != 2 and not bias_next
        bias_we.next = valid and blocks != 2 and bias_next
        ready.next = blocks != 0
        waddr.next = concat(fill_block, fill_row)
        raddr.next = concat(use_block, row)

    @always_comb
    def finish():
        filled.next = bias_we and fill_row == dense_last
        if diagonal:
            filled.next = bias_we and fill_row == diagonal_last

    @always(clk.posedge)
    def account():
        if rst or start:
            blocks.next = 0
            fill_row.next = 0
            fill_block.next = False
            use_block.next = False
            bias_next.next = False
        else:
            if scale_we or bias_we:
                bias_next.next = not bias_next
            if bias_we:
                fill_row.next = fill_row + 1
            if filled:
                fill_row.next = 0
                fill_block.next = not fill_block
            if leave:
                use_block.next = not use_block
            if filled and not leave:
                blocks.next = blocks + 1
            elif leave and not filled:
                blocks.next = blocks - 1

    return (decide, finish, account,
            ram(clk, scale_we, waddr, data, raddr, scales, width=width, depth=2 << row_bits),
            ram(clk, bias_we, waddr, data, raddr, biases, width=width, depth=2 << row_bits))


@unit(out="req.valid req.addr req.stride req.count req.region init_valid init_bank init_addr init_data bank_ready "
          "aux_valid aux_data")
def aux_reader(
    clk, rst, start, job, req, rsp_valid, rsp_data, bank_free, init_valid, init_bank, init_addr, init_data,
    bank_ready, aux_valid, aux_data, aux_take, *, config
):
    """Read the AUX stream ahead of the store side, beat for beat; nothing without RESIDUAL or ACC_INIT.

    RESIDUAL: beats wait at aux_valid, aux_data (first word fall through) for aux_take. ACC_INIT: they are
    written to the accumulators' init port as soon as their bank is free (both are at start, then after each
    ``bank_free``); ``bank_ready`` pulses with the last write of each bank, which may be used from the next
    cycle on. Requests never exceed the room for their answers.
    """
    ports, cols = config.ports, config.cols
    beat, waiting = Beat(config), Beat(config)
    walk, walking, accepted, pop, init, may_ask = (Signal(bool(0)) for _ in range(6))
    data_valid, data_ready, place_valid, place_ready, ask_ready = (Signal(bool(0)) for _ in range(5))
    asked, queued = (Signal(intbv(0)[35:]) for _ in range(2))
    room = Signal(intbv(0)[AUX_BEATS.bit_length():])
    banks = Signal(intbv(0)[2:])
    row_bits, entry_bits = len(beat.row), len(beat.entry)
    width = 5 + row_bits + entry_bits
    place, place_in = (Signal(intbv(0)[width:]) for _ in range(2))
    words = [Signal(intbv(0)[32:]) for _ in range(ports)]
    valids = [Signal(bool(0)) for _ in range(cols)]

    @always_comb
    def request():
        walk.next = start and (job.residual or job.acc_init)
        accepted.next = beat.valid and may_ask and ask_ready
        asked.next = concat(beat.count, beat.addr)
        req.addr.next = queued[32:]
        req.count.next = queued[35:32]
        req.stride.next = job.aux_c_stride
        req.region.next = job.aux_addr_region
        place_in.next = concat(beat.bank_last, beat.bank, beat.count, beat.entry, beat.row)

    @always_comb
    def unpack():
        waiting.row.next = place[row_bits:]
        waiting.entry.next = place[row_bits + entry_bits:row_bits]
        waiting.count.next = place[row_bits + entry_bits + 3:row_bits + entry_bits]
        waiting.bank.next = place[row_bits + entry_bits + 3]
        waiting.bank_last.next = place[row_bits + entry_bits + 4]

    @always_comb
    def deliver():
        aux_valid.next = data_valid and job.residual
        init.next = data_valid and job.acc_init and banks != 0
        pop.next = aux_take or (data_valid and job.acc_init and banks != 0)
        bank_ready.next = data_valid and job.acc_init and banks != 0 and waiting.bank_last
        init_bank.next = waiting.bank
        init_addr.next = waiting.entry

    @always(clk.posedge)
    def account():
        if rst or start:
            room.next = AUX_BEATS
            may_ask.next = True
            banks.next = 2
        else:
            if accepted and not pop:
                room.next = room - 1
                may_ask.next = room != 1
            elif pop and not accepted:
                room.next = room + 1
                may_ask.next = True
            if bank_free and job.acc_init and not bank_ready:
                banks.next = banks + 1
            elif bank_ready and not bank_free:
                banks.next = banks - 1

    return (
        request, unpack, deliver, account,
        output_walker(clk, rst, walk, walk_job(job, "aux"), beat, accepted, walking, config=config),
        fifo(clk, rst, accepted, ask_ready, asked, req.valid, req.ready, queued, width=35, depth=2),
        fifo(clk, rst, accepted, place_ready, place_in, place_valid, pop, place, width=width, depth=AUX_BEATS),
        fifo(clk, rst, rsp_valid, data_ready, rsp_data, data_valid, pop, aux_data, width=32 * ports,
             depth=AUX_BEATS),
        split(aux_data, words), [_init_lane(init, waiting, valids[c], c, ports) for c in range(cols)],
        join(valids, init_valid), join([words[c % ports] for c in range(cols)], init_data),
        [ignore(word, 0, 32) for word in words[cols:]],
    )


@block
def _init_lane(init, beat, valid, column, ports):
    """Whether ``column`` is among the beat's channels."""
    row, lane = divmod(column, ports)

    @always_comb
    def decode():
        valid.next = init and beat.row == row and beat.count > lane

    return decode
