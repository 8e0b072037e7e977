"""How far a descriptor may run ahead of the one before it: BARRIER and MARK_WORDS from resolved addresses."""

def order(before: dict, after: dict) -> None:
    """Set ``after``'s BARRIER and ``before``'s MARK_WORDS; both are descriptor fields with final addresses.

    No BARRIER when no input word of ``after`` can be one that ``before`` stores. MARK_WORDS when ``after`` reads
    exactly what ``before`` writes, pixel after pixel, from its first word on.
    """
    after["BARRIER"] = int(_overlap(_stored(before), _loaded(after)))
    channels = before["GROUPS"] * before["COUT"]
    if after["BARRIER"] and _dense_store(before, channels) and _dense_load(after) and (
            before["STORE_ADDR"] == after["LOAD_ADDR"]):
        before["MARK_WORDS"] = channels


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _extent(start: int, loops: list[tuple[int, int]]) -> tuple[int, int]:
    """First byte, and byte after the last, of words at ``start`` in (count, stride in words) loops."""
    reach = [(count - 1) * stride * 4 for count, stride in loops]
    return start + sum(min(r, 0) for r in reach), start + sum(max(r, 0) for r in reach) + 4


def _stored(f: dict) -> tuple[int, int]:
    """Lowered stores have STORE_CB_STEP = Cb * STORE_C_STRIDE: channels of a group lie evenly."""
    return _extent(f["STORE_ADDR"], [
        (f["OUT_PX"] // f["OUT_W"], f["STORE_Y_STRIDE"]), (f["OUT_W"], f["STORE_X_STRIDE"]),
        (f["GROUPS"], f["STORE_G_STEP"]), (f["COUT"], f["STORE_C_STRIDE"])])


def _loaded(f: dict) -> tuple[int, int]:
    return _extent(f["LOAD_ADDR"], [(f[f"LOAD_{axis}_COUNT"], f[f"LOAD_{axis}_STRIDE"]) for axis in "CXY"])


def _dense_store(f: dict, channels: int) -> bool:
    return (f["STORE_C_STRIDE"] == 1 and f["STORE_X_STRIDE"] == channels
            and f["STORE_Y_STRIDE"] == f["OUT_W"] * channels
            and (f["GROUPS"] == 1 or f["STORE_G_STEP"] == f["COUT"]))


def _dense_load(f: dict) -> bool:
    width, rows = f["LOAD_X_COUNT"], f["LOAD_Y_COUNT"]
    return (f["LOAD_C_STRIDE"] == 1 and (width == 1 or f["LOAD_X_STRIDE"] == f["LOAD_C_COUNT"])
            and (rows == 1 or f["LOAD_Y_STRIDE"] == width * f["LOAD_C_COUNT"]))
