# SPDX-License-Identifier: Apache-2.0
"""No accelerator: plain C++ kernels on the CPU."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from firmware_gen.architectures.contract import Architecture, Graph
from hls.config import Config, System

if TYPE_CHECKING:
    from firmware_gen import ir


@dataclass(frozen=True)
class CpuConfig(System):
    """The system alone."""

    architecture: ClassVar[str] = "cpu"


def _compile(graph: "ir.Graph", config: CpuConfig, *, profile: bool = True, keep_activations: bool = False) -> Any:
    from firmware_gen.targets.cpu.software import compile_software
    from firmware_gen.targets.descriptor.compiler import compile_graph

    system = Config(**{f.name: getattr(config, f.name) for f in fields(System)})
    return compile_software(compile_graph(graph, system, profile, keep_activations))


ARCHITECTURE = Architecture(
    summary="plain C++ kernels on the CPU, without an accelerator", config=CpuConfig, software=Graph(_compile)
)
