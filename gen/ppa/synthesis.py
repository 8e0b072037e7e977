# SPDX-License-Identifier: Apache-2.0
"""Synthesis with hierarchy kept: every module by itself, so that only what changed is made again.

A module's own logic depends on its text and on the ports of the modules in it, and that of an accelerator is the sum
over its instances. What yosys wrote of each module is cached by those texts, whichever accelerator it was in.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gen.ppa import tools
from gen.ppa.verilog import instances, interface
from hls.errors import HeepgenError
from sim.cache import build_once, cached, content_key

_AT_ONCE = 16
"""Modules per run of yosys: a start takes seconds, and every step looks at all modules that are there."""

STAT, MEMORIES, NETLIST, LOG = "stat.json", "memories.il", "netlist.v", "abc.log"


@dataclass(frozen=True)
class Flow:
    """A script of yosys for Verilog that was read; it writes STAT. `kind`: of the cache; `library`: files that it
    reads; `primitives`: script before the Verilog is read."""

    kind: str
    script: str
    primitives: str = ""
    library: Mapping[str, str] = field(default_factory=dict)
    results: tuple[str, ...] = (STAT,)


@dataclass(frozen=True)
class Memory:
    """A memory that was not mapped, as `width` bits by `words`."""

    width: int
    words: int

    @property
    def bits(self) -> int:
        return self.width * self.words


@dataclass(frozen=True)
class Module:
    """One module without what is instantiated in it: cells, other modules among them, by type.

    `memories`: those that stay memories; `netlist`: Verilog; `delay_ns`: the longest path between registers, ports and
    instances, by ABC. Flows leave empty what they do not find.
    """

    cells: Mapping[str, int]
    memories: tuple[Memory, ...] = ()
    netlist: str = ""
    delay_ns: float = 0.0


def own_modules(texts: Mapping[str, str], names: Collection[str], flow: Flow) -> dict[str, Module]:
    """What `flow` makes of the modules `names` of an accelerator with Verilog `texts`; cached module by module."""
    library = content_key(part for item in flow.library.items() for part in item)
    same = [tools.version(), flow.primitives, flow.script, library]
    keys = {name: [*same, *_key(texts, name)] for name in names}
    missing = [name for name, key in keys.items() if cached(flow.kind, key) is None]
    for first in range(0, len(missing), _AT_ONCE):
        batch = missing[first : first + _AT_ONCE]
        made = _split(_synthesise(texts, batch, flow))
        for name in batch:
            build_once(flow.kind, keys[name], partial(_keep, made[name]))
    found = {}
    for name, key in keys.items():
        folder = build_once(flow.kind, key, _lost)
        found[name] = _read({path.name: path.read_text() for path in folder.iterdir()})
    return found


def _lost(_work: Path) -> None:
    raise HeepgenError("the folder of finished builds was emptied while it was used; run the command again.")


def whole(files: Mapping[str, str], root: str, flow: Flow, read: str = "") -> dict[str, Module]:
    """What `flow` makes of (System)Verilog files by name, as modules, those alone that `root` contains; cached. read:
    script that reads the files, if yosys' own reader does not."""
    read = read or f"read_verilog -sv {' '.join(files)}; hierarchy -check -top {root}"
    script = "; ".join(part for part in (flow.primitives, read, flow.script) if part)
    found = tools.yosys(flow.kind, {**flow.library, **files}, script, flow.results)
    return {name: _read(results) for name, results in _split(found).items()}


def _keep(results: Mapping[str, str], work: Path) -> None:
    for result, text in results.items():
        (work / result).write_text(text)


def _key(texts: Mapping[str, str], name: str) -> list[str]:
    return [texts[name], *(interface(texts[child]) for child in sorted(instances(texts, name)))]


def _synthesise(texts: Mapping[str, str], names: Collection[str], flow: Flow) -> dict[str, str]:
    files = {f"{name}.v": texts[name] for name in names}
    children = {child for name in names for child in instances(texts, name)} - set(names)
    files["children.v"] = "".join(interface(texts[child]) for child in sorted(children)) or "\n"
    read = f"read_verilog -lib children.v; read_verilog {' '.join(f'{name}.v' for name in names)}"
    script = "; ".join(part for part in (flow.primitives, read, "hierarchy -check", flow.script) if part)
    return tools.run_yosys({**flow.library, **files}, script, flow.results)


def _split(found: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The results of a run, module by module."""
    modules = {name.removeprefix("\\"): stat for name, stat in json.loads(found[STAT])["modules"].items()}
    memories = _sections(found.get(MEMORIES, ""), r"^module \\(\S+)$", r"^end$")
    netlists = _sections(found.get(NETLIST, ""), r"^module \\?([^\s(]+)", r"^endmodule$")
    log = found.get(LOG, "")  # several at once, their results in the order in which they were begun
    logs = zip(
        re.findall(r"Extracting gate netlist of module `\\?(.+)' to", log),
        re.split(r"Extracted \d+ gates", log)[1:],
        strict=True,
    )
    delays: dict[str, list[str]] = {}
    for name, part in logs:
        delays.setdefault(name, []).extend(re.findall(r"Delay = +([\d.]+) ps", part))
    return {
        name: {
            STAT: json.dumps(stat["num_cells_by_type"]),
            MEMORIES: memories.get(name, ""),
            NETLIST: netlists.get(name, ""),
            LOG: " ".join(delays.get(name, [])),
        }
        for name, stat in modules.items()
    }


def _sections(text: str, begin: str, end: str) -> dict[str, str]:
    """Parts of a text by their names, from a line that names one to a line `end`."""
    found: dict[str, list[str]] = {}
    name = None
    for line in text.splitlines():
        if named := re.search(begin, line):
            name = named[1]
        if name is not None:
            found.setdefault(name, []).append(line)
        if re.search(end, line):
            name = None
    return {name: "\n".join(lines) + "\n" for name, lines in found.items()}


def _read(results: Mapping[str, str]) -> Module:
    sizes = re.findall(r"parameter \\(WIDTH|SIZE) (\d+)", results.get(MEMORIES, ""))
    widths = [int(size) for key, size in sizes if key == "WIDTH"]
    words = [int(size) for key, size in sizes if key == "SIZE"]
    return Module(
        json.loads(results[STAT]),
        tuple(Memory(*pair) for pair in zip(widths, words, strict=True)),
        results.get(NETLIST, ""),
        max((float(delay) / 1000 for delay in results.get(LOG, "").split()), default=0.0),
    )


def total(modules: Mapping[str, Module], unit: str) -> Counter[str]:
    """Primitive cells of a unit and of everything instantiated in it."""
    result: Counter[str] = Counter()
    for name, count in modules[unit].cells.items():
        inner = total(modules, name) if name in modules else Counter({name: 1})
        for cell, n in inner.items():
            result[cell] += count * n
    return result


def memories(modules: Mapping[str, Module], unit: str) -> Counter[Memory]:
    """How often each memory is in a unit and in everything instantiated in it."""
    result = Counter(modules[unit].memories)
    for name, count in modules[unit].cells.items():
        if name in modules:
            for memory, n in memories(modules, name).items():
                result[memory] += count * n
    return result
