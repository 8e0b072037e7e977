# SPDX-License-Identifier: Apache-2.0
"""Networks as tf2onnx writes those of Keras: channels last, with transposes around every layer, shapes that are
computed, explicit padding, and normalisation as products and sums. Each against ONNX's evaluator."""

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes
from tests.random_networks import outputs

RNG = np.random.default_rng(15)
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]
"""Permutations to channels first, and back."""


class Network:
    """Calling it adds a node of constants and names of values, and returns the name of its result."""

    def __init__(self, *shape, opset=15):
        """shape: without the batch, which is left open."""
        self.shape, self.opset, self.nodes, self.constants = shape, opset, [], []

    def __call__(self, op, *inputs, results=1, **attributes):
        names = [self._name(x) for x in inputs]
        found = [f"{op}__{len(self.nodes)}:{i}" for i in range(results)]
        self.nodes.append(helper.make_node(op, names, found, name=f"StatefulPartitionedCall/{op}", **attributes))
        return found[0] if results == 1 else found

    def _name(self, x):
        if isinstance(x, str):
            return x
        self.constants.append(numpy_helper.from_array(np.asarray(x), f"const_fold_opt__{len(self.constants)}"))
        return self.constants[-1].name

    def model(self, *ends):
        start = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["unk__1", *self.shape])
        infos = [helper.make_tensor_value_info(end, TensorProto.FLOAT, None) for end in ends]
        graph = helper.make_graph(self.nodes, "tf2onnx", [start], infos, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def conv(self, x, inputs, count, size=3, bias=True, **attributes):
        """On channels last, as a layer that knows channels first only."""
        groups = attributes.get("group", 1)
        shape = (count, inputs // groups, size, size)
        weight = normal(*shape) / math.sqrt(math.prod(shape[1:]))
        first = self("Transpose", x, perm=FIRST)
        attributes = {"kernel_shape": [size, size]} | attributes
        y = self("Conv", first, weight, *([normal(count)] if bias else []), **attributes)
        return self("Transpose", y, perm=LAST)

    def batch_norm(self, x, channels):
        """Keras' x * inv + (beta - mean * inv)."""
        scale = self(
            "Mul",
            self("Reciprocal", self("Sqrt", self("Add", positive(channels), np.float32(1e-3)))),
            positive(channels),
        )
        shift = self("Sub", normal(channels), self("Mul", normal(channels), scale))
        return self("Add", self("Mul", x, scale), shift)

    def sizes(self, x, *rest):
        """The batch of x, and then `rest`, as a shape that is computed."""
        shape = self("Cast", self("Shape", x), to=TensorProto.INT32)
        batch = self("Slice", shape, ints(0), ints(1), ints(0))
        return self("Cast", self("Concat", batch, ints(*rest).astype(np.int32), axis=0), to=TensorProto.INT64)

    def dense(self, x, inputs, count):
        return self("Add", self("MatMul", x, normal(inputs, count) / math.sqrt(inputs)), normal(count))


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape):
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def classifier():
    n = Network(9, 8, 3)
    x = n(
        "Relu", n.batch_norm(n.conv(n("Mul", "x", np.float32(1 / 255)), 3, 4, auto_pad="SAME_UPPER", strides=[2, 2]), 4)
    )
    x = n("Transpose", n("MaxPool", n("Transpose", x, perm=FIRST), kernel_shape=[2, 2], strides=[2, 2]), perm=LAST)
    x = n("Reshape", x, n.sizes(x, 16))
    return n.model(n("Softmax", n.dense(x, 16, 5), axis=-1))


def mobilenet():
    """Explicit padding ahead of a stride, ReLU6 as a clip, depthwise and pointwise, averages of space."""
    n = Network(7, 7, 4)
    x = n("Pad", "x", ints(0, 0, 0, 0, 0, 1, 1, 0), np.float32(0))
    x = n.conv(x, 4, 4, bias=False, group=4, auto_pad="VALID", strides=[2, 2])
    x = n("Clip", n.batch_norm(x, 4), np.float32(0), np.float32(6))
    x = n("Clip", n.batch_norm(n.conv(x, 4, 8, 1, bias=False), 8), np.float32(0), np.float32(6))
    y = n("Add", x, n.batch_norm(n.conv(x, 8, 8, auto_pad="SAME_UPPER", group=8), 8))
    y = n("Squeeze", n("GlobalAveragePool", n("Transpose", y, perm=FIRST)), ints(2, 3))
    return n.model(n.dense(y, 8, 3))


def mobilenet_v3():
    """Squeeze and excitation, hard swish and hard sigmoid written out."""
    n = Network(6, 5, 8)
    x = n.conv("x", 8, 8, auto_pad="SAME_UPPER")
    hard = n("Mul", n("Clip", n("Add", x, np.float32(3)), np.float32(0), np.float32(6)), np.float32(1 / 6))
    x = n("Mul", x, hard)
    gate = n("ReduceMean", x, axes=[1, 2], keepdims=1)
    gate = n("Relu", n.conv(gate, 8, 4, 1))
    gate = n("Clip", n("Add", n.conv(gate, 4, 8, 1), np.float32(3)), np.float32(0), np.float32(6))
    return n.model(n("Mul", x, n("Mul", gate, np.float32(0.16666667))))


def gated_by_dense():
    n = Network(5, 5, 8)
    x = n.conv("x", 8, 8, auto_pad="SAME_UPPER")
    gate = n("ReduceMean", x, axes=[1, 2], keepdims=0)
    gate = n("Sigmoid", n.dense(n("Relu", n.dense(gate, 8, 4)), 4, 8))
    gate = n("Reshape", gate, n.sizes(gate, 1, 1, 8))
    return n.model(n("Mul", x, gate))


def upsampled():
    n = Network(4, 4, 4)
    x = n("Transpose", "x", perm=FIRST)
    sizes = n("Concat", n("Slice", n("Shape", x), ints(0), ints(2), ints(0)), ints(8, 8), axis=0)
    near = n("Resize", x, normal(0), normal(0), sizes, mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric")  # fmt: skip
    far = n("Resize", x, normal(0), np.array([1, 1, 2, 2], np.float32), mode="linear",
            coordinate_transformation_mode="half_pixel")  # fmt: skip
    both = n("Concat", n("Transpose", near, perm=LAST), n("Transpose", far, perm=LAST), axis=-1)
    return n.model(n("Tanh", n.conv(both, 8, 2, auto_pad="SAME_UPPER")))


def transposed():
    """A decoder's Conv2DTranspose, whose output's size is computed, and cut to."""
    n = Network(12)
    x = n("LeakyRelu", n.dense("x", 12, 36), alpha=0.2)
    x = n("Transpose", n("Reshape", x, n.sizes(x, 3, 3, 4)), perm=FIRST)
    x = n("ConvTranspose", x, normal(4, 3, 3, 3), kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 0, 0])
    x = n("Slice", x, ints(0, 0), ints(6, 6), ints(2, 3))
    x = n("Add", x, normal(1, 3, 1, 1))
    return n.model(n("Transpose", n("Sigmoid", x), perm=LAST))


def keyword_spotter():
    """Conv1D as Unsqueeze, Conv, Squeeze."""
    n = Network(10, 6)
    x = n("Unsqueeze", n("Transpose", "x", perm=[0, 2, 1]), ints(2))
    x = n("Conv", x, normal(4, 6, 1, 3), normal(4), kernel_shape=[1, 3], pads=[0, 2, 0, 0])
    x = n("Transpose", n("Squeeze", n("Relu", x), ints(2)), perm=[0, 2, 1])
    return n.model(n.dense(n("ReduceMax", x, axes=[1], keepdims=0), 4, 3))


def recurrent(op, gates, **attributes):
    """Time first, states of zeros of a computed shape, one direction squeezed."""
    n = Network(5, 3)
    steps = n("Transpose", "x", perm=[1, 0, 2])
    batch = n("Slice", n("Shape", steps), ints(1), ints(2), ints(0))
    zeros = n(
        "ConstantOfShape", n("Concat", ints(1), batch, ints(4), axis=0), value=numpy_helper.from_array(normal(1) * 0)
    )
    weights = normal(1, gates * 4, 3), normal(1, gates * 4, 4), normal(1, gates * 8)
    y, last = n(op, steps, *weights, "", *[zeros] * (1 + (op == "LSTM")), hidden_size=4, results=2, **attributes)
    every = n("Transpose", n("Squeeze", y, ints(1)), perm=[1, 0, 2])
    return n.model(n.dense(n("Squeeze", last, ints(0)), 4, 2), n.dense(every, 4, 2))


def attention():
    n = Network(6, 8)
    q, k, v = (n("Add", n("Einsum", "x", normal(8, 2, 4), equation="abc,cde->abde"), normal(2, 4)) for _ in range(3))
    scores = n("Einsum", k, n("Mul", q, np.float32(0.5)), equation="aecd,abcd->acbe")
    y = n("Einsum", n("Softmax", scores, axis=-1), v, equation="acbe,aecd->abcd")
    return n.model(n("Add", n("Einsum", y, normal(2, 4, 8), equation="abcd,cde->abe"), "x"))


def layer_norm_and_gelu():
    n = Network(4, 8)
    mean = n("ReduceMean", "x", axes=[2], keepdims=1)
    squared = n("Mul", n("Sub", "x", mean), n("Sub", "x", mean))
    scale = n("Reciprocal", n("Sqrt", n("Add", n("ReduceMean", squared, axes=[2], keepdims=1), np.float32(1e-3))))
    scale = n("Mul", scale, positive(8))
    x = n("Add", n("Mul", "x", scale), n("Sub", normal(8), n("Mul", mean, scale)))
    erf = n("Add", n("Erf", n("Mul", x, np.float32(math.sqrt(0.5)))), np.float32(1))
    return n.model(n.dense(n("Mul", n("Mul", np.float32(0.5), x), erf), 8, 4))


def pooled():
    """SAME pooling, averages without the padding, several branches joined on the last axis."""
    n = Network(7, 6, 3)
    x = n("Transpose", "x", perm=FIRST)
    average = n("AveragePool", x, kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2])
    largest = n("MaxPool", x, kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2])
    parts = [n("Transpose", y, perm=LAST) for y in (average, largest)]
    x = n("Concat", *parts, n.conv("x", 3, 2, 1, strides=[2, 2]), axis=-1)
    first, second = n("Split", x, ints(3, 5), axis=-1, results=2)
    return n.model(n("Relu", n.conv(first, 3, 2)), n("Max", second, np.float32(0.1)))


