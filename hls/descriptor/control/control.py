# SPDX-License-Identifier: Apache-2.0
"""Control: doorbell to interrupt. Registers, descriptors, the stages' moves from layer to layer, counters, errors."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.bus.obi import Slave
from hls.config import Config
from hls.descriptor.control.control_stages import Stages, stage_fields, unread
from hls.descriptor.control.control_stages import stage as moves_of
from hls.descriptor.control.fetch import CHECKED, descriptor_fetch, fetch_job
from hls.descriptor.control.slave import Commands, Interrupts, Readings, Regions, register_slave
from hls.descriptor.interface.job import FieldSignals, job_signals
from hls.descriptor.interface.registers import COUNTERS, ERRORS, REGIONS
from hls.descriptor.interface.table import PROFILE_RECORD
from hls.descriptor.interface.timing import record_beats
from hls.lib.mux import choose
from hls.lib.unit import unit
from hls.lib.wiring import join

__all__ = ["stage_fields", "Events", "Slave", "Stages", "Regions", "control"]


_WINDOWS = " ".join(f"windows.{kind}{i}" for i in range(4) for kind in ("base", "limit"))
_STAGES = " ".join(
    f"stages.{stage}.{signal}"
    for stage, fields in stage_fields(Config()).items()
    for signal in ("start", *(f"job.{name}" for name in fields.split()))
)
_FETCH = " ".join(f"fetch_req.{name}" for name in ("valid", "addr", "stride", "count", "region"))
_PROFILE = " ".join(f"profile_req.{name}" for name in ("valid", "addr", "stride", "count", "region", "data"))


class Events:
    """What the performance counters count, per cycle."""

    def __init__(self) -> None:
        self.issue, self.load_stall, self.store_stall = (Signal(bool(0)) for _ in range(3))
        self.words = Signal(intbv(0)[3:])
        self.lost, self.lossy = (Signal(intbv(0)[6:]) for _ in range(2))


@unit(
    out=f"slave.gnt slave.rvalid slave.rdata irq idle {_WINDOWS} watchdog {_STAGES} load_open {_FETCH} {_PROFILE} "
    "engine_rst cancel give_up running"
)
def control(
    clk,
    rst,
    slave,
    irq,
    idle,
    windows,
    watchdog,
    stages,
    load_done,
    weights_idle,
    cut_done,
    params_idle,
    seq_busy,
    drain_done,
    leftover,
    load_open,
    fetch_req,
    fetch_rsp_valid,
    rsp_data,
    profile_req,
    store_issued,
    store_returned,
    fault,
    fault_addr,
    timeout,
    stalled,
    timeout_addr,
    ports_busy,
    late,
    engine_rst,
    cancel,
    give_up,
    running,
    events,
    *,
    config,
):
    """Run descriptor lists.

    slave (`Slave`), windows (`Regions`), stages (`Stages`) and events (`Events`) are interfaces. A fetched descriptor
    is offered to all stages; each takes it once, when it is through with the layer before: its job changes, and
    ``start`` pulses, in the next cycle. When all have it, the next descriptor is fetched. load_done, weights_idle,
    cut_done, params_idle, seq_busy and drain_done are levels that show the new layer from the cycle after start on.

    The drain stage (drain and aux reader) is through when drain_done holds, every store was answered and the profile
    record, if wanted, is handed over: the layer is then complete. store_issued says that the arbiter accepts a store
    or profile beat in this cycle, store_returned that one beat is complete. The parameter reader does not overtake
    the drain stage, nor does the sequencer with ACC_INIT in its layer or the one before. ``load_open``: the layers
    before the load engine's are complete, or its layer has no BARRIER.

    A refused descriptor is an error when a stage would take it. An error, or SOFT_RESET, pulses engine_rst (which
    includes rst; for everything but control and memory_ports) and raises cancel until ports_busy falls: queued
    commands are dropped, answers discarded. STATUS.DRAINING meanwhile; give_up (pulse) makes memory_ports forget what
    is due; answers that are ``late`` after it only forbid to gate the clock. SOFT_RESET also clears DONE, ERROR and
    IRQ_STATUS. A DOORBELL while busy or draining is error BUSY; while STATUS.ERROR is set it raises the interrupt
    again. A DOORBELL that is accepted pulses engine_rst too, in the next cycle: every list begins in the same state.

    ``running``: a list runs, and something is expected to move. ``leftover``: level, something was loaded that no
    layer has used; when a list ends so, it is error LEFTOVER.
    """
    commands, readings = Commands(), Readings()
    enabled, raised, state = Interrupts(), readings.pending, readings.state
    busy, done, draining, error = state.busy, state.done, state.draining, state.error
    resetting, forcing, beginning, fetch_rst = (Signal(bool(0)) for _ in range(4))
    doorbell_ok, go, ready, sound, failing, ended, finished = (Signal(bool(0)) for _ in range(7))
    storing, recording, stored, record_start, record_end, layer_end = (Signal(bool(0)) for _ in range(6))
    failure, fetch_error = (Signal(intbv(0)[len(error) :]) for _ in range(2))
    go_address, address, fetch_error_addr, failure_addr = (Signal(intbv(0)[32:]) for _ in range(4))
    pending, kept = Signal(intbv(0)[8:]), stage_fields(config)
    fetched = job_signals(fetch_job(config))
    free, asks, takes, taken = ({name: Signal(bool(0)) for name in kept} for _ in range(4))
    all_asks, all_taken = (Signal(intbv(0)[len(kept) :]) for _ in range(2))
    discard, seq_idle, params_done, refuse = (Signal(bool(0)) for _ in range(4))
    bases = FieldSignals({f"base{i}": getattr(windows, f"base{i}") for i in range(REGIONS)})
    record = FieldSignals({name: getattr(readings, name) for name in PROFILE_RECORD})
    layers = Signal(modbv(0)[32:])
    window, timed_out, refused, nothing_moves, unused = (
        ERRORS[name][0] for name in ("WINDOW", "TIMEOUT", "BUSY", "STALL", "LEFTOVER")
    )
    everyone = (1 << len(kept)) - 1
    load_free, weights_free, cut_free, params_free, seq_free, drain_free = free.values()
    load_taken, drain_taken, drain_take = taken["load"], taken["drain"], takes["drain"]
    load_start, weights_start, cut_start, params_start, seq_start, drain_start = (
        getattr(stages, name).start for name in kept
    )
    next_address = fetched.next
    drain_job, seq_job, load_job = stages.drain.job, stages.seq.job, stages.load.job

    @always_comb
    def complete():
        stored.next = storing and not recording and drain_done and not drain_start and pending == 0

    @always_comb
    def follow_drain():
        record_start.next = stored and drain_job.profile
        layer_end.next = record_end or (stored and not drain_job.profile)
        drain_free.next = not storing or (stored and not drain_job.profile)

    @always_comb
    def through():
        load_free.next = load_done and not load_start
        weights_free.next = weights_idle and not weights_start
        cut_free.next = cut_done and not cut_start
        params_done.next = params_idle and not params_start
        seq_idle.next = not seq_busy and not seq_start

    @always_comb
    def order():
        params_free.next = params_done and (drain_free or drain_taken)
        seq_free.next = seq_idle and (drain_free or drain_taken or not (fetched.acc_init or seq_job.acc_init))
        load_open.next = not load_taken or drain_taken or not load_job.barrier

    @always_comb
    def follow_list():
        doorbell_ok.next = commands.doorbell and not busy and not draining and error == 0
        sound.next = fetch_error == 0
        discard.next = ready and all_taken == everyone
        finished.next = (
            busy
            and ended
            and not storing
            and load_free
            and weights_free
            and cut_free
            and params_done
            and seq_idle
            and pending == 0
        )

    @always_comb
    def proceed():
        go.next = doorbell_ok or (discard and not fetched.last)
        go_address.next = next_address
        if doorbell_ok:
            go_address.next = commands.address

    @always_comb
    def fail():
        failing.next = True
        failure.next = 0
        failure_addr.next = 0
        if busy and fault:
            failure.next = window
            failure_addr.next = fault_addr
        elif busy and timeout:
            failure.next = timed_out
            failure_addr.next = timeout_addr
        elif busy and stalled:
            failure.next = nothing_moves
        elif commands.doorbell and (busy or draining) and error == 0:
            failure.next = refused
            failure_addr.next = commands.address
        elif refuse:
            failure.next = fetch_error
            failure_addr.next = fetch_error_addr
        elif finished and leftover:
            failure.next = unused
        else:
            failing.next = False

    @always(clk.posedge)
    def judge():
        refuse.next = busy and all_asks != 0 and not sound and not engine_rst

    @always(clk.posedge)
    def step():
        resetting.next = False
        forcing.next = False
        beginning.next = doorbell_ok and not rst
        if rst:
            busy.next = False
            done.next = False
            error.next = 0
            readings.error_addr.next = 0
            readings.doorbell.next = 0
            raised.done.next = False
            raised.error.next = False
            layers.next = 0
            draining.next = False
        else:
            if commands.clear_done:
                raised.done.next = False
            if commands.clear_error:
                raised.error.next = False
            if draining and not resetting and not ports_busy:
                draining.next = False
            if commands.soft_reset or failing:
                busy.next = False
                done.next = False
                resetting.next = True
                draining.next = True
                error.next = failure
                readings.error_addr.next = failure_addr
                raised.error.next = True
                if commands.soft_reset:
                    forcing.next = commands.force
                    error.next = 0
                    readings.error_addr.next = 0
                    raised.done.next = False
                    raised.error.next = False
            elif doorbell_ok:
                busy.next = True
                done.next = False
                layers.next = 0
                readings.doorbell.next = commands.address
            elif commands.doorbell:
                raised.error.next = True
            else:
                if drain_take:
                    readings.doorbell.next = address
                if layer_end:
                    layers.next = layers + 1
                if finished:
                    busy.next = False
                    done.next = True
                    raised.done.next = True

    @always(clk.posedge)
    def follow_layers():
        if engine_rst:
            ended.next = False
            storing.next = False
            recording.next = False
        else:
            if go:
                ended.next = False
            elif discard:
                ended.next = True
            if drain_take:
                storing.next = True
            elif layer_end:
                storing.next = False
            if record_start:
                recording.next = True
            elif record_end:
                recording.next = False

    @always(clk.posedge)
    def count_stores():
        if rst or resetting or draining:
            pending.next = 0
        elif store_issued and not store_returned:
            pending.next = pending + 1
        elif store_returned and not store_issued:
            pending.next = pending - 1

    @always_comb
    def drive():
        engine_rst.next = rst or resetting or beginning
        fetch_rst.next = rst or resetting
        running.next = busy
        cancel.next = draining
        give_up.next = forcing
        idle.next = not (busy or draining or ports_busy or late or slave.req or slave.rvalid)
        irq.next = (raised.done and enabled.done) or (raised.error and enabled.error)
        readings.layers.next = layers
        state.failed.next = error != 0

    counted = {name.lower(): getattr(readings, name.lower()) for name in ("CYCLE", "CYCLE_HIGH", *COUNTERS)}
    counted["busy_cycles"] = counted.pop("busy")
    return (
        complete,
        follow_drain,
        through,
        order,
        follow_list,
        proceed,
        fail,
        judge,
        step,
        follow_layers,
        count_stores,
        drive,
        join(list(asks.values()), all_asks),
        join(list(taken.values()), all_taken),
        [
            moves_of(
                clk=clk,
                rst=engine_rst,
                ready=ready,
                sound=sound,
                discard=discard,
                free=free[name],
                fetched=fetched,
                stage=getattr(stages, name),
                asks=asks[name],
                take=takes[name],
                taken=taken[name],
            )
            for name in kept
        ],
        [unread(getattr(fetched, name)) for name in CHECKED.split() if name not in " ".join(kept.values()).split()],
        register_slave(
            clk=clk,
            rst=rst,
            slave=slave,
            windows=windows,
            watchdog=watchdog,
            enabled=enabled,
            commands=commands,
            readings=readings,
            config=config,
        ),
        descriptor_fetch(
            clk=clk,
            rst=fetch_rst,
            go=go,
            go_address=go_address,
            discard=discard,
            bases=bases,
            job=fetched,
            req=fetch_req,
            rsp_valid=fetch_rsp_valid,
            rsp_data=rsp_data,
            ready=ready,
            error=fetch_error,
            error_addr=fetch_error_addr,
            address=address,
            config=config,
        ),
        counters(clk=clk, rst=rst, clear=commands.clear, busy=busy, events=events, **counted),
        profile_writer(
            clk=clk,
            rst=engine_rst,
            start=record_start,
            profile_addr=drain_job.profile_addr,
            region=drain_job.profile_addr_region,
            record=record,
            req=profile_req,
            last_accepted=record_end,
            config=config,
        ),
    )


@unit(out="cycle cycle_high busy_cycles array_active load_stall store_stall bus_words lanes_lost lanes_lossy")
def counters(
    clk,
    rst,
    clear,
    busy,
    events,
    cycle,
    cycle_high,
    busy_cycles,
    array_active,
    load_stall,
    store_stall,
    bus_words,
    lanes_lost,
    lanes_lossy,
):
    """Free-running cycle counter, and performance counters that ``clear`` sets to 0.

    Lanes are counted while a list runs: what a reset leaves in the array's pipeline is none of them.
    """
    total = Signal(modbv(0)[64:])
    lost, lossy = (Signal(intbv(0)[len(lanes) :]) for lanes in (events.lost, events.lossy))

    @always(clk.posedge)
    def run():
        total.next = total + 1
        if rst:
            total.next = 0

    @always_comb
    def drive():
        cycle.next = total[32:]
        cycle_high.next = total[64:32]
        lost.next = 0
        lossy.next = 0
        if busy:
            lost.next = events.lost
            lossy.next = events.lossy

    pairs = (
        (busy, busy_cycles),
        (events.issue, array_active),
        (events.load_stall, load_stall),
        (events.store_stall, store_stall),
        (events.words, bus_words),
        (lost, lanes_lost),
        (lossy, lanes_lossy),
    )
    return run, drive, [_counter(clk, rst, clear, amount, value) for amount, value in pairs]


@block
def _counter(clk, rst, clear, amount, value):
    total = Signal(modbv(0)[32:])
    extra = 32 - len(amount)

    @always(clk.posedge)
    def count():
        if rst or clear:
            total.next = 0
        elif amount != 0:
            total.next = total + concat(intbv(0)[extra:], amount)

    @always_comb
    def drive():
        value.next = total

    return count, drive


@unit(out="req.valid req.addr req.stride req.count req.region req.data last_accepted")
def profile_writer(clk, rst, start, profile_addr, region, record, req, last_accepted, *, config):
    """Write the eight words of PROFILE_RECORD after ``start``; last_accepted when all are handed over.

    Words are read when they are handed over, so they are a few cycles apart.
    """
    ports, words = config.ports, len(PROFILE_RECORD)
    beats, last_count = record_beats(config), (words - 1) % ports + 1
    beat = Signal(modbv(0)[3:])
    writing = Signal(bool(0))
    addr = Signal(modbv(0)[32:])
    values = [getattr(record, name) for name in PROFILE_RECORD]
    lanes = [Signal(intbv(0)[32:]) for _ in range(ports)]

    @always_comb
    def request():
        req.valid.next = writing
        req.addr.next = addr
        req.stride.next = 1
        req.region.next = region
        req.count.next = ports
        if beat == beats - 1:
            req.count.next = last_count
        last_accepted.next = writing and req.ready and beat == beats - 1

    @always(clk.posedge)
    def walk():
        if rst:
            writing.next = False
        elif start:
            writing.next = True
            beat.next = 0
            addr.next = profile_addr
        elif writing and req.ready:
            beat.next = beat + 1
            addr.next = addr + 4 * ports
            if beat == beats - 1:
                writing.next = False

    return request, walk, [choose(values[i::ports], beat, lanes[i]) for i in range(ports)], join(lanes, req.data)
