# SPDX-License-Identifier: Apache-2.0
"""Parameter reader: the scale and bias beats of a layer, in order, once per strip."""

from myhdl import Signal, always_comb, modbv

from hls.descriptor.interface.timing import param_depth
from hls.descriptor.memory.passes import pass_reader
from hls.lib.unit import unit
from hls.lib.wiring import ignore

PARAM_JOB = "param_addr param_addr_region param_words uniform out_px first_px strip_px"
"""Descriptor fields that the parameter reader reads."""


@unit(out="req.valid req.addr req.stride req.count req.region out.valid out.data idle")
def param_reader(clk, rst, start, job, req, rsp_valid, rsp_data, out, idle, *, config):
    """The beats of a layer's scales and biases, as `Stream` ``out`` of 32P bits.

    Nothing is read when UNIFORM. ``idle``: level, the next layer may start (see `memory.passes`); its beats follow
    those still waiting.
    """
    ports = config.ports
    depth = param_depth(config)
    enable = Signal(bool(0))
    waiting = Signal(modbv(0)[(depth - 1).bit_length() + 1 :])
    reader = pass_reader(
        clk=clk,
        rst=rst,
        start=start,
        enable=enable,
        base=job.param_addr,
        words=job.param_words,
        out_px=job.out_px,
        first_px=job.first_px,
        strip_px=job.strip_px,
        req_valid=req.valid,
        req_ready=req.ready,
        req_addr=req.addr,
        rsp_valid=rsp_valid,
        rsp_data=rsp_data,
        stored=waiting,
        q_valid=out.valid,
        q_data=out.data,
        q_take=out.take,
        idle=idle,
        ports=ports,
        depth=depth,
    )

    @always_comb
    def fixed():
        enable.next = not job.uniform
        req.stride.next = 1
        req.count.next = ports
        req.region.next = job.param_addr_region

    return reader, fixed, ignore(waiting, 0, len(waiting))
