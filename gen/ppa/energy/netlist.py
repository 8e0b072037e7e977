# SPDX-License-Identifier: Apache-2.0
"""Netlists of a generated accelerator, module by module, in the cells of a library (yosys)."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gen.ppa import tools
from gen.ppa.asic import REGISTER_WORDS
from gen.ppa.liberty import Library
from gen.ppa.verilog import closure, instances, interface
from hls.errors import HeepgenError
from sim.cache import build_once, cached

CLOCK = "clk"
Bit = int | str
"""Number of a net within its module, or a constant "0", "1" or "x"."""

_CELLS, _FOUND = "cells.lib", "netlist.json"
_GATING = f"clockgate -min_net_size 3 -liberty {_CELLS}"
"""A clock gate takes as much as one or two flip-flops."""
_MAPPING = f"""
proc
{{flatten}}
opt -nodffe -nosdff
opt -nosdff
wreduce
peepopt
alumacc
share
opt -nosdff
memory_collect
memory_map t:$mem_v2 r:SIZE<={REGISTER_WORDS} %i
memory_map t:$mem_v2 r:WR_PORTS=0 %i
memory_dff
memory -nomap
opt -fast -full -nosdff
opt -undriven -fine -nosdff
techmap
opt -fast -nosdff
opt_dff -nosdff
dfflegalize -cell $_DFF_P_ 01 -cell $_DFFE_PP_ 01
opt_merge
opt_clean
{{gating}}
dfflibmap -liberty {_CELLS}
abc -liberty {_CELLS}
opt_clean
write_json {_FOUND}
"""
"""Registers keep their names: no state machine is encoded anew, and small memories are mapped before a read port may
swallow the register behind it. A reset is logic before a register, so that its enable stays one, and enables that are
inverted for the library are one again."""


@dataclass(frozen=True)
class Gate:
    """A cell of the library; nets by pin."""

    name: str
    kind: str
    nets: Mapping[str, Bit]


@dataclass(frozen=True)
class Child:
    """An instance of another module; its nets, the lowest first, by port."""

    name: str
    module: str
    nets: Mapping[str, tuple[Bit, ...]]


@dataclass(frozen=True)
class Memory:
    """An SRAM. `reads` are (enable, address) nets of every read port, `writes` the enables of every write port."""

    name: str
    words: int
    width: int
    reads: tuple[tuple[Bit, tuple[Bit, ...]], ...]
    writes: tuple[tuple[Bit, ...], ...]
    data: tuple[Bit, ...]


@dataclass(frozen=True)
class Netlist:
    """One module's own cells. signals: (name, number of the bit) of each net, as the Verilog calls it; a port of an
    instance is INSTANCE.PORT."""

    module: str
    inputs: Mapping[str, tuple[Bit, ...]]
    outputs: Mapping[str, tuple[Bit, ...]]
    gates: tuple[Gate, ...]
    children: tuple[Child, ...]
    memories: tuple[Memory, ...]
    signals: Mapping[int, tuple[tuple[str, int], ...]] = field(repr=False)


def netlists(
    texts: Mapping[str, str], names: Collection[str], cells: Path, *, gated: bool = False
) -> dict[str, Netlist]:
    """Modules `names` of an accelerator with Verilog `texts`, each without what is instantiated in it, in the cells of
    the Liberty file `cells`; cached module by module. `gated`: the clock of flip-flops with a common enable is gated.

    Raises `HeepgenError` with yosys' words.
    """
    library = cells.read_text(errors="replace")
    script = _script(gated=gated)
    keys = {
        name: [tools.version(), script, library, texts[name], *(interface(texts[c]) for c in instances(texts, name))]
        for name in names
    }
    missing = [name for name, key in keys.items() if cached("netlist", key) is None]
    made = _made(texts, missing, library, script) if missing else {}
    result = {}
    for name, key in keys.items():
        folder = build_once("netlist", key, partial(_keep, made.get(name)))
        result[name] = _netlist(name, json.loads((folder / _FOUND).read_text()), texts)
    return result


def whole_netlist(texts: Mapping[str, str], unit: str, cells: Path, *, gated: bool = False) -> Netlist:
    """Module `unit` with everything in it, as one."""
    files = {f"{name}.v": text for name, text in closure(texts, unit).items()}
    script = f"read_verilog {' '.join(files)}; hierarchy -check -top {unit}; {_script(gated=gated, flat=True)}"
    found = tools.yosys("netlist", {_CELLS: cells.read_text(errors="replace"), **files}, script, (_FOUND,))
    return _netlist(unit, json.loads(found[_FOUND])["modules"][unit], {})


def _script(*, gated: bool, flat: bool = False) -> str:
    script = _MAPPING.format(flatten="flatten" if flat else "", gating=_GATING if gated else "")
    return "; ".join(line for line in script.splitlines() if line)


def _made(texts: Mapping[str, str], names: Collection[str], library: str, script: str) -> dict[str, Any]:
    children = sorted({child for name in names for child in instances(texts, name)} - set(names))
    files = {_CELLS: library, **{f"{name}.v": texts[name] for name in names}}
    files["children.v"] = "".join(interface(texts[child]) for child in children) or "\n"
    read = f"read_verilog -lib children.v; read_verilog {' '.join(f'{name}.v' for name in names)}; hierarchy -check"
    found: dict[str, Any] = json.loads(tools.run_yosys(files, f"{read}; {script}", (_FOUND,))[_FOUND])["modules"]
    return found


def _keep(module: Any, work: Path) -> None:
    (work / _FOUND).write_text(json.dumps(module))


def _netlist(unit: str, found: Mapping[str, Any], modules: Collection[str]) -> Netlist:
    named = [(name, net["bits"]) for name, net in found["netnames"].items() if not net.get("hide_name")]
    gates, children, memories = [], [], []
    for name, cell in found["cells"].items():
        nets = cell["connections"]
        if cell["type"] in modules:
            children.append(Child(name, cell["type"], {port: tuple(bits) for port, bits in nets.items()}))
            named += [(f"{name}.{port}", bits) for port, bits in nets.items()]
        elif cell["type"] == "$mem_v2":
            memories.append(_memory(name, cell["parameters"], nets))
        elif cell["type"] != "$scopeinfo":
            gates.append(Gate(name, cell["type"], {pin: bits[0] for pin, bits in nets.items() if bits}))
    signals: dict[int, list[tuple[str, int]]] = {}
    for name, bits in named:
        for index, bit in enumerate(bits):
            if isinstance(bit, int):
                signals.setdefault(bit, []).append((name, index))
    ports = {
        way: {n: tuple(p["bits"]) for n, p in found["ports"].items() if p["direction"] == way}
        for way in ("input", "output")
    }
    return Netlist(
        module=unit,
        inputs=ports["input"],
        outputs=ports["output"],
        gates=tuple(gates),
        children=tuple(children),
        memories=tuple(memories),
        signals={bit: tuple(names) for bit, names in signals.items()},
    )


def _memory(name: str, parameters: Mapping[str, str], nets: Mapping[str, list[Bit]]) -> Memory:
    def number(key: str) -> int:
        return int(parameters[key], 2)

    width, bits = number("WIDTH"), number("ABITS")
    enables = zip(nets["RD_EN"], range(number("RD_PORTS")), strict=False)
    return Memory(
        name=str(parameters.get("MEMID", name)).removeprefix("\\"),
        words=number("SIZE"),
        width=width,
        reads=tuple((enable, tuple(nets["RD_ADDR"][bits * i : bits * (i + 1)])) for enable, i in enables),
        writes=tuple(tuple(nets["WR_EN"][width * i : width * (i + 1)]) for i in range(number("WR_PORTS"))),
        data=tuple(nets["RD_DATA"]),
    )


def check_cells(found: Netlist, library: Library) -> None:
    """Raises `HeepgenError` for a cell of the netlist that the library has no energies of."""
    for gate in found.gates:
        cell = library.cells.get(gate.kind)
        if cell is None or cell.kind == "other":
            raise HeepgenError(
                f"{found.module} needs {gate.kind}, which library {library.name} has not, or of a kind whose energy "
                "heepgen does not count (latches, scan, asynchronous resets)."
            )
