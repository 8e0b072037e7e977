# SPDX-License-Identifier: Apache-2.0
"""`heepgen why`: what binds every layer, and what one change would do, each of them tried on the cycle model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_gen.architectures.contract import Prediction
from firmware_gen.architectures.limits import Limit, bottleneck, limit_of
from firmware_gen.architectures.registry import architecture_of, load_config
from firmware_gen.streams.batch import batched
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.compiled import Compiled
from gen.flows.network.estimate import compile_target
from gen.results.why import LayerWhy, Trial, WhyReport
from hls.config import Config, System, own_options
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from firmware_gen.memory.network import Network

WORTH = 0.01
"""Share of its cycles by which a change must make a layer faster to be named."""


@dataclass(frozen=True)
class Change:
    """A configuration, a layout of inputs or a batch in place of a network's own; `text` says which."""

    text: str
    config: System
    input_layout: str
    batch: int = 1


def why(
    target: str | Path, config: System, *, progress: Callable[[str], None] = lambda message: None, **options: Any
) -> WhyReport:
    """What binds every layer of a model file or an application, and what helps; options and errors as for
    `compile_target`."""
    return why_network(compile_target(target, config, progress=progress, **options), progress)


def why_network(compiled: Compiled, progress: Callable[[str], None] = lambda message: None) -> WhyReport:
    """`why` of a compiled network."""
    progress(f"stepping {compiled.name} through the cycle model")
    target = compiled.generator.target
    network, prediction = target.network(compiled.program), target.predict(compiled.program)
    changes = list(changes_of(compiled))
    trials = []
    for number, change in enumerate(changes):
        progress(f"trying {change.text}, {number + 1} of {len(changes)}")
        trials.append(_tried(compiled, change))
    limits = [
        Limit("cpu" if layer.on_cpu else "unknown", 0) if found is None else limit_of(found)
        for layer, found in zip(network.layers, prediction.layers, strict=True)
    ]
    layers = []
    for layer, found, limit in zip(network.layers, prediction.layers, limits, strict=True):
        cycles = found.cycles if found else 0
        best = _best(trials, layer.name, cycles)
        layers.append(
            LayerWhy(
                name=layer.name,
                op=layer.op,
                shape=tuple(layer.out_shape),
                macs=layer.macs,
                limit=limit.name,
                cycles=cycles,
                limit_cycles=limit.cycles,
                vectors=found.vectors if found else 0,
                bus=found.bus if found else 0,
                weights=found.weights if found else 0,
                drain=found.drain if found else 0,
                waits=dict(found.waits) if found else {},
                change=best.change if best else None,
                changed_cycles=best.layers[layer.name] if best else None,
            )
        )
    return WhyReport(
        network=network.graph.name,
        geometry=geometry(network.config),
        total_cycles=_total(prediction),
        bottleneck=bottleneck(prediction.layers),
        layers=tuple(layers),
        trials=tuple(trials),
    )


def changes_of(compiled: Compiled) -> Iterator[Change]:
    """What may be changed: every number of the architecture twice as large, rows and columns together too, what it
    leaves out, twice the batch, and inputs with their channels last."""
    config, layout = compiled.config, compiled.options.input_layout
    own = {o.attribute: getattr(config, o.attribute) for o in own_options(type(config))}
    numbers = {name: value for name, value in own.items() if isinstance(value, int) and not isinstance(value, bool)}
    steps: list[dict[str, Any]] = [{name: 2 * value if value else 4096} for name, value in numbers.items()]
    if {"rows", "cols"} <= numbers.keys():
        steps.append({"rows": 2 * numbers["rows"], "cols": 2 * numbers["cols"]})
    steps += [{name: True} for name, value in own.items() if value is False]
    for step in steps:
        larger = _allowed(config, step)
        if larger is not None:
            yield Change(_words(config, step), larger, layout)
    if architecture_of(config).hardware is None:
        with_array = load_config(None, Config.architecture)
        yield Change(f"architecture {with_array.architecture}", with_array, layout)
    if layout == "nchw" and any(len(part.shape) == 4 and part.shape[1] > 1 for part in compiled.generator.inputs):
        yield Change("input layout nhwc", config, "nhwc")
    if batched(compiled.generator.graph, 2) is not None:
        yield Change("batch 2", config, layout, 2)


def _allowed(config: System, step: dict[str, Any]) -> System | None:
    try:
        return replace(config, **step)
    except HeepgenError:
        return None


def _words(config: System, step: dict[str, Any]) -> str:
    if step.keys() & {"rows", "cols"}:
        return "{rows}x{cols}".format(**{"rows": getattr(config, "rows", 0), "cols": getattr(config, "cols", 0)} | step)
    ((name, value),) = step.items()
    return name if value is True else f"{value} ports" if name == "ports" else f"{name} {value}"


def _tried(compiled: Compiled, change: Change) -> Trial:
    """The network with a change, compiled and predicted; of several inferences at once a share of their cycles."""
    options = replace(compiled.options, input_layout=change.input_layout)
    try:
        new = Compiled.of(compiled.generator.checked, None, change.config, options, name=compiled.name)
        target = new.generator.target
        if change.batch == 1:
            program = new.program
        else:
            graph = batched(new.complete(new.generator.graph), change.batch)
            assert graph is not None, "changes_of asked"
            program = target.compile(graph, change.config)
        network: Network = target.network(program)
        prediction = target.predict(program)
    except HeepgenError as error:
        return Trial(change.text, None, {}, str(error))
    cycles = {
        layer.name: -(-found.cycles // change.batch)
        for layer, found in zip(network.layers, prediction.layers, strict=True)
        if found is not None
    }
    return Trial(change.text, -(-_total(prediction) // change.batch), cycles, None)


def _total(prediction: Prediction) -> int:
    return sum(found.cycles for found in prediction.layers if found) + prediction.around


def _best(trials: list[Trial], layer: str, cycles: int) -> Trial | None:
    """That which makes a layer fastest, None where none does by more than `WORTH`."""
    found = [trial for trial in trials if layer in trial.layers]
    best = min(found, key=lambda trial: (trial.layers[layer], trial.total_cycles), default=None)
    return best if best and best.layers[layer] < (1 - WORTH) * cycles else None
