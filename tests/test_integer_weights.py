# SPDX-License-Identifier: Apache-2.0
"""Models that hold INT8 weights and their scale: these are what the device computes with."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.frontend.exported.integers import know_operators
from firmware_gen.frontend.loader import load_model
from firmware_gen.ir import Scale
from hls.errors import HeepgenError


class Integers(nn.Module):
    """A Conv2d or Linear with int8 `codes`, times `scale`: a number, or one per output channel."""

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor, scale_first: bool = False):
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.bias = nn.Parameter(torch.randn(len(codes)))
        self.scale_first = scale_first

    def forward(self, x):
        codes = self.codes.to(torch.float32)
        weight = self.scale * codes if self.scale_first else codes * self.scale
        return (F.conv2d if self.codes.ndim == 4 else F.linear)(x, weight, self.bias)


def random_codes(*shape: int) -> torch.Tensor:
    """With -128, and none at the other end, so that a range of their own would give others."""
    return torch.randint(-128, 100, shape, dtype=torch.int8).clamp(max=90).index_fill(1, torch.tensor([0]), -128)


def norm(channels: int, norm_class=nn.BatchNorm2d) -> nn.Module:
    """With negative factors too."""
    layer = norm_class(channels)
    nn.init.normal_(layer.weight)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.1, 3)
    return layer


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_integers_stay_and_batchnorm_goes_into_their_scale(seed, per_channel):
    torch.manual_seed(seed)
    conv = Integers(random_codes(6, 2, 3, 3).clamp(min=-90), torch.rand(6, 1, 1, 1) / 50, scale_first=True)
    linear = Integers(random_codes(5, 96).clamp(min=-90), torch.rand(()) / 50)
    batchnorm = norm(6)
    model = nn.Sequential(conv, batchnorm, nn.ReLU(), nn.Flatten(), linear).eval()
    x = torch.randn(2, 2, 6, 6)
    generator = CodeGenerator(model, x, per_channel=per_channel)
    first, _, last = generator.graph.nodes
    np.testing.assert_array_equal(first.weight, conv.codes)
    np.testing.assert_array_equal(last.weight, linear.codes)
    np.testing.assert_array_equal(last.scale, linear.scale.expand(5))
    factor = batchnorm.weight / torch.sqrt(batchnorm.running_var + batchnorm.eps)
    np.testing.assert_allclose(first.scale, (conv.scale.flatten() * factor).detach(), rtol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(generator.reference().outputs[0], model(x), rtol=0, atol=1e-4)


def test_a_batchnorm_before_integers_stays_beside_them():
    torch.manual_seed(0)
    linear = Integers(random_codes(4, 7), torch.tensor(0.02))
    model, x = nn.Sequential(norm(7, nn.BatchNorm1d), linear).eval(), torch.randn(3, 7)
    generator = CodeGenerator(model, x)
    scale, kept = generator.graph.nodes
    assert isinstance(scale, Scale)
    np.testing.assert_array_equal(kept.weight, linear.codes)
    with torch.no_grad():
        np.testing.assert_allclose(generator.reference().outputs[0], model(x), rtol=0, atol=1e-3)


def test_int8_weights_with_a_scale_per_input_are_quantised():
    torch.manual_seed(0)
    codes, scale = random_codes(4, 7), torch.rand(1, 7)
    model, x = nn.Sequential(Integers(codes, scale)), torch.randn(1, 7)
    (node,) = CodeGenerator(model, x).graph.nodes
    weight = codes * scale.double()
    assert (np.abs(node.weight).max(axis=1) == 127).all()
    assert np.abs(node.weight * node.scale[:, None] - weight.numpy()).max() <= node.scale.max() / 2 * 1.001


def test_integers_that_count_for_nothing():
    """A scale of 0 is no range to divide by."""
    torch.manual_seed(0)
    linear = Integers(torch.zeros(4, 7, dtype=torch.int8), torch.tensor(0.0))
    np.testing.assert_array_equal(
        CodeGenerator(nn.Sequential(linear), torch.randn(1, 7)).reference().outputs[0][0], linear.bias.detach()
    )


class Dequantised(nn.Module):
    """Layers whose weights PT2E quantised: per channel (O, ...), per tensor, and unsigned with a zero point."""

    def __init__(self):
        super().__init__()
        self.register_buffer("filters", random_codes(6, 2, 3, 3))
        self.register_buffer("scales", torch.rand(6) / 50)
        self.register_buffer("zeros", torch.zeros(6, dtype=torch.int64))
        self.register_buffer("matrix", random_codes(5, 96))
        self.register_buffer("bytes", (random_codes(3, 5).to(torch.int16) + 128).to(torch.uint8))

    def forward(self, x):
        ops = torch.ops.quantized_decomposed
        filters = ops.dequantize_per_channel(self.filters, self.scales, self.zeros, 0, -128, 127, torch.int8)
        matrix = ops.dequantize_per_tensor(self.matrix, 0.03, 0, -128, 127, torch.int8)
        last = ops.dequantize_per_tensor(self.bytes, 0.5, 128, 0, 255, torch.uint8)
        return F.linear(F.relu(F.linear(F.conv2d(x, filters).relu().flatten(1), matrix)), last)


def test_weights_of_pt2e_stay(tmp_path):
    torch.manual_seed(0)
    know_operators(["quantized_decomposed"])
    model, x = Dequantised().eval(), torch.randn(1, 2, 6, 6)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    generator = CodeGenerator(load_model(tmp_path / "m.pt2"), x)
    first, _, second, third = generator.graph.nodes
    np.testing.assert_array_equal(first.weight, model.filters)
    np.testing.assert_array_equal(first.scale, model.scales)
    np.testing.assert_array_equal(second.weight, model.matrix)
    np.testing.assert_array_equal(third.weight, model.bytes.int() - 128)
    np.testing.assert_array_equal(third.scale, np.full(3, 0.5, np.float32))
    with torch.no_grad():
        np.testing.assert_allclose(generator.reference().outputs[0], model(x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "config, options",
    [
        ("Int8WeightOnlyConfig", {}),
        ("IntxWeightOnlyConfig", {}),
        ("IntxWeightOnlyConfig", {"weight_dtype": torch.int4}),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_weights_of_torchao_stay(config, options, in_file, tmp_path):
    quantization = pytest.importorskip("torchao.quantization")
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(40, 9), nn.ReLU(), nn.Linear(9, 4)).eval(), torch.randn(2, 40)
    quantization.quantize_(model, getattr(quantization, config)(**options))
    codes = [(m.weight.qdata, m.weight.scale.flatten()) for m in (model[0], model[2])]
    with torch.no_grad():
        wanted = model(x)
    if in_file:
        pytest.importorskip("torchao.utils").unwrap_tensor_subclass(model)
        torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    generator = CodeGenerator(load_model(tmp_path / "m.pt2") if in_file else model, x)
    for node, (weight, scale) in zip(generator.graph.nodes, codes, strict=True):
        np.testing.assert_array_equal(node.weight, weight)
        np.testing.assert_array_equal(node.scale, scale.expand(len(node.scale)))
    np.testing.assert_allclose(generator.reference().outputs[0], wanted, rtol=1e-4, atol=1e-4)


def test_a_file_whose_weights_are_of_a_missing_package_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization.quant_primitives", None)
    with pytest.raises(HeepgenError, match="torchao's.*pip install torchao"):
        know_operators(["torchao"])


class QuantisesActivations(nn.Module):
    def forward(self, x):
        ops, about = torch.ops.quantized_decomposed, (0.1, 0, -128, 127, torch.int8)
        return F.relu(ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *about), *about))


def _torchao_dynamic(x):
    quantization = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(nn.Linear(4, 3)).eval()
    quantization.quantize_(model, quantization.Int8DynamicActivationInt8WeightConfig())
    return torch.export.export(pytest.importorskip("torchao.utils").unwrap_tensor_subclass(model), (x,))


def test_quantised_activations_are_refused(tmp_path):
    know_operators(["quantized_decomposed"])
    x = torch.randn(1, 4)
    program = torch.export.export(QuantisesActivations(), (x,))
    torch.export.save(program, tmp_path / "m.pt2")
    dynamic = tmp_path / "dynamic.pt2"
    torch.export.save(_torchao_dynamic(x), dynamic)
    for read in (
        lambda: CodeGenerator(program, x),
        lambda: load_model(tmp_path / "m.pt2"),
        lambda: load_model(dynamic),
    ):
        with pytest.raises(HeepgenError, match="quantises activations.*float32.*quantise the weights alone"):
            read()
