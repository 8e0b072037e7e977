# SPDX-License-Identifier: Apache-2.0
"""Bytes into files, FIFOs and open descriptors, as the operating system has them. Raises OSError."""

import errno
import os
import re
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

READER_SECONDS = 10
"""How long a FIFO may have no reader."""


_DESCRIPTOR = re.compile(r"/dev/fd|/proc/(\d+)/(task/\d+/)?fd")


def is_stream(path: Path) -> bool:
    """Whether it is a FIFO or a character device."""
    return path.exists() and any(kind(path.stat().st_mode) for kind in (stat.S_ISFIFO, stat.S_ISCHR))


def open_descriptor(target: str | Path) -> int | None:
    """The number of the open descriptor that `target` stands for, as /dev/fd/63 does."""
    path = os.path.abspath(target)
    for _ in range(40):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        match = _DESCRIPTOR.fullmatch(folder)
        if match and name.isdecimal() and match[1] in (None, str(os.getpid())):
            return int(name)
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def open_stream(path: Path) -> int:
    """Descriptor to write to; a FIFO is waited for until somebody reads it."""
    if not stat.S_ISFIFO(path.stat().st_mode):
        return os.open(path, os.O_WRONLY | os.O_NOCTTY)
    until = time.monotonic() + READER_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(descriptor, True)
            return descriptor
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if time.monotonic() > until:
            raise TimeoutError(errno.ETIMEDOUT, f"nobody read from this FIFO for {READER_SECONDS} seconds")
        time.sleep(0.05)


def write_all(descriptor: int, data: bytes) -> None:
    """All of it, however little the descriptor takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def save(path: Path, data: bytes) -> None:
    """Replace the content of `path` at once; where no file can be created beside it, in place."""
    part = path.with_name(f".heepgen-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        if not path.exists() or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        path.write_bytes(data)
        return
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        keep_attributes(path, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def keep_attributes(path: Path, part: Path) -> None:
    """Mode and owner of the file that `part` replaces."""
    if path.exists():
        before = path.stat()
        with suppress(PermissionError):
            os.chown(part, before.st_uid, before.st_gid)
        os.chmod(part, stat.S_IMODE(before.st_mode))
