# SPDX-License-Identifier: Apache-2.0
"""What PyTorch says about an application's sample, and how far the device's results are from that."""

from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from firmware_gen import ir
from firmware_gen.frontend.exported.importer import run_exported
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.models.image import Result
from firmware_gen.models.metrics import compare


def reference(
    program: ExportedProgram, graph: ir.Graph, sample: np.ndarray, result: Result, softmax: bool
) -> dict[str, Any]:
    """The sample and PyTorch's FP32 outputs; per layer of the lowered `graph`, how far the bit-exact model's `result`,
    with taps, is from PyTorch, and what alignment cost. softmax: whether `graph` has one behind what `program` has."""
    exact: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        outputs = run_exported(program, torch.from_numpy(sample))
        if softmax:
            outputs = [torch.softmax(output, -1) for output in outputs]
        GraphModule(graph)(torch.from_numpy(sample), exact)
    layers = {
        name: compare(exact[name].numpy(), tap) | {"alignment_loss": result.losses.get(name)}
        for name, tap in result.taps.items()
        if name in exact
    }
    return {
        "input": [float(v) for v in sample.reshape(-1)],
        "outputs": [[float(v) for v in output.reshape(-1)] for output in outputs],
        "layers": layers,
    }
