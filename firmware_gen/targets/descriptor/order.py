# SPDX-License-Identifier: Apache-2.0
"""How far a descriptor may run ahead of the one before it: BARRIER, MARK_WORDS, MARK_BASE, from resolved addresses."""

from collections.abc import Iterable
from dataclasses import replace

from hls.descriptor.interface.table import Linked, Loop, on_chip


def order(before: Linked, after: Linked) -> tuple[Linked, Linked]:
    """Both, ``after`` with its BARRIER and ``before`` with its MARK_WORDS and MARK_BASE.

    No BARRIER when no input word of ``after`` can be one that ``before`` stores. MARK_WORDS when ``after`` reads, from
    its word MARK_BASE on, exactly what ``before`` writes, pixel after pixel.
    """
    if not _meet(before, after):
        return before, after
    channels = before.groups * before.cout
    if _dense_store(before, channels) and _dense_load(after):
        base = (before.store_addr - after.load_addr) // 4
        if on_chip(before.store_addr):
            base %= 1 << before.store_ring
        if 0 <= base < after.load_words:
            before = replace(before, mark_words=channels, mark_base=base)
    return before, replace(after, barrier=1)


def _meet(before: Linked, after: Linked) -> bool:
    """Whether words that ``before`` stores may be among those that ``after`` loads."""
    # Lowered stores have STORE_CB_STEP = Cb * STORE_C_STRIDE: channels of a group lie evenly
    first, end = _extent(before.store_addr, before.output_loops(before.store))
    start, stop = _extent(after.load_addr, after.load_loops)
    if on_chip(before.store_addr) and on_chip(after.load_addr) and before.store_ring == after.load_ring:
        ring = 4 << after.load_ring
        same = before.store_addr // ring == after.load_addr // ring
        return same and ((start - first) % ring < end - first or (first - start) % ring < stop - start)
    return first < stop and start < end


def _extent(start: int, loops: Iterable[Loop]) -> tuple[int, int]:
    """First byte, and byte after the last, of a stream's words, before any ring."""
    reach = [(count - 1) * stride * 4 for count, stride in loops]
    return start + sum(min(r, 0) for r in reach), start + sum(max(r, 0) for r in reach) + 4


def _dense_store(f: Linked, channels: int) -> bool:
    return (
        f.store_c_stride == 1
        and f.store_x_stride == channels
        and f.store_y_stride == f.out_w * channels
        and (f.groups == 1 or f.store_g_step == f.cout)
    )


def _dense_load(f: Linked) -> bool:
    width, rows = f.load_x_count, f.load_y_count
    return (
        f.load_c_stride == 1
        and (width == 1 or f.load_x_stride == f.load_c_count)
        and (rows == 1 or f.load_y_stride == width * f.load_c_count)
    )
