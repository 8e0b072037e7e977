# SPDX-License-Identifier: Apache-2.0
"""GRU, LSTM and RNN, and their cells, step by step as ordinary nodes.

The products of all steps' inputs are one Linear over the steps. A step adds its part of them to the products of the
state before it; the weights of all steps are the same constants. What is constant, as the usual initial state of zeros,
takes no part in products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from firmware_gen import ir
from firmware_gen.frontend.aten.registry import handles, plain_name

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

Operand = str | np.ndarray
"""A value (N, features) that the model computes, or a constant (features,), the same for all N."""
SIGMOID, TANH = (ir.Activation(function=ir.Function(name)) for name in ("sigmoid", "tanh"))
State = tuple[Operand, ...]
"""The hidden state, and an LSTM's cell state."""


@dataclass(frozen=True)
class Weights:
    """Of one direction of a layer, gate below gate: (gates * H, I), (gates * H, F), and their biases (gates * H,).
    The hidden state has F = H features, or those of `projection` (F, H), which an LSTM's is multiplied by."""

    of_input: np.ndarray
    of_state: np.ndarray
    input_bias: np.ndarray
    state_bias: np.ndarray
    projection: np.ndarray | None = None

    @property
    def size(self) -> int:
        return int(self.of_state.shape[1] if self.projection is None else self.projection.shape[1])

    @property
    def features(self) -> int:
        """Of the hidden state."""
        return int(self.of_state.shape[1])

    def reordered(self, gates: Sequence[int]) -> Weights:
        """With the gates in another order."""
        rows = np.concatenate([np.arange(g * self.size, (g + 1) * self.size) for g in gates])
        fields = ("of_input", "of_state", "input_bias", "state_bias")
        return replace(self, **{field: getattr(self, field)[rows] for field in fields})

    def with_one_bias(self, rows: int) -> Weights:
        """The same function, with the state's first `rows` biases among those of the input."""
        moved = np.where(np.arange(len(self.state_bias)) < rows, self.state_bias, 0)
        return replace(self, input_bias=self.input_bias + moved, state_bias=self.state_bias - moved)


class TimeStep:
    """Appends the nodes of one time step, all of them on (N, features)."""

    def __init__(self, imp: Importer, node: fx.Node, batch: int, name: str):
        self.imp, self.node, self.batch, self.name = imp, node, batch, name

    def _append(self, part: str, cls: type[ir.Node], *sources: str, features: int, **fields: Any) -> str:
        shape = (self.batch, features)
        return self.imp.inner(self.node, cls, *sources, shape=shape, suffix=f"{self.name}{part}", **fields)

    def _scaled(self, part: str, x: str, scale: float | np.ndarray, bias: float | np.ndarray, *added: str) -> str:
        features = self.imp.shape(x)[1]
        values = {k: np.array(np.broadcast_to(v, features), np.float64) for k, v in (("scale", scale), ("bias", bias))}
        residual = "before_act" if added else "none"
        return self._append(part, ir.Scale, x, *added, features=features, residual=residual, **values)

    def linear(self, part: str, x: Operand, weight: np.ndarray, bias: np.ndarray, *added: str) -> Operand:
        """x @ weight.T + bias, with another value `added`."""
        if not isinstance(x, str):
            row = weight @ x + bias
            return self.add(part, added[0], row) if added else row
        residual = "before_act" if added else "none"
        return self._append(
            part, ir.Linear, x, *added, features=len(weight), weight=weight, bias=bias, residual=residual
        )

    def add(self, part: str, x: Operand, y: Operand) -> Operand:
        if isinstance(x, str) and isinstance(y, str):
            return self._append(part, ir.Add, x, y, features=self.imp.shape(x)[1])
        if isinstance(x, str):
            x, y = y, x
        assert not isinstance(x, str)
        if isinstance(y, str):
            return self._scaled(part, y, 1.0, x) if np.any(x) else y
        return x + y

    def subtract(self, part: str, x: Operand, y: str) -> str:
        """x - y."""
        return self._scaled(part, y, -1.0, 0.0, x) if isinstance(x, str) else self._scaled(part, y, -1.0, x)

    def multiply(self, part: str, x: str, y: Operand) -> Operand:
        if isinstance(y, str):
            return self._append(part, ir.Mul, x, y, features=self.imp.shape(x)[1])
        return self._scaled(part, x, y, 0.0) if np.any(y) else y

    def sigmoid(self, part: str, x: str) -> str:
        return self._activated(part, x, SIGMOID)

    def tanh(self, part: str, x: str) -> str:
        return self._activated(part, x, TANH)

    def relu(self, part: str, x: str) -> str:
        return self._activated(part, x, ir.RELU)

    def _activated(self, part: str, x: str, act: ir.Activation) -> str:
        return self._append(part, ir.Activate, x, features=self.imp.shape(x)[1], act=act)

    def columns(self, part: str, x: str, first: int, features: int, row: int = 0, pitch: int = 0) -> str:
        """Features of the rows row, row + pitch, ... of x (rows, all features); of a single row it is a view."""
        width = self.imp.shape(x)[1]
        strides = (pitch * width if self.batch > 1 else 0, 1 if features > 1 else 0)
        fields = {"strides": strides, "offset": row * width + first}
        return self._append(part, ir.AsStrided, x, features=features, **fields)


