"""The one form of every refusal of a model."""

from hls.errors import HeepgenError

SUPPORTED = (
    "Linear, Conv2d, BatchNorm1d/2d, ReLU, ReLU6, Hardtanh/clamp, MaxPool2d, AvgPool2d, "
    "ZeroPad2d/ConstantPad2d/F.pad, Flatten/view/reshape, Dropout, Identity and a final Softmax"
)


def refusal(layer: str, op: str, reason: str) -> HeepgenError:
    """An error naming the layer, its operator, the reason, and what is supported."""
    return HeepgenError(f"layer {layer}: {op}: {reason}. Supported: {SUPPORTED}")
