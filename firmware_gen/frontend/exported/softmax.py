# SPDX-License-Identifier: Apache-2.0
"""Softmax as torch's decompositions write that of an attention: 0 in rows that are minus infinity everywhere."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.export import ExportedProgram

PARTS = frozenset(("eq", "logical_not", "any"))
"""Names of operators that it is written with, and that nothing else may be."""
_ATEN = torch.ops.aten
_SOFTMAX = (_ATEN._softmax.default, _ATEN.softmax.int)


def with_plain_softmax(program: ExportedProgram) -> ExportedProgram:
    """The same program, changed in place: without the choice of zeros, since no row of numbers is hidden as a whole. A
    row that a constant mask hides is NaN then, which the comparison with the source finds."""
    for node in list(program.graph.nodes):
        if (softmax := _chosen(node)) is not None:
            node.replace_all_uses_with(softmax)
    program.graph.eliminate_dead_code()
    return program


def _chosen(node: torch.fx.Node) -> torch.fx.Node | None:
    """The softmax that `node` is but for rows of minus infinity; None where it is something else."""
    where = _arguments(node, _ATEN.where.self)
    if where is None:
        return None
    condition, zeros, softmax = where
    if not isinstance(softmax, torch.fx.Node) or softmax.target not in _SOFTMAX:
        return None
    fill = _arguments(zeros, _ATEN.full_like.default) or _arguments(zeros, _ATEN.scalar_tensor.default)
    scores, axis = softmax.args[:2]
    some = _arguments(_inner(condition, _ATEN.logical_not.default), _ATEN.any.dim)
    if fill is None or fill[-1] != 0 or some is None or some[1:] != (axis, True):
        return None
    hidden = _arguments(_inner(some[0], _ATEN.logical_not.default), _ATEN.eq.Scalar)
    return softmax if hidden == (scores, -math.inf) else None


def _inner(node: Any, target: torch._ops.OpOverload) -> Any:
    found = _arguments(node, target)
    return found[0] if found else None


def _arguments(node: Any, target: torch._ops.OpOverload) -> tuple[Any, ...] | None:
    """Those of a call of `target`, None where `node` is none."""
    return tuple(node.args) if isinstance(node, torch.fx.Node) and node.target is target else None