Inputs = Callable[[str, int, int], str]
"""A step's part of the products of the inputs, of the gates from the one up to the other."""
Cell = Callable[[TimeStep, Inputs, State, Weights], State]


def _gru(step: TimeStep, inputs: Inputs, state: State, w: Weights) -> State:
    """h' = n + z * (h - n), with n = tanh(W x + b + r * (U h + c))."""
    (h,), size = state, w.size
    both, new = slice(0, 2 * size), slice(2 * size, 3 * size)
    gates = step.linear("gates", h, w.of_state[both], w.state_bias[both], inputs("gates", 0, 2))
    opened = step.sigmoid("open", _computed(gates))
    reset, update = (step.columns(part, opened, i * size, size, 0, 1) for i, part in enumerate(("reset", "update")))
    recalled = step.multiply("recall", reset, step.linear("new", h, w.of_state[new], w.state_bias[new]))
    candidate = step.tanh("candidate", _computed(step.add("sum", recalled, inputs("new", 2, 3))))
    kept = step.multiply("keep", update, step.subtract("change", h, candidate))
    return (step.add("state", kept, candidate),)


def _lstm(step: TimeStep, inputs: Inputs, state: State, w: Weights) -> State:
    """c' = f * c + i * g, h' = o * tanh(c'), projected where there are weights for it; the gates are in the order i, f,
    o, g."""
    (h, c), size = state, w.size
    first, last = slice(0, 3 * size), slice(3 * size, 4 * size)
    gates = step.linear("gates", h, w.of_state[first], w.state_bias[first], inputs("gates", 0, 3))
    opened = step.sigmoid("open", _computed(gates))
    in_, forget, out = (step.columns(p, opened, i * size, size, 0, 1) for i, p in enumerate(("in", "forget", "out")))
    new = step.linear("new", h, w.of_state[last], w.state_bias[last], inputs("new", 3, 4))
    written = step.multiply("write", in_, step.tanh("candidate", _computed(new)))
    cell = _computed(step.add("cell", step.multiply("keep", forget, c), written))
    hidden = step.multiply("state", out, step.tanh("squash", cell))
    if w.projection is not None:
        hidden = step.linear("projection", hidden, w.projection, np.zeros(w.features))
    return hidden, cell


def _rnn(act: Callable[[TimeStep, str, str], str]) -> Cell:
    """h' = act(W x + b + U h + c)."""

    def cell(step: TimeStep, inputs: Inputs, state: State, w: Weights) -> State:
        total = step.linear("sum", state[0], w.of_state, w.state_bias, inputs("sum", 0, 1))
        return (act(step, "state", _computed(total)),)

    return cell


def _computed(value: Operand) -> str:
    assert isinstance(value, str), "what the inputs take part in is computed"
    return value


@dataclass(frozen=True)
class Kind:
    """A kind of layer: its cell, and the order of PyTorch's gates in it; the first ones' two biases may be one."""

    cell: Cell
    gates: tuple[int, ...]
    one_bias: int
    states: int = 1

    def weights(self, weights: Weights) -> Weights:
        return weights.reordered(self.gates).with_one_bias(self.one_bias * weights.size)


