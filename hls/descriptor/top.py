# SPDX-License-Identifier: Apache-2.0
"""The accelerator: every unit of the hardware, connected."""

from pathlib import Path

from myhdl import ConcatSignal, Signal, SignalType, always, always_comb, block, concat, intbv

from hls import __version__
from hls.arithmetic.accumulator import EntryRead, EntryWrite, accumulators
from hls.arithmetic.array import array_latency, beat_bits, count_bits, systolic_array
from hls.arithmetic.function import TableWrite
from hls.bus.obi import Masters, Slave
from hls.config import Config
from hls.descriptor.control.control import Events, Stages, control
from hls.descriptor.control.sequencer import sequencer, sequencer_job
from hls.descriptor.control.slave import Regions
from hls.descriptor.drain.aux_reader import aux_job, aux_reader
from hls.descriptor.drain.drain import drain, drain_job
from hls.descriptor.interface.table import LINEAR
from hls.descriptor.interface.timing import ACTIVATION_LATENCY
from hls.descriptor.memory.activation_buffer import Write, activation_buffer, rows_apart
from hls.descriptor.memory.arbiter import ANSWERS, Request, arbiter
from hls.descriptor.memory.load import load_engine, load_job
from hls.descriptor.memory.params import param_reader
from hls.descriptor.memory.ports import Answer, Command, memory_ports
from hls.descriptor.memory.scratchpad import RingStart, scratchpad
from hls.descriptor.memory.weights import weight_loader
from hls.lib.convert import convert
from hls.lib.delay import delay_line
from hls.lib.fifo import Stream
from hls.lib.unit import unit
from hls.lib.wiring import ignore, resize


