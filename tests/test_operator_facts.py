# SPDX-License-Identifier: Apache-2.0
"""Every operator says all of itself, and what it says is true."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import firmware_gen
from firmware_gen import ir
from firmware_gen.emit.cpu_calls import cpu_call
from firmware_gen.frontend import aten
from firmware_gen.models.cpu_model import cpu_operator
from firmware_gen.operations.operation import operations_of
from firmware_gen.targets.descriptor.explain import place_of, work_of
from hls.errors import HeepgenError
from sim.toolchain import host_compiler, run_tool

RUNTIME = Path(firmware_gen.__file__).parent / "runtime"
ELEMENTWISE = ir.Elementwise.__subclasses__()
WHERE = {  # registry: what lacks an operator that it does not know
    operations_of: "a form in firmware_gen/operations/operation.py",
    place_of: "an explanation in targets/descriptor/explain.py",
    work_of: "an explanation of its work in targets/descriptor/explain.py",
    cpu_operator: "a bit-exact model in models/cpu_model.py",
    cpu_call: "a call in emit/cpu_calls.py",
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
        found += [name for name in ("why", "kernel") if not getattr(kind, name, "")]
        found += ["evaluate"] if inspect.isabstract(kind) else []
        code = {suffix: "".join(p.read_text() for p in RUNTIME.glob(f"*{suffix}")) for suffix in (".hpp", ".cpp")}
        function = re.compile(rf"^void {getattr(kind, 'kernel', '?')}\(const float\*", re.MULTILINE)
        found += [f"a kernel in runtime/*{suffix}" for suffix, text in code.items() if not function.search(text)]
    if issubclass(kind, ir.Elementwise):
        found += [] if kind in aten.ELEMENTWISE.values() else ["a row in frontend/aten/activations.py"]
    return found


def node_of(kind: type[ir.Elementwise], rng) -> ir.Elementwise:
    return kind(name="n", inputs=("x",), output="y", **{name: float(rng.uniform(0.1, 2)) for name in kind.parameters()})


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
    for registry, arguments in (
        (cpu_operator, [np.zeros(3)]),
        (cpu_call, [None, None, {}]),
        (operations_of, [[], None]),
    ):
        with pytest.raises(HeepgenError, match="layer odd: Stranger has no"):
            registry(node, *arguments)


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_elementwise_operators_are_and_their_twin_is_near(kind):
    rng = np.random.default_rng(5)
    node, x = node_of(kind, rng), rng.normal(0, 3, (2, 3, 4, 5))
    order = rng.permutation(x.size)
    y = node.evaluate(torch.from_numpy(x)).numpy()
    assert node.is_uniform and node.in_place
    assert np.array_equal(node.evaluate(torch.from_numpy(x.reshape(-1)[order])).numpy(), y.reshape(-1)[order])
    np.testing.assert_allclose(cpu_operator(node, x.astype(np.float32)), y, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_kernels_give_the_bits_of_their_twins_also_in_place(kind, tmp_path):
    rng = np.random.default_rng(6)
    node = node_of(kind, rng)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 0.625, -0.625, 1e-45, 88.8, -103.98], np.float32)
    bits = rng.integers(0, 2**32, 100_000, np.uint32).view(np.float32)
    x = np.concatenate([special, bits, rng.normal(0, 4, 100_000).astype(np.float32)])
    values = "".join(f", {getattr(node, name)!r}f" for name in kind.parameters())
    (tmp_path / "main.cpp").write_text(f"""
        #include <stdio.h>
        #include "math.hpp"
        static float x[1 << 20], y[1 << 20];
        int main(int, char** argv) {{
          FILE* file = fopen(argv[1], "rb");
          const uint32_t count = fread(x, 4, 1 << 20, file);
          heepstor::{node.kernel}(x, y, count{values});
          heepstor::{node.kernel}(x, x, count{values});
          file = fopen(argv[2], "wb");
          return fwrite(x, 4, count, file) + fwrite(y, 4, count, file) != 2 * count;
        }}""")
    x.tofile(tmp_path / "in")
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{RUNTIME}"]
    run_tool([*host_compiler(), *flags, tmp_path / "main.cpp", RUNTIME / "math.cpp", "-o", tmp_path / "a"], "compiling")
    run_tool([tmp_path / "a", tmp_path / "in", tmp_path / "out"], "kernel")
    got = np.fromfile(tmp_path / "out", np.float32).reshape(2, -1)
    want = cpu_operator(node, x)
    number = ~np.isnan(want)  # the host has several NaNs
    for result in got:
        assert np.array_equal(result, want, equal_nan=True)
        assert np.array_equal(result.view(np.uint32)[number], want.view(np.uint32)[number])
