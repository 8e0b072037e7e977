# SPDX-License-Identifier: Apache-2.0
"""Speech Commands (v0.02) as cepstral coefficients (N, 1, 49, 10); synthetic words without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from examples.data import Data, Samples
from examples.mlperf_tiny import audio
from hls.errors import HeepgenError

WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
SILENCE, UNKNOWN = len(WORDS), len(WORDS) + 1
TEST_LIST = "testing_list.txt"


def load(input_shape: tuple[int, ...], folder: str | Path | None = None) -> Data:
    """The ten words, silence and "unknown" (as many of the other words as there are of one) from the data set's
    folder, its testing_list.txt as test set; or ten synthetic words, silence and noise."""
    if folder is None:
        rng = np.random.default_rng(0)
        return Data.of(_synthetic(rng, 50), _synthetic(rng, 15), "synthetic words")
    folder = Path(folder)
    if not (folder / TEST_LIST).exists():
        raise HeepgenError(f"no Speech Commands data: {TEST_LIST} is not in {folder}")
    held_out = set((folder / TEST_LIST).read_text().split())
    files = sorted(p for p in folder.glob("*/*.wav") if not p.parent.name.startswith("_"))
    parts = [[p for p in files if (f"{p.parent.name}/{p.name}" in held_out) == test] for test in (False, True)]
    train, test = (_features(folder, part) for part in parts)
    return Data.of(train, test, "Speech Commands")


def _features(folder: Path, files: list[Path]) -> Samples:
    rng = np.random.default_rng(0)
    known = [p for p in files if p.parent.name in WORDS]
    others = [p for p in files if p.parent.name not in WORDS]
    if not known or not others:
        raise HeepgenError(f"no Speech Commands data: {folder} holds no folders of words; download it again")
    count = len(known) // len(WORDS)
    others = [others[i] for i in rng.permutation(len(others))[:count]]
    x = [audio.cepstrum(audio.read_wav(p)) for p in (*known, *others)]
    x += [audio.cepstrum(rng.normal(0, 10 ** rng.uniform(-4, -1), audio.RATE)) for _ in range(count)]
    y = [WORDS.index(p.parent.name) for p in known] + [UNKNOWN] * len(others) + [SILENCE] * count
    return torch.from_numpy(np.stack(x))[:, None], torch.tensor(y)


def _synthetic(rng: np.random.Generator, per_class: int) -> Samples:
    """A word is two vowels, each three formants, spoken anywhere in the second; "unknown" has random vowels."""
    x, y = [], []
    vowels = np.random.default_rng(1).uniform((250, 800, 1900), (800, 1800, 3400), (2 * len(WORDS), 3))
    for label in range(len(WORDS) + 2):
        for _ in range(per_class):
            pair = vowels[2 * label : 2 * label + 2]
            if label == UNKNOWN:
                pair = rng.uniform((250, 800, 1900), (800, 1800, 3400), (2, 3))
            sound = rng.normal(0, 10 ** rng.uniform(-4, -2.5), audio.RATE)
            if label != SILENCE:
                _speak(rng, sound, pair)
            x.append(audio.cepstrum(sound))
            y.append(label)
    order = rng.permutation(len(y))
    return torch.from_numpy(np.stack(x)[order])[:, None], torch.tensor(y)[torch.from_numpy(order)]


def _speak(rng: np.random.Generator, sound: np.ndarray, vowels: np.ndarray) -> None:
    length, start = int(rng.uniform(2500, 5000)), int(rng.uniform(0, 5000))
    time = np.arange(length) / audio.RATE
    for number, formants in enumerate(vowels):
        tones = np.sin(2 * np.pi * time[:, None] * formants * rng.normal(1, 0.03) + rng.uniform(0, 6, 3))
        voice = 1 + 0.8 * np.sign(np.sin(2 * np.pi * rng.uniform(90, 220) * time))
        first = start + number * length
        sound[first : first + length] += 0.1 * np.hanning(length) * voice * tones.sum(axis=1)
