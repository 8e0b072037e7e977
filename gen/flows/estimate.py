# SPDX-License-Identifier: Apache-2.0
"""`heepgen estimate`: the cycles of every layer, predicted by the cycle model."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.registry import architecture_of
from gen.flows.sw import load_program
from gen.inputs import check_model, network_name
from hls.config import System


@dataclass(frozen=True)
class LayerEstimate:
    """One layer; numbers mean what they mean in `gen.report.LayerReport`. On the CPU all but `macs` are 0."""

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    on_cpu: bool
    cycles: int
    bound_cycles: int
    array_cycles: int
    bus_words: int
    load_stall_cycles: int
    store_stall_cycles: int


@dataclass(frozen=True)
class EstimateReport:
    """A whole inference; `total_cycles` leaves out layers on the CPU."""

    network: str
    geometry: str
    peak: int
    total_cycles: int
    layers: tuple[LayerEstimate, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> Any:
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        result = Table(
            title=f"{self.network} on {self.geometry}, predicted",
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for i, name in enumerate(
            (
                "layer",
                "operator",
                "output",
                "MACs",
                "cycles",
                "MAC/cycle",
                "bound",
                "cycles/bound",
                "load stall",
                "store stall",
            )
        ):
            result.add_column(name, justify="left" if i < 3 else "right", no_wrap=True)
        for e in self.layers:
            if e.cycles or e.on_cpu:
                result.add_row(
                    e.name,
                    e.op,
                    "x".join(map(str, e.shape)),
                    _count(e.macs),
                    "on the CPU" if e.on_cpu else _count(e.cycles),
                    _ratio(e.macs, e.cycles),
                    _count(e.bound_cycles),
                    _ratio(e.cycles, e.bound_cycles),
                    _count(e.load_stall_cycles),
                    _count(e.store_stall_cycles),
                )
        macs, bound = (sum(getattr(e, name) for e in self.layers) for name in ("macs", "bound_cycles"))
        on_cpu = sum(e.on_cpu for e in self.layers)
        result.add_section()
        result.add_row(
            "total without the CPU's layers" if on_cpu else "total",
            "",
            "",
            _count(macs),
            _count(self.total_cycles),
            _ratio(macs, self.total_cycles),
            _count(bound),
            _ratio(self.total_cycles, bound),
            style="bold",
        )
        if not on_cpu:
            return result
        return Group(
            result,
            Text(
                f"{on_cpu} of {len(self.layers)} layers run on the CPU, whose cycles heepgen run "
                "measures; the total leaves them out",
                style="yellow",
            ),
        )


def _count(value: int) -> str:
    return f"{value:,}" if value else "-"


def _ratio(a: int, b: int) -> str:
    return f"{a / b:.2f}" if a and b else "-"


def estimate(
    model: str | Path,
    config: System,
    *,
    append_final_softmax: bool = False,
    per_tensor: bool = False,
    progress: Callable[[str], None] = lambda message: None,
    **import_options: Any,
) -> EstimateReport:
    """Compile `model` and predict its cycles; options and errors as for `generate_sw`."""
    check_model(model)
    from firmware_gen import CodeGenerator

    progress(f"loading {model}")
    exported, data = load_program(Path(model), **import_options)
    name = network_name(model)
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
