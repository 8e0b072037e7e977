# SPDX-License-Identifier: Apache-2.0
"""Area of generated accelerators, unit by unit (yosys, UltraScale+ and 45 nm), and the clock of their blocks (nextpnr,
ECP5)."""

import argparse
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gen.documents.measured.stamps import stamps
from gen.ppa import composition
from gen.ppa.asic import cells_of, mapped
from gen.ppa.fpga import BLOCKS, Area, areas, clock, clocks, unit_area
from gen.ppa.technology import technology
from gen.ppa.verilog import PREFIX, ROOT, block_name, modules
from gen.records.markdown import number_table
from hls import output
from hls.config import Config
from hls.output import write_file

DOCUMENT, DATA, COMMAND = "area.md", "area.json", "make area"
LIMIT_MHZ, WHOLE_LIMIT_MHZ = 85, 80
"""Of a block placed alone, and of a whole accelerator, whose places depend on how tools begin."""
ARRAY_LIMITS = {"8x8p2": 8000, "16x16p4": 30000}
"""LUTs that the array with its edges may take, by geometry."""

WHOLE = ("4x4p1", "4x4p2")
"""Geometries whose clock is measured with all units together."""


@dataclass(frozen=True)
class Feature:
    """What an option adds to the default accelerator, or has added to it, if the `change` takes it away."""

    name: str
    change: dict[str, Any]
    taken_away: bool = False

    def adds(self, default: "Measured", changed: "Measured") -> dict[str, Any]:
        """The difference between the default accelerator and the changed one, and the slowest block of either."""
        less, more = (changed, default) if self.taken_away else (default, changed)
        return {
            **asdict(replace(more.area.plus(less.area, -1), unit=self.name)),
            "kge": round(more.kge - less.kge, 2),
            "mhz": [round(less.mhz, 1), round(more.mhz, 1)],
        }


@dataclass(frozen=True)
class Measured:
    """An accelerator; kge: of its logic, before layout; mhz: clock of its slowest block."""

    area: Area
    kge: float
    mhz: float


_OPTIONAL = ("functions", "multiply", "int4_weights", "banded", "packed_scales")

FEATURES = (
    Feature("`fma` instead of `aligned`", {"arithmetic": "fma"}),
    Feature("1 port instead of 2", {"ports": 1}),
    Feature("4 ports instead of 2", {"ports": 4}),
    Feature("activation buffer of 16,384 words instead of 8,192", {"activation_words": 16384}),
    Feature("weight buffer of 8,192 bytes instead of 4,096", {"weight_bytes": 8192}),
    Feature("128 entries per accumulator bank instead of 64", {"accumulator_entries": 128}),
    Feature("no scratchpad instead of 4,096 words", {"scratchpad_words": 0}),
    Feature("scratchpad of 8,192 words instead of 4,096", {"scratchpad_words": 8192}),
    Feature("function unit (`functions`)", {"functions": False}, taken_away=True),
    Feature("products with the second operand (`multiply`)", {"multiply": False}, taken_away=True),
    Feature("weights of 4 bits (`int4_weights`)", {"int4_weights": False}, taken_away=True),
    Feature("depthwise convolutions by banded tiles (`banded`)", {"banded": False}, taken_away=True),
    Feature("scales of 16 bits (`packed_scales`)", {"packed_scales": False}, taken_away=True),
    Feature("all five", dict.fromkeys(_OPTIONAL, False), taken_away=True),
)


def configurations() -> list[tuple[dict[str, Any], tuple[str, ...]]]:
    """Options of all that `main` measures, and which units of it: all where none is named."""
    from gen.documents.measured.bench import parse_geometry

    def size(name: str) -> dict[str, Any]:
        config = parse_geometry(name)
        return {"rows": config.rows, "cols": config.cols, "ports": config.ports}

    arrays = [name for name in ARRAY_LIMITS if parse_geometry(name) != Config()]
    return [
        ({}, ()),
        *((size(name), ()) for name in WHOLE),
        *((size(name), ("systolic_array",)) for name in arrays),
        *((feature.change, ()) for feature in FEATURES),
    ]


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


