# SPDX-License-Identifier: Apache-2.0
"""What to use instead of an ONNX operator that is not supported."""

import re

from firmware_gen.frontend.exported.hints import ANY, QUANTISED_ACTIVATIONS, hint

QUANTISING = (
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
)
_CONTROL = "export the model with the condition decided, or the loop unrolled"
OTHERS = {
    "CenterCropPad": "slice and pad with numbers",
    "If": _CONTROL,
    "MaxUnpool": hint("max_unpool2d") or ANY,
    "Loop": _CONTROL,
    "NonMaxSuppression": "return boxes and scores, and compute it from them outside",
    "Scan": _CONTROL,
    "TopK": "return the scores, and compute it from them outside",
}


def not_supported(op: str) -> str:
    """The reason of a refusal of ONNX's operator `op`."""
    if op in QUANTISING:
        return QUANTISED_ACTIVATIONS
    plain, parted = op.lower(), re.sub(r"(?<=[a-z])(?=[A-Z])", "_", op).lower()
    return f"this operator is not supported; {OTHERS.get(op) or hint(plain) or hint(parted) or ANY}"
