# SPDX-License-Identifier: Apache-2.0
"""Data sets in their native files, read without unpickling; scikit-learn's bundled digits when there are none."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from hls.errors import HeepgenError

CIFAR_RECORD = 1 + 3 * 32 * 32  # label, then red, green and blue planes

Labelled: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Images, uint8 (N, C, H, W), and their labels, int64."""

Samples: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""x and y of `Data`, for training or for the test."""


@dataclass(frozen=True)
class Data:
    """Images (N, C, H, W) or (N, features) float32, normalised; labels (N,) int64; `source` for messages.

    clip: consecutive test rows that share one label, so that there are N / clip test labels."""

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    source: str
    clip: int = 1

    @classmethod
    def of(cls, train: Samples, test: Samples, source: str) -> Data:
        """Data of (x, y) for training and (x, y) for the test."""
        return cls(*train, *test, source=source)

    def first(self, count: int) -> Data:
        """The same with `count` training samples."""
        return replace(self, train_x=self.train_x[:count], train_y=self.train_y[:count])

    def whole_batches(self, batch: int) -> Data:
        """The same without the test samples that do not fill a batch of one inference."""
        if self.clip > 1:
            return self
        count = len(self.test_x) // batch * batch
        return replace(self, test_x=self.test_x[:count], test_y=self.test_y[:count])


@dataclass(frozen=True)
class Dataset:
    """`folders` are tried below the user's folder; `mean` and `std` are those of the pixels in 0..1."""

    name: str
    folders: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


MNIST = Dataset("MNIST", ("", "MNIST/raw"), (0.1307,), (0.3081,))
FASHION_MNIST = Dataset("Fashion-MNIST", ("", "FashionMNIST/raw"), (0.2860,), (0.3530,))
CIFAR10 = Dataset("CIFAR-10", ("", "cifar-10-batches-bin"), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
DIGITS = Dataset("scikit-learn digits", (), (0.3053,), (0.3760,))


def load(dataset: Dataset, input_shape: tuple[int, ...], folder: str | Path | None = None) -> Data:
    """`dataset` from the files in `folder`, or the bundled digits, fitted to `input_shape` (its batch is ignored).

    Images are resized to (C, H, W), or to the square image that has as many pixels as a vector has features.
    MNIST and Fashion-MNIST: idx-ubyte files, gzipped or not. CIFAR-10: the binary version.
    Raises HeepgenError when `folder` is given but does not hold the files.
    """
    if folder is None or dataset is DIGITS:
        dataset, (train, test) = DIGITS, _digits()
    elif dataset is CIFAR10:
        train, test = _cifar(_find(dataset, Path(folder), "data_batch_1.bin"))
    else:
        train, test = _idx_pair(_find(dataset, Path(folder), "train-images-idx3-ubyte"))
    train_x, test_x = (_fit(images, dataset, input_shape[1:]) for images, _ in (train, test))
    return Data(train_x, torch.from_numpy(train[1]), test_x, torch.from_numpy(test[1]), dataset.name)


def _find(dataset: Dataset, folder: Path, file: str) -> Path:
    for sub in dataset.folders:
        if (folder / sub / file).exists() or (folder / sub / f"{file}.gz").exists():
            return folder / sub
    places = " or ".join(str(folder / sub) for sub in dataset.folders)
    raise HeepgenError(f"no {dataset.name} data: {file} (or {file}.gz) is not in {places}")


def _digits() -> tuple[Labelled, Labelled]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = (images.reshape(-1, 1, 8, 8)[order] * (255 / 16)).astype(np.uint8)
    labels = labels[order].astype(np.int64)
    split = len(labels) * 4 // 5
    return (images[:split], labels[:split]), (images[split:], labels[split:])


def _idx_pair(folder: Path) -> tuple[Labelled, Labelled]:
    train, test = (
        (_idx(folder / f"{part}-images-idx3-ubyte", 3)[:, None], _idx(folder / f"{part}-labels-idx1-ubyte", 1))
        for part in ("train", "t10k")
    )
    return train, test


def _idx(path: Path, rank: int) -> np.ndarray:
    """An idx file of unsigned bytes: 0, 0, 8, rank, `rank` big-endian sizes, data. Labels come as int64."""
    data = _read(path)
    sizes = np.frombuffer(data, ">u4", count=rank, offset=4) if len(data) >= 4 + 4 * rank else ()
    if data[:4] != bytes([0, 0, 8, rank]) or len(data) != 4 + 4 * rank + int(np.prod(sizes)):
        raise HeepgenError(f"{path} is not a complete idx file of {rank} dimensions; download it again")
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(*sizes)
    return values.astype(np.int64) if rank == 1 else values


def _read(path: Path) -> bytes:
    try:
        if path.exists():
            return path.read_bytes()
        with gzip.open(f"{path}.gz") as file:
            return file.read()
    except (OSError, EOFError) as error:
        raise HeepgenError(f"{path} cannot be read ({error}); download it again") from error


def _cifar(folder: Path) -> tuple[Labelled, Labelled]:
    parts = [[f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"]]
    train, test = (_cifar_records([folder / name for name in names]) for names in parts)
    return train, test


def _cifar_records(paths: list[Path]) -> Labelled:
    data = [_read(path) for path in paths]
    for path, part in zip(paths, data, strict=True):
        if not part or len(part) % CIFAR_RECORD:
            raise HeepgenError(f"{path} is not a complete CIFAR-10 batch; download the binary version again")
    records = np.frombuffer(b"".join(data), np.uint8).reshape(-1, CIFAR_RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def _fit(images: np.ndarray, dataset: Dataset, shape: tuple[int, ...]) -> torch.Tensor:
    channels, size = (shape[0], shape[1:]) if len(shape) == 3 else (1, (int(shape[0] ** 0.5),) * 2)
    x = torch.from_numpy(images.astype(np.float32)) / 255
    x = (x - torch.tensor(dataset.mean).view(-1, 1, 1)) / torch.tensor(dataset.std).view(-1, 1, 1)
    if tuple(x.shape[2:]) != tuple(size):
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    x = x.expand(-1, channels, -1, -1) if x.shape[1] == 1 else x
    return x.reshape(len(x), *shape).contiguous()
