# SPDX-License-Identifier: Apache-2.0
"""An accelerator's Verilog, split for simulation into modules that two threads evaluate side by side.

An instance in `SPLIT` becomes a model of its own and leaves a hollow module behind, with its ports and nothing inside.
The testbench carries values between both around every clock edge. That is exact because their outputs depend on
registers alone, and their inputs not on what the bus does in the same cycle (tests/test_split.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

TEMPLATE = Path(__file__).parent / "testbench" / "parts.hpp.j2"
SPLIT = ("systolic_array", "accumulators")  # instances in the root module, the longest to evaluate first

_PORT = re.compile(r"^    (input|output) (?:wire|reg) (|.* )(\w+),?$", re.MULTILINE)
INSTANCE = re.compile(r"^(\w+) (\w+) \($", re.MULTILINE)
_COMMENT = re.compile(r"//.*")


@dataclass(frozen=True)
class Part:
    """A module that is evaluated on its own: the `files` below it, and its ports, the clock left out."""

    instance: str
    module: str
    files: tuple[Path, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def content(self) -> str:
        """What the files say, without comments, which name options that this part does not depend on."""
        return "".join(_COMMENT.sub("", f.read_text()) for f in self.files)


def find_parts(files: Sequence[Path], root: str) -> list[Part]:
    """The instances of `SPLIT` in module `root`; each of `files` holds the module it is named after. None in an
    accelerator that is put together in another way."""
    text = {f.stem: f.read_text() for f in files}
    path = {f.stem: f for f in files}
    if not re.search(rf"^module {root}\b", text.get(root, ""), re.MULTILINE):
        return []
    found = {instance: module for module, instance in INSTANCE.findall(text[root]) if module in text}
    parts = []
    for instance in SPLIT:
        if instance not in found:
            continue
        module = found[instance]
        ports = [(kind, name) for kind, _width, name in _PORT.findall(text[module]) if name != "clk"]
        parts.append(
            Part(
                instance,
                module,
                tuple(path[m] for m in _below(module, text)),
                tuple(name for kind, name in ports if kind == "input"),
                tuple(name for kind, name in ports if kind == "output"),
            )
        )
    return parts


def _below(module: str, text: dict[str, str]) -> list[str]:
    """`module` and every module inside it."""
    seen: list[str] = []
    waiting = [module]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.append(module)
            waiting += [m for m, _instance in INSTANCE.findall(text[module]) if m in text]
    return sorted(seen)


def hollow(part: Part) -> str:
    """Verilog of a module with the ports of `part` that the testbench reads and drives."""
    text = next(f for f in part.files if f.stem == part.module).read_text()
    public = {
        "input": "input wire {}{} /*verilator public_flat_rd*/",
        "output": "output reg {}{} /*verilator public_flat_rw*/",
    }
    ports = [public[kind].format(width, name) for kind, width, name in _PORT.findall(text)]
    return f"module {part.module} (\n" + ",\n".join(ports) + "\n);\nendmodule\n"


def parts_header(parts: Sequence[Part], root: str) -> str:
    """C++ header with `Parts`, the models of `parts` and how values travel between them and the model of `root`."""
    template = jinja2.Template(
        TEMPLATE.read_text(), trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return str(template.render(parts=parts, root=root))
