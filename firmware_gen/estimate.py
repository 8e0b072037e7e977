"""Estimated cycles of a compiled network, descriptor by descriptor, from the cycle model."""

from dataclasses import replace

from firmware_gen.cycles import Banks, Estimate, first_fetch_cycles, launch_cycles, simulate, word_banks
from firmware_gen.program import DESCRIPTORS, Program
from hls.descriptor import PROFILE_RECORD, WORDS

CPU_CYCLES = 190
"""Cycles of the CPU around a list of descriptors: the call, the doorbell, waking up. Measured."""


def descriptor_cycles(program: Program, profile: bool = True) -> list[Estimate]:
    """Every descriptor of a program; cycles include the way there from the end of the one before, or the doorbell."""
    config = program.config
    firsts, lasts = ({step[i] for step in program.steps if isinstance(step, tuple)} for i in range(2))
    results = []
    for index, job in enumerate(program.jobs):
        result = simulate(job.fields, config, _banks(program, job.fields), fetch=index + 1 not in lasts)
        ahead = first_fetch_cycles(config) if index in firsts else launch_cycles(config, profile)
        words = result.bus_words + len(PROFILE_RECORD) * profile + WORDS * (index in firsts)
        results.append(replace(result, cycles=result.cycles + ahead, bus_words=words))
    return results


def _banks(program: Program, f: dict) -> Banks:
    def at(prefix: str) -> tuple[int, ...]:
        ref = f.get(f"{prefix}_ADDR")
        if ref is None:
            return ()
        where = program.resolve(ref)
        return word_banks(program.bases[where >> 30] + (where & 0x3FFFFFFF), f.get(f"{prefix}_C_STRIDE", 1),
                          program.config)

    descriptors = word_banks(program.placed[DESCRIPTORS].address, 1, program.config)
    return Banks(at("LOAD"), at("WEIGHT"), at("PARAM"), at("STORE"), at("AUX"), descriptors)
