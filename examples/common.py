"""The training loop shared by all examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from examples.data import Data


def train(model: nn.Module, data: Data, epochs: int, seed: int = 0, batch: int = 64, rate: float = 2e-3) -> float:
    """Train in place with Adam and a cosine schedule; leaves the model in eval mode.

    Returns the test accuracy, 0..1. The same seed gives the same weights on the same machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only lose by sharing, above all on a busy machine
    try:
        _train(model, data, epochs, seed, batch, rate)
        return accuracy(model, data.test_x, data.test_y)
    finally:
        torch.set_num_threads(threads)


def _train(model: nn.Module, data: Data, epochs: int, seed: int, batch: int, rate: float):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        model.train()
        for index in torch.randperm(len(data.train_x), generator=generator).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train_x[index]), data.train_y[index]).backward()
            optimizer.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Top-1 accuracy, 0..1, in batches of 256."""
    right = sum((model(xs).argmax(1) == ys).sum().item() for xs, ys in zip(x.split(256), y.split(256), strict=True))
    return right / len(y)


def save(model: nn.Module, data: Data, input_shape: tuple[int, ...], folder: str | Path) -> Path:
    """Write model.pt2, and sample.npy with labels.npy: the first test images, one batch of them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sample = data.test_x[: input_shape[0]]
    torch.export.save(torch.export.export(model.eval(), (sample,)), folder / "model.pt2")
    np.save(folder / "sample.npy", sample.numpy())
    np.save(folder / "labels.npy", data.test_y[: input_shape[0]].numpy())
    return folder / "model.pt2"
