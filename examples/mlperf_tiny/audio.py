# SPDX-License-Identifier: Apache-2.0
"""Sound files and the two spectral features of the benchmark, in NumPy."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from hls.errors import HeepgenError

RATE = 16_000


def read_wav(path: Path) -> np.ndarray:
    """The first channel of a 16 kHz, 16-bit file, float64 in -1..1."""
    try:
        with wave.open(str(path)) as file:
            rate, width, channels = file.getframerate(), file.getsampwidth(), file.getnchannels()
            frames = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise HeepgenError(f"{path} cannot be read as a WAV file ({error}); download it again") from error
    if rate != RATE or width != 2:
        raise HeepgenError(f"{path} has {8 * width} bits at {rate} Hz; 16 bits at {RATE} Hz are needed")
    return np.frombuffer(frames, "<i2")[::channels] / 32768


def spectrogram(sound: np.ndarray, window: int, step: int, size: int) -> np.ndarray:
    """Magnitudes (frames, size / 2 + 1) of Fourier transforms of `size`, Hann windows of `window` samples."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::step]
    return np.asarray(np.abs(np.fft.rfft(frames * hann, size)))


def mel_filters(bands: int, size: int, low: float, high: float, slaney: bool) -> np.ndarray:
    """Triangular filters (size / 2 + 1, bands) between `low` and `high` Hz.

    slaney: Slaney's scale, triangles in Hz of equal area (librosa); otherwise HTK's scale, triangles in mel of equal
    height (TensorFlow).
    """
    bins = np.arange(size // 2 + 1) * RATE / size
    if slaney:
        x, edges = bins, _slaney_hz(np.linspace(_slaney(low), _slaney(high), bands + 2))
    else:
        x, edges = _htk(bins), np.linspace(_htk(low), _htk(high), bands + 2)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (x[:, None] - left) / (middle - left), (right - x[:, None]) / (right - middle)
    filters = np.maximum(0, np.minimum(rise, fall))
    return np.asarray(filters * (2 / (right - left)) if slaney else filters)


def _htk(hz: ArrayLike) -> np.ndarray:
    return 1127 * np.log1p(np.asarray(hz) / 700)


STEP = np.log(6.4) / 27


def _slaney(hz: ArrayLike) -> np.ndarray:
    """Linear below 1 kHz, logarithmic above."""
    hz = np.asarray(hz, float)
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1000) / 1000) / STEP)


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(STEP * (np.maximum(mel, 15) - 15)))


def cepstrum(sound: np.ndarray) -> np.ndarray:
    """One second of speech as (49, 10) cepstral coefficients: 40 ms windows every 20 ms, 40 mel bands."""
    sound = np.pad(sound[:RATE], (0, max(0, RATE - len(sound))))
    mel = spectrogram(sound, 640, 320, 1024) @ mel_filters(40, 1024, 20, 4000, slaney=False)
    log = np.log(mel + 1e-6)
    angle = np.pi / 40 * (np.arange(40)[:, None] + 0.5) * np.arange(10)
    return np.asarray((log @ np.cos(angle) * np.sqrt(2 / 40)).astype(np.float32))


def log_mel(sound: np.ndarray) -> np.ndarray:
    """(frames, 128) mel bands in dB: windows of 1024 samples, centred every 512."""
    sound = np.pad(sound, 512)
    power = spectrogram(sound, 1024, 512, 1024) ** 2
    mel = power @ mel_filters(128, 1024, 0, RATE / 2, slaney=True)
    return np.asarray((10 * np.log10(mel + np.finfo(np.float64).eps)).astype(np.float32))
