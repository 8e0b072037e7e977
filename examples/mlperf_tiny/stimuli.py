# SPDX-License-Identifier: Apache-2.0
"""The inputs that MLPerf Tiny measures accuracy with, as its runner has them: a folder per benchmark with files of raw
numbers, and y_labels.csv."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hls.errors import HeepgenError

LABELS = "y_labels.csv"


@dataclass(frozen=True)
class Stimuli:
    """What is in a folder `name`01: files of an input of `shape` and `dtype`, or of several, if y_labels.csv gives a
    window; `convert` turns N of them, (N, *shape), into what the network takes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    convert: Callable[[np.ndarray], np.ndarray]

    def inputs(self, raw: np.ndarray) -> np.ndarray:
        """float32 (N, ...) of raw numbers (N, *shape). Raises ValueError for others."""
        if raw.shape[1:] != self.shape or raw.dtype.kind != np.dtype(self.dtype).kind:
            raise ValueError(f"{raw.dtype} {list(raw.shape)}, not {self.dtype} [N, {', '.join(map(str, self.shape))}]")
        return self.convert(raw).astype(np.float32)

    def read(self, folders: Path) -> tuple[np.ndarray, np.ndarray, int] | None:
        """Inputs, labels, and inputs per label, from `name`01 in `folders`, or from `name`_inputs.npz with raw x and y;
        None where there is neither. Raises HeepgenError for files that are not what they should be."""
        archive, labels = folders / f"{self.name}_inputs.npz", folders / f"{self.name}01" / LABELS
        try:
            if archive.exists():
                with np.load(archive) as arrays:
                    return self.inputs(arrays["x"]), arrays["y"].astype(np.int64), 1
            return self._listed(labels) if labels.exists() else None
        except (OSError, ValueError, KeyError) as error:
            place = archive if archive.exists() else labels.parent
            raise HeepgenError(f"{place} are not the inputs of the benchmark ({error}); fetch them again.") from error

    def _listed(self, labels: Path) -> tuple[np.ndarray, np.ndarray, int] | None:
        lines = [[cell.strip() for cell in line] for line in csv.reader(labels.read_text().splitlines()) if line]
        if not lines or not (labels.parent / lines[0][0]).exists():
            return None  # a checkout has the labels alone
        parts = [self._rows((labels.parent / file).read_bytes(), *map(int, window)) for file, _, _, *window in lines]
        if len(sizes := {len(part) for part in parts}) > 1:
            raise ValueError(f"files of {min(sizes)} and {max(sizes)} rows")
        return self.inputs(np.concatenate(parts)), np.array([int(line[2]) for line in lines]), sizes.pop()

    def _rows(self, data: bytes, width: int = 0, stride: int = 1) -> np.ndarray:
        """(N, *shape) of a file: all of it, or windows of `width` bytes, `stride` bytes apart."""
        size = np.dtype(self.dtype).itemsize
        values = np.frombuffer(data, self.dtype)
        if width:
            values = np.lib.stride_tricks.sliding_window_view(values, width // size)[:: stride // size]
        return values.reshape(-1, *self.shape)


def pixels(scale: float) -> Callable[[np.ndarray], np.ndarray]:
    """Pictures (N, H, W, 3) as (N, 3, H, W), their values multiplied."""
    return lambda raw: raw.transpose(0, 3, 1, 2) * np.float32(scale)


IMAGES = Stimuli("ic", "u1", (32, 32, 3), pixels(1))
PERSONS = Stimuli("vww", "u1", (96, 96, 3), pixels(1 / 255))
KEYWORDS = Stimuli("kws", "i1", (49, 10), lambda raw: ((raw.astype(np.float32) - 83) * 0.5847029089927673)[:, None])
MACHINES = Stimuli("ad", "<f4", (640,), lambda raw: raw)