KINDS = {
    "gru": Kind(_gru, (0, 1, 2), 2),
    "lstm": Kind(_lstm, (0, 1, 3, 2), 4, states=2),
    "rnn_tanh": Kind(_rnn(TimeStep.tanh), (0,), 1),
    "rnn_relu": Kind(_rnn(TimeStep.relu), (0,), 1),
}


@dataclass(frozen=True)
class Rows:
    """Rows (steps * N, features) of a sequence of `batch` inputs, in the order of `batch_first`."""

    rows: str
    batch: int
    steps: int
    batch_first: bool

    def row(self, step: int) -> tuple[int, int]:
        """The first row of a step, and the distance to that of the next input."""
        return (step, self.steps) if self.batch_first else (step * self.batch, 1)


def _run(
    imp: Importer, node: fx.Node, kind: Kind, x: Rows, state: State, w: Weights, name: str, backwards: bool
) -> tuple[list[str], State]:
    """The hidden state after every step, in the order of the inputs, and the last state."""
    w = kind.weights(w)
    products = imp.inner(
        node,
        ir.Linear,
        x.rows,
        shape=(x.batch * x.steps, len(w.of_input)),
        suffix=f"{name}inputs",
        weight=w.of_input,
        bias=w.input_bias,
    )
    hidden: dict[int, str] = {}
    for number in reversed(range(x.steps)) if backwards else range(x.steps):
        step = TimeStep(imp, node, x.batch, f"{name}t{number}." if x.steps > 1 else name)

        def inputs(part: str, first: int, last: int, step: TimeStep = step, number: int = number) -> str:
            return step.columns(f"{part}.input", products, first * w.size, (last - first) * w.size, *x.row(number))

        state = kind.cell(step, inputs, state, w)
        hidden[number] = _computed(state[0])
    return [hidden[number] for number in range(x.steps)], state


@handles(
    "gru",
    "lstm",
    "rnn_tanh",
    "rnn_relu",
    reads="input hx params has_biases num_layers dropout train bidirectional batch_first data batch_sizes",
)
def _recurrent(imp: Importer, node: fx.Node, a: dict[str, Any]) -> list[str]:
    """(output, last hidden state), of an LSTM also the last cell state."""
    kind = KINDS[plain_name(node)]
    if "batch_sizes" in a:
        raise imp.refuse(node, "its input is a packed sequence; a tensor of sequences of one length is supported")
    imp.rank(node, a["input"], (2, 3), "(N, steps, features)")
    shape, directions = imp.shape(a["input"]), 2 if a["bidirectional"] else 1
    batched = len(shape) == 3
    batch_first = bool(a["batch_first"]) or not batched
    batch, steps = (1, shape[0]) if not batched else shape[:2] if batch_first else (shape[1], shape[0])
    own = _weights(imp, node, a["params"], bool(a["has_biases"]), a["num_layers"] * directions)
    states = _states(imp, node, a["hx"] if kind.states == 2 else [a["hx"]], len(own), batch)
    x = Rows(imp.inner(node, ir.Reshape, a["input"], shape=(batch * steps, shape[-1])), batch, steps, batch_first)
    last: list[State] = []
    joined = ""
    for layer in range(a["num_layers"]):
        hidden = []
        for direction in range(directions):
            name = (f"l{layer}." if a["num_layers"] > 1 else "") + ("reverse." if direction else "")
            number = layer * directions + direction
            run = _run(
                imp=imp,
                node=node,
                kind=kind,
                x=x,
                state=states[number],
                w=own[number],
                name=name,
                backwards=direction == 1,
            )
            hidden.append(run[0])
            last.append(run[1])
        parts = [value for step in zip(*hidden, strict=True) for value in step]
        features = directions * own[0].features
        joined = _joined(imp, node, parts, (batch, steps * features))
        rows = imp.inner(node, ir.Reshape, joined, shape=(batch * steps, features))
        x = Rows(rows, batch, steps, True)
    sizes = (own[0].features, own[0].size)
    finals = [_stacked(imp, node, [state[i] for state in last], batch, batched, sizes[i]) for i in range(kind.states)]
    if batch_first or batch == 1:
        return [imp.emit(node, ir.Reshape, joined), *finals]
    strides = (features, steps * features, 0, 1)
    return [imp.emit(node, ir.AsStrided, joined, strides=strides), *finals]


