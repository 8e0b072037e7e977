# SPDX-License-Identifier: Apache-2.0
"""No accelerator: plain C++ kernels on the CPU."""

from dataclasses import dataclass
from typing import ClassVar

from firmware_gen.architectures.contract import Architecture, Graph, Target
from hls.config import System


@dataclass(frozen=True)
class CpuConfig(System):
    """The system alone."""

    architecture: ClassVar[str] = "cpu"


def _target() -> Target:
    from firmware_gen.targets.calls.target import CallsTarget

    return CallsTarget()


ARCHITECTURE = Architecture(
    summary="plain C++ kernels on the CPU, without an accelerator",
    config=CpuConfig,
    software=Graph(_target, products=lambda config: True, functions=lambda config: True),
)
