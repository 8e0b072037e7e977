# SPDX-License-Identifier: Apache-2.0
"""Jobs with addresses: the words of all descriptors, and in which slots they find the tables of their functions."""

from collections.abc import Sequence

import numpy as np

from firmware_gen.operations.tensors import Ref
from firmware_gen.targets.descriptor.linked.order import order
from firmware_gen.targets.descriptor.linked.program import Program
from firmware_gen.targets.descriptor.lowering.job import Symbolic, activations
from firmware_gen.targets.descriptor.scratchpad.homes import check
from hls.arithmetic.function import TABLE_SLOTS
from hls.descriptor.interface.table import ARENA, Linked, address, located, pack


def link(program: Program, profile: bool) -> np.ndarray:
    """Words of all descriptors with addresses, chained up to the next operator on the CPU."""
    by_cpu = {layer.target.storage for layer in program.layers if layer.on_cpu}
    states = [(program.tensors[state.value], program.tensors[left]) for state, left in program.graph.updates]
    check(program.jobs, program.scratchpad, program.offsets, program.arena_bytes, by_cpu, program.config, states)
    jobs = (*program.jobs, *program.beginning)
    chain: list[Linked] = []
    for listed in (*program.lists, program.beginning_list):
        linked = [
            _linked(
                program, jobs[index].descriptor, index, index + 1 == listed.end, profile and index < len(program.jobs)
            )
            for index in range(listed.first, listed.end)
        ]
        for descriptor in with_slots(linked):
            if chain:
                chain[-1], descriptor = order(chain[-1], descriptor)
            chain.append(descriptor)
    return np.concatenate([pack(linked) for linked in chain])


def _linked(program: Program, descriptor: Symbolic, index: int, last: bool, profile: bool) -> Linked:
    """With its addresses, the rings that streams on chip go round in, and the next descriptor."""
    rings = {
        stream: program.scratchpad[where.name].ring
        for stream, where in activations(descriptor).items()
        if where.on_chip
    }
    placed = located(descriptor, lambda where: program.resolve(where) if isinstance(where, Ref) else where)
    return placed.but(
        load_ring=rings.get("LOAD", 0),
        store_ring=rings.get("STORE", 0),
        aux_ring=rings.get("AUX", 0),
        last=int(last),
        next=0 if last else program.descriptor_address(index + 1),
        profile=int(profile),
        profile_addr=address(ARENA, program.profile_address(index) - program.arena_address) if profile else 0,
    )


def with_slots(listed: Sequence[Linked]) -> list[Linked]:
    """A list in order with TABLE_SLOT and LOAD_TABLE, and without an address where no table is loaded.

    What is loaded takes the place of the table that is needed again last, of two alike of the one that the descriptor
    before does not use: it may still be at work.
    """
    slots: list[int | None] = [None] * TABLE_SLOTS
    result: list[Linked] = []
    used = 0
    for number, f in enumerate(listed):
        if not f.function:
            result.append(f)
            continue
        load = f.table_addr not in slots
        if load:
            after = [later.table_addr for later in listed[number:] if later.function]
            needed = [after.index(table) if table in after else len(after) for table in slots]
            used = max(range(TABLE_SLOTS), key=lambda slot: (needed[slot], slot != used))
            slots[used] = f.table_addr
        else:
            used = slots.index(f.table_addr)
        kept = {} if load else {"table_addr": 0, "table_rows": 0}
        result.append(f.but(table_slot=used, load_table=int(load), **kept))
    return result
