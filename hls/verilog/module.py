# SPDX-License-Identifier: Apache-2.0
"""Verilog text of one module: MyHDL analyses its generators, and what they say is written as people write it."""

import ast
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from myhdl import ConcatSignal, SignalType, intbv

from hls.keywords import KEYWORDS
from hls.verilog.myhdl_internals import (
    Analysis,
    Block,
    ClockedWriter,
    CombinationalWriter,
    Kind,
    Memory,
    Tree,
    TypeAnnotator,
    VerilogText,
    WireWriter,
    Writer,
    analyse,
    case_item,
    case_subject,
    case_value,
    choice,
    event_text,
    is_used,
    operands,
    set_signed,
    set_verilog_name,
    table_of,
    value_type,
    verilog_name,
    width_of,
)
from hls.verilog.naming import Label, unique

INDENT = "    "


def module_text(
    block: Block, name: str, labels: Mapping[int, Label], ports_of: Callable[[], dict[str, SignalType]]
) -> str:
    """Module `name` of an elaborated block, from its first line to `endmodule`.

    `labels` by the generators' id; `ports_of` gives its ports by name, and is asked once it is analysed.
    """
    found = analyse(block, name)
    for tree in found.trees:
        if not isinstance(tree, VerilogText):
            _Types(tree).visit(tree)
    ports = ports_of()
    for port, signal in ports.items():
        set_verilog_name(signal, port)
    inner = [s for s in found.signals if is_used(s) and verilog_name(s) not in ports]
    taken = {*KEYWORDS, *ports}
    _make_unique(inner, found.memories, taken)
    constants = _Constants(found.trees, taken)
    items = _items(found, labels, constants, taken)
    joints = _inline(_joints(inner), items)
    inner = [s for s in inner if not isinstance(s, ConcatSignal) or verilog_name(s) in joints]
    joined = "".join(f"assign {name} = {value};\n" for name, value in joints.items())
    parts = [_header(name, ports), constants.text(), _declarations(inner, found.memories), joined, *items]
    try:
        return _wrapped("\n".join(part for part in parts if part)) + "\nendmodule\n"
    finally:
        found.clear()


def _make_unique(signals: Sequence[SignalType], memories: Sequence[Memory], taken: set[str]) -> None:
    for signal in signals:
        name = unique(verilog_name(signal), taken)
        set_verilog_name(signal, name)
        taken.add(name)
    taken |= {memory.name for memory in memories}


# Declarations


def _range(signal: SignalType) -> str:
    sign = "signed " if signal.min is not None and signal.min < 0 else ""
    return sign if value_type(signal) is bool else f"{sign}[{len(signal) - 1}:0] "


def _kind_of(signal: SignalType) -> str:
    return "reg" if signal.driven == "reg" else "wire"


def _header(name: str, ports: Mapping[str, SignalType]) -> str:
    lines = [f"    {'output' if s.driven else 'input'} {_kind_of(s)} {_range(s)}{port}" for port, s in ports.items()]
    return f"module {name} (\n" + ",\n".join(lines) + "\n);\n"


def _declarations(signals: Sequence[SignalType], memories: Sequence[Memory]) -> str:
    """By name, since MyHDL finds signals in an order that depends on Python's version."""
    lines = {verilog_name(s): f"{_kind_of(s)} {_range(s)}{verilog_name(s)};" for s in signals if s.driven or s.read}
    lines |= {m.name: f"reg {_range(m.elObj)}{m.name} [0:{m.depth - 1}];" for m in memories}
    return "".join(f"{lines[name]}\n" for name in sorted(lines, key=_natural))


def _natural(name: str) -> list[tuple[str, int]]:
    """Sorts numbers within names by value."""
    return [(letters, int(digits or 0)) for letters, digits in re.findall(r"(\D*)(\d*)", name)]


def _joints(signals: Sequence[SignalType]) -> dict[str, str]:
    """What is driven without a generator: signals that nobody drives keep their value, others are made of others."""
    joints = {}
    for signal in signals:
        if isinstance(signal, ConcatSignal):
            if signal.driven:
                joints[verilog_name(signal)] = f"{{{', '.join(map(_part, operands(signal)))}}}"
        elif not signal.driven and signal.read:
            joints[verilog_name(signal)] = f"{len(signal)}'d{int(signal.val)}"
    return joints


