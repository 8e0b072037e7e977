# SPDX-License-Identifier: Apache-2.0
"""Memory ports: beats of up to P words become OBI transactions on P masters, and answers become beats again."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.descriptor.interface.timing import OUTSTANDING, QUEUED
from hls.lib.fifo import fifo
from hls.lib.select import first_of
from hls.lib.unit import unit
from hls.lib.wiring import join, split


class Command:
    """A beat of ``count`` (1..P) words, word i on port i: to write, or to read for stream ``tag``."""

    def __init__(self, ports: int) -> None:
        self.valid, self.ready, self.write = (Signal(bool(0)) for _ in range(3))
        self.count, self.tag = (Signal(intbv(0)[3:]) for _ in range(2))
        self.addr, self.wdata = (Signal(intbv(0)[32 * ports :]) for _ in range(2))


class Answer:
    """What a command came to, writes too: ``valid`` has a bit per stream, high for one cycle."""

    def __init__(self, ports: int, streams: int) -> None:
        self.valid = Signal(intbv(0)[streams:])
        self.count = Signal(intbv(0)[3:])
        self.data = Signal(intbv(0)[32 * ports :])


@unit(
    out="cmd.ready rsp.valid rsp.count rsp.data m_req m_we m_be m_addr m_wdata busy late words timeout stalled "
    "timeout_addr"
)
def memory_ports(
    clk,
    rst,
    cancel,
    give_up,
    running,
    progress,
    watchdog,
    cmd,
    rsp,
    m_req,
    m_we,
    m_be,
    m_addr,
    m_wdata,
    m_gnt,
    m_rvalid,
    m_rdata,
    busy,
    late,
    words,
    timeout,
    stalled,
    timeout_addr,
    *,
    config,
):
    """Issue words 0..count-1 of each command on ports 0..count-1 and return beats in command order.

    ``cmd`` is a `Command`, ``rsp`` an `Answer`.
    OBI masters: P ports packed in m_req(P), m_we(P), m_be(4P), m_addr(32P), m_wdata(32P), m_gnt(P),
    m_rvalid(P), m_rdata(32P); intbv also when P is 1. A request is held until its grant.

    ``rst`` clears everything. ``cancel`` (level; keep it until ``busy`` falls) drops what has not been requested
    yet and new commands, and discards answers. ``give_up`` (pulse) also forgets requests; a port with answers still due
    is ``late``: it discards them, and requests nothing until the last has come, or until the next give_up.
    ``watchdog``(32; 0 is off): ``timeout`` pulses when something has been due on the bus for so many cycles without
    any grant, answer or ``progress``, with ``timeout_addr``, the latest address of the lowest port that waits;
    ``stalled`` when nothing is due but ``running`` holds.
    ``words``(3): words granted in the cycle before. ``busy``: commands or answers are held or due.

    Latency: request 2 cycles after the command, rsp.valid 2 cycles after the last rvalid.
    """
    ports, streams = config.ports, len(rsp.valid)
    clear, drop, taken, complete = (Signal(bool(0)) for _ in range(4))
    push, pop, room, missing, have, req, we, gnt, rvalid, held, waiting, moved, granted, late_port = (
        [Signal(bool(0)) for _ in range(ports)] for _ in range(14)
    )
    addr, wdata, rdata, out_addr, out_wdata, answer = ([Signal(intbv(0)[32:]) for _ in range(ports)] for _ in range(6))
    all_room, all_missing, all_held, all_waiting, all_moved, all_late = (Signal(intbv(0)[ports:]) for _ in range(6))
    answers = Signal(intbv(0)[32 * ports :])
    tag_in, tag_out = (Signal(intbv(0)[6:]) for _ in range(2))
    tag_room, tag_valid = (Signal(bool(0)) for _ in range(2))
    count, granted_now = (Signal(modbv(0)[3:]) for _ in range(2))
    masters = [
        memory_port(
            clk=clk,
            rst=rst,
            clear=clear,
            drop=drop,
            push=push[i],
            room=room[i],
            cmd_write=cmd.write,
            cmd_addr=addr[i],
            cmd_wdata=wdata[i],
            have=have[i],
            pop=pop[i],
            answer=answer[i],
            req=req[i],
            we=we[i],
            addr=out_addr[i],
            wdata=out_wdata[i],
            gnt=gnt[i],
            rvalid=rvalid[i],
            rdata=rdata[i],
            held=held[i],
            waiting=waiting[i],
            moved=moved[i],
            granted=granted[i],
            late=late_port[i],
        )
        for i in range(ports)
    ]
    order = fifo(
        clk=clk,
        rst=drop,
        in_valid=taken,
        in_ready=tag_room,
        in_data=tag_in,
        out_valid=tag_valid,
        out_ready=complete,
        out_data=tag_out,
        width=6,
        depth=OUTSTANDING,
    )
    buses = [
        split(cmd.addr, addr),
        split(cmd.wdata, wdata),
        split(m_gnt, gnt),
        split(m_rvalid, rvalid),
        split(m_rdata, rdata),
        join(req, m_req),
        join(we, m_we),
        join(out_addr, m_addr),
        join(out_wdata, m_wdata),
        join(answer, answers),
        join(room, all_room),
        join(missing, all_missing),
        join(held, all_held),
        join(waiting, all_waiting),
        join(moved, all_moved),
        join(late_port, all_late),
    ]
    lanes = [
        _lane(
            index=i,
            taken=taken,
            cmd_count=cmd.count,
            push=push[i],
            complete=complete,
            count=count,
            have=have[i],
            missing=missing[i],
            pop=pop[i],
        )
        for i in range(ports)
    ]
    bytes_enabled, every_port = (1 << 4 * ports) - 1, (1 << ports) - 1

    @always_comb
    def controls():
        clear.next = rst or give_up
        drop.next = rst or give_up or cancel
        m_be.next = bytes_enabled
        busy.next = all_held != 0 or tag_valid
        late.next = all_late != 0

    @always_comb
    def take():
        cmd.ready.next = all_room == every_port and tag_room
        taken.next = cmd.valid and all_room == every_port and tag_room and not drop
        tag_in.next = concat(cmd.tag, cmd.count)

    @always_comb
    def head():
        count.next = tag_out[3:]
        complete.next = tag_valid and all_missing == 0 and not drop

    @always(clk.posedge)
    def respond():
        words.next = granted_now
        rsp.valid.next = 0
        if complete:
            rsp.valid.next = concat(intbv(0)[streams - 1 :], True) << tag_out[6:3]
            rsp.count.next = count
            rsp.data.next = answers

    return (
        masters,
        order,
        buses,
        lanes,
        controls,
        take,
        head,
        respond,
        _count(granted, granted_now),
        _watchdog(
            clk=clk,
            clear=clear,
            limit=watchdog,
            waiting=all_waiting,
            running=running,
            moved=all_moved,
            progress=progress,
            timeout=timeout,
            stalled=stalled,
        ),
        first_of(waiting, out_addr, timeout_addr),
    )


@block
def _lane(index, taken, cmd_count, push, complete, count, have, missing, pop):
    """Whether port ``index`` takes part in the command and in the oldest beat."""

    @always_comb
    def part():
        push.next = taken and cmd_count > index
        missing.next = count > index and not have
        pop.next = complete and count > index

    return part


@block
def _count(bits, total):
    """``total`` is the number of ``bits`` set."""
    bit, zeros = bits[0], len(total) - 1
    if len(bits) == 1:

        @always_comb
        def one():
            total.next = concat(intbv(0)[zeros:], bit)

        return one

    rest = Signal(modbv(0)[len(total) :])

    @always_comb
    def add():
        total.next = rest + bit

    return add, _count(bits[1:], rest)


@block
def _watchdog(clk, clear, limit, waiting, running, moved, progress, timeout, stalled):
    """Pulse one of the two after every ``limit`` cycles in a row in which nothing moved; never if it is 0."""
    cycles = Signal(modbv(0)[32:])

    @always(clk.posedge)
    def watch():
        timeout.next = False
        stalled.next = False
        cycles.next = 0
        if (waiting != 0 or running) and moved == 0 and not progress and limit != 0 and not clear:
            cycles.next = cycles + 1
            if cycles + 1 >= limit:
                timeout.next = waiting != 0
                stalled.next = waiting == 0
                cycles.next = 0

    return watch


@unit(out="room have answer req we addr wdata held waiting moved granted late")
def memory_port(
    clk,
    rst,
    clear,
    drop,
    push,
    room,
    cmd_write,
    cmd_addr,
    cmd_wdata,
    have,
    pop,
    answer,
    req,
    we,
    addr,
    wdata,
    gnt,
    rvalid,
    rdata,
    held,
    waiting,
    moved,
    granted,
    late,
):
    """One OBI master: command queue, request register, answer FIFO.

    ``rst`` forgets everything, ``clear`` (set with rst) all but the count of answers due, ``drop`` (set with clear) all
    but that and the request on the bus. Answers that a clear leaves due are ``late``: they are discarded, and the
    request after them waits, unless another clear comes.
    ``held``: something is queued, requested or due; ``waiting``: requested or due; ``moved``: grant or due answer.
    """
    cmd, queued = (Signal(intbv(0)[65:]) for _ in range(2))
    queue_valid, advance, due, keep, keep_room, have_answer, late_due = (Signal(bool(0)) for _ in range(7))
    outstanding = Signal(intbv(0)[OUTSTANDING.bit_length() :])
    queue = fifo(
        clk=clk,
        rst=drop,
        in_valid=push,
        in_ready=room,
        in_data=cmd,
        out_valid=queue_valid,
        out_ready=advance,
        out_data=queued,
        width=65,
        depth=QUEUED,
    )
    answers = fifo(
        clk=clk,
        rst=drop,
        in_valid=keep,
        in_ready=keep_room,
        in_data=rdata,
        out_valid=have_answer,
        out_ready=pop,
        out_data=answer,
        width=32,
        depth=OUTSTANDING,
    )

    @always_comb
    def glue():
        cmd.next = concat(cmd_write, cmd_wdata, cmd_addr)
        have.next = have_answer

    @always_comb
    def bus():
        advance.next = not drop and not late_due and (gnt or not req)
        due.next = rvalid and outstanding != 0
        keep.next = rvalid and outstanding != 0 and not drop and not late_due
        granted.next = req and gnt

    @always_comb
    def state():
        late.next = late_due
        waiting.next = req or (outstanding != 0 and not late_due) or (late_due and queue_valid)
        held.next = queue_valid or req or (outstanding != 0 and not late_due)
        moved.next = (req and gnt) or due

    @always(clk.posedge)
    def request():
        if clear:
            req.next = False
        elif queue_valid and advance:
            req.next = True
        elif gnt:
            req.next = False
        if queue_valid and advance:
            addr.next = queued[32:]
            wdata.next = queued[64:32]
            we.next = queued[64]

    @always(clk.posedge)
    def count():
        late_due.next = clear or (late_due and outstanding != 0)
        if rst or (clear and late_due):
            outstanding.next = 0
            late_due.next = False
        elif granted and not due:
            outstanding.next = outstanding + 1
        elif due and not granted:
            outstanding.next = outstanding - 1

    return queue, answers, glue, bus, state, request, count
