# SPDX-License-Identifier: Apache-2.0
"""Options of the streaming accelerator."""

from dataclasses import dataclass
from typing import ClassVar

from hls.config import ARITHMETICS, System, integer, option, power_of_two

_POWER, _is_power = power_of_two(2, 512)


@dataclass(frozen=True)
class StreamingConfig(System):
    """Configuration of the `streaming` architecture."""

    architecture: ClassVar[str] = "streaming"

    rows: int = option(8, *integer(1, 32), "rows of the array: lanes of a vector", in_hash=True)
    cols: int = option(8, *integer(1, 32), "columns of the array: output channels computed at once", in_hash=True)
    arithmetic: str = option(
        "aligned",
        '"aligned" or "fma"',
        lambda v: v in ARITHMETICS,
        "processing element: block-aligned integer sums, or an IEEE-754 fused multiply-add each",
        in_hash=True,
    )
    sums: int = option(
        64,
        f"0, or {_POWER}",
        lambda v: _is_power(v) or (v == 0 and type(v) is int),
        "rows of FP32 sums that the accelerator keeps and adds to; 0 leaves buffer and adder out",
        in_hash=True,
    )
