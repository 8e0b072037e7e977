"""Conversion of a hierarchy of units to Verilog: one file per distinct unit."""

import copy
import re
import tempfile
import warnings
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import myhdl
from myhdl import ResetSignal, Signal
from myhdl._block import _Block
from myhdl._extractHierarchy import _memInfoMap, _UserVerilogCode
from myhdl._ShadowSignal import ConcatSignal, _ShadowSignal, _SliceSignal
from myhdl._Signal import _Signal
from myhdl._simulator import _signals
from myhdl.conversion._toVerilog import toVerilog

from hls.unit import UnitCall, UnitStub, flatten_port, is_interface, name_children, set_converting


def convert(root: _Block | Callable[[], _Block], out_dir: str | Path, name: str | None = None,
            prefix: str = "") -> list[Path]:
    """Write the root unit and every unit below it to `out_dir`, one `<module>.v` each; returns the paths.

    `root` is a unit instance or, faster for large designs, a function that makes one: then only one level of
    the hierarchy exists at a time. The root module is called `name`, by default as its function; `prefix` begins
    the names of all others. Nothing is written when the conversion fails.
    """
    n_signals = len(_signals)
    set_converting(True)
    try:
        modules = _modules(root().call if callable(root) else root.call, name, prefix)
    finally:
        set_converting(False)
        del _signals[n_signals:]
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for module, text in modules.items():
        paths.append(out_dir / f"{module}.v")
        paths[-1].write_text(text)
    return paths


def _modules(root: UnitCall, name: str | None, prefix: str) -> dict[str, str]:
    names = {root.key: name or root.unit.__name__}
    pending, texts = [root], {}
    for call in pending:
        block = _elaborate(call)
        for stub in _stubs(block):
            if stub.call.key not in names:
                names[stub.call.key] = _unique(prefix + stub.call.module_name, names.values())
                pending.append(stub.call)
            stub.verilog_code = _Instantiation(names[stub.call.key], stub)
        module = names[call.key]
        try:
            texts[module] = _header(call, module) + _verilog(block, call, module)
        except Exception as error:
            error.add_note(f"while converting unit {module}")
            raise
    return texts


def _unique(name: str, taken: Iterable[str]) -> str:
    candidate, n = name, 2
    while candidate in taken:
        candidate, n = f"{name}_{n}", n + 1
    return candidate


# Elaboration of one unit, with its children as stubs


def _elaborate(call: UnitCall) -> _Block:
    _memInfoMap.clear()  # keyed by id(): entries of dead lists must not be met again
    ports = {name: _fresh(port) for name, port in call.ports.items()}
    unit = call.unit
    block = _Block(unit.func, unit, unit.__name__, unit.srcfile, unit.srcline, False, **ports, **call.params)
    block.call = UnitCall(unit, ports, call.params)
    block.__doc__ = None
    port_signals = block.call.signals()
    block.sigdict = {**port_signals, **block.sigdict}
    for parent, path in _blocks(block):
        name_children(parent)
        for stub in _stubs_of(parent):
            stub.instance = path + stub.name
        _name_signals(parent)
    for stub in _stubs(block):
        _mark_ports(stub.call)
    block._inferInterface = lambda: _infer_interface(block)
    return block


def _fresh(port: Any) -> Any:
    """A new port of the same type, so that converting leaves the caller's signals alone."""
    if isinstance(port, ResetSignal):
        return ResetSignal(port._init, active=port.active, isasync=port.isasync)
    if isinstance(port, _Signal):
        return Signal(port._init)
    if is_interface(port):
        twin = copy.copy(port)
        for attribute, member in vars(port).items():
            setattr(twin, attribute, _fresh(member))
        return twin
    return port


def _blocks(block: _Block, path: str = "") -> Iterator[tuple[_Block, str]]:
    """The blocks that make up one module, each with the prefix that its names get there."""
    yield block, path
    for sub in block.subs:
        if isinstance(sub, _Block) and not isinstance(sub, UnitStub):
            yield from _blocks(sub, f"{path}{sub.name}_")


def _stubs_of(parent: _Block) -> list[UnitStub]:
    return [sub for sub in parent.subs if isinstance(sub, UnitStub)]


def _stubs(block: _Block) -> Iterator[UnitStub]:
    for parent, _ in _blocks(block):
        yield from _stubs_of(parent)


