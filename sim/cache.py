# SPDX-License-Identifier: Apache-2.0
"""Build results cached by content, shared by concurrent processes."""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hls.errors import HeepgenError
from hls.output import DISK

Progress = Callable[[str], None]
COMPLETE = ".complete.json"
"""File of an entry that holds the checksums of the others."""
_FORMAT = "2"  # in every key: entries without COMPLETE have others
checked: set[Path] = set()


def silent(_message: str) -> None:
    """The default `Progress`: says nothing."""


def cache_dir() -> Path:
    """Directory of cached builds: $HEEPGEN_CACHE, or ~/.cache/heepgen."""
    named = os.environ.get("HEEPGEN_CACHE")
    try:
        return Path(named) if named else Path.home() / ".cache" / "heepgen"
    except RuntimeError:
        raise HeepgenError("there is no home folder for finished builds; set HEEPGEN_CACHE to a folder.") from None


def content_key(parts: Iterable[str | bytes | Path]) -> str:
    """Hash of texts and of the names and contents of files, in order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = os.fsencode(part.name) + b"\0" + part.read_bytes()
        else:
            data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_once(kind: str, parts: Iterable[str | bytes | Path], build: Callable[[Path], None]) -> Path:
    """Directory holding what `build(directory)` makes from `parts`; built at most once per content.

    `build` fills a temporary directory that is renamed when complete and on the disk, so that a reader never sees half
    a build; processes that want the same content wait for the first one. An entry whose files are not those that were
    built is built again. Raises `HeepgenError` when the cache cannot be written.
    """
    final = _entry(kind, parts)
    root = final.parent
    if _is_whole(final):
        return final
    with _cache_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{final.name}.lock"):
            if not _is_whole(final):
                _build(final, build)
    return final


def cached(kind: str, parts: Iterable[str | bytes | Path]) -> Path | None:
    """Directory of what `build_once` built from `parts`, if it is there and whole."""
    entry = _entry(kind, parts)
    return entry if _is_whole(entry) else None


def _entry(kind: str, parts: Iterable[str | bytes | Path]) -> Path:
    return cache_dir() / f"{kind}-{content_key([_FORMAT, *parts])}"


@contextmanager
def _cache_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = Path(error.filename or root)
        if not (place.is_relative_to(root) or root.is_relative_to(place) or error.errno in DISK):
            raise
        raise HeepgenError(
            f"the folder of finished builds, {root}, cannot be written: {error.strerror}; make room or "
            "set HEEPGEN_CACHE to another folder."
        ) from None


def _build(final: Path, build: Callable[[Path], None]) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{final.name}.", dir=final.parent))
    try:
        content = work / "new"
        content.mkdir()
        build(content)
        (content / COMPLETE).write_text(json.dumps(_checksums(content)))
        _to_disk(content)
        if os.path.lexists(final):
            final.rename(work / "broken")
        content.rename(final)
        checked.add(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_whole(entry: Path) -> bool:
    """Whether an entry holds what was built; looked at once per process."""
    if entry in checked and entry.is_dir():
        return True
    with suppress(OSError, ValueError, RecursionError):
        if (entry / COMPLETE).is_file() and json.loads((entry / COMPLETE).read_bytes()) == _checksums(entry):
            checked.add(entry)
            return True
    return False


def _checksums(entry: Path) -> dict[str, str]:
    """Of files by their names, with an x where one may be run: archives and some file systems forget that."""
    result = {}
    for path in sorted(entry.rglob("*")):
        if path.is_file() and path.name != COMPLETE:
            with open(path, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            result[path.relative_to(entry).as_posix()] = digest + " x" * bool(path.stat().st_mode & stat.S_IXUSR)
    return result


def _to_disk(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
