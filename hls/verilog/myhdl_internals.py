# SPDX-License-Identifier: Apache-2.0
"""All that heepgen uses of MyHDL beyond its documented interface.

No other file takes a private of MyHDL's. When a new version of it breaks something, tests/test_myhdl_internals.py says
which of these.
"""

import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from types import FrameType, FunctionType, SimpleNamespace

from myhdl import ConcatSignal, SignalType, _block, _instance, intbv
from myhdl._block import _Block as Block
from myhdl._block import _CallInfo
from myhdl._block import block_decorator as BlockDecorator
from myhdl._extractHierarchy import _MemInfo as Memory
from myhdl._extractHierarchy import _memInfoMap, _UserVerilogCode
from myhdl._getHierarchy import _getHierarchy
from myhdl._instance import _Instantiator as Generator
from myhdl._ShadowSignal import _ShadowSignal, _SliceSignal
from myhdl._Signal import _WaiterList as Edge
from myhdl._simulator import _signals
from myhdl.conversion._analyze import _analyzeGens, _analyzeSigs, _Rom
from myhdl.conversion._misc import _genUniqueSuffix, _kind
from myhdl.conversion._toVerilog import _AnnotateTypesVisitor as TypeAnnotator
from myhdl.conversion._toVerilog import _ConvertAlwaysCombVisitor as CombinationalWriter
from myhdl.conversion._toVerilog import _ConvertAlwaysDecoVisitor as ClockedWriter
from myhdl.conversion._toVerilog import _ConvertSimpleAlwaysCombVisitor as WireWriter
from myhdl.conversion._toVerilog import _ConvertVisitor as Writer
from myhdl.conversion._toVerilog import _flatten

__all__ = [
    "Block",
    "BlockDecorator",
    "BlockStub",
    "ClockedWriter",
    "CombinationalWriter",
    "Generator",
    "Kind",
    "Memory",
    "Tree",
    "TypeAnnotator",
    "VerilogText",
    "WireWriter",
    "Writer",
]


# Signals


def value_type(signal: SignalType) -> type | tuple[type, ...]:
    """Type of a signal's values: bool, intbv, or a tuple around int for one without a width."""
    return signal._type


def initial_value(signal: SignalType) -> bool | int | intbv:
    """What a signal holds before a simulation starts."""
    return signal._init


def preset(signal: SignalType, value: bool | int) -> None:
    """Give a signal its value before a simulation starts, without an event."""
    for state in (signal._init, signal._val, signal._next):
        if isinstance(state, intbv):
            state[:] = value
        else:
            signal._init = signal._val = signal._next = type(state)(value)


def force(signal: SignalType, value: bool | int | intbv) -> None:
    """Let a signal hold another value at once, without an event."""
    signal._val = value


def is_shadow(signal: SignalType) -> bool:
    """Whether a signal follows others without a generator: a slice or a concatenation."""
    return isinstance(signal, _ShadowSignal)


def is_slice(signal: SignalType) -> bool:
    """Whether a signal was made by calling another one: `s(7, 4)`."""
    return isinstance(signal, _SliceSignal)


def sources(signal: SignalType) -> list[SignalType]:
    """The signals that a slice or a concatenation is made of; none for any other signal."""
    if isinstance(signal, _SliceSignal):
        return [signal._sig]
    return signal._sigargs if isinstance(signal, ConcatSignal) else []


def operands(joint: ConcatSignal) -> tuple[bool | int | str | intbv | SignalType, ...]:
    """What a concatenation joins, most significant first: signals, numbers, texts of binary digits."""
    return joint._args


def verilog_name(signal: SignalType) -> str:
    """Name of a signal in the text; an expression for a slice."""
    assert signal._name is not None, "a signal is asked for its name before it has one"
    return signal._name


def set_verilog_name(signal: SignalType, name: str) -> None:
    """Give a signal its name, and its slices theirs."""
    signal._name = name
    for part in signal._slicesigs:
        part._setName("Verilog")


def mark_used(signal: SignalType) -> None:
    """Have a signal declared although no generator mentions it."""
    signal._markUsed()


def is_used(item: SignalType | Memory) -> bool:
    """Whether generators or `mark_used` mention a signal or a list of signals."""
    return item._used


def event_text(event: SignalType | Edge) -> str:
    """An entry of a sensitivity list as Verilog: a signal or `posedge` of one."""
    return event._toVerilog()


@contextmanager
def forgotten_signals() -> Iterator[None]:
    """Signals made inside are forgotten afterwards: MyHDL keeps all that were ever made."""
    known = len(_signals)
    try:
        yield
    finally:
        del _signals[known:]


def forget_memories() -> None:
    """Forget lists of signals: MyHDL knows them by id(), and entries of dead lists must not be met again."""
    _memInfoMap.clear()


# Elaboration


