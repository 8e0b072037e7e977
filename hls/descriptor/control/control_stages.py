# SPDX-License-Identifier: Apache-2.0
"""Stages of the accelerator, as control moves them from layer to layer: what each keeps of a descriptor."""

from myhdl import Signal, always, always_comb, block

from hls.config import Config
from hls.descriptor.control.sequencer import sequencer_job
from hls.descriptor.drain.aux_reader import aux_job
from hls.descriptor.drain.drain import drain_job
from hls.descriptor.interface.job import job_signals
from hls.descriptor.memory.load import load_job
from hls.descriptor.memory.params import PARAM_JOB
from hls.descriptor.memory.weights import WEIGHT_JOB, cut_fields
from hls.verilog.myhdl_internals import initial_value


def stage_fields(config: Config) -> dict[str, str]:
    """Stages, and the descriptor fields that each keeps for its layer; addresses are absolute."""
    behind = f"{drain_job(config)} {aux_job(config)} store_ring aux_ring profile profile_addr profile_addr_region"
    return {
        "load": f"{load_job(config)} load_ring barrier",
        "weights": WEIGHT_JOB,
        "cut": cut_fields(config),
        "params": PARAM_JOB,
        "seq": f"{sequencer_job(config)} pad_value max",
        "drain": " ".join(dict.fromkeys(behind.split())),
    }


LATE = ("pad_value",)
"""Fields that a new layer needs only after the first cycle, and far from control: they follow a cycle later."""


class Stage:
    """A stage's copy of its fields, and the pulse in the first cycle in which they are a new layer's, but for LATE."""

    def __init__(self, fields: str) -> None:
        self.start = Signal(bool(0))
        self.job = job_signals(fields)


class Stages:
    """The stages, by the names of `stage_fields`."""

    def __init__(self, config: Config) -> None:
        for name, fields in stage_fields(config).items():
            setattr(self, name, Stage(fields))


@block
def stage(clk, rst, ready, sound, discard, free, fetched, stage, asks, take, taken):
    """One stage's dealings with the fetched descriptor: it takes it once, when it is ``free``, if it is ``sound``."""
    start = stage.start

    @always_comb
    def decide():
        asks.next = ready and free and not taken
        take.next = ready and free and not taken and sound

    @always(clk.posedge)
    def step():
        start.next = take and not rst
        if rst or discard:
            taken.next = False
        elif take:
            taken.next = True

    copies = [
        _copy(clk, start if name in LATE else take, getattr(fetched, name), field)
        for name, field in vars(stage.job).items()
    ]
    return decide, step, copies


@block
def unread(flag):
    """A flag that is checked, but that no stage asks for."""
    unused = Signal(initial_value(flag))

    @always_comb
    def take():
        unused.next = flag

    return take


@block
def _copy(clk, take, source, target):
    @always(clk.posedge)
    def latch():
        if take:
            target.next = source

    return latch
