# SPDX-License-Identifier: Apache-2.0
"""What was decided for one configuration, to be taken over for others: what stays on chip, who takes turns, in which
pieces layers are cut.

A template is a compiled network without what depends on rows, columns, ports and strips.
"""

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen import ir
from firmware_gen.memory import planner
from firmware_gen.memory.arena import extent, program_bytes, sizes_of
from firmware_gen.operations.tensors import copy_outputs, lay_out
from firmware_gen.targets.descriptor.compiler import compile_choices
from firmware_gen.targets.descriptor.linked.program import PROFILE, Layer, Program
from firmware_gen.targets.descriptor.lowering import folded
from firmware_gen.targets.descriptor.lowering.banded import pitches
from firmware_gen.targets.descriptor.lowering.streams import operations_of
from firmware_gen.targets.descriptor.strips import Rough, near
from firmware_gen.targets.descriptor.survey.banded import Columns, depthwise, paying
from firmware_gen.targets.descriptor.survey.flow import Link
from firmware_gen.targets.descriptor.survey.lanes import paid_alike
from firmware_gen.targets.descriptor.survey.on_cpu import OnCpu
from firmware_gen.targets.descriptor.survey.shapes import Shape
from hls.config import Config
from hls.descriptor.interface.table import Linked, on_chip

OF_A_KIND = 2
"""Choices of a configuration, with pitches or without, that become templates."""

