# SPDX-License-Identifier: Apache-2.0
"""The memory side's units convert to Verilog that passes every lint check, whatever the geometry."""

import pytest
from myhdl import Signal, intbv

from hls.arithmetic.array import beat_bits
from hls.config import Config
from hls.descriptor.control.slave import Regions
from hls.descriptor.interface.job import job_signals
from hls.descriptor.interface.table import LINEAR
from hls.descriptor.memory.activation_buffer import Write
from hls.descriptor.memory.arbiter import ANSWERS, STREAMS, Request, arbiter
from hls.descriptor.memory.load import load_engine, load_job
from hls.descriptor.memory.params import PARAM_JOB, param_reader
from hls.descriptor.memory.ports import Answer, Command, memory_ports
from hls.descriptor.memory.weights import WEIGHT_JOB, cut_fields, weight_loader
from hls.lib.convert import convert
from hls.lib.fifo import Stream
from sim.toolchain import lint


def call(unit, config, widths, **interfaces):
    """``unit`` with fresh ports: ``interfaces`` by name, the others of ``widths`` bits, or single bits."""
    ports = {
        name: interfaces[name]
        if name in interfaces
        else Signal(intbv(0)[widths[name] :])
        if name in widths
        else Signal(bool(0))
        for name in unit.port_names
    }
    return unit(**ports, config=config)


def roots(config):
    """The units of the memory side."""
    ports = config.ports
    words = dict.fromkeys(["rsp_data", "m_addr", "m_wdata", "m_rdata"], 32 * ports)
    counts = dict.fromkeys(["rsp_count", "words"], 3)
    masters = dict.fromkeys(["m_req", "m_we", "m_gnt", "m_rvalid"], ports) | {"m_be": 4 * ports}
    widths = words | counts | masters | dict.fromkeys(["watchdog", "timeout_addr", "fault_addr"], 32)
    widths |= dict.fromkeys(["released", "available", "loaded"], LINEAR)
    widths |= {"load_data": 8 * config.load_rows * config.cols, "load_beat": beat_bits(config)}
    streams = {
        name: Request(ports, name in ("store", "profile"), name == "weights", name == "store") for name in STREAMS
    }
    return (
        lambda: call(memory_ports, config, widths, cmd=Command(ports), rsp=Answer(ports, len(ANSWERS))),
        lambda: call(arbiter, config, widths, windows=Regions(), cmd=Command(ports), **streams),
        lambda: call(
            load_engine, config, widths, job=job_signals(load_job(config)), req=Request(ports), wr=Write(ports)
        ),
        lambda: call(
            weight_loader,
            config,
            widths,
            job=job_signals(WEIGHT_JOB),
            cut_job=job_signals(cut_fields(config)),
            req=Request(ports, urgent=True),
        ),
        lambda: call(
            param_reader, config, widths, job=job_signals(PARAM_JOB), req=Request(ports), out=Stream(32 * ports)
        ),
    )


@pytest.mark.parametrize(
    "rows, cols, ports", [(1, 1, 1), (5, 3, 2), (8, 8, 3), (32, 32, 4), (8, 32, 1), (32, 3, 4), (1, 8, 2)]
)
def test_lint(rows, cols, ports, tmp_path):
    for index, root in enumerate(roots(Config(rows=rows, cols=cols, ports=ports))):
        files = convert(root, tmp_path / str(index))
        lint(files, files[0].stem)
