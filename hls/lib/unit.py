# SPDX-License-Identifier: Apache-2.0
"""Units: MyHDL blocks that keep their hierarchy in the generated Verilog.

    @unit(out="y")
    def adder(clk, a, b, y, *, stages=1): ...

A unit takes its ports first (signals, or interface objects holding signals) and its parameters as
keyword-only arguments. Simulated, it is an ordinary MyHDL block. Converted (`hls.lib.convert`), every distinct
unit becomes one Verilog module, and its parents instantiate it.
"""

import hashlib
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from myhdl import Signal, _block, _instance, intbv
from myhdl._block import _Block, _CallInfo, block_decorator
from myhdl._Signal import _Signal

from hls.config import Config
from hls.lib.naming import is_interface, name_children


@dataclass(frozen=True)
class UnitCall:
    """One use of a unit: `ports` by argument name (signal, interface or None), `params` with defaults."""

    unit: "Unit"
    ports: dict[str, Any]
    params: dict[str, Any]

    def signals(self) -> dict[str, _Signal]:
        """Every port signal by its Verilog name: interface ports are flattened to `x_ready`."""
        paths = [(name.replace(".", "_"), s) for name, s in self._paths()]
        names = Counter(name for name, _ in paths)
        if twice := [name for name, count in names.items() if count > 1]:
            raise TypeError(f"unit {self.unit.__name__}: two ports would be called {twice[0]} in Verilog")
        return dict(paths)

    def outputs(self) -> set[str]:
        """Verilog names of the output ports."""
        return {name.replace(".", "_") for name, _ in self._paths() if name in self.unit.outputs}

    def _paths(self) -> Iterator[tuple[str, _Signal]]:
        for name, port in self.ports.items():
            yield from flatten_port(name, port)

    @property
    def key(self) -> tuple:
        """Equal for calls that share one Verilog module."""
        types = tuple((name, s._type, s._nrbits, s._min) for name, s in self._paths())
        return self.unit, tuple((name, repr(value)) for name, value in self.params.items()), types

    @property
    def module_name(self) -> str:
        """Function name and the parameters that differ from their defaults (not the configuration)."""
        defaults = self.unit.defaults
        parts = [
            _suffix(name, value)
            for name, value in self.params.items()
            if name not in defaults or repr(defaults[name]) != repr(value)
        ]
        return "_".join([self.unit.__name__, *filter(None, parts)])


def flatten_port(name: str, port: Any) -> Iterator[tuple[str, _Signal]]:
    """(dotted name, signal) of a port: itself, or the signals of an interface object."""
    if isinstance(port, _Signal):
        yield name, port
    elif is_interface(port):
        for attribute, member in vars(port).items():
            yield from flatten_port(f"{name}.{attribute}", member)


def _suffix(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    if isinstance(value, int):
        return f"{name}{value}".replace("-", "m")
    if isinstance(value, str):
        return re.sub(r"\W+", "_", value)
    if isinstance(value, Config) or value is None:
        return ""
    return name + hashlib.sha256(repr(value).encode()).hexdigest()[:6]


def _nearest_frames(depth: int = 8) -> list[tuple]:
    """The part of inspect.stack() that MyHDL looks at, without reading source files."""
    frame, frames = sys._getframe(1), []
    while frame is not None and len(frames) < depth:
        frames.append((frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return frames


# MyHDL asks for the whole stack at every instance, which is most of the time of an elaboration
for _module in (_block, _instance):
    _module.inspect = SimpleNamespace(**{**vars(inspect), "stack": _nearest_frames})


class Unit(block_decorator):
    """The decorated function; see `unit`."""

    def __init__(self, func: Callable, outputs: str) -> None:
        super().__init__(func)
        self.outputs = frozenset(outputs.split())
        parameters = inspect.signature(func).parameters.values()
        self.signature = inspect.signature(func)
        self.port_names = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self.defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        unknown = {o.split(".")[0] for o in self.outputs} - set(self.port_names)
        if unknown:
            raise TypeError(f"unit {func.__name__}: output {min(unknown)} is not one of its ports")

    def __call__(self, *args: Any, **kwargs: Any) -> _Block:
        call = self.bind(*args, **kwargs)
        if _converting:
            return UnitStub(call)
        instance = _Block(
            self.func, self, self.__name__, self.srcfile, self.srcline, False, **call.ports, **call.params
        )
        instance.call = call
        name_children(instance)
        return instance

    def bind(self, *args: Any, **kwargs: Any) -> UnitCall:
        """The call with its arguments sorted out; constant ports (bool, intbv) become signals."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = bound.arguments
        ports = {name: _as_port(arguments[name]) for name in self.port_names}
        params = {name: value for name, value in arguments.items() if name not in ports}
        return UnitCall(self, ports, params)


def _as_port(value: Any) -> Any:
    return Signal(value) if isinstance(value, (bool, intbv)) else value


def unit(out: str) -> Callable[[Callable], Unit]:
    """Decorate a block function; `out` names its output ports, `x.ready` for a signal of interface `x`."""
    return lambda func: Unit(func, out)


class UnitStub(_Block):
    """What a unit call returns while its parent is being converted: an instance without a body."""

    def __init__(self, call: UnitCall) -> None:  # not super().__init__(): that would elaborate the body
        frame = sys._getframe(2)
        while frame.f_code.co_name in ("<listcomp>", "<genexpr>"):
            frame = frame.f_back
        self.func = call.unit.func
        self.callername = frame.f_code.co_name
        self.modctxt = isinstance(frame.f_back.f_locals.get("self"), _Block)
        self.callinfo = _CallInfo(self.callername, self.modctxt, dict(frame.f_locals))
        self.call = call
        self.subs, self.symdict, self.sigdict, self.memdict = [], {}, {}, {}
        self.name = self.__name__ = call.unit.__name__
        self.verilog_code = None


_converting = False


def set_converting(state: bool) -> None:
    """Switch unit calls between elaborating their body and leaving a stub (used by `hls.lib.convert`)."""
    global _converting
    _converting = state
