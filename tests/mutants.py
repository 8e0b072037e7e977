# SPDX-License-Identifier: Apache-2.0
"""Mutants of a source file: one constant, comparison, condition or operator changed, everything else as it is written.

MyHDL reads the source of its blocks, so a mutant is text: bytes of the file that are replaced.
"""

import ast
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

GENERATORS = {"always", "always_comb", "always_seq", "instance"}
"""Decorators of functions that become hardware."""

COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}
CONJUNCTIONS = {ast.And: ("and", "or"), ast.Or: ("or", "and")}


@dataclass(frozen=True)
class Mutant:
    """`old` at bytes start..end of `file` becomes `new`.

    before, after: the changed lines, stripped: what a mutant is known by, since numbers of lines move.
    rtl: in a function that becomes hardware. site: the name of the place; several mutants share it.
    """

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str
    before: str
    after: str
    rtl: bool
    site: str

    @property
    def name(self) -> str:
        return f"{self.site} {self.new}"

    def apply(self, data: bytes) -> bytes:
        return data[: self.start] + self.new.encode() + data[self.end :]


def find(file: str, data: bytes) -> list[Mutant]:
    """All mutants of the source `data` of `file` (a path relative to the repository)."""
    finder = _Finder(data)
    finder.visit(ast.parse(data))
    starts, seen, named = finder.starts, Counter(), {}
    result = []
    for start, end, new, scope, rtl in sorted(finder.found):
        line = data.count(b"\n", 0, start) + 1
        last = data.count(b"\n", 0, end) + 1
        first_byte, after_last = starts[line - 1], starts[last]
        text = " ".join(data[first_byte:after_last].decode().split())
        if (line, last) not in named:  # the same line may be there twice in a function
            seen[scope, text] += 1
            named[line, last] = seen[scope, text]
        changed = data[first_byte:start] + new.encode() + data[end:after_last]
        site = f"{file} {scope} {text} {start - first_byte}-{end - first_byte} {named[line, last]}"
        result.append(
            Mutant(
                file,
                line,
                start,
                end,
                data[start:end].decode(),
                new,
                text,
                " ".join(changed.decode().split()),
                rtl,
                site,
            )
        )
    return result


def sample(mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` mutants of different places, one mutant per place, in random order, every second one in hardware.

    What is chosen depends on the seed and on the places themselves, so that a change elsewhere in the sources hardly
    changes the sample; the first part of it is a sample too.
    """

    def rank(text: str) -> bytes:
        return hashlib.sha256(f"{seed} {text}".encode()).digest()

    sites: dict[str, Mutant] = {}
    for mutant in mutants:
        if mutant.site not in sites or rank(mutant.name) < rank(sites[mutant.site].name):
            sites[mutant.site] = mutant
    ranked = sorted(sites.values(), key=lambda m: rank(m.site))
    sides = [[m for m in ranked if m.rtl is rtl][: count // 2 + (count % 2) * (not rtl)] for rtl in (True, False)]
    return [m for pair in itertools.zip_longest(*sides) for m in pair if m]


class _Finder(ast.NodeVisitor):
    """Collects (first byte, end, new text, scope, in hardware).

    Left out: annotations, decorators, text of errors, and the initial values of signals, which Verilog does not have.
    """

    def __init__(self, data: bytes):
        self.data = data
        self.starts = [0, *(m.end() for m in re.finditer(rb"\n", data)), len(data)]
        self.scope: list[str] = []
        self.rtl = False
        self.found: set[tuple[int, int, str, str, bool]] = set()

    def add(self, start: int, end: int, new: str) -> None:
        self.found.add((start, end, new, ".".join(self.scope), self.rtl))

    def span(self, node: ast.expr) -> tuple[int, int]:
        return (self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset)

    def between(self, left: ast.expr, right: ast.expr, pair: tuple[str, str]) -> None:
        """Replace the operator between two operands."""
        (_, start), (end, _) = self.span(left), self.span(right)
        gap = re.sub(rb"#[^\n]*", lambda m: b" " * len(m[0]), self.data[start:end])
        words = pair[0].split()
        match = re.search(rb"\s+".join(re.escape(word.encode()) for word in words), gap)
        self.add(start + match.start(), start + match.end(), pair[1])

    def negate(self, node: ast.expr) -> None:
        start, end = self.span(node)
        self.add(start, end, f"not ({self.data[start:end].decode()})")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outside = self.rtl
        names = {
            d.id if isinstance(d, ast.Name) else getattr(getattr(d, "func", None), "id", "")
            for d in node.decorator_list
        }
        self.rtl = self.rtl or bool(names & GENERATORS)
        self.scope.append(node.name)
        for part in (*node.args.defaults, *(d for d in node.args.kw_defaults if d), *node.body):
            self.visit(part)
        self.scope.pop()
        self.rtl = outside

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.append(node.name)
        for part in node.body:
            self.visit(part)
        self.scope.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "Signal":
            for argument in node.args:
                if isinstance(argument, ast.Subscript):
                    self.visit(argument.slice)
            return
        self.generic_visit(node)

    def visit_condition(self, node: ast.If | ast.While | ast.IfExp) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    visit_If = visit_While = visit_IfExp = visit_condition

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self.negate(condition)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators):
            self.between(left, right, COMPARISONS[type(op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:]):
            self.between(left, right, CONJUNCTIONS[type(node.op)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS:
            self.between(node.left, node.right, OPERATORS[type(node.op)])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in OPERATORS:
            self.between(node.target, node.value, tuple(f"{op}=" for op in OPERATORS[type(node.op)]))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start, end = self.span(node)
            self.add(start, end, f"({self.data[slice(*self.span(node.operand))].decode()})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(*self.span(node), str(not node.value))
        elif isinstance(node.value, int | float):
            for value in {node.value + 1, node.value - 1, 0} - {node.value}:
                self.add(*self.span(node), repr(value) if value >= 0 else f"({value!r})")


def sources(root: Path, patterns: Iterable[str]) -> Iterator[str]:
    """Paths below `root`, relative to it, by patterns."""
    return (path.relative_to(root).as_posix() for pattern in patterns for path in sorted(root.glob(pattern)))
