# SPDX-License-Identifier: Apache-2.0
"""What configurations cost, from shipped figures: nothing is synthesised."""

from dataclasses import dataclass
from typing import Any

from gen.ppa.composition import Cost, cost
from gen.ppa.energy.model import Prices, prices_of
from hls.config import System
from hls.errors import HeepgenError


@dataclass(frozen=True)
class Price:
    """Of one configuration; None where nobody has the figure. Names as of `Point`; energy: what its inferences take by
    what is done."""

    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram: float | None = None
    kge: float | None = None
    mm2: float | None = None
    mhz: float | None = None
    energy: Prices | None = None

    def figures(self) -> dict[str, Any]:
        """All but the energy, by name."""
        return {name: value for name, value in vars(self).items() if name != "energy"}


def price_of(config: System) -> Price:
    """What a configuration costs; nothing is known of an architecture that has no shipped figures."""
    try:
        found = cost(config)
    except HeepgenError:
        return Price()
    return Price(
        lut=found.lut,
        ff=found.ff,
        dsp=found.dsp,
        bram=found.bram,
        kge=found.kge,
        mm2=found.mm2,
        mhz=found.mhz,
        energy=_energy(config, found),
    )


def _energy(config: System, found: Cost) -> Prices | None:
    try:
        return prices_of(config, found)
    except HeepgenError:
        return None
