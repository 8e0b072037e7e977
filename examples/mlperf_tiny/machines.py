# SPDX-License-Identifier: Apache-2.0
"""ToyADMOS toy cars as log-mel frames (N, 640), five of 128 bands; synthetic machines without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from examples.data import Data
from examples.mlperf_tiny import audio
from hls.errors import HeepgenError

FRAMES = 5
CLIP = 196
"""Rows of a clip: the 200 frames in its middle, FRAMES at a time."""
FIRST = 50


def load(input_shape: tuple[int, ...], folder: str | Path | None = None) -> Data:
    """Rows of `folder`/train/*.wav, and of `folder`/test with label 1 for anomaly_*.wav, 0 for normal_*.wav; or a
    synthetic machine, its anomalies a worn bearing."""
    if folder is None:
        rng = np.random.default_rng(0)
        train_x = _rows([audio.log_mel(_machine(rng, False)) for _ in range(16)])
        labels = torch.tensor([0, 1] * 10)
        test_x = _rows([audio.log_mel(_machine(rng, bool(label))) for label in labels])
        return Data(
            train_x=train_x,
            train_y=torch.zeros(len(train_x), dtype=torch.int64),
            test_x=test_x,
            test_y=labels,
            source="synthetic machine",
            clip=CLIP,
        )
    train, test = (sorted(Path(folder).joinpath(part).glob("*.wav")) for part in ("train", "test"))
    if not train or not test:
        raise HeepgenError(f"no ToyADMOS data: {folder} holds no .wav files in train and test")
    labels = torch.tensor([int(p.name.startswith("anomaly")) for p in test])
    train_x, test_x = (_rows([_clip(p) for p in part]) for part in (train, test))
    return Data(
        train_x=train_x,
        train_y=torch.zeros(len(train_x), dtype=torch.int64),
        test_x=test_x,
        test_y=labels,
        source="ToyADMOS",
        clip=CLIP,
    )


def _clip(path: Path) -> np.ndarray:
    mel = audio.log_mel(audio.read_wav(path))
    if len(mel) < FIRST + CLIP + FRAMES - 1:
        raise HeepgenError(f"{path} has {len(mel)} frames; a clip needs {FIRST + CLIP + FRAMES - 1}")
    return mel


def _rows(clips: list[np.ndarray]) -> torch.Tensor:
    """FRAMES neighbouring frames per row, CLIP rows per clip."""
    starts = FIRST + np.arange(CLIP)[:, None] + np.arange(FRAMES)
    return torch.from_numpy(np.concatenate([mel[starts].reshape(CLIP, -1) for mel in clips]))


def _machine(rng: np.random.Generator, worn: bool) -> np.ndarray:
    """Eight and a half seconds of a motor: harmonics of a wandering speed, over noise."""
    samples = int(8.5 * audio.RATE)
    speed = rng.uniform(80, 120) * (1 + 0.05 * np.cumsum(rng.normal(0, 1, samples)) / np.sqrt(samples))
    phase = 2 * np.pi * np.cumsum(speed) / audio.RATE
    sound = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 12))
    if worn:
        ring = np.sin(2 * np.pi * rng.uniform(2500, 4000) * np.arange(samples) / audio.RATE)
        sound += rng.uniform(0.02, 0.3) * ring * (np.sin(phase / 2.7) > 0.9)
    return 0.05 * sound + rng.normal(0, 0.005, samples)
