# SPDX-License-Identifier: Apache-2.0
"""A quantised graph -> programs, one for every choice of what stays on chip."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from firmware_gen import ir
from firmware_gen.memory import planner
from firmware_gen.memory.arena import buffers_of, memory_report, program_bytes
from firmware_gen.operations.constants import Constants
from firmware_gen.operations.operation import copied
from firmware_gen.operations.tensors import Ref, Tensor, copy_outputs, laid_out, lay_out, streamed
from firmware_gen.passes.hardware.planes import retiled
from firmware_gen.targets.descriptor.known import Known
from firmware_gen.targets.descriptor.linked.arena import losses, lost_by_constants, plan_arena
from firmware_gen.targets.descriptor.linked.link import link
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS, PROFILE, Layer, Lowered, Program, initial_of
from firmware_gen.targets.descriptor.lowering import banded, depth_first
from firmware_gen.targets.descriptor.lowering.depth_first import Group, Link
from firmware_gen.targets.descriptor.lowering.job import DESCRIPTOR_BYTES, Job
from firmware_gen.targets.descriptor.lowering.jobs import NotInPlace, flat_jobs
from firmware_gen.targets.descriptor.lowering.layout import tiles_of
from firmware_gen.targets.descriptor.scratchpad import residency
from firmware_gen.targets.descriptor.scratchpad.homes import Home
from firmware_gen.targets.descriptor.scratchpad.rotation import frames_of, rotated
from firmware_gen.targets.descriptor.scratchpad.splice import Plan
from firmware_gen.targets.descriptor.strips import Rough
from firmware_gen.targets.descriptor.timing.demand import array_or_bus
from hls.config import Config
from hls.descriptor.interface.table import WORDS
from hls.errors import HeepgenError

SPARE = (0, 100)
"""Descriptors for which memory is kept beside those that layers are chosen to have, tried in turn: what lies in memory
does not fill it without gaps."""


def compile_graph(graph: ir.Graph, config: Config, profile: bool = True, keep_activations: bool = False) -> Program:
    """The first of `compile_choices`."""
    return next(compile_choices(graph, config, profile, keep_activations))


def compile_choices(
    graph: ir.Graph,
    config: Config,
    profile: bool = True,
    keep_activations: bool = False,
    keep_inputs: bool = True,
    pitches: Mapping[str, int] | None = None,
    ranked: Rough | None = None,
) -> Iterator[Program]:
    """Compile a quantised graph, once for every choice of what stays on chip, and of whether maps have a pitch.

    profile: every descriptor writes a record. keep_activations: all activations stay in memory, where none shares its
    place with another. keep_inputs: inputs survive, where there is room. pitches: of maps, where they are known; bits
    depend on them. ranked: learns what programs are expected to take.
    Raises HeepgenError when a layer or the memory does not fit."""
    graph = copy_outputs(retiled(graph, tiles_of(config)))
    both, ranked = [pitches], ranked or Rough(few=1)
    if pitches is None:
        found = banded.pitches(graph, lay_out(graph), config)
        both = [found, {}] if found else [{}]
    for number, chosen in enumerate(both, 1):
        try:
            yield from _choices(graph, config, profile, keep_activations, keep_inputs, chosen or {}, ranked)
        except planner.DoesNotFit:  # pitches, and the weights of banded tiles, take memory
            if number == len(both):
                raise


def may_have_pitches(graph: ir.Graph, config: Config) -> bool:
    """Whether there is a choice of pitches, and so of bits."""
    graph = copy_outputs(retiled(graph, tiles_of(config)))
    return bool(banded.pitches(graph, lay_out(graph), config))


def _choices(
    graph: ir.Graph,
    config: Config,
    profile: bool,
    keep_activations: bool,
    keep_inputs: bool,
    pitches: Mapping[str, int],
    ranked: Rough,
) -> Iterator[Program]:
    """`compile_choices` for one choice of pitches, by value."""
    lower = partial(_lowered, graph, config, Known(graph, config), not keep_activations, pitches=pitches)
    whole = lower()
    lost = list[float]()  # by constants of the programs with tensors on chip
    place = partial(_placed_on_chip, graph, config, whole, profile=profile, keep_inputs=keep_inputs)
    if config.scratchpad_words and not keep_activations:
        early, late = _before_readers(graph, whole.tensors), _behind_layers(graph, whole.tensors)
        for separate in dict.fromkeys((frozenset(), early, early | late)):
            own = lower(separate=separate) if separate else whole
            for program in _resident(graph, own, config, partial(lower, separate=separate), place, ranked):
                yield program
                lost.append(lost_by_constants(program))
        for group in depth_first.in_place_groups(graph, whole.tensors, config):
            everything = (config.scratchpad_words - 1).bit_length()
            storages = (whole.tensors[graph.nodes[step].output].storage for step in group.steps[:-1])
            homes = dict.fromkeys(storages, Home(0, everything))
            try:
                resident = lower(homes, (group,))
                yield _placed(graph, config, whole, resident, (group,), homes, profile, keep_inputs=keep_inputs)
            except HeepgenError:  # as above, or a layer does not fit the buffers so
                continue
    if not lost:
        yield _placed(
            graph=graph,
            config=config,
            whole=whole,
            lowered=whole,
            groups=(),
            scratchpad=MappingProxyType({}),
            profile=profile,
            keep_activations=keep_activations,
            keep_inputs=keep_inputs,
        )
    elif min(lost):
        with suppress(planner.DoesNotFit):
            program = _placed(graph, config, whole, whole, profile=profile, keep_inputs=keep_inputs)
            if lost_by_constants(program) < min(lost):
                yield program


def _resident(
    graph: ir.Graph,
    whole: Lowered,
    config: Config,
    lower: Callable[..., Lowered],
    place: Callable[..., Program | None],
    ranked: Rough,
) -> Iterator[Program]:
    """Programs for every choice of what stays on chip, and for the best parts of all. whole: with nothing there."""
    for spare in SPARE:
        asked, plans, fits = _asked(graph, whole, config, spare), list[Plan](), False
        for groups, scratchpad, rotation in _residency(graph, whole, config, asked):
            program = place(lower(scratchpad, groups, rotation=rotation), groups, scratchpad)
            if program is None:  # what lies in memory leaves gaps
                continue
            fits = True
            yield program
            if not rotation and (cycles := ranked.by_layer(program)):
                plans.append(Plan(groups, frozenset(scratchpad), cycles))
        if len(plans) > 1 and (choice := residency.splice(plans, **asked._asdict())):
            groups, scratchpad = choice
            if program := place(lower(scratchpad, groups), groups, scratchpad):
                yield program
        if fits:
            return


def _placed_on_chip(
    graph: ir.Graph,
    config: Config,
    whole: Lowered,
    lowered: Lowered,
    groups: Sequence[Group],
    scratchpad: Mapping[str, Home],
    profile: bool,
    keep_inputs: bool,
) -> Program | None:
    """`_placed`, None where memory does not hold what stays there."""
    try:
        return _placed(graph, config, whole, lowered, groups, scratchpad, profile, keep_inputs=keep_inputs)
    except planner.DoesNotFit:
        return None


def _before_readers(graph: ir.Graph, tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Elementwise layers that overwrite an operand, and could take turns with their only reader if they did not."""
    found = set()
    for node, reader in zip(graph.nodes, graph.nodes[1:]):
        overwritten = {tensors[v].storage for v in node.inputs} & {tensors[node.output].storage}
        on_array = node.runs_on is reader.runs_on is ir.Place.ARRAY
        if node.in_place and on_array and overwritten and graph.read_once_by(node.output) is reader:
            found.add(node.name)
    return frozenset(found)


