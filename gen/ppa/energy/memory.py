# SPDX-License-Identifier: Apache-2.0
"""Energy of the system's RAM: accesses of a run, each in one bank of its size."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gen.ppa.energy.inference import Macro, PartEnergy
from gen.ppa.energy.sampling import Phase
from sim.recording import Recording, port_signal


def accesses(recording: Recording, phase: Phase) -> tuple[float, float]:
    """(reads, writes) of the RAM in a phase, of the accelerator's ports and of the CPU, all of whose accesses count as
    reads: the recording does not tell them apart, nor those of peripherals."""
    reads = writes = 0.0
    for first, last in phase.intervals:
        inside = _overlap(recording.starts, recording.durations, first, last)
        for port in range(sum(name.endswith(".granted") for name in recording.values)):
            granted = recording.values[port_signal(port, "granted")]
            written = granted & recording.values[port_signal(port, "written")]
            writes += float(inside @ written)
            reads += float(inside @ (granted - written))
        for name in ("instructions granted", "data granted"):
            counts = recording.cpu_counts[name]
            length = np.full(len(counts), recording.bin_cycles)
            bins = _overlap(np.arange(len(counts)) * recording.bin_cycles, length, first, last)
            reads += float(bins @ counts) / recording.bin_cycles
    return reads, writes


def _overlap(starts: NDArray[np.int64], lengths: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    """Cycles of each span that lie in first <= c < last."""
    overlap: NDArray[np.int64] = np.maximum(np.minimum(starts + lengths, last) - np.maximum(starts, first), 0)
    return overlap


def ram_energy(recording: Recording, phases: Sequence[Phase], bank: Macro, banks: int) -> list[PartEnergy]:
    """What the RAM, `banks` of `bank`, takes in every phase. Banks that are not accessed leak alone."""
    result = []
    for phase in phases:
        reads, writes = accesses(recording, phase)
        spent = (reads * bank.read_pj + writes * bank.write_pj) / phase.cycles
        result.append(PartEnergy(spent, 0.0, banks * bank.leakage_uw))
    return result
