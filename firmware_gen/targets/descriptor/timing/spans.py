# SPDX-License-Identifier: Apache-2.0
"""Strips of a descriptor's output pixels, and the input words that they need and release."""

import numpy as np

from hls.descriptor.interface.table import Fields


def strip_sizes(f: Fields) -> list[int]:
    """Pixels of every strip."""
    sizes = [min(f["FIRST_PX"], f["OUT_PX"])]
    while (left := f["OUT_PX"] - sum(sizes)) > 0:
        sizes.append(min(f["STRIP_PX"], left))
    return sizes


def window_words(f: Fields) -> tuple[np.ndarray, np.ndarray]:
    """Per output pixel: linear input words that are released when it starts a strip, and that must be loaded.

    The second is a running maximum. Both follow `table`'s addressing rule.
    """
    oy, ox = np.divmod(np.arange(f["OUT_PX"], dtype=np.int64), f["OUT_W"])
    x = f["X0"] + ox * f["SX_WORDS"]
    iy = f["Y0"] + oy * f["STRIDE_Y"]
    row = f["ROW0"] + oy * f["SY_WORDS"]
    start = np.where(iy < 0, 0, np.where(iy < f["IN_H"], row + np.clip(x, 0, f["IN_ROW"]), f["LOAD_WORDS"]))
    start[0] = 0
    last = x + (f["KX"] - 1) * f["KX_STEP"] + (f["GROUPS"] - 1) * f["GROUP_IN_STEP"] + f["RUN"]
    end_x = np.clip(last, 0, f["IN_ROW"])
    end = np.zeros_like(row)
    for ky in range(f["KH"]):
        inside = (iy + ky * f["DIL_Y"] >= 0) & (iy + ky * f["DIL_Y"] < f["IN_H"])
        end = np.where(inside, np.maximum(end, row + ky * f["KY_STEP"] + end_x), end)
    return start, np.maximum.accumulate(end)


def strip_starts(out_px: int, first: int, strip: int) -> np.ndarray:
    """First pixel of every strip."""
    return np.concatenate([[0], np.arange(first, out_px, strip)]) if first < out_px else np.zeros(1, np.int64)


def strip_span(f: Fields, first: int, strip: int, windows: tuple[np.ndarray, np.ndarray] | None = None) -> int:
    """Input words that the most demanding strip needs in the activation buffer at once."""
    start, end = windows or window_words(f)
    begins = strip_starts(f["OUT_PX"], first, strip)
    ends = np.append(begins[1:], f["OUT_PX"])
    return int((end[ends - 1] - start[begins]).max())
