# SPDX-License-Identifier: Apache-2.0
"""How far a descriptor may run ahead of the one before it: BARRIER, MARK_WORDS, MARK_BASE, from resolved addresses."""

from typing import Any

from hls.descriptor.interface.table import on_chip


def order(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Set ``after``'s BARRIER and ``before``'s MARK_WORDS, MARK_BASE; both are fields with final addresses.

    No BARRIER when no input word of ``after`` can be one that ``before`` stores. MARK_WORDS when ``after`` reads, from
    its word MARK_BASE on, exactly what ``before`` writes, pixel after pixel.
    """
    after["BARRIER"] = int(_meet(before, after))
    channels = before["GROUPS"] * before["COUT"]
    if after["BARRIER"] and _dense_store(before, channels) and _dense_load(after):
        base = (before["STORE_ADDR"] - after["LOAD_ADDR"]) // 4
        if on_chip(before, "STORE"):
            base %= 1 << before["STORE_RING"]
        if 0 <= base < after["LOAD_WORDS"]:
            before["MARK_WORDS"], before["MARK_BASE"] = channels, base


def _meet(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether words that ``before`` stores may be among those that ``after`` loads."""
    (first, end), (start, stop) = _stored(before), _loaded(after)
    if on_chip(before, "STORE") and on_chip(after, "LOAD") and before["STORE_RING"] == after["LOAD_RING"]:
        ring = 4 << after["LOAD_RING"]
        same = before["STORE_ADDR"] // ring == after["LOAD_ADDR"] // ring
        return bool(same and ((start - first) % ring < end - first or (first - start) % ring < stop - start))
    return bool(first < stop and start < end)


def _extent(f: dict[str, Any], stream: str, loops: list[tuple[int, int]]) -> tuple[int, int]:
    """First byte, and byte after the last, of a stream's words in (count, stride in words) loops, before any ring."""
    start = f[f"{stream}_ADDR"]
    reach = [(count - 1) * stride * 4 for count, stride in loops]
    return start + sum(min(r, 0) for r in reach), start + sum(max(r, 0) for r in reach) + 4


def _stored(f: dict[str, Any]) -> tuple[int, int]:
    """Lowered stores have STORE_CB_STEP = Cb * STORE_C_STRIDE: channels of a group lie evenly."""
    return _extent(
        f,
        "STORE",
        [
            (f["OUT_PX"] // f["OUT_W"], f["STORE_Y_STRIDE"]),
            (f["OUT_W"], f["STORE_X_STRIDE"]),
            (f["GROUPS"], f["STORE_G_STEP"]),
            (f["COUT"], f["STORE_C_STRIDE"]),
        ],
    )


def _loaded(f: dict[str, Any]) -> tuple[int, int]:
    return _extent(f, "LOAD", [(f[f"LOAD_{axis}_COUNT"], f[f"LOAD_{axis}_STRIDE"]) for axis in "CXY"])


def _dense_store(f: dict[str, Any], channels: int) -> bool:
    return bool(
        f["STORE_C_STRIDE"] == 1
        and f["STORE_X_STRIDE"] == channels
        and f["STORE_Y_STRIDE"] == f["OUT_W"] * channels
        and (f["GROUPS"] == 1 or f["STORE_G_STEP"] == f["COUT"])
    )


def _dense_load(f: dict[str, Any]) -> bool:
    width, rows = f["LOAD_X_COUNT"], f["LOAD_Y_COUNT"]
    return bool(
        f["LOAD_C_STRIDE"] == 1
        and (width == 1 or f["LOAD_X_STRIDE"] == f["LOAD_C_COUNT"])
        and (rows == 1 or f["LOAD_Y_STRIDE"] == width * f["LOAD_C_COUNT"])
    )