def space_to_depth():
    n = Network(4, 6, 2)
    x = n("Transpose", n("SpaceToDepth", n("Transpose", "x", perm=FIRST), blocksize=2), perm=LAST)
    x = n.conv(x, 8, 8, 1)
    return n.model(n("Transpose", n("DepthToSpace", n("Transpose", x, perm=FIRST), blocksize=2, mode="DCR"), perm=LAST))


def prelu():
    """One slope per channel, the last dimension, and one per place."""
    n = Network(4, 4, 3)
    x = n("PRelu", n.conv("x", 3, 6, auto_pad="SAME_UPPER"), positive(1, 1, 6))
    return n.model(n("PRelu", x, positive(4, 4, 6)))


def positions():
    """A learned table, tiled to the batch, and a class token."""
    n = Network(4, 8)
    token = n("Expand", normal(1, 1, 8), n.sizes("x", 1, 8))
    x = n("Add", n("Concat", token, "x", axis=1), normal(1, 5, 8))
    return n.model(n.dense(n("Squeeze", n("Slice", x, ints(0), ints(1), ints(1)), ints(1)), 8, 3))


MODELS = {
    f.__name__: f
    for f in (classifier, mobilenet, mobilenet_v3, gated_by_dense, upsampled, transposed, keyword_spotter, attention,
              layer_norm_and_gelu, pooled, space_to_depth, prelu, positions)
} | {"lstm": lambda: recurrent("LSTM", 4), "gru": lambda: recurrent("GRU", 3, linear_before_reset=1),
     "rnn": lambda: recurrent("RNN", 1)}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_networks_of_keras(name, tmp_path):
    model = MODELS[name]()
    onnx.save(model, tmp_path / "net.onnx")
    x = normal(1, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]))
    graph = run_passes(import_model(load_model(tmp_path / "net.onnx")))
    with torch.no_grad():
        found = outputs(GraphModule(graph)(torch.from_numpy(x)))
    for got, wanted in zip(found, ReferenceEvaluator(model).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * max(1, np.abs(wanted).max()))