def _feature_row(feature: dict[str, Any]) -> tuple[str, ...]:
    kge, mhz = feature.pop("kge"), feature.pop("mhz")
    (row,) = rows([Area(**feature)], signed=True)
    return *row, f"{kge:+,.1f}", " to ".join(f"{one:.0f}" for one in mhz)


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
        f"<!-- Generated by {COMMAND}; do not edit. -->",
        "# Area and clock",
        "",
        "## Area",
        "",
        f"The {data['geometry']} accelerator after yosys `synth_xilinx -family xcup`, hierarchy kept, every top-level",
        "unit with all that is in it. A RAM or shift register in LUTs counts as the LUTs it occupies; inverters are",
        "left out. `heepstor_systolic_array` is the array with its aligners, normalisers and diagonal mode. Buffer",
        "bits are those of all memories, wherever they are placed.",
        "",
        *number_table(COLUMNS, rows([Area(**a) for a in data["areas"]])),
        "The array with its edges, against what it may take:",
        "",
        *number_table(
            ("array", "LUT", "limit", "FF", "DSP"),
            [
                (a["name"], f"{a['luts']:,}", f"{a['limit']:,}", f"{a['flip_flops']:,}", f"{a['dsps']:,}")
                for a in data["arrays"]
            ],
        ),
        "What an option adds to the whole accelerator, one changed at a time, with the clock of its slowest block",
        "without and with it; and what the diagonal mode of depthwise layers adds to a processing element on the",
        "diagonal. kGE are those of the logic in 45 nm ([performance, power, area](ppa.md)); what options change of",
        "networks' cycles and energies is in [energy](energy.md):",
        "",
        *number_table(("option", *COLUMNS[1:], "kGE", "MHz"), [_feature_row(dict(f)) for f in data["features"]]),
        "## Clock",
        "",
        "MHz on an ECP5-85 of speed grade 8, by yosys and nextpnr-ecp5. On the same scale a processing element of",
        "HEEPstor reaches 86. A block is placed alone, every input and output behind a register, and may not be below",
        f"{LIMIT_MHZ}; the whole accelerator has its bus ports free, and may not be below {WHOLE_LIMIT_MHZ}.",
        "The path is the longest one, between two registers.",
        *([f"Before: {data['before_name']}, measured by the same commands."] if data["before"] else []),
        "",
        *number_table(("block", "before", "MHz", "longest path"), _clock_rows(data["clocks"], data["before"])),
        *_too_slow(data["clocks"], LIMIT_MHZ),
        *number_table(("accelerator", "before", "MHz", "longest path"), _clock_rows(data["whole"], data["before"])),
        *_too_slow(data["whole"], WHOLE_LIMIT_MHZ),
        "With `fma` arithmetic, which has no limit:",
        "",
        *number_table(("block", "before", "MHz", "longest path"), _clock_rows(data["fma"], data["before"])),
    ]
    return "\n".join(lines)


def _too_slow(clocks: Sequence[dict[str, Any]], limit: int) -> list[str]:
    """A sentence about what does not reach so many MHz, if there is anything."""
    names = [f"`{block_name(clock['unit'])}`" for clock in clocks if clock["fmax"] < limit]
    return [f"**Below {limit} MHz, which is a defect: {', '.join(names)}.**", ""] if names else []


