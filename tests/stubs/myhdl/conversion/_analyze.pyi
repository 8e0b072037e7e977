# SPDX-License-Identifier: Apache-2.0
from collections.abc import Mapping, Sequence

from myhdl._extractHierarchy import _Instance, _MemInfo
from myhdl._instance import _Instantiator
from myhdl._Signal import _Signal

from hls.verilog.myhdl_internals import Tree, VerilogText

class _Rom:
    rom: Sequence[int]

def _analyzeGens(
    top: Sequence[_Instantiator | VerilogText], absnames: Mapping[int, str | None]
) -> list[Tree | VerilogText]: ...
def _analyzeSigs(hierarchy: list[_Instance], hdl: str = "Verilog") -> tuple[list[_Signal], list[_MemInfo]]: ...
