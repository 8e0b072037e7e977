"""Control: doorbell to interrupt. Registers, descriptors, layers one after the other, counters, errors."""

from myhdl import Signal, always, always_comb, block, concat, enum, intbv, modbv

from hls.descriptor import PROFILE_RECORD
from hls.descriptor_hw import Job
from hls.fetch import JOB, descriptor_fetch
from hls.mux import choose
from hls.registers import COUNTERS, ERRORS, REGIONS
from hls.slave import Commands, Readings, Slave, Windows, register_slave
from hls.unit import unit
from hls.wiring import join

__all__ = ["JOB", "Events", "Slave", "Windows", "control"]

_STATE = enum("IDLE", "FETCH", "LAUNCH", "RUN", "RECORD", "FINISH")

_WINDOWS = " ".join(f"windows.{kind}{i}" for i in range(4) for kind in ("base", "limit"))
_JOB = " ".join(f"job.{name}" for name in JOB.split())
_FETCH = " ".join(f"fetch_req.{name}" for name in ("valid", "addr", "stride", "count", "region"))
_PROFILE = " ".join(f"profile_req.{name}" for name in ("valid", "addr", "stride", "count", "region", "data"))


class Events:
    """What the performance counters count, per cycle."""

    def __init__(self):
        self.issue, self.load_stall, self.store_stall = (Signal(bool(0)) for _ in range(3))
        self.words = Signal(intbv(0)[3:])
        self.lost, self.lossy = (Signal(intbv(0)[6:]) for _ in range(2))


@unit(out=f"slave.gnt slave.rvalid slave.rdata irq idle {_WINDOWS} watchdog {_JOB} start {_FETCH} {_PROFILE} "
          "engine_rst cancel give_up")
def control(
    clk, rst, slave, irq, idle, windows, watchdog, job, start, load_done, drain_done, streams_idle, fetch_req,
    fetch_rsp_valid, rsp_data, profile_req, store_issued, store_returned, fault, fault_addr, timeout, timeout_addr,
    ports_busy, engine_rst, cancel, give_up, events, *, config
):
    """Run descriptor lists.

    slave (`Slave`), windows (`Windows`) and events (`Events`) are interfaces. ``start`` pulses once per layer;
    ``job`` (the fields of JOB, addresses absolute) holds from that cycle until the next layer's start. The layer
    has ended when load_done and drain_done (level or pulse, low in the cycle after start) were seen,
    streams_idle holds (no weight or parameter read queued or unanswered) and every store was answered:
    store_issued says that the arbiter accepts a store or profile beat in this cycle, store_returned that one
    beat is complete. The next descriptor is fetched while a layer runs.

    An error, or SOFT_RESET, pulses engine_rst (which includes rst; for everything but control and
    memory_ports) and raises cancel until ports_busy falls: queued commands are dropped, answers discarded.
    STATUS.DRAINING meanwhile; give_up (pulse) makes memory_ports forget what is due. SOFT_RESET also clears
    DONE, ERROR and IRQ_STATUS. A DOORBELL while busy or draining is error BUSY; while STATUS.ERROR is set it
    is ignored.
    """
    commands, readings = Commands(), Readings()
    irq_enable = Signal(intbv(0)[2:])
    state = Signal(_STATE.IDLE)
    busy, done, draining, resetting, forcing = (Signal(bool(0)) for _ in range(5))
    doorbell_ok, go, take, ready, load_seen, drain_seen, layer_end, record_end, failing, next_layer, finished = (
        Signal(bool(0)) for _ in range(11))
    error, failure, fetch_error = (Signal(intbv(0)[4:]) for _ in range(3))
    go_address, address, fetch_error_addr, failure_addr = (Signal(intbv(0)[32:]) for _ in range(4))
    pending = Signal(intbv(0)[8:])
    next_address = job.next
    bases = Job({f"base{i}": getattr(windows, f"base{i}") for i in range(REGIONS)})
    record = Job({name: getattr(readings, name) for name in PROFILE_RECORD})
    layers = Signal(modbv(0)[32:])
    window, timed_out, refused = (ERRORS[name][0] for name in ("WINDOW", "TIMEOUT", "BUSY"))

    @always_comb
    def decide():
        doorbell_ok.next = commands.doorbell and not busy and not draining and error == 0
        take.next = state == _STATE.FETCH and ready and fetch_error == 0
        layer_end.next = (state == _STATE.RUN and (load_done or load_seen) and (drain_done or drain_seen)
                          and streams_idle and pending == 0)
        finished.next = state == _STATE.FINISH and pending == 0

    @always_comb
    def follow_list():
        go.next = doorbell_ok or (start and not job.last)
        go_address.next = next_address
        if doorbell_ok:
            go_address.next = commands.address
        next_layer.next = record_end or (layer_end and not job.profile)

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
        elif commands.doorbell and (busy or draining) and error == 0:
            failure.next = refused
            failure_addr.next = commands.address
        elif state == _STATE.FETCH and ready and fetch_error != 0:
            failure.next = fetch_error
            failure_addr.next = fetch_error_addr
        else:
            failing.next = False

    @always(clk.posedge)
    def step():
        start.next = False
        resetting.next = False
        forcing.next = False
        if rst:
            state.next = _STATE.IDLE
            busy.next = False
            done.next = False
            error.next = 0
            readings.error_addr.next = 0
            readings.doorbell.next = 0
            readings.irq_status.next = 0
            layers.next = 0
            draining.next = False
        else:
            readings.irq_status.next = readings.irq_status & ~commands.irq_clear
            if draining and not resetting and not ports_busy:
                draining.next = False
            if commands.soft_reset or failing:
                state.next = _STATE.IDLE
                busy.next = False
                done.next = False
                resetting.next = True
                draining.next = True
                error.next = failure
                readings.error_addr.next = failure_addr
                readings.irq_status.next = (readings.irq_status & ~commands.irq_clear) | 2
                if commands.soft_reset:
                    forcing.next = commands.force
                    error.next = 0
                    readings.error_addr.next = 0
                    readings.irq_status.next = 0
            elif doorbell_ok:
                state.next = _STATE.FETCH
                busy.next = True
                done.next = False
                layers.next = 0
                readings.doorbell.next = commands.address
            elif take:
                state.next = _STATE.LAUNCH
                start.next = True
                readings.doorbell.next = address
            elif state == _STATE.LAUNCH:
                state.next = _STATE.RUN
            elif next_layer:
                layers.next = layers + 1
                state.next = _STATE.FETCH
                if job.last:
                    state.next = _STATE.FINISH
            elif layer_end:
                state.next = _STATE.RECORD
            elif finished:
                state.next = _STATE.IDLE
                busy.next = False
                done.next = True
                readings.irq_status.next = (readings.irq_status & ~commands.irq_clear) | 1

    @always(clk.posedge)
    def observe():
        load_seen.next = state == _STATE.RUN and (load_seen or load_done)
        drain_seen.next = state == _STATE.RUN and (drain_seen or drain_done)
        if rst or resetting or draining:
            pending.next = 0
        elif store_issued and not store_returned:
            pending.next = pending + 1
        elif store_returned and not store_issued:
            pending.next = pending - 1

    @always_comb
    def drive():
        engine_rst.next = rst or resetting
        cancel.next = draining
        give_up.next = forcing
        idle.next = not (busy or draining or ports_busy or slave.req or slave.rvalid)
        irq.next = (readings.irq_status & irq_enable) != 0
        readings.layers.next = layers
        readings.status.next = concat(intbv(0)[20:], error, intbv(0)[4:], draining, error != 0, done, busy)

    return (
        decide, follow_list, fail, step, observe, drive,
        register_slave(clk, rst, slave, windows, watchdog, irq_enable, commands, readings, config=config),
        descriptor_fetch(clk, engine_rst, go, go_address, take, bases, job, fetch_req, fetch_rsp_valid, rsp_data,
                         ready, fetch_error, fetch_error_addr, address, config=config),
        counters(clk, rst, commands.clear, busy, events, readings.cycle, readings.cycle_high,
                 *(getattr(readings, name.lower()) for name in COUNTERS)),
        profile_writer(clk, engine_rst, layer_end, job.profile, job.profile_addr, job.profile_addr_region, record,
                       profile_req, record_end, config=config),
    )


