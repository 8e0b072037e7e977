# SPDX-License-Identifier: Apache-2.0
"""What to use instead of an operator that is not supported."""

_OUTSIDE = "return the scores, and compute it from them outside"
_BEFORE = "compute it before, and feed in the result"
_WRITE = "compute a new tensor with torch.cat or torch.where's arithmetic form instead of writing into one"
_2D = "use Conv2d and pooling over height and width"
_UNPOOL = "use ConvTranspose2d, or Upsample, in place of unpooling"
_DRAWN = "make it a buffer of the model, or an input"
_POOL = "use MaxPool or AvgPool"
QUANTISED_ACTIVATIONS = (
    "it quantises activations, which the accelerator keeps in float32; quantise the weights alone, which stay as they "
    "are, or export the float model"
)

HINTS = (
    dict.fromkeys(("argmax", "argmin", "topk", "sort", "argsort", "nonzero", "median"), _OUTSIDE)
    | dict.fromkeys(("embedding", "embedding_bag", "one_hot", "stft", "fft_rfft"), _BEFORE)
    | dict.fromkeys(
        ("copy", "fill", "zero", "slice_scatter", "select_scatter", "index_put", "scatter_reduce", "masked_scatter"),
        _WRITE,
    )
    | dict.fromkeys(
        ("conv3d", "conv_transpose3d", "max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "max_pool3d_with_indices"),
        _2D,
    )
    | dict.fromkeys(
        ("rand", "rand_like", "randint", "randn", "randn_like", "randperm", "normal", "multinomial"), _DRAWN
    )
    | dict.fromkeys(("empty", "empty_like", "new_empty"), _DRAWN)
    | dict.fromkeys(("fractional_max_pool2d", "lp_pool2d"), _POOL)
    | dict.fromkeys(("max_unpool2d", "max_unpool3d"), _UNPOOL)
    | {"local_response_norm": "use BatchNorm instead", "bernoulli": "call model.eval() before torch.export.export"}
)

ANY = "write it with operators that are, or compute it outside of the model"
"""What to do about an operator that nobody has thought of."""


def hint(op: str) -> str | None:
    """What to use instead of the ATen operator `op`, in-place or not; None for one that nobody has thought of."""
    name = op.strip("_")
    return HINTS.get(name) or HINTS.get(name.removeprefix("native_"))


def not_supported(op: str) -> str:
    """The reason of a refusal of `op`."""
    return f"this operator is not supported; {hint(op) or ANY}"
