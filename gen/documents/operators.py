# SPDX-License-Identifier: Apache-2.0
"""The document of supported operators: PyTorch's and ONNX's names, where each runs, and what is understood of it."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from onnx.defs import get_schema

from firmware_gen.frontend import aten
from firmware_gen.frontend.onnx import operators as onnx
from firmware_gen.frontend.onnx.sequences import SEQUENCES

OUTCOMES = Path(__file__).resolve().parents[2] / "docs" / "operators.json"
ARRAY, CPU, FREE = "array", "CPU", "nowhere: no work is left"
FUSED, COPY = "in the layer before it, else array", "array, as a copy, unless the layer beside it can do it"
FUNCTION = f"{FUSED}; by the CPU where the hardware has no function unit"


ROWS = (
    ("conv2d", "Conv", ARRAY),
    ("conv_transpose2d", "ConvTranspose", ARRAY),
    (
        "linear addmm mm",
        "Gemm MatMul Einsum",
        "array; of two computed matrices by INT8 planes that the CPU makes, 16 bits a number, or small ones on the CPU",
    ),
    ("batch_norm", "BatchNormalization", "in the weights before or after it, else array"),
    ("relu relu6 clamp maximum threshold", "Relu Clip Max Min", FUSED),
    ("leaky_relu prelu abs", "LeakyRelu PRelu Abs", FUSED),
    (
        "sigmoid gelu elu celu softplus log_sigmoid glu",
        "Sigmoid Tanh Swish Gelu HardSigmoid HardSwish Elu Celu Selu Softplus Softsign Mish Erf Atan",
        FUNCTION,
    ),
    (
        "exp expm1 log1p exp2 log2 sinh erfc round frac tan",
        "Exp Log Reciprocal Sqrt Sin Cos Tan Sinh Cosh Asin Acos Asinh Acosh Atanh Floor Ceil Round",
        "in a function of the row above where one is written with them, else CPU",
    ),
    (
        "gt eq sign logical_not logical_and logical_xor",
        "Greater GreaterOrEqual Less LessOrEqual Equal Sign And Or Xor Not",
        "in a function of the rows above where written with them, else array, as clamps of differences; NaN stays NaN",
    ),
    (
        "where masked_fill",
        "Where IsNaN",
        "as products and sums, what is not chosen being finite; IsNaN where it chooses zeros in place of a Softmax",
    ),
    ("softmax", "Softmax", "array, all but one number of a row, or few rows on the CPU"),
    ("log_softmax", "LogSoftmax", "array, all but one number of a row, or few rows on the CPU"),
    ("add div neg", "Add Sub Sum Mean Div Neg", "in the layer before it, else array"),
    ("remainder floor_divide", "Mod", "by powers of two, as products and sums, rounded on the CPU"),
    (
        "mul",
        "Mul",
        "by constants as the row above; of two tensors in the layer before them, else array; on the CPU where "
        "`multiply` is off",
    ),
    (
        "pow square",
        "Pow",
        "as products; roots, fractional powers, and those of elements, which must be positive, on the CPU",
    ),
    ("scaled_dot_product_attention", "Attention", "its products and its softmax as said there"),
    (
        "layer_norm rms_norm group_norm instance_norm _native_batch_norm_legit",
        "LayerNormalization RMSNormalization GroupNormalization InstanceNormalization",
        "array, all but one number of a row, or few rows on the CPU; factors and shifts in the weights behind it, else "
        "array",
    ),
    ("gru gru_cell", "GRU LSTM RNN", "array, step by step; activations and products as their rows say"),
    ("max_pool2d", "MaxPool", ARRAY),
    ("avg_pool2d", "AveragePool", ARRAY),
    ("adaptive_avg_pool2d mean", "GlobalAveragePool GlobalMaxPool ReduceMean ReduceMax ReduceMin ReduceSum", ARRAY),
    ("cumsum", "CumSum", "array, as a product with ones"),
    ("prod cumprod", "ReduceProd", "as products; running maxima as maxima"),
    ("", "LRN", "as an average over channels, products and powers"),
    ("linalg_vector_norm var", "LpNormalization LpPool", "as sums, averages and products; roots on the CPU"),
    ("cat", "Concat", "nowhere: the layers before it store side by side, where they can"),
    ("stack", "", "array, as a copy"),
    (
        "slice select unfold as_strided split unbind index_select index flip roll repeat_interleave gather diagonal",
        "Slice Split Gather GatherND GatherElements Compress",
        COPY,
    ),
    (
        "index_put",
        "ScatterND ScatterElements",
        "constants as products and sums; what is computed as a copy, added to what is there by a product with ones",
    ),
    ("", "Trilu", "as a product"),
    ("expand", "Expand Tile", COPY),
    ("pad reflection_pad2d", "Pad", "in the convolution or pooling behind it, else array"),
    ("upsample_nearest2d", "Resize", COPY),
    (
        "upsample_bilinear2d upsample_bicubic2d",
        "",
        "array, with fixed weights, or as products with constant matrices, 16 bits a number",
    ),
    ("grid_sampler", "GridSample", "with a constant grid, as a product with a constant matrix, 16 bits a number"),
    ("", "Col2Im", "as a transposed convolution with ones"),
    ("pixel_shuffle pixel_unshuffle channel_shuffle", "DepthToSpace SpaceToDepth", COPY),
    ("reshape", "Reshape Flatten Squeeze Unsqueeze", FREE),
    ("permute", "Transpose", FREE + ", where nothing moves in memory, else array"),
    ("dropout", "Dropout Identity Cast CastLike", FREE),
)
"""An ATen operator stands for all that its handler knows."""
INTRODUCTION = """<!-- Generated by heepgen from its tables of operators; do not edit. -->
# Operators

