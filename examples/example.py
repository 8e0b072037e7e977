# SPDX-License-Identifier: Apache-2.0
"""What every example network is: how it is built, fed and trained, and what its quality is measured with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from examples import common, data
from hls.errors import HeepgenError


@dataclass(frozen=True)
class Example:
    """`input_shape` includes the batch of one inference; `layers` makes the network, unseeded; `load` reads the data
    for an input shape from a folder, or the bundled ones when None. A network without `load` is only measured.
    `bundled` limits the training samples used without the real data set."""

    name: str
    input_shape: tuple[int, ...]
    layers: Callable[[], nn.Module]
    load: Callable[[tuple[int, ...], str | Path | None], data.Data] | None = None
    epochs: int = 10
    task: common.Task = common.CLASSIFICATION
    batch: int = 64
    rate: float = 2e-3
    bundled: int | None = None

    def build(self, seed: int = 0) -> nn.Module:
        """The untrained network in eval mode: the same weights for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.layers().eval()

    def load_data(self, folder: str | Path | None = None) -> data.Data:
        """The real data set from `folder`, or the bundled data, when None. Raises `HeepgenError` for a network
        that has neither."""
        if self.load is None:
            raise HeepgenError(f"{self.name} has no data set: it is measured with random weights.")
        samples = self.load(self.input_shape, folder)
        return samples if folder is not None or self.bundled is None else samples.first(self.bundled)

    def train(
        self, folder: str | Path | None = None, seed: int = 0, epochs: int | None = None
    ) -> tuple[nn.Module, data.Data, float]:
        """(trained network, its Data, test score 0..1: accuracy, or area under the ROC curve)."""
        model, samples = self.build(seed), self.load_data(folder)
        score = common.train(model, samples, epochs or self.epochs, seed, self.batch, self.rate, self.task)
        return model, samples, score


def images(dataset: data.Dataset) -> Callable[[tuple[int, ...], str | Path | None], data.Data]:
    """The `load` of an example of image classification."""
    return lambda shape, folder: data.load(dataset, shape, folder)
