# SPDX-License-Identifier: Apache-2.0
"""The little of ELF32 that loading and inspecting firmware takes."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hls.errors import HeepgenError

_PT_LOAD, _SHT_SYMTAB, _SHF_ALLOC = 1, 2, 2


def _read(path: Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise HeepgenError(f"{path} cannot be read: {error.strerror}.") from None
    if data[:6] != b"\x7fELF\x01\x01" or len(data) < 52 or struct.unpack_from("<H", data, 18)[0] != 243:
        raise HeepgenError(f"{path} is not a 32-bit RISC-V program; give the ELF file that heepgen built.")
    return data


def _table(data: bytes, offset_at: int, size_at: int, layout: str) -> Iterator[tuple[Any, ...]]:
    (offset,) = struct.unpack_from("<I", data, offset_at)
    size, count = struct.unpack_from("<HH", data, size_at)
    for i in range(count):
        yield struct.unpack_from(layout, data, offset + i * size)


def _sections(data: bytes) -> list[tuple[Any, ...]]:
    """(name offset, type, flags, address, file offset, size, link, info, alignment, entry size) each."""
    return list(_table(data, 32, 46, "<10I"))


def memory_image(path: Path, ram_bytes: int, fill: int = 0xA5) -> bytes:
    """RAM contents from address 0 after loading the program; bytes that no segment covers hold `fill`.

    Raises `HeepgenError` when the file is no RV32 program, is truncated, or has a segment outside the RAM.
    """
    data = _read(path)
    image = bytearray([fill]) * ram_bytes
    try:
        segments = list(_table(data, 28, 42, "<8I"))
    except struct.error:
        raise HeepgenError(f"{path} is truncated; build the firmware again.") from None
    for kind, offset, _, address, file_bytes, memory, _, _ in segments:
        if kind != _PT_LOAD:
            continue
        if address + memory > ram_bytes:
            raise HeepgenError(
                f"{path}: the segment at {address:#x} of {memory} bytes ends beyond the RAM of "
                f"{ram_bytes:#x} bytes; compile the firmware for this configuration."
            )
        if offset + file_bytes > len(data):
            raise HeepgenError(f"{path} is truncated; build the firmware again.")
        image[address : address + file_bytes] = data[offset : offset + file_bytes]
    return bytes(image)


def symbols(path: Path) -> dict[str, int]:
    """Value of every named symbol."""
    data = _read(path)
    sections = _sections(data)
    found = {}
    for section in sections:
        if section[1] != _SHT_SYMTAB:
            continue
        strings = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 16):
            name, value = struct.unpack_from("<II", data, at)
            if name:
                found[data[strings + name : data.index(b"\0", strings + name)].decode()] = value
    return found


def section_ranges(path: Path) -> dict[str, tuple[int, int]]:
    """(address, bytes) of every section that occupies memory."""
    data = _read(path)
    sections = _sections(data)
    strings = sections[struct.unpack_from("<H", data, 50)[0]][4]
    return {
        data[strings + s[0] : data.index(b"\0", strings + s[0])].decode(): (s[3], s[5])
        for s in sections
        if s[2] & _SHF_ALLOC and s[5]
    }


def free_memory(path: Path, ram_bytes: int) -> tuple[int, int]:
    """Address and bytes of the largest stretch of RAM that a program leaves free, at a multiple of 16."""
    data = _read(path)
    taken = sorted(
        (address, address + memory)
        for kind, _, _, address, _, memory, _, _ in _table(data, 28, 42, "<8I")
        if kind == _PT_LOAD and memory
    )
    best, end = (0, 0), 0
    for first, last in [*taken, (ram_bytes, ram_bytes)]:
        start = -(-end // 16) * 16
        best = max(best, (first - start, start))
        end = max(end, last)
    return best[1], max(best[0], 0)
