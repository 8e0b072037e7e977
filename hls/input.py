# SPDX-License-Identifier: Apache-2.0
"""Files that a user names for reading: never more than a limit at once, never waited for without end."""

import errno
import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 10
"""How long a FIFO or a device may give nothing."""
SECONDS_IN_ALL = 60
_PIECE = 1 << 20


class Input:
    """An open file, FIFO or device. size: bytes of a file, None for the others."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        mode = os.fstat(descriptor)
        if stat.S_ISDIR(mode.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self.size = mode.st_size if stat.S_ISREG(mode.st_mode) else None
        self._until = time.monotonic() + SECONDS_IN_ALL

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end. Raises OSError, TimeoutError among them."""
        pieces = []
        while count > 0:
            if self.size is None:
                self._wait()
            piece = os.read(self._descriptor, min(count, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _wait(self) -> None:
        seconds = min(SECONDS, self._until - time.monotonic())
        if seconds < 0 or not select.select([self._descriptor], [], [], seconds)[0]:
            raise TimeoutError(
                errno.ETIMEDOUT, f"nothing came from it for {SECONDS} seconds, or too little for {SECONDS_IN_ALL}"
            )


@contextmanager
def open_input(path: str | Path) -> Iterator[Input]:
    """Open for reading. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        yield Input(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: str | Path, limit: int) -> str:
    """UTF-8 text, with or without a byte order mark. Raises OSError, UnicodeDecodeError, and ValueError when it is
    longer than `limit` bytes."""
    with open_input(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is longer than {limit:,} bytes")
    return data.decode("utf-8-sig")
