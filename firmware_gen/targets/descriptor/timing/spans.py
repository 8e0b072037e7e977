# SPDX-License-Identifier: Apache-2.0
"""Strips of a descriptor's output pixels, and the input words that they need and release."""

import numpy as np

from hls.descriptor.interface.table import Descriptor


def loaded_words(f: Descriptor[object]) -> np.ndarray:
    """Words that a descriptor loads, in order, relative to the first."""
    axes = [np.arange(count) * stride for count, stride in f.load_loops]
    words: np.ndarray = (axes[2][:, None, None] + axes[1][:, None] + axes[0]).reshape(-1)
    return words


def strip_sizes(out_px: int, first: int, strip: int) -> list[int]:
    """Pixels of every strip."""
    full, rest = divmod(max(out_px - first, 0), strip)
    return [min(first, out_px)] + [strip] * full + [rest] * (rest > 0)


def window_words(f: Descriptor[object]) -> tuple[np.ndarray, np.ndarray]:
    """Per output pixel: linear input words that are released when it starts a strip, and that must be loaded.

    The second is a running maximum. Both follow `table`'s addressing rule.
    """
    oy, ox = np.divmod(np.arange(f.out_px, dtype=np.int64), f.out_w)
    x = f.x0 + ox * f.sx_words
    iy = f.y0 + oy * f.stride_y
    row = f.row0 + oy * f.sy_words
    start = np.where(iy < 0, 0, np.where(iy < f.in_h, row + np.clip(x, 0, f.in_row), f.load_words))
    start[0] = 0
    last = x + (f.kx - 1) * f.kx_step + (f.groups - 1) * f.group_in_step + f.run
    end_x = np.full_like(last, f.in_row) if f.band else np.clip(last, 0, f.in_row)
    end = np.zeros_like(row)
    for ky in range(f.kh):
        inside = (iy + ky * f.dil_y >= 0) & (iy + ky * f.dil_y < f.in_h)
        end = np.where(inside, np.maximum(end, row + ky * f.ky_step + end_x), end)
    return start, np.maximum.accumulate(end)


def strip_span(
    f: Descriptor[object], first: int, strip: int, windows: tuple[np.ndarray, np.ndarray] | None = None
) -> int:
    """Input words that the most demanding strip needs in the activation buffer at once."""
    start, end = windows or window_words(f)
    if first >= f.out_px:
        return int(end[f.out_px - 1] - start[0])
    begins, ends = (
        start[first : f.out_px : strip],
        end[first - 1 : f.out_px - 1 : strip],
    )  # from the second, to the last
    inner = int((ends[1:] - begins[:-1]).max()) if len(ends) > 1 else 0
    return max(int(ends[0] - start[0]), inner, int(end[f.out_px - 1] - begins[-1]))
