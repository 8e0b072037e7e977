"""ONNX's own tests of single nodes, as networks with one input: the others become initializers."""

import functools
import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from firmware_gen.onnx.operators import FOLDABLE, HANDLERS, OF_SHAPE

KNOWN = HANDLERS.keys() | FOLDABLE | OF_SHAPE


@functools.cache
def cases() -> dict[str, object]:
    """By name, those of operators that have a handler."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    operators = {case.name: {n.op_type for n in case.model.graph.node} for case in found}
    claimed = {name for name, used in operators.items() if used & HANDLERS.keys() and used <= KNOWN}
    return {case.name: case for case in found if case.name in claimed}


def network(case) -> tuple[onnx.ModelProto, np.ndarray, list[np.ndarray]]:
    """Model, input and expected outputs; the first float32 input stays, or the first of all."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    names = [i.name for i in model.graph.input]
    floats = [i for i, v in enumerate(model.graph.input) if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    kept = floats[0] if floats else 0
    given = dict(zip(names, inputs, strict=False))
    for name, array in given.items():
        if name != names[kept] and isinstance(array, np.ndarray | np.generic):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return model, np.asarray(inputs[kept]), list(outputs)