def _inline(joints: dict[str, str], items: list[str]) -> dict[str, str]:
    """Put each joint where it is assigned if it is used nowhere else; returns the others."""
    text = "\n".join([*items, *joints.values()])
    uses = Counter(re.findall(r"\w+", text))
    single = {
        name
        for name in re.findall(r"^assign \w+ = (\w+);$", text, flags=re.MULTILINE)
        if name in joints and uses[name] == 1
    }
    items[:] = [
        re.sub(r"(?m)^(assign \w+ = )(\w+);$", lambda m: f"{m[1]}{joints[m[2]] if m[2] in single else m[2]};", item)
        for item in items
    ]
    return {name: value for name, value in joints.items() if name not in single}


def _part(value: Any) -> str:
    if isinstance(value, SignalType):
        return _indices(verilog_name(value))
    if isinstance(value, str):
        return f"{len(value)}'b{value}"
    return f"{len(value) if isinstance(value, intbv) else 1}'d{int(value)}"


# Constants


def _literal(value: int) -> str:
    """A number that every tool takes for what it is: beyond 30 bits it says its width."""
    if abs(value) < 1 << 30:
        return str(value) if value >= 0 else f"(-{-value})"
    return f"{max(32, value.bit_length())}'h{value:x}"


def _loads(tree: Tree) -> Iterable[ast.Name]:
    names = tree.vardict.keys() | set(tree.argnames)
    return (node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in names)


def _number(tree: Tree, node: ast.expr) -> int | None:
    """Value of an expression of numbers and named numbers; None if there is anything else in it."""
    if isinstance(node, ast.BinOp):
        known = _number(tree, node.left) is not None and _number(tree, node.right) is not None
    elif isinstance(node, ast.Name):
        known = node.id not in tree.vardict and type(tree.symdict.get(node.id)) is not bool
        known = known and isinstance(tree.symdict.get(node.id), int)
    else:
        known = isinstance(node, ast.Constant) and type(node.value) is int
    if not known:
        return None
    return int(eval(compile(ast.fix_missing_locations(ast.Expression(node)), "", "eval"), tree.symdict))


class _Constants:
    """Named numbers of a module: each becomes a localparam unless its name stands for several values."""

    def __init__(self, trees: Sequence[Tree | VerilogText], taken: set[str]) -> None:
        self.values = defaultdict(set)
        for tree in trees:
            if isinstance(tree, VerilogText):
                continue
            for node in _loads(tree):
                value = tree.symdict.get(node.id)
                if isinstance(value, int) and not isinstance(value, bool):
                    self.values[_constant_name(node.id, value)].add(int(value))
        self.taken = taken
        self.used: dict[str, int] = {}

    def text_of(self, name: str, value: int) -> str:
        name = _constant_name(name, value)
        if len(self.values[name]) > 1 or name in self.taken:
            return _literal(value)
        self.used[name] = value
        return name

    def text(self) -> str:
        return "".join(f"localparam {name} = {_literal(value)};\n" for name, value in sorted(self.used.items()))


def _constant_name(name: str, value: int) -> str:
    return getattr(value, "name", name.lstrip("_")).upper()


# Generators


class _Types(TypeAnnotator):
    def visit_BinOp(self, node: ast.BinOp) -> None:
        super().visit_BinOp(node)
        value = _number(self.tree, node)
        if value is not None:
            set_signed(node, value < 0)


