# SPDX-License-Identifier: Apache-2.0
"""What compiles networks for an architecture."""

from firmware_gen.architectures.contract import Architecture, Gemm, Target


def target_of(architecture: Architecture) -> Target:
    """Its own, or our loops around its product."""
    if isinstance(architecture.software, Gemm):
        from firmware_gen.targets.calls.target import CallsTarget

        return CallsTarget(architecture.software)
    return architecture.software.target()
