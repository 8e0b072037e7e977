# SPDX-License-Identifier: Apache-2.0
"""Weights of 4 bits: rounding, packing, the hardware, and which layers bear them."""

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import heepgen
from firmware_gen import CodeGenerator
from firmware_gen.passes.quantise import next_bfloat16, quantise_weight
from firmware_gen.targets.descriptor.lowering import layout
from gen.cli import main
from gen.flows.measure.run import run
from gen.flows.network.weights import Weights
from hls.config import Config
from hls.errors import HeepgenError
from hls.output import marker
from tests.random_networks import outputs, random_network


def network():
    torch.manual_seed(3)
    body = [nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 5, 3, groups=5), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(80, 7)).eval(), torch.randn(1, 2, 6, 6)


def test_the_range_is_the_best_of_those_that_are_tried():
    weight = np.random.default_rng(0).standard_t(3, (6, 40))
    q, scale = quantise_weight(weight, bits=4)
    assert q.dtype == np.int8 and q.min() >= -7 and q.max() <= 7
    for row, found, step in zip(weight, q, scale.astype(np.float64), strict=True):
        assert (found == np.clip(np.rint(row / step), -7, 7)).all()
        error = ((found * step - row) ** 2).sum()
        for fraction in np.linspace(1, 0.5, 65):
            other = float(next_bfloat16(np.array([np.abs(row).max() * fraction / 7], np.float32))[0])
            assert error <= ((np.clip(np.rint(row / other), -7, 7) * other - row) ** 2).sum() * (1 + 1e-12)


@pytest.mark.parametrize("ports", [1, 3])
def test_two_weights_in_a_byte(ports):
    rng = np.random.default_rng(ports)
    config = Config(rows=3, cols=5, ports=ports)
    weight = rng.integers(-8, 8, (1, 7, 1, 1, 5)).astype(np.int8)
    words = layout.dense_weights(weight, 2, True, config)
    whole = layout.dense_weights(weight, 2, False, config).view(np.int8)
    assert len(words) % ports == 0 and words.size * 8 - 60 < 8 * ports
    for i, value in enumerate(whole[:60]):
        nibble = int(words[i // 8]) >> 4 * (i % 8) & 15
        assert nibble - (16 if nibble > 7 else 0) == value


@pytest.mark.parametrize(
    "config",
    [Config(4, 4, ports=1), Config(5, 3, "fma", 3, activation_words=256, weight_bytes=256, accumulator_entries=16)],
)
def test_bit_exact_on_the_hardware_in_half_of_the_memory(config, tmp_path):
    model, x = network()
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    whole, half = (CodeGenerator(model, x, config=config, int4=int4).memory_report() for int4 in ((), ("0", "2", "5")))
    assert half.weight_bytes < 0.6 * whole.weight_bytes
    report = run(tmp_path / "model.pt2", config, weights="int4")
    assert report.bit_exact


def test_without_the_option_the_same_numbers_come_from_bytes():
    model, x = network()
    both = [
        CodeGenerator(model, x, config=Config(rows=4, cols=4, int4_weights=held), int4=("0", "2", "5"))
        for held in (True, False)
    ]
    first, second = (generator.reference().output for generator in both)
    assert first.tobytes() == second.tobytes()
    assert both[0].memory_report().weight_bytes < 0.6 * both[1].memory_report().weight_bytes


@pytest.mark.parametrize("seed", range(3))
def test_random_networks_compute_what_pytorch_does(seed):
    net = random_network(seed)
    plain = CodeGenerator(net.model, net.x)
    names = [n.name for n in plain.lowered.nodes if hasattr(n, "weight")]
    chosen = [name for i, name in enumerate(names) if (i + seed) % 2]
    generator = CodeGenerator(net.model, net.x, int4=chosen)
    with torch.no_grad():
        exact = outputs(generator.quantized_model().double()(net.x.double()))[0].numpy()
    got = generator.reference().output
    assert np.abs(got - exact).max() < 2.0**-18 * max(1, np.abs(exact).max())
    for node in generator.graph.nodes:
        if hasattr(node, "weight"):
            assert (np.abs(node.weight).max() <= 7) == (node.name in chosen)


def test_a_layer_that_is_none_is_named():
    model, x = network()
    with pytest.raises(HeepgenError, match="weights of 4 bits: fc is no layer with weights; these are: 0, 2, 5"):
        CodeGenerator(model, x, int4=["fc"])


@pytest.mark.parametrize(
    "given, message",
    [
        (("int5",), "--weights int5: must be"),
        (("int4:",), "--weights int4:: must be"),
        (("int8:a",), "--weights int8:a: must be"),
        (("auto",), "--weights auto: give inputs"),
        (("int4", "x.npz"), "--data is for --weights auto"),
        (("int8", None, 1.0), "--max-loss is for --weights auto"),
        (("auto", "x.npz", -1.0), "--max-loss -1.0: must be 0 or more"),
        (("auto", "x.npz", float("nan")), "--max-loss nan: must be"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(HeepgenError, match=message):
        Weights(*given)


def test_integers_of_4_bits_that_a_file_holds_stay(tmp_path):
    codes = np.random.default_rng(0).integers(-8, 8, (4, 6))
    weight = helper.make_tensor("w", TensorProto.INT4, [4, 6], codes.flatten().tolist())
    step = numpy_helper.from_array(np.float32([0.1, 0.2, 0.3, 0.4]), "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0),
        helper.make_node("Gemm", ["x", "d"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", 6), ("y", 4))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight, step])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    network = heepgen.compile(tmp_path / "m.onnx")
    (node,) = network.compiled.generator.graph.nodes
    assert (node.weight == codes).all()
    assert network.report().int4 == {"layers": [node.name], "weights": 24, "of": 24}


class Sensitive(nn.Module):
    """A layer of which 15 values are enough, and one that needs more: it tells classes apart by a small difference."""

    def __init__(self):
        super().__init__()
        self.robust, self.fine = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.robust.weight.copy_(torch.eye(4))
            self.fine.weight.copy_(torch.tensor([[1, 0.05, 0.0, 0.0], [1, -0.05, 0.0, 0.0]]))

    def forward(self, x):
        return self.fine(self.robust(x))


def test_layers_that_bear_it_are_chosen(tmp_path):
    model = Sensitive().eval()
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    y = (x[:, 1] < 0).astype(int)
    network = heepgen.compile(model, x[:1], weights="auto", data=(x, y), max_loss=0.5)
    assert network.evaluate((x, y)).scores["bit-exact"] == 1
    sizes = {n.name: np.abs(n.weight).max() for n in network.compiled.generator.graph.nodes}
    assert sizes["robust"] <= 7 < sizes["fine"]
    every = heepgen.compile(model, x[:1], weights="auto", data=(x, y), max_loss=60)
    assert all(np.abs(n.weight).max() <= 7 for n in every.compiled.generator.graph.nodes)


def test_the_application_keeps_its_choice(tmp_path):
    model, x = network()
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    app = tmp_path / "app"
    arguments = ["sw", str(tmp_path / "model.pt2"), "-o", str(app), "--weights", "int4:0,5"]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    options = marker(app / "gen")["options"]
    assert options["int4"] == ["0", "5"]
    refused = CliRunner().invoke(main, ["run", str(app), "--weights", "int8"])
    assert refused.exit_code == 1 and "--weights is for a model file" in str(refused.output) + str(refused.stderr)
