# SPDX-License-Identifier: Apache-2.0
"""Jobs with addresses: the words of all descriptors."""

from dataclasses import replace

import numpy as np

from firmware_gen.operations.tensors import Ref
from firmware_gen.targets.descriptor.lowering.job import Symbolic, activations
from firmware_gen.targets.descriptor.order import order
from firmware_gen.targets.descriptor.place import residency
from firmware_gen.targets.descriptor.program import Program
from hls.descriptor.interface.table import ARENA, Linked, address, located, pack


def link(program: Program, profile: bool) -> np.ndarray:
    """Words of all descriptors with addresses, chained up to the next operator on the CPU."""
    by_cpu = {layer.target.storage for layer in program.layers if layer.on_cpu}
    states = {s.value: s.initial.size for s in program.graph.state}
    residency.check(
        program.jobs, program.scratchpad, program.offsets, program.arena_bytes, by_cpu, program.config, states
    )
    ends = {listed.end for listed in program.lists}
    chain: list[Linked] = []
    for index, job in enumerate(program.jobs):
        linked = _linked(program, job.descriptor, index, index + 1 in ends, profile)
        if chain:
            chain[-1], linked = order(chain[-1], linked)
        chain.append(linked)
    return np.concatenate([pack(linked) for linked in chain])


def _linked(program: Program, descriptor: Symbolic, index: int, last: bool, profile: bool) -> Linked:
    """With its addresses, the rings that streams on chip go round in, and the next descriptor."""
    rings = {
        stream: program.scratchpad[where.name].ring
        for stream, where in activations(descriptor).items()
        if where.on_chip
    }
    return replace(
        located(descriptor, lambda where: program.resolve(where) if isinstance(where, Ref) else where),
        load_ring=rings.get("LOAD", 0),
        store_ring=rings.get("STORE", 0),
        aux_ring=rings.get("AUX", 0),
        last=int(last),
        next=0 if last else program.descriptor_address(index + 1),
        profile=int(profile),
        profile_addr=address(ARENA, program.profile_address(index) - program.arena_address) if profile else 0,
    )
