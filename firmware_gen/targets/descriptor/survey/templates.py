# SPDX-License-Identifier: Apache-2.0
"""What was decided for one configuration, to be taken over for others: what stays on chip, who takes turns, in which
pieces layers are cut.

A template is a compiled network without what depends on rows, columns, ports and strips.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from firmware_gen import ir
from firmware_gen.memory import planner
from firmware_gen.memory.arena import extent, program_bytes
from firmware_gen.targets.descriptor.compiler import compile_choices
from firmware_gen.targets.descriptor.lowering.streams import operations_of
from firmware_gen.targets.descriptor.program import Layer, Program
from firmware_gen.targets.descriptor.survey.flow import Link
from firmware_gen.targets.descriptor.survey.shapes import Shape
from hls.config import Config
from hls.descriptor.interface.table import Linked, on_chip

AMPLE: dict[str, Any] = {"memory_banks": 64, "memory_banks_interleaved": (64,), "bank_kib": 256, "banded": False}
"""Memory in which decisions are made: whether a network fits is asked later. Depthwise layers are taken to be diagonal,
which banded ones are faster than."""


@dataclass(frozen=True)
class Stream:
    """A constant that descriptors read: its words are those of the first `link` that does. weights: or parameters."""

    name: str
    link: int
    weights: bool


@dataclass(frozen=True)
class Template:
    """Of one network. links: of every descriptor; lists: where those of a doorbell begin and end. layers: the number
    of every descriptor's layer. constants: names, in order; streams: those whose size depends on the configuration,
    by whose numbers every descriptor has its `weights_of` and `params_of`, -1 without; fixed: bytes of all others.
    arenas: bytes of the arena, with the inputs kept, and without. program: bytes kept for it."""

    network: str
    links: tuple[Link, ...]
    lists: tuple[tuple[int, int], ...]
    constants: tuple[str, ...]
    streams: tuple[Stream, ...]
    weights_of: tuple[int, ...]
    params_of: tuple[int, ...]
    fixed: tuple[tuple[str, int], ...]
    arenas: tuple[int, int]
    program: int
    names: tuple[str, ...]
    on_cpu: tuple[str, ...]


def templates_of(graph: ir.Graph, config: Config) -> list[Template]:
    """One for every choice that the compiler has for a configuration; raises `HeepgenError` as that does."""
    return [_template(program) for program in compile_choices(graph, replace(config, **AMPLE))]


def _template(program: Program) -> Template:
    flat = [_is_flat(layer) for layer in program.layers]
    number = {i: n for n, layer in enumerate(program.layers) for i in layer.descriptors}
    links = tuple(_link(f, program.config, number[i], flat[number[i]]) for i, f in enumerate(program.linked))
    streams: dict[str, Stream] = {}
    weights_of, params_of = list[int](), list[int]()
    for i, job in enumerate(program.jobs):
        f = job.descriptor
        for where, weights, used in ((f.weight_addr, True, weights_of), (f.param_addr, False, params_of)):
            if isinstance(where, int):
                used.append(-1)
                continue
            streams.setdefault(where.name, Stream(where.name, i, weights))
            used.append(list(streams).index(where.name))
    fixed = [(name, array.nbytes) for name, array in program.constants.items() if name not in streams]
    return Template(
        program.graph.name,
        links,
        tuple((listed.first, listed.end) for listed in program.lists),
        tuple(program.constants),
        tuple(streams.values()),
        tuple(weights_of),
        tuple(params_of),
        tuple(fixed),
        _arenas(program),
        program_bytes(program.graph),
        tuple(layer.name for layer in program.layers),
        tuple(layer.name for layer in program.layers if layer.on_cpu),
    )


def _is_flat(layer: Layer) -> bool:
    """Whether it works on words in a row, whatever their channels."""
    operations = operations_of(layer.node, list(layer.sources), layer.target) if layer.descriptors else []
    return any(operation.flat for operation in operations)


def _link(f: Linked, config: Config, layer: int, flat: bool) -> Link:
    load, store, aux = (
        bool(config.scratchpad_words) and on_chip(where) for where in (f.load_addr, f.store_addr, f.aux_addr)
    )
    shape = Shape.of(f, f.out_px * f.cout if flat else 0)
    return Link(shape, load, store, aux, bool(f.barrier), bool(f.mark_words), layer)


def _arenas(program: Program) -> tuple[int, int]:
    """Bytes of the arena, with inputs that are kept, and without."""
    kept = [planner.Buffer(b["name"], b["size"], b["born"], b["dies"]) for b in program.report.buffers]
    inputs = {program.tensors[value].storage for value in program.graph.arguments}
    last = dict.fromkeys(inputs, -1)
    for number, layer in enumerate(program.layers):
        last |= {t.storage: number for t in layer.sources if t.storage in inputs}
    freed = [replace(b, dies=last[b.name]) if b.name in inputs else b for b in kept]
    return program.arena_bytes, extent(freed, planner.allocate(freed))


def anchors(configs: Sequence[Config]) -> list[Config]:
    """Of configurations that differ in rows, columns and arithmetic, those whose templates do for all: one with a
    smaller array and one with a larger one, nearly square."""
    own = sorted(configs, key=lambda c: c.rows * c.cols)
    likes = [own[round(share * (len(own) - 1))] for share in QUANTILES]
    return list(dict.fromkeys(min(own, key=lambda c: _distance(c, like)) for like in likes))


QUANTILES = (0.25, 0.75)


def _distance(config: Config, like: Config) -> tuple[float, str]:
    size = abs(math.log(config.rows * config.cols / (like.rows * like.cols)))
    return size + 0.5 * abs(math.log(config.rows / config.cols)), config.arithmetic
