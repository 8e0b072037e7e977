# SPDX-License-Identifier: Apache-2.0
"""Quantisation against an independent statement of the rule in exact rationals, and the fake-quantised model."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.ir import Graph, Linear, Value, has_16_bits
from firmware_gen.models.fake_quant import GraphModule, quantized_model
from firmware_gen.passes import run_passes
from firmware_gen.passes.quantise import quantise, quantise_weight
from hls.errors import HeepgenError


def lowered(model, shape) -> Graph:
    return run_passes(import_model(model, shape))


def linear_graph(weight, bias=None) -> Graph:
    out, features = weight.shape
    node = Linear(name="fc", inputs=("x",), output="y", weight=weight, bias=bias)
    values = {"x": Value("x", (1, features)), "y": Value("y", (1, out))}
    return Graph("g", ("x",), ("y",), (node,), values)


def short_scale(weight, scale):
    """The scale of a channel, by PyTorch's bfloat16: the next one that is not smaller, unless all weights, float64, are
    multiples of it."""
    steps = weight / np.float64(scale)
    if (np.abs(steps - np.rint(steps)) <= 2.0**-12).all():
        return scale
    short = torch.tensor(scale).bfloat16()
    if short.float() < torch.tensor(scale):
        short = torch.nextafter(short, torch.tensor(torch.inf, dtype=torch.bfloat16))
    return np.float32(short.float().item())


FLOATS = st.floats(-1e30, 1e30, allow_subnormal=True)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=FLOATS), st.booleans())
def test_rule(weight, per_channel):
    q, scale = quantise_weight(weight, per_channel)
    assert q.dtype == np.int8 and scale.dtype == np.float32 and q.shape == weight.shape
    for row, q_row, s in zip(weight, q, scale, strict=True):
        largest = np.abs(row if per_channel else weight).max()
        expected = np.float32(largest / 127)
        expected = expected if expected > 0 else np.float32(1)
        assert s == (short_scale(row, expected) if per_channel else expected)
        for w, value in zip(row, q_row, strict=True):
            # Python rounds a Fraction exactly, ties to even; the division under test is in float64.
            exact = Fraction(float(w)) / Fraction(float(s))
            assert value == max(-127, min(127, round(Fraction(float(w) / float(s)))))
            assert abs(exact - int(value)) <= Fraction(1, 2) + Fraction(1, 2**40) or abs(value) == 127


def test_scales_are_short_and_clip_nothing():
    weight = np.random.default_rng(0).normal(size=(20, 9, 3, 3))
    q, scale = quantise_weight(weight)
    assert has_16_bits(scale)
    assert set(np.abs(q.astype(int)).reshape(20, -1).max(axis=1)) == {126, 127}
    scale = scale[:, None, None, None].astype(np.float64)
    assert (np.abs(q * scale - weight) <= scale / 2).all()


def test_weights_that_were_rounded_before_keep_their_scale():
    """What another quantiser made of them, in float32: not a bit is lost. Other channels have short scales."""
    rng = np.random.default_rng(1)
    codes = rng.integers(-127, 128, (6, 40))
    codes[:, 7] = 127
    scale = rng.uniform(0.001, 0.1, 6).astype(np.float32)
    weight = (codes * scale[:, None]).astype(np.float32).astype(np.float64)
    weight[3] = rng.normal(size=40)
    q, got = quantise_weight(weight)
    kept = np.arange(6) != 3
    np.testing.assert_array_equal(q[kept], codes[kept])
    np.testing.assert_allclose(got[kept], scale[kept], rtol=2e-7)
    assert has_16_bits(got[3]) and not has_16_bits(got[kept])


def test_ties_to_even_and_zero_channel():
    q, scale = quantise_weight(np.array([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5], [0] * 6]))
    assert scale.tolist() == [1, 1]
    assert q.tolist() == [[127, 0, 2, 2, 0, -2], [0] * 6]


def test_channel_below_float32_is_zero():
    q, scale = quantise_weight(np.full((1, 2), 1e-60))
    assert scale.tolist() == [1] and not q.any()


def test_per_tensor_shares_one_scale():
    q, scale = quantise_weight(np.array([[1.0, 2.0], [127.0, -254.0]]), per_channel=False)
    assert scale.tolist() == [2, 2] and q.tolist() == [[0, 1], [64, -127]]


def test_bias_is_rounded_once_to_float32():
    weight, bias = np.ones((2, 3)), np.array([0.1, 1 + 2**-30])
    (node,) = quantise(linear_graph(weight, bias)).nodes
    assert node.bias.dtype == np.float32 and node.bias.tolist() == [float(np.float32(0.1)), 1.0]
    (node,) = quantise(linear_graph(weight)).nodes
    assert node.bias.tolist() == [0, 0] and node.bias.dtype == np.float32


def test_batchnorm_is_folded_before_rounding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).eval()
    model[1].running_var.uniform_(0.5, 2)
    model[1].running_mean.normal_()
    (node,) = quantise(lowered(model, (1, 2, 5, 5))).nodes
    wide = {k: v.detach().double().numpy() for k, v in model.state_dict().items()}
    factor = wide["1.weight"] / np.sqrt(wide["1.running_var"] + model[1].eps)
    q, scale = quantise_weight(wide["0.weight"] * factor[:, None, None, None])
    bias = (wide["0.bias"] * factor + (wide["1.bias"] - wide["1.running_mean"] * factor)).astype(np.float32)
    np.testing.assert_array_equal(node.weight, q)
    np.testing.assert_array_equal(node.scale, scale)
    np.testing.assert_array_equal(node.bias, bias)


@pytest.mark.parametrize("weight, bias", [(1e45, 0.0), (1.0, 1e39)])
def test_overflow_is_refused_by_name(weight, bias):
    with pytest.raises(HeepgenError, match="layer fc: .*too large for float32"):
        quantise(linear_graph(np.full((1, 2), weight), np.array([bias])))


def test_quantising_twice_is_refused():
    with pytest.raises(HeepgenError, match="layer fc is quantised already"):
        quantise(quantise(linear_graph(np.ones((1, 2)))))


class SmallNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2),
                         nn.Flatten(), nn.Linear(54, 5))  # fmt: skip


@pytest.mark.parametrize("per_channel", [True, False])
def test_quantized_model_runs_any_batch_and_is_close(per_channel):
    torch.manual_seed(1)
    model = SmallNet().eval()
    x = torch.randn(8, 2, 6, 6)
    fake = quantized_model(lowered(model, (1, 2, 6, 6)), per_channel)
    with torch.no_grad():
        expected, got = model(x), fake(x)
        one_by_one = torch.cat([fake(row[None]) for row in x])
    assert got.shape == (8, 5)
    torch.testing.assert_close(got, one_by_one)
    error = (got - expected).norm() / expected.norm()
    assert 0 < error < (0.02 if per_channel else 0.03)


def test_quantized_model_has_the_integers_and_their_scale():
    graph = quantise(lowered(SmallNet(), (1, 2, 6, 6)))
    conv = graph.nodes[0]
    state = quantized_model(graph).state_dict()
    for name, expected in (("weight", conv.weight), ("scale", conv.scale), ("bias", conv.bias)):
        assert state[f"0.{name}"].numpy().dtype == expected.dtype
        np.testing.assert_array_equal(state[f"0.{name}"], expected)


def test_taps_and_wrong_input():
    fake = quantized_model(lowered(SmallNet(), (1, 2, 6, 6)))
    taps: dict = {}
    fake(torch.zeros(1, 2, 6, 6), taps)
    assert list(taps) == ["0", "3", "4", "5"] and taps["3"].shape == (1, 6, 3, 3)
    with pytest.raises(HeepgenError, match=r"\(1, 2, 5, 5\).*\(1, 2, 6, 6\)"):
        fake(torch.zeros(1, 2, 5, 5))
    with pytest.raises(HeepgenError, match="int64"):
        fake(torch.zeros(1, 2, 6, 6, dtype=torch.int64))
    assert GraphModule(lowered(nn.Linear(2, 2), (5, 2)))(torch.zeros(3, 2)).shape == (3, 2)


def short_scales(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    rows = zip(weight.double().numpy(), scale.numpy(), strict=True)
    return torch.tensor([short_scale(row, s) for row, s in rows])


def torchao_rule(weight: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(codes, scales) by torchao 0.18, torchao/quantization/quant_primitives.py: `choose_qparams_affine` for
    MappingType.SYMMETRIC with one block per row and quant_min = -127, then `quantize_affine`. All in float32:
    scale = max(-min, max) / (254 / 2), at least the smallest normal number; q = clamp(round(w * (1 / scale))). Between
    them the scale is rounded by our own rule."""
    largest = torch.maximum(-weight.amin(dim=1).clamp(max=0), weight.amax(dim=1).clamp(min=0))
    scale = (largest / 127.0).clamp(min=torch.finfo(torch.float32).smallest_normal)
    scale = short_scales(weight, scale)
    return torch.clamp(torch.round(weight * (1.0 / scale)[:, None]), -127, 127).numpy(), scale.numpy()


