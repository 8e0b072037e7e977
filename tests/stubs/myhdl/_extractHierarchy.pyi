# SPDX-License-Identifier: Apache-2.0
from myhdl._Signal import _Signal

class _Instance: ...

class _MemInfo:
    mem: list[_Signal]
    name: str
    elObj: _Signal
    depth: int
    _used: bool

class _UserVerilogCode: ...

_memInfoMap: dict[int, _MemInfo]
