# SPDX-License-Identifier: Apache-2.0
"""What configurations cost, from shipped figures: nothing is synthesised."""

from dataclasses import dataclass

from hls.config import System


@dataclass(frozen=True)
class Price:
    """Of one configuration; None where nobody has the figure. Names as of `Point`."""

    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram: float | None = None
    kge: float | None = None
    mm2: float | None = None
    mhz: float | None = None


def price_of(config: System) -> Price:
    """What a configuration costs."""
    return Price()
