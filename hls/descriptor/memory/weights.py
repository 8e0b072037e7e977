# SPDX-License-Identifier: Apache-2.0
"""Weight loader: streams the weights of every strip through a FIFO and cuts them into load beats of the array."""

from math import gcd

from myhdl import ConcatSignal, Signal, SignalType, always, always_comb, block, concat, intbv, modbv

from hls.arithmetic.array import load_beats
from hls.config import Config
from hls.descriptor.interface.table import LINEAR
from hls.descriptor.interface.timing import weight_buffer
from hls.descriptor.memory.passes import count_strips, pass_reader
from hls.lib.delay import glue
from hls.lib.mux import choose
from hls.lib.unit import unit
from hls.lib.wiring import ignore, join, resize

_NOTHING = intbv(0)[8:]

WEIGHT_JOB = "weight_addr weight_addr_region weight_words unit_weights out_px first_px strip_px"
"""Descriptor fields that the weight loader's fetching side reads."""


def cut_fields(config: Config) -> str:
    """Descriptor fields that the weight loader's cutting side reads."""
    fields = "weight_words unit_weights diagonal out_px first_px strip_px groups ncb kh kx kb"
    return " ".join([fields, *["int4"] * config.int4_weights, *["band"] * config.banded])


class _Tile:
    """A tile on its way to the array."""

    def __init__(self) -> None:
        self.valid, self.ends_pass, self.ends_layer = (Signal(bool(0)) for _ in range(3))


