# SPDX-License-Identifier: Apache-2.0
"""What a run was seen to do, cycle by cycle: bus ports, the CPU's sleep, and signals inside the accelerator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.probes import Probe

PORT = ("granted", "refused", "written")
"""What happens at a master port in a cycle: a request is granted, or is not, and it is a write."""

_COUNTS = ("instructions granted", "instructions refused", "data granted", "data refused")  # Recorder::count


def port_signal(port: int, what: str) -> str:
    """Name in `Recording.values` of one of PORT."""
    return f"port{port}.{what}"


ASLEEP = "cpu.asleep"


@dataclass(frozen=True)
class Recording:
    """Values by signal, constant from each of `starts` to the next, the last to `end`: all in cycles since reset.

    cpu_counts: requests of the CPU's ports by what became of them, per bin of `bin_cycles` cycles. complete: whether it
    goes on to the end of the run; very long ones are cut.
    """

    starts: NDArray[np.int64]
    end: int
    values: Mapping[str, NDArray[Any]]
    cpu_counts: Mapping[str, NDArray[np.int64]]
    bin_cycles: int
    complete: bool

    @property
    def durations(self) -> NDArray[np.int64]:
        return np.diff(self.starts, append=self.end)


def read_recording(
    path: Path, fields: Mapping[str, str], ports: int, probes: Sequence[Probe], cycles: int
) -> Recording:
    """The recording that the testbench wrote to `path`; `fields` are those of its result, `cycles` the run's length."""
    words = 2 + (probes[-1].word + 1 if probes else 0)
    table = np.fromfile(path, "<u4").reshape(-1, words)
    end, bin_cycles = int(fields["recorded_until"]), int(fields["bin_cycles"])
    own = table[:, 1]
    values: dict[str, NDArray[Any]] = {ASLEEP: own & 1}
    for port in range(ports):
        for bit, what in enumerate(PORT, 1 + len(PORT) * port):
            values[port_signal(port, what)] = own >> bit & 1
    for probe in probes:
        mask = np.uint32((1 << probe.width) - 1)
        values[probe.name] = table[:, 2 + probe.word] >> np.uint32(probe.shift) & mask
    counts = np.fromfile(path.with_name(path.name + ".bins"), "<u4").reshape(-1, len(_COUNTS)).astype(np.int64)
    used = -(-cycles // bin_cycles)
    return Recording(
        starts=table[:, 0].astype(np.int64),
        end=end,
        values=values,
        cpu_counts={name: counts[:used, i] for i, name in enumerate(_COUNTS)},
        bin_cycles=bin_cycles,
        complete=end >= cycles,
    )
