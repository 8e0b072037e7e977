"""Control: registers, descriptor fetch, layer sequencing, counters, errors. (Skeleton: port list is final.)

control(clk, rst, slave, irq, idle, windows, watchdog, job, start, load_done, drain_done, streams_idle, fetch_req,
        fetch_rsp_valid, rsp_data, profile_req, store_issued, store_returned, fault, fault_addr, timeout,
        timeout_addr, ports_busy, engine_rst, abort, force, events, *, config)
    slave    interface: in req we be(4) addr(32) wdata(32); out gnt rvalid rdata(32)
    windows  interface, out: base0 limit0 .. base3 limit3 (32 each), to arbiter and fetch
    watchdog out 32
    job      out: every descriptor field of JOB, addresses absolute, plus <addr>_region (2)
    start    out pulse; job is stable from that cycle until all engines are done
    load_done, drain_done   in: level or pulse, low in the cycle after start
    streams_idle            in: level; weight and parameter readers have no request queued or unanswered (tie True if so)
    fetch_req   request interface: out valid addr stride count region; in ready
    fetch_rsp_valid, rsp_data(32*ports)   in
    profile_req store request interface (with data)
    store_issued   in: a store beat (drain or profile) was accepted by the arbiter in this cycle (valid and ready)
    store_returned in: all words of a store beat were answered in this cycle
    fault, fault_addr, timeout, timeout_addr, ports_busy   in
    engine_rst  out: synchronous reset of everything but control and memory_ports (rst included)
    abort       out level to memory_ports: drop queued commands, discard answers; until ports_busy falls
    force       out pulse to memory_ports
    events      interface, in: issue load_stall store_stall words(3) lost(6) lossy(6)
"""
