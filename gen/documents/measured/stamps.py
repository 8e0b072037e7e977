# SPDX-License-Identifier: Apache-2.0
"""Of which hardware stored figures are: a hash of every unit's Verilog, which the command that measures writes beside
them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gen.flows.measure.run import hardware
from gen.ppa import fpga, verilog
from hls.config import Config
from sim.cache import content_key


def unit_name(module: str, config: Config) -> str:
    """The unit that a top-level module belongs to; several delay lines are one, arrays differ by arithmetic."""
    if module == verilog.ROOT:
        return fpga.GLUE
    name = verilog.block_name(module)
    return f"{name}_{config.arithmetic}" if name == "systolic_array" else name


def inside(texts: Mapping[str, str], units: Sequence[str]) -> dict[str, dict[str, int]]:
    """Modules of every top-level module that is, or belongs to, one of `units`, and how often they are in all of it."""
    found = {}
    for module, count in verilog.instances(texts, verilog.ROOT).items():
        if not units or verilog.block_name(module) in units:
            found[module] = {name: count * n for name, n in verilog.occurrences(texts, module).items()}
    if not units or fpga.GLUE in units:
        found[verilog.ROOT] = {verilog.ROOT: 1}
    return found


def verilog_of(config: Config, units: Sequence[str] = ()) -> dict[str, str]:
    """A hash of the Verilog, without comments, of every unit of a configuration, or of those named."""
    texts = verilog.modules(hardware(config))
    found: dict[str, set[str]] = {}
    for module, counts in inside(texts, units).items():
        found.setdefault(unit_name(module, config), set()).update(counts)
    return {unit: content_key(texts[name] for name in sorted(names))[:16] for unit, names in found.items()}


def stamps(configurations: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> list[dict[str, Any]]:
    """For each, of its options and units (all where none is named): its `options`, and `verilog_of` it."""
    return [{"options": dict(own), "verilog": verilog_of(Config(**own), units)} for own, units in configurations]


def changed(known: Mapping[str, str], config: Config, units: Sequence[str] = ()) -> list[str]:
    """Units that the sources generate another way now than when they had the hashes `known`."""
    now = verilog_of(config, units)
    return sorted(unit for unit in {*now, *known} if now.get(unit) != known.get(unit))


def sentence(units: Sequence[str], command: str) -> str:
    """What to do about figures of an earlier hardware."""
    return f"{', '.join(f'`{unit}`' for unit in units)} changed since: `{command}` measures again."
