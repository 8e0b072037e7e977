# SPDX-License-Identifier: Apache-2.0
"""Operators with arithmetic, which the accelerator computes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from firmware_gen.ir.activation import IDENTITY, Activation
from firmware_gen.ir.operator import Activated, Combined, Fused, Layout, Node, Place, Weighted
from firmware_gen.ir.values import NO_PADS, Pads, Pair, Shape, both_pads


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Weighted):
    """2-D convolution: (N, C, H, W) -> (N, O, H', W'), zero padded. Conv1d is one with H = 1.

    weight: (O * s, C/groups, kh, kw).
    sections: into so many ranges of rows and of columns, one of them 1, the output is divided; each of the s ranges has
    weights and bias of its own: row o * s + i of them is that of channel o in range i.
    input_dilation: distance of the input's rows and columns, with zeros between them. Above 1 this is a transposed
    convolution of that stride, with its kernel flipped; `stride` is 1 then, and `pads` may be negative.
    """

    stride: Pair = (1, 1)
    pads: Pads = NO_PADS
    dilation: Pair = (1, 1)
    groups: int = 1
    input_dilation: Pair = (1, 1)
    sections: Pair = (1, 1)

    @property
    def op(self) -> str:
        return "ConvTranspose2d" if self.is_transposed else "Conv2d"

    @property
    def is_transposed(self) -> bool:
        return self.input_dilation != (1, 1)

    @property
    def kernel(self) -> Pair:
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[0]) // math.prod(self.sections)

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    @property
    def is_depthwise(self) -> bool:
        """One input channel per group (a channel multiplier above 1 included)."""
        return self.groups > 1 and self.weight.shape[1] == 1

    def padded(self, pads: Pads, value: float) -> Conv | None:
        if value != 0 or self.is_transposed:  # its zeros lie between the input's rows
            return None
        return replace(self, pads=both_pads(pads, self.pads))

    def macs(self, in_shape: Shape, out_shape: Shape) -> int:
        if not self.is_transposed:
            return super().macs(in_shape, out_shape)
        return math.prod((*in_shape, self.out_channels, *self.kernel)) // self.groups


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Weighted):
    """Matrix product: (N, I) -> (N, O) or (I,) -> (O,).

    weight: (O, I).
    in_map: (C, H, W) when the input is a flattened feature map, so that columns of `weight`, which are in
    PyTorch's C, H, W order, can be reordered to the layout in memory; None when the input is a plain vector.
    """

    has_in_map = True

    in_map: tuple[int, int, int] | None = None

    @property
    def in_features(self) -> int:
        return int(self.weight.shape[1])

    def keeps_rows(self, shape: Shape) -> bool:
        return True

    @property
    def out_features(self) -> int:
        return int(self.weight.shape[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Fused):
    """2-D pooling: (N, C, H, W) -> (N, C, H', W').

    kind "max": positions outside the input are -inf. `dilation` is 1 for "avg".
    kind "avg": sum of the inputs in the window / divisor. The divisor is `divisor_override` when set; else
    the window's positions inside the input (count_include_pad False) or inside the padded input (True).
    With `ceil_mode` the last window of a row or column may run past the padded input; what lies beyond is
    -inf, or never counted. H' and W' are those of the output value; nothing has to be derived again.
    `adaptive`: output i of H' reads rows floor(i * H / H') to ceil((i + 1) * H / H') - 1, columns alike, and divides
    by their number; kernel is then the largest such window, and stride, pads and the like say nothing.
    """

    kind: str
    kernel: Pair
    stride: Pair
    pads: Pads = NO_PADS
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    adaptive: bool = False

    @property
    def op(self) -> str:
        return "MaxPool2d" if self.kind == "max" else "AvgPool2d"

    def padded(self, pads: Pads, value: float) -> Pool | None:
        """The mean only where its divisor stays: explicit zeros always count, its own only with count_include_pad."""
        if self.adaptive or self.ceil_mode:
            return None
        if self.kind == "max":
            return replace(self, pads=both_pads(pads, self.pads)) if value == -math.inf else None
        counts = not any(self.pads) or self.count_include_pad or self.divisor_override is not None
        return replace(self, pads=both_pads(pads, self.pads), count_include_pad=True) if value == 0 and counts else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Interpolate(Fused):
    """Linear interpolation of rows and columns: (N, C, H, W) -> (N, C, H', W'), those of the output value.

    Output o of H' lies at row (o + 1/2) * H / H' - 1/2, or with `align_corners` at o * (H - 1) / (H' - 1), between two
    rows, which are weighted by their distance from there; beyond the first and the last row these are repeated.
    """

    align_corners: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale(Fused):
    """y = x * scale[c] + bias[c], any shape: a BatchNorm that could not be folded, or arithmetic with constants.

    c is dimension 1, or dimension 0 of a vector (F,). scale, bias: (C,), float64, float32 after quantisation.
    Equals a 1x1 depthwise convolution with weights 1. in_map: (C, H, W) as in `Linear`.
    """

    in_place = True
    has_in_map = True
    learned = ("bias", "scale")

    scale: np.ndarray
    bias: np.ndarray
    in_map: tuple[int, int, int] | None = None

    @property
    def is_uniform(self) -> bool:
        return self.residual == "none" and len({*self.scale}) == len({*self.bias}) == 1

    @property
    def of_single_elements(self) -> bool:
        return True

    @property
    def keeps_truths(self) -> bool:
        return True

    def keeps_rows(self, shape: Shape) -> bool:
        return True

    def keeps_frames(self, axis: int, shape: Shape) -> bool:
        return super().keeps_frames(axis, shape) or (self.in_map is None and len(shape) == 4)

    def why_merged(self, host: Node) -> str:
        return in_parameters(host) if host.learned else super().why_merged(host)

    def layout(self, shape: Shape) -> Layout:
        return Layout.MAPS if len(shape) == 4 else Layout.INPUT


@dataclass(frozen=True, eq=False, kw_only=True)
class Expand(Fused):
    """The input repeated along dimensions that it has 1 in, to the output's shape, of as many dimensions.
    Equals a 1x1 pooling."""

    @property
    def of_single_elements(self) -> bool:
        return True

    @property
    def keeps_truths(self) -> bool:
        return True


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Combined):
    """y = act(a + b); both may be the same tensor. Equals a 1x1 pooling of a with b as residual."""

    combine = "add"


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Combined):
    """y = act(a * b); both may be the same tensor."""

    combine = "multiply"


@dataclass(frozen=True, eq=False, kw_only=True)
class PReLU(Combined):
    """y = act(a * b where the sign of a is set, else a)."""

    combine = "negative"
    commutes = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Maximum(Combined):
    """y = act(max(a, b)), NaN where one of them is."""

    combine = "maximum"


@dataclass(frozen=True, eq=False, kw_only=True)
class Activate(Activated):
    """An activation that no producer could absorb (first layer, or its input has other readers). Any shape.
    Equals a 1x1 max pooling with `act`."""

    in_place = True

    act: Activation = field()

    @property
    def op(self) -> str:
        return str(self.act)

    @property
    def is_uniform(self) -> bool:
        return True

    def layout(self, shape: Shape) -> Layout:
        return Layout.ANY

    def why_merged(self, host: Node) -> str:
        applies = isinstance(host, Activated) and host.act != IDENTITY
        return f"{host.name} applies it on the way out" if applies else super().why_merged(host)


def in_parameters(host: Node) -> str:
    """What becomes of a scale and a shift that a layer takes."""
    return f"in the {'weights' if 'weight' in host.learned else 'scale'} and the bias of {host.name}"


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchNorm(Node):
    """y = x * scale[c] + shift[c], c = dimension 1; float64, BatchNorm1d/2d at inference. Importer only."""

    runs_on = Place.MERGED
    learned = ("scale", "shift")

    scale: np.ndarray
    shift: np.ndarray

    def why_merged(self, host: Node) -> str:
        return in_parameters(host)