AMPLE: dict[str, Any] = {"memory_banks": 64, "memory_banks_interleaved": (64,), "bank_kib": 256}
"""Memory in which decisions are made where a network does not fit: others may have room for what is decided."""


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
    arenas: bytes of the arena, with the inputs kept, and without. turns: where layers take turns, the most bytes that
    are alive in it at once, else 0. descriptors: their number. program: bytes kept for it. on_cpu: what the CPU does.
    pitches: whether maps of depthwise layers have some, for banded tiles; more: bytes that these would take."""

    network: str
    links: tuple[Link, ...]
    lists: tuple[tuple[int, int], ...]
    constants: tuple[str, ...]
    streams: tuple[Stream, ...]
    weights_of: tuple[int, ...]
    params_of: tuple[int, ...]
    fixed: tuple[tuple[str, int], ...]
    arenas: tuple[int, int]
    turns: int
    descriptors: int
    program: int
    names: tuple[str, ...]
    on_cpu: OnCpu
    pitches: bool
    more: int


def templates_of(graph: ir.Graph, config: Config, ample: bool = True) -> list[Template]:
    """One for every choice that the compiler has for a configuration and that may be the fastest, with pitches and
    without; raises `HeepgenError` as that does. ample: where the network does not fit, has the configuration more
    memory."""
    plain = copy_outputs(graph)
    tensors = lay_out(plain)
    columns = depthwise(plain, tensors)
    config = replace(config, packed_scales=True)  # those that may be
    ranked = Rough(few=1)
    try:
        programs = list(compile_choices(graph, config, ranked=ranked))
    except planner.DoesNotFit:
        if not ample:
            raise
        ranked = Rough(few=1)
        programs = list(compile_choices(graph, replace(config, **AMPLE), ranked=ranked))
    sizes = sizes_of(lay_out(plain, pitches=pitches(plain, tensors, config)))
    kinds = ([p for p in programs if bool(p.whole.pitches) is own] for own in (True, False))
    return [_template(program, columns, sizes) for kind in kinds for program in near(kind, OF_A_KIND, ranked)]


def _template(program: Program, columns: Mapping[str, Columns], pitched: Mapping[str, int]) -> Template:
    flat = [_is_flat(layer) for layer in program.layers]
    number = {i: n for n, layer in enumerate(program.layers) for i in layer.descriptors}
    own = [columns.get(layer.node.name) for layer in program.layers]
    taken = _taken(program, [own[number[i]] for i in range(len(program.jobs))])
    place = {first: n for n, first in enumerate(taken)}
    marked = _marked(program, taken)
    links = tuple(
        _link(program.linked[i], program.config, marks, number[i], flat[number[i]], own[number[i]])
        for i, marks in zip(taken, marked, strict=True)
    )
    streams: dict[str, Stream] = {}
    weights_of, params_of = list[int](), list[int]()
    for i, first in enumerate(taken):
        f = program.jobs[first].descriptor
        for where, weights, used in ((f.weight_addr, True, weights_of), (f.param_addr, False, params_of)):
            if isinstance(where, int) or where.name not in program.constants:  # the arena has planes
                used.append(-1)
                continue
            streams.setdefault(where.name, Stream(where.name, i, weights))
            used.append(list(streams).index(where.name))
    skipped = (program.jobs[i].descriptor for i in range(len(program.jobs)) if i not in place)
    counted = {w.name for f in skipped for w in (f.weight_addr, f.param_addr) if not isinstance(w, int)}  # with streams
    sizes = ((name, array.nbytes) for name, array in program.constants.items() if name not in counted)
    fixed = [(name, size) for name, size in sizes if name not in streams]
    return Template(
        network=program.graph.name,
        links=links,
        lists=tuple((place[listed.first], sum(i < listed.end for i in taken)) for listed in program.lists),
        constants=tuple(program.constants),
        streams=tuple(streams.values()),
        weights_of=tuple(weights_of),
        params_of=tuple(params_of),
        fixed=tuple(fixed),
        arenas=_arenas(program),
        turns=_turns(program),
        descriptors=len(program.jobs),
        program=program_bytes(program.graph),
        names=tuple(layer.name for layer in program.layers),
        on_cpu=OnCpu.of(program.layers, len(program.lists)),
        pitches=bool(program.whole.pitches),
        more=_more(program, pitched),
    )


def _taken(program: Program, columns: Sequence[Columns | None]) -> list[int]:
    """Descriptors of a template: of several by banded tiles that compute the same rows the first."""
    found, skip = list[int](), 0
    for i, f in enumerate(program.linked):
        if i < skip:
            continue
        found.append(i)
        if f.band and (own := columns[i]) is not None:
            skip = i + own.whole(program.linked[i:])
    return found


def _is_flat(layer: Layer) -> bool:
    """Whether it works on words in a row, whatever their channels."""
    operations = operations_of(layer.node, list(layer.sources), layer.target) if layer.descriptors else []
    return any(operation.flat for operation in operations)


def _marked(program: Program, taken: Sequence[int]) -> list[bool]:
    """Whether descriptors mark what the next ones read; of several that one was taken of, whether that one would."""
    linked, found = program.linked, []
    for i, after in itertools.pairwise([*taken, len(linked)]):
        follows = after < len(linked) and linked[after].barrier and linked[after].load_addr == linked[i].store_addr
        found.append(bool(linked[i].mark_words or (after - i > 1 and follows)))
    return found


def _link(f: Linked, config: Config, marks: bool, layer: int, flat: bool, columns: Columns | None) -> Link:
    load, store, aux = (
        bool(config.scratchpad_words) and on_chip(where) for where in (f.load_addr, f.store_addr, f.aux_addr)
    )
    shape = Shape.of(f, f.out_px * f.cout if flat else 0)
    if f.band and columns:
        shape = columns.diagonal(shape)
    own = columns if shape.diagonal and shape.cout == (columns and columns.channels) else None
    return Link(
        shape=shape,
        load_chip=load,
        store_chip=store,
        operand_chip=aux,
        barrier=bool(f.barrier),
        marks=marks,
        layer=layer,
        columns=own,
    )


def _arenas(program: Program) -> tuple[int, int]:
    """Bytes of the arena, with inputs that are kept, and without."""
    freed = _freed(program)
    return program.arena_bytes, extent(freed, planner.allocate(freed))


def _more(program: Program, pitched: Mapping[str, int]) -> int:
    """Bytes by which the arena grows where storages have the sizes that pitches give them."""
    own = _freed(program)
    grown = [replace(b, size=max(b.size, pitched.get(b.name, 0))) for b in own]
    return planner.peak(grown, len(program.layers))[0] - planner.peak(own, len(program.layers))[0]


def _turns(program: Program) -> int:
    """The most bytes that are alive at once, where layers take turns."""
    if len(program.jobs) <= len(program.whole.jobs):
        return 0
    return planner.peak([b for b in _freed(program) if b.name != PROFILE], len(program.layers))[0]


def _freed(program: Program) -> list[planner.Buffer]:
    """What is in the arena, inputs until they are read."""
    kept = [planner.Buffer(b["name"], b["size"], b["born"], b["dies"]) for b in program.report.buffers]
    inputs = {program.tensors[value].storage for value in program.graph.arguments}
    last = dict.fromkeys(inputs, -1)
    for number, layer in enumerate(program.layers):
        last |= {t.storage: number for t in layer.sources if t.storage in inputs}
    return [replace(b, dies=last[b.name]) if b.name in inputs else b for b in kept]


ANCHORS = (6, 12)
"""Configurations for which the compiler decides, or one or two more: of a network of many layers, and of one of few."""

LAYERS = 160
"""For which it decides in all: what it takes grows with them."""


def decided(graph: ir.Graph, configs: Sequence[Config], among: Sequence[Config]) -> list[tuple[Config, list[int]]]:
    """Of configurations `among` that differ in rows, columns, ports and arithmetic, some for which the compiler
    decides, each with the numbers of those of `configs` for which it decides too: the nearest ones of those on which
    banded tiles, and rows side by side, pay for the same layers, or most nearly so."""
    plain = copy_outputs(graph)
    tensors = lay_out(plain)
    columns = tuple(depthwise(plain, tensors).values())
    convolutions = [node for node in plain.nodes if isinstance(node, ir.Conv) and not node.is_transposed]
    first = [operations_of(n, [tensors[v] for v in n.inputs], tensors[n.output])[0].op for n in convolutions]
    folding = [op for op in first if folded.rows_of(op) > 1]

    known: dict[Hashable, tuple[bool, ...]] = {}

    def kind_of(config: Config) -> tuple[bool, ...]:
        alike = paid_alike(config)
        if alike not in known:
            known[alike] = (*paying(columns, config), *(folded.pays(op, config) for op in folding))
        return known[alike]

    kinds = [kind_of(config) for config in among]
    counts = Counter(kinds)
    fewest, most = ANCHORS
    anchors = min(max(LAYERS // max(len(plain.nodes), 1), fewest), most)
    likes: list[tuple[tuple[bool, ...], Config]] = []
    for kind, count in counts.most_common(anchors):
        if likes and count < len(among) / (2 * anchors):
            break
        own = [config for config, its in zip(among, kinds, strict=True) if its == kind]
        likes += [(kind, like) for like in apart(own, max(1, round(anchors * count / len(among))))]
    sides = _sides([like for _, like in likes])
    found: list[list[int]] = [[] for _ in likes]
    for number, (config, place) in enumerate(zip(configs, _sides(configs), strict=True)):
        kind = kind_of(config)
        unlike = np.array([its for its, _ in likes]) != np.array(kind) if kind else np.zeros((len(likes), 0))
        found[int((_distances(sides, place) + UNLIKE * unlike.sum(axis=1)).argmin())].append(number)
    return [(like, numbers) for (_, like), numbers in zip(likes, found, strict=True) if numbers]


UNLIKE = 100.0
"""Distance of arrays of kinds that differ in one layer: more than others have."""


def apart(configs: Sequence[Config], most: int) -> list[Config]:
    """Some far from each other, the first one of middle size."""
    sides = _sides(configs)
    chosen = [int(np.abs(sides - np.median(sides, axis=0)).sum(axis=1).argmin())]
    far = _distances(sides, sides[chosen[0]])
    while len(chosen) < most and far.max() > 0:
        chosen.append(int(far.argmax()))
        far = np.minimum(far, _distances(sides, sides[chosen[-1]]))
    return [configs[place] for place in chosen]


def _sides(configs: Sequence[Config]) -> NDArray[np.float64]:
    return np.log([(config.rows, config.cols, config.ports) for config in configs])


def _distances(sides: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.abs(sides - other).sum(axis=1)
    return found