def _name_signals(parent: _Block) -> None:
    """Give a name to every signal that only connects instances; MyHDL names what generators use."""
    stubs = _stubs_of(parent)
    wanted = [s for stub in stubs for s in _bases(stub.call.signals().values())]
    wanted += [s for shadow in parent.sigdict.values() if isinstance(shadow, _ShadowSignal)
               for s in _bases([shadow])]
    named = {id(s) for s in parent.sigdict.values()}
    known = {}
    if stubs:
        known = _signal_names(stubs[-1].callinfo.symdict)
        for stub in reversed(stubs):
            known |= _signal_names({n: v for n, v in stub.callinfo.symdict.items()
                                    if isinstance(v, _Signal)}, known)
            for port, signal in stub.call.signals().items():
                known.setdefault(id(signal), f"{stub.name}_{port}")
    for signal in wanted:
        if id(signal) not in named and not isinstance(signal, _SliceSignal):
            name = _unique(known.get(id(signal), "net"), parent.sigdict)
            parent.sigdict[name] = signal
            named.add(id(signal))


def _bases(signals: Iterable[_Signal]) -> Iterator[_Signal]:
    """The signals and, below slices and concatenations, the signals that they are made of."""
    for signal in signals:
        yield signal
        if isinstance(signal, _SliceSignal):
            yield from _bases([signal._sig])
        elif isinstance(signal, ConcatSignal):
            yield from _bases(signal._sigargs)


def _signal_names(symbols: dict[str, Any], known: Container[int] = ()) -> dict[int, str]:
    names = {}

    def visit(name: str, value: Any) -> None:
        if isinstance(value, _Signal):
            if id(value) not in known:
                names.setdefault(id(value), name)
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                visit(f"{name}_{i}", item)
        elif is_interface(value) and not isinstance(value, _Block):
            for path, signal in flatten_port(name, value):
                names.setdefault(id(signal), path.replace(".", "_"))

    for name, value in symbols.items():
        visit(name, value)
    return names


def _mark_ports(call: UnitCall) -> None:
    outputs = call.outputs()
    for name, signal in call.signals().items():
        for base in _bases([signal]):
            base._markUsed()
            if isinstance(base, ConcatSignal):
                base.driven = "wire"
        if name not in outputs:
            signal._markRead()
        elif signal._driven:
            raise myhdl.ConversionError(f"output {name} of {call.module_name} drives a net with two drivers")
        else:
            signal.driven = "wire"


def _infer_interface(block: _Block) -> None:
    """Called by MyHDL between its analysis and the output of text."""
    ports, outputs = block.call.signals(), block.call.outputs()
    for name, signal in ports.items():
        if bool(signal._driven) != (name in outputs):
            fault = "is not driven" if name in outputs else "is driven inside, but not listed as output"
            raise myhdl.ConversionError(f"port {name} {fault}")
    is_port = {id(s) for s in ports.values()}
    for stub in _stubs(block):
        child = stub.call
        for name in child.outputs():
            signal = child.signals()[name]
            if not signal._read and id(signal) not in is_port:
                signal._name = f"unused_{signal._name}"
    block.argnames, block.argdict = list(ports), ports


class _Instantiation(_UserVerilogCode):
    """Text of one instance; made late, when MyHDL has named the signals."""

    __slots__ = ("module", "stub")

    def __init__(self, module: str, stub: UnitStub) -> None:
        self.module, self.stub = module, stub

    def __str__(self) -> str:
        ports = ",\n".join(f"    .{port}({s._name})" for port, s in self.stub.call.signals().items())
        return f"\n{self.module} {self.stub.instance} (\n{ports}\n);\n"


# Text

# All of them each time: MyHDL's converter is one global object that keeps what it was told last
_SETTINGS = {"standard": "2001", "prefer_blocking_assignments": True, "radix": "", "header": "",
             "no_myhdl_header": True, "no_testbench": True, "trace": False, "initial_values": False,
             "timescale": "1ns/1ps", "portmap": None}


def _verilog(block: _Block, call: UnitCall, module: str) -> str:
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", myhdl.ToVerilogWarning)  # the linters are the judges
        for setting, value in {**_SETTINGS, "name": module, "directory": directory}.items():
            setattr(toVerilog, setting, value)
        try:
            toVerilog(block)
        finally:
            toVerilog._cleanup([], [])
        text = (Path(directory) / f"{module}.v").read_text()
    text = re.sub(r"^`timescale.*\n", "", text, flags=re.M)
    # MyHDL takes what a block reads from a set, whose order changes from run to run.
    text = re.sub(r"^always @\((.*)\)", lambda m: f"always @({', '.join(sorted(m[1].split(', ')))})", text, flags=re.M)
    text = re.sub(r"\[(\d+)-1:", lambda m: f"[{int(m[1]) - 1}:", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _header(call: UnitCall, module: str) -> str:
    unit = call.unit
    lines = [f"{module}: generated by heepgen from {unit.func.__module__}.{unit.__name__}"]
    lines += [f"  {name} = {value!r}" for name, value in call.params.items()]
    if unit.func.__doc__:
        doc = unit.func.__doc__.strip().split("\n")
        lines += ["", *(line.strip() for line in doc)]
    return "".join(f"// {line}".rstrip() + "\n" for line in lines) + "\n"
