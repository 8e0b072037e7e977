# SPDX-License-Identifier: Apache-2.0
"""How every value of a graph lies in memory: storages that values share, strides, what is overwritten."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from firmware_gen import ir


@dataclass(frozen=True)
class Ref:
    """Word `offset` of a named tensor or constant, whose address the memory plan decides, in memory or on chip."""

    name: str
    offset: int = 0
    on_chip: bool = False

    def moved(self, words: int) -> Ref:
        return replace(self, offset=self.offset + words)


@dataclass(frozen=True)
class View:
    """A feature map in memory: strides in words of channels, columns and rows; `padded` as in `Tensor`."""

    base: Ref
    c: int
    x: int
    y: int
    padded: bool = False

    def at(self, c: int = 0, x: int = 0, y: int = 0) -> Ref:
        return self.base.moved(c * self.c + x * self.x + y * self.y)

    def every(self, c: ir.Pair = (0, 1), x: ir.Pair = (0, 1), y: ir.Pair = (0, 1)) -> View:
        """Only some channels, columns and rows, by (first, step)."""
        return replace(self, base=self.at(c[0], x[0], y[0]), c=self.c * c[1], x=self.x * x[1], y=self.y * y[1])

    def moved(self, words: int) -> View:
        return replace(self, base=self.base.moved(words))


@dataclass(frozen=True)
class Tensor:
    """Where and how a value lies in memory.

    `storage` names the buffer, which several values may share; the value begins at its word `offset`.
    `channels_last` is (C, H, W) when each image lies in H, W, C order although PyTorch's is C, H, W, else None.
    `pitch`: words from one pixel to the next (channels last) or from one image to the next, for channels of a
    larger tensor, or with words between that nobody uses; 0 when the value is contiguous. `on_chip`: the storage is in
    the scratchpad. `rotated`: words by which that has rotated since the value was written. `padded`: its pitch is one
    that was chosen for it.
    """

    storage: str
    shape: ir.Shape
    channels_last: tuple[int, int, int] | None = None
    offset: int = 0
    pitch: int = 0
    on_chip: bool = False
    rotated: int = 0
    padded: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Words from the beginning of the storage to the end of the value, with its pitch."""
        if not self.pitch:
            return self.offset + self.size
        return self.units * self.pitch + self.offset // self.pitch * self.pitch

    @property
    def units(self) -> int:
        """Pixels (channels last) or images, which `pitch` separates."""
        return self.size // self.channels_last[0] if self.channels_last else self.shape[0]

    @property
    def base(self) -> Ref:
        return Ref(self.storage, self.offset - self.rotated, self.on_chip)

    @property
    def steps(self) -> tuple[int, ...]:
        """Words from one element to the next along every dimension, of what is no flattened map."""
        if self.channels_last:
            pitch, (_, height, width) = self.pitch or self.channels_last[0], ir.chw(self.shape[1:])
            return height * width * pitch, 1, width * pitch, pitch
        inner = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        return (self.pitch or inner[0], *inner[1:])

    @property
    def stored_shape(self) -> ir.Shape:
        """Sizes in the order in which a contiguous value lies in memory."""
        if self.channels_last is None:
            return self.shape
        channels, height, width = self.channels_last
        return (self.shape[0], height, width, channels)

    def stored(self, array: np.ndarray) -> np.ndarray:
        """A contiguous value, in PyTorch's order, as the words (size,) that it lies in."""
        result = np.empty(self.size, array.dtype)
        result[self.words() - self.offset] = array.reshape(self.shape)
        return result

    def words(self) -> np.ndarray:
        """Word of the storage of every element, in the shape of the value."""
        rows = self.offset + np.arange(self.units)[:, None] * (self.pitch or self.size // self.units)
        index = rows + np.arange(self.size // self.units)
        if self.channels_last:
            channels, height, width = self.channels_last
            index = index.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        return index.reshape(self.shape)


def map_view(tensor: Tensor, shape: tuple[int, int, int]) -> tuple[View, int]:
    """View of the first image of a tensor of (C, H, W) maps, and the words from one image to the next."""
    channels, height, width = shape
    if tensor.channels_last:
        pitch = tensor.pitch or channels
        return View(tensor.base, 1, pitch, width * pitch, tensor.padded), height * width * pitch
    return View(tensor.base, height * width, 1, width), tensor.pitch or math.prod(shape)


def laid_out(graph: ir.Graph, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The words, float32, of every constant of a quantised graph, by name, as its tensor lies."""
    result = {}
    for name, array in graph.constants.items():
        result[name] = np.zeros(array.size, np.float32)
        result[name][tensors[name].words()] = array
    return result


def operand_view(tensor: Tensor, whole: ir.Shape, shape: tuple[int, int, int] | None = None) -> tuple[View, int]:
    """`map_view` of an operand of maps `whole` (N, C, H, W), or of vectors that are such maps of `shape`, flattened;
    steps are 0 along what the tensor has one of, and `whole` has several."""
    inner = ir.chw(tensor.shape[1:]) if shape is None else shape if tensor.shape[-1] == whole[-1] else (1, 1, 1)
    view, image = map_view(tensor, inner)
    c, y, x = (own == all_ for own, all_ in zip(inner, shape or ir.chw(whole[1:]), strict=True))
    several = tensor.size > math.prod(inner)
    return View(view.base, view.c * c, view.x * x, view.y * y), image * several


def lay_out(
    graph: ir.Graph,
    share: bool = True,
    separate: Container[str] = (),
    on_chip: Container[str] = (),
    rotation: int = 0,
    pitches: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Memory layout of every value: PyTorch's order at the graph's inputs and outputs, but for those in its
    `channels_last`, else channels-last; constants lie as what they meet.

    Reshapes and permutations share their input's storage; a reshape of the graph's input that is also its output
    is a copy. With `share` what a Concat joins is written where it is joined, and an elementwise operator, or the
    addition of a residual, overwrites what nobody reads afterwards, unless its layer is in `separate`. What a state
    becomes is written where the state lies (`copy_outputs` sees to it). Storages in `on_chip` are the scratchpad's,
    which rotates by so many words between calls: the states of streams there were written before it did. `pitches`: of
    values that lie alone.
    """
    frames = streamed(graph)
    last = frames | graph.channels_last
    result = {v: Tensor(v, s := graph.shape(v), channels_last(s) if v in last else None) for v in graph.inputs}
    states = {left: state.value for state, left in graph.updates}
    plain = kept_in_order(graph)
    slices = _concat_slices(graph, plain) if share else {}
    last_read = _last_read(graph)
    needed = {v: last_read[v] for v in graph.inputs}  # by storage, the last step that reads it
    needed |= dict.fromkeys(graph.constants, len(graph.nodes))
    for index, node in enumerate(graph.nodes):
        shape = graph.out_shape(node)
        source = next(result[v] for v in node.inputs if v in result)
        if isinstance(node, ir.Permute) and shares_storage(graph, node):
            form = channels_last(shape) if node.dims == ir.TO_CHANNELS_FIRST else None
            result[node.output] = Tensor(source.storage, shape, form)
        elif shares_storage(graph, node):
            offset = source.offset + (node.offset if isinstance(node, ir.AsStrided) else 0)
            result[node.output] = replace(source, shape=shape, offset=offset)
        elif node.output in slices:
            result[node.output] = slices[node.output]
        elif isinstance(node, ir.InState):
            form = source.channels_last and ir.chw(shape[1:])
            result[node.output] = replace(source, shape=shape, channels_last=form)
        else:
            form = _layout(node, shape, source, node.output in plain)
            own = Tensor(node.output, shape, form)
            if node.output in pitches:
                pitch = pitches[node.output]
                own = replace(own, pitch=pitch if pitch > shape[1] else 0, padded=True)
            reusable = _overwritten(node, own, result) if share and node.name not in separate else []
            free = (storage for storage in reusable if needed[storage] <= index)
            storage = states.get(node.output) or next(free, own.storage)
            result[node.output] = replace(own, storage=storage)
        for value in node.inputs:
            if value not in result:
                result[value] = _beside(result[node.output], value, graph.shape(value))
        storage = result[node.output].storage
        needed[storage] = max(needed.get(storage, index), last_read.get(node.output, index))
    result = {value: replace(tensor, on_chip=tensor.storage in on_chip) for value, tensor in result.items()}
    return result | {v: replace(result[v], rotated=rotation) for v in frames if result[v].on_chip}


def copy_outputs(graph: ir.Graph) -> ir.Graph:
    """An output that is an input, or lies in another order than it must, becomes a copy of it; and so does what a
    state becomes that cannot be written where the state lies."""
    lie, last = lay_out(replace(graph, state=())), graph.channels_last
    copied = {v: f"{v}.copy" for v in graph.results if v in graph.inputs or (lie[v].channels_last and v not in last)}
    copied |= {v: f"{v}.copy" for _, v in graph.updates if v in graph.inputs or _is_elsewhere(graph, v, lie[v])}
    nodes = [ir.Activate(name=name, inputs=(v,), output=name, act=ir.IDENTITY) for v, name in copied.items()]
    values = [ir.Value(name, graph.shape(v)) for v, name in copied.items()]
    graph = graph.with_nodes([*graph.nodes, *nodes], tuple(copied.get(v, v) for v in graph.outputs), values)
    graph = replace(graph, channels_last=last | {copied[v] for v in last if v in copied})
    left, copies = list(graph.results), []
    for state, value in graph.updates:
        if value in left[len(graph.results) :] or not _may_overwrite_state(graph, state.value, value):
            name = f"{state.value}.next"
            copies.append(ir.Activate(name=name, inputs=(value,), output=name, act=ir.IDENTITY))
            value = name
        left.append(value)
    values = [ir.Value(node.output, graph.shape(node.inputs[0])) for node in copies]
    return graph.with_nodes([*graph.nodes, *copies], tuple(left), values)


def _is_elsewhere(graph: ir.Graph, left: str, tensor: Tensor) -> bool:
    """Whether what a state becomes lies in another order than the state."""
    return tensor.channels_last is not None and not isinstance(graph.producer(left), ir.Append)


def _may_overwrite_state(graph: ir.Graph, state: str, value: str) -> bool:
    """Whether `value`, contiguous and in PyTorch's order, may be written where the state lies: nobody reads that
    afterwards, but for its own node, element by element."""
    node = graph.producer(value)
    assert node is not None, f"{value} is an input"
    if isinstance(node, ir.Append):
        return True
    if shares_storage(graph, node) or isinstance(node, ir.Concat):
        return False
    before = set(graph.nodes[: graph.nodes.index(node)])
    seen = [state]
    for alias in seen:
        for reader in graph.consumers(alias):
            if shares_storage(graph, reader):
                seen.append(reader.output)
            elif reader not in before and not (reader is node and node.in_place and alias == state):
                return False
    return True


def _layout(node: ir.Node, shape: ir.Shape, source: Tensor, plain: bool) -> tuple[int, int, int] | None:
    """`channels_last` of a node's output that has a storage of its own."""
    layout = node.layout(shape)
    if layout is ir.Layout.INPUT:
        return source.channels_last
    if plain or layout is ir.Layout.PYTORCH:
        return None
    if layout is ir.Layout.ANY:
        return None if len(shape) == 4 and source.channels_last and not channels_last(shape) else source.channels_last
    return channels_last(shape)


def _beside(tensor: Tensor, constant: str, shape: ir.Shape) -> Tensor:
    """A constant of this shape that lies as the tensor does, which it meets."""
    if len(shape) == 4:
        in_order = tensor.channels_last is None and channels_last(tensor.shape) is not None
        return Tensor(constant, shape, None if in_order else channels_last(shape))
    return Tensor(constant, shape, tensor.channels_last if shape[-1] == tensor.shape[-1] else None)


def _last_read(graph: ir.Graph) -> dict[str, int]:
    """The last step that reads a value; those of the graph's inputs and outputs are read after all steps."""
    steps = {value: step for step, node in enumerate(graph.nodes) for value in node.inputs}
    return steps | dict.fromkeys((*graph.inputs, *graph.outputs), len(graph.nodes))


def _overwritten(node: ir.Node, own: Tensor, tensors_: dict[str, Tensor]) -> list[str]:
    """Storages of inputs that the output `own` of a node may overwrite, element by element, if nobody reads them."""
    read = {tensors_[v].storage for v in node.inputs[:1] if v in tensors_}
    found = [
        tensors_[v]
        for v in node.inputs
        if v in tensors_ and (node.in_place or (v == node.residual_input and tensors_[v].storage not in read))
    ]
    return [old.storage for old in found if old == replace(own, storage=old.storage)]


def slice_of(whole: Tensor, shape: ir.Shape, axis: int, first: int) -> Tensor | None:
    """The tensor of `shape` that begins at place `first` of dimension `axis` of `whole`, which joins it with others;
    None where it would lie in several stretches."""
    inside = replace(whole, shape=shape, offset=whole.offset + first * whole.steps[axis])
    if whole.channels_last:
        last = ir.chw(shape[1:])
        if axis == 1:
            return replace(inside, channels_last=last, pitch=whole.pitch or whole.channels_last[0])
        outer = {0: 1, 2: shape[0], 3: shape[0] * shape[2]}[axis]
        return replace(inside, channels_last=last) if outer == 1 else None
    outer = math.prod(shape[:axis])
    if outer == 1:
        return replace(inside, pitch=whole.pitch if axis == 0 else 0)
    return replace(inside, pitch=whole.pitch or whole.size // shape[0]) if outer == shape[0] else None


def streamed(graph: ir.Graph) -> set[str]:
    """States of streams, which lie as maps do, and which nothing but an Advance and an Append writes."""
    return {state.value for state, left in graph.updates if isinstance(graph.producer(left), ir.Append)}


def newest_of(whole: Tensor, shape: ir.Shape, axis: int) -> Tensor:
    """The tensor of `shape` that is the end of the state `whole` of a stream."""
    inside = slice_of(whole, shape, axis, whole.shape[axis] - shape[axis])
    assert inside is not None, "frames lie side by side"
    return inside


def _concat_slices(graph: ir.Graph, plain: set[str]) -> dict[str, Tensor]:
    """Values that can be written straight into the Concat or Append that joins them, and where they lie then."""
    slices: dict[str, Tensor] = {}
    for state, left in graph.updates:
        if isinstance(node := graph.producer(left), ir.Append):
            value, shape = node.inputs[1], graph.shape(left)
            newest = newest_of(Tensor(state.value, shape, channels_last(shape)), graph.shape(value), node.axis)
            if _may_be_slice(graph, value, newest):
                slices[value] = newest
    for node in reversed(graph.nodes):
        if not isinstance(node, ir.Concat):
            continue
        shape = graph.out_shape(node)
        whole = slices.get(node.output) or Tensor(
            node.output, shape, None if node.output in plain else channels_last(shape)
        )
        axis, first = node.axis_of(shape), 0
        for value in node.inputs:
            inside = slice_of(whole, graph.shape(value), axis, first)
            if inside and value not in slices and _may_be_slice(graph, value, inside):
                slices[value] = inside
            first += graph.shape(value)[axis]
    return slices


def _may_be_slice(graph: ir.Graph, value: str, inside: Tensor) -> bool:
    """Whether the accelerator writes `value`, and only it reads it, as it is: strided access costs it nothing. A vector
    that lies as it would alone may be read by anybody."""
    producer, shape = graph.producer(value), graph.shape(value)
    if producer is None or value in graph.outputs or not _by_array(producer) or isinstance(producer, ir.PlaneProduct):
        return False
    if len(shape) == 2 and not inside.pitch and not inside.channels_last:
        return True
    if not _by_array(*graph.consumers(value)):
        return False
    return len(shape) == 4 or producer.layout(shape) is ir.Layout.MAPS


def _by_array(*nodes: ir.Node) -> bool:
    return all(node.runs_on is ir.Place.ARRAY for node in nodes)


def shares_storage(graph: ir.Graph, node: ir.Node) -> bool:
    """Whether a node's output is its input seen with another shape."""
    if isinstance(node, ir.Permute):  # channels can be last only in what need not lie in PyTorch's order
        return (
            node.dims == ir.TO_CHANNELS_FIRST
            or not channels_last(graph.in_shape(node))
            or node.inputs[0] not in kept_in_order(graph)
        )
    if isinstance(node, ir.AsStrided) and not node.is_view(graph.out_shape(node)):
        return False
    return node.runs_on is ir.Place.MEMORY and not (node.output in graph.outputs and _is_input(graph, node))


def _is_input(graph: ir.Graph, node: ir.Node) -> bool:
    """Whether a node reads the graph's input, directly or through reshapes."""
    value = node.inputs[0]
    while (producer := graph.producer(value)) and producer.runs_on is ir.Place.MEMORY:
        value = producer.inputs[0]
    return value in graph.inputs


def kept_in_order(graph: ir.Graph) -> set[str]:
    """Values that must lie in PyTorch's order, and those that lie as they do: the outputs, and what is read in that
    order."""
    kept = {*graph.ordered_outputs, *read_in_order(graph)}
    for node in graph.nodes:
        layout = ir.Layout.INPUT if isinstance(node, ir.Reshape) else node.layout(graph.out_shape(node))
        if layout in (ir.Layout.INPUT, ir.Layout.ANY) and node.inputs[0] in kept:
            kept.add(node.output)
    return kept


def read_in_order(graph: ir.Graph) -> set[str]:
    """Values that a reader needs in PyTorch's order, or that a value takes its order from which must lie so."""
    needed = set(graph.ordered_outputs)
    read: set[str] = set()
    for node in reversed(graph.nodes):
        if node.reads_in_order or (takes_order(graph, node) and node.output in needed):
            needed.update(node.inputs)
            read.update(node.inputs)
    return read


def is_read_in_order(graph: ir.AnyGraph, value: str) -> bool:
    """Whether `read_in_order` has a value."""
    waiting = [value]
    while waiting:
        for node in graph.consumers(waiting.pop()):
            takes = takes_order(graph, node)
            if node.reads_in_order or (takes and node.output in graph.ordered_outputs):
                return True
            waiting += [node.output] if takes else []
    return False


def takes_order(graph: ir.AnyGraph, node: ir.Node) -> bool:
    """Whether an output in PyTorch's order needs inputs in that order."""
    return isinstance(node, ir.Reshape) or node.layout(graph.out_shape(node)) is ir.Layout.INPUT


def channels_last(shape: ir.Shape) -> tuple[int, int, int] | None:
    """(C, H, W) of maps of whose elements it changes the order that channels are last, None for anything else."""
    return ir.chw(shape[1:]) if len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1 else None
