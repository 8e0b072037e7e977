# SPDX-License-Identifier: Apache-2.0
"""The check of an import against its source: it must pass for what is right, and see everything that is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator, ir
from firmware_gen.frontend.exported import verify
from firmware_gen.frontend.exported.importer import import_program
from firmware_gen.frontend.exported.prepare import export
from firmware_gen.passes import run_passes
from hls.errors import HeepgenError
from tests.random_networks import random_network
from tests.random_torch import Holder


class Mixed(nn.Module):
    """Weights, windows, arithmetic with constants, in-place operations, a product and two outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.other = nn.Conv2d(4, 4, (1, 3), dilation=(1, 2), groups=2)
        self.linear = nn.Linear(12, 5)

    def forward(self, x):
        y = F.leaky_relu(self.norm(self.conv(x)), 0.3)
        y.add_(0.1)
        z = F.hardswish(self.other(F.pad(y, (1, 2, 0, 1), value=0.25)))
        gate = torch.sigmoid(z.mean((2, 3), keepdim=True))
        z = F.avg_pool2d(z * gate, 2, ceil_mode=True, count_include_pad=False)
        return self.linear(z.flatten(1)), torch.clamp(y, -0.1, 0.7)


def mixed() -> tuple[nn.Module, np.ndarray]:
    torch.manual_seed(3)
    model = Mixed().eval()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model, np.random.default_rng(3).standard_normal((1, 3, 7, 6), np.float32)


def check(model, x, edit=lambda graph: graph, edit_lowered=lambda graph: graph) -> verify.Check:
    found = import_program(model, x)
    lowered = edit_lowered(run_passes(found.graph))
    return verify.check_program(edit(found.graph), lowered, found, (x,))


def test_right_imports_pass_and_count_what_they_compared():
    model, x = mixed()
    result = check(model, x)
    assert (result.source, result.inputs) == ("PyTorch", 2) and result.tensors >= 12 and result.largest < 1e-12
    assert str(result).startswith(f"import equals PyTorch's program on 2 inputs, {result.tensors} tensors")
    assert CodeGenerator(model, x).check == result


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_pass(seed):
    network = random_network(seed, "dag")
    assert check(network.model, network.x.numpy()).largest < 1e-9


WRONG = {
    "pads": lambda n: replace(n, pads=(0, 1, 2, 1)),
    "weight": lambda n: replace(n, weight=n.weight * (1 + 1e-9)),
    "bias": lambda n: replace(n, bias=n.bias + 1e-9),
    "order": lambda n: replace(n, weight=n.weight[..., ::-1].copy()),
    "scale": lambda n: replace(n, scale=n.scale + 1e-9),
    "slope": lambda n: replace(n, act=replace(n.act, slope=n.act.slope * (1 + 1e-9))),
    "low": lambda n: replace(n, act=replace(n.act, low=n.act.low - 1e-9)),
    "value": lambda n: replace(n, value=n.value + 1e-9),
    "divisor_override": lambda n: replace(n, divisor_override=3),
}
CASES = [
    ("conv", "pads"),
    ("conv", "weight"),
    ("conv", "bias"),
    ("other", "order"),
    ("norm", "scale"),
    ("leaky_relu_0", "slope"),
    ("clamp_0", "low"),
    ("pad_0", "value"),
    ("avg_pool2d_0", "divisor_override"),
    ("linear", "weight"),
    ("linear", "bias"),
]


@pytest.mark.parametrize("layer, field", CASES)
def test_a_wrong_layer_is_named(layer, field):
    model, x = mixed()

    def edit(graph: ir.Graph) -> ir.Graph:
        node = graph.node(layer)
        return graph.with_nodes(WRONG[field](n) if n is node else n for n in graph.nodes)

    with pytest.raises(HeepgenError, match=rf"^layer {layer}: heepgen's import computes something else than PyTorch"):
        check(model, x, edit)


def test_a_wrong_pass_is_noticed():
    model, x = mixed()

    def edit(graph: ir.Graph) -> ir.Graph:
        node = graph.node("linear")
        return graph.with_nodes(replace(n, bias=n.bias + 1e-4) if n is node else n for n in graph.nodes)

    with pytest.raises(HeepgenError, match="^layer linear, as the passes left it: "):
        check(model, x, edit_lowered=edit)


