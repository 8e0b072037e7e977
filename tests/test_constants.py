# SPDX-License-Identifier: Apache-2.0
"""What a model computes of constants alone, whatever the operator, is a constant, the one its source computes."""

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.models.fake_quant import GraphModule
from hls.errors import HeepgenError
from tests.imported import assert_imported_as_it_is

RNG = np.random.default_rng(71)


class Beside(nn.Module):
    """A layer, and beside it `function` of a weight and of the input's shape."""

    def __init__(self, function):
        super().__init__()
        self.function, self.layer = function, nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.from_numpy(RNG.normal(size=(4, 4))).float())

    def forward(self, x):
        return self.layer(x) + self.function(self.weight, x)


def written_in_place(w, x):
    table = torch.zeros(x.shape[1])
    table[0::2] = torch.arange(2.0).sin()
    table[1::2] = torch.arange(2.0).cos()
    return table


FUNCTIONS = {
    "written in place": written_in_place,
    "zeros like the input": lambda w, x: torch.zeros_like(x),
    "new zeros": lambda w, x: x.new_full((4,), 0.25),
    "sort": lambda w, x: w.sort(0, descending=True)[0][1],
    "topk": lambda w, x: w.topk(2, 0)[0][1],
    "cumsum": lambda w, x: w.cumsum(0)[2],
    "argmax": lambda w, x: w.argmax(0).float(),
    "singular values": lambda w, x: torch.linalg.svd(w)[1],
    "transform": lambda w, x: torch.fft.rfft(w[0], n=6).abs(),
    "scatter": lambda w, x: torch.zeros(4, 4).scatter(0, torch.tensor([[0, 1, 2, 0]]), w)[0],
    "embedding": lambda w, x: F.embedding(torch.tensor(2), w),
    "bicubic": lambda w, x: F.interpolate(w[None, None, :2, :2], scale_factor=2, mode="bicubic")[0, 0, 1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("saved", [False, True], ids=["module", "pt2"])
def test_operators_of_pytorch(name, saved, tmp_path):
    model, x = Beside(FUNCTIONS[name]).eval(), torch.from_numpy(RNG.normal(size=(1, 4))).float()
    assert_imported_as_it_is(model, x, tmp_path if saved else None)


@pytest.mark.parametrize("function", [lambda w, x: torch.rand(4), lambda w, x: w[0] * torch.randn_like(w[1])])
def test_what_is_random_is_refused(function, tmp_path):
    model, x = Beside(function).eval(), torch.zeros(1, 4)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "net.pt2")
    for read in (lambda: model, lambda: load_model(tmp_path / "net.pt2")):
        with pytest.raises(HeepgenError, match="make it a buffer of the model, or an input"):
            import_model(read(), x)


def beside(nodes, constants, shape, opset=18):
    """A model: input + the last node's output, which is computed of constants."""
    nodes = [*nodes, helper.make_node("Add", ["x", nodes[-1].output[0]], ["y"])]
    start = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "beside", [start], [end], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def node(op, *inputs, output="v", **attributes):
    return helper.make_node(op, list(inputs), [output], **attributes)


COUNT = {"a": np.array([0.0], np.float32), "b": np.array([4.0], np.float32), "c": np.array([1.0], np.float32)}
MODELS = {
    "GatherElements": beside(
        [node("GatherElements", "w", "k")], {"w": normal(3, 4), "k": np.array([[0, 2, 1, 1]])}, [1, 4]
    ),
    "CumSum": beside([node("CumSum", "w", "k")], {"w": normal(2, 4), "k": np.array(1)}, [2, 4]),
    "LpNormalization": beside([node("LpNormalization", "w")], {"w": normal(2, 4)}, [2, 4]),
    "GlobalMaxPool": beside([node("GlobalMaxPool", "w")], {"w": normal(1, 4, 5)}, [1, 4, 1]),
    "ReduceLogSumExp": beside([node("ReduceLogSumExp", "w", "k")], {"w": normal(2, 4), "k": np.array([0])}, [1, 4]),
    "Conv": beside([node("Conv", "x0", "w")], {"x0": normal(1, 2, 6), "w": normal(3, 2, 3)}, [1, 3, 4]),
    "Hardmax": beside([node("Hardmax", "w")], {"w": normal(2, 4)}, [2, 4]),
    "Range of vectors of one": beside([node("Range", "a", "b", "c")], COUNT, [1, 4]),
    "EyeLike of the input": beside([node("EyeLike", "x")], {}, [4, 4]),
}


@pytest.mark.parametrize("name", MODELS)
def test_operators_of_onnx(name, tmp_path):
    model = MODELS[name]
    x = normal(*(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim))
    onnx.save(model, tmp_path / "net.onnx")
    with torch.no_grad():
        found = GraphModule(import_model(load_model(tmp_path / "net.onnx")))(torch.from_numpy(x))
    np.testing.assert_allclose(found, x + constant_of(model), rtol=1e-5, atol=1e-5)


def constant_of(model):
    """What the model adds to its input, by ONNX's evaluator."""
    if model.graph.node[0].op_type == "GlobalMaxPool":  # which that has for images only
        return numpy_helper.to_array(model.graph.initializer[0]).max(2, keepdims=True)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return ReferenceEvaluator(model).run(None, {"x": np.zeros(shape, np.float32)})[0]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("RandomNormal", shape=[1, 4])],
        [node("Constant", value_floats=[1.0] * 4, output="c"), node("Dropout", "c", "r", "t")],
    ],
    ids=["RandomNormal", "Dropout"],
)
def test_what_is_random_in_onnx_is_refused(nodes, tmp_path):
    onnx.save(beside(nodes, {"r": np.float32(0.5), "t": np.array(True)}, [1, 4]), tmp_path / "net.onnx")
    with pytest.raises(HeepgenError, match="RandomNormal|Dropout") as refusal:
        load_model(tmp_path / "net.onnx")
    assert "\n" not in str(refusal.value)
