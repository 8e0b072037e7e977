"""The one form of every refusal of a model."""

from hls.errors import HeepgenError

SUPPORTED = (
    "Linear, Conv1d/2d, BatchNorm1d/2d, ReLU, ReLU6, Hardtanh/clamp, LeakyReLU, Max/Avg/AdaptivePool1d/2d, mean, sum "
    "and amax over space, addition, concatenation of channels, slices, splits, arithmetic with constants per channel, "
    "constant padding and cropping, nearest-neighbour Upsample, Flatten/view/reshape/permute where no copy is needed, "
    "Dropout, Identity, and on the CPU Sigmoid, Tanh and Softmax"
)


def refusal(layer: str, op: str, reason: str) -> HeepgenError:
    """An error naming the layer, its operator, the reason, and what is supported."""
    return HeepgenError(f"layer {layer}: {op}: {reason}. Supported: {SUPPORTED}")
