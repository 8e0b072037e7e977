# SPDX-License-Identifier: Apache-2.0
"""Random single nodes of ONNX, rarely used attributes and old opsets included, against ONNX's reference evaluator."""

import math

import numpy as np
import onnx
import torch
from onnx import AttributeProto, TensorProto, defs, helper, numpy_helper, printer
from onnx.reference import ReferenceEvaluator

from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.frontend.onnx.evaluator import OWN_OPERATORS
from firmware_gen.frontend.onnx.operators import HANDLERS
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes
from hls.errors import HeepgenError
from tests.random_networks import outputs

NEWEST = defs.onnx_opset_version()
WRONG_BEFORE = {"BatchNormalization": 14, "Softmax": 13, "LogSoftmax": 13, "Resize": 11, "AveragePool": 7}
"""Opsets in which ONNX's evaluator knows an operator as it was later; onnxruntime has it right."""
STRINGS = (
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "nearest",
    "linear",
    "cubic",
    "half_pixel",
    "asymmetric",
    "align_corners",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "floor",
    "ceil",
    "round_prefer_ceil",
    "stretch",
    "not_larger",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "DCR",
    "CRD",
)


class Draw:
    """Random values; `constants` collects what the node reads beside the input."""

    def __init__(self, rng: np.random.Generator, opset: int):
        self.rng, self.opset, self.constants = rng, opset, []

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def ints(self, count: int, low: int, high: int) -> list[int]:
        return [self.whole(low, high) for _ in range(count)]

    def pick(self, *choices):
        return choices[self.whole(0, len(choices) - 1)]

    def some(self, **attributes) -> dict:
        """Each of them, or ONNX's default for it."""
        return {name: value for name, value in attributes.items() if self.rng.random() < 0.6}

    def floats(self, *shape: int) -> str:
        return self._add(self.rng.normal(size=shape).astype(np.float32))

    def zeros(self, *shape: int) -> str:
        return self._add(np.zeros(shape, np.float32))

    def positive(self, *shape: int) -> str:
        return self._add(self.rng.uniform(0.5, 2, shape).astype(np.float32))

    def tensor(self, values, dtype=np.int64) -> str:
        return self._add(np.array(values, dtype))

    def shape(self, rank: int) -> list[int]:
        return [self.whole(1, 2), *self.ints(rank - 1, 1, 7)]

    def _add(self, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return self.constants[-1].name


def window(d: Draw, rank: int) -> dict:
    kernel = d.ints(rank, 1, 4)
    pads = [d.whole(0, k) for k in kernel] + [d.whole(0, k) for k in kernel]
    padding = d.some(pads=pads) if d.rng.random() < 0.7 else {"auto_pad": d.pick("SAME_UPPER", "SAME_LOWER", "VALID")}
    return {"kernel_shape": kernel} | padding | d.some(strides=d.ints(rank, 1, 3), dilations=d.ints(rank, 1, 2))


def conv(d: Draw):
    shape, group = d.shape(d.pick(3, 4)), d.pick(1, 1, 2)
    shape[1] *= group
    attributes = window(d, len(shape) - 2)
    weight = d.floats(group * d.whole(1, 3), shape[1] // group, *attributes["kernel_shape"])
    return shape, ["x", weight], attributes | {"group": group}


def conv_transpose(d: Draw):
    shape, group = d.shape(d.pick(3, 4)), d.pick(1, 1, 2)
    shape[1] *= group
    attributes = window(d, len(shape) - 2) | d.some(output_padding=d.ints(len(shape) - 2, 0, 1))
    if d.rng.random() < 0.2:
        attributes["output_shape"] = d.ints(len(shape) - 2, 2, 12)
    return shape, ["x", d.floats(shape[1], d.whole(1, 3), *attributes["kernel_shape"])], attributes | {"group": group}


def pool(d: Draw):
    shape = d.shape(d.pick(3, 4))
    return shape, ["x"], window(d, len(shape) - 2) | d.some(ceil_mode=1, count_include_pad=1)


def gemm(d: Draw):
    m, k, n = d.whole(1, 3), d.whole(1, 6), d.whole(1, 6)
    a, b = d.some(transA=1), d.some(transB=1)
    c = [d.floats(*d.pick((), (1,), (n,), (1, n), (m, n), (m, 1)))] if d.rng.random() < 0.7 else []
    weight = d.floats(n, k) if b else d.floats(k, n)
    return [k, m] if a else [m, k], ["x", weight, *c], a | b | d.some(alpha=0.5, beta=2.0)


def matmul(d: Draw):
    shape = d.shape(d.whole(1, 4))
    return shape, ["x", d.floats(*d.pick((shape[-1],), (shape[-1], 3), (1, shape[-1], 2), (2, shape[-1], 2)))], {}


def batch_norm(d: Draw):
    shape = d.shape(d.whole(2, 4))
    c = shape[1]
    return shape, ["x", d.floats(c), d.floats(c), d.floats(c), d.positive(c)], d.some(epsilon=0.1, momentum=0.5)


def binary(d: Draw):
    shape = d.shape(d.whole(1, 4))
    other = [d.pick(1, n) for n in shape][d.whole(0, len(shape)) :]
    operands = ["x", d.positive(*other)]
    return shape, operands if d.rng.random() < 0.7 else operands[::-1], {}


def variadic(d: Draw):
    shape = d.shape(d.whole(1, 4))
    return shape, ["x", *(d.pick("x", d.floats(), d.floats(1)) for _ in range(d.whole(0, 2)))], {}


def reduce(d: Draw):
    shape = d.shape(d.whole(2, 4))
    axes = sorted({d.whole(-2, len(shape) - 1) for _ in range(d.whole(1, 2))})
    return shape, ["x", d.tensor(axes)] if d.rng.random() < 0.8 else ["x"], d.some(keepdims=0, noop_with_empty_axes=1)


def resize(d: Draw):
    shape = d.shape(4)
    factors = [1, 1, d.pick(1, 2, 3), d.pick(1, 2, 1.5)]
    by_size = d.rng.random() < 0.5
    sizes = d.tensor([int(n * f) for n, f in zip(shape, factors, strict=True)]) if by_size else ""
    scales = "" if by_size else d.tensor(factors, np.float32)
    return (
        shape,
        ["x", "", scales, *([sizes] if by_size else [])],
        d.some(
            mode=d.pick("nearest", "nearest", "linear"),
            nearest_mode=d.pick("floor", "ceil", "round_prefer_ceil"),
            coordinate_transformation_mode=d.pick("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"),
        ),
    )


def slices(d: Draw):
    shape = d.shape(d.whole(2, 4))
    axes = sorted({d.whole(0, len(shape) - 1) for _ in range(2)})
    starts, ends = d.ints(len(axes), -3, 3), d.ints(len(axes), -2, 9)
    steps = [d.tensor([d.pick(1, 1, 2, -1) for _ in axes])] if d.rng.random() < 0.5 else []
    return shape, ["x", d.tensor(starts), d.tensor(ends), d.tensor(axes), *steps], {}


def pad(d: Draw):
    shape = d.shape(d.whole(2, 4))
    axes = [d.tensor(range(len(shape) - 1, 1, -1))] if len(shape) > 2 and d.rng.random() < 0.4 else []
    amounts = d.ints(2 * (len(shape) - 2 if axes else len(shape)), 0, 2)
    if not axes:
        amounts = [0 if i % len(shape) < 2 and d.rng.random() < 0.9 else a for i, a in enumerate(amounts)]
    value = d.floats() if axes or d.rng.random() < 0.5 else ""
    return (
        shape,
        ["x", d.tensor(amounts), *([value] if value else []), *axes],
        d.some(mode=d.pick("constant", "reflect", "edge")),
    )


def reshape(d: Draw):
    shape = d.shape(d.whole(2, 4))
    return shape, ["x", d.tensor(d.pick([0, -1], [-1], [1, *shape], [math.prod(shape)], [-1, shape[-1]], shape))], {}


def squeeze(d: Draw):
    shape = [d.whole(1, 2), d.pick(1, 3), d.pick(1, 1, 4), d.pick(1, 2)]
    axes = [i for i, n in enumerate(shape) if n == 1 and d.rng.random() < 0.8]
    return shape, ["x", d.tensor([a - d.pick(0, 4) for a in axes])] if axes else ["x"], {}


def split(d: Draw):
    shape, axis = d.shape(d.whole(2, 4)), d.whole(1, 1)
    shape[axis] = d.whole(2, 6)
    first = d.whole(1, shape[axis] - 1)
    return shape, ["x", d.tensor([first, shape[axis] - first])], {"axis": d.pick(axis, axis - len(shape))}


def plain(d: Draw):
    return d.shape(d.whole(1, 4)), ["x"], {}


def of_axis(d: Draw):
    shape = d.shape(d.whole(2, 4))
    return shape, ["x"], d.some(axis=d.whole(-len(shape), len(shape) - 1))


def blocks(d: Draw):
    block = d.whole(1, 3)
    return [1, d.whole(1, 3) * block**2, 2 * block, 3 * block], ["x"], {"blocksize": block} | d.some(mode="CRD")


def concat(d: Draw):
    shape = d.shape(d.whole(1, 4))
    return shape, ["x"] * d.whole(1, 3), {"axis": d.whole(-len(shape), len(shape) - 1)}


def prelu(d: Draw):
    shape = d.shape(4)
    return shape, ["x", d.positive(*d.pick((1,), (), (shape[1], 1, 1), (shape[3],), (1, 1, 1, 1)))], {}


def tile(d: Draw):
    shape = d.shape(d.whole(2, 4))
    return shape, ["x", d.tensor([d.pick(1, 1, 2, 3) if axis else 1 for axis in range(len(shape))])], {}


def gather(d: Draw):
    shape, axis = d.shape(d.whole(2, 4)), d.whole(1, 1)
    size = shape[axis]
    some = d.pick(d.whole(-size, size - 1), list(range(0, size, d.whole(1, 2))), d.ints(d.whole(1, 4), -size, size - 1))
    return shape, ["x", d.tensor(some)], {"axis": d.pick(axis, axis - len(shape))}


def recurrent(gates: int):
    def make(d: Draw):
        shape, size, direction = d.ints(3, 1, 4), d.whole(1, 4), d.pick("forward", "reverse", "bidirectional")
        count, inputs, attributes = 1 + (direction == "bidirectional"), shape[2], d.some(layout=1)
        batch = shape[0 if attributes else 1]
        weights = [d.floats(count, gates * size, inputs), d.floats(count, gates * size, size)]
        bias = d.floats(count, 2 * gates * size) if d.rng.random() < 0.7 else ""
        first = (batch, count, size) if attributes else (count, batch, size)
        states = [d.zeros(*first) for _ in range(1 + (gates == 4))] if d.rng.random() < 0.4 else []
        reset = {"linear_before_reset": 1} if gates == 3 and d.rng.random() < 0.8 else {}
        rest = [bias, "", *states] if states else [bias] if bias else []
        return shape, ["x", *weights, *rest], {"hidden_size": size, "direction": direction} | attributes | reset

    return make


MAKERS = {
    "Conv": conv, "ConvTranspose": conv_transpose, "MaxPool": pool, "AveragePool": pool, "Gemm": gemm, "MatMul": matmul,
    "BatchNormalization": batch_norm, "Resize": resize, "Slice": slices, "Pad": pad, "Reshape": reshape,
    "Tile": tile, "Gather": gather, "LSTM": recurrent(4), "GRU": recurrent(3), "RNN": recurrent(1),
    "Squeeze": squeeze, "Split": split, "Concat": concat, "PRelu": prelu, "DepthToSpace": blocks,
    "SpaceToDepth": blocks, **dict.fromkeys(("Add", "Sub", "Mul", "Div"), binary),
    **dict.fromkeys(("Max", "Min", "Sum", "Mean"), variadic),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Flatten"), of_axis),
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh", "Neg", "HardSwish", "GlobalAveragePool", "GlobalMaxPool", "Transpose",
                     "Identity", "Dropout", "Swish", "LeakyRelu", "HardSigmoid", "Cast", "Clip"), plain),
}  # fmt: skip


