# SPDX-License-Identifier: Apache-2.0
"""ONNX files: the IR computes what onnx's own reference evaluator does; what is not supported is one sentence."""

import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from firmware_gen import CodeGenerator
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.frontend.onnx.evaluator import OWN_OPERATORS
from firmware_gen.frontend.onnx.operators import HANDLERS
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes
from hls.config import Config
from hls.errors import HeepgenError

RNG = np.random.default_rng(0)


class Model:
    """Collects nodes in a row: each reads the last value and the constants given."""

    def __init__(self, shape, opset=18):
        self.shape, self.opset, self.last = shape, opset, "x"
        self.nodes, self.constants = [], []

    def add(self, op, *constants, inputs=None, outputs=1, name=None, **attributes):
        names = []
        for array in constants:
            names.append("" if array is None else f"c{len(self.constants)}")
            if array is not None:
                self.constants.append(numpy_helper.from_array(np.asarray(array), names[-1]))
        sources = list(inputs) if inputs else [self.last]
        self.last = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, sources + names, [self.last], name=name or f"/net/{op}", **attributes))
        return self

    def proto(self, outputs=None):
        ends = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [None]) for v in outputs or [self.last]]
        start = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(self.nodes, "net", [start], ends, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape):
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


IMAGE = [1, 3, 9, 8]


def layer_norm():
    """What LayerNorm is exported as below opset 17."""
    model = Model([2, 3, 6], opset=13).add("ReduceMean", axes=[-1]).add("Sub", inputs=["x", "v0"])
    model.add("Pow", np.float32(2)).add("ReduceMean", axes=[-1]).add("Add", np.float32(1e-5)).add("Sqrt")
    return model.add("Div", inputs=["v1", "v5"]).add("Mul", normal(6)).add("Add", normal(6))


def residual():
    model = Model([1, 4, 6, 6]).add("Conv", normal(4, 4, 3, 3), normal(4), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return model.add("BatchNormalization", positive(4), normal(4), normal(4), positive(4)).add(
        "Add", inputs=["v1", "x"]).add("Relu").add("Concat", inputs=["v3", "v0"], axis=1)  # fmt: skip


def flatten_by_shape():
    """What x.view(x.size(0), -1) is exported as."""
    model = Model([2, 3, 4, 4]).add("Relu").add("Shape", inputs=["x"]).add("Gather", ints(0)[0], axis=0)
    model.add("Unsqueeze", ints(0)).add("Concat", ints(-1), axis=0)
    return model.add("Reshape", inputs=["v0", "v4"]).add("Gemm", normal(5, 48), normal(5), transB=1)


def branch():
    """What x.squeeze(1) is exported as where the size is left open."""
    then = helper.make_node("Squeeze", ["x", "one"], ["less"], name="/net/Squeeze")
    otherwise = helper.make_node("Identity", ["x"], ["same"])
    parts = {
        f"{name}_branch": helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info(node.output[0])])
        for name, node in (("then", then), ("else", otherwise))
    }
    model = Model([2, 1, 5]).add("Shape").add("Gather", ints(1)[0], axis=0).add("Equal", ints(1)[0])
    model.constants.append(numpy_helper.from_array(ints(1), "one"))
    return model.add("If", **parts).add("Relu")


