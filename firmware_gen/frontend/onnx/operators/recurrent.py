# SPDX-License-Identifier: Apache-2.0
"""ONNX's recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles

Layer = Callable[..., tuple[torch.Tensor, ...]]
"""PyTorch's: (output, last states ...) of (x, initial states, weights, has_biases, layers, dropout, train,
bidirectional, batch_first)."""
COMMON = "activations direction hidden_size layout"


@handles("LSTM", 22, "xwwwcaa-", COMMON)
def _lstm(node: Node) -> Function:
    """ONNX's gates are input, output, forget, cell; PyTorch's input, forget, cell, output."""
    _check(node, ["Sigmoid", "Tanh", "Tanh"])
    return _layer(node, torch.lstm, (0, 2, 3, 1), 2)


@handles("GRU", 22, "xwwwca", f"{COMMON} linear_before_reset")
def _gru(node: Node) -> Function:
    """ONNX's gates are update, reset, new; PyTorch's reset, update, new."""
    _check(node, ["Sigmoid", "Tanh"])
    return _layer(node, torch.gru if node.get("linear_before_reset") else _gru_resetting_first, (1, 0, 2), 1)


def _gru_resetting_first(
    x: torch.Tensor, state: torch.Tensor, params: Sequence[torch.Tensor], has_biases: bool, *rest: bool | int | float
) -> tuple[torch.Tensor, torch.Tensor]:
    """torch.gru, but with n = tanh(W x + b + U (r * h) + c)."""
    *_, bidirectional, batch_first = rest
    steps, each = x.transpose(0, 1) if batch_first else x, 4 if has_biases else 2
    hidden, last = [], []
    for d in range(1 + bool(bidirectional)):
        w, u, *biases = params[d * each : (d + 1) * each]
        size, h, outputs = u.shape[1], state[d], []
        products, first, second = (
            F.linear(steps, w, biases[0] + biases[1] if biases else None),
            u[: 2 * size],
            u[2 * size :],
        )
        for t in reversed(range(len(steps))) if d else range(len(steps)):
            reset, update = torch.sigmoid(products[t, :, : 2 * size] + h @ first.t()).chunk(2, 1)
            new = torch.tanh(products[t, :, 2 * size :] + (reset * h) @ second.t())
            h = new + update * (h - new)
            outputs.append(h)
        hidden.append(torch.stack(outputs[::-1] if d else outputs))
        last.append(h)
    y = torch.cat(hidden, 2)
    return y.transpose(0, 1) if batch_first else y, torch.stack(last)


@handles("RNN", 22, "xwwwca", COMMON)
def _rnn(node: Node) -> Function:
    acts = set(node.get("activations", ["Tanh"]))
    if acts not in ({"Tanh"}, {"Relu"}):
        raise node.refuse(f"activations={node.get('activations')}; Tanh or Relu of all directions is supported")
    return _layer(node, torch.rnn_tanh if acts == {"Tanh"} else torch.rnn_relu, (0,), 1)


def _check(node: Node, activations: Sequence[str]) -> None:
    directions = 2 if node.get("direction") == "bidirectional" else 1
    wanted = list(activations) * directions
    if node.get("activations", wanted) != wanted:
        raise node.refuse(f"activations={node.get('activations')}; {wanted} are supported")


def _layer(node: Node, layer: Layer, gates: Sequence[int], states: int) -> Function:
    """Weights of ONNX are (directions, gates * H, ...), with the gates in another order than PyTorch's."""
    directions, size = 1 + (node.get("direction") == "bidirectional"), node.constant(2).shape[-1]
    batch_first, backwards = bool(node.get("layout")), node.get("direction") == "reverse"
    time, batch = (1, node.shape()[0]) if batch_first else (0, node.shape()[1])
    if any(length != node.shape()[time] for length in node.numbers(4)):
        raise node.refuse(f"sequence_lens={node.numbers(4)}; sequences of the whole length are supported")

    rows, state = len(gates) * size, (batch, directions, size) if batch_first else (directions, batch, size)
    shapes = ((directions, rows, node.shape()[2]), (directions, rows, size), (directions, 2 * rows), *[state] * states)

    def reordered(w: torch.Tensor) -> torch.Tensor:
        return torch.cat([w[g * size : (g + 1) * size] for g in gates])

    def run(x: torch.Tensor, w: torch.Tensor, r: torch.Tensor, *rest: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        b, *initial = [*rest, *[None] * 3][: 1 + states]
        for operand, shape in zip((w, r, b, *initial), shapes, strict=True):  # PyTorch ends the process instead
            if operand is not None and operand.shape != shape:
                raise node.refuse(f"an input has shape {tuple(operand.shape)}, {shape} is wanted")
        params = []
        for d in range(directions):
            params += [reordered(w[d]), reordered(r[d])]
            params += [] if b is None else [reordered(half) for half in b[d].chunk(2)]
        zeros = torch.zeros(directions, batch, size)
        hidden = [zeros if h is None else h.transpose(0, 1) if batch_first else h for h in initial]
        x = x.flip(time) if backwards else x
        first = hidden if states == 2 else hidden[0]
        how = b is not None, 1, 0.0, False, directions == 2, batch_first  # biases, layers, dropout, in training
        y, *last = layer(x, first, params, *how)
        y = y.flip(time) if backwards else y
        y = y.reshape(*y.shape[:2], directions, size)
        return y if batch_first else y.transpose(1, 2), *(h.transpose(0, 1) if batch_first else h for h in last)

    return run