def model(rng: np.random.Generator) -> tuple[onnx.ModelProto, list[int]]:
    """A node of a random opset, followed by an addition where it would return its input."""
    d = Draw(rng, 0)
    op = d.pick(*MAKERS)
    oldest = min(s.since_version for s in defs.get_all_schemas_with_history() if s.name == op and s.domain == "")
    opset = d.whole(max(oldest, WRONG_BEFORE.get(op, 7)), NEWEST)
    schema = defs.get_schema(op, opset)
    shape, inputs, attributes = MAKERS[op](d)
    attributes = {name: value for name, value in attributes.items() if name in schema.attributes}
    inputs, attributes = as_attributes(d, schema, inputs, attributes)
    attributes |= {name: anything(d, attribute.type) for name, attribute in schema.attributes.items()
                   if name not in attributes and (attribute.required or rng.random() < 0.04)}  # fmt: skip
    count = 2 if op == "Split" else 1
    nodes = [helper.make_node(op, inputs, [f"y{i}" for i in range(count)], **attributes)]
    nodes += [helper.make_node("Neg", [f"y{i}"], [f"z{i}"]) for i in range(count)]
    ends = [helper.make_tensor_value_info(f"z{i}", TensorProto.FLOAT, None) for i in range(count)]
    start = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "random", [start], ends, d.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), shape


