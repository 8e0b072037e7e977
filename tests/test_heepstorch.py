# SPDX-License-Identifier: Apache-2.0
"""HEEPstor's Python calls: its quantisation in exact rationals, its networks against PyTorch."""

from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from firmware_gen import CodeGenerator
from heepstorch.code_generator import flatten_input_to_matrix
from heepstorch.module import SequentialNetwork
from heepstorch.quantization import QuantizationScheme, dequantize, dequantize_matmult_result, fake_quantize, quantize
from hls.errors import HeepgenError

LARGEST = np.finfo(np.float32).max
PER_CHANNEL = QuantizationScheme.per_channel_symmetric


def rounded(value: Fraction) -> np.float32:
    """The nearest float32; a quotient of two of them is never so near to a midpoint that the way by float64 counts."""
    return np.float32(float(value))


def exactly_quantized(matrix: np.ndarray) -> tuple[list[int], np.float32]:
    """HEEPstor's rule in words: every value over a 127th of the largest magnitude, to the nearest integer, halves to
    the even one, within +-127. Where that 127th is 0, all that is not 0 is beyond any limit."""
    values = [Fraction(float(x)) for x in matrix.ravel()]
    scale = rounded(max(map(abs, values)) / 127)
    if scale == 0:
        return [127 * ((x > 0) - (x < 0)) for x in values], scale
    quotients = [Fraction(float(rounded(x / Fraction(float(scale))))) for x in values]
    return [max(-127, min(127, round(quotient))) for quotient in quotients], scale


def matrices(elements):
    return hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=elements)


ORDINARY = st.floats(-8, 8, width=32)
ANY = st.floats(-float(LARGEST), float(LARGEST), width=32)
TINY = st.floats(-(2.0**-140), 2.0**-140, width=32)
SPECIAL = st.sampled_from([0.0, -0.0, 1e-45, -1e-45, float(LARGEST), -float(LARGEST), 127.0, 0.5, -1.5])


@pytest.mark.filterwarnings("ignore:overflow")  # 127 times the scale of the largest float32 is infinite
@settings(max_examples=200, deadline=None)
@given(st.one_of(map(matrices, (ORDINARY, ANY, TINY, SPECIAL))))
def test_quantisation_has_every_bit_of_the_rule(matrix):
    expected, expected_scale = exactly_quantized(matrix)
    codes, scale = quantize(matrix)
    assert codes.dtype == np.int8 and codes.shape == matrix.shape and codes.ravel().tolist() == expected
    assert scale.dtype == np.float32 and scale.tobytes() == expected_scale.tobytes()
    # a product of 7 and 24 bits is exact in float64; -127 * 0 is -0
    back = np.array([np.float32(float(q) * float(scale)) for q in expected]).reshape(matrix.shape)
    for got in (
        dequantize(codes, scale),
        fake_quantize(matrix),
        dequantize_matmult_result(codes * np.float32(1), scale),
    ):
        assert got.dtype == np.float32 and got.tobytes() == back.tobytes()


@settings(max_examples=50, deadline=None)
@given(matrices(ORDINARY))
def test_every_column_may_have_its_own_scale(matrix):
    codes, scales = quantize(matrix, PER_CHANNEL)
    for column, own, scale in zip(matrix.T, codes.T, scales, strict=True):
        expected, expected_scale = exactly_quantized(column)
        assert own.tolist() == expected and scale == expected_scale
    np.testing.assert_array_equal(fake_quantize(matrix, PER_CHANNEL), codes * scales)


@pytest.mark.parametrize(
    "matrix", [[[np.nan, 1.0]], [[np.inf, 1.0]], np.zeros((0, 3)), [["a"]]], ids=["nan", "infinity", "empty", "text"]
)
def test_what_has_no_range_is_refused(matrix):
    with pytest.raises(ValueError, match="matrix"):
        quantize(np.array(matrix))
    with pytest.raises(HeepgenError, match="per_tensor_symmetric or per_channel_symmetric"):
        quantize(np.ones((2, 2)), "per_tensor")


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict([
        ("conv-1", nn.Conv2d(2, 5, 3)), ("norm", nn.BatchNorm2d(5)), ("relu", nn.ReLU()), ("pool", nn.MaxPool2d(2)),
        ("2", nn.Conv2d(5, 4, (2, 1))), ("flat", nn.Flatten()), ("drop", nn.Dropout(0.5)), ("fc", nn.Linear(16, 3)),
    ]))  # fmt: skip
    nn.init.normal_(model.norm.weight)
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.2, 3)
    return model.eval()


def vectors() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3, bias=False)).eval()


NETWORKS = {"convolutions": (convolutions, (9, 6, 2)), "vectors": (vectors, ())}


