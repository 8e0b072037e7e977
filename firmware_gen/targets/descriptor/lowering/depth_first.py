# SPDX-License-Identifier: Apache-2.0
"""Layers that take turns: each computes a few rows, the next one uses them, and only those are kept, in a ring.

A group is a chain of feature-map layers of which each reads what the one before writes, and nobody else does. For the
next rows of the last layer, every layer before it computes the rows that are missing, as pieces of its own:
descriptors on rectangles of the output.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from firmware_gen import ir
from firmware_gen.operations.constants import Constants
from firmware_gen.operations.operation import Operation
from firmware_gen.operations.tensors import Tensor, shares_storage
from firmware_gen.targets.descriptor.lowering import channels
from firmware_gen.targets.descriptor.lowering.axis import along
from firmware_gen.targets.descriptor.lowering.job import Job, activations
from firmware_gen.targets.descriptor.lowering.jobs import layer_jobs, split_jobs, taps_job, windowed_jobs
from firmware_gen.targets.descriptor.lowering.streams import operations_of
from hls.config import Config
from hls.descriptor.interface.rules import activation_room


@dataclass(frozen=True)
class Rows:
    """How a layer's window moves down its input."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    top: int

    def needed(self, first: int, end: int) -> tuple[int, int]:
        """Input rows of output rows first..end - 1."""
        (start, count, step), _, _ = along(
            (first, end), (0, self.kernel), self.inputs, self.stride, self.dilation, self.top
        )
        return start, start + (count - 1) * step + 1


@dataclass(frozen=True)
class Group:
    """Steps (nodes of the graph) that take turns, with the output rows of a piece of the last one.

    ahead: pieces by which every layer is ahead of the next one. With one no piece waits for the one just before it, but
    the rings hold more rows. early: the first layer's next piece comes before the last layer's, whose words are
    loaded while the layers between are drained. pooled: whether the last step pools what the one before it computes,
    whole in memory: rows that are complete, while the next ones are computed; `sooner` before these, so that the next
    loads need not wait. in_place: layers that multiply vectors by matrices, so many at a time; between all of them is
    one place in the scratchpad, where each stores over what it has loaded. by_channels: two layers take turns by
    ranges of channels, of all rows, whole where they lie.
    """

    steps: tuple[int, ...]
    height: int
    ahead: int = 0
    early: bool = False
    pooled: bool = False
    sooner: bool = False
    in_place: bool = False
    by_channels: bool = False

    @property
    def turning(self) -> tuple[int, ...]:
        """The steps that take turns by rings."""
        return () if self.by_channels else self.steps[:-1] if self.pooled else self.steps


@dataclass(frozen=True)
class Link:
    """`value` is written by `step` and read by `step` + 1 alone; words of one of its rows. by_channels: storages
    that both load, where they may take turns so, see `channels.may_take_turns`."""

    step: int
    value: str
    row_words: int
    source: Rows
    reader: Rows
    by_channels: frozenset[str] = frozenset()


def turns(layers: Sequence[Rows], group: Group) -> list[tuple[int, int, int]]:
    """(layer, first row, end row) of every piece of a group, in order."""
    height = group.height
    ends = [list(range(height, layers[-1].outputs, height)) + [layers[-1].outputs]]
    for rows in reversed(layers[1:]):
        needed = [rows.needed(first, end)[1] for first, end in zip([0, *ends[0]], ends[0])]
        ends.insert(0, list(itertools.accumulate(needed, max)))
    pieces = [
        (_place(layer, number, len(ends), group), layer, first, end)
        for layer, own in enumerate(ends)
        for number, (first, end) in enumerate(itertools.pairwise([0, *own]))
        if first < end
    ]
    return [(layer, first, end) for _, layer, first, end in sorted(pieces)]


def _place(layer: int, number: int, layers: int, group: Group) -> float:
    """What pieces of a group's layers are sorted by."""
    later = 1.5 if group.early and layer == layers - 1 else 0
    return (number + layer * group.ahead) * layers + layer + later


