# SPDX-License-Identifier: Apache-2.0
"""`heepgen estimate`: the cycles of every layer, predicted by the cycle model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.registry import architecture_of
from gen.flows.sw import load_program
from gen.inputs import check_model, network_name
from gen.results.estimate import EstimateReport, LayerEstimate
from hls.config import System


def estimate(
    model: str | Path,
    config: System,
    *,
    name: str | None = None,
    append_final_softmax: bool = False,
    per_tensor: bool = False,
    progress: Callable[[str], None] = lambda message: None,
    **import_options: Any,
) -> EstimateReport:
    """Compile `model` and predict its cycles; options and errors as for `generate_sw`."""
    check_model(model)
    name = network_name(model, name)
    from firmware_gen import CodeGenerator

    progress(f"loading {model}")
    exported, data = load_program(Path(model), **import_options)
    progress(f"compiling {name}")
    generator = CodeGenerator(exported, data, None, config, name=name, per_channel=not per_tensor)
    progress(f"stepping {name} through the cycle model")
    return estimate_program(generator.target, generator.program(append_final_softmax))


def estimate_program(target: Any, program: Any) -> EstimateReport:
    """Estimate of a program that `target` compiled."""
    from gen.flows.hardware import geometry

    network, prediction = target.network(program), target.predict(program)
    layers = []
    for layer, found in zip(network.layers, prediction.layers, strict=True):
        own = found or LayerCycles(0)
        layers.append(
            LayerEstimate(
                layer.name,
                layer.op,
                tuple(layer.out_shape),
                layer.macs,
                found is None,
                own.cycles,
                own.bound,
                own.vectors,
                own.bus_words,
                own.load_stall,
                own.store_stall,
            )
        )
    return EstimateReport(
        network.graph.name,
        geometry(network.config),
        architecture_of(network.config).most_macs(network.config),
        sum(e.cycles for e in layers) + prediction.around,
        tuple(layers),
    )
