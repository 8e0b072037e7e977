# SPDX-License-Identifier: Apache-2.0
"""Figures of units, from which `composition` prices any configuration: synthesised samples, fitted to their sizes.

`make ppa-units` writes units.json again, which takes an hour or two the first time, then only for what changed.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from gen.documents.measured.area import block_clocks
from gen.documents.measured.stamps import inside, stamps, unit_name
from gen.flows.measure.run import hardware
from gen.ppa import asic, composition, fpga, synthesis, tools, verilog
from gen.ppa.technology import Technology, technology
from gen.ppa.terms import CANDIDATES, values
from hls.config import Config
from hls.output import write_file

COMMAND = "make ppa-units"
METRICS = ("lut", "ff", "dsp", "bram", "um2", "leakage_uw")

MOST_TERMS = 4
"""Of a fit, and no more than half as many as it has samples, rounded up."""
NOISE = 1e-3
"""Relative error below which fits are equally good."""

_ARRAY = ("systolic_array",)
_SIZED = ("systolic_array", "activation_buffer", "weight_loader", "delay_line")
_BANDED = ("control", "scratchpad", "weight_loader", "sequencer", "activation_buffer")
_SMALL: Mapping[str, Any] = {
    "functions": False,
    "multiply": False,
    "int4_weights": False,
    "packed_scales": False,
    "scratchpad_words": 0,
    "accumulator_entries": 16,
    "activation_words": 256,
    "weight_bytes": 256,
}
SAMPLES: tuple[tuple[Mapping[str, Any], Sequence[str]], ...] = (
    ({"rows": 4, "cols": 4, "ports": 1}, ()),
    ({}, ()),
    ({"rows": 16, "cols": 16, "ports": 4, "accumulator_entries": 128}, ()),
    ({"rows": 1, "cols": 1, "ports": 1, **_SMALL}, ()),
    ({"rows": 2, "cols": 3, "ports": 4, "functions": False, "activation_words": 65536}, ()),
    ({"rows": 5, "cols": 12, "ports": 3, "multiply": False, "accumulator_entries": 32, "weight_bytes": 16384}, ()),
    ({"rows": 20, "cols": 24, "ports": 3}, (*_SIZED, "drain")),
    ({"rows": 16, "cols": 6, "ports": 1, "int4_weights": False}, _SIZED),
    ({"rows": 3, "cols": 10, "ports": 4, "multiply": False, "functions": False}, (*_SIZED, "drain")),
    ({"rows": 6, "cols": 32, "ports": 2}, _SIZED),
    ({"banded": False, "packed_scales": False}, (*_BANDED, "drain")),
    ({"rows": 2, "cols": 3, "ports": 4, "functions": False, "activation_words": 65536, "banded": False}, _BANDED),
    ({"rows": 6, "cols": 4}, ("control",)),
    ({"rows": 8, "cols": 5, "ports": 1}, ("control",)),
    ({"rows": 9, "cols": 7, "ports": 1, "functions": False, "scratchpad_words": 0}, ("control",)),
    ({"rows": 1, "cols": 1, "ports": 1, "arithmetic": "fma"}, _ARRAY),
    ({"rows": 4, "cols": 2, "ports": 2, "arithmetic": "fma"}, _ARRAY),
    ({"rows": 3, "cols": 8, "ports": 4, "arithmetic": "fma"}, _ARRAY),
    ({"rows": 12, "cols": 7, "ports": 3, "arithmetic": "fma"}, _ARRAY),
)
"""Options of the samples, and which units of them to synthesise; all where none is named."""


@dataclass(frozen=True)
class Sample:
    """Figures of a configuration, METRICS and `ns` of each (unit, part of it)."""

    config: Config
    parts: Mapping[tuple[str, str], Mapping[str, float]]


def sample(config: Config, units: Sequence[str] = ()) -> Sample:
    """Synthesise units of a configuration, all unless some are named; cached module by module."""
    texts, library = verilog.modules(hardware(config)), technology()
    modules = inside(texts, units)
    names = sorted({name for counts in modules.values() for name in counts})
    on_fpga = synthesis.own_modules(texts, names, fpga.flow())
    in_cells = synthesis.own_modules(texts, names, asic.asic_flow(library))
    parts: dict[tuple[str, str], dict[str, float]] = {}
    for module, counts in modules.items():
        for name, count in counts.items():
            key = (unit_name(module, config), verilog.block_name(name).removesuffix("_diagonal"))
            part = parts.setdefault(key, {"ns": 0.0})
            for metric, value in _figures(on_fpga[name].cells, in_cells[name].cells, library).items():
                part[metric] = part.get(metric, 0.0) + count * value
            part["ns"] = max(part["ns"], in_cells[name].delay_ns)
    return Sample(config, parts)


def _figures(on_fpga: Mapping[str, int], in_cells: Mapping[str, int], library: Technology) -> dict[str, float]:
    """METRICS of cells; what no figure is for, instances of modules among them, counts nothing."""
    area = fpga.summarise("", on_fpga)
    return {
        "lut": area.luts,
        "ff": area.flip_flops,
        "dsp": area.dsps,
        "bram": area.block_rams,
        "um2": sum(library.areas.get(cell, 0.0) * n for cell, n in in_cells.items()),
        "leakage_uw": sum(library.leakages.get(cell, 0.0) * n for cell, n in in_cells.items()) / 1000,
    }


def _rams() -> dict[str, dict[str, float]]:
    """Figures of RAMs alone by their sizes, as every unit has them, whatever its configuration is."""
    template = verilog.modules(hardware(Config()))
    (text,) = (text for name, text in template.items() if name.endswith("ram_width32_depth64"))
    texts = {}
    for width, words in composition.ram_sizes():
        name = f"{verilog.PREFIX}ram_width{width}_depth{words}"
        sized = text.replace("ram_width32_depth64", f"ram_width{width}_depth{words}")
        sized = sized.replace("[31:0]", f"[{width - 1}:0]").replace("[0:63]", f"[0:{words - 1}]")
        texts[name] = sized.replace("[5:0]", f"[{(words - 1).bit_length() - 1}:0]")
    library = technology()
    on_fpga = synthesis.own_modules(texts, list(texts), fpga.flow())
    in_cells = synthesis.own_modules(texts, list(texts), asic.asic_flow(library))
    return {
        "x".join(re.findall(r"\d+", name.removeprefix(verilog.PREFIX))): _figures(
            on_fpga[name].cells, in_cells[name].cells, library
        )
        for name in texts
    }


def fit(names: Sequence[str], sizes: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Terms with their factors for figures `found` (N) of N samples, whose terms `names` are `sizes` (N, names).

    Those terms are taken, at most MOST_TERMS, that leave the least error to samples left out; one more of them must
    shrink it by a fifth. A figure does not shrink with a size, so no factor but that of "1" may be negative.
    """
    if not found.any():
        return {}
    weights = 1 / np.maximum(found, 0.1 * found.max())
    least, best = np.inf, {}
    for count in range(1, min(MOST_TERMS, (len(found) + 1) // 2) + 1):
        for chosen in combinations(range(len(names)), count):
            error, factors = _left_out(sizes[:, chosen], found, weights)
            allowed = all(factor >= 0 or names[i] == "1" for i, factor in zip(chosen, factors, strict=True))
            cost = max(error, NOISE) / 0.8**count
            if allowed and cost < least:
                least, best = cost, {names[i]: float(f"{f:.5g}") for i, f in zip(chosen, factors, strict=True)}
    return best


def _left_out(sizes: np.ndarray, found: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Root mean square of the relative errors of samples that were left out, and the factors with all of them."""
    a, b = sizes * weights[:, None], found * weights
    inverse = np.linalg.pinv(a)
    factors = inverse @ b
    leverage = np.clip(np.einsum("ij,ji->i", a, inverse), 0, 1 - 1e-6)
    return float(np.sqrt(np.mean(((b - a @ factors) / (1 - leverage)) ** 2))), factors


def fitted(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """Terms and factors of every unit's figures, RAMs left out, and its longest path."""
    units: dict[str, dict[str, Any]] = {}
    for unit in dict.fromkeys(key[0] for one in samples for key in one.parts):
        names = ("1", *CANDIDATES[unit.removesuffix("_aligned").removesuffix("_fma")])
        mine = [one for one in samples if any(key[0] == unit for key in one.parts)]
        sizes = np.array([values(one.config, names) for one in mine])
        parts = dict.fromkeys(key for one in mine for key in one.parts if key[0] == unit and key[1] != "ram")
        total: dict[str, Any] = {metric: Counter() for metric in METRICS}
        for part in parts:
            for metric in METRICS:
                found = np.array([one.parts.get(part, {}).get(metric, 0.0) for one in mine])
                total[metric].update(fit(names, sizes, found))
        longest = max(one.parts.get(part, {}).get("ns", 0.0) for one in mine for part in parts)
        units[unit] = {metric: dict(terms) for metric, terms in total.items() if terms}
        units[unit]["ns"] = round(longest + technology().register_ns, 3)
    return units


def main(docs: str = "docs") -> None:
    """Write units.json; the clocks of blocks are those that `make area` left in `docs`."""
    samples = []
    with ProcessPoolExecutor() as pool:
        configs, units = zip(*((Config(**changed), named) for changed, named in SAMPLES), strict=True)
        for config, found in zip(configs, pool.map(sample, configs, units), strict=True):
            print(f"{config.rows}x{config.cols}p{config.ports}-{config.arithmetic}", flush=True)
            samples.append(found)
    library, area = technology(), json.loads((Path(docs) / "area.json").read_text())
    data = {
        "command": COMMAND,
        "yosys": tools.version(),
        "library": library.origin,
        "gate_um2": library.gate_area,
        "mhz": block_clocks(area),
        "units": fitted(samples),
        "rams": _rams(),
        "samples": stamps(SAMPLES),
    }
    write_file(composition.UNITS, json.dumps(data, indent=1) + "\n", "units")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m gen.documents.measured.unit_figures", description="Figures of units; takes hours."
    )
    parser.add_argument("docs", nargs="?", default="docs", help="folder of area.json")
    main(**vars(parser.parse_args()))