def ring_rows(layers: Sequence[Rows], pieces: Sequence[tuple[int, int, int]]) -> list[int]:
    """Rows between layer and next layer that are alive at once, for every layer but the last."""
    done = [0] * len(layers)
    rows = [0] * (len(layers) - 1)
    for layer, first, end in pieces:
        if layer:
            rows[layer - 1] = max(rows[layer - 1], done[layer - 1] - layers[layer].needed(first, end)[0])
        done[layer] = end
    return rows


def links(graph: ir.Graph, tensors: Mapping[str, Tensor], jobs: Sequence[Sequence[Job]], config: Config) -> list[Link]:
    """Neighbours that may take turns. jobs: those of every node, lowered as a whole."""
    operations = [
        _single(node, tensors) if _share_tensors(own) else None for node, own in zip(graph.nodes, jobs, strict=True)
    ]
    values = Counter(t.storage for t in tensors.values())
    result = []
    for step, (node, reader) in enumerate(zip(graph.nodes, graph.nodes[1:])):
        before, after = operations[step], operations[step + 1]
        tensor = tensors[node.output]
        alone = values[tensor.storage] == 1
        if not before or not after or not alone or node.output in graph.outputs:
            continue
        loaded = after.source.base.name == tensor.storage
        if list(graph.consumers(node.output)) != [reader] or node.output in reader.inputs[1:] or not loaded:
            continue
        view = after.source
        pitch = tensor.pitch or after.op.channels
        row = after.op.width * pitch
        dense = (view.c == 1 or after.op.channels == 1) and view.x == pitch and view.y == row
        if dense and not view.base.offset:  # a crop's rows are not those of its input
            single = len(jobs[step]) == len(jobs[step + 1]) == 1
            first = jobs[step][0], jobs[step + 1][0]
            by_channels = single and channels.may_take_turns(before, after, first, config)
            both = frozenset((before.source.base.name, tensor.storage) if by_channels else ())
            result.append(
                Link(
                    step=step,
                    value=node.output,
                    row_words=row,
                    source=_rows(before),
                    reader=_rows(after),
                    by_channels=both,
                )
            )
    return result


def _share_tensors(jobs: Sequence[Job]) -> bool:
    """Whether descriptors of a layer, one or several, read and write the same tensors, none a sum of another one's."""
    touched = [{stream: where.name for stream, where in activations(job.descriptor).items()} for job in jobs]
    return bool(jobs) and all(own == touched[0] for own in touched)


def _single(node: ir.Node, tensors: Mapping[str, Tensor]) -> Operation | None:
    """The node's only operation, if it is one on a whole map."""
    if node.runs_on is not ir.Place.ARRAY or len(tensors[node.output].shape) != 4:
        return None
    operations = operations_of(node, [tensors[v] for v in node.inputs], tensors[node.output])
    if len(operations) != 1:
        return None
    operation = operations[0]
    whole = operation.rectangle in (None, ((0, operation.op.out_height), (0, operation.op.out_width)))
    return operation if operation.images == 1 and whole and not operation.flat else None


def _rows(operation: Operation) -> Rows:
    op = operation.op
    return Rows(
        inputs=op.height,
        outputs=op.out_height,
        kernel=op.kernel[0],
        stride=op.stride[0],
        dilation=op.dilation[0],
        top=op.top,
    )


def all_groups(graph: ir.Graph, groups: Sequence[Group]) -> Iterator[Group]:
    """The whole graph as groups, those of a single step between the given ones."""
    member = {step: group for group in groups for step in group.steps}
    for step in range(len(graph.nodes)):
        group = member.get(step, Group((step,), 0))
        if step == group.steps[0]:
            yield group


