"""Build results cached by content, shared by concurrent processes."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path

Progress = Callable[[str], None]


def silent(_message: str) -> None:
    """The default `Progress`: says nothing."""


def cache_dir() -> Path:
    """Directory of cached builds: $HEEPGEN_CACHE, or ~/.cache/heepgen."""
    return Path(os.environ.get("HEEPGEN_CACHE") or Path.home() / ".cache" / "heepgen")


def content_key(parts: Iterable[str | bytes | Path]) -> str:
    """Hash of texts and of the names and contents of files, in order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = part.name.encode() + b"\0" + part.read_bytes()
        else:
            data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


@contextmanager
def _locked(path: Path):
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_once(kind: str, parts: Iterable[str | bytes | Path], build: Callable[[Path], None]) -> Path:
    """Directory holding what `build(directory)` makes from `parts`; built at most once per content.

    `build` fills a temporary directory that is renamed when complete, so that a reader never sees half
    a build; processes that want the same content wait for the first one.
    """
    root = cache_dir()
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"{kind}-{content_key(parts)}"
    if final.is_dir():
        return final
    with _locked(root / f"{final.name}.lock"):
        if final.is_dir():
            return final
        work = Path(tempfile.mkdtemp(prefix=f"{final.name}.", dir=root))
        try:
            build(work)
            work.rename(final)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return final