@unit(
    out="req.valid req.addr req.stride req.count req.region req.urgent load_valid load_data load_beat load_diag "
    "tile_ready idle cut_done left"
)
def weight_loader(
    clk,
    rst,
    start,
    job,
    cut_start,
    cut_job,
    req,
    rsp_valid,
    rsp_data,
    load_valid,
    load_data,
    load_beat,
    load_diag,
    tile_ready,
    tile_take,
    idle,
    cut_done,
    left,
    *,
    config,
):
    """Present every tile's bytes to the array, up to one beat per cycle.

    Two sides that go from layer to layer by themselves: ``start`` and ``job`` tell what to fetch into the FIFO,
    ``cut_start`` and ``cut_job`` how to cut it into tiles. Each may start its next layer as soon as it is
    ``idle`` or ``cut_done``.

    load_data is 8*load_rows*cols bits: byte (r mod load_rows)*cols + c of beat r // load_rows, where the taps of a
    banded tile have become a dense one; diagonal tiles (load_diag) are one beat, byte c for column c. load_beat has
    hls.arithmetic.array.beat_bits(config) bits.
    ``tile_ready``: all beats of the next tile were presented in earlier cycles. ``tile_take`` (only with
    tile_ready) frees the shadow weights: the first beat of the tile after may be presented in that same cycle. A
    tile that waits to be taken outlives ``cut_start``.
    ``idle``: level, see `passes`; weights that fit the FIFO are fetched once for all strips. ``cut_done``: level,
    low from the cycle after ``cut_start`` until all tiles of the layer were presented, and its padding dropped.
    ``left``: level, weights or a tile wait.
    """
    ports, diagonal = config.ports, config.diagonal
    buffer = weight_buffer(config)
    beats, beat_bytes, last_bytes = buffer.load_beats, buffer.beat, buffer.last
    row, row_bytes, depth, low_mark = buffer.row_beats, buffer.row, buffer.depth, buffer.low_mark
    # The buffer between rows and beats is counted in grains: every step of its contents is a multiple of one
    grain = gcd(row_bytes, beat_bytes, last_bytes, diagonal)
    row_grains, beat_grains, last_grains, diagonal_grains = (
        n // grain for n in (row_bytes, beat_bytes, last_bytes, diagonal)
    )
    refill = buffer.refill // grain  # at most so many held: another row is taken, whether or not a beat leaves
    most_grains = row_grains * (1 + config.int4_weights)
    space = refill + most_grains
    size = space.bit_length()
    row_step = ports * row
    enable, full, q_valid, q_take, skip, put, again, more, more_left = (Signal(bool(0)) for _ in range(9))
    presents, out, last_beat, tile_end, pass_end, ends_pass, begins = (Signal(bool(0)) for _ in range(7))
    beat_data = Signal(intbv(0)[8 * beat_bytes :])
    short, leave, stays = cut_job.diagonal, out, None  # a tile of D bytes; a beat's bytes leave with it
    if config.banded:
        short, leave, stays = (Signal(bool(0)) for _ in range(3))
    # Tiles are counted ahead: the one in the gearbox and the one behind it, whether they end a pass and the layer
    tile, behind, coming = (_Tile() for _ in range(3))
    walking, step, walk_end, last_strip = (Signal(bool(0)) for _ in range(4))
    waiting = Signal(modbv(0)[(depth - 1).bit_length() + 1 :])
    q_data = Signal(intbv(0)[8 * row_bytes :])
    row_weights = Signal(intbv(0)[8 * most_grains * grain :])
    words_left, pass_words = (Signal(modbv(0)[LINEAR:]) for _ in range(2))  # words_left: only while `more`
    data, kept, shifted, filled, added = (Signal(modbv(0)[8 * space * grain :]) for _ in range(5))
    held, need, rest, total, of_row, incoming = (Signal(modbv(0)[size:]) for _ in range(6))
    beat = Signal(modbv(0)[len(load_beat) :])
    g_left, cb_left, kb_left = (Signal(modbv(0)[16:]) for _ in range(3))
    kx_left, ky_left = (Signal(modbv(0)[8:]) for _ in range(2))
    g_last, cb_last, ky_last, kx_last, kb_last = (Signal(bool(0)) for _ in range(5))  # registers: the counter is 1
    g_end, cb_end, ky_end, kx_end = (Signal(bool(0)) for _ in range(4))
    reader = pass_reader(
        clk=clk,
        rst=rst,
        start=start,
        enable=enable,
        base=job.weight_addr,
        words=job.weight_words,
        out_px=job.out_px,
        first_px=job.first_px,
        strip_px=job.strip_px,
        req_valid=req.valid,
        req_ready=req.ready,
        req_addr=req.addr,
        rsp_valid=rsp_valid,
        rsp_data=rsp_data,
        stored=waiting,
        q_valid=q_valid,
        q_data=q_data,
        q_take=q_take,
        idle=idle,
        ports=ports,
        depth=depth,
        row=row,
    )

    @always_comb
    def fixed():
        enable.next = not job.unit_weights
        req.stride.next = 1
        req.count.next = ports
        req.region.next = job.weight_addr_region
        pass_words.next = 0 if cut_job.unit_weights else cut_job.weight_words
        cut_done.next = not walking and not tile.valid and not skip

    @always(clk.posedge)
    def hurry():
        req.urgent.next = waiting < low_mark

    @always_comb
    def lasts():
        last_beat.next = cut_job.diagonal or beat == beats - 1
        kx_end.next = kb_last and kx_last
        ky_end.next = kb_last and kx_last and ky_last
        cb_end.next = kb_last and kx_last and ky_last and cb_last
        g_end.next = kb_last and kx_last and ky_last and cb_last and g_last

    @always_comb
    def demand():
        need.next = beat_grains
        if cut_job.unit_weights:
            need.next = 0
        elif short:
            need.next = diagonal_grains
        elif last_beat:
            need.next = last_grains

    @always_comb
    def decide():  # tile_take is late, and so is all that follows from `out`: `presents` and sums are not
        presents.next = tile.valid and not skip and held >= need
        out.next = presents and (not full or tile_take)
        put.next = q_valid and more and held <= refill
        q_take.next = more and held <= refill

    @always_comb
    def ends():
        ends_pass.next = presents and last_beat and tile.ends_pass
        tile_end.next = out and last_beat
        pass_end.next = out and ends_pass

    @always_comb
    def continues():  # `begins`: another pass, if this beat leaves
        begins.next = ends_pass and not tile.ends_layer and pass_words != 0 and not more
        again.next = (cut_start or (skip and tile.valid)) and pass_words != 0 and not more
        more_left.next = words_left > row_step if put else more

    @always_comb
    def cut():
        if short:
            shifted.next = filled >> (8 * diagonal)
        elif last_beat:
            shifted.next = filled >> (8 * last_bytes)
        else:
            shifted.next = filled >> (8 * beat_bytes)

    @always_comb
    def keep():  # where nothing is held, padding may lie
        kept.next = 0
        if held != 0:
            kept.next = data

    @always_comb
    def fill():
        filled.next = kept
        incoming.next = 0
        if put:
            filled.next = kept | added
            incoming.next = of_row

    @always_comb
    def remain():
        total.next = held + incoming
        rest.next = held + incoming - need
        if last_beat and tile.ends_pass:
            rest.next = 0
        if cut_start or skip:
            total.next = 0
            rest.next = 0

    @always(clk.posedge)
    def gearbox():
        held.next = rest if leave else total
        if put or leave:
            data.next = shifted if leave else filled

    @always(clk.posedge)
    def count_words():
        if put:
            words_left.next = words_left - row_step
        if not more:
            words_left.next = pass_words
        more.next = (more_left or again or (begins and out)) and not rst

    @always(clk.posedge)
    def skip_padding():
        skip.next = (pass_end or skip) and more and not rst

    @always(clk.posedge)
    def shadow():
        full.next = tile_end or (full and not tile_take)
        if out:
            beat.next = beat + 1
        if tile_end or cut_start:
            beat.next = 0
        if rst:
            full.next = False

    @always_comb
    def look_ahead():
        step.next = walking and not behind.valid
        walk_end.next = walking and not behind.valid and g_end
        coming.valid.next = walking or behind.valid
        coming.ends_pass.next = g_end
        coming.ends_layer.next = g_end and last_strip
        if behind.valid:
            coming.ends_pass.next = behind.ends_pass
            coming.ends_layer.next = behind.ends_layer

    @always(clk.posedge)
    def follow():
        behind.valid.next = coming.valid and tile.valid and not tile_end
        behind.ends_pass.next = coming.ends_pass
        behind.ends_layer.next = coming.ends_layer
        if tile_end or not tile.valid:
            tile.valid.next = coming.valid
            tile.ends_pass.next = coming.ends_pass
            tile.ends_layer.next = coming.ends_layer
        if rst:
            tile.valid.next = False
            behind.valid.next = False

    @always(clk.posedge)
    def walk():
        if step:
            kb_left.next = kb_left - 1
            kb_last.next = kb_left == 2
        if step and kb_last:
            kb_left.next = cut_job.kb
            kb_last.next = cut_job.kb == 1
            kx_left.next = kx_left - 1
            kx_last.next = kx_left == 2
        if step and kx_end:
            kx_left.next = cut_job.kx
            kx_last.next = cut_job.kx == 1
            ky_left.next = ky_left - 1
            ky_last.next = ky_left == 2
        if step and ky_end:
            ky_left.next = cut_job.kh
            ky_last.next = cut_job.kh == 1
            cb_left.next = cb_left - 1
            cb_last.next = cb_left == 2
        if step and cb_end:
            cb_left.next = cut_job.ncb
            cb_last.next = cut_job.ncb == 1
            g_left.next = g_left - 1
            g_last.next = g_left == 2
        if walk_end:
            g_left.next = cut_job.groups
            g_last.next = cut_job.groups == 1
            walking.next = not last_strip
        if cut_start:
            walking.next = True
            g_left.next = cut_job.groups
            g_last.next = cut_job.groups == 1
            cb_left.next = cut_job.ncb
            cb_last.next = cut_job.ncb == 1
            kb_left.next = cut_job.kb
            kb_last.next = cut_job.kb == 1
            kx_left.next = cut_job.kx
            kx_last.next = cut_job.kx == 1
            ky_left.next = cut_job.kh
            ky_last.next = cut_job.kh == 1
        if rst:
            walking.next = False

    ones = ConcatSignal(*[intbv(0)[7:], True] * beat_bytes)

    @always_comb
    def present():
        load_valid.next = out
        load_beat.next = beat
        load_diag.next = cut_job.diagonal
        tile_ready.next = full
        left.next = full or q_valid
        load_data.next = beat_data
        if cut_job.unit_weights:
            load_data.next = ones

    @always_comb
    def whole():
        beat_data.next = data[8 * beat_bytes :]

    bytes_of_beat = [whole]
    if config.banded:
        bytes_of_beat = [
            _stay(
                job=cut_job,
                presents=presents,
                full=full,
                tile_take=tile_take,
                last_beat=last_beat,
                short=short,
                stays=stays,
                leave=leave,
            ),
            _banded(
                clk=clk,
                start=cut_start,
                band=cut_job.band,
                out=out,
                tile_end=tile_end,
                beat=beat,
                data=data,
                beat_data=beat_data,
                config=config,
            ),
        ]

    return (
        bytes_of_beat,
        reader,
        fixed,
        hurry,
        lasts,
        demand,
        decide,
        ends,
        continues,
        cut,
        keep,
        fill,
        remain,
        gearbox,
        count_words,
        skip_padding,
        shadow,
        look_ahead,
        follow,
        walk,
        present,
        count_strips(clk, cut_start, walk_end, cut_job.out_px, cut_job.first_px, cut_job.strip_px, last_strip),
        _unpack(q_data, cut_job.int4 if config.int4_weights else None, row_weights, of_row, row_grains),
        _insert(row_weights, held, added, 8 * grain, refill.bit_length()),
    )


