# SPDX-License-Identifier: Apache-2.0
"""Visual wake words (96 x 96 pictures with and without persons); drawn figures without them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from examples.data import Data, Samples
from hls.errors import HeepgenError

SIZE = 96
FOLDERS = ("non_person", "person")

Pair: TypeAlias = np.ndarray | tuple[float, float]


def load(input_shape: tuple[int, ...], folder: str | Path | None = None) -> Data:
    """Pixels in 0..1 from `folder`/person and `folder`/non_person (the benchmark's vw_coco2014_96), every tenth
    picture for the test; or drawn figures."""
    if folder is None:
        rng = np.random.default_rng(0)
        return Data.of(_synthetic(rng, 1280), _synthetic(rng, 100), "drawn figures")
    files = [sorted(Path(folder).joinpath(name).glob("*.jpg")) for name in FOLDERS]
    if not all(files):
        raise HeepgenError(f"no visual wake words: {folder} holds no .jpg files in {' and '.join(FOLDERS)}")
    labelled = [(path, label) for label, paths in enumerate(files) for path in paths]
    test = labelled[::10]
    train = [pair for index, pair in enumerate(labelled) if index % 10]
    return Data.of(_pictures(train), _pictures(test), "visual wake words")


def _pictures(labelled: list[tuple[Path, int]]) -> Samples:
    try:
        from PIL import Image
    except ImportError as error:
        raise HeepgenError("reading pictures needs Pillow: pip install pillow") from error
    x = np.empty((len(labelled), SIZE, SIZE, 3), np.uint8)
    for index, (path, _) in enumerate(labelled):
        try:
            with Image.open(path) as picture:
                x[index] = np.asarray(picture.convert("RGB").resize((SIZE, SIZE)))
        except OSError as error:
            raise HeepgenError(f"{path} cannot be read ({error}); download it again") from error
    return _tensor(x / np.float32(255)), torch.tensor([label for _, label in labelled])


def _tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32))


def _synthetic(rng: np.random.Generator, count: int) -> Samples:
    """Coloured shapes on a gradient; a person is a head on a body with legs, anywhere and of any size."""
    y = rng.integers(0, 2, count)
    rows, cols = np.mgrid[:SIZE, :SIZE]
    pictures = []
    for person in y:
        slope = rng.normal(0, 0.3, (3, 2))
        x = rng.uniform(0.2, 0.8, 3) + (rows[..., None] * slope[:, 0] + cols[..., None] * slope[:, 1]) / SIZE
        for _ in range(rng.integers(2, 6)):
            _paint(rng, x, _ellipse(rows, cols, rng.uniform(0, SIZE, 2), rng.uniform(4, 20, 2)))
        if person:
            _paint(rng, x, *_figure(rng, rows, cols))
        pictures.append(np.clip(x + rng.normal(0, 0.03, x.shape), 0, 1))
    return _tensor(np.stack(pictures)), torch.from_numpy(y)


def _ellipse(rows: np.ndarray, cols: np.ndarray, centre: Pair, radii: Pair) -> np.ndarray:
    return np.asarray(((rows - centre[0]) / radii[0]) ** 2 + ((cols - centre[1]) / radii[1]) ** 2 < 1)


def _figure(rng: np.random.Generator, rows: np.ndarray, cols: np.ndarray) -> list[np.ndarray]:
    size, (top, middle) = rng.uniform(5, 9), rng.uniform((8, 20), (25, 76))
    legs = [
        (np.abs(cols - middle - side * size * 0.6) < size * 0.35) & (rows > top + 4 * size) & (rows < top + 8 * size)
        for side in (-1, 1)
    ]
    body = (np.abs(cols - middle) < size) & (rows > top + size) & (rows < top + 5 * size)
    return [body, legs[0] | legs[1], _ellipse(rows, cols, (top, middle), (size, size * 0.8))]


def _paint(rng: np.random.Generator, picture: np.ndarray, *masks: np.ndarray) -> None:
    for mask in masks:
        picture[mask] = rng.uniform(0, 1, 3)
