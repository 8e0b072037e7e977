# SPDX-License-Identifier: Apache-2.0
"""Generated Verilog as synthesis sees it: modules, what they instantiate, their memories."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hls.config import Config

PREFIX, ROOT = Config().prefix, Config().root

_MEMORY = re.compile(r"^\s*reg \[(\d+):0\] \w+ \[0:(\d+)\];", re.M)


def modules(verilog: Path) -> dict[str, str]:
    """Text of every module of a generated accelerator, without comments, by name."""
    paths = sorted(Path(verilog).rglob("*.v"))
    return {path.stem: re.sub(r"//.*", "", path.read_text()).strip() + "\n" for path in paths}


def instances(texts: Mapping[str, str], unit: str) -> Counter[str]:
    """How often `unit` instantiates each other module directly."""
    return Counter(name for name in re.findall(r"^\s*(\w+)\s+\w+\s*\($", texts[unit], re.M) if name in texts)


def closure(texts: Mapping[str, str], unit: str) -> dict[str, str]:
    """`unit` and everything below it."""
    names, todo = {}, [unit]
    while todo:
        name = todo.pop()
        if name not in names:
            names[name] = texts[name]
            todo += instances(texts, name)
    return dict(sorted(names.items()))


def occurrences(texts: Mapping[str, str], unit: str) -> Counter[str]:
    """How often each module occurs in `unit` with everything in it, `unit` itself once."""
    total = Counter({unit: 1})
    for name, count in instances(texts, unit).items():
        for inner, n in occurrences(texts, name).items():
            total[inner] += count * n
    return total


def interface(text: str) -> str:
    """A module's name and ports, without what is in it."""
    return text[: text.index(");") + 2] + "\nendmodule\n"


def buffer_bits(texts: Mapping[str, str], unit: str) -> int:
    """Bits of the memories in a unit and below it."""
    own = sum((int(width) + 1) * (int(depth) + 1) for width, depth in _MEMORY.findall(texts[unit]))
    return own + sum(count * buffer_bits(texts, name) for name, count in instances(texts, unit).items())


def registered(text: str, unit: str) -> str:
    """A module `registered` around `unit`, with a register behind every input and output."""
    port = r"^\s*(input|output) (?:wire|reg)\s+((?:signed\s+)?(?:\[\d+:0\])?)\s*(\w+),?$"
    ports = [(way, width.strip(), name) for way, width, name in re.findall(port, text, re.M) if name != "clk"]
    lines = [f"module registered(clk, {', '.join(name for *_, name in ports)});", "input clk;"]
    pins = [".clk(clk)"]
    for way, width, name in ports:
        lines += [f"{way} {width} {name};", f"{'reg' if way == 'input' else 'wire'} {width} {name}_inside;"]
        if way == "input":
            lines.append(f"always @(posedge clk) {name}_inside <= {name};")
        else:
            lines += [f"reg {width} {name};", f"always @(posedge clk) {name} <= {name}_inside;"]
        pins.append(f".{name}({name}_inside)")
    return "\n".join([*lines, f"{unit} inside({', '.join(pins)});", "endmodule", ""])


def block_name(module: str) -> str:
    """Name of a module without the prefix, and without what its parameters add."""
    return re.split(r"_(?:rows|cols|entries|lanes|ports|width|bits|banks)\d", module)[0].removeprefix(PREFIX)
