# SPDX-License-Identifier: Apache-2.0
"""Functions of one element: however a model writes them, in the layer before them, by their tables, and apart."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator, ir
from firmware_gen.frontend.exported import verify
from firmware_gen.frontend.exported.importer import import_program
from firmware_gen.ir.functions import DEFAULTS, LABELS
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes, split_functions
from firmware_gen.targets.descriptor.linked.link import with_slots
from gen.flows.measure.run import run
from hls.arithmetic.function import TABLE_SLOTS
from hls.arithmetic.function_tables import ERROR, SMALL
from hls.config import Config
from hls.descriptor.interface.table import Descriptor

ROOT = math.sqrt(2 / math.pi)

WRITTEN = {
    "SiLU": [F.silu, lambda x: x * torch.sigmoid(x), lambda x: torch.sigmoid(x) * x, lambda x: x / (1 + torch.exp(-x))],
    "Sigmoid": [torch.sigmoid, lambda x: 1 / (1 + (-x).exp()), lambda x: torch.tanh(x / 2) * 0.5 + 0.5],
    "Tanh": [torch.tanh, lambda x: 2 * torch.sigmoid(2 * x) - 1],
    "GELU": [
        F.gelu,
        lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
        lambda x: x * (torch.erf(x * 0.70710678) + 1) * 0.5,
        lambda x: x * 0.5 * torch.special.erf(x / math.sqrt(2)) + x * 0.5,
    ],
    "GELU(tanh)": [
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + torch.tanh(ROOT * (x + 0.044715 * x**3))),
        lambda x: 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))),
    ],
    "QuickGELU": [lambda x: x * torch.sigmoid(1.702 * x), lambda x: torch.sigmoid(x * 1.702) * x],
    "Hardswish": [
        F.hardswish,
        lambda x: x * (x + 3).clamp(0, 6) / 6,
        lambda x: F.relu6(x + 3) / 6 * x,
        lambda x: x * F.hardsigmoid(x),
        lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1),
    ],
    "Mish": [F.mish, lambda x: x * torch.tanh(F.softplus(x)), lambda x: torch.tanh(torch.log1p(torch.exp(x))) * x],
    "Softplus": [F.softplus, lambda x: torch.log(1 + torch.exp(x)), lambda x: -F.logsigmoid(-x)],
    "LogSigmoid": [F.logsigmoid, lambda x: torch.log(torch.sigmoid(x))],
    "Softsign": [F.softsign, lambda x: x / (x.abs() + 1)],
    "ELU": [F.elu, lambda x: torch.where(x > 0, x, torch.exp(x) - 1), lambda x: F.relu(x) - F.relu(1 - torch.exp(x))],
    "ELU(0.75)": [lambda x: F.elu(x, 0.75), lambda x: torch.where(x <= 0, 0.75 * torch.expm1(x), x)],
    "CELU(0.5)": [lambda x: F.celu(x, 0.5), lambda x: torch.where(x > 0, x, 0.5 * torch.expm1(x * 2))],
    "SELU": [F.selu],
    "Softplus(2, 20)": [lambda x: F.softplus(x, 2)],
    "erf": [torch.erf],
    "act(slope=0.25, low=-inf, high=inf)": [lambda x: torch.where(x > 0, x, 0.25 * x)],
    "act(slope=-1.0, low=-inf, high=inf)": [torch.abs],
    "act(slope=1.0, low=0.0, high=1.0)": [
        F.hardsigmoid,
        lambda x: F.relu6(x + 3) / 6,
        lambda x: F.relu6(3 + x) * (1 / 6),
    ],
}
NOT_WRITTEN = [
    lambda x: x * torch.sigmoid(2 * x),
    lambda x: 0.5 * x * (1 + torch.erf(x)),
    lambda x: x * (x + 2.5).clamp(0, 5) / 5,
    lambda x: x * torch.sigmoid(x + torch.arange(3.0)),
    lambda x: x.abs() + 1e-7,
    lambda x: torch.maximum(x, torch.zeros(1)) + 1e-10,
    lambda x: torch.sigmoid(x) + 1e-7,
    lambda x: F.softplus(x) + 1e-9,
]


class Called(nn.Module):
    """Each of the functions behind a layer of its own."""

    def __init__(self, functions):
        super().__init__()
        self.functions, self.layers = functions, nn.ModuleList(nn.Linear(4, 3) for _ in functions)

    def forward(self, x):
        return tuple(f(layer(x)) for f, layer in zip(self.functions, self.layers, strict=True))


def lowered(functions, decompose=False):
    """Their graph, which was compared with PyTorch."""
    torch.manual_seed(4)
    x = torch.randn(2, 4)
    program = torch.export.export(Called(functions).eval(), (x,))
    found = import_program(program.run_decompositions() if decompose else program, x)
    graph = run_passes(found.graph)
    verify.check_program(found.graph, graph, found, (x.numpy(),))
    return graph


@pytest.mark.parametrize("decompose", [False, True])
def test_functions_are_found_however_they_are_written(decompose):
    wanted = [(name, function) for name, forms in WRITTEN.items() for function in forms]
    graph = lowered([function for _, function in wanted], decompose)
    found = [graph.producer(value) for value in graph.outputs]
    assert [str(node.act) for node in found] == [name for name, _ in wanted]
    assert len(graph.nodes) == len(wanted) and all(isinstance(node, ir.Linear) for node in found)


def test_what_only_looks_alike_is_left():
    graph = lowered(NOT_WRITTEN)
    assert all(isinstance(graph.producer(value), ir.Mul | ir.Scale) for value in graph.outputs)


def test_a_clamp_far_away_stays():
    graph = lowered([lambda x: F.silu(x).clamp(max=100), lambda x: F.gelu(x.clamp(-300, 300))])
    bounds = [(n.act.low, n.act.high) for n in graph.nodes if n.act.high < np.inf]
    assert bounds == [(-np.inf, 100), (-300, 300)]


def test_values_that_are_read_elsewhere_stay():
    graph = lowered([lambda x: torch.sigmoid(x) + x * torch.sigmoid(x) + x])
    assert sorted(str(n.act) for n in graph.nodes if n.act.function) == ["SiLU", "Sigmoid"]


def test_a_sum_takes_a_hardsigmoid_whole():
    graph = lowered([lambda x: F.hardsigmoid(x + torch.relu(x))])
    assert [str(n.act) for n in graph.nodes] == ["identity", "ReLU", "Hardsigmoid"]


FUNCTIONS = [ir.Function(name, DEFAULTS.get(name, ())) for name in LABELS] + [
    ir.Function("elu", (0.5,)), ir.Function("celu", (2.0,)), ir.Function("softplus", (0.5, 10.0)),
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_tables_are_those_of_pytorchs_functions(function):
    rng = np.random.default_rng(3)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3, -3, 1e30, -1e30], np.float32)
    bits = rng.integers(0, 2**32, 20_000, np.uint32).view(np.float32)
    x = np.concatenate([special, bits, rng.normal(0, 5, 20_000).astype(np.float32)])
    want = function.evaluate(torch.from_numpy(x).double()).numpy()
    got = function.compute(x).astype(np.float64)
    finite, beyond = np.abs(want) <= np.finfo(np.float32).max, np.abs(want) > np.finfo(np.float32).max
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(got[beyond], np.copysign(np.inf, want[beyond]))
    got, want = got[finite], want[finite]
    assert (np.abs(got - want) / np.maximum(np.abs(want), SMALL)).max() <= ERROR


def of(node, **values):
    """A graph of one node on the input x, and r."""
    shapes = {"x": (2, 3, 4, 4), "r": (2, 3, 4, 4), "y": (2, 3, 4, 4)} | values
    first = ir.Activate(name="other", inputs=("x",), output="r", act=ir.RELU)
    nodes = [first, node] if "r" in node.inputs else [node]
    kept = {v: ir.Value(v, s) for v, s in shapes.items() if v != "r" or len(nodes) == 2}
    return ir.Graph("g", ("x",), ("y",), tuple(nodes), kept)


ACTS = [
    ir.Activation(function=ir.Function("silu")),
    ir.Activation(slope=0.5, high=2.0, function=ir.Function("tanh")),
    ir.Activation(low=0.0, function=ir.Function("hardsigmoid")),
    ir.Activation(function=ir.Function("hardsigmoid")),
]


@pytest.mark.parametrize("act", ACTS, ids=str)
def test_functions_apart_are_the_same_network(act):
    common = {"name": "n", "output": "y", "act": act}
    pool = {"kind": "max", "kernel": (1, 1), "stride": (1, 1)} | common
    graphs = [
        of(ir.Activate(inputs=("x",), **common)),
        of(ir.Add(inputs=("x", "r"), **common)),
        of(ir.Pool(inputs=("x",), **pool)),
        of(ir.Pool(inputs=("x", "r"), residual="before_act", **pool)),
        of(ir.Pool(inputs=("x", "r"), residual="after_act", **pool)),
        of(ir.Pool(inputs=("x", "r"), residual="after_act", combine="multiply", **pool)),
        of(ir.Mul(inputs=("x", "r"), **common)),
    ]
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64) * 4
    for graph in graphs:
        apart = split_functions(graph)
        assert not any(isinstance(n, ir.Activated) and n.act.function for n in apart.nodes)
        torch.testing.assert_close(GraphModule(apart, np.float64)(x), GraphModule(graph, np.float64)(x))


def loads(tables):
    """The least number of loads for these tables in turn, by trying all choices."""
    states = {(None,) * TABLE_SLOTS: 0}
    for table in tables:
        new = {}
        for slots, count in states.items():
            choices = [slots] if table in slots else [(*slots[:i], table, *slots[i + 1 :]) for i in range(TABLE_SLOTS)]
            for choice in choices:
                cost = count + (table not in slots)
                new[choice] = min(cost, new.get(choice, cost))
        states = new
    return min(states.values())


def test_tables_find_their_slots_with_as_few_loads_as_possible():
    rng = np.random.default_rng(8)
    for _ in range(200):
        tables = [int(t) for t in rng.integers(0, 5, rng.integers(1, 12))]  # 0: no function
        plain = Descriptor(load_addr=0)
        listed = [replace(plain, function=1, table_addr=64 * t, table_rows=t) if t else plain for t in tables]
        slots = {}
        for table, f in zip(tables, with_slots(listed), strict=True):
            if f.load_table:
                slots[f.table_slot] = f.table_addr
                assert f.table_rows == table
            else:
                assert f.table_addr == f.table_rows == 0
            assert f.function == bool(table) and (not table or slots[f.table_slot] == 64 * table)
        assert sum(f.load_table for f in with_slots(listed)) == loads([t for t in tables if t])


class Several(nn.Module):
    """More functions than slots, some of them again, before and behind a sum, and of a value that is read twice."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1), nn.Conv2d(5, 6, 1)])
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = F.silu(self.layers[0](x))
        x = F.gelu(self.layers[1](x)) + x
        x = F.silu(self.layers[2](F.elu(F.max_pool2d(x, 2), 0.7)))
        return torch.tanh(self.head((x * torch.sigmoid(x + 0.5)).mean((2, 3))))


