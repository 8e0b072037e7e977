"""The one form of every refusal of a model."""

from collections.abc import Iterable

from hls.errors import HeepgenError

SUPPORTED = (
    "Linear, Conv1d/2d, ConvTranspose1d/2d, BatchNorm1d/2d, ReLU, ReLU6, Hardtanh/clamp, LeakyReLU, "
    "Max/Avg/AdaptivePool1d/2d, mean, sum and amax over space, addition, concatenation and shuffling of channels, "
    "slices, splits, arithmetic with constants per channel, constant padding and cropping, nearest-neighbour Upsample, "
    "PixelShuffle, Flatten/view/reshape/permute where no copy is needed, Dropout, Identity, and on the CPU Sigmoid, "
    "Tanh, Softmax, LogSoftmax, Hardswish, SiLU and products of computed tensors"
)


def refusal(layer: str, op: str, reason: str) -> HeepgenError:
    """An error naming the layer, its operator, the reason, and what is supported."""
    return HeepgenError(f"layer {layer}: {op}: {reason}. Supported: {SUPPORTED}")


def not_one_input(names: Iterable[str]) -> HeepgenError:
    """The message for a model that takes these inputs instead of one tensor."""
    names = list(names)
    if not names:
        return HeepgenError("the model has no input: it must take one tensor")
    return HeepgenError(f"the model has {len(names)} inputs ({', '.join(names)}): one is supported; wrap it in a "
                        "module that takes one tensor and holds the others as buffers, or export the parts that take "
                        "one tensor each, since a program may hold several models")