def torchao_itself(weight: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    from torchao.quantization import quant_primitives as primitives

    block = (1, weight.shape[1])
    scale, zero = primitives.choose_qparams_affine(
        weight, primitives.MappingType.SYMMETRIC, block, torch.int8, quant_min=-127, quant_max=127
    )
    assert not zero.any()
    scale = short_scales(weight, scale)
    q = primitives.quantize_affine(weight, block, scale, zero, torch.int8, quant_min=-127, quant_max=127)
    return q.numpy(), scale.numpy()


NEAR_TIE = 2.0**-16
"""torchao rounds 1 / scale and its product with w to float32: up to 127 * 2 * 2^-24 off, so that a position this close
to the middle between two codes may go either way. We divide in float64."""


def assert_same_codes(weight: np.ndarray, theirs) -> None:
    q, scale = quantise_weight(linear_graph(weight.astype(np.float64)).nodes[0].weight)
    codes, scales = theirs(torch.from_numpy(weight))
    zero = ~weight.any(axis=1)
    assert not q[zero].any() and not codes[zero].any()
    np.testing.assert_array_equal(scale[~zero], scales[~zero])
    position = weight.astype(np.float64) / scale[:, None].astype(np.float64)
    near_tie = np.abs(np.abs(position - np.trunc(position)) - 0.5) <= NEAR_TIE
    assert (np.abs(q - codes) <= near_tie).all()


# Not below 1e-30, where a scale is no normal number any more, and two columns at least: torchao takes one scale for all
# rows of a matrix with a single one.
WEIGHTS = st.floats(-100, 100, width=32).map(lambda w: w if abs(w) > 1e-30 else 0.0)
RULES = pytest.mark.parametrize("theirs", [torchao_rule, torchao_itself])


@RULES
@settings(max_examples=50, deadline=None)
@given(weight=hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 40)), elements=WEIGHTS))
def test_linear_weights_are_those_of_torchao(theirs, weight):
    assert_same_codes(weight, theirs)