@block
def _stay(job, presents, full, tile_take, last_beat, short, stays, leave):
    """The taps of a banded tile stay until its last beat."""

    @always_comb
    def hold():
        short.next = job.diagonal or job.band != 0
        stays.next = job.band != 0 and not last_beat

    @always_comb
    def decide():
        leave.next = presents and not stays and (not full or tile_take)

    return hold, decide


@block
def _banded(clk, start, band, out, tile_end, beat, data, beat_data, config):
    """The bytes of a beat: those of ``data``; or, where ``band`` is not 0, its rows of a tile that has the first D
    bytes of data in its first column, and ``band`` rows further down in every next one."""
    cols, load_rows = config.cols, config.load_rows
    every = load_rows * load_beats(config)
    places = {step: [load_rows - 1 - j + step * c for j in range(load_rows) for c in range(cols)] for step in (1, 2)}
    rows = 1 + max(i for own in places.values() for i in own if i < every)  # that a beat takes anything from
    beat_bits, above_bits = 8 * load_rows * cols, 8 * (rows - load_rows)
    taps = [data(8 * i + 8, 8 * i) if i < config.diagonal else None for i in range(every)]
    row_taps = [Signal(intbv(0)[8:]) if i < config.diagonal else _NOTHING for i in range(load_rows)]
    column = Signal(intbv(0)[8 * rows :])  # the first one, upwards from the lowest row of the beat
    above = [Signal(intbv(0)[above_bits:])] if above_bits else []

    close, wide = (glue([column(8 * i + 8, 8 * i) if i < rows else _NOTHING for i in places[step]]) for step in (1, 2))

    @always_comb
    def select():
        beat_data.next = data[beat_bits:]
        if band == 1:
            beat_data.next = close
        elif band == 2:
            beat_data.next = wide

    return (
        [choose(taps[i::load_rows], beat, row_taps[i]) for i in range(min(load_rows, config.diagonal))],
        join([*reversed(row_taps), *above], column),
        [_remember(clk, start, out, tile_end, column, line, above_bits) for line in above],
        select,
    )


