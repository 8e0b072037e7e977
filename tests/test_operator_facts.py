# SPDX-License-Identifier: Apache-2.0
"""Every operator says all of itself, and what it says is true."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import firmware_gen
from firmware_gen import ir
from firmware_gen.emit.cpu_calls import cpu_call
from firmware_gen.memory.network import Layer
from firmware_gen.models.cpu_model import cpu_operator
from firmware_gen.operations.operation import operations_of
from firmware_gen.operations.tensors import Tensor
from firmware_gen.targets.descriptor.explain import place_of, work_of
from hls.errors import HeepgenError

RUNTIME = Path(firmware_gen.__file__).parent / "runtime"
WHERE = {  # registry: what lacks an operator that it does not know
    operations_of: "a form in firmware_gen/operations/operation.py",
    place_of: "an explanation in targets/descriptor/explain.py",
    work_of: "an explanation of its work in targets/descriptor/explain.py",
    cpu_operator: "a bit-exact model in models/cpu_model.py",
    cpu_call: "arguments, or a call in emit/cpu_calls.py",
}


def operators(kind: type[ir.Node] = ir.Node) -> Iterator[type[ir.Node]]:
    """Classes that graphs are made of: those without subclasses."""
    own = [k for k in kind.__subclasses__() if k.__module__.startswith("firmware_gen.")]
    yield from (inner for k in own for inner in operators(k)) if own else [kind]


def missing(kind: type[ir.Node]) -> list[str]:
    """What a class does not say, or what is not said of it."""
    if not hasattr(kind, "runs_on"):
        return ["runs_on"]
    if kind.runs_on is ir.Place.MERGED:
        return []
    needed = [place_of, *([work_of] if issubclass(kind, ir.Fused) else [])]
    needed += [cpu_operator, cpu_call] if kind.runs_on is ir.Place.CPU else [operations_of]
    found = [WHERE[registry] for registry in needed if registry.dispatch(kind) is registry.dispatch(object)]
    if kind.runs_on is ir.Place.CPU:
        declared = kind.arguments is not ir.OnCpu.arguments  # by `emit.cpu_calls.declarations`
        if declared:
            found = [what for what in found if what != WHERE[cpu_call]]
        found += [name for name in ("why", "kernel") if not getattr(kind, name, "")]
        found += ["evaluate"] if inspect.isabstract(kind) else []
        suffixes = (".cpp",) if declared else (".hpp", ".cpp")
        code = {suffix: "".join(p.read_text() for p in RUNTIME.glob(f"*{suffix}")) for suffix in suffixes}
        function = re.compile(rf"^(\[\[.*?\]\] )?void {getattr(kind, 'kernel', '?')}\(const float\*", re.MULTILINE)
        found += [f"a kernel in runtime/*{suffix}" for suffix, text in code.items() if not function.search(text)]
    return found


def test_no_operator_lacks_a_fact():
    kinds = list(operators())
    assert len(kinds) >= 20
    assert {kind.__name__: missing(kind) for kind in kinds} == {kind.__name__: [] for kind in kinds}


def test_what_lacks_is_said():
    class Stranger(ir.OnCpu):
        why = "is not known"
        kernel = "stranger"

        def evaluate(self, *inputs):
            return inputs[0]

    assert missing(Stranger) == [WHERE[cpu_operator], WHERE[cpu_call], *(f"a kernel in runtime/*.{s}pp" for s in "hc")]
    node = Stranger(name="odd", inputs=("x",), output="y")
    layer = Layer(node, "Stranger", (3,), (3,), 0, (), Tensor("y", (3,)))
    for registry, arguments in (
        (cpu_operator, [np.zeros(3)]),
        (cpu_call, [layer, None, {}]),
        (operations_of, [[], None]),
    ):
        with pytest.raises(HeepgenError, match="layer odd: Stranger has no"):
            registry(node, *arguments)


PAIRS = {  # two operators whose shape a pass has arithmetic for, not a fact of theirs
    "passes/batchnorm.py": {"BatchNorm", "Scale"},
    "passes/hardware/turned.py": {"Linear", "Reshape"},
    "passes/movement/reshapes.py": {"Combined", "Concat"},
    "passes/movement/strides.py": {"AsStrided", "Reshape"},
}


def asked_of_several(tree: ast.AST) -> Iterator[set[str]]:
    """Operators that one `isinstance` asks for, where they are more than one."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "isinstance":
            kinds = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(call.args[1])}
            own = {k for k in kinds if isinstance(kind := getattr(ir, k, None), type) and issubclass(kind, ir.Node)}
            if len(own) > 1:
                yield own


def test_lists_of_operators_are_seen():
    assert list(asked_of_several(ast.parse("isinstance(n, ir.Slice | Pad) and isinstance(n, (Add, Mul))"))) == [
        {"Slice", "Pad"},
        {"Add", "Mul"},
    ]
    assert not list(asked_of_several(ast.parse("isinstance(n, Slice | int)")))


def test_nothing_decides_by_a_list_of_operators():
    root = Path(firmware_gen.__file__).parent
    rooms = {p.relative_to(root).as_posix(): p for p in root.rglob("*.py")}
    found = {name: list(asked_of_several(ast.parse(path.read_text()))) for name, path in rooms.items()}
    assert {name: kinds for name, kinds in found.items() if kinds} == {name: [pair] for name, pair in PAIRS.items()}
