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
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from myhdl import Signal, SignalType, intbv

from hls.config import System
from hls.verilog.myhdl_internals import Block, BlockDecorator, BlockStub, value_type
from hls.verilog.naming import is_interface, name_children


@dataclass(frozen=True)
class UnitCall:
    """One use of a unit: `ports` by argument name (signal, interface or None), `params` with defaults."""

    unit: "Unit"
    ports: dict[str, Any]
    params: dict[str, Any]

    def signals(self) -> dict[str, SignalType]:
        """Every port signal by its Verilog name: interface ports are flattened to `x_ready`."""
        paths = [(name.replace(".", "_"), s) for name, s in self._paths()]
        names = Counter(name for name, _ in paths)
        if twice := [name for name, count in names.items() if count > 1]:
            raise TypeError(f"unit {self.unit.__name__}: two ports would be called {twice[0]} in Verilog")
        return dict(paths)

    def outputs(self) -> set[str]:
        """Verilog names of the output ports."""
        return {name.replace(".", "_") for name, _ in self._paths() if name in self.unit.outputs}

    def _paths(self) -> Iterator[tuple[str, SignalType]]:
        for name, port in self.ports.items():
            yield from flatten_port(name, port)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for calls that share one Verilog module."""
        types = tuple((name, value_type(s), len(s), s.min) for name, s in self._paths())
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


def flatten_port(name: str, port: Any) -> Iterator[tuple[str, SignalType]]:
    """(dotted name, signal) of a port: itself, or the signals of an interface object."""
    if isinstance(port, SignalType):
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
    if isinstance(value, System) or value is None:
        return ""
    return name + hashlib.sha256(repr(value).encode()).hexdigest()[:6]


class Unit(BlockDecorator):
    """The decorated function; see `unit`."""

    def __init__(self, func: Callable[..., object], outputs: str) -> None:
        super().__init__(func)
        self.outputs = frozenset(outputs.split())
        self.signature = inspect.signature(func)
        parameters = self.signature.parameters.values()
        self.port_names = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self.defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        unknown = {o.split(".")[0] for o in self.outputs} - set(self.port_names)
        if unknown:
            raise TypeError(f"unit {func.__name__}: output {min(unknown)} is not one of its ports")

    def __call__(self, *args: Any, **kwargs: Any) -> "UnitBlock | UnitStub":
        call = self.bind(*args, **kwargs)
        if _converting:
            return UnitStub(call)
        instance = UnitBlock(
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


def unit(out: str) -> Callable[[Callable[..., object]], Unit]:
    """Decorate a block function; `out` names its output ports, `x.ready` for a signal of interface `x`."""
    return lambda func: Unit(func, out)


class UnitBlock(Block):
    """What a unit call returns: an instance that knows its call."""

    call: UnitCall


class UnitStub(BlockStub):
    """What a unit call returns while its parent is being converted: an instance without a body."""

    instance: str  # its name in the module

    def __init__(self, call: UnitCall) -> None:
        super().__init__(call.unit.func, call.unit.__name__, callers=2)
        self.call = call


_converting = False


def set_converting(state: bool) -> None:
    """Switch unit calls between elaborating their body and leaving a stub (used by `hls.lib.convert`)."""
    global _converting
    _converting = state
