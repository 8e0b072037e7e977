# SPDX-License-Identifier: Apache-2.0
"""What PyTorch says about an application's sample, and how far the device's results are from that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from firmware_gen import ir
from firmware_gen.frontend.exported.program import Interface, Stepper
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.models.image import Result
from firmware_gen.models.metrics import compare


def reference(
    program: ExportedProgram,
    interface: Interface,
    graph: ir.Graph,
    sample: Sequence[np.ndarray],
    result: Result,
    softmax: bool,
) -> dict[str, Any]:
    """The sample's inputs and PyTorch's FP32 outputs, in the first inference; per layer of the lowered `graph`, how far
    the bit-exact model's `result`, with taps, is from PyTorch, and what alignment cost. softmax: whether `graph` has
    one behind what `program` has."""
    exact: dict[str, torch.Tensor] = {}
    inputs, initial = ([torch.from_numpy(a) for a in arrays] for arrays in (sample, [s.initial for s in graph.state]))
    outputs = Stepper(program, interface, initial).step(inputs)
    with torch.no_grad():
        if softmax:
            outputs = [torch.softmax(output, -1) for output in outputs]
        GraphModule(graph)([*inputs, *initial], exact)
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
