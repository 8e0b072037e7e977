# SPDX-License-Identifier: Apache-2.0
from myhdl._block import _Block
from myhdl._extractHierarchy import _Instance

class _Hierarchy:
    top: _Block
    hierarchy: list[_Instance]
    absnames: dict[int, str | None]

def _getHierarchy(name: str, modinst: _Block) -> _Hierarchy: ...