def measure(config: Config, say: Any = print) -> dict[str, Any]:
    """Everything that the document holds but its `before` column; minutes, unless it is cached."""
    from gen.documents.measured.bench import geometry_name, parse_geometry
    from gen.flows.measure.run import hardware

    verilog = hardware(config)
    say("area of the units")
    found = areas(verilog)
    arrays = []
    for name, limit in ARRAY_LIMITS.items():
        say(f"area of the {name} array")
        array = unit_area(hardware(parse_geometry(name)), f"{PREFIX}systolic_array")
        arrays.append({"name": name, "limit": limit, **asdict(array)})
    speeds = []
    for name in BLOCKS:
        say(f"clock of {name}")
        speeds += clocks(verilog, [name])
    default = Measured(found[0], _kge(verilog, ROOT), min(c.fmax for c in speeds))
    features = []
    for feature in FEATURES:
        say(f"area and clock with {feature.name}")
        with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
            folder = _with_hash_of(verilog, hardware(replace(config, **feature.change)), Path(work) / "changed")
            slowest = min(c.fmax for c in clocks(folder, BLOCKS))
            features.append(feature.adds(default, Measured(areas(folder)[0], _kge(folder, ROOT), slowest)))
    for kind in ("aligned", "fma"):
        folder = hardware(replace(config, arithmetic=kind))
        pe = f"{PREFIX}{kind}_pe"
        more = unit_area(folder, f"{pe}_diagonal").plus(unit_area(folder, pe), -1)
        kge = round(_kge(folder, f"{pe}_diagonal") - _kge(folder, pe), 2)
        features.append(
            {**asdict(replace(more, unit=f"diagonal mode, `{kind}` processing element")), "kge": kge, "mhz": []}
        )
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
        "features": features,
        "clocks": [asdict(c) for c in speeds],
        "whole": [asdict(c) for c in whole],
        "fma": [asdict(c) for c in fma],
    }


def _with_hash_of(default: Path, verilog: Path, copy: Path) -> Path:
    """A copy of an accelerator with the default one's hash of the configuration, a constant to read: it moves a few
    LUTs, and would be all that differs in its block, which is the largest to place."""
    shutil.copytree(verilog, copy)
    pattern = re.compile(r"localparam CONFIG_HASH = .+;")
    (known,) = {found[0] for path in default.rglob("*.v") for found in pattern.finditer(path.read_text())}
    for path in copy.rglob("*.v"):
        path.write_text(pattern.sub(known, path.read_text()))
    return copy


def _kge(folder: Path, unit: str) -> float:
    """Thousands of gate equivalents of a unit with everything in it, its SRAM macros left out."""
    return cells_of(mapped(modules(folder), unit, technology()), unit, technology()).gates / 1000


def block_clocks(data: dict[str, Any]) -> dict[str, float]:
    """MHz of every block placed alone, by its name."""
    return {block_name(clock["unit"]): round(clock["fmax"], 1) for clock in data["clocks"] + data["fma"]}


def keep_clocks(data: dict[str, Any]) -> None:
    """Put the clocks among the figures that `heepgen ppa` and `explore` price by."""
    units = json.loads(composition.UNITS.read_text()) | {"mhz": block_clocks(data)}
    write_file(composition.UNITS, json.dumps(units, indent=1) + "\n", "units")


def measure_before(folder: Path, config: Config) -> dict[str, float]:
    """Clocks of an earlier version, whose accelerators lie in `folder` by geometry, as in folder/8x8p2."""
    from gen.documents.measured.bench import geometry_name

    name = geometry_name(config)
    found = clocks(folder / name, BLOCKS) + clocks(folder / f"{name}-fma", ["fma_pe"])
    found += [replace(clock(folder / g, ROOT), unit=g) for g in WHOLE if (folder / g).is_dir()]
    return {block_name(c.unit): c.fmax for c in found}


def main(docs: str = "docs", before: str | None = None) -> None:
    """Measure the default accelerator and write area.md and area.json to `docs`, and its clocks for `heepgen ppa`.

    `before`: folder for `measure_before`, named after the version; without it the document keeps what it has.
    """
    from gen.records.result import to_json

    folder = Path(docs)
    known = json.loads((folder / DATA).read_text()) if (folder / DATA).exists() else {}
    data = measure(Config())
    data["verilog"] = stamps(configurations())
    data["before"], data["before_name"] = known.get("before", {}), known.get("before_name", "")
    if before:
        data["before"], data["before_name"] = measure_before(Path(before), Config()), Path(before).name
    write_file(folder / DATA, to_json(data), output.DOCUMENT)
    keep_clocks(data)
    write_file(folder / DOCUMENT, markdown(data), output.DOCUMENT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m gen.documents.measured.area", description="Measure area and clock; takes minutes."
    )
    parser.add_argument("docs", nargs="?", default="docs", help="folder of area.md and area.json")
    parser.add_argument("before", nargs="?", help="accelerators of an earlier version to compare with")
    main(**vars(parser.parse_args()))