def jobs(
    graph: ir.Graph, group: Group, tensors: Mapping[str, Tensor], constants: Constants, config: Config
) -> Iterator[tuple[int, list[Job]]]:
    """(step, descriptors) in order; see `layer_jobs`."""
    nodes = [graph.nodes[step] for step in group.turning or group.steps]
    if len(group.steps) == 1:
        if not shares_storage(graph, nodes[0]) and nodes[0].runs_on is not ir.Place.CPU:
            yield group.steps[0], _whole(graph, group.steps[0], tensors, constants, config)
        return
    if group.in_place:
        yield from _in_place(graph, group, tensors, constants, config)
        return
    operations: list[Operation] = []
    for node in nodes:
        one = _single(node, tensors)
        assert one, f"{node.name} is in a group, and not one operation on whole maps"
        operations.append(one)
    if group.by_channels:
        parts = channels.ranges(operations[0], operations[1], config)
        for (layer, whole), part in itertools.product(enumerate(operations), parts):
            some = channels.some_channels(whole, part)
            yield group.steps[layer], windowed_jobs(nodes[layer].name, some, 0, constants, config)
        return
    cbg: list[int | None] = [None] * len(nodes)
    order = turns([_rows(o) for o in operations], group)
    done = [end for layer, _, end in order if layer == len(nodes) - 1]
    pooling = _pooling(graph, group.steps[-1], done, tensors, constants, config) if group.pooled else []
    for layer, first, end in order:
        piece = replace(operations[layer], rectangle=((first, end), (0, operations[layer].op.out_width)))
        own = windowed_jobs(nodes[layer].name, piece, 0, constants, config, cbg[layer])
        cbg[layer] = own[0].descriptor.cbg
        pools = layer == len(nodes) - 1 and first and len(pooling) > 1
        if pools and group.sooner:
            yield group.steps[-1], [pooling.pop(0)]
        yield group.turning[layer], own
        if pools and not group.sooner:  # what is not of the piece just before
            yield group.steps[-1], [pooling.pop(0)]
    if pooling:
        yield group.steps[-1], pooling


def _whole(
    graph: ir.Graph, step: int, tensors: Mapping[str, Tensor], constants: Constants, config: Config
) -> list[Job]:
    node = graph.nodes[step]
    return layer_jobs(node, [tensors[v] for v in node.inputs], tensors[node.output], constants, config)


def _pooling(
    graph: ir.Graph, step: int, ends: Sequence[int], tensors: Mapping[str, Tensor], constants: Constants, config: Config
) -> list[Job]:
    """Descriptors that pool rows 0..ends[0] - 1, then those up to ends[1] - 1, and so on, as far as the window reaches;
    as a whole where one of them does not fit the buffers."""
    node = graph.nodes[step]
    (operation,) = operations_of(node, [tensors[v] for v in node.inputs], tensors[node.output])
    ends = list(dict.fromkeys(min(end, operation.op.kernel[0]) for end in ends))
    found = [taps_job(node.name, operation, rows, constants, config) for rows in zip([0, *ends], ends)]
    jobs = [job for job in found if job]
    return jobs if len(jobs) == len(found) else _whole(graph, step, tensors, constants, config)


def poolings(graph: ir.Graph, tensors: Mapping[str, Tensor]) -> frozenset[int]:
    """Steps whose only window in a column begins with the first row of what the step before them computes."""
    pairs = enumerate(zip(graph.nodes, graph.nodes[1:]), 1)
    return frozenset(step for step, (before, node) in pairs if _pools_rows(before, node, tensors))


def _pools_rows(before: ir.Node, node: ir.Node, tensors: Mapping[str, Tensor]) -> bool:
    if not isinstance(node, ir.Pool) or node.inputs != (before.output,):
        return False
    operations = operations_of(node, [tensors[v] for v in node.inputs], tensors[node.output])
    op = operations[0].op
    whole = len(operations) == operations[0].images == op.out_height == 1
    return whole and op.top == 0 and op.dilation[0] == 1 and 1 < op.kernel[0] <= op.height