@unit(out="s.gnt s.rvalid s.rdata m.req m.we m.be m.addr m.wdata irq idle")
def heepstor(clk, rst_n, s, m, irq, idle, *, config):
    """Systolic accelerator: OBI slave ``s`` (registers), ``config.ports`` OBI masters ``m``, interrupt, idle.

    rst_n is synchronous. ``idle`` says that the clock may be gated: no list runs and no bus answer is due.
    """
    ports, rows, cols = config.ports, config.rows, config.cols

    def bits(*widths):
        return [Signal(intbv(0)[w:]) for w in widths]

    def flags(n):
        return [Signal(bool(0)) for _ in range(n)]

    rst, engine_rst, cancel, give_up = flags(4)
    stages = Stages(config)
    windows, events = Regions(), Events()
    fetch, params, weights, aux, load = (
        Request(ports, urgent=name == "weights") for name in ("fetch", "params", "weights", "aux", "load")
    )
    store, profile = (Request(ports, data=True, mark=name == "store") for name in ("store", "profile"))
    bus_load, bus_aux, bus_store = load, aux, store
    if config.scratchpad_words:
        bus_load, bus_aux, bus_store = Request(ports), Request(ports), Request(ports, data=True, mark=True)

    cmd, rsp = Command(ports), Answer(ports, len(ANSWERS))
    store_issued, store_returned, fault, busy, late, timeout, stalled = flags(7)
    running, progress, leftover, load_left, weights_left, drain_left = flags(6)
    words, fault_addr, timeout_addr, watchdog = bits(3, 32, 32, 32)
    answered = {name: rsp.valid(i) for i, name in enumerate(ANSWERS)}

    load_done, weights_idle, cut_done, params_idle, walking, drain_done, load_open = flags(7)
    bus = [
        control(
            clk=clk,
            rst=rst,
            slave=s,
            irq=irq,
            idle=idle,
            windows=windows,
            watchdog=watchdog,
            stages=stages,
            load_done=load_done,
            weights_idle=weights_idle,
            cut_done=cut_done,
            params_idle=params_idle,
            seq_busy=walking,
            drain_done=drain_done,
            leftover=leftover,
            load_open=load_open,
            fetch_req=fetch,
            fetch_rsp_valid=answered["fetch"],
            rsp_data=rsp.data,
            profile_req=profile,
            store_issued=store_issued,
            store_returned=store_returned,
            fault=fault,
            fault_addr=fault_addr,
            timeout=timeout,
            stalled=stalled,
            timeout_addr=timeout_addr,
            ports_busy=busy,
            late=late,
            engine_rst=engine_rst,
            cancel=cancel,
            give_up=give_up,
            running=running,
            events=events,
            config=config,
        ),
        arbiter(
            clk=clk,
            rst=engine_rst,
            windows=windows,
            fetch=fetch,
            params=params,
            weights=weights,
            aux=bus_aux,
            store=bus_store,
            profile=profile,
            load=bus_load,
            cmd=cmd,
            store_issued=store_issued,
            fault=fault,
            fault_addr=fault_addr,
            config=config,
        ),
        memory_ports(
            clk=clk,
            rst=rst,
            cancel=cancel,
            give_up=give_up,
            running=running,
            progress=progress,
            watchdog=watchdog,
            cmd=cmd,
            rsp=rsp,
            m_req=m.req,
            m_we=m.we,
            m_be=m.be,
            m_addr=m.addr,
            m_wdata=m.wdata,
            m_gnt=m.gnt,
            m_rvalid=m.rvalid,
            m_rdata=m.rdata,
            busy=busy,
            late=late,
            words=words,
            timeout=timeout,
            stalled=stalled,
            timeout_addr=timeout_addr,
            config=config,
        ),
    ]

    read_load, read_aux, marked = answered["load"], answered["aux"], answered["mark"]
    read_count, read_data, read_aux_data, on_chip = rsp.count, rsp.data, rsp.data, []
    if config.scratchpad_words:
        read_load, read_aux, marked, local_load, local_aux, local_mark = flags(6)
        read_count, read_data, read_aux_data, local_count, local_data = bits(3, *[len(rsp.data)] * 2, 3, len(rsp.data))
        begin, behind = stages.load.job, stages.drain.job
        on_chip = [
            scratchpad(
                clk=clk,
                rst=engine_rst,
                load=load,
                aux=aux,
                store=store,
                load_place=RingStart(begin.load_addr, begin.load_ring),
                aux_place=RingStart(behind.aux_addr, behind.aux_ring),
                store_place=RingStart(behind.store_addr, behind.store_ring),
                bus_load=bus_load,
                bus_aux=bus_aux,
                bus_store=bus_store,
                read_load=local_load,
                read_aux=local_aux,
                rsp_count=local_count,
                rsp_data=local_data,
                marked=local_mark,
                config=config,
            ),
            _any(answered["load"], local_load, read_load),
            _any(answered["aux"], local_aux, read_aux),
            _any(answered["mark"], local_mark, marked),
            _pick(local_load, local_count, rsp.count, read_count),
            _pick(local_load, local_data, rsp.data, read_data),
            _pick(local_aux, local_data, rsp.data, read_aux_data),
        ]
    loaded, released, available = bits(*[LINEAR] * 3)
    wr, param = Write(ports), Stream(32 * ports)
    load_valid, load_diag, tile_ready, tile_take = flags(4)
    load_data, load_beat = bits(8 * config.load_rows * cols, beat_bits(config))
    loaders = [
        load_engine(
            clk=clk,
            rst=engine_rst,
            start=stages.load.start,
            job=stages.load.job.subset(load_job(config)),
            load_open=load_open,
            available=available,
            released=released,
            req=load,
            rsp_valid=read_load,
            rsp_count=read_count,
            rsp_data=read_data,
            wr=wr,
            loaded=loaded,
            done=load_done,
            left=load_left,
            config=config,
        ),
        weight_loader(
            clk=clk,
            rst=engine_rst,
            start=stages.weights.start,
            job=stages.weights.job,
            cut_start=stages.cut.start,
            cut_job=stages.cut.job,
            req=weights,
            rsp_valid=answered["weights"],
            rsp_data=rsp.data,
            load_valid=load_valid,
            load_data=load_data,
            load_beat=load_beat,
            load_diag=load_diag,
            tile_ready=tile_ready,
            tile_take=tile_take,
            idle=weights_idle,
            cut_done=cut_done,
            left=weights_left,
            config=config,
        ),
        param_reader(
            clk=clk,
            rst=engine_rst,
            start=stages.params.start,
            job=stages.params.job,
            req=params,
            rsp_valid=answered["params"],
            rsp_data=rsp.data,
            out=param,
            idle=params_idle,
            config=config,
        ),
    ]

    seq, end = stages.seq, stages.drain
    issue, bank_free, bank_ready, acc_bank, acc_first, acc_last, acc_many = flags(7)
    rd_addr, lane_lo, lane_hi = bits((config.activation_words - 1).bit_length(), *[rows.bit_length()] * 2)
    apart = rows_apart(config)
    (entry_bits,) = [(config.accumulator_entries - 1).bit_length()]
    (acc_entry,), (vec,) = bits(entry_bits), bits(32 * rows)
    vec_valid, vec_swap, vec_diag, vec_max, late_load_valid, late_load_diag = flags(6)
    late_load_data, late_load_beat = bits(len(load_data), len(load_beat))
    col_valid, col_data, lost, lossy = bits(cols, 32 * cols, count_bits(config), count_bits(config))
    datapath = [
        sequencer(
            clk=clk,
            rst=engine_rst,
            start=seq.start,
            job=seq.job.subset(sequencer_job(config)),
            loaded=loaded,
            tile_ready=tile_ready,
            bank_free=bank_free,
            bank_ready=bank_ready,
            released=released,
            busy=walking,
            issue=issue,
            tile_take=tile_take,
            rd_addr=rd_addr,
            apart=apart,
            lane_lo=lane_lo,
            lane_hi=lane_hi,
            acc_entry=acc_entry,
            acc_bank=acc_bank,
            acc_first=acc_first,
            acc_last=acc_last,
            acc_many=acc_many,
            load_stall=events.load_stall,
            store_stall=events.store_stall,
            config=config,
        ),
        activation_buffer(
            clk=clk,
            wr=wr,
            read=issue,
            rd_addr=rd_addr,
            apart=apart,
            lane_lo=lane_lo,
            lane_hi=lane_hi,
            pad_value=seq.job.pad_value,
            vec=vec,
            config=config,
        ),
        _follow(clk, engine_rst, issue, tile_take, vec_valid, vec_swap),
        _follow(clk, engine_rst, seq.job.diagonal, seq.job.max, vec_diag, vec_max),
        _follow(clk, engine_rst, load_valid, load_diag, late_load_valid, late_load_diag),
        delay_line(clk, load_data, late_load_data, load_valid, width=len(load_data), cycles=ACTIVATION_LATENCY),
        delay_line(clk, load_beat, late_load_beat, width=len(load_beat), cycles=ACTIVATION_LATENCY),
        systolic_array(
            clk=clk,
            rst=engine_rst,
            vec_valid=vec_valid,
            vec=vec,
            vec_swap=vec_swap,
            vec_diag=vec_diag,
            vec_max=vec_max,
            load_valid=late_load_valid,
            load_data=late_load_data,
            load_beat=late_load_beat,
            load_diag=late_load_diag,
            col_valid=col_valid,
            col_data=col_data,
            lost_lanes=lost,
            coarse_lanes=lossy,
            config=config,
        ),
        ignore(col_valid, 1, cols),
        resize(lost, events.lost),
        resize(lossy, events.lossy),
    ]

    op_width = entry_bits + 5
    (op_out,) = bits(op_width)
    op_in = ConcatSignal(seq.job.max, acc_many, acc_last, acc_first, acc_bank, acc_entry)
    op_entry = op_out(entry_bits, 0)
    op_bank, op_first, op_last, op_many, op_max = (op_out(entry_bits + i) for i in range(5))
    (bank_done,) = flags(1)
    init, read = (kind(cols, config.accumulator_entries) for kind in (EntryWrite, EntryRead))
    addend = Stream(32 * ports)
    table, table_ready = (TableWrite(), Signal(bool(0))) if config.functions else (None, None)
    results = [
        delay_line(clk, op_in, op_out, width=op_width, cycles=ACTIVATION_LATENCY + array_latency(config)),
        accumulators(
            clk=clk,
            rst=engine_rst,
            valid=col_valid(0),
            addr=op_entry,
            bank=op_bank,
            first=op_first,
            max_mode=op_max,
            last=op_last,
            many=op_many,
            col_data=col_data,
            bank_done=bank_done,
            init=init,
            drain=read,
            cols=cols,
            entries=config.accumulator_entries,
        ),
        drain(
            clk=clk,
            rst=engine_rst,
            start=end.start,
            job=end.job.subset(drain_job(config)),
            bank_done=bank_done,
            bank_free=bank_free,
            drain=read,
            param=param,
            aux=addend,
            table=table,
            table_ready=table_ready,
            req=store,
            mark_returned=marked,
            available=available,
            done=drain_done,
            left=drain_left,
            config=config,
        ),
        aux_reader(
            clk=clk,
            rst=engine_rst,
            start=end.start,
            job=end.job.subset(aux_job(config)),
            req=aux,
            rsp_valid=read_aux,
            rsp_data=read_aux_data,
            bank_free=bank_free,
            init=init,
            bank_ready=bank_ready,
            aux=addend,
            table=table,
            table_ready=table_ready,
            config=config,
        ),
    ]

    store_bit, mark_bit, profile_bit = (ANSWERS.index(name) for name in ("store", "mark", "profile"))

    @always_comb
    def glue():
        rst.next = not rst_n
        store_returned.next = rsp.valid[store_bit] or rsp.valid[mark_bit] or rsp.valid[profile_bit]
        events.issue.next = issue
        events.words.next = words

    @always(clk.posedge)
    def watch():
        progress.next = (
            issue
            or load_valid
            or wr.valid
            or param.take
            or addend.take
            or init.valid != 0
            or (store.valid and store.ready)
        )

    @always_comb
    def remain():
        leftover.next = load_left or weights_left or param.valid or addend.valid or drain_left

    return bus, on_chip, loaders, datapath, results, glue, watch, remain