def test_a_pass_may_change_less_than_the_rounding_of_float32():
    model, x = mixed()
    found = import_program(model, x)
    scale = max(np.abs(x).max(), *(np.abs(y.detach().numpy()).max() for y in model(torch.from_numpy(x))))

    def edit(graph: ir.Graph) -> ir.Graph:
        node = graph.node("linear")
        return graph.with_nodes(replace(n, bias=n.bias + 2**-21 * scale) if n is node else n for n in graph.nodes)

    with pytest.raises(HeepgenError, match="^layer linear, as the passes left it: "):
        check(found.program, x, edit_lowered=edit)


def test_a_function_that_a_pass_finds_is_the_models():
    """Written out in float32, it may differ by more, but not by what an eye sees."""

    class Written(nn.Module):
        def forward(self, x):
            return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))

    x = np.linspace(-3, 3, 40, dtype=np.float32).reshape(1, 40)
    found = import_program(Written(), x)
    lowered = run_passes(found.graph)
    assert [type(node) for node in lowered.nodes] != [type(node) for node in found.graph.nodes]
    verify.check_program(found.graph, lowered, found, (x,))
    (last,) = (node for node in lowered.nodes if node.output == lowered.outputs[0])
    other = replace(last, act=replace(last.act, function=replace(last.act.function, name="silu")))
    wrong = lowered.with_nodes(other if node is last else node for node in lowered.nodes)
    with pytest.raises(HeepgenError, match="as the passes left it"):
        verify.check_program(found.graph, wrong, found, (x,))


@pytest.mark.parametrize("layer, field", [("conv", "weight"), ("leaky_relu_0", "slope"), ("clamp_0", "low")])
def test_what_a_sample_of_zeros_does_not_show_random_inputs_do(layer, field):
    model, x = mixed()
    for number in range(4):
        getattr(model, ("conv", "other", "linear", "norm")[number]).bias.data.zero_()
    model.norm.running_mean.zero_()
    graph = import_program(model, np.zeros_like(x)).graph
    node = graph.node(layer)
    with pytest.raises(HeepgenError, match=f"^layer {layer}: "):
        check(
            model,
            np.zeros_like(x),
            lambda graph: graph.with_nodes(WRONG[field](n) if n.name == node.name else n for n in graph.nodes),
        )