def chains(graph: ir.Graph, tensors: Mapping[str, Tensor]) -> Iterator[tuple[int, ...]]:
    """Steps in a row that multiply vectors by a matrix, each of which alone reads what the one before writes."""
    own: list[int] = []
    for step, node in enumerate(graph.nodes):
        if own and not (_multiplies(node, tensors) and _follows(graph, graph.nodes[step - 1], node, tensors)):
            if len(own) > 1:
                yield tuple(own)
            own = []
        if _multiplies(node, tensors):
            own.append(step)
    if len(own) > 1:
        yield tuple(own)


def _multiplies(node: ir.Node, tensors: Mapping[str, Tensor]) -> bool:
    if not isinstance(node, ir.Linear) or node.runs_on is not ir.Place.ARRAY or node.residual != "none":
        return False
    own = operations_of(node, [tensors[v] for v in node.inputs], tensors[node.output])[0]
    return own.op.out_width > 1 and own.source.c == own.target.c == 1


def _follows(graph: ir.Graph, before: ir.Node, node: ir.Node, tensors: Mapping[str, Tensor]) -> bool:
    value = before.output
    alone = sum(t.storage == tensors[value].storage for t in tensors.values()) == 1
    return alone and value not in graph.results and graph.read_once_by(value) is node


def in_place_groups(graph: ir.Graph, tensors: Mapping[str, Tensor], config: Config) -> Iterator[Group]:
    """Groups whose layers may store over what they load; of a chain also all layers but the last, whose output then may
    take the place of the chain's input in memory. As many vectors as the scratchpad holds, and the buffer twice: those
    of the next layer are loaded beside a layer's own."""
    room = min(config.scratchpad_words, config.activation_words // 2)
    for chain in chains(graph, tensors):
        for steps in (chain, chain[:-1]):
            widths = [graph.shape(graph.nodes[step].output)[-1] for step in steps[:-1]]
            if widths and (most := min(room // max(widths), config.accumulator_entries)):
                count = graph.shape(graph.nodes[chain[0]].output)[0]
                height = -(-count // -(-count // most))
                yield Group(steps, height, in_place=True)


def _in_place(
    graph: ir.Graph, group: Group, tensors: Mapping[str, Tensor], constants: Constants, config: Config
) -> Iterator[tuple[int, list[Job]]]:
    """Some vectors after the others, each through all layers."""
    nodes = {step: graph.nodes[step] for step in group.steps}
    whole = {
        step: operations_of(node, [tensors[v] for v in node.inputs], tensors[node.output])[0]
        for step, node in nodes.items()
    }
    first_step, last_step = group.steps[0], group.steps[-1]
    count = whole[first_step].op.out_width
    for first in range(0, count, group.height):
        vectors = min(group.height, count - first)
        for step, own in whole.items():
            splits = _splits(own, group.height, config) if step == first_step else 1
            source = own.source.moved(first * own.source.x) if step == first_step else own.source
            target = own.target.moved(first * own.target.x) if step == last_step else own.target
            op = replace(own.op, width=vectors, out_width=vectors)
            part = _in_slices(replace(own, op=op, source=source, target=target), config)
            yield step, split_jobs(nodes[step].name, part, splits, constants, config)


def _splits(operation: Operation, height: int, config: Config) -> int:
    """K splits of a first layer, so few that the input of one lies in the buffer beside that of the next layer: the
    words of a strip leave together."""
    op = operation.op
    slices, room = -(-op.channels // config.rows), activation_room(config) - height * op.cout
    return -(-slices // max(room // (height * config.rows), 1))


def _in_slices(operation: Operation, config: Config) -> Operation:
    """A matrix as a column of kernels as wide as the array has rows, so that of all vectors the first words are loaded
    first: in the order in which the layer before stores them."""
    op, rows = operation.op, config.rows
    if op.channels % rows or op.channels == rows or rows % config.ports:
        return operation
    assert op.weight is not None, "a matrix has weights"
    count = op.channels // rows
    weight = op.weight.reshape(1, op.cout, count, 1, rows)
    sliced = replace(op, channels=rows, height=count, kernel=(count, 1), weight=weight)
    return replace(operation, op=sliced, source=replace(operation.source, y=rows))