@block
def _any(one, other, both):
    @always_comb
    def either():
        both.next = one or other

    return either


@block
def _pick(first, one, other, chosen):
    """A layer's stream has all its words from the scratchpad, or all from the bus."""

    @always_comb
    def choose():
        chosen.next = one if first else other

    return choose


@block
def _follow(clk, rst, valid, mark, valid_late, mark_late):
    """``valid`` and ``mark``, ACTIVATION_LATENCY cycles later; nothing survives a reset."""
    line = Signal(intbv(0)[2 * ACTIVATION_LATENCY :])
    top = 2 * ACTIVATION_LATENCY

    @always(clk.posedge)
    def advance():
        line.next = concat(line[top - 2 :], valid, mark)
        if rst:
            line.next = 0

    @always_comb
    def output():
        valid_late.next = line[top - 1]
        mark_late.next = line[top - 2]

    return advance, output


def accelerator_signals(config: Config) -> dict[str, SignalType | Slave | Masters]:
    """Fresh signals for `heepstor`, by port name."""
    return {
        "clk": Signal(bool(0)),
        "rst_n": Signal(bool(0)),
        "s": Slave(),
        "m": Masters(config.ports),
        "irq": Signal(bool(0)),
        "idle": Signal(bool(0)),
    }


def generate(config: Config, out_dir: str | Path) -> list[Path]:
    """Write the accelerator of ``config`` to ``out_dir``, one file per module, the root in `config.root`.v."""
    origin = f"heepgen {__version__}, configuration 0x{config.hash:08x}"
    return convert(
        lambda: heepstor(**accelerator_signals(config), config=config), out_dir, config.root, config.prefix, origin
    )
