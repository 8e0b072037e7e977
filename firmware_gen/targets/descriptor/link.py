# SPDX-License-Identifier: Apache-2.0
"""Jobs with addresses: the words of all descriptors."""

import numpy as np

from firmware_gen.operations.tensors import Ref
from firmware_gen.targets.descriptor.order import order
from firmware_gen.targets.descriptor.place import residency
from firmware_gen.targets.descriptor.program import Program
from hls.descriptor.interface.table import ARENA, address, pack


def link(program: Program, profile: bool) -> np.ndarray:
    """All descriptors with addresses, chained up to the next operator on the CPU."""
    chain = []
    by_cpu = {layer.target.storage for layer in program.layers if layer.on_cpu}
    residency.check(program.jobs, program.scratchpad, program.offsets, program.arena_bytes, by_cpu, program.config)
    ends = {step[1] for step in program.steps if isinstance(step, tuple)}
    for index, job in enumerate(program.jobs):
        fields = {k: program.resolve(v) if isinstance(v, Ref) else v for k, v in job.fields.items()}
        fields |= {
            f"{stream}_RING": program.scratchpad[name].ring
            for stream, name in residency.streams(job)
            if name in program.scratchpad
        }
        last = index + 1 in ends
        fields |= {"LAST": int(last), "NEXT": 0 if last else program.descriptor_address(index + 1)}
        if profile:
            offset = program.profile_address(index) - program.arena_address
            fields |= {"PROFILE": 1, "PROFILE_ADDR": address(ARENA, offset)}
        chain.append(fields)
    for before, after in zip(chain, chain[1:]):
        order(before, after)
    return np.concatenate([pack(fields) for fields in chain])