def _behind_layers(graph: ir.Graph, tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Elementwise layers that overwrite what the layer before them, which is none, computes for them alone, and could
    take turns with it if they did not."""
    found = set[str]()
    for node, reader in zip(graph.nodes, graph.nodes[1:]):
        overwrites = tensors[node.output].storage == tensors[reader.output].storage
        on_array = node.runs_on is reader.runs_on is ir.Place.ARRAY
        maps = len(graph.out_shape(reader)) == 4 and reader.inputs[0] == node.output
        if reader.in_place and not node.in_place and overwrites and on_array and maps:
            found.update({reader.name} if graph.read_once_by(node.output) is reader else ())
    return frozenset(found)


def _placed(
    graph: ir.Graph,
    config: Config,
    whole: Lowered,
    lowered: Lowered,
    groups: Sequence[Group] = (),
    scratchpad: Mapping[str, Home] = MappingProxyType({}),
    profile: bool = False,
    keep_activations: bool = False,
    keep_inputs: bool = True,
) -> Program:
    """The program of lowered layers, with addresses."""
    jobs, layers = lowered.jobs, lowered.layers
    count = len(jobs) + len(lowered.beginning)
    arrays = {DESCRIPTORS: np.zeros(WORDS * max(count, 1), np.uint32), **lowered.constants}
    arrays |= _initial(graph, lowered.tensors)
    records = len(jobs) * profile
    arena = plan_arena(
        graph=graph,
        lowered=lowered,
        groups=groups,
        arrays=arrays,
        records=records,
        keep_all=keep_activations,
        scratchpad=scratchpad,
        config=config,
        keep_inputs=keep_inputs,
    )
    program = Program(
        graph=graph,
        config=config,
        tensors=lowered.tensors,
        arena_address=arena.address,
        arena_bytes=arena.bytes,
        offsets=arena.offsets,
        report=memory_report(graph, layers, arena, config, (PROFILE,)),
        keeps_input=arena.keeps_input,
        layers=layers,
        jobs=jobs,
        beginning=lowered.beginning,
        constants=arrays,
        placed={p.name: p for p in arena.constants},
        scratchpad=scratchpad,
        rotation=lowered.rotation,
        whole=whole,
    )
    return replace(program, constants=arrays | {DESCRIPTORS: link(program, profile)}) if jobs else program


def _initial(graph: ir.Graph, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """What states on chip are at first, as they lie there, by `initial_of`."""
    arrays = {}
    for state in graph.state:
        if (tensor := tensors[state.value]).on_chip:
            words = np.zeros(tensor.size, np.float32)
            words[tensor.words()] = state.initial
            arrays[initial_of(state.value)] = words.view(np.uint32)
    return arrays


def moved(program: Program, share: planner.Share) -> Program:
    """The program with its constants and its arena there."""
    placed, report = {p.name: p for p in share.constants}, program.report_at(share)
    there = replace(program, arena_address=share.arena_address, report=report, placed=placed)
    if not program.jobs:
        return there
    return replace(there, constants={**there.constants, DESCRIPTORS: link(there, PROFILE in there.offsets)})


def in_memory(program: Program, keep_inputs: bool = True) -> Program:
    """The same network with every tensor whole and in memory, as the CPU's kernels need it."""
    return _in_memory(program.graph, program.config, program.whole, keep_inputs) if program.scratchpad else program


@lru_cache(maxsize=8)
def _in_memory(graph: ir.Graph, config: Config, whole: Lowered, keep_inputs: bool) -> Program:
    return _placed(graph, replace(config, scratchpad_words=0), whole, whole, keep_inputs=keep_inputs)


def _lowered(
    graph: ir.Graph,
    config: Config,
    known: Known,
    share: bool,
    on_chip: Container[str] = (),
    groups: Sequence[Group] = (),
    separate: Iterable[str] = (),
    rotation: int = 0,
    pitches: Mapping[str, int] = MappingProxyType({}),
) -> Lowered:
    """Every layer as jobs; layers in `separate` overwrite nothing, nor do those whose residual is needed."""
    apart = set(separate)
    while True:
        tensors = lay_out(graph, share, apart, on_chip, rotation, pitches)
        constants = Constants({name: words.view(np.uint32) for name, words in laid_out(graph, tensors).items()})
        jobs: list[Job] = []
        own: list[list[int]] = [[] for _ in graph.nodes]
        try:
            for group in depth_first.all_groups(graph, groups):
                for step, new in known.jobs(group, tensors, constants):
                    own[step] += range(len(jobs), len(jobs) + len(new))
                    jobs += new
        except NotInPlace as error:
            apart.add(str(error))
        else:
            for node in graph.nodes:
                if isinstance(node, ir.Apply):
                    constants.table(node.function)
            layers = tuple(
                _layer(graph, node, tensors, tuple(indices), jobs, config)
                for node, indices in zip(graph.nodes, own, strict=True)
            )
            beginning = _beginning(graph, tensors, constants, config)
            return Lowered(
                tensors=tensors,
                constants=constants.arrays,
                jobs=tuple(jobs),
                layers=layers,
                beginning=beginning,
                rotation=rotation,
                pitches=pitches,
            )


def _beginning(graph: ir.Graph, tensors: Mapping[str, Tensor], constants: Constants, config: Config) -> tuple[Job, ...]:
    """Jobs that write what states on chip are at first, which the accelerator alone can do."""
    jobs: list[Job] = []
    for state in graph.state:
        if (tensor := tensors[state.value]).on_chip:
            copy = copied(Ref(initial_of(state.value)), tensor.base, tensor.size)
            jobs += flat_jobs(state.name, copy, constants, config)
    return tuple(jobs)


class _Asked(NamedTuple):
    """What `residency` is to know."""

    jobs: Sequence[Sequence[Job]]
    links: Sequence[Link]
    buffers: list[planner.Buffer]
    excluded: Iterable[str]
    arena: int
    config: Config


def _asked(graph: ir.Graph, whole: Lowered, config: Config, spare: int) -> _Asked:
    """Of a network lowered without layers that take turns, and with all tensors in memory."""
    tensors, jobs, layers = whole.tensors, whole.jobs, whole.layers
    used = program_bytes(graph) + sum(a.nbytes for a in whole.constants.values()) + len(jobs) * DESCRIPTOR_BYTES
    arena = planner.memory_map(config)[1] - used - spare * DESCRIPTOR_BYTES
    outside = {t.storage for layer in layers if layer.on_cpu for t in (*layer.sources, layer.target)}
    outside |= {tensors[v].storage for v in (*graph.inputs, *graph.outputs)} - streamed(graph)
    own = [[jobs[i] for i in layer.descriptors] for layer in layers]
    links = depth_first.links(graph, tensors, own, config)
    return _Asked(own, links, buffers_of(graph, tensors, layers, False, False), outside, arena, config)


def _residency(
    graph: ir.Graph, whole: Lowered, config: Config, asked: _Asked
) -> list[tuple[tuple[Group, ...], dict[str, Home], int]]:
    """`residency.choose`; and by how many words the scratchpad rotates between calls, which is something in one more
    choice for a stream."""
    poolings, lost = depth_first.poolings(graph, whole.tensors), losses(whole.jobs, whole.constants, config)
    found = residency.choose(**asked._asdict(), poolings=poolings, lost=lost)
    choices = [(groups, homes, 0) for groups, homes in found]
    if frames := frames_of(graph):
        alone = [c for c in found if not c[0]] or residency.choose(**asked._replace(links=())._asdict())
        for _, homes in alone[:1]:
            rotation, stay = rotated(frames, homes, asked.buffers, config)
            if rotation:
                choices.append(((), stay, rotation))
    return choices


def _layer(
    graph: ir.Graph,
    node: ir.Node,
    tensors: Mapping[str, Tensor],
    descriptors: tuple[int, ...],
    jobs: Sequence[Job],
    config: Config,
) -> Layer:
    sources, target = tuple(tensors[v] for v in node.inputs), tensors[node.output]
    own = [jobs[i] for i in descriptors]
    bound = 0
    if own:
        weight = node.weight.size if isinstance(node, ir.Weighted) else 0
        residual = sum(t.size for t in sources[1:]) if any(j.descriptor.residual for j in own) else 0
        inputs = sum(t.size for t in sources) - residual
        loaded = min(inputs, sum(j.descriptor.load_words for j in own)) + residual
        streamed = sum(j.vectors for j in own)
        bound = array_or_bus(streamed, loaded, target.size, weight, config.ports)
    return Layer(
        node=node,
        op=node.op,
        in_shape=sources[0].shape,
        out_shape=target.shape,
        macs=graph.macs(node),
        sources=sources,
        target=target,
        descriptors=descriptors,
        bound_cycles=bound,
    )
