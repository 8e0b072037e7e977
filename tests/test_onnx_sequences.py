# SPDX-License-Identifier: Apache-2.0
"""ONNX's sequences of tensors, as exporters write split, chunk and unbind, against ONNX's own evaluator."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from firmware_gen import CodeGenerator
from firmware_gen.frontend.loader import load_model
from hls.errors import HeepgenError

node = helper.make_node
AT = [node("SequenceAt", ["q", "i"], ["a"]), node("SequenceAt", ["q", "j"], ["b"]), node("Mul", ["a", "b"], ["y"])]
CASES = {
    "parts of a size": ([node("SplitToSequence", ["x", "s"], ["q"], axis=1), *AT], {"s": 2, "i": 0, "j": -1}),
    "sizes": ([node("SplitToSequence", ["x", "s"], ["q"], axis=1), *AT], {"s": [2, 1, 2, 1], "i": 1, "j": 3}),
    "each, without its axis": ([node("SplitToSequence", ["x"], ["q"], axis=1, keepdims=0), *AT], {"i": 4, "j": -6}),
    "each": ([node("SplitToSequence", ["x"], ["q"], axis=-1), *AT], {"i": 0, "j": 3}),
    "uneven parts": ([node("SplitToSequence", ["x", "s"], ["q"], axis=1), *AT], {"s": 4, "i": 1, "j": 1}),
    "changed": (
        [
            node("SplitToSequence", ["x"], ["p"], axis=1, keepdims=0),
            node("SequenceAt", ["p", "i"], ["a"]),
            node("Relu", ["a"], ["r"]),
            node("SequenceInsert", ["p", "r", "j"], ["q"]),
            node("SequenceErase", ["q"], ["t"]),
            node("ConcatFromSequence", ["t"], ["y"], axis=1, new_axis=1),
        ],
        {"i": 1, "j": -2},
    ),
    "built": (
        [
            node("Relu", ["x"], ["r"]),
            node("SequenceEmpty", [], ["e"]),
            node("SequenceInsert", ["e", "r"], ["o"]),
            node("SequenceInsert", ["o", "x", "i"], ["p"]),
            node("SequenceConstruct", ["x", "r"], ["q"]),
            node("ConcatFromSequence", ["p"], ["a"], axis=2),
            node("ConcatFromSequence", ["q"], ["b"], axis=2),
            node("Mul", ["a", "b"], ["y"]),
        ],
        {"i": 0},
    ),
}
SPLIT = [node("SplitToSequence", ["x", "s"], ["q"], axis=1), *AT]
BAD = {
    "its position is \\[7\\], of 2 tensors": (SPLIT, {"s": 4, "i": 7, "j": 0}),
    "its parts have \\[4, 1\\] of 6": (SPLIT, {"s": [4, 1], "i": 0, "j": 0}),
    "its parts have 0": (SPLIT, {"s": 0, "i": 0, "j": 0}),
    "output y is a sequence": ([node("SplitToSequence", ["x"], ["y"], axis=1)], {}),
}


def written(nodes, constants, path):
    ends = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 4]), onnx.ValueInfoProto(name="y")
    arrays = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return model


@pytest.mark.parametrize("name", CASES)
def test_sequences_are_the_tensors_in_them(name, tmp_path):
    model = written(*CASES[name], tmp_path / "net.onnx")
    x = np.random.default_rng(1).normal(size=(1, 6, 4)).astype(np.float32)
    got = CodeGenerator(load_model(tmp_path / "net.onnx"), x).reference().output
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert np.array_equal(got, want)


@pytest.mark.parametrize("places", [[[0, 1]], [[0, -2], [0, 0], [0, 0]], [[[0, 5, 1]], [[-1, 0, -1]]], [[0], [0]]])
def test_gather_nd_takes_constant_places(places, tmp_path):
    nodes = [node("Relu", ["x"], ["r"]), node("GatherND", ["r", "p"], ["y"])]
    model = written(nodes, {"p": places}, tmp_path / "net.onnx")
    x = np.random.default_rng(2).normal(size=(1, 6, 4)).astype(np.float32)
    got = CodeGenerator(load_model(tmp_path / "net.onnx"), x).reference().output
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert np.array_equal(got, want)


@pytest.mark.parametrize("message", BAD)
def test_what_is_no_sequence_of_known_parts_is_refused(message, tmp_path):
    written(*BAD[message], tmp_path / "net.onnx")
    with pytest.raises(HeepgenError, match=message):
        load_model(tmp_path / "net.onnx")
