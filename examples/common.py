# SPDX-License-Identifier: Apache-2.0
"""The training loop shared by all examples."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from examples.data import Data
from firmware_gen.frontend.loader import exported_bytes
from firmware_gen.models import metrics
from hls.output import write_files

KIND = "trained example"

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Task:
    """`loss(output, x, y)` to minimise; `score(model, data)`, 0..1, of the test data, called `measure`."""

    measure: str
    loss: Loss
    score: Callable[[nn.Module, Data], float]


def train(
    model: nn.Module, data: Data, epochs: int, seed: int = 0, batch: int = 64, rate: float = 2e-3,
    task: Task | None = None,
) -> float:  # fmt: skip
    """Train in place with Adam and a cosine schedule; leaves the model in eval mode.

    Returns the test score, 0..1 (`task`, classification by default). The same seed gives the same weights on the
    same machine.
    """
    task = task or CLASSIFICATION
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only lose by sharing, above all on a busy machine
    try:
        _train(model, data, epochs, seed, batch, rate, task.loss)
        return task.score(model, data)
    finally:
        torch.set_num_threads(threads)


def _train(model: nn.Module, data: Data, epochs: int, seed: int, batch: int, rate: float, loss: Loss) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        model.train()
        for index in torch.split(torch.randperm(len(data.train_x), generator=generator), batch):
            optimizer.zero_grad()
            x, y = data.train_x[index], data.train_y[index]
            torch.autograd.backward(loss(model(x), x, y))
            optimizer.step()
        schedule.step()
    model.eval()


EVALUATED = 240


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Top-1 accuracy, 0..1; `model` takes batches of EVALUATED, a multiple of every example's own batch."""
    parts = zip(torch.split(x, EVALUATED), torch.split(y, EVALUATED), strict=True)
    return sum(int((model(xs).argmax(1) == ys).sum()) for xs, ys in parts) / len(y)


@torch.no_grad()
def clip_auc(model: nn.Module, data: Data) -> float:
    """Area under the ROC curve of the reconstruction error of a clip, `data.clip` consecutive test rows."""
    outputs = torch.cat([model(xs) for xs in torch.split(data.test_x, data.clip)])
    error = metrics.reconstruction_error(data.test_x.numpy(), outputs.numpy(), data.clip)
    return metrics.auc(error, data.test_y.numpy())


CLASSIFICATION = Task(
    "accuracy",
    lambda output, x, y: nn.functional.cross_entropy(output, y),
    lambda model, data: accuracy(model, data.test_x, data.test_y),
)
ANOMALY_DETECTION = Task("AUC", lambda output, x, y: nn.functional.mse_loss(output, x), clip_auc)


def save(model: nn.Module, data: Data, input_shape: tuple[int, ...], folder: str | Path) -> Path:
    """Write model.pt2, and sample.npy with labels.npy: the first test images, one batch of them.

    Raises HeepgenError where the folder holds files of these names that were not written here.
    """
    sample = data.test_x[: input_shape[0]]
    write_files(folder, KIND, {
        "model.pt2": exported_bytes(torch.export.export(model.eval(), (sample,))),
        "sample.npy": _npy(sample.numpy()),
        "labels.npy": _npy(data.test_y[: input_shape[0]].numpy()),
    })  # fmt: skip
    return Path(folder) / "model.pt2"


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
