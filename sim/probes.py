# SPDX-License-Identifier: Apache-2.0
"""Signals inside a simulated accelerator that a recording samples: found in the Verilog, and read in C++."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from hls.errors import HeepgenError
from sim.split import INSTANCE

TEMPLATE = Path(__file__).parent / "testbench" / "probes.hpp.j2"
_WORD = 32


@dataclass(frozen=True)
class Probe:
    """Signal `name` (instance.signal of the root module), of `module` and `width` bits, sampled into bits `shift` and
    up of word number `word`."""

    name: str
    module: str
    width: int
    word: int
    shift: int


def find_probes(files: Sequence[Path], root: str, names: Sequence[str]) -> list[Probe]:
    """Where `names` are in the accelerator of `files`, packed; raises `HeepgenError` for one that is not there."""
    text = {f.stem: f.read_text(errors="replace") for f in files}
    modules = {instance: module for module, instance in INSTANCE.findall(text.get(root, "")) if module in text}
    probes, word, shift = [], 0, 0
    for name in names:
        instance, _, signal = name.partition(".")
        module = modules.get(instance, "") if signal else ""
        found = re.search(rf"\b(?:wire|reg) (?:signed )?(?:\[(\d+):0\] )?{signal}\b", text.get(module, ""))
        width = int(found[1] or 0) + 1 if found else 0
        if not 0 < width <= _WORD:
            raise HeepgenError(f"the accelerator has no signal {name} of at most {_WORD} bits, which a trace samples.")
        if shift + width > _WORD:
            word, shift = word + 1, 0
        probes.append(Probe(name, module, width, word, shift))
        shift += width
    return probes


def visible(probes: Sequence[Probe]) -> str:
    """Verilator configuration that keeps them readable."""
    lines = [f'public_flat_rd -module "{p.module}" -var "{p.name.partition(".")[2]}"\n' for p in probes]
    return "`verilator_config\n" + "".join(lines)


def probes_header(probes: Sequence[Probe], root: str) -> str:
    """C++ header with `Probes`, which samples them from the model of `root`."""
    template = jinja2.Template(
        TEMPLATE.read_text(), trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    words = probes[-1].word + 1 if probes else 0
    return str(template.render(probes=probes, words=words, root=root))
