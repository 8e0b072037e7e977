# SPDX-License-Identifier: Apache-2.0
"""A network on a window of frames -> one that takes the newest frames only.

Along one dimension, time, a layer computes its newest outputs from the newest frames of its input, as many as its
window has; those of the calls before are a state. Frames that were never given are zero, and states are what they lead
to. A layer that is no such window, as a Linear on flattened frames, gets all frames of its input from a state, and
everything behind it is computed as in the whole network.

Outputs are those of the whole network on its window only if no frame that they need is padding there; such a network is
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from firmware_gen.ir import Advance, Append, Conv, Graph, Node, Pad, Pads, Pool, Reshape, Shape, Slice, State, Value
from hls.errors import HeepgenError

Taps = Callable[[np.ndarray], dict[str, np.ndarray]]
"""What every value of a graph is, by name, for its input."""


@dataclass(frozen=True)
class _Frames:
    """How much of a value is computed in a call: its newest `count` frames along `axis`. Of the `total` that it has in
    the whole network, the newest `clean` depend on no padding."""

    axis: int
    count: int
    total: int
    clean: int


def stream(graph: Graph, time: int, frames: int, evaluate: Taps) -> Graph:
    """The network `graph` of one input, one window of which is a batch, that takes `frames` new frames a call.

    time: the dimension of the input that is time. evaluate: computes `graph`. Raises HeepgenError, naming the layer,
    where nothing would be saved, or an output would not be that of the whole window.
    """
    return _Stream(graph, time, frames, evaluate).run()


class _Stream:
    def __init__(self, graph: Graph, time: int, frames: int, evaluate: Taps):
        self.graph, self.time, self.frames = graph, time, frames
        self.nodes: list[Node] = []
        self.values = {name: graph.values[name] for name in graph.constants}
        self.names: dict[str, str] = {}  # of values that are another one now
        self.known: dict[str, _Frames | None] = {}
        self.states: list[State] = []
        self.left: list[str] = []
        self.windows: dict[tuple[str, int], str] = {}
        self._evaluate = evaluate
        self._initial: dict[str, np.ndarray] | None = None

    def run(self) -> Graph:
        (x,) = self.graph.inputs
        shape = self.graph.shape(x)
        if len(shape) not in (3, 4) or shape[0] != 1 or not 2 <= self.time < len(shape):
            raise HeepgenError(
                f"--stream: the input of {self.graph.name} has shape {list(shape)}; a stream needs one window, "
                "(1, C, T) or (1, C, H, W), whose dimension 2 or 3 is time"
            )
        total = shape[self.time]
        if not 0 < self.frames < total:
            raise HeepgenError(f"--stream {self.frames}: a window has {total} frames; give fewer, and at least one")
        self.known[x] = _Frames(self.time, self.frames, total, total)
        self.values[x] = Value(x, _resized(shape, self.time, self.frames))
        for node in self.graph.nodes:
            self._node(node)
        results = tuple(self._name(value) for value in self.graph.outputs)
        for value in results:
            self._check_clean(value, 0)
        inputs = (x, *(state.value for state in self.states))
        return Graph(
            name=self.graph.name,
            inputs=inputs,
            outputs=(*results, *self.left),
            nodes=tuple(self.nodes),
            values=self.values,
            constants=self.graph.constants,
            state=tuple(self.states),
        )

    # --- layers

    def _node(self, node: Node) -> None:
        known = [self.known.get(self._name(value)) for value in node.inputs]
        streamed = [frames for frames in known if frames is not None]
        if not streamed:
            self._emit(node, self.graph.out_shape(node), None)
            return
        if not self._streams(node, streamed):
            inputs = tuple(self._whole(node, self._name(value)) for value in node.inputs)
            self._emit(replace(node, inputs=inputs), self.graph.out_shape(node), None)

    def _streams(self, node: Node, streamed: list[_Frames]) -> bool:
        """Whether a node works frame by frame, or on a window of frames; then it is done."""
        first = self.known.get(self._name(node.inputs[0]))
        if first is None:
            return False
        out = self.graph.out_shape(node)
        match node:
            case Reshape() if _keeps_frames(self.graph.in_shape(node), out):
                axis = first.axis + len(out) - len(self.graph.in_shape(node))
                self._emit(node, _resized(out, axis, first.count), replace(first, axis=axis))
                return True
            case Conv() | Pool():
                return self._window(node, first, streamed)
            case Pad() if len(out) == 4:
                return self._pad(node, first)
            case Slice():
                return self._slice(node, first)
        if not node.keeps_frames(first.axis, out) or not self._go_together(node, streamed):
            return False
        clean = min(frames.clean for frames in streamed)
        self._emit(node, _resized(out, first.axis, first.count), replace(first, clean=clean))
        return True

    def _go_together(self, node: Node, streamed: list[_Frames]) -> bool:
        """Whether all inputs have the same frames, or are constants that are the same in every frame."""
        first, rank = streamed[0], len(self.graph.out_shape(node))
        alike = all((f.axis, f.count, f.total) == (first.axis, first.count, first.total) for f in streamed)
        others = [v for v in node.inputs if self.known.get(self._name(v)) is None]
        apart = all(len(s := self.graph.shape(v)) == rank and s[first.axis] == 1 for v in others)
        return alike and apart and self.graph.out_shape(node)[first.axis] == first.total

    def _window(self, node: Conv | Pool, first: _Frames, streamed: list[_Frames]) -> bool:
        side = first.axis - 2
        kernel, dilation, stride = node.kernel[side], node.dilation[side], node.stride[side]
        before, reach = node.pads[side], dilation * (kernel - 1)
        other = isinstance(node, Conv) and (node.is_transposed or node.sections[side] > 1)
        if other or isinstance(node, Pool) and (node.adaptive or node.ceil_mode):
            return False
        out = self.graph.out_shape(node)
        total = out[first.axis]
        if (total - 1) * stride + reach - before != first.total - 1:  # padding behind the newest frame, or a remainder
            return False
        count = min(first.count // stride, total)
        clean = min((first.clean - 1 - reach) // stride + 1 if first.clean > reach else 0, total)
        if not count or first.count % stride and total > 1 or clean < count:
            return False
        result = _Frames(first.axis, count, total, clean)
        if node.residual != "none" and streamed[1:] != [replace(result, clean=f.clean) for f in streamed[1:]]:
            return False
        if node.residual != "none":
            if len(streamed) == 1 and self.graph.shape(node.inputs[1])[first.axis] != 1:
                return False
            result = replace(result, clean=min(clean, *(f.clean for f in streamed[1:]), clean))
        window = self._newest(node, self._name(node.inputs[0]), first, (count - 1) * stride + reach + 1)
        pads = _without(node.pads, side)
        inputs = (window, *(self._name(value) for value in node.inputs[1:]))
        self._emit(replace(node, pads=pads, inputs=inputs), _resized(out, first.axis, count), result)
        return True

    def _pad(self, node: Pad, first: _Frames) -> bool:
        side = first.axis - 2
        if node.pads[side + 2]:
            return False
        pads = _without(node.pads, side)
        total = first.total + node.pads[side]
        frames = replace(first, total=total)
        if any(pads):
            shape = _resized(self.graph.out_shape(node), first.axis, first.count)
            self._emit(replace(node, pads=pads), shape, frames)
        else:  # frames before the newest ones are the state's
            name = self._name(node.inputs[0])
            self.names[node.output] = name
            self.known[name] = frames
        return True

    def _slice(self, node: Slice, first: _Frames) -> bool:
        place = first.axis - 1
        out, start = self.graph.out_shape(node), node.start
        total = out[first.axis]
        if node.step[place] != 1 or start[place] + total != first.total:
            return False
        count = min(first.count, total)
        channel, row, column = (first.count - count if i == place else s for i, s in enumerate(start))
        frames = _Frames(first.axis, count, total, min(first.clean, total))
        self._emit(replace(node, start=(channel, row, column)), _resized(out, first.axis, count), frames)
        return True

    # --- windows

    def _newest(self, node: Node, value: str, frames: _Frames, length: int) -> str:
        """The newest frames of a value, so many."""
        if length == frames.count:
            return value
        if length > frames.count:
            return self._history(node, value, frames, length)
        name = f"{value}.last"
        if name not in self.values:
            start = [0, 0, 0]
            start[frames.axis - 1] = frames.count - length
            shape = _resized(self.values[value].shape, frames.axis, length)
            self._append(Slice(name=name, inputs=(value,), output=name, start=(start[0], start[1], start[2])), shape)
        return name

    def _whole(self, node: Node, value: str) -> str:
        """All frames of a value, for a node that does not work frame by frame."""
        frames = self.known.get(value)
        if frames is None:
            return value
        if self._source(value) in self.graph.inputs:
            raise HeepgenError(
                f"--stream: layer {node.name} ({node.op}) needs the whole window of the input, or frames that have not "
                "come yet: nothing would be computed once only; pad in front of the oldest frame, not behind the newest"
            )
        self._check_clean(value, frames.total)
        return value if frames.count == frames.total else self._history(node, value, frames, frames.total)

    def _check_clean(self, value: str, needed: int) -> None:
        frames = self.known.get(value)
        if frames is not None and frames.clean < max(needed, frames.count):
            raise HeepgenError(
                f"--stream: {value} needs frames before the window, which are padding there, and real in a stream: "
                f"export the network for a window of {frames.total - frames.clean + max(needed, 1)} frames more, or "
                "without padding"
            )

    def _source(self, value: str) -> str:
        """The value that a Reshape of it is."""
        node = next((n for n in self.nodes if n.output == value), None)
        return self._source(node.inputs[0]) if isinstance(node, Reshape) else value

    def _history(self, node: Node, value: str, frames: _Frames, length: int) -> str:
        """The newest frames of a value, also of calls before."""
        key = value, length
        if key not in self.windows:
            self.windows[key] = self._new_history(node, value, frames, length)
        return self.windows[key]

    def _new_history(self, node: Node, value: str, frames: _Frames, length: int) -> str:
        axis, shape = frames.axis, _resized(self.values[value].shape, frames.axis, length)
        if axis == 3 and shape[2] > 1:
            raise HeepgenError(
                f"--stream: layer {node.name} keeps frames that are columns of a map of {shape[2]} rows; give the "
                "network maps (1, C, T, W), whose rows are frames"
            )
        stem = f"{value}.{length}"
        state, kept, window = f"{stem}.history", f"{stem}.kept", f"{stem}.window"
        self.states.append(State(state, f"{node.name}.history", self._before(value, axis, length)))
        self.values[state] = Value(state, shape)
        advance = Advance(name=f"{node.name}.advance", inputs=(state,), output=kept, axis=axis)
        self.values[kept] = Value(kept, _resized(shape, axis, length - frames.count))
        producer = next((place for place, n in enumerate(self.nodes) if n.output == value), len(self.nodes))
        self.nodes.insert(producer, advance)  # before its newest frames are written
        self._append(Append(name=f"{node.name}.append", inputs=(kept, value), output=window, axis=axis), shape)
        self.left.append(window)
        return window

    def _before(self, value: str, axis: int, length: int) -> np.ndarray:
        """The newest frames of a value after frames of zeros."""
        if self._initial is None:
            (x,) = self.graph.inputs
            self._initial = self._evaluate(np.zeros(self.graph.shape(x), np.float32))
        array = self._initial.get(value)
        if array is None:  # the input
            return np.zeros(_resized(self.values[value].shape, axis, length), np.float32)
        rank = len(self.values[value].shape)
        array = array.reshape(array.shape if array.ndim == rank else (*array.shape[:2], 1, array.shape[2]))
        end: int = array.shape[axis]
        return np.ascontiguousarray(array.take(np.arange(end - length, end), axis), np.float32)

    # --- the new graph

    def _name(self, value: str) -> str:
        return self.names.get(value, value)

    def _append(self, node: Node, shape: Shape) -> None:
        self.values[node.output] = Value(node.output, shape)
        self.nodes.append(node)

    def _emit(self, node: Node, shape: Shape, frames: _Frames | None) -> None:
        node = replace(node, inputs=tuple(self._name(value) for value in node.inputs))
        self._append(node, shape)
        self.known[node.output] = frames


def _resized(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _without(pads: Pads, side: int) -> Pads:
    """Pads without those of rows (0) or columns (1)."""
    top, left, bottom, right = pads
    return (0, left, 0, right) if side == 0 else (top, 0, bottom, 0)


def _keeps_frames(before: Shape, after: Shape) -> bool:
    """Whether a reshape only gives a sequence (N, C, L) the form (N, C, 1, L), or takes it."""
    three, four = sorted((before, after), key=len)
    return len(three) == 3 and four == (*three[:2], 1, three[2])