def network(name: str, **options) -> tuple[nn.Sequential, SequentialNetwork]:
    build, sizes = NETWORKS[name]
    model = build()
    return model, SequentialNetwork.from_torch_sequential(model, *sizes, **options)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [layer.weight.detach().clone() for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_quantised_module_differs_in_its_weights_alone(name):
    model, net = network(name)
    before = weights(model)
    quantised = net.get_quantized_torch_module()
    for original, own, kept in zip(before, weights(quantised), weights(model), strict=True):
        codes, scale = exactly_quantized(original.numpy())
        np.testing.assert_array_equal(own.numpy().ravel(), [np.float32(float(q) * float(scale)) for q in codes])
        assert torch.equal(kept, original)
    others = {
        key: value for key, value in quantised.state_dict().items() if not key.endswith("weight") or "norm" in key
    }
    expected = {key.replace("conv-1", "conv_1"): value for key, value in model.state_dict().items()}
    for key, value in others.items():
        assert torch.equal(value, expected[key if key in expected else key.lstrip("_")])


def test_layers_have_heepstors_names_and_dropout_is_gone():
    _, net = network("convolutions")
    assert list(net.modules) == ["conv_1", "norm", "relu", "pool", "_2", "flat", "fc"]
    assert net.get_module_by_name("_2").weights_quantized.shape == (5 * 2 * 1, 4)
    assert not net.supports_batching() and network("vectors")[1].supports_batching()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_a_function_of_matrices(name):
    _, net = network(name)
    quantised = net.get_quantized_torch_module()
    x = torch.randn(1 if name == "convolutions" else 4, *net.example_shape[1:])
    matrix = flatten_input_to_matrix(x.numpy()) if x.ndim == 4 else x.numpy()
    if x.ndim == 4:
        np.testing.assert_array_equal(flatten_input_to_matrix(x[0].numpy()), matrix)
        assert matrix[3, 1] == x[0, 1, 0, 3] and matrix.shape == (54, 2)
    with torch.no_grad():
        np.testing.assert_allclose(net(matrix), quantised(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_feature_map_comes_out_as_it_goes_in():
    net = SequentialNetwork.from_torch_sequential(nn.Sequential(nn.Conv2d(1, 3, 2)), 4, 3, 1)
    x = torch.randn(1, 1, 4, 3)
    with torch.no_grad():
        expected = net.get_quantized_torch_module()(x).numpy()
    np.testing.assert_allclose(net(flatten_input_to_matrix(x.numpy())), flatten_input_to_matrix(expected), rtol=1e-6)


@pytest.mark.parametrize("qscheme", QuantizationScheme)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_device_computes_with_the_weights_of_the_quantised_module(name, qscheme):
    _, net = network(name, qscheme=qscheme)
    x = torch.randn(net.example_shape)
    generator = CodeGenerator(net.module_of_integers(), x)
    for key, layer in net.modules.items():
        if layer.weights_quantized is not None:
            own = generator.graph.node(key).weight
            np.testing.assert_array_equal(own.reshape(len(own), -1).T, layer.weights_quantized)
    with torch.no_grad():
        expected = net.get_quantized_torch_module()(x)
    np.testing.assert_allclose(generator.reference().outputs[0], expected, rtol=0, atol=1e-4)


WRONG = [
    (nn.Linear(3, 2), (), "no nn.Sequential"),
    (nn.Sequential(nn.ReLU()), (), "neither a Linear nor a Conv2d"),
    (nn.Sequential(nn.Conv2d(1, 2, 3)), (), "needs the height, width and channels"),
    (nn.Sequential(nn.Conv2d(1, 2, 3)), (8, 8), "needs the height, width and channels"),
    (nn.Sequential(nn.Linear(3, 2)), (8, 8, 1), "leave height, width and channels out"),
    (nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2)), (), "layer _1 .Linear. does not take .2,."),
    (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(9, 2)), (5, 5, 1), "layer _2 .Linear. does not take"),
    (nn.Sequential(nn.Conv2d(1, 2, 7)), (5, 5, 1), "layer _0 .Conv2d. does not take"),
    (nn.Sequential(nn.Linear(3, 2), nn.LSTM(2, 2)), (), "layer 1 is a LSTM"),
    (nn.Sequential(nn.Sequential(nn.Linear(3, 2))), (), "layer 0 is a Sequential"),
    (nn.Sequential(nn.Linear(3, 2).double()), (), "layer 0: its weights are torch.float64"),
    (nn.Sequential(OrderedDict([("a b", nn.Linear(3, 2)), ("a-b", nn.Linear(2, 2))])), (), "two layers are called a_b"),
]  # fmt: skip


@pytest.mark.parametrize("model, sizes, message", WRONG, ids=[message for *_, message in WRONG])
def test_what_is_no_network_is_refused(model, sizes, message):
    with pytest.raises(HeepgenError, match=message) as caught:
        SequentialNetwork.from_torch_sequential(model, *sizes)
    assert isinstance(caught.value, ValueError)


def test_weights_without_a_range_are_named():
    model = nn.Sequential(nn.Linear(3, 2))
    model[0].weight.data[0, 0] = float("nan")
    with pytest.raises(HeepgenError, match="layer 0: .*NaN"):
        SequentialNetwork.from_torch_sequential(model)


@pytest.mark.parametrize("name, shape", [("vectors", (2, 6)), ("vectors", (7,)), ("convolutions", (2, 54))])
def test_inputs_of_other_shapes_are_refused(name, shape):
    with pytest.raises(HeepgenError, match="the network takes"):
        network(name)[1](np.zeros(shape, np.float32))
