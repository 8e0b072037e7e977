# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of a compiled network, descriptor by descriptor, from the cycle model."""

from firmware_gen.architectures.contract import LayerCycles, Prediction
from firmware_gen.targets.descriptor.program import DESCRIPTORS, Program
from firmware_gen.targets.descriptor.timing.banks import Banks, bank_runs, word_banks
from firmware_gen.targets.descriptor.timing.cycles import Estimate, simulate
from hls.descriptor.interface.table import Linked, on_chip, split_address

CPU_CYCLES = 172
"""Cycles of the CPU around a list of descriptors: the call, the doorbell, waking up. Measured."""


def descriptor_cycles(program: Program) -> list[Estimate]:
    """Every descriptor of a program, as the profile records give them; a list begins at its doorbell."""
    linked = program.linked
    results = []
    for listed in program.lists:
        results += simulate([(f, descriptor_banks(program, f)) for f in linked[listed.range]], program.config)
    return results


def predict(program: Program) -> Prediction:
    """Every layer's part of `descriptor_cycles`."""
    descriptors = descriptor_cycles(program)
    layers = []
    for layer in program.layers:
        own = [descriptors[i] for i in layer.descriptors]
        names = ("cycles", "vectors", "bus_words", "load_stall", "store_stall")
        sums = {name: sum(getattr(e, name) for e in own) for name in names}
        layers.append(None if layer.on_cpu else LayerCycles(bound=layer.bound_cycles, **sums))
    return Prediction(tuple(layers), CPU_CYCLES * len(program.lists))


def descriptor_banks(program: Program, f: Linked) -> Banks:
    """Where the streams of a linked descriptor meet themselves and each other."""

    def address(where: int) -> int:
        region, offset = split_address(where)
        return program.bases[region] + offset

    def at(where: int, stride: int, used: bool = True) -> tuple[int, ...]:
        if not used or (program.config.scratchpad_words and on_chip(where)):
            return ()
        return word_banks(address(where), stride, program.config)

    return Banks(
        at(f.load_addr, f.load_c_stride),
        () if f.unit_weights else bank_runs(address(f.weight_addr), f.weight_words, program.config),
        at(f.param_addr, 1, not f.uniform),
        at(f.store_addr, f.store_c_stride),
        at(f.aux_addr, f.aux_c_stride, bool(f.residual or f.acc_init)),
        word_banks(program.placed[DESCRIPTORS].address, 1, program.config),
        (address(f.load_addr), address(f.store_addr), address(f.aux_addr)),
        at(f.table_addr, 1, bool(f.load_table)),
    )