NAMED = {
    "pos": positive(5),
    "m": np.tri(4, dtype=bool),
    "low": np.float32(-np.inf),
    "zero": np.float32(0),
    "i": ints([5], [0], [3]),
}
"""Constants that nodes read by name."""
MODELS = {
    "in double precision": Model([1, 3])
    .add("Cast", to=TensorProto.DOUBLE)
    .add("Mul", np.array([0.1, -2.0, 3.0]))
    .add("Concat", inputs=["v1", "v0"], axis=0),
    "ReduceLogSumExp": Model([2, 3, 4]).add("ReduceLogSumExp", np.array([-1])),
    "crop by padding": Model(IMAGE).add("Pad", np.array([0, -1, 2, -1, 0, 0, -2, 1])),
    "conv": Model(IMAGE).add(
        "Conv", normal(4, 3, 3, 2), normal(4), strides=[2, 1], pads=[1, 0, 0, 1], dilations=[1, 2]
    ),
    "conv same": Model(IMAGE).add("Conv", normal(6, 1, 3, 3), group=3, auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": Model(IMAGE).add("Conv", normal(2, 3, 2, 4), auto_pad="SAME_LOWER"),
    "conv1d": Model([2, 3, 9]).add("Conv", normal(4, 3, 3), normal(4), pads=[2, 1]).add("Relu"),
    "conv transpose": Model(IMAGE).add("ConvTranspose", normal(3, 4, 3, 2), normal(4), strides=[2, 3],
                                       pads=[1, 0, 1, 0], output_padding=[1, 2]).add("Relu"),
    "conv transpose uneven": Model(IMAGE).add("ConvTranspose", normal(3, 2, 4, 4), strides=[2, 2], pads=[0, 1, 2, 1]),
    "conv transpose same": Model(IMAGE).add("ConvTranspose", normal(3, 2, 4, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    "conv transpose lower": Model([1, 4, 5]).add("ConvTranspose", normal(4, 2, 4), strides=[3], dilations=[2],
                                                 auto_pad="SAME_LOWER"),
    "max pool": Model(IMAGE).add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "max pool uneven": Model(IMAGE).add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    "max pool ceil": Model(IMAGE).add("MaxPool", kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    "max pool of one dimension": Model([1, 3, 9]).add("MaxPool", kernel_shape=[3], pads=[1, 1]),
    "avg pool": Model(IMAGE).add("AveragePool", kernel_shape=[3, 3], strides=[1, 2], pads=[1, 1, 1, 1]),
    "avg pool counted": Model(IMAGE).add(
        "AveragePool", kernel_shape=[3, 2], pads=[1, 0, 2, 1], count_include_pad=1
    ),
    "global": Model(IMAGE).add("GlobalAveragePool").add("Flatten").add("MatMul", normal(3, 4)).add("Add", normal(4)),
    "global max": Model(IMAGE).add("GlobalMaxPool").add("Squeeze", ints(2, 3)),
    "reduce": Model(IMAGE).add("ReduceMean", ints(2, 3), keepdims=0).add("Sigmoid").add("Gemm", normal(3, 2)),
    "reduce by attribute": Model(IMAGE, opset=13).add("ReduceMean", axes=[-1, -2]).add("Tanh"),
    "gemm": Model([2, 5]).add("Gemm", normal(5, 4), normal(4), alpha=0.5, beta=2.0).add("Softmax"),
    "hard": Model(IMAGE).add("HardSigmoid", alpha=0.3, beta=0.4).add("HardSwish").add("Mul", inputs=["v1", "v0"]),
    "depth to space": Model([2, 8, 3, 4]).add("Relu").add("DepthToSpace", blocksize=2, mode="CRD"),
    "log softmax": Model([2, 5]).add("Gemm", normal(5, 4), normal(4)).add("LogSoftmax", axis=1),
    "clip": Model([1, 5]).add("Clip", np.float32(-0.5), np.float32(0.5)).add("LeakyRelu", alpha=0.2),
    "clip one side": Model([1, 5]).add("Clip", None, np.float32(0.25)).add("PRelu", np.array([0.3], np.float32)),
    "arithmetic": Model(IMAGE).add("Mul", positive(3, 1, 1)).add("Sub", np.float32(0.5)).add("Div", np.float32(3))
    .add("Neg"),
    "pad": Model(IMAGE).add("Pad", ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5)).add("Dropout").add("Identity"),
    "resize": Model(IMAGE).add(
        "Resize", None, np.array([1, 1, 2, 3], np.float32), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    ),
    "resize to size": Model(IMAGE).add("Resize", None, None, ints(1, 3, 18, 16), mode="nearest"),
    "channels last": Model([1, 6, 7, 3]).add("Transpose", perm=[0, 3, 1, 2]).add("Conv", normal(4, 3, 3, 3)),
    "unsqueeze": Model([2, 7]).add("Unsqueeze", ints(1)).add("Conv", normal(3, 1, 3)).add("Flatten").add(
        "Gemm", normal(2, 15), transB=1),
    "gemm of a moved matrix": Model([5, 2]).add("Gemm", normal(5, 4), normal(2, 1), transA=1, beta=0.5),
    "matmul of maps": Model([2, 3, 4]).add("Relu").add("MatMul", normal(1, 4, 5)),
    "positions": Model(IMAGE).add("Gather", ints(0, 2), axis=1).add("Gather", ints(-1)[0], axis=2),
    "lstm": Model([4, 1, 3]).add("LSTM", normal(2, 8, 3), normal(2, 8, 2), normal(2, 16), hidden_size=2,
                                 direction="bidirectional"),
    "gru": Model([2, 3, 3]).add("GRU", normal(1, 6, 3), normal(1, 6, 2), normal(1, 12), None,
                                normal(1, 1, 2).repeat(3, 1), hidden_size=2, linear_before_reset=1),
    "gru that resets first": Model([3, 2, 2]).add("GRU", normal(2, 9, 2), normal(2, 9, 3), normal(2, 18), hidden_size=3,
                                                  direction="bidirectional", layout=1),
    "layer norm": Model([2, 5, 6]).add("LayerNormalization", normal(6), normal(6)),
    "attention": Model([1, 5, 8], opset=23).add("Neg").add("Attention", inputs=["x", "v0", "x"], q_num_heads=2,
                                                           kv_num_heads=2),
    "scores of pairs": Model([1, 5, 8]).add("Transpose", perm=[0, 2, 1]).add("MatMul", inputs=["x", "v0"])
    .add("Softmax"),
    "average of more padding": Model(IMAGE).add("AveragePool", kernel_shape=[3, 4], strides=[2, 3], pads=[2, 1, 0, 3]),
    "reflected": Model(IMAGE, opset=19).add("Pad", ints(0, 0, 2, 1, 0, 0, 1, 3), mode="reflect"),
    "rnn": Model([3, 2, 4]).add("RNN", normal(1, 3, 4), normal(1, 3, 3), hidden_size=3, activations=["Relu"]),
    "every second pixel": Model(IMAGE).add("Resize", None, np.array([1, 1, 0.25, 0.5], np.float32), mode="nearest",
                                           coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "slopes of pixels": Model(IMAGE).add("PRelu", normal(3, 9, 8)),
    "by its definition": Model(IMAGE).add("ReduceSumSquare", ints(2, 3)),
    "length 1": Model(IMAGE).add("ReduceL2", ints(1)).add("Clip", np.float32(0.1)).add("Div", inputs=["x", "v1"]),
    "powers": Model([2, 5]).add("Abs").add("Pow", np.float32(-1.5)).add("Log").add("Reciprocal").add("Exp"),
    "sums so far": Model([2, 3, 5]).add("CumSum", np.int64(-2)).add("CumSum", np.int64(2), exclusive=1, reverse=1)
    .add("CumSum", np.int64(1), exclusive=1),
    "products": Model([1, 3, 5]).add("ReduceProd", ints(1, 2)),
    "triangles": Model([2, 4, 5]).add("Trilu", ints(1), upper=0).add("Trilu"),
    "written at places": Model([1, 4, 5]).add("ScatterND", ints([0, 1], [0, -1]), normal(2, 5))
    .add("ScatterElements", ints([[0, -2]]), np.float32([[[3, 4]]]), axis=2),
    "written by others": Model([2, 6]).add("Gather", ints(0, 2, 4), axis=1).add("Transpose").add("Neg", inputs=["x"])
    .add("Transpose").add("ScatterND", inputs=["v3", "i", "v1"], reduction="add"),
    "masked attention": Model([2, 4, 4]).add("Where", inputs=["m", "x", "low"]).add("Softmax").add("IsNaN")
    .add("Where", inputs=["v2", "zero", "v1"]),
    "bounds that are computed": Model([2, 5]).add("Sigmoid").add("Neg").add("Clip", inputs=["x", "v1", "v0"]),
    "whole numbers": Model(IMAGE).add("Mul", np.float32(3)).add("Floor").add("Ceil", inputs=["v0"])
    .add("Round", inputs=["v0"]).add("Sum", inputs=["v1", "v2", "v3"]).add("Mod", np.float32(4), fmod=1),
    "powers of elements": Model([2, 5]).add("Exp").add("Pow", normal(5)).add("Pow", inputs=["v0", "v1"])
    .add("Pow", inputs=["pos", "v2"]).add("Sinh", inputs=["x"]).add("Cosh").add("Sum", inputs=["v3", "v5"]),
    "one or the other": Model([2, 5]).add("Greater", np.float32(0)).add("Less", np.float32(1), inputs=["x"])
    .add("Xor", inputs=["v0", "v1"]).add("Cast", to=TensorProto.FLOAT),
    "sine and cosine": Model(IMAGE).add("Sin").add("Cos", inputs=["x"]).add("Tan", inputs=["v1"])
    .add("Sum", inputs=["v0", "v1", "v2"]),
    "counts": Model([2, 3, 5]).add("Greater", np.float32(0)).add("Cast", to=TensorProto.INT64).add("ReduceSum", ints(2))
    .add("Mul", ints(3)).add("Cast", to=TensorProto.FLOAT),
    "truth of numbers": Model([2, 5]).add("Relu").add("Cast", to=TensorProto.BOOL).add("Cast", to=TensorProto.FLOAT),
    "integers of numbers": Model([2, 5]).add("Mul", np.float32(4)).add("Cast", to=TensorProto.INT32)
    .add("Cast", to=TensorProto.FLOAT),
    "mean of all": Model([2, 3, 4]).add("ReduceMean", keepdims=0).add("Sub", inputs=["x", "v0"]),
    "cubic": Model(IMAGE).add("Resize", None, None, ints(1, 3, 13, 5), mode="cubic", cubic_coeff_a=-0.5,
                              exclude_outside=1),
    "antialias": Model(IMAGE).add("Resize", None, np.array([0.4, 0.7], np.float32), axes=[2, 3], mode="linear",
                                  antialias=1, coordinate_transformation_mode="half_pixel"),
    "linear of channels": Model([1, 4, 3, 2]).add("Resize", None, None, ints(1, 7, 3, 2), mode="linear"),
    "columns": Model([1, 12, 9]).add("Col2Im", ints(5, 5), ints(2, 2), strides=[2, 2], pads=[1, 1, 1, 1]),
    "chosen": Model([2, 5]).add("Compress", np.array([True, False, True, True]), axis=1)
    .add("Compress", np.arange(6) % 3 > 0),
    "norms": Model(IMAGE).add("LpPool", kernel_shape=[3, 2], pads=[1, 0, 1, 1], p=2)
    .add("LpNormalization", p=1, axis=1),
    "linear within": Model(IMAGE).add("Resize", None, None, ints(1, 3, 11, 5), mode="linear", exclude_outside=1),
    "local response": Model(IMAGE).add("LRN", size=2, alpha=0.5, bias=1.5),
    "layer norm written out": layer_norm(),
    "residual": residual(),
    "branch": branch(),
    "flatten by shape": flatten_by_shape(),
}  # fmt: skip


def saved(tmp_path, proto):
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("name", MODELS)
def test_same_as_the_reference_evaluator(name, tmp_path):
    proto = MODELS[name].proto()
    read = {value for node in proto.graph.node for value in node.input}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in NAMED.items() if n in read)
    x = normal(*MODELS[name].shape)
    (expected,) = ReferenceEvaluator(proto, new_ops=OWN_OPERATORS).run(None, {"x": x})
    graph = run_passes(import_model(load_model(saved(tmp_path, proto))))
    got = GraphModule(graph)(torch.from_numpy(x)).numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-4 * max(1, np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_the_evaluator_pools_one_dimension_as_pytorch_does(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, dilation = (int(n) for n in rng.integers((2, 1, 1), (6, 4, 3)))
    stride = stride if seed % 2 else 1
    pad, ceil = int(rng.integers(0, kernel // 2 + 1)), int(rng.integers(2))
    fields = {"kernel_shape": [kernel], "strides": [stride], "dilations": [dilation], "pads": [pad] * 2}
    proto, x = Model([1, 2, 17]).add("MaxPool", ceil_mode=ceil, **fields).proto(), normal(1, 2, 17)
    (got,) = ReferenceEvaluator(proto, new_ops=OWN_OPERATORS).run(None, {"x": x})
    wanted = F.max_pool1d(torch.from_numpy(x), kernel, stride, pad, dilation, bool(ceil)).numpy()
    assert np.array_equal(got, wanted)


def test_a_function_whose_attribute_the_evaluator_cannot_pass_on(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (float[1, 3] x) => (float[1, 3] y) { y = own.Bent<slope = 0.25>(x) }
        <domain: "own", opset_import: ["" : 17]>
        Bent <slope> (x) => (y) { bent = LeakyRelu<alpha: float = @slope>(x) y = Add(bent, x) }"""
    x = normal(1, 3)
    generator = CodeGenerator(load_model(saved(tmp_path, onnx.parser.parse_model(text))), x, config=Config())
    np.testing.assert_allclose(generator.reference().output, np.where(x < 0, 1.25 * x, 2 * x), rtol=1e-6)


def test_the_evaluator_keeps_groups_apart_as_pytorch_does():
    x, w, b = (torch.from_numpy(normal(*shape)) for shape in ((1, 4, 3, 5), (4, 3, 2, 3), (6,)))
    given = {"strides": [2, 1], "pads": [1, 0, 1, 0], "output_padding": [1, 0], "dilations": [2, 1]}
    proto = Model([1, 4, 3, 5]).add("ConvTranspose", w.numpy(), b.numpy(), group=2, **given).proto()
    (got,) = ReferenceEvaluator(proto, new_ops=OWN_OPERATORS).run(None, {"x": x.numpy()})
    wanted = F.conv_transpose2d(x, w, b, (2, 1), (1, 0), (1, 0), 2, (2, 1)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_names_are_those_of_the_nodes_and_fusion_works(tmp_path):
    graph = run_passes(import_model(load_model(saved(tmp_path, residual().proto()))))
    assert [n.name for n in graph.nodes] == ["net_Conv", "net_BatchNormalization", "net_Concat"]
    graph = run_passes(import_model(load_model(saved(tmp_path, residual().proto(["v3"])))))
    (node,) = graph.nodes
    assert node.name == "net_Conv" and node.residual == "before_act"


def test_symbolic_batch_becomes_one_and_several_outputs_are_kept(tmp_path):
    model = Model(["N", 4]).add("Relu").add("Tanh")
    graph = run_passes(import_model(load_model(saved(tmp_path, model.proto(["v0", "v1"])))))
    assert graph.shape(graph.inputs[0]) == (1, 4) and len(graph.outputs) == 2


REFUSED = {
    "unknown operator": (
        Model([1, 4]).add("NonZero"),
        ["layer /net/NonZero: NonZero", "not supported", "docs/operators.md"],
    ),
    "computed weight": (Model([1, 2, 4, 4]).add("Relu").add("Conv", inputs=["x", "v0"]), ["input W is computed"]),
    "nothing left": (Model([1, 4]).add("Tile", np.array([1, 0])), ["layer net_Tile: Tile", "nothing is left"]),
    "both ways before opset 11": (
        Model([1, 1, 4, 8], 10).add("Resize", np.float32([1, 1, 2, 0.5])),
        ["opset 10 cannot be converted to 21 (Resize has scales that are computed, or shrink and stretch at once);"],
    ),
    "the converter's reason": (
        Model([1, 3, 2, 2], 7).add("BatchNormalization", *[positive(3, 2, 2)] * 4, spatial=0),
        ["m.onnx: opset 7 cannot be converted to 21 (Attribute spatial must have value 1);"],
    ),
    "cropped": (
        Model(IMAGE).add(
            "Resize", None, np.array([1, 1, 2, 2], np.float32), coordinate_transformation_mode="tf_crop_and_resize"
        ),
        ["'tf_crop_and_resize'"],
    ),
    "quotient of integers": (
        Model([2, 4]).add("Cast", to=TensorProto.INT32).add("Div", np.int32(2)).add("Cast", to=TensorProto.FLOAT),
        ["Div", "divides integers"],
    ),
    "no fixed shape": (Model([1, "C", 4, 4]).add("Relu"), ["input x of", "[1, 'dynamic', 4, 4]", "--input-shape"]),
    "wrong shapes": (Model([1, 4]).add("Gemm", normal(5, 2)), ["layer /net/Gemm", "does not fit"]),
    "peepholes": (
        Model([2, 1, 3]).add(
            "LSTM", normal(1, 8, 3), normal(1, 8, 2), None, None, None, None, normal(1, 6), hidden_size=2
        ),
        ["layer /net/LSTM: LSTM", "its input P"],
    ),
    "a hint": (Model([1, 4]).add("ArgMax"), ["layer /net/ArgMax: ArgMax", "return the scores"]),
    "another's operator": (Model([1, 4]).add("Gelu", domain="com.microsoft"), ["com.microsoft", "export"]),
    "depth of columns": (Model([1, 8, 2, 2]).add("SpaceToDepth", blocksize=2, mode="CRD"), ["mode", "SpaceToDepth"]),
    "output shape": (
        Model(IMAGE).add("ConvTranspose", normal(3, 2, 3, 3), output_shape=[20, 20]),
        ["/net/ConvTranspose", "output_shape", "output_padding"],
    ),
    "torch's refusal names the node": (
        Model(IMAGE).add("Clip", np.float32(3), np.float32(1)),
        ["layer net_Clip: Clip: min=3.0, max=1.0"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    model, words = REFUSED[name]
    with pytest.raises(HeepgenError) as caught:
        run_passes(import_model(load_model(saved(tmp_path, model.proto()))))
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message, message


def test_damaged_files(tmp_path):
    path = saved(tmp_path, MODELS["conv"].proto())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HeepgenError, match="not a complete ONNX file"):
        load_model(path)
    whole = MODELS["conv"].proto()
    whole.graph.node[0].name = "layer/one"
    path.write_bytes(whole.SerializeToString().replace(b"layer/one", b"layer\xffone"))
    with pytest.raises(HeepgenError, match="a name in it is no text"):
        load_model(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(HeepgenError, match="not a complete ONNX file"):
        load_model(path)


def a_newer_opset(proto):
    proto.opset_import[0].version = defs.onnx_opset_version() + 1


def a_function_of_onnx_itself(proto):
    nodes, opsets = [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("", "Relu", ["a"], ["b"], nodes, opsets))


def a_constant_of_two_graphs(proto):
    """A branch has a constant of the name that another one has outside."""
    branch = helper.make_graph([helper.make_node("Add", ["x", "w"], ["t"])], "b", [], [proto.graph.output[0]])
    branch.output[0].name = "t"
    branch.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "w"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    branches = {"then_branch": branch, "else_branch": branch}
    proto.graph.node.insert(0, helper.make_node("If", ["c"], ["y"], **branches))
    proto.graph.node[1].input[0] = "y"


def a_reason_without_end(proto):
    proto.graph.node[0].input[0] = "x" * 5000


@pytest.mark.parametrize(
    "change, words",
    [
        (a_newer_opset, "is the newest known"),
        (a_function_of_onnx_itself, "in the place of ONNX's operator Relu"),
        (a_constant_of_two_graphs, "has its own w, though"),
        (a_reason_without_end, "is not a complete ONNX file"),
    ],
)
def test_files_that_mean_different_things_to_different_readers(tmp_path, change, words):
    proto = Model([1, 4]).add("Relu").proto()
    change(proto)
    with pytest.raises(HeepgenError, match=words) as caught:
        load_model(saved(tmp_path, proto))
    assert len(str(caught.value)) < 500


def weights(program):
    return [array.numpy() for array in program.state_dict.values()]


def external(tmp_path):
    """A file with its weights in w.bin beside it."""
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(MODELS["conv"].proto(), folder / "m.onnx", save_as_external_data=True, size_threshold=0, location="w.bin")
    return folder / "m.onnx"


def test_external_weights_are_read(tmp_path):
    inside = load_model(saved(tmp_path, MODELS["conv"].proto()))
    for a, b in zip(weights(load_model(external(tmp_path))), weights(inside), strict=True):
        np.testing.assert_array_equal(a, b)


def located(path, **entries):
    """The file at `path` with other entries in the description of its first weight."""
    model = onnx.load(path, load_external_data=False)
    described = {e.key: e.value for e in model.graph.initializer[0].external_data} | entries
    del model.graph.initializer[0].external_data[:]
    for key, value in described.items():
        model.graph.initializer[0].external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("entries", [
    {"location": "../w.bin"}, {"location": "link.bin"}, {"location": "folder/w.bin"}, {"location": "missing.bin"},
    {"location": "fifo"}, {"location": "/etc/hostname"}, {"offset": 1 << 40}, {"offset": -4}, {"length": 1 << 40},
    {"length": 4}, {"offset": "x"}, {"location": ""},
], ids=str)  # fmt: skip
def test_external_weights_stay_in_the_folder_and_in_their_file(tmp_path, entries):
    path = external(tmp_path)
    (tmp_path / "w.bin").write_bytes((path.parent / "w.bin").read_bytes())
    (path.parent / "link.bin").symlink_to(tmp_path / "w.bin")
    (path.parent / "folder").symlink_to(tmp_path)
    os.mkfifo(path.parent / "fifo")
    with pytest.raises(HeepgenError, match="weight c0 cannot be read"):
        load_model(located(path, **entries))


def test_more_external_weights_than_any_memory_holds(tmp_path):
    path = external(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].dims[0] = 1 << 40
    path.write_bytes(model.SerializeToString())
    with pytest.raises(HeepgenError, match="bytes of weights"):
        load_model(path)


BRANCHES = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    net (float[1, 3] x, bool c) => (float[1, 3] y) {
        unread, places = own.Anything(x)
        also_unread = Sin(unread)
        kept = Tanh(x)
        y = If(c)<then_branch = t () => (float[1, 3] u) { u = Mul(kept, k) },
                  else_branch = e () => (float[1, 3] v) { v = Neg(kept) }>
    }"""


def test_weights_of_branches_in_files_beside_it_and_nodes_that_nothing_reads(tmp_path):
    model, x, factors = onnx.parser.parse_model(BRANCHES), normal(1, 3), normal(3)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    (then,) = (a.g for a in model.graph.node[3].attribute if a.name == "then_branch")
    then.initializer.append(numpy_helper.from_array(factors, "k"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="k.bin", size_threshold=0)
    assert (tmp_path / "k.bin").stat().st_size >= factors.nbytes
    got = CodeGenerator(load_model(tmp_path / "m.onnx"), x, config=Config()).reference().output
    np.testing.assert_allclose(got, np.tanh(x) * factors, rtol=1e-4)


def test_an_input_that_nothing_reads_stays_one(tmp_path):
    proto = Model([1, 4]).add("Relu").proto()
    proto.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4]))
    x, y = torch.randn(1, 4), torch.randn(1, 4)
    graph = run_passes(import_model(load_model(saved(tmp_path, proto))))
    assert graph.inputs == ("x", "y")
    torch.testing.assert_close(GraphModule(graph)((x, y)), x.relu())


def test_program_survives_saving_as_an_archive(tmp_path):
    program = load_model(saved(tmp_path, residual().proto(["v4", "v0"])))
    torch.export.save(program, tmp_path / "m.pt2")
    before, after = (run_passes(import_model(p)) for p in (program, load_model(tmp_path / "m.pt2")))
    assert [n.name for n in after.nodes] == [n.name for n in before.nodes]
    x = torch.from_numpy(normal(1, 4, 6, 6))
    for a, b in zip(GraphModule(after)(x), GraphModule(before)(x), strict=True):
        assert torch.equal(a, b)


def test_a_constant_whose_data_do_not_fit_its_shape(tmp_path):
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"])
    weight = onnx.numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    weight.raw_data = weight.raw_data[:-4]
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])],
        [weight],
    )
    (tmp_path / "m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(HeepgenError, match="m.onnx"):
        load_model(tmp_path / "m.onnx")


def stored(program):
    """The network's float graph, as the passes leave it."""
    return GraphModule(run_passes(import_model(program)))


@pytest.mark.parametrize("axis, shape", [(1, (4,)), (0, (1, 4)), (-1, (4,)), (3, (4,)), (0, (1, 4, 1, 1))], ids=str)
def test_broadcasting_before_opset_7_is_laid_along_the_axis(tmp_path, axis, shape):
    """Sizes fit elsewhere too; ONNX's own converter takes some of these for broadcasting from the end."""
    constant, x = normal(*shape), normal(1, 4, 4, 4)
    model = Model([1, 4, 4, 4], opset=6).add("Mul", constant, broadcast=1, axis=axis)
    expected = x * constant.reshape(*shape, *(1,) * (4 - axis % 4 - len(shape)))
    got = stored(load_model(saved(tmp_path, model.proto())))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


SLOPES = np.float32([0.1, 0.5, -0.25])
OLD = {
    "slopes": (Model([1, 3, 2, 3], opset=6).add("PRelu", SLOPES),
               lambda x: np.where(x < 0, x * SLOPES[:, None, None], x)),
    "slopes of vectors": (Model([2, 3], opset=6).add("PRelu", SLOPES), lambda x: np.where(x < 0, x * SLOPES, x)),
    "one slope": (Model([1, 2, 3], opset=1).add("PRelu", SLOPES[:1]), lambda x: np.where(x < 0, x * SLOPES[0], x)),
    "reshape": (Model([1, 2, 2, 2], opset=4).add("Reshape", shape=[1, 8]), lambda x: x.reshape(1, 8)),
    "upsample": (Model([1, 2, 2, 2], opset=7).add("Upsample", mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]),
                 lambda x: x.repeat(2, 2).repeat(3, 3)),
    "resize": (Model([1, 2, 2, 2], opset=10).add("Resize", np.array([1, 1, 2, 2], np.float32), mode="nearest"),
               lambda x: x.repeat(2, 2).repeat(2, 3)),
    "upsample, linear": (Model([1, 1, 1, 3], opset=9).add("Upsample", np.float32([1, 1, 1, 2]), mode="linear"),
                         lambda x: np.stack([x, (x + x[..., [1, 2, 2]]) / 2], -1).reshape(1, 1, 1, 6)),
    "resize, smaller": (Model([1, 1, 1, 8], opset=10).add("Resize", np.float32([1, 1, 1, 0.6])),
                        lambda x: x[..., [0, 2, 4, 5]]),
    "resize, larger": (Model([1, 1, 1, 4], opset=10).add("Resize", np.float32([1, 1, 1, 1.5])),
                       lambda x: x[..., [0, 0, 1, 2, 2, 3]]),
    "clip": (Model([2, 3], opset=6).add("Clip", max=0.25), lambda x: np.minimum(x, np.float32(0.25))),
    "softmax": (Model([2, 3, 1, 1], opset=9).add("Softmax", axis=1),
                lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_old_opsets(tmp_path, name):
    model, right = OLD[name]
    x = normal(*model.shape)
    got = stored(load_model(saved(tmp_path, model.add("Neg").proto())))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, -right(x), rtol=1e-5)


def test_open_sizes_are_given(tmp_path, caplog):
    path = saved(tmp_path, Model(["N", 3, "H", "W"]).add("GlobalAveragePool").proto())
    for given, batch, shape in [((3, 5, 6), 1, (1, 3, 5, 6)), ((3, 5, 6), 2, (2, 3, 5, 6)),
                                ((4, 3, 2, 2), 1, (4, 3, 2, 2))]:  # fmt: skip
        graph = import_model(load_model(path, input_shape=given, batch=batch))
        assert graph.shape(graph.inputs[0]) == shape
    assert not caplog.records
    for given in (None, (4, 5, 6), (3, 5), (1, 1, 3, 5, 6)):
        with pytest.raises(HeepgenError, match="--input-shape"):
            load_model(path, input_shape=given)
    fixed = saved(tmp_path, Model([1, 3, 4, 4]).add("Relu").proto())
    with pytest.raises(HeepgenError, match=r"--input-shape \[1, 3, 5, 5\]: input x of .* for \[1, 3, 4, 4\]"):
        load_model(fixed, input_shape=(3, 5, 5))
    with pytest.raises(HeepgenError, match="--batch 2"):
        load_model(fixed, batch=2)


def test_a_dynamic_batch_is_told(tmp_path, caplog):
    load_model(saved(tmp_path, Model(["N", 4]).add("Relu").proto()))
    (record,) = caplog.records
    assert "the batch is dynamic, 1 is compiled" in record.getMessage()


UNKNOWN = {
    "attribute": (Model(IMAGE).add("Resize", None, None, ints(1, 3, 18, 16), mode="nearest", exclude_outside=1),
                  ["/net/Resize", "exclude_outside=1"]),
    "value": (Model(IMAGE).add("Resize", None, None, ints(18, 16), mode="nearest", axes=[2, 3],
                               keep_aspect_ratio_policy="not_larger"), ["keep_aspect_ratio_policy='not_larger'"]),
    "input": (Model(IMAGE).add("Dropout", np.float32(0.5), np.array(True)), ["training_mode"]),
    "output": (Model(IMAGE).add("Relu"), ["Indices"]),
    "not ONNX's": (Model(IMAGE).add("Relu", axis=1), ["axis", "Relu"]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_understood_is_refused_by_name(tmp_path, name):
    model, words = UNKNOWN[name]
    proto = model.proto()
    if name == "output":
        proto.graph.node.append(helper.make_node("MaxPool", ["v0"], ["a", "b"], kernel_shape=[2, 2]))
        proto.graph.output[0].name = "b"
    with pytest.raises(HeepgenError) as caught:
        load_model(saved(tmp_path, proto))
    assert all(word in str(caught.value) for word in words) and len(str(caught.value)) < 300


def test_a_handler_that_fails_is_a_refusal_by_name(tmp_path, monkeypatch):
    def broken(node):
        raise KeyError("oops")

    monkeypatch.setitem(HANDLERS, "Relu", replace(HANDLERS["Relu"], build=broken))
    with pytest.raises(HeepgenError, match="layer /net/Relu: Relu: "):
        load_model(saved(tmp_path, Model(IMAGE).add("Relu").proto()))


@pytest.mark.parametrize("op, wrong", [
    ("Conv", lambda x, w, b=None: F.conv2d(x, w * 1.001, b, padding=1)), ("Relu", lambda x: F.relu(x) + 0.001),
    ("Concat", lambda a, b: torch.cat([b, a], 1)),
])  # fmt: skip
def test_wrong_imports_are_noticed_by_the_layers_name(tmp_path, monkeypatch, op, wrong):
    model = residual()
    right = CodeGenerator(load_model(saved(tmp_path, model.proto())), normal(1, 4, 6, 6))
    assert right.check.source == "ONNX" and right.check.tensors >= 6 and right.check.largest < 1e-5
    monkeypatch.setitem(HANDLERS, op, replace(HANDLERS[op], build=lambda node: wrong))
    with pytest.raises(HeepgenError, match=f"layer net_{op}.*: heepgen's import computes something else than ONNX"):
        CodeGenerator(load_model(saved(tmp_path, model.proto())), normal(1, 4, 6, 6))


def recurrent(tmp_path):
    """h_out = tanh(x W + h U), y = 2 h_out, of inputs that are called what Python cannot."""
    nodes = [
        helper.make_node("MatMul", ["in::x", "w"], ["a"]),
        helper.make_node("MatMul", ["self", "u"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Tanh", ["c"], ["h_out"]),
        helper.make_node("Add", ["h_out", "h_out"], ["y"]),
    ]
    shapes = {"self": (1, 3), "in::x": (1, 4), "y": None, "h_out": None}
    starts, ends = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names]
        for names in (("self", "in::x"), ("y", "h_out"))
    )
    rng = np.random.default_rng(8)
    drawn = {"w": rng.normal(size=(4, 3)), "u": rng.normal(size=(3, 3))}
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in drawn.items()]
    graph = helper.make_graph(nodes, "net", starts, ends, weights)
    return saved(tmp_path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


def test_several_inputs_and_state(tmp_path):
    path = recurrent(tmp_path)
    frames = np.random.default_rng(9).normal(size=(2, 1, 4)).astype(np.float32)
    h, reference = np.zeros((1, 3), np.float32), ReferenceEvaluator(onnx.load(path))
    wanted = []
    for frame in frames:
        y, h = reference.run(None, {"self": h, "in::x": frame})
        wanted.append(y)
    config = Config(4, 4)
    first = torch.zeros(1, 3), torch.from_numpy(frames[0])
    generator = CodeGenerator(load_model(path), first, config=config)
    assert generator.lowered.inputs == ("input_self", "in__x")
    outputs = generator.target.run(generator.program(), tuple(x.numpy() for x in first)).outputs
    np.testing.assert_allclose(outputs[0], wanted[0], atol=0.02)
    streamed = CodeGenerator(
        load_model(path), torch.from_numpy(frames[0]), config=config, state={"input_self": "h_out"}
    )
    for want, got in zip(wanted, streamed.steps([(frame,) for frame in frames]), strict=True):
        np.testing.assert_allclose(got.output, want, atol=0.05)


def test_one_shape_does_not_do_for_several_inputs(tmp_path):
    with pytest.raises(HeepgenError, match="--input-shape is of one input"):
        load_model(recurrent(tmp_path), input_shape=(1, 4))
