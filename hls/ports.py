"""Memory ports: beats of up to P words become OBI transactions on P masters, and answers become beats again."""

from hls.unit import unit


@unit(out="cmd_ready rsp_valid rsp_count rsp_data m_req m_we m_be m_addr m_wdata busy words timeout timeout_addr")
def memory_ports(
    clk, rst, abort, force, watchdog, cmd_valid, cmd_ready, cmd_write, cmd_count, cmd_tag, cmd_addr, cmd_wdata,
    rsp_valid, rsp_count, rsp_data, m_req, m_we, m_be, m_addr, m_wdata, m_gnt, m_rvalid, m_rdata,
    busy, words, timeout, timeout_addr, *, config
):
    """Issue words 0..cmd_count-1 of each command on ports 0..cmd_count-1 and return beats in command order.

    Commands: cmd_write, cmd_count(3: 1..P), cmd_tag(3: stream number), cmd_addr(32P), cmd_wdata(32P).
    Answers (writes too): rsp_valid (one bit per stream, a one-cycle pulse), rsp_count(3), rsp_data(32P).
    OBI masters: P ports packed in m_req(P), m_we(P), m_be(4P), m_addr(32P), m_wdata(32P), m_gnt(P),
    m_rvalid(P), m_rdata(32P); intbv also when P is 1. A request is held until its grant.

    ``rst`` clears everything. ``abort`` (level; keep it until ``busy`` falls) drops what has not been requested
    yet, accepts nothing, and discards answers. ``force`` (pulse) also forgets requests and answers still due;
    later answers are ignored while nothing is outstanding.
    ``watchdog``(32; 0 is off): ``timeout`` pulses when something has been due on the bus for so many cycles without
    any grant or answer; ``timeout_addr`` is the latest address of the lowest port that waits.
    ``words``(3): words granted in the cycle before. ``busy``: commands or answers are held or due.

    Latency: request 2 cycles after the command, rsp_valid 2 cycles after the last rvalid.
    """
