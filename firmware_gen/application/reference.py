# SPDX-License-Identifier: Apache-2.0
"""What PyTorch says about an application's sample, and how far the device's results are from that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from firmware_gen import ir
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.models.image import Result
from firmware_gen.models.metrics import compare


def reference(
    graph: ir.Graph, sample: Sequence[np.ndarray], outputs: Sequence[np.ndarray], result: Result
) -> dict[str, Any]:
    """The sample's inputs and `outputs`, PyTorch's in FP32, of the first inference; per layer of the lowered `graph`,
    how far the bit-exact model's `result`, with taps, is from PyTorch, and what alignment cost."""
    exact: dict[str, torch.Tensor] = {}
    inputs = [torch.from_numpy(array) for array in (*sample, *(state.initial for state in graph.state))]
    with torch.no_grad():
        GraphModule(graph)(inputs, exact)
    layers = {
        name: compare(exact[name].numpy(), tap) | {"alignment_loss": result.losses.get(name)}
        for name, tap in result.taps.items()
        if name in exact
    }
    return {
        "inputs": [[float(v) for v in x.reshape(-1)] for x in sample],
        "outputs": [[float(v) for v in output.reshape(-1)] for output in outputs],
        "layers": layers,
    }
