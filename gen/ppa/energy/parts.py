# SPDX-License-Identifier: Apache-2.0
"""The parts of an accelerator that its energy is split into, by the names of its units."""

ARRAY, EDGES, ACCUMULATORS, DRAIN, CONTROL, BUFFERS = "array", "edges", "accumulators", "drain", "control", "buffers"
RAM = "system RAM"
ACCELERATOR = (ARRAY, EDGES, ACCUMULATORS, DRAIN, CONTROL, BUFFERS)
PARTS = (*ACCELERATOR, RAM)

_BY_UNIT = {
    "systolic_array": EDGES,
    "accumulators": ACCUMULATORS,
    "drain": DRAIN,
    "aux_reader": DRAIN,
    "param_reader": DRAIN,
    "activation_buffer": BUFFERS,
    "scratchpad": BUFFERS,
    "delay_line_late_load_data": EDGES,
    "delay_line_late_load_beat": EDGES,
    "delay_line_op_out": ACCUMULATORS,
}
_ELEMENTS = ("aligned_pe", "fma_pe")


def part_of(path: tuple[str, ...]) -> str:
    """Of the instance at `path` below the root. Whatever has no part of its own is control."""
    if not path:
        return CONTROL
    if path[0] == "systolic_array" and len(path) > 1 and path[1].startswith(_ELEMENTS):
        return ARRAY
    return _BY_UNIT.get(path[0], CONTROL)


def part_of_unit(unit: str) -> str:
    """Of a unit of `gen.ppa.composition`; an array's edges are one with it."""
    whole = unit.startswith("systolic_array") or unit == "delay_line"
    return ARRAY if whole else part_of((unit,))