@RULES
def test_initial_linear_weights_are_those_of_torchao(theirs):
    torch.manual_seed(0)
    for features in (8, 128, 640):
        assert_same_codes(nn.Linear(features, 128).weight.detach().numpy(), theirs)


def test_mse_calibration_lowers_the_error_and_clips():
    rng = np.random.default_rng(3)
    weight = rng.laplace(size=(16, 5000))
    errors = {}
    for calibrate in ("max", "mse"):
        q, scale = quantise_weight(weight, calibrate=calibrate)
        errors[calibrate] = ((q * scale[:, None].astype(np.float64) - weight) ** 2).sum(axis=1)
    assert (errors["mse"] <= errors["max"]).all() and errors["mse"].sum() < 0.98 * errors["max"].sum()
    largest = np.abs(weight).max(axis=1)
    assert (scale <= largest / 127 * (1 + 2**-7)).all() and has_16_bits(scale)
    assert (scale < largest / 127 * 0.99).any()
    for ratio in (0.9, 0.7):  # no single clip does better than the one chosen per channel
        s = (largest * ratio / 127)[:, None]
        assert (((np.clip(np.rint(weight / s), -127, 127) * s - weight) ** 2).sum(axis=1) > errors["mse"] * 0.99).all()


def test_mse_calibration_keeps_what_is_exact_and_shares_a_tensor_scale():
    q, scale = quantise_weight(np.array([[127.0, -3.0], [0, 0]]), calibrate="mse")
    assert q.tolist() == [[127, -3], [0, 0]] and scale.tolist() == [1, 1]
    _, scale = quantise_weight(np.random.default_rng(0).standard_t(2, size=(4, 50)), False, "mse")
    assert len(set(scale.tolist())) == 1


def test_unknown_calibration_is_refused():
    with pytest.raises(HeepgenError, match="calibrate = 'entropy': choose one of max, mse"):
        quantise(linear_graph(np.ones((1, 2))), calibrate="entropy")


def test_scale_node_is_rounded_to_float32():
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3), nn.ReLU()).eval()
    model[1].running_mean.normal_()
    node = quantise(lowered(model, (1, 3))).nodes[1]
    assert node.scale.dtype == node.bias.dtype == np.float32
    factor = 1 / np.sqrt(model[1].running_var.double().numpy() + model[1].eps)
    np.testing.assert_array_equal(node.scale, factor.astype(np.float32))
    np.testing.assert_array_equal(node.bias, (-model[1].running_mean.double().numpy() * factor).astype(np.float32))


class Vectors(nn.Module):
    """A batch of one that becomes a vector inside, and a second output that keeps its batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 3, 3), nn.Linear(48, 5)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        return self.head(y.reshape(-1)), y


def test_quantised_model_takes_several_inputs_where_values_inside_have_no_batch():
    torch.manual_seed(2)
    model = Vectors().eval()
    with torch.no_grad():
        for layer in (model.conv, model.head):
            layer.weight.copy_((layer.weight * 500).clamp(-127, 127).round())
            layer.weight.reshape(len(layer.weight), -1)[:, 0] = 127  # a scale of 1: nothing is rounded
    x = torch.randn(3, 2, 6, 6)
    module, taps = CodeGenerator(model, x[:1]).quantized_model(), {}
    with torch.no_grad():
        vectors, maps = module(x, taps)
        expected = [model(one[None]) for one in x]
    torch.testing.assert_close(vectors, torch.stack([v for v, _ in expected]), rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(maps, torch.cat([m for _, m in expected]), rtol=1e-5, atol=1e-3)
    assert all(len(tap) == 3 for tap in taps.values())


def test_an_input_without_a_batch_has_no_multiples():
    module = CodeGenerator(nn.Linear(4, 5).eval(), torch.randn(4)).quantized_model()
    assert module(torch.randn(4)).shape == (5,)
    for wrong in ((8,), (2, 4)):
        with pytest.raises(HeepgenError, match=r"the model takes \(4,\)"):
            module(torch.randn(wrong))