What a model may consist of. PyTorch's operators have the names of ATen (`torch.ops.aten`), ONNX's those of its
standard, in brackets the newest opset in which an operator is known. Opsets below 21 are converted by the package
`onnx` before. An argument, attribute, input, output or value that is not in these tables is refused by name, unless it
has its default; so is every operator that is not. `x` is computed by the model, `w` and `c` are constants, `a` is
either, and * stands for any number of them. PyTorch's `einsum` is read as `matmul`, `permute` and `sum`, writing
into slices of a tensor as `cat` of its parts, by a mask as `where`, `scatter`, `index_fill`, `index_copy` and
`index_add` as `index_put`, and what torch itself writes with operators of these tables
(`torch.export.default_decompositions`) as it does. Indices are constants. Integers that a model computes on the way are
numbers in float32, exact up to 2^24; a number without dimensions is a vector of one.

Cases are ONNX's own tests of the operator (`onnx.backend.test.case.node`), with second and further inputs made
constants: those that end in the right numbers, and those that are refused in one sentence, most of them for types
other than float32. None ends otherwise.
"""


def document() -> str:
    """Markdown: the table of operators, what is understood of each, and what is evaluated at compile time."""
    outcomes = json.loads(OUTCOMES.read_text())
    rows = _rows()
    if unknown := sorted(onnx.HANDLERS.keys() - outcomes.keys()):
        raise ValueError(f"operators without cases: {unknown}; run python -m tests.onnx_cases")
    count = sum((Counter(cases.values()) for cases in outcomes.values()), Counter())
    parts = [INTRODUCTION, "| PyTorch | ONNX | runs on | ONNX cases right / refused |", "|---|---|---|---|"]
    for names, onnx_names, where in rows:
        counts = sum((Counter(outcomes[name].values()) for name in onnx_names), Counter())
        cases = f"{counts['passed']} / {counts['refused']}" if onnx_names else ""
        parts.append(f"| {_code(names)} | {_code(onnx_names)} | {where} | {cases} |")
    parts += [
        "",
        f"Together {count['passed']} cases are right and {count['refused']} refused.",
        "",
        "## ONNX",
        "",
        "| operator | inputs | attributes |",
        "|---|---|---|",
    ]
    parts += [
        f"| `{name}` ({h.newest}) | {' '.join(h.inputs)} | {_attributes(name, h)} |"
        for name, h in sorted(onnx.HANDLERS.items())
    ]
    parts += [
        "",
        f"Every operator of constants alone, and {_code(sorted(onnx.OF_SHAPE))} of anything, is evaluated before, by "
        f"ONNX's own evaluator; not {_code(sorted(onnx.RANDOM))}, and no loops. Sequences are read as the tensors in "
        f"them: {_code(sorted(SEQUENCES))}, by places that are constants.",
        *_pytorch(),
    ]
    return "\n".join([*parts, ""])


def _rows() -> list[tuple[list[str], list[str], str]]:
    """ATen's names, ONNX's names, and where they run; every operator is in one of them."""
    rows, left = [], dict(aten.HANDLERS)
    for representatives, onnx_names, where in ROWS:
        handlers = {aten.HANDLERS[name] for name in representatives.split()}
        names = [name for name, handler in left.items() if handler in handlers]
        left = {name: handler for name, handler in left.items() if name not in names}
        rows.append((names, onnx_names.split(), where))
    listed = [name for _, names, _ in rows for name in names]
    if left or sorted(listed) != sorted(onnx.HANDLERS):
        raise ValueError(f"operators without a row: {sorted(left)}, {sorted(set(onnx.HANDLERS) ^ set(listed))}")
    return rows


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _attributes(op: str, handler: onnx.Handler) -> str:
    known = get_schema(op).attributes
    return ", ".join(
        f"`{name}`" + (f" ({' or '.join(map(str, values))})" if values else "")
        for name, values in sorted(handler.attributes.items())
        if name in known
    )


def _pytorch() -> list[str]:
    lines = ["", "## PyTorch", "", "| operators | arguments |", "|---|---|"]
    for handler in dict.fromkeys(aten.HANDLERS.values()):
        names = [name for name, other in aten.HANDLERS.items() if other is handler]
        lines.append(f"| {_code(names)} | {_code(sorted(aten.READS[names[0]]))} |")
    return lines
