# SPDX-License-Identifier: Apache-2.0
"""How far a descriptor may run ahead of the one before it: BARRIER, MARK_WORDS, MARK_BASE, from resolved addresses."""

from collections.abc import Iterable

from hls.descriptor.interface.table import Linked, Loop, on_chip


def order(before: Linked, after: Linked) -> tuple[Linked, Linked]:
    """Both, ``after`` with its BARRIER and ``before`` with its MARK_WORDS and MARK_BASE.

    No BARRIER when no input word of ``after`` can be one that ``before`` stores. MARK_WORDS when ``after`` reads, from
    its word MARK_BASE on, what ``before`` writes, pixel after pixel.
    """
    if not _meet(before, after) or _apart(before, after):
        return before, after
    if words := _block_words(before, after):
        return before.but(mark_blocks=1, mark_words=words), after.but(barrier=1)
    written, read = _stored_step(before), _loaded_step(after)
    if written and read:
        words, step = read
        base = (before.store_addr - after.load_addr) // 4
        if on_chip(before.store_addr):
            base %= 1 << before.store_ring
        # What else is in a stretch of a range of channels, an earlier descriptor has stored
        if written % step == 0 and 0 <= base // step * words < after.load_words:
            before = before.but(mark_words=written // step * words, mark_base=base // step * words)
    return before, after.but(barrier=1)


def _meet(before: Linked, after: Linked) -> bool:
    """Whether words that ``before`` stores may be among those that ``after`` loads."""
    # Lowered stores have STORE_CB_STEP = Cb * STORE_C_STRIDE: channels of a group lie evenly
    first, end = _extent(before.store_addr, before.output_loops(before.store))
    start, stop = _extent(after.load_addr, after.load_loops)
    if on_chip(before.store_addr) and on_chip(after.load_addr) and before.store_ring == after.load_ring:
        ring = 4 << after.load_ring
        same = before.store_addr // ring == after.load_addr // ring
        return same and ((start - first) % ring < end - first or (first - start) % ring < stop - start)
    first, end = _taken(before.store_addr, first, end, before.store_ring)
    start, stop = _taken(after.load_addr, start, stop, after.load_ring)
    return first < stop and start < end


def _apart(before: Linked, after: Linked) -> bool:
    """Whether the one stores some channels of pixels of which the other loads others, round no ring."""
    written, read = _stored_step(before), _loaded_step(after)
    if not written or not read or read == (1, 1):
        return False
    words, step = after.load_loops[0][0], read[1]
    first, end = _extent(before.store_addr, before.output_loops(before.store))
    start, stop = _extent(after.load_addr, after.load_loops)
    if _wraps(before.store_addr, first, end, before.store_ring):
        return False
    if _wraps(after.load_addr, start, stop, after.load_ring):
        return False
    reach = 1 + sum((count - 1) * stride for count, stride in before.output_loops(before.store)[:2])
    low = (before.store_addr - after.load_addr) // 4 % step
    return written % step == 0 and low >= words and low + reach <= step


def _wraps(address: int, first: int, end: int, ring: int) -> bool:
    """Whether a stream goes round its ring."""
    return on_chip(address) and first // (4 << ring) != (end - 1) // (4 << ring)


def _taken(address: int, first: int, end: int, ring: int) -> tuple[int, int]:
    """First byte, and byte after the last, that a stream may touch: all of its ring where it goes round it."""
    if not _wraps(address, first, end, ring):
        return first, end
    begin = address // (4 << ring) * (4 << ring)
    return begin, begin + (4 << ring)


def _extent(start: int, loops: Iterable[Loop]) -> tuple[int, int]:
    """First byte, and byte after the last, of a stream's words, before any ring."""
    reach = [(count - 1) * stride * 4 for count, stride in loops]
    return start + sum(min(r, 0) for r in reach), start + sum(max(r, 0) for r in reach) + 4


def _block_words(before: Linked, after: Linked) -> int:
    """Words of a channel block of a pixel, where ``after`` reads what ``before`` writes block after block; else 0."""
    block, pixels, blocks = before.store_cb_step, before.out_px, before.ncb
    even = before.groups == 1 and not before.band and before.store_c_stride == 1 and before.cout == blocks * block
    one_strip = pixels == before.out_w and pixels <= before.first_px
    read = (block, 1), (pixels, before.store_x_stride), (blocks, block)
    same = before.store_addr == after.load_addr and after.load_loops == read
    return block if even and one_strip and same and min(pixels, blocks) > 1 else 0


def _stored_step(f: Linked) -> int:
    """Words from every output pixel to the next one, if all of a pixel lies between; else 0."""
    inner = f.output_loops(f.store)[:2]
    reach = sum((count - 1) * stride for count, stride in inner)
    even = f.out_px == f.out_w or f.store_y_stride == f.out_w * f.store_x_stride
    return f.store_x_stride if even and min(stride for _, stride in inner) >= 0 and reach < f.store_x_stride else 0


def _loaded_step(f: Linked) -> tuple[int, int] | None:
    """A load as stretches of words, one after the other: words of each, and from one to the next in memory."""
    width, rows = f.load_x_count, f.load_y_count
    step = f.load_x_stride if width > 1 else f.load_y_stride if rows > 1 else f.load_c_count
    if (
        f.load_c_stride != 1
        or step < f.load_loops[0][0]
        or (width > 1 and rows > 1 and f.load_y_stride != width * step)
    ):
        return None
    return (1, 1) if step == f.load_c_count else (f.load_c_count, step)