@block
def _remember(clk, start, out, tile_end, column, above, bits):
    """The rows of a tile that are above the next beat's."""

    @always(clk.posedge)
    def shift():
        if out:
            above.next = column[bits:]
        if start or tile_end:
            above.next = 0

    return shift


@block
def _unpack(row, int4, weights, grains, row_grains):
    """``weights``, of so many ``grains``: the bytes of the row, or where its weights have 4 bits, these as bytes."""
    if int4 is None:

        @always_comb
        def whole():
            weights.next = row
            grains.next = row_grains

        return whole
    wide = _widened(row)
    extra = len(row)

    @always_comb
    def choose():
        weights.next = concat(intbv(0)[extra:], row)
        grains.next = row_grains
        if int4:
            weights.next = wide
            grains.next = 2 * row_grains

    return choose


def _widened(row: SignalType) -> ConcatSignal:
    parts = []
    for at in range(0, len(row), 4):
        parts += [row(at + 4, at), *[row(at + 3)] * 4]
    return ConcatSignal(*reversed(parts))


@block
def _insert(row, position, placed, grain_bits, stages):
    """``placed`` is ``row`` moved up by ``position`` grains; position has ``stages`` bits that count."""
    levels = [Signal(modbv(0)[len(placed) :]) for _ in range(stages)] + [placed]
    moves = [_move(position, levels[i], levels[i + 1], i, grain_bits << i) for i in range(stages)]
    return resize(row, levels[0]), moves, ignore(position, stages, len(position))


@block
def _move(position, source, target, bit, distance):
    @always_comb
    def move():
        target.next = source
        if position[bit]:
            target.next = source << distance

    return move
