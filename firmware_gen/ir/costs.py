# SPDX-License-Identifier: Apache-2.0
"""What the loops of the CPU's kernels take, as measured on its RTL: `python -m examples.cpu_cycles` writes it."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

COSTS = Path(__file__).with_name("cpu_cycles.json")

INFERENCE = 52
"""Cycles of the CPU around a network's list of descriptors: the call, the doorbell, waking up. Measured."""

LIST = 105
"""Those around one more list, behind a layer of the CPU. Measured."""


@cache
def costs() -> Mapping[tuple[str, str], float]:
    """Cycles of an iteration of every loop, by kernel and loop."""
    found = json.loads(COSTS.read_text())["cycles"]
    return {(kernel, loop): cycles for kernel, own in found.items() for loop, cycles in own.items()}
