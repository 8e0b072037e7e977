# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace

from myhdl._extractHierarchy import _MemInfo, _UserVerilogCode
from myhdl._instance import _CallInfo as _CallInfo
from myhdl._instance import _Instantiator
from myhdl._Signal import _Signal

inspect: ModuleType | SimpleNamespace

class block_decorator:
    __name__: str
    func: Callable[..., object]
    srcfile: str
    srcline: int
    calls: int
    def __init__(self, func: Callable[..., object]) -> None: ...
    def __call__(self, *args: object, **kwargs: object) -> _Block: ...

class _Block:
    __name__: str
    func: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    name: str
    callername: str
    modctxt: bool
    callinfo: _CallInfo
    subs: list[_Block | _Instantiator]
    symdict: dict[str, object]
    sigdict: dict[str, _Signal]
    memdict: dict[str, _MemInfo]
    verilog_code: _UserVerilogCode | None
    def __init__(
        self,
        func: Callable[..., object],
        deco: block_decorator,
        name: str | None,
        srcfile: str,
        srcline: int,
        skipname: bool,
        *args: object,
        **kwargs: object,
    ) -> None: ...
    def config_sim(self, trace: bool = False, **kwargs: str) -> None: ...
    def run_sim(self, duration: int | None = None, quiet: int = 0) -> None: ...
    def quit_sim(self) -> None: ...
