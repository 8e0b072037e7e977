# SPDX-License-Identifier: Apache-2.0
"""Verilog of one unit, as it is instantiated in the accelerator; also of a copy of `hls` with an edit in it."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]


_CONVERTER = threading.Lock()  # MyHDL's converter is one global object


class _Found(Exception):
    """Carries the unit's call out of an elaboration that is not needed any further."""


def generate(unit: str, options: Mapping[str, int], out: Path) -> None:
    """Write ``unit``'s modules to ``out``, its own first in modules.json.

    ``options``: width and depth of a fifo, the configuration for any other unit. One that the default accelerator has
    not, or in many sizes, is made by itself.
    """
    from hls.config import Config
    from hls.lib.convert import convert

    with _CONVERTER:
        if unit in _ALONE:
            files = convert(lambda: _ALONE[unit](**options), out)
        else:
            files = convert(SimpleNamespace(call=calls(Config(**options), unit)[0]), out)
    (out / "modules.json").write_text(json.dumps([file.name for file in files]))


def calls(config, unit: str, every: bool = False) -> list:
    """The calls of ``unit`` in the accelerator; the first one only, which is faster, unless ``every``."""
    from hls.descriptor.top import generate as generate_all
    from hls.lib.unit import Unit

    found, bind = [], Unit.bind

    def record(self, *args, **kwargs):
        call = bind(self, *args, **kwargs)
        if self.__name__ == unit:
            found.append(call)
            if not every:
                raise _Found
        return call

    patch, folder = mock.patch.object(Unit, "bind", record), tempfile.TemporaryDirectory()
    with patch, folder, contextlib.suppress(_Found):
        generate_all(config, folder.name)
    return found


def _fifo(width: int, depth: int):
    from myhdl import Signal, intbv

    from hls.lib.fifo import fifo

    clk, rst, in_valid, in_ready, out_valid, out_ready = (Signal(bool(0)) for _ in range(6))
    in_data, out_data = (Signal(intbv(0)[width:]) for _ in range(2))
    return fifo(clk, rst, in_valid, in_ready, in_data, out_valid, out_ready, out_data, width=width, depth=depth)


def _register_head(**options):
    from myhdl import Signal

    from hls.bus.obi import Slave
    from hls.bus.register_head import register_head
    from hls.config import Config

    clk, rst_n = (Signal(bool(0)) for _ in range(2))
    return register_head(clk, rst_n, Slave(), Slave(), config=Config(**options))


_ALONE = {"fifo": _fifo, "register_head": _register_head}


def generate_edited(unit: str, options: Mapping[str, int], out: Path, file: str, old: str, new: str) -> None:
    """As `generate`, from a copy of the sources in which ``new`` stands for ``old`` in hls/``file``.

    ValueError if ``old`` does not occur exactly once.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "hls", copy / "hls", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(__file__, copy / "rtl.py")
        source = copy / "hls" / file
        text = source.read_text()
        if text.count(old) != 1:
            raise ValueError(f"hls/{file} has {text.count(old)} times, instead of once: {old}")
        source.write_text(text.replace(old, new))
        command = [sys.executable, "rtl.py", unit, json.dumps(dict(options)), str(out.resolve())]
        subprocess.run(command, cwd=copy, check=True)


if __name__ == "__main__":
    generate(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]))
