# SPDX-License-Identifier: Apache-2.0
"""Everything heepgen writes for a user goes through here: complete or absent, and never in place of somebody else's.

Three forms: a folder that is ours as a whole (`generated_folder`), files in a folder that may hold others
(`write_files`), and a file that the user named (`write_file`, `file_to_fill`). A marker file in our folders notes every
file with its checksum: what was added or edited since is the user's.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hls.disk import is_stream, keep_attributes, open_descriptor, open_stream, save, write_all
from hls.errors import HeepgenError

MARKER = ".heepgen.json"

DOCUMENT = "document"
_BEGINS = {"--json": b"{[", "--vcd": b"$", DOCUMENT: b"<{\x89"}
"""What a file that an option names must begin with, white space aside, to be replaced; a document of ours is marked as
generated, or is SVG, JSON or PNG."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What a full or broken disk answers."""


@dataclass(frozen=True)
class Link:
    """Content of a file of `write_files` that is a symbolic link."""

    target: str


Content = str | bytes | Link


# Whose is it?


def marker(folder: str | Path) -> dict[str, Any]:
    """Kind of what heepgen wrote to `folder`, and what was noted about it; empty when heepgen did not write it."""
    return {name: value for name, value in _marker(folder).items() if name != "files"}


def _marker(folder: str | Path) -> dict[str, Any]:
    try:
        content = json.loads((Path(folder) / MARKER).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _noted(folder: Path) -> dict[str, tuple[str, ...]]:
    """Checksums of the files that were written: one each, two of what was being replaced when heepgen was stopped."""
    files = _marker(folder).get("files")
    return {
        name: tuple(sums) if isinstance(sums, list) else (sums,)
        for name, sums in (files.items() if isinstance(files, dict) else ())
    }


def _checksum(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if not path.is_file():
        return "no file"
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _content_checksum(content: Content) -> str:
    return f"link to {content.target}" if isinstance(content, Link) else hashlib.sha256(_bytes(content)).hexdigest()


def _bytes(content: str | bytes) -> bytes:
    return content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content


def _checksums(folder: Path) -> dict[str, str]:
    """Checksum of everything but folders in `folder`, by relative name, without the marker."""
    result = {}
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*files, *links):
            path = Path(place, name)
            result[path.relative_to(folder).as_posix()] = _checksum(path)
    result.pop(MARKER, None)
    return result


def _why_not_ours(name: str, noted: Mapping[str, tuple[str, ...]]) -> str:
    return (
        f"{name}, which was changed after heepgen wrote it"
        if name in noted
        else (f"{name}, which heepgen did not write")
    )


def _note(folder: Path, kind: str, files: Mapping[str, str | list[str]], note: dict[str, Any] | None) -> None:
    save(folder / MARKER, _bytes(json.dumps({"kind": kind} | (note or {}) | {"files": files}, indent=2) + "\n"))


# Folders


@contextmanager
def generated_folder(
    folder: str | Path,
    kind: str,
    *,
    part: str = "",
    among: bool = False,
    overwrite: bool = True,
    force: bool = False,
    note: dict[str, Any] | None = None,
) -> Iterator[Path]:
    """Temporary folder to fill; renamed to `folder` when the block ends well, removed when it raises.

    The marker holds `kind`, `note` and the files. An existing folder is replaced when it is empty, or when its marker
    is of the same kind, `overwrite` is set, and nothing in it was added or edited. `force` moves anything else aside
    to `folder`.old; without it, `HeepgenError`. Where `folder` is a symbolic link, the folder behind it is meant.

    With `part`, only the folder of this name in `folder` is ours, with the marker in it: where it is there, it alone is
    replaced. What the block writes beside it is for a new `folder`, and the user's from then on. With `among`, a
    `folder` that holds other files gets `part` too, and of what is beside it the files that it has not.
    """
    shown, folder = folder, _resolved(folder)
    beside: Path | None = None
    again = bool(part) and marker(folder / part).get("kind") == kind
    if again or among and folder.is_dir() and any(folder.iterdir()):
        beside = None if again else folder
        shown, folder = Path(shown) / part, _resolved(folder / part)
    _aside(shown, folder, kind, overwrite, force)
    with _parents(folder, shown), _workplace(folder.parent, f".{folder.name[:100]}.") as work:
        content = work / "new"
        ours = content / part
        ours.mkdir(parents=True)
        yield content
        _note(ours, kind, _checksums(ours), note)
        old = _aside(shown, folder, kind, overwrite, force) or work / "old"
        if folder.exists():
            folder.rename(old)
        try:
            (ours if again or beside else content).rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        if beside:
            for path in content.iterdir():
                if not os.path.lexists(beside / path.name):
                    path.rename(beside / path.name)


def _resolved(folder: str | Path) -> Path:
    try:
        os.stat(folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise HeepgenError(f"{folder} cannot be written: {error.strerror}.") from None
    return Path(os.path.realpath(folder))


def _aside(shown: str | Path, folder: Path, kind: str, overwrite: bool, force: bool) -> Path | None:
    """Where the content of `folder` has to be moved first; None when it may be replaced."""
    keep = _must_keep(shown, folder, kind, overwrite)
    if not keep:
        return None
    if not force:
        raise HeepgenError(f"{shown} {keep}; choose another folder, or force (--force) to move it aside.")
    aside = folder.with_name(folder.name + ".old")
    if os.path.lexists(aside):
        raise HeepgenError(f"{shown} {keep} and cannot be moved aside: {aside} exists; remove one of them.")
    return aside


def _must_keep(shown: str | Path, folder: Path, kind: str, overwrite: bool) -> str:
    """Why the content of `folder` may not simply be replaced; empty when it may."""
    if folder.exists() and not folder.is_dir():
        raise HeepgenError(f"{shown} is a file; name a folder for the output.")
    try:
        if not folder.is_dir() or not any(folder.iterdir()):
            return ""
    except OSError as error:
        raise HeepgenError(f"{shown} cannot be read: {error.strerror}.") from None
    if Path.cwd().is_relative_to(folder):
        raise HeepgenError(f"{shown} is the current folder or holds it; name a folder inside it.")
    other = _other_kind(folder, kind)
    if other:
        return other
    if not overwrite:
        return f"already holds a generated {kind}"
    noted = _noted(folder)
    foreign = next((name for name, found in sorted(_checksums(folder).items()) if found not in noted.get(name, ())), "")
    return f"holds {_why_not_ours(foreign, noted)}" if foreign else ""


def _other_kind(folder: Path, kind: str) -> str:
    found = marker(folder).get("kind")
    if found == kind:
        return ""
    return f"holds a generated {found}, not {kind}," if found else "was not written by heepgen"


@contextmanager
def _parents(folder: Path, shown: str | Path) -> Iterator[None]:
    """Create the folders above `folder`, and remove them again if they stay empty. What the system says about writing
    in the block becomes a sentence."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    made = False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = True
        yield
    except OSError as error:
        if made and error.errno not in DISK and not str(error.filename).startswith(str(folder.parent)):
            raise
        raise HeepgenError(f"cannot write {shown}: {error.strerror}.") from None
    finally:
        for parent in missing:
            with suppress(OSError):  # stays unless it is empty
                parent.rmdir()


@contextmanager
def _workplace(folder: Path, prefix: str) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def fill(folder: Path, files: Mapping[str, Content]) -> None:
    """Write `files`, contents by relative name, to a folder that has none of them yet."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.target)
        else:
            path.write_bytes(_bytes(content))


# Files among others


def write_files(
    folder: str | Path,
    kind: str,
    files: Mapping[str, Content],
    *,
    overwrite: bool = True,
    force: bool = False,
    note: dict[str, Any] | None = None,
    edited: Iterable[str] = (),
) -> None:
    """Write `files`, contents by relative name, to `folder`; whatever else it holds stays.

    Replaced is only what heepgen wrote there itself and nobody edited, but for the names in `edited`; files of an
    earlier time that are no longer among `files` are removed. Anything else that has one of the names is moved aside
    to NAME.old with `force`; without it, `HeepgenError`, and nothing is written. Without `overwrite` a folder that
    holds generated files is refused.
    """
    shown, folder = folder, _resolved(folder)
    _check_kind(folder, shown, kind)
    if marker(folder) and not overwrite:
        raise HeepgenError(f"{shown} already holds generated files; allow overwriting or choose another folder.")
    noted = _noted(folder)
    new = {name: _content_checksum(content) for name, content in files.items()}
    ours = {name: (*noted.get(name, ()), checksum) for name, checksum in new.items()}
    in_the_way = _in_the_way(folder, ours, set(edited))
    if in_the_way and not force:
        raise _not_ours(shown, in_the_way[0], noted)
    with _parents(folder / MARKER, shown), _workplace(folder, ".heepgen-") as work:
        fill(work, files)
        for name in in_the_way:
            _move_aside(folder / name)
        _note(folder, kind, {name: list(sums) for name, sums in (noted | ours).items()}, note)
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(work / name, folder / name)
        _remove(folder, {name: sums for name, sums in noted.items() if name not in files})
        _note(folder, kind, new, note)


def check_files(folder: str | Path, kind: str, names: Iterable[str]) -> None:
    """Raise `HeepgenError` where `write_files` would not write these names: before what they will hold is made."""
    shown, folder = folder, _resolved(folder)
    _check_kind(folder, shown, kind)
    noted = _noted(folder)
    if in_the_way := _in_the_way(folder, {name: noted.get(name, ()) for name in names}, set()):
        raise _not_ours(shown, in_the_way[0], noted)


def _check_kind(folder: Path, shown: str | Path, kind: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise HeepgenError(f"{shown} is a file; name a folder for the output.")
    if marker(folder) and (other := _other_kind(folder, kind)):
        raise HeepgenError(f"{shown} {other}; choose another folder.")


def _not_ours(shown: str | Path, name: str, noted: Mapping[str, tuple[str, ...]]) -> HeepgenError:
    return HeepgenError(f"{shown} holds {_why_not_ours(name, noted)}; move it away, or choose another folder.")


def _in_the_way(folder: Path, ours: Mapping[str, tuple[str, ...]], edited: set[str]) -> list[str]:
    """Names of what is not ours where a file of `ours` is to be written, or a folder that it lies in."""
    names: dict[str, None] = {}
    for name, sums in ours.items():
        for parent in reversed(Path(name).parents[:-1]):
            place = folder / parent
            if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
                names[parent.as_posix()] = None
                break
        else:
            if name not in edited and os.path.lexists(folder / name) and _checksum(folder / name) not in sums:
                names[name] = None
    return list(names)


def _move_aside(path: Path) -> None:
    aside = path.with_name(path.name + ".old")
    if os.path.lexists(aside):
        raise HeepgenError(f"{path} cannot be moved aside: {aside} exists; remove one of them.")
    path.rename(aside)


def _remove(folder: Path, stale: Mapping[str, tuple[str, ...]]) -> None:
    """Remove files that nobody changed, and the folders that become empty."""
    for name, sums in stale.items():
        path = folder / name
        if ".." in Path(name).parts or not os.path.lexists(path) or _checksum(path) not in sums:
            continue
        if _in_the_way(folder, {name: sums}, set()):
            continue
        path.unlink()
        for parent in Path(name).parents[:-1]:
            with suppress(OSError):  # not empty
                (folder / parent).rmdir()


# Files that the user named


def check_file(target: str | Path, option: str) -> None:
    """Raise `HeepgenError` when `write_file` would."""
    with _explained(target, option):
        _place(target, option)


def write_file(target: str | Path, content: str | bytes, option: str) -> None:
    """Write a file that the user named after `option`: whole or not at all.

    A symbolic link stays, the file behind it is replaced. A FIFO, a character device or an open descriptor
    (/dev/stdout, /dev/fd/63) is written to. Raises `HeepgenError`.
    """
    with _explained(target, option):
        place, data = _place(target, option), _bytes(content)
        if isinstance(place, int):
            sys.stdout.flush()
            write_all(place, data)
        elif is_stream(place):
            descriptor = open_stream(place)
            try:
                write_all(descriptor, data)
            finally:
                os.close(descriptor)
        else:
            save(place, data)


@contextmanager
def file_to_fill(target: str | Path, option: str) -> Iterator[Path]:
    """Path of a temporary file to write; it becomes `target`, as by `write_file`, when the block ends well. Folders
    above `target` are created."""
    with _parents(Path(os.path.realpath(target)), f"{option} {target}"):
        with _explained(target, option):
            place = _place(target, option)
        plain = None if isinstance(place, int) or is_stream(place) else place
        with _workplace(plain.parent if plain else Path(tempfile.gettempdir()), ".heepgen-") as work:
            part = work / Path(target).name
            yield part
            if plain:
                keep_attributes(plain, part)
                os.replace(part, plain)
            else:
                write_file(target, part.read_bytes(), option)


@contextmanager
def _explained(target: str | Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HeepgenError(f"{option} {target}: cannot be written: {error.strerror or error}.") from None


def _place(target: str | Path, option: str) -> Path | int:
    """The path without symbolic links, or the number of the open descriptor that `target` stands for."""
    descriptor = open_descriptor(target)
    if descriptor is not None:
        os.fstat(descriptor)
        return descriptor
    place = Path(os.path.realpath(target))
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        os.stat(place.parent)
        if not os.access(place.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        return place
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "it is a folder")
    if not (stat.S_ISREG(mode) or is_stream(place)):
        raise OSError(errno.EINVAL, "it is neither a file nor a stream")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if option in _BEGINS and stat.S_ISREG(mode) and not _begins(place, _BEGINS[option]):
        raise OSError(errno.EEXIST, "it holds something else; remove it, or name another file")
    return place


def _begins(path: Path, characters: bytes) -> bool:
    with open(path, "rb") as stream:
        first = stream.read(4096).lstrip()[:1]
    return first in characters if first else path.stat().st_size < 4096
