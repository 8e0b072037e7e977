# SPDX-License-Identifier: Apache-2.0
"""`heepgen estimate`: the cycles of every layer, predicted by the cycle model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from firmware_gen.application.options import ImportOptions
from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.registry import architecture_of
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.application import wanted
from gen.flows.network.compiled import Compiled, application_in, of_application
from gen.flows.network.sw import load_program
from gen.inputs import network_name
from gen.results.estimate import EstimateReport, LayerEstimate
from hls.config import System


def compile_target(
    target: str | Path,
    config: System,
    *,
    name: str | None = None,
    hardware_given: bool = False,
    architecture_given: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
    append_final_softmax: bool = False,
    per_tensor: bool = False,
    state: Mapping[str, str] | None = None,
    stream: int | None = None,
    time_axis: int | None = None,
    input_layout: str = "nchw",
    output_layout: str | None = None,
    progress: Callable[[str], None] = lambda message: None,
    **import_options: Any,
) -> Compiled:
    """A model file, or an application, compiled for the hardware that it was generated for unless `hardware_given`;
    options and errors as for `generate_sw` and `run`."""
    kept = dict(state) if state else None
    options = ImportOptions(
        append_final_softmax,
        per_tensor,
        state=kept,
        stream=stream,
        time_axis=time_axis,
        input_layout=input_layout,
        output_layout=output_layout,
    )
    application = application_in(target, {"name": name} | vars(options) | import_options)
    progress(f"compiling {target}")
    if application is not None:
        return of_application(application, wanted(config, application, hardware_given, architecture_given, changed))
    name = network_name(target, name)
    program, data = load_program(Path(target), state=state, **import_options)
    return Compiled.of(program, data, config, options, name=name)


def estimate(
    target: str | Path, config: System, *, progress: Callable[[str], None] = lambda message: None, **options: Any
) -> EstimateReport:
    """Predict the cycles of a model file, or of an application; options and errors as for `compile_target`."""
    compiled = compile_target(target, config, progress=progress, **options)
    progress(f"stepping {compiled.name} through the cycle model")
    return estimate_network(compiled)


def estimate_network(compiled: Compiled) -> EstimateReport:
    """Estimate of a compiled network."""
    return estimate_program(compiled.generator.target, compiled.program)


def estimate_program(target: Any, program: Any) -> EstimateReport:
    """Estimate of a program that `target` compiled."""
    network, prediction = target.network(program), target.predict(program)
    layers = []
    for layer, found in zip(network.layers, prediction.layers, strict=True):
        own = found or LayerCycles(0)
        layers.append(
            LayerEstimate(
                name=layer.name,
                op=layer.op,
                shape=tuple(layer.out_shape),
                macs=layer.macs,
                on_cpu=found is None or found.on_cpu,
                cycles=own.cycles,
                bound_cycles=own.bound,
                array_cycles=own.vectors,
                bus_words=own.bus_words,
                load_stall_cycles=own.load_stall,
                store_stall_cycles=own.store_stall,
            )
        )
    return EstimateReport(
        network=network.graph.name,
        geometry=geometry(network.config),
        peak=architecture_of(network.config).most_macs(network.config),
        total_cycles=sum(e.cycles for e in layers) + prediction.around,
        layers=tuple(layers),
        cpu_cycles=sum(e.cycles for e in layers if e.on_cpu),
        around_cycles=prediction.around,
        left_out=tuple(e.name for e, found in zip(layers, prediction.layers, strict=True) if found is None),
    )