class _Readable(Writer):
    """What the visitors of MyHDL write otherwise: names for numbers, fewer brackets, `always @*`."""

    constants: _Constants

    def IntRepr(self, n: int, radix: str = "") -> str:
        return _literal(n)

    def text(self, node: ast.AST) -> str:
        outer, self.buf = self.buf, StringIO()
        self.visit(node)
        text, self.buf = self.buf.getvalue(), outer
        return text

    def bare(self, node: ast.AST) -> str:
        return _unwrapped(self.text(node))

    def writeDoc(self, node: ast.AST) -> None:
        pass

    def writeAlwaysHeader(self) -> None:
        events = [event_text(event) for event in self.tree.senslist]
        clocked = all("edge " in event for event in events)
        self.write(f"always @({' or '.join(events)})" if clocked else "always @*")
        self.write(" begin")
        self.indent()

    def getName(self, node: ast.Name) -> None:
        value = self.tree.symdict.get(node.id)
        if node.id in self.tree.vardict or isinstance(value, bool) or not isinstance(value, int):
            super().getName(node)
        else:
            self.write(self.constants.text_of(node.id, value))

    def visit_BinOp(self, node: ast.BinOp) -> None:
        value, terms = _number(self.tree, node), [_number(self.tree, term) for term in (node.left, node.right)]
        if value is not None and any(term is not None and term.bit_length() > value.bit_length() for term in terms):
            self.write(_literal(value))  # a number wider than it must be, for linters
        else:
            super().visit_BinOp(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.Not, ast.Invert)) and not isinstance(node.operand, ast.IfExp):
            self.write("!" if isinstance(node.op, ast.Not) else "~")
            self.visit(node.operand)
        else:
            super().visit_UnaryOp(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        source = node.value
        if isinstance(source, ast.Subscript) and (table := table_of(source.value)) is not None:
            self._table(node.targets[0], source.slice, table)
            return
        self.visit(node.targets[0])
        self.write(" <= " if self.isSigAss else " = ")
        self.isSigAss = False
        self.write(f"{self.bare(source)};")

    def _table(self, target: ast.expr, index: ast.expr, rom: Sequence[int]) -> None:
        """A constant table as a case statement, equal entries together; out of its range, the last entry."""
        entries = defaultdict(list)
        for i, value in enumerate(rom):
            entries[int(value)].append(str(i))
        full = len(rom) == 1 << width_of(index)
        default = max(entries, key=lambda value: len(entries[value])) if full else int(rom[-1])
        name, sign = self.text(target), "<=" if self.isSigAss else "="
        self.isSigAss = False
        self.write(f"case ({self.bare(index)})")
        self.indent()
        for value, places in [*entries.items(), (default, ["default"])]:
            if value != default or places == ["default"]:
                self.writeline()
                self.write(f"{', '.join(places)}: {name} {sign} {_literal(value)};")
        self.dedent()
        self.writeline()
        self.write("endcase")

    def accessSlice(self, node: ast.Subscript) -> None:
        for bound in ("lower", "upper"):
            expression = getattr(node.slice, bound)
            value = None if expression is None else _number(self.tree, expression)
            if value is not None:
                setattr(node.slice, bound, ast.copy_location(ast.Constant(value), expression))
        super().accessSlice(node)

    def mapToIf(self, node: ast.If) -> None:
        word, found = "if", choice(node)
        for test, suite in found.tests:
            self.write(f"{word} ({self.bare(test)}) begin")
            self._suite(suite)
            word = " else if"
        if found.otherwise:
            self.write(" else begin")
            self._suite(found.otherwise)

    def mapToCase(self, node: ast.If) -> None:
        found = choice(node)
        self.write(f"case ({self.bare(case_subject(node))})")
        self.indent()
        for test, suite in found.tests:
            self.writeline()
            item = case_item(test)
            self.write(self.text(item) if isinstance(item, ast.Name) else str(case_value(test)))
            self.write(": begin")
            self._suite(suite)
        if found.otherwise:
            self.writeline()
            self.write("default: begin")
            self._suite(found.otherwise)
        self.dedent()
        self.writeline()
        self.write("endcase")

    def _suite(self, statements: Sequence[ast.stmt]) -> None:
        self.indent()
        self.visit_stmt(statements)
        self.dedent()
        self.writeline()
        self.write("end")


def _unwrapped(text: str) -> str:
    """`text` without brackets around all of it."""
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for i, letter in enumerate(text):
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if depth == 0 and i < len(text) - 1:
                return text
        text = text[1:-1]
    return text


class _Wire(_Readable, WireWriter):
    pass


class _Combinational(_Readable, CombinationalWriter):
    pass


class _Clocked(_Readable, ClockedWriter):
    pass


_WRITERS: dict[int, type[_Wire | _Combinational | _Clocked]] = {
    Kind.WIRE: _Wire,
    Kind.COMBINATIONAL: _Combinational,
    Kind.CLOCKED: _Clocked,
}


class _Item:
    """An `always` block (its head, and its body line by line), an assignment or an instance."""

    def __init__(self, text: str, label: Label | None = None) -> None:
        self.label, self.joined = label, False
        always = re.fullmatch(r"(always @[^\n]*) begin\n(.*)\nend", text, flags=re.DOTALL)
        self.head = always and always[1]
        self.body = (textwrap.dedent(always[2]) if always else text).split("\n")

    def key(self) -> tuple[object, ...] | None:
        """Equal for clocked blocks of one block function that only write registers, under the same condition."""
        if self.label is None or self.head is None or "edge " not in self.head:
            return None
        guarded = len(self.body) > 2 and self.body[0].startswith("if (") and self.body[-1] == "end"
        writes = [line.removeprefix(INDENT) for line in self.body[1:-1]] if guarded else self.body
        if not all(re.match(r"\w.* <= ", line) for line in writes):
            return None
        return self.label.block, self.head, self.body[0] if guarded else None

    def join(self, other: "_Item") -> None:
        """Take over the registers of an item with the same key."""
        guarded = self.body[-1] == "end"
        self.body = [*self.body[:-1], *other.body[1:]] if guarded else self.body + other.body
        self.joined = True

    def text(self, taken: set[str]) -> str:
        """The whole, its label none of `taken`; blocks that were joined have none."""
        if self.label is None or self.head is None:
            return "\n".join(self.body) + "\n"
        label = ""
        if not self.joined:
            name = unique(self.label.name, taken)
            taken.add(name)
            label = f": {name}"
        return "".join(f"{line}\n" for line in [f"{self.head} begin{label}", *(INDENT + s for s in self.body), "end"])


def _items(found: Analysis, labels: Mapping[int, Label], constants: _Constants, taken: set[str]) -> list[str]:
    """Text of every generator and instance; registers that are written under the same condition share a block."""
    items: list[_Item] = []
    by_key: dict[tuple[object, ...], _Item] = {}
    for generator, tree in zip(found.generators, found.trees, strict=True):
        if isinstance(tree, VerilogText):
            items.append(_Item(_indices(str(tree).strip("\n"))))
            continue
        writer = _WRITERS[tree.kind](tree, StringIO(), StringIO())
        writer.constants = constants
        writer.visit(tree)
        text = re.sub(r"[ \t]+$", "", writer.buf.getvalue(), flags=re.M).strip()
        item = _Item(_indices(text), labels[id(generator)])
        key = None if tree.vardict else item.key()
        if key in by_key:
            by_key[key].join(item)
            continue
        items.append(item)
        if key:
            by_key[key] = item
    return _paragraphs(items, taken)


def _paragraphs(items: Sequence[_Item], taken: set[str]) -> list[str]:
    """Items with what their blocks say of themselves; assignments that follow each other are one paragraph."""
    paragraphs: list[str] = []
    explained: set[object] = set()
    open_ended = False
    for item in items:
        text, doc = item.text(taken), ""
        if item.label and item.label.doc and item.label.block not in explained:
            explained.add(item.label.block)
            doc = "".join(f"// {line}".rstrip() + "\n" for line in item.label.doc.split("\n"))
        assignment = item.head is None and item.label is not None
        if assignment and open_ended and not doc:
            paragraphs[-1] += text
        else:
            paragraphs.append(doc + text)
        open_ended = assignment
    return paragraphs


def _indices(text: str) -> str:
    """MyHDL writes the upper end of a slice as 8-1."""
    return re.sub(r"\[(\d+)-1:", lambda m: f"[{int(m[1]) - 1}:", text)


WIDTH = 110


def _wrapped(text: str) -> str:
    """`text`, with long lines broken behind operators and commas."""
    return "\n".join(_wrap(line) if len(line) > WIDTH and "//" not in line else line for line in text.split("\n"))


def _wrap(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    lines = [""]
    for piece in re.findall(r".+?(?:(?:,|\|\||&&|[?:|&^+]|<=|=) |$)", line.strip()):
        if lines[-1] and len(indent) + len(lines[-1]) + len(piece) > WIDTH:
            lines.append(INDENT)
        lines[-1] += piece
    return "\n".join(indent + line.rstrip() for line in lines)
