# SPDX-License-Identifier: Apache-2.0
"""A configuration that was judged, and what it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STAGES = ("bound", "fast", "exact", "simulated")
"""How cycles are known: at least so many; by the quick estimate; by the cycle model; of the RTL. Each is better than
those before it."""

BITS = "bits"
"""What finds out which configurations compute the same, to the last bit: they have one accuracy."""


@dataclass(frozen=True)
class Point:
    """One configuration, judged. What nobody asked for, or has no figures for, is None.

    number: of the point in its store, what `heepgen hw --from explore.db --point N` takes. config: options that differ
    from the architecture's defaults, by attribute, and `architecture`. cycles: of an inference, of several models the
    worst or their weighted mean; `by_model` has each. us: at `mhz`. lut, ff, dsp, bram: of an FPGA; kge, mm2: of an
    ASIC. uj: energy of an inference. ram_kib: what program, constants, activations and stack take of the system's RAM,
    of several models the most. stage: one of STAGES. bottleneck: the limit that binds most cycles, in the words of
    `heepgen why`. modelled: cycles by the cycle model, where `cycles` were measured on the RTL.
    """

    number: int
    config: Mapping[str, Any]
    cycles: int
    by_model: Mapping[str, int]
    us: float | None
    lut: int | None
    ff: int | None
    dsp: int | None
    bram: float | None
    kge: float | None
    mm2: float | None
    mhz: float | None
    uj: float | None
    ram_kib: float
    accuracy: float | None
    stage: str
    bottleneck: str
    modelled: int | None = None

    @property
    def error(self) -> float | None:
        """By what part of the measured cycles the cycle model is off; above 0 where it says too many."""
        return None if self.modelled is None else self.modelled / self.cycles - 1
