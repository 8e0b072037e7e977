# SPDX-License-Identifier: Apache-2.0
"""Biases that take the expected error of INT8 weights back, from a sample of inputs.

Rounding a channel's weights shifts its output by the sum of (q * scale - w) * x, whose mean over typical inputs is
rarely zero. As Nagel et al. (Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, appendix D)
do, the network runs with and without quantisation side by side, layer by layer, and every bias is lowered by what
the channel's mean is higher by; what earlier layers could not correct is thus corrected where it arrives.
"""

from __future__ import annotations

import numpy as np
import torch

from firmware_gen import ir
from firmware_gen.models.fake_quant import GraphModule, layer_of
from firmware_gen.models.layers import channel_dim
from hls.errors import HeepgenError

MOST_INPUTS = 512
"""Inputs that are used at most: a mean needs no more."""


def corrected_biases(lowered: ir.Graph, quantised: ir.Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """float32 biases (O,) for every Conv and Linear of `quantised`, by layer name, from inputs x (N, ...), of which
    up to MOST_INPUTS are used.

    lowered: the same graph before `quantise`. Means are over inputs and pixels, before residual and activation, in
    float64. Raises HeepgenError when x does not fit the graph's input, or holds NaN or infinity.
    """
    shape = lowered.shape(lowered.inputs[0])
    count = min(len(x), MOST_INPUTS) // shape[0] * shape[0]
    if tuple(x.shape[1:]) != shape[1:] or not count:
        raise HeepgenError(
            f"bias correction: the inputs have shape {list(x.shape)}, the model takes {list(shape)}; "
            "give one batch at least"
        )
    x = np.ascontiguousarray(x[:count], np.float32)
    if not np.isfinite(x).all():
        raise HeepgenError("bias correction: the inputs hold NaN or infinity; leave these out")
    with torch.no_grad():
        return _side_by_side(lowered, quantised, torch.from_numpy(x).double())


def _side_by_side(lowered: ir.Graph, quantised: ir.Graph, x: torch.Tensor) -> dict[str, np.ndarray]:
    exact, rounded = (GraphModule(graph).double() for graph in (lowered, quantised))
    values: dict[str, tuple[torch.Tensor, ...]] = {lowered.inputs[0]: (x, x)}
    for name in lowered.constants:
        values[name] = tuple(torch.from_numpy(np.array(g.constants[name], np.float64)) for g in (lowered, quantised))
    biases = {}
    for index, node in enumerate(quantised.nodes):
        layers = [layer_of(module, node.name) for module in (exact, rounded)]
        inputs = [[values[v][side] for v in node.inputs] for side in range(2)]
        if isinstance(node, ir.Weighted):
            means = [_means(node, layer.accumulate(own[0])) for layer, own in zip(layers, inputs, strict=True)]
            bias = (node.bias - (means[1] - means[0]).numpy()).astype(np.float32)
            layers[1].get_buffer("bias").copy_(torch.from_numpy(bias))
            biases[node.name] = bias
        values[node.output] = tuple(layer(*own) for layer, own in zip(layers, inputs, strict=True))
        later = {v for n in lowered.nodes[index + 1 :] for v in n.inputs}
        values = {name: pair for name, pair in values.items() if name in later}
    return biases


def _means(node: ir.Weighted, y: torch.Tensor) -> torch.Tensor:
    """Mean of what every bias of a node is added to."""
    if isinstance(node, ir.Conv):
        y = y if node.sections[1] == 1 else y.transpose(2, 3)
        y = y.reshape(len(y), len(node.weight), -1)
    return y.movedim(channel_dim(y), 0).flatten(1).mean(1) if y.ndim > 1 else y
