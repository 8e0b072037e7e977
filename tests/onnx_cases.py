# SPDX-License-Identifier: Apache-2.0
"""ONNX's own tests of single nodes, as networks with one input: the others become initializers.

python -m tests.onnx_cases [OPERATOR ...]     writes docs/operators.json again, of all operators or of these
"""

import functools
import importlib
import json
import keyword
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case import node as tests_of_onnx

from firmware_gen import CodeGenerator
from firmware_gen.frontend.loader import load_model
from firmware_gen.frontend.onnx.operators import HANDLERS
from firmware_gen.models.fake_quant import GraphModule
from hls.errors import HeepgenError
from tests.random_networks import outputs

OUTCOMES = Path(__file__).resolve().parent.parent / "docs" / "operators.json"
"""By operator, how each of ONNX's own tests ends: "passed" or "refused"."""
FORMS = ("as it is", "dynamic", "careless")
BOUND = 2.0**-14
"""Of an output of the bit-exact model against float64 with the same weights, in units of the largest (at least 1)."""
FEW_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}
"""Tests of ONNX whose expected numbers are printed to few digits."""


@functools.cache
def cases(op: str) -> dict[str, object]:
    """ONNX's tests of an operator, by name; not those of operators that are written as functions of others."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        module = re.sub("(?<=^batch)(?=n)|(?<=^instance)(?=n)|(?=orequal$)|(?=equal$)(?<=or)", "_", op.lower())
        importlib.import_module(f"{tests_of_onnx.__name__}.{module}{'_' * keyword.iskeyword(module)}")
    return {case.name: case for case in tests_of_onnx._NodeTestCases
            if "_expanded" not in case.name and op in {n.op_type for n in case.model.graph.node}}  # fmt: skip


@functools.cache
def others() -> list[object]:
    """ONNX's tests that are in no list of an operator: those of operators without a handler, and functions written
    out. Not those that take nothing, or sequences."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        every = tests_of_onnx.collect_testcases(None)
    listed = {name for found in json.loads(OUTCOMES.read_text()).values() for name in found}
    return [case for case in every if case.name not in listed and case.data_sets[0][0]
            and all(isinstance(x, np.ndarray | np.generic) for x in case.data_sets[0][0])]  # fmt: skip


def network(case) -> tuple[onnx.ModelProto, np.ndarray, list[np.ndarray]]:
    """Model, input and expected outputs; the first float32 input stays, or the first of all."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, expected = case.data_sets[0]
    kinds = [i.type.tensor_type.elem_type for i in model.graph.input]
    kept = kinds.index(TensorProto.FLOAT) if TensorProto.FLOAT in kinds else 0
    for index, (value, array) in enumerate(zip(model.graph.input, inputs, strict=False)):
        if index != kept and isinstance(array, np.ndarray | np.generic):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    return model, np.asarray(inputs[kept]), list(expected)


def written(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """The model as another exporter would write it: sizes open, or without shapes and of an old IR version."""
    if form == "dynamic":
        for value in (*model.graph.input, *model.graph.output):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                dim.dim_param = f"{value.name}_{axis}"
    if form == "careless":
        model.ir_version = 3
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        unlisted = {t.name for t in model.graph.initializer}
        kept_inputs = [i for i in model.graph.input if i.name not in unlisted]
        del model.graph.input[:]
        model.graph.input.extend(kept_inputs)
    return model


def outcome(case, folder: Path, form: str = FORMS[0]) -> str:
    """ "passed", or the sentence of the refusal; AssertionError where a number is wrong.

    The import must equal the expected output, and the bit-exact model the quantised network in float64.
    """
    model, x, expected = network(case)
    path = folder / "case.onnx"
    onnx.save(written(model, form), path)
    try:
        program = load_model(path, input_shape=x.shape if form == "dynamic" else None)
        generator = CodeGenerator(program, x)
        result = generator.reference().outputs
    except HeepgenError as error:
        return str(error)
    with torch.no_grad():
        imported = outputs(GraphModule(generator.lowered)(torch.from_numpy(x)))
        exact = outputs(generator.quantized_model().double()(torch.from_numpy(x).double()))
    for got, wanted, bits, double in zip(imported, expected, result, exact, strict=True):
        assert got.shape == (wanted.shape or (1,)) == bits.shape
        bound = FEW_DIGITS.get(case.name, 1e-5)
        np.testing.assert_allclose(got, wanted, rtol=bound, atol=bound * max(1, np.abs(wanted).max()))
        np.testing.assert_allclose(bits, double, rtol=0, atol=BOUND * max(1, np.abs(double.numpy()).max()))
    return "passed"


def outcomes(folder: Path, ops: Iterable[str]) -> dict[str, dict[str, str]]:
    """How every test of the operators ends."""
    return {op: {name: "passed" if outcome(case, folder) == "passed" else "refused"
                 for name, case in sorted(cases(op).items())} for op in ops}  # fmt: skip


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        known = json.loads(OUTCOMES.read_text()) | outcomes(Path(folder), sys.argv[1:] or HANDLERS)
        OUTCOMES.write_text(json.dumps({op: known[op] for op in sorted(HANDLERS)}, indent=1) + "\n")
