# SPDX-License-Identifier: Apache-2.0
"""Names inside a module: of the blocks that melt into it, of their instances and of their signals.

Everything is called as in the Python source. What a loop makes several of is told apart by what it is given.
"""

import ast
import inspect
import itertools
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from myhdl import SignalType

from hls.verilog.myhdl_internals import Block, names_in_sight

Path = tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """Of a generator: name of its always block, the block function it is from, and what that one's docstring says."""

    name: str
    block: Any
    doc: str


def unique(name: str, taken: Container[str]) -> str:
    """`name`, or with the first number behind it that makes it none of `taken`."""
    candidate, n = name, 2
    while candidate in taken:
        candidate, n = f"{name}_{n}", n + 1
    return candidate


def is_interface(obj: Any, depth: int = 2) -> bool:
    """Whether `obj` is an object with signals among its attributes, or among those of its attributes."""
    if depth == 0 or isinstance(obj, (Block, type, ModuleType)) or callable(obj):
        return False
    members = getattr(obj, "__dict__", {}).values()
    return any(isinstance(m, SignalType) or is_interface(m, depth - 1) for m in members)


def name_children(parent: Block) -> None:
    """Name every sub-block by its function; several of one function by the argument that differs."""
    families = defaultdict(list)
    for sub in parent.subs:
        if isinstance(sub, Block):
            families[sub.func.__name__.lstrip("_")].append(sub)
    several = any(len(family) > 1 for family in families.values())
    known = {id(value): path for path, value in reversed(visible(parent))} if several else {}
    for name, family in families.items():
        for child, suffix in zip(family, _suffixes(family, known), strict=True):
            child.name = child.__name__ = "_".join([name, *suffix])


def _suffixes(family: list[Block], known: dict[int, Path]) -> list[Path]:
    """What tells the blocks of a family apart: a text, members of one container, names, or numbers."""
    if len(family) == 1:
        return [()]
    columns = list(zip(*(_arguments(child).values() for child in family), strict=True))
    numbers = [column for column in columns if all(type(v) is int for v in column) and len(set(column)) > 1]
    best, best_rank = [(str(i), *map(str, row)) for i, *row in zip(range(len(family)), *numbers)], 0
    if len({row[1:] for row in best}) == len(family):
        best = [row[1:] for row in best]
    for column in columns:
        rank, suffixes = _rank(column, known)
        if len(set(suffixes)) == len(family) and rank >= best_rank:
            best, best_rank = suffixes, rank
    return best


def _rank(values: tuple[Any, ...], known: dict[int, Path]) -> tuple[int, list[Path]]:
    if all(isinstance(v, str) for v in values):
        return 4, [(re.sub(r"\W+", "_", v).lower(),) for v in values]
    if all(hasattr(v, "name") and isinstance(v, int) for v in values):
        return 4, [(v.name.lower(),) for v in values]
    paths = [known[id(v)] for v in values if id(v) in known]
    if len(paths) == len(values):
        shared = len(_shared(paths))
        return (3, [p[shared:] for p in paths]) if shared else (2, paths)
    return 0, []


def _shared(paths: list[Path]) -> Path:
    """What all paths begin with."""
    levels = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*paths))
    return tuple(level[0] for level in levels)


def _arguments(child: Block) -> dict[str, Any]:
    """Arguments of a block by name."""
    if hasattr(child, "call"):
        return {**child.call.ports, **child.call.params}
    bound = inspect.signature(child.func).bind(*child.args, **child.kwargs)
    bound.apply_defaults()
    return bound.arguments


def visible(parent: Block) -> list[tuple[Path, Any]]:
    """Signals and interfaces in sight of a block, with their paths: ("a",), ("list", "3") or ("port", "ready")."""
    found = []

    def visit(path: Path, value: Any) -> None:
        if isinstance(value, SignalType):
            found.append((path, value))
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                visit((*path, str(i)), item)
        elif isinstance(value, dict):
            for key, item in value.items():
                visit((*path, str(key).lower()), item)
        elif is_interface(value):
            found.append((path, value))
            visit(path, vars(value))

    passing = _loop_variables(parent.func)
    scopes = [names_in_sight(sub) for sub in parent.subs]
    names = {name: value for scope in scopes for name, value in scope.items() if isinstance(value, SignalType)}
    others = scopes[-1].items() if scopes else ()
    for name, value in [*names.items(), *((n, v) for n, v in others if n not in names)]:
        if name not in passing and not isinstance(value, ModuleType):
            visit((name.lstrip("_"),), value)
    return found


@lru_cache
def _loop_variables(func: Callable[..., object]) -> frozenset[str]:
    """Names that a function assigns in loops, which stand for another thing each time; Python 3.12 and newer have those
    of comprehensions among its own."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(func)))
    loops = [node for node in ast.walk(tree) if isinstance(node, (ast.For, ast.While, ast.comprehension))]
    return frozenset(
        node.id
        for loop in loops
        for node in ast.walk(loop)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
