# SPDX-License-Identifier: Apache-2.0
"""Layers that torch's decompositions write out in choices between tensors, as the operators that they were: the softmax
of an attention, which is 0 in rows that are minus infinity everywhere, PReLU, and the maximum in a log-sum-exp."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram

from firmware_gen.frontend.exported.program import constants_of

_ATEN = torch.ops.aten
Constants = Mapping[Any, torch.Tensor | None]
"""By placeholder."""
_SOFTMAX = (_ATEN._softmax.default, _ATEN.softmax.int)
_VIEWS = (_ATEN.view.default, _ATEN.reshape.default, _ATEN._unsafe_view.default)


def with_whole_layers(program: ExportedProgram) -> ExportedProgram:
    """The same program, changed in place. A row that a constant mask hides as a whole is NaN then, which the comparison
    with the source finds."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    constants = dict(zip(nodes, constants_of(program), strict=True))
    for node in list(program.graph.nodes):
        if (choice := _arguments(node, (_ATEN.where.self,))) is not None:
            _replace(program.graph, node, choice, constants)
    program.graph.eliminate_dead_code()
    return program


def _replace(graph: torch.fx.Graph, node: torch.fx.Node, choice: tuple[Any, ...], constants: Constants) -> None:
    condition, first, second = choice
    softmax, prelu = _softmax(condition, first, second, constants), _prelu(condition, first, second)
    same = softmax or _finite(condition, first, second)
    if same is not None:
        node.replace_all_uses_with(same)
    elif prelu is not None:
        with graph.inserting_before(node):
            whole = graph.call_function(_ATEN.prelu.default, prelu)
        whole.meta = dict(node.meta)
        node.replace_all_uses_with(whole)


def _softmax(condition: Any, zeros: Any, softmax: Any, constants: Constants) -> torch.fx.Node | None:
    """The softmax that is chosen but for rows of minus infinity, or where it is no number, as ONNX writes it."""
    if not isinstance(softmax, torch.fx.Node) or softmax.target not in _SOFTMAX:
        return None
    zero = constants.get(zeros)
    if _arguments(condition, (_ATEN.isnan.default,)) == (softmax,) and zero is not None and not zero.any():
        return softmax
    fill = _arguments(zeros, (_ATEN.full_like.default, _ATEN.scalar_tensor.default))
    scores, axis = softmax.args[:2]
    some = _arguments(_inner(condition), (_ATEN.any.dim,))
    if fill is None or fill[-1] != 0 or some is None or some[1:] != (axis, True):
        return None
    hidden = _arguments(_inner(some[0]), (_ATEN.eq.Scalar,))
    return softmax if hidden == (scores, -math.inf) else None


def _finite(condition: Any, fill: Any, value: Any) -> torch.fx.Node | None:
    """The maximum of a log-sum-exp, which is 0 where it is infinite, as its numbers are not."""
    size, limit = _arguments(condition, (_ATEN.eq.Scalar,)) or (None, None)
    zero = _arguments(fill, (_ATEN.full_like.default, _ATEN.scalar_tensor.default, _ATEN.full.default))
    if limit != math.inf or _arguments(size, (_ATEN.abs.default,)) != (value,) or zero is None:
        return None
    return value if zero[-1] == 0 and isinstance(value, torch.fx.Node) else None


def _inner(node: Any) -> Any:
    found = _arguments(node, (_ATEN.logical_not.default,))
    return found[0] if found else None


def _prelu(condition: Any, positive: Any, negative: Any) -> tuple[torch.fx.Node, torch.fx.Node] | None:
    """Input and slopes of a PReLU with several: x > 0 ? x : slopes * x."""
    factors = _arguments(negative, (_ATEN.mul.Tensor,))
    if factors is None or _arguments(condition, (_ATEN.gt.Scalar,)) != (positive, 0):
        return None
    others = [factor for factor in factors if factor is not positive]
    seen = _arguments(others[0], _VIEWS) if len(others) == 1 else None
    if seen is None or not isinstance(seen[0], torch.fx.Node):
        return None
    slopes, x = seen[0].meta["val"].shape, positive.meta["val"].shape
    spread = (1, *slopes, *(1,) * (len(x) - 2))
    alike = len(slopes) == 1 and len(x) > 1 and slopes[0] == x[1]
    return (positive, seen[0]) if alike and tuple(others[0].meta["val"].shape) == spread else None


def _arguments(node: Any, targets: Collection[object]) -> tuple[Any, ...] | None:
    """Those of a call of one of `targets`, None where `node` is none."""
    return tuple(node.args) if isinstance(node, torch.fx.Node) and node.target in targets else None
