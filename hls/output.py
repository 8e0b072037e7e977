"""Generated folders: complete or absent, and never in place of somebody else's files."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hls.errors import HeepgenError

MARKER = ".heepgen.json"


def marker(folder: str | Path) -> dict:
    """What `generated_folder` noted about `folder`; empty when heepgen did not write it."""
    try:
        content = json.loads((Path(folder) / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def generated_folder(folder: str | Path, kind: str, *, overwrite: bool = True, force: bool = False,
                     note: dict | None = None) -> Iterator[Path]:
    """Temporary folder to fill; renamed to `folder` when the block ends well, removed when it raises.

    A marker file holds `kind` and `note`. An existing folder is replaced when it is empty, or carries a
    marker of the same kind and `overwrite` is set. `force` moves anything else aside to `folder`.old;
    without it, `HeepgenError`.
    """
    folder = Path(os.path.abspath(folder))
    keep = _must_keep(folder, kind, overwrite)
    aside = folder.with_name(folder.name + ".old")
    if keep and not force:
        raise HeepgenError(f"{folder} {keep}; choose another folder, or force (--force) to move it aside.")
    if keep and aside.exists():
        raise HeepgenError(f"{folder} {keep} and cannot be moved aside: {aside} exists; remove one of them.")
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise HeepgenError(f"cannot write {folder}: {error.strerror}.") from None
    try:
        content = work / "new"
        content.mkdir()
        yield content
        (content / MARKER).write_text(json.dumps({"kind": kind} | (note or {}), indent=2) + "\n")
        old = aside if keep else work / "old"
        if folder.exists():
            folder.rename(old)
        try:
            content.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):  # stays unless it is empty
                parent.rmdir()


def _must_keep(folder: Path, kind: str, overwrite: bool) -> str:
    """Why the content of `folder` may not simply be replaced; empty when it may."""
    if folder.exists() and not folder.is_dir():
        raise HeepgenError(f"{folder} is a file; name a folder for the output.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return ""
    if Path.cwd().is_relative_to(folder):
        raise HeepgenError(f"{folder} is the current folder or holds it; name a folder inside it.")
    found = marker(folder).get("kind")
    if found != kind:
        return f"holds a generated {found}, not {kind}," if found else "was not written by heepgen"
    return "" if overwrite else f"already holds a generated {kind}"
