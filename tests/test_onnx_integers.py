# SPDX-License-Identifier: Apache-2.0
"""ONNX files that hold INT8 weights and their scales: the device computes with exactly these."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from firmware_gen import CodeGenerator
from firmware_gen.frontend.loader import load_model
from firmware_gen.ir import has_16_bits
from hls.errors import HeepgenError


def codes(rng, *shape, kind=np.int8):
    """Over the whole range, and not up to its end in every channel."""
    about = np.iinfo(kind)
    return rng.integers(about.min, about.max - 20, shape, dtype=kind)


def saved(folder, shape, nodes, opset=18, **constants):
    """A file of `nodes`, each (operator, inputs, outputs, attributes), from x to y."""
    start = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = [
        helper.make_node(op, inputs.split(), output.split(), **attributes) for op, inputs, output, attributes in nodes
    ]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(made, "net", [start], [end], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def scales(rng, count):
    return rng.uniform(0.001, 0.05, count).astype(np.float32)


def compiled(path, rng, shape):
    return CodeGenerator(load_model(path), rng.normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("opset", [13, 21])
def test_filters_per_channel(tmp_path, opset):
    rng = np.random.default_rng(0)
    w, s = codes(rng, 6, 4, 3, 3), scales(rng, 6)
    nodes = [("DequantizeLinear", "w s z", "d", {"axis": 0}), ("Conv", "x d", "c", {}), ("Relu", "c", "y", {})]
    path = saved(tmp_path, [1, 4, 6, 8], nodes, opset, w=w, s=s, z=np.zeros(6, np.int8))
    (conv,) = compiled(path, rng, (1, 4, 6, 8)).graph.nodes
    np.testing.assert_array_equal(conv.weight, w)
    np.testing.assert_array_equal(conv.scale, s)


MATRICES = {
    "per column": ([("DequantizeLinear", "w s", "d", {"axis": 1}), ("MatMul", "x d", "y", {})], np.int8, 5, 1),
    "per tensor": ([("DequantizeLinear", "w s", "d", {}), ("MatMul", "x d", "y", {})], np.int8, (), 1),
    "moved": ([("DequantizeLinear", "w s", "d", {"axis": 1}), ("Transpose", "d", "t", {"perm": [1, 0]}),
               ("Gemm", "x t", "y", {"transB": 1, "alpha": 0.5})], np.int8, 5, 0.5),
    "unsigned": ([("DequantizeLinear", "w s z", "d", {}), ("MatMul", "x d", "y", {})], np.uint8, (), 1),
    "then BatchNorm": ([("DequantizeLinear", "w s", "d", {"axis": 1}), ("MatMul", "x d", "m", {}),
                        ("Mul", "m f", "y", {})], np.int8, 5, -3),
}  # fmt: skip


@pytest.mark.parametrize("name", MATRICES)
def test_matrices(tmp_path, name):
    nodes, kind, count, factor = MATRICES[name]
    rng = np.random.default_rng(1)
    w, s = codes(rng, 7, 5, kind=kind), scales(rng, count)
    path = saved(tmp_path, [2, 7], nodes, w=w, s=s, z=np.uint8(128), f=np.float32(factor))
    (linear,) = compiled(path, rng, (2, 7)).graph.nodes
    np.testing.assert_array_equal(linear.weight.T, w.astype(int) - (128 if kind == np.uint8 else 0))
    np.testing.assert_allclose(linear.scale, np.broadcast_to(s * np.float32(factor), 5), rtol=1e-7)


def test_the_generated_weights_hold_them(tmp_path):
    rng = np.random.default_rng(2)
    w = codes(rng, 8, 8)
    nodes = [("DequantizeLinear", "w s", "d", {"axis": 1}), ("MatMul", "x d", "y", {})]
    generator = compiled(saved(tmp_path, [1, 8], nodes, w=w, s=scales(rng, 8)), rng, (1, 8))
    words = re.findall(r"0x([0-9a-f]{8})", generator.application().files["gen/weights.cpp"])
    stream = b"".join(int(word, 16).to_bytes(4, "little") for word in words)
    assert all(row.tobytes() in stream for row in w)


@pytest.mark.parametrize("zero, axis", [(np.uint8(60), 1), (None, 0)], ids=["asymmetric", "per input"])
def test_what_does_not_fit_is_quantised(tmp_path, zero, axis):
    rng = np.random.default_rng(3)
    w, s = codes(rng, 7, 5, kind=np.int8 if zero is None else np.uint8), scales(rng, 7 if axis == 0 else ())
    nodes = [("DequantizeLinear", "w s" + " z" * (zero is not None), "d", {"axis": axis}), ("MatMul", "x d", "y", {})]
    path = saved(tmp_path, [2, 7], nodes, w=w, s=s, z=np.uint8(zero or 0))
    (linear,) = compiled(path, rng, (2, 7)).graph.nodes
    assert (np.abs(linear.weight).max(axis=1) >= 126).all() and has_16_bits(linear.scale)


ACTIVATIONS = {
    "QuantizeLinear": [("QuantizeLinear", "x s z", "q", {}), ("DequantizeLinear", "q s z", "y", {})],
    "DynamicQuantizeLinear": [
        ("DynamicQuantizeLinear", "x", "q r t", {}),
        ("Cast", "q", "y", {"to": TensorProto.FLOAT}),
    ],
}


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_quantised_activations_are_refused(tmp_path, op):
    path = saved(tmp_path, [1, 4], ACTIVATIONS[op], s=np.float32(0.1), z=np.int8(0))
    with pytest.raises(HeepgenError, match=f"{op}.*float32; quantise the weights alone"):
        load_model(path)