@pytest.fixture(scope="module")
def several():
    torch.manual_seed(11)
    model, x = Several().eval(), torch.randn(1, 3, 6, 7)
    return model, x, Config(4, 4, ports=2)


def test_hardware_and_cpu_compute_functions_alike(several):
    model, x, config = several
    made = {on: CodeGenerator(model, x, config=replace(config, functions=on)) for on in (True, False)}
    outputs = {on: generator.reference(taps=True).output for on, generator in made.items()}
    assert np.array_equal(outputs[True].view(np.uint32), outputs[False].view(np.uint32))
    exact = made[True].quantized_model().double()(x.double()).detach().numpy()
    assert np.abs(outputs[True] - exact).max() < 8 * ERROR
    assert not any(layer.on_cpu for layer in made[True].program().layers)
    assert sum(isinstance(layer.node, ir.Apply) for layer in made[False].program().layers) == 6


def test_listing_names_functions_and_their_tables(several):
    model, x, config = several
    generator = CodeGenerator(model, x, config=config)
    entries = generator.target.listing(generator.program()).entries
    found = [entry.activation for entry in entries]
    assert [name for name in found if name != "identity"] == ["SiLU", "GELU", "ELU(0.7)", "SiLU", "Sigmoid", "Tanh"]
    assert [entry.table.name for entry in entries if entry.table][:3] == ["silu_table", "gelu_table", "elu_0.7_table"]
    assert "silu_table" in "\n".join(entries[0].lines())


def test_rtl_and_firmware_compute_functions_as_the_model_does(several, tmp_path):
    model, x, config = several
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "net.pt2")
    assert run(tmp_path / "net.pt2", config).bit_exact
