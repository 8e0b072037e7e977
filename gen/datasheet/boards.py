# SPDX-License-Identifier: Apache-2.0
"""Boards that designs can be sized for, and what their FPGA has.

Block RAM is counted in blocks of 36 Kbit, as yosys and AMD do for UltraScale+ and 7-series; half a block is one of
18 Kbit. ECP5's blocks are of 18 Kbit: two of them count as one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hls.config_file import unknown
from hls.errors import HeepgenError

COUNTED = "xcup"
"""The family in whose cells designs are counted."""


@dataclass(frozen=True)
class Board:
    """family: as yosys calls it. lut: of six inputs, of four on ECP5. bram: blocks of 36 Kbit. source: where the
    device's maker says so."""

    name: str
    title: str
    device: str
    family: str
    lut: int
    ff: int
    dsp: int
    bram: float
    source: str

    def limits(self, reserve_lut: int = 0) -> dict[str, float]:
        """The most that a design may take, by axis. reserve_lut: for the CPU and what else is on the device; raises
        `HeepgenError` where nothing is left."""
        if not 0 <= reserve_lut < self.lut:
            raise HeepgenError(
                f"--reserve-lut {reserve_lut}: {self.title} has {self.lut:,} LUT; reserve from 0 to {self.lut - 1:,}."
            )
        return {"lut": self.lut - reserve_lut, "ff": self.ff, "dsp": self.dsp, "bram": self.bram}


BOARDS: Mapping[str, Board] = {
    board.name: board
    for board in (
        Board("pynq-z2", "PYNQ-Z2", "XC7Z020", "xc7", 53_200, 106_400, 220, 140, "AMD DS190"),
        Board("zcu104", "ZCU104", "XCZU7EV", "xcup", 230_400, 460_800, 1_728, 312, "AMD DS891"),
        Board("nexys-a7", "Nexys A7-100T", "XC7A100T", "xc7", 63_400, 126_800, 240, 135, "AMD DS180"),
        Board("ulx3s", "ULX3S-85F", "LFE5U-85F", "ecp5", 83_640, 83_640, 156, 104, "Lattice FPGA-DS-02012"),
    )
}


def board(name: str) -> Board:
    """The board called `name`; raises `HeepgenError` for an unknown one."""
    if name not in BOARDS:
        raise HeepgenError(unknown(name, BOARDS, "board"))
    return BOARDS[name]
