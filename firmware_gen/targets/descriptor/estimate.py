# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of a compiled network, descriptor by descriptor, from the cycle model."""

from typing import Any

from firmware_gen.targets.descriptor.program import DESCRIPTORS, Program
from firmware_gen.targets.descriptor.timing.banks import Banks, bank_runs, word_banks
from firmware_gen.targets.descriptor.timing.cycles import Estimate, simulate
from hls.descriptor.interface.table import on_chip, split_address

CPU_CYCLES = 215
"""Cycles of the CPU around a list of descriptors: the call, the doorbell, waking up. Measured."""


def descriptor_cycles(program: Program) -> list[Estimate]:
    """Every descriptor of a program, as the profile records give them; a list begins at its doorbell."""
    linked = program.linked
    results = []
    for step in program.steps:
        if isinstance(step, tuple):
            results += simulate([(f, descriptor_banks(program, f)) for f in linked[slice(*step)]], program.config)
    return results


def descriptor_banks(program: Program, f: dict[str, Any]) -> Banks:
    """Where the streams of a linked descriptor meet themselves and each other."""

    def address(prefix: str) -> int:
        region, offset = split_address(f[f"{prefix}_ADDR"])
        return program.bases[region] + offset

    def at(prefix: str, used: bool = True) -> tuple[int, ...]:
        if not used or (program.config.scratchpad_words and on_chip(f, prefix)):
            return ()
        return word_banks(address(prefix), f.get(f"{prefix}_C_STRIDE", 1), program.config)

    weights = () if f["UNIT_WEIGHTS"] else bank_runs(address("WEIGHT"), f["WEIGHT_WORDS"], program.config)
    descriptors = word_banks(program.placed[DESCRIPTORS].address, 1, program.config)
    return Banks(
        at("LOAD"),
        weights,
        at("PARAM", not f["UNIFORM"]),
        at("STORE"),
        at("AUX", bool(f["RESIDUAL"] or f["ACC_INIT"])),
        descriptors,
        (address("LOAD"), address("STORE"), address("AUX")),
    )
