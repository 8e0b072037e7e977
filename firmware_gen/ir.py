# SPDX-License-Identifier: Apache-2.0
"""The compiler's intermediate representation: a small, typed, immutable data-flow graph.

Shapes are PyTorch's: feature maps are (N, C, H, W), vectors (N, F) or (F,). How a tensor lies in memory
(HWC on the accelerator) is the back end's business and appears nowhere here.

Life of a graph: `importer.import_model` -> `passes.run_passes` -> `quantise.quantise` -> back end.

- Straight from the importer: any node below; weights are float64.
- After the passes: Conv, Linear, Pool, Scale, Add (activations fused into `act`, additions into `residual`),
  plus what could not be fused: Activate, Pad, Slice, Concat, Shuffle, PixelShuffle, Upsample, Reshape, Permute; and
  what the CPU computes: Softmax, Sigmoid, Tanh, Mul. BatchNorm and Identity are gone.
- After quantisation: Conv and Linear hold int8 `weight`, float32 `scale` and `bias` per output channel; Scale
  holds float32 `scale` and `bias`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from hls.errors import HeepgenError

Shape = tuple[int, ...]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right

NO_PADS: Pads = (0, 0, 0, 0)


@dataclass(frozen=True)
class Activation:
    """y = clamp(x if x > 0 else slope * x, low, high); the multiply is skipped when slope is 1.

    ReLU is (1, 0, inf), ReLU6 (1, 0, 6), LeakyReLU(s) is (s, -inf, inf). NaN passes through;
    a clamp to low = 0 returns +0 for -0.
    """

    slope: float = 1.0
    low: float = -math.inf
    high: float = math.inf

    @property
    def is_identity(self) -> bool:
        return self == IDENTITY

    def __str__(self) -> str:
        names = {IDENTITY: "identity", RELU: "ReLU", RELU6: "ReLU6"}
        return names.get(self, f"act(slope={self.slope}, low={self.low}, high={self.high})")


IDENTITY = Activation()
RELU = Activation(low=0.0)
RELU6 = Activation(low=0.0, high=6.0)


@dataclass(frozen=True)
class Value:
    """A tensor on an edge of the graph: unique `name`, PyTorch `shape`; always float32 at run time."""

    name: str
    shape: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One operator. `name` is unique and human-friendly: the module path ("features.3"), or "relu_0" for
    functional calls. `inputs` and `output` are value names; every value has exactly one producer."""

    name: str
    inputs: tuple[str, ...]
    output: str

    @property
    def op(self) -> str:
        """Operator name for reports, as in torch.nn where there is one."""
        return type(self).__name__

    def __post_init__(self):
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fused(Node):
    """A node with the accelerator's epilogue: y = act(v), where v is what the node computes.

    residual: "none", or how a second input `inputs[1]`, of the output's shape, is added:
    "before_act" is y = act(v + r), "after_act" is y = act(v) + r; one float32 addition, the last of v's.
    """

    act: Activation = IDENTITY
    residual: str = "none"

    @property
    def residual_input(self) -> str | None:
        """Name of the value added, None without residual."""
        return None if self.residual == "none" else self.inputs[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Fused):
    """2-D convolution: (N, C, H, W) -> (N, O, H', W'), zero padded. Conv1d is one with H = 1.

    weight: (O, C/groups, kh, kw); float64 before quantisation, int8 after.
    bias: (O,) or None before quantisation (float64), always present (float32) after.
    scale: None before quantisation, (O,) float32 after; real weight = weight * scale[:, None, None, None].
    input_dilation: distance of the input's rows and columns, with zeros between them. Above 1 this is a transposed
    convolution of that stride, with its kernel flipped; `stride` is 1 then, and `pads` may be negative.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    scale: np.ndarray | None = None
    stride: Pair = (1, 1)
    pads: Pads = NO_PADS
    dilation: Pair = (1, 1)
    groups: int = 1
    input_dilation: Pair = (1, 1)

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
        return self.weight.shape[0]

    @property
    def in_channels(self) -> int:
        return self.weight.shape[1] * self.groups

    @property
    def is_depthwise(self) -> bool:
        """One input channel per group (a channel multiplier above 1 included)."""
        return self.groups > 1 and self.weight.shape[1] == 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Fused):
    """Matrix product: (N, I) -> (N, O) or (I,) -> (O,).

    weight: (O, I), bias (O,) or None, scale: as in `Conv`.
    in_map: (C, H, W) when the input is a flattened feature map, so that columns of `weight`, which are in
    PyTorch's C, H, W order, can be reordered to the layout in memory; None when the input is a plain vector.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    scale: np.ndarray | None = None
    in_map: tuple[int, int, int] | None = None

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale(Fused):
    """y = x * scale[c] + bias[c], any shape: a BatchNorm that could not be folded, or arithmetic with constants.

    c is dimension 1, or dimension 0 of a vector (F,). scale, bias: (C,), float64, float32 after quantisation.
    Equals a 1x1 depthwise convolution with weights 1. in_map: (C, H, W) as in `Linear`.
    """

    scale: np.ndarray
    bias: np.ndarray
    in_map: tuple[int, int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """y = act(a + b) of two tensors of one shape (which may be the same tensor), where no producer could take
    the addition. Equals a 1x1 pooling of a with b as residual."""

    act: Activation = IDENTITY


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Joins two or more tensors along the channels: dimension 1, or dimension 0 of vectors (F,). `inputs` in
    order; one may occur twice."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Upsample(Node):
    """Nearest neighbour: (N, C, H, W) -> (N, C, H * factor[0], W * factor[1]); y[i, j] = x[i // f0, j // f1]."""

    factor: Pair


@dataclass(frozen=True, eq=False, kw_only=True)
class Activate(Node):
    """An activation that no producer could absorb (first layer, or its input has other readers). Any shape.
    Equals a 1x1 max pooling with `act`."""

    act: Activation

    @property
    def op(self) -> str:
        return str(self.act)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """Constant padding of H and W: (N, C, H, W) -> (N, C, H + top + bottom, W + left + right); pads >= 0.
    Zero padding in front of Conv or AvgPool is merged by the passes; in front of MaxPool it never is."""

    pads: Pads
    value: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Node):
    """Part of a map: (N, C, H, W) -> (N, C', H', W'); y[n, c, i, j] = x[n, start + step * (c, i, j)], inside x.
    Cropping is one, with the steps 1."""

    start: tuple[int, int, int]
    step: tuple[int, int, int] = (1, 1, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """Same elements in the same (row-major, PyTorch) order, other shape; shapes are those of the two values.
    Flatten is one. `in_map` is (C, H, W) when it flattens a channels-last feature map with C > 1 and H*W > 1, which its
    readers must allow for; None when it is free: in any layout ((N, C, H, W) to (N, C, H', W') included), of what lies
    in PyTorch's order (`rewrite.in_pytorch_order`), or with only reshapes between it and the graph's outputs, which are
    in that order. No other kind exists: the passes refuse it."""

    in_map: tuple[int, int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Permute(Node):
    """Output dimension i is input dimension dims[i]. After the passes one of two that move nothing in memory:
    (0, 3, 1, 2) of (N, H, W, C) in PyTorch's order to a channels-last map (N, C, H, W), and (0, 2, 3, 1) of such a map
    to (N, H, W, C) in PyTorch's order (`rewrite.in_pytorch_order`)."""

    dims: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Shuffle(Node):
    """Channels of `groups` groups, interleaved: channel j * groups + i is channel j of group i."""

    groups: int

    @property
    def op(self) -> str:
        return "ChannelShuffle"


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelShuffle(Node):
    """(N, C * f * f, H, W) -> (N, C, H * f, W * f): y[c, i * f + a, j * f + b] is x[(c * f + a) * f + b, i, j]."""

    factor: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Node):
    """Softmax, or its logarithm, over `axis`: -1, the last dimension of (N, F) or (F,); or 1, the channels of
    (N, C, H, W). On the CPU."""

    axis: int = -1
    log: bool = False

    @property
    def op(self) -> str:
        return "LogSoftmax" if self.log else "Softmax"


@dataclass(frozen=True, eq=False, kw_only=True)
class Sigmoid(Node):
    """1 / (1 + exp(-x)), any shape. On the CPU."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Node):
    """inputs[0] * inputs[1], element by element. The second has the first's shape, or 1 instead of its channels, or 1
    instead of every dimension of space: a gate. On the CPU."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Tanh(Node):
    """tanh(x), any shape. On the CPU."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchNorm(Node):
    """y = x * scale[c] + shift[c], c = dimension 1; float64, BatchNorm1d/2d at inference. Importer only."""

    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Identity(Node):
    """Dropout, Identity, and whatever else does nothing at inference. Importer only."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A single-assignment graph: `nodes` in topological order, `values` of every input and node output.

    Raises HeepgenError when a name repeats, a value is read before it is produced, or an output is unknown.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    values: Mapping[str, Value] = field(repr=False)

    def __post_init__(self):
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))
        seen_names, produced = set(), set(self.inputs)
        for node in self.nodes:
            missing = [v for v in node.inputs if v not in produced]
            if missing:
                raise HeepgenError(f"graph {self.name}: {node.name} reads {missing[0]} before it is produced")
            if node.output in produced or node.output not in self.values:
                raise HeepgenError(f"graph {self.name}: {node.name} must produce one new, declared value")
            if node.name in seen_names:
                raise HeepgenError(f"graph {self.name}: two nodes are called {node.name}")
            produced.add(node.output)
            seen_names.add(node.name)
        lost = [v for v in self.outputs if v not in produced]
        if lost:
            raise HeepgenError(f"graph {self.name}: output {lost[0]} is not produced by any node")

    def shape(self, value: str) -> Shape:
        return self.values[value].shape

    def in_shape(self, node: Node) -> Shape:
        """Shape of the node's first input."""
        return self.shape(node.inputs[0])

    def out_shape(self, node: Node) -> Shape:
        return self.shape(node.output)

    def node(self, name: str) -> Node:
        """The node called `name`; HeepgenError naming the choices otherwise."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(n.name for n in self.nodes)
        raise HeepgenError(f"no layer is called {name!r}; the model has {known}")

    def producer(self, value: str) -> Node | None:
        """The node that writes `value`, None for a graph input."""
        return next((n for n in self.nodes if n.output == value), None)

    def consumers(self, value: str) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes if value in n.inputs)

    def read_once_by(self, value: str) -> Node | None:
        """The only reader of `value`; None when there are several, none, or it is a graph output."""
        readers = self.consumers(value)
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def macs(self, node: Node) -> int:
        """Multiply-accumulates of one inference (0 for anything but Conv and Linear)."""
        if isinstance(node, Conv) and node.is_transposed:
            return math.prod((*self.in_shape(node), node.out_channels, *node.kernel)) // node.groups
        if isinstance(node, Conv | Linear):
            return math.prod(self.out_shape(node)) * math.prod(node.weight.shape[1:])
        return 0

    def with_nodes(self, nodes, outputs: tuple[str, ...] | None = None, values=()) -> Graph:
        """A copy with other nodes (and outputs); values not produced any more go, `values` are added."""
        nodes = tuple(nodes)
        live = {*self.inputs, *(n.output for n in nodes)}
        merged = dict(self.values) | {v.name: v for v in values}
        kept = {name: v for name, v in merged.items() if name in live}
        return replace(self, nodes=nodes, outputs=self.outputs if outputs is None else outputs, values=kept)