def test_what_functionalising_changes_is_noticed():
    model, x = mixed()
    found = import_program(model, x)
    other = import_program(mixed()[0].requires_grad_(False), x)
    with torch.no_grad():
        other.program.state_dict["linear.bias"] += 1e-4
    with pytest.raises(HeepgenError, match="^output 0 of the model: "):
        verify.check_program(found.graph, run_passes(found.graph), replace(found, program=other.program), (x,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_samples_of_special_values_do_not_disturb_the_check(value):
    model, x = mixed()
    x[0, 1, 2, 3] = value
    assert check(model, x).largest < 1e-12


@pytest.mark.parametrize(
    "function",
    [
        F.leaky_relu,
        F.hardtanh,
        F.relu6,
        F.celu,
        F.hardswish,
        F.hardsigmoid,
        F.silu,
        nn.LeakyReLU(),
        nn.Hardtanh(),
        nn.Softmax(1),
        nn.AdaptiveAvgPool2d(2),
        lambda x: F.pad(x, (1, 1)),
        lambda x: x + 0.1,
        lambda x: x * 0.1,
        lambda x: x / 0.3,
        lambda x: 0.1 - x,
        lambda x: torch.add(x, x, alpha=0.1),
        lambda x: x.clamp(0.1, 0.7),
    ],
)
@pytest.mark.parametrize("decomposed", [False, True])
def test_numbers_that_float32_rounds(function, decomposed):
    """Arguments left out are rounded as given ones are. What is not supported may be refused, but not as wrong."""
    x = np.random.default_rng(1).standard_normal((1, 2, 5, 5), np.float32)
    program = export(Holder(function), x)
    try:
        result = check(program.run_decompositions() if decomposed else program, x)
    except HeepgenError as error:
        assert "not supported" in str(error) and (decomposed or function is F.celu)
    else:
        assert result.largest < 1e-12


def test_special_values_are_compared_by_kind():
    expected = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert verify.compare_tensors("a", expected, expected.copy(), 0.0, "PyTorch") == 0
    for index, wrong in enumerate((0.0, -np.inf, np.nan, np.nan)):
        got = expected.copy()
        got[index] = wrong
        with pytest.raises(HeepgenError, match=f"element {index} is"):
            verify.compare_tensors("a", expected, got, 1e300, "PyTorch")


def test_a_mask_over_what_is_no_number_says_what_to_do():
    class Masked(nn.Module):
        def forward(self, x):
            rows = torch.tensor([[True, True], [False, False]])
            chosen = torch.softmax(torch.where(rows, x, torch.tensor(float("-inf"))), 1)
            return torch.where(rows, chosen, torch.zeros(()))

    with pytest.raises(HeepgenError, match="is nan here and 0 in PyTorch: .* must be finite"):
        check(torch.export.export(Masked(), (torch.ones(2, 2),)), np.ones((2, 2), np.float32))


def test_values_that_cancel_are_no_difference():
    class Cancel(nn.Module):
        def forward(self, x):
            return (x * 1e6 + 1e6) - x * 1e6 - 1e6, F.softmax(x * 1000, 1)

    x = np.random.default_rng(0).standard_normal((1, 5), np.float32)
    check(Cancel(), x)


def test_references_of_other_sources():
    """ONNX brings its own values; names that the graph does not have are not compared."""
    model, x = mixed()
    found = import_program(model, x)
    lowered = run_passes(found.graph)
    values, outputs = verify.run_program(found.functional, found.interface, (x,), found.graph.values)
    conv = found.graph.node("conv").output
    assert conv in values
    few = {conv: values[conv], "elsewhere": np.zeros(3)}
    result = verify.check_import(
        found.graph, lowered, [verify.Reference((x.astype(np.float64),), few, outputs)], "ONNX"
    )
    assert (result.source, result.inputs, result.tensors) == ("ONNX", 1, 3)
    few[conv] = few[conv] + 1e-6
    with pytest.raises(HeepgenError, match="^layer conv: heepgen's import computes something else than ONNX"):
        verify.check_import(found.graph, lowered, [verify.Reference((x.astype(np.float64),), few, outputs)], "ONNX")


def test_mobilenet_takes_less_than_a_second():
    import time

    example = NETWORKS["mobilenet-v1-0.25"]
    x = np.random.default_rng(0).standard_normal(example.input_shape, np.float32)
    found = import_program(example.build(), x)
    lowered = run_passes(found.graph)
    before = time.thread_time()
    result = verify.check_program(found.graph, lowered, found, (x,))
    assert result.tensors > 80 and time.thread_time() - before < 1


@pytest.mark.parametrize("argument, what", [(-1, "cudnn_enabled"), (-2, "eps")])
def test_a_program_that_torch_cannot_run_is_refused(argument, what):
    """As in a damaged file: what no handler reads may be anything."""
    program = export(nn.BatchNorm2d(2).eval(), torch.zeros(1, 2, 3, 3))
    normed = next(node for node in program.graph.nodes if "batch_norm" in str(node.target))
    arguments = list(normed.args)
    arguments[argument] = [0] * 3
    normed.args = tuple(arguments)
    with pytest.raises(HeepgenError) as caught:
        CodeGenerator(program, torch.zeros(1, 2, 3, 3))
    assert what in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model, shape, words",
    [
        (nn.ReLU(), (1, 2**22 + 1), ["inputs and outputs", "33,554,440 bytes", "33,554,432 at most"]),
        (nn.Sequential(nn.Conv1d(1, 33, 1), nn.AvgPool1d(2**20)), (1, 1, 2**20), ["layer 0", "138,412,032 bytes"]),
    ],
)
def test_what_no_memory_holds_is_refused_before_it_is_computed(model, shape, words, monkeypatch):
    monkeypatch.setattr(verify, "check_program", None)
    with pytest.raises(HeepgenError) as caught:
        CodeGenerator(model, torch.zeros(shape))
    assert all(word in str(caught.value) for word in words), str(caught.value)
