# SPDX-License-Identifier: Apache-2.0
"""How good a network is on a data set: its outputs in PyTorch, and one number for them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gen.flows.network.data import Data
from hls.errors import HeepgenError


def run_torch(
    graph: Any,
    x: np.ndarray,
    batch: int = 256,
    device: Any = "cpu",
    output: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """One of the outputs of a graph in FP32, TF32 never: (N, ...) -> (N, ...). `progress` is told how many inputs are
    through."""
    import torch
    from torch.utils._pytree import tree_leaves

    from firmware_gen.models.fake_quant import GraphModule

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    module = GraphModule(graph).to(device).float()
    own = graph.shape(graph.inputs[0])[0]
    step = max(batch // own, 1) * own
    parts = []
    with torch.no_grad():
        for first in range(0, len(x), step):
            results = tree_leaves(module(torch.from_numpy(x[first : first + step]).to(device)))
            parts.append(results[output].cpu().numpy())
            progress(first + step)
    return np.concatenate(parts)


def metric_of(data: Data, output: np.ndarray) -> str | None:
    """ "accuracy", or "AUC" for a network whose output has the shape of its input; None without labels. Raises
    HeepgenError where the labels are none of this output."""
    if data.y is None:
        return None
    if output[0].size == data.x[0].size:
        return "AUC"
    if output.ndim != 2 or data.clip != 1 or not 0 <= data.y.min() <= data.y.max() < output.shape[1]:
        raise HeepgenError(
            f"--data: y holds {data.y.min()} to {data.y.max()} for outputs of shape "
            f"{list(output.shape[1:])}; classes of a classifier are needed, or 0 and 1 for a network "
            "that rebuilds its input."
        )
    return "accuracy"


def is_classifier(output: np.ndarray) -> bool:
    """Whether an output (N, ...) chooses one of several classes."""
    return output.ndim == 2 and output.shape[1] > 1


def score(data: Data, exact: np.ndarray, output: np.ndarray) -> float:
    """From 0 to 1: the metric of `output`, or without labels how often its class is that of `exact`. Raises
    HeepgenError where there is neither."""
    from firmware_gen.models import metrics

    metric = metric_of(data, output)
    if data.y is not None and metric == "AUC":
        return metrics.auc(metrics.reconstruction_error(data.x, output.reshape(data.x.shape), data.clip), data.y)
    if data.y is not None:
        return metrics.accuracy(output, data.y)
    if not is_classifier(exact):
        raise HeepgenError(
            f"--data: there are no labels y, and outputs of shape {list(exact.shape[1:])} are no classes."
        )
    return metrics.agreement(output, exact)
