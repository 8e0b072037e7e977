# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

from myhdl._Signal import _Signal

inspect: ModuleType | SimpleNamespace

class _CallInfo:
    name: str
    modctxt: bool
    symdict: dict[str, object]
    def __init__(self, name: str, modctxt: bool, symdict: dict[str, object]) -> None: ...

class _Instantiator:
    callinfo: _CallInfo
    sigdict: dict[str, _Signal]
    @property
    def name(self) -> str: ...
    @property
    def funcobj(self) -> Callable[[], object]: ...
