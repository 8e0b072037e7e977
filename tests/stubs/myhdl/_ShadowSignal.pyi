# SPDX-License-Identifier: Apache-2.0
from myhdl._Signal import Value, _Signal

class _ShadowSignal(_Signal): ...

class _SliceSignal(_ShadowSignal):
    _sig: _Signal
    def __init__(self, sig: _Signal, left: int, right: int | None = None) -> None: ...

class ConcatSignal(_ShadowSignal):
    _args: tuple[Value | str | _Signal, ...]
    _sigargs: list[_Signal]
    def __init__(self, *args: Value | str | _Signal) -> None: ...