def as_attributes(d: Draw, schema, inputs: list[str], attributes: dict) -> tuple[list[str], dict]:
    """Constants that this opset takes as attributes."""
    arrays = {t.name: numpy_helper.to_array(t) for t in d.constants}
    newer = [i.name for i in defs.get_schema(schema.name).inputs]
    count = len(schema.inputs) if schema.inputs[-1].option != defs.OpSchema.FormalParameterOption.Variadic else 99
    for index in range(count, len(inputs)):
        name = {"constant_value": "value"}.get(newer[index], newer[index])
        if name in schema.attributes and inputs[index]:
            attributes[name] = arrays[inputs[index]].tolist()
    return inputs[:count], attributes


def anything(d: Draw, kind):
    match int(kind.value if hasattr(kind, "value") else kind):
        case AttributeProto.INT:
            return d.whole(-1, 3)
        case AttributeProto.FLOAT:
            return float(d.rng.normal())
        case AttributeProto.INTS:
            return d.ints(d.whole(1, 4), 0, 3)
        case AttributeProto.STRING:
            return d.pick(*STRINGS)
    return [0.5]


def check(rng: np.random.Generator, folder) -> str:
    """ "passed", "unknown" where ONNX itself cannot tell, or the refusal; AssertionError where a number is wrong."""
    proto, shape = model(rng)
    x = rng.normal(size=shape).astype(np.float32)
    onnx.save(proto, folder / "node.onnx")
    try:
        graph = run_passes(import_model(load_model(folder / "node.onnx")))
    except HeepgenError as error:
        assert "\n" not in str(error)
        return str(error)
    with torch.no_grad():
        got = [y.numpy() for y in outputs(GraphModule(graph)(torch.from_numpy(x)))]
    try:
        with np.errstate(all="ignore"):
            expected = ReferenceEvaluator(proto, new_ops=OWN_OPERATORS).run(None, {"x": x})
    except Exception:
        return "unknown"
    for ours, right in zip(got, expected, strict=True):
        assert ours.shape == (right.shape or (1,)), printer.to_text(proto)
        np.testing.assert_allclose(
            ours, right, rtol=1e-4, atol=1e-4 * max(1, np.abs(right).max(initial=0)), err_msg=printer.to_text(proto)
        )
    return "passed"


assert MAKERS.keys() <= HANDLERS.keys()