def _nearest_frames(depth: int = 8) -> list[tuple[FrameType, str, int, str]]:
    """The part of inspect.stack() that MyHDL looks at, without reading source files."""
    frame: FrameType | None = sys._getframe(1)
    frames: list[tuple[FrameType, str, int, str]] = []
    while frame is not None and len(frames) < depth:
        frames.append((frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return frames


def _line_of(func: FunctionType) -> tuple[int]:
    """What MyHDL takes for the line of a block, first of inspect.getsourcelines(), without reading the source."""
    return (func.__code__.co_firstlineno,)


# MyHDL asks for the whole stack at every instance, which is most of the time of an elaboration, and for the source of
# every block that is imported
_block.inspect = _instance.inspect = SimpleNamespace(
    **{**vars(inspect), "stack": _nearest_frames, "getsourcelines": _line_of}
)


class BlockStub(Block):
    """An instance without a body, in the block function that calls the one that makes it."""

    def __init__(self, func: Callable[..., object], name: str, callers: int) -> None:
        """`callers`: how many calls lie between the block function and this one."""
        # not super().__init__(): that would elaborate the body
        frame: FrameType | None = sys._getframe(callers + 1)
        while frame is not None and frame.f_code.co_name in ("<listcomp>", "<genexpr>"):
            frame = frame.f_back
        assert frame is not None
        self.func = func
        self.callername = frame.f_code.co_name
        above = frame.f_back
        self.modctxt = above is not None and isinstance(above.f_locals.get("self"), Block)
        self.callinfo = _CallInfo(self.callername, self.modctxt, dict(frame.f_locals))
        self.subs, self.symdict, self.sigdict, self.memdict = [], {}, {}, {}
        self.name = self.__name__ = name
        self.verilog_code = None


def names_in_sight(sub: Block | Generator) -> dict[str, object]:
    """What the block function that holds a block or a generator sees, by name, where it made it."""
    return sub.callinfo.symdict


class VerilogText(_UserVerilogCode):
    """Verilog in the place of a block's body; made late, when MyHDL has named the signals."""

    __slots__ = ("text",)

    def __init__(self, text: Callable[[], str]) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text()


# Analysis


class Tree(ast.Module):
    """The syntax tree of a generator, as MyHDL's analysis leaves it: what it adds to Python's own."""

    name: str
    kind: int
    symdict: dict[str, object]  # what the generator sees, by name
    vardict: dict[str, object]  # its variables
    argnames: list[str]
    senslist: Sequence[SignalType | Edge]


class Kind(IntEnum):
    """What a generator is to MyHDL's analysis."""

    WIRE = _kind.SIMPLE_ALWAYS_COMB
    COMBINATIONAL = _kind.ALWAYS_COMB
    CLOCKED = _kind.ALWAYS_DECO


@dataclass(frozen=True)
class Analysis:
    """What MyHDL finds out about a block; `generators` and `trees` go together one by one."""

    generators: Sequence[Generator | VerilogText]
    trees: Sequence[Tree | VerilogText]
    signals: Sequence[SignalType]
    memories: Sequence[Memory]

    def clear(self) -> None:
        """Take back names and marks: a signal may be analysed again."""
        for signal in [*self.signals, *(s for memory in self.memories for s in memory.mem)]:
            signal._clear()


def analyse(block: Block, name: str) -> Analysis:
    """Analyse the generators of an elaborated block as module `name`, and mark which signals are driven and read."""
    hierarchy = _getHierarchy(name, block)
    _genUniqueSuffix.reset()
    generators = _flatten(hierarchy.top)
    trees = _analyzeGens(generators, hierarchy.absnames)
    signals, memories = _analyzeSigs(hierarchy.hierarchy)
    return Analysis(generators, trees, signals, [memory for memory in memories if memory._used])


def table_of(node: ast.expr) -> Sequence[int] | None:
    """The numbers of an expression that names a constant table; None for any other expression."""
    found = getattr(node, "obj", None)
    return found.rom if isinstance(found, _Rom) else None


def width_of(node: ast.expr) -> int:
    """Bits of an expression that stands for a signal or a number with a width."""
    return len(node.obj)  # type: ignore[attr-defined]


def set_signed(node: ast.expr, signed: bool) -> None:
    """Say whether an expression's value is signed, which MyHDL asks when it mixes it with others."""
    node.signed = signed  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Choice:
    """An analysed `if`: conditions with what they guard, and what is done if none holds."""

    tests: Sequence[tuple[ast.expr, Sequence[ast.stmt]]]
    otherwise: Sequence[ast.stmt]


def choice(node: ast.If) -> Choice:
    """An `if` and every `elif` and `else` behind it."""
    return Choice(node.tests, node.else_)  # type: ignore[attr-defined]


def case_subject(node: ast.If) -> ast.expr:
    """What all conditions of an `if` compare, where MyHDL found that it is a case statement."""
    return node.caseVar  # type: ignore[attr-defined, no-any-return]


def case_item(test: ast.expr) -> ast.expr:
    """What a condition of a case statement compares with."""
    assert isinstance(test, ast.Compare)
    return test.comparators[0]


def case_value(test: ast.expr) -> int:
    """The number that a condition of a case statement compares with."""
    return int(test.case[1])  # type: ignore[attr-defined]