@unit(out="cycle cycle_high busy_cycles array_active load_stall store_stall bus_words lanes_lost lanes_lossy")
def counters(
    clk, rst, clear, busy, events, cycle, cycle_high, busy_cycles, array_active, load_stall, store_stall, bus_words,
    lanes_lost, lanes_lossy
):
    """Free-running cycle counter, and performance counters that ``clear`` sets to 0."""
    total = Signal(modbv(0)[64:])

    @always(clk.posedge)
    def run():
        total.next = total + 1
        if rst:
            total.next = 0

    @always_comb
    def drive():
        cycle.next = total[32:]
        cycle_high.next = total[64:32]

    pairs = ((busy, busy_cycles), (events.issue, array_active), (events.load_stall, load_stall),
             (events.store_stall, store_stall), (events.words, bus_words), (events.lost, lanes_lost),
             (events.lossy, lanes_lossy))
    return run, drive, [_counter(clk, rst, clear, amount, value) for amount, value in pairs]


@block
def _counter(clk, rst, clear, amount, value):
    total = Signal(modbv(0)[32:])
    extra = 32 - len(amount)

    @always(clk.posedge)
    def count():
        total.next = total + concat(intbv(0)[extra:], amount)
        if rst or clear:
            total.next = 0

    @always_comb
    def drive():
        value.next = total

    return count, drive


@unit(out="req.valid req.addr req.stride req.count req.region req.data last_accepted")
def profile_writer(clk, rst, ended, wanted, profile_addr, region, record, req, last_accepted, *, config):
    """Write the eight words of PROFILE_RECORD after ``ended``, if wanted; last_accepted when all are handed over.

    Words are read when they are handed over: nothing else runs meanwhile, so they differ by these few cycles.
    """
    ports, words = config.ports, len(PROFILE_RECORD)
    beats, last_count = -(-words // ports), (words - 1) % ports + 1
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
        elif ended and wanted:
            writing.next = True
            beat.next = 0
            addr.next = profile_addr
        elif writing and req.ready:
            beat.next = beat + 1
            addr.next = addr + 4 * ports
            if beat == beats - 1:
                writing.next = False

    return request, walk, [choose(values[i::ports], beat, lanes[i]) for i in range(ports)], join(lanes, req.data)