def _joined(imp: Importer, node: fx.Node, parts: list[str], shape: ir.Shape) -> str:
    return parts[0] if len(parts) == 1 else imp.inner(node, ir.Concat, *parts, shape=shape)


def _stacked(imp: Importer, node: fx.Node, states: Sequence[Operand], batch: int, batched: bool, size: int) -> str:
    """Last states (N, H) of all layers as (layers, N, H), or (layers, H) without a batch."""
    count = len(states)
    joined = _joined(imp, node, [_computed(state) for state in states], (batch, count * size))
    out = (count, batch, size) if batched else (count, size)
    if batch == 1 or count == 1:
        return imp.inner(node, ir.Reshape, joined, shape=out)
    return imp.inner(node, ir.AsStrided, joined, shape=out, strides=(size, count * size, 0, 1))


@handles("gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell", reads="input hx w_ih w_hh b_ih b_hh")
def _cell(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str | list[str]:
    """The next hidden state; of an LSTM also the next cell state."""
    kind, shape = KINDS[plain_name(node).removesuffix("_cell")], imp.shape(a["input"])
    imp.rank(node, a["input"], (1, 2), "(N, features)")
    batch = shape[0] if len(shape) == 2 else 1
    params = [a["w_ih"], a["w_hh"]] + ([] if a["b_ih"] is None else [a["b_ih"], a["b_hh"]])
    (own,) = _weights(imp, node, params, a["b_ih"] is not None, 1)
    (state,) = _states(imp, node, a["hx"] if kind.states == 2 else [a["hx"]], 1, batch)
    x = imp.inner(node, ir.Reshape, a["input"], shape=(batch, shape[-1]))
    _, last = _run(
        imp=imp, node=node, kind=kind, x=Rows(x, batch, 1, True), state=state, w=own, name="", backwards=False
    )
    hidden = imp.emit(node, ir.Reshape, _computed(last[0]))
    if kind.states == 1:
        return hidden
    return [hidden, imp.inner(node, ir.Reshape, _computed(last[1]), shape=imp.shape(hidden))]


def _weights(imp: Importer, node: fx.Node, params: Sequence[Any], biases: bool, count: int) -> list[Weights]:
    """Those of every layer and direction, in PyTorch's order."""
    plain = 4 if biases else 2
    each = len(params) // count
    result = []
    for first in range(0, len(params), each):
        of_input, of_state = (imp.weight(node, value, "weight") for value in params[first : first + 2])
        own = [imp.weight(node, value, "bias") for value in params[first + 2 : first + plain]]
        projection = imp.weight(node, params[first + plain], "weight") if each > plain else None
        none = np.zeros(len(of_input))
        input_bias, state_bias = own or (none, none)
        result.append(Weights(of_input, of_state, input_bias, state_bias, projection))
    return result


def _states(imp: Importer, node: fx.Node, given: Sequence[str | torch.Tensor], count: int, batch: int) -> list[State]:
    """Initial states of every layer and direction, from tensors (count, N, H), or (N, H) or (H,) for one."""
    whole: list[list[Operand]] = []
    for tensor in given:
        size = (imp.shape(tensor) if isinstance(tensor, str) else tuple(tensor.shape))[-1]
        if isinstance(tensor, str):
            rows = imp.inner(node, ir.Reshape, tensor, shape=(count * batch, size))
            steps = [
                TimeStep(imp, node, batch, f"first.{number}." if count > 1 else "first.") for number in range(count)
            ]
            whole.append([step.columns("state", rows, 0, size, i * batch, 1) for i, step in enumerate(steps)])
            continue
        values = imp.weight(node, tensor, "initial state").reshape(count, batch, size)
        if (values != values[:, :1]).any():
            raise imp.refuse(node, "its constant initial state differs within the batch; one for all is supported")
        whole.append(list(values[:, 0]))
    return [tuple(states) for states in zip(*whole, strict=True)]
