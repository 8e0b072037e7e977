# SPDX-License-Identifier: Apache-2.0
"""The engines as a trace of a run shows them, by signals of their units."""

from hls.arithmetic.array import array_latency
from hls.config import Config
from hls.descriptor.interface.timing import ACTIVATION_LATENCY
from hls.lib.probe import STALL, WAIT, WORK, Engine, Part, State

LOAD_STALL, STORE_STALL = "load stall", "store stall"
"""How the names of states begin whose cycles LOAD_STALL and STORE_STALL count."""


def _start(stage: str) -> str:
    return f"control.stages_{stage}_start"


def _bus(unit: str, done: str, at_rest: str) -> tuple[State, ...]:
    """States of a unit that reads by requests; `at_rest`: what keeps it when it neither asks nor is answered."""
    return (
        State("words", WORK, (f"{unit}.rsp_valid",)),
        State("words", WORK, (f"{unit}.req_valid", f"{unit}.req_ready")),
        State("waiting for bus grant", STALL, (f"{unit}.req_valid",)),
        State(at_rest, WAIT, (f"!{unit}.{done}",)),
    )


def engines(config: Config) -> tuple[Engine, ...]:
    """Those of `config`, in the order of the data."""
    load = (
        State("words", WORK, ("load_engine.wr_valid",)),
        State("words", WORK, ("load_engine.req_valid", "load_engine.req_ready")),
        State("waiting for bus grant", STALL, ("load_engine.req_valid",)),
        State("waiting for the layer before", WAIT, ("load_engine.active", "!load_engine.stored")),
        State("waiting for room in the buffer", WAIT, ("load_engine.active", "!load_engine.room")),
        State("waiting for answers", WAIT, ("!load_engine.done",)),
    )
    cut = (
        State("tile", WORK, ("weight_loader.load_valid",)),
        State("waiting for the array", WAIT, ("weight_loader.tile_ready", "!weight_loader.cut_done")),
        State("waiting for weights", STALL, ("!weight_loader.cut_done",)),
    )
    array = (
        State("vectors", WORK, ("sequencer.issue",)),
        State(f"{LOAD_STALL}: waiting for weights", STALL, ("sequencer.load_stall", "sequencer.gate_words_ok")),
        State(f"{LOAD_STALL}: waiting for activations", STALL, ("sequencer.load_stall",)),
        State(f"{STORE_STALL}: waiting for the drain", STALL, ("sequencer.store_stall",)),
        State("waiting for the accumulator", WAIT, ("sequencer.issuing_valid",)),
        State("beginning", WAIT, ("sequencer.busy",)),
    )
    strips = Part("strips", last="sequencer.issuing_strip_last")
    tiles = Part("tiles", first="sequencer.tile_take")
    drain = (
        State("outputs", WORK, ("drain.issue",)),
        State("outputs", WORK, ("drain.req_valid", "drain.req_ready")),
        State("waiting for bus grant", STALL, ("drain.req_valid",)),
        State("waiting for sums", WAIT, ("drain.walking", "!drain.full")),
        *([State("waiting for a table", STALL, ("drain.walking", "!drain.table_ready"))] if config.functions else []),
        State("waiting for residuals", STALL, ("drain.walking", "drain.job_residual", "!drain.aux_valid")),
        State("waiting for parameters", STALL, ("drain.walking", "!drain.job_uniform", "!drain.params_ready")),
        State("epilogue", WORK, ("!drain.done",)),
    )
    return (
        Engine("control", (State("list", WORK, ("control.running",)),)),
        Engine("load", load, _start("load")),
        Engine("weights", _bus("weight_loader", "idle", "buffer full, or waiting for answers"), _start("weights")),
        Engine("tile cutter", cut, _start("cut")),
        Engine("parameters", _bus("param_reader", "idle", "waiting"), _start("params")),
        Engine("array", array, _start("seq"), parts=(strips, tiles)),
        Engine(
            "accumulators",
            (State("sums", WORK, ("accumulators.valid",)), State("a bank is being drained", WAIT, ("drain.full",))),
            _start("seq"),
            ACTIVATION_LATENCY + array_latency(config),
        ),
        Engine("drain", drain, _start("drain")),
        Engine("residuals", _bus("aux_reader", "req_valid", "")[:3], _start("drain")),
    )
