# SPDX-License-Identifier: Apache-2.0
"""Which operand of a sum or product is loaded, and which one comes as the second."""

from dataclasses import replace

import numpy as np

from firmware_gen import ir
from firmware_gen.operations import operation
from firmware_gen.operations.operation import Operation
from firmware_gen.operations.tensors import Tensor
from firmware_gen.operations.windows import copy_window


def operations_of(node: ir.Node, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """`operation.operations_of`, as the array does it."""
    return [_swapped(own) for own in operation.operations_of(node, sources, target)]


def _swapped(own: Operation) -> Operation:
    """A map that meets one number per channel is the second operand, and these are loaded, once: the load engine can go
    on with the next layer meanwhile."""
    op, aux = own.op, own.aux
    copy = replace(
        copy_window((op.channels, op.height, op.width)), act=op.act, residual=op.residual, combine=op.combine
    )
    if aux is None or own.flat or op.weight is not None or op.residual != "before_act":
        return own
    if op.combine not in ("add", "multiply") or isinstance(op.scale, np.ndarray) or op != copy:
        return own
    dense = all(view.y == op.width * view.x for view in (own.source, own.target))
    if not dense or aux.x or aux.y or aux.c != 1 or op.width * op.height == 1:
        return own
    return replace(
        own,
        op=replace(op, height=1, width=1, stride=(0, 0)),
        source=aux,
        source_step=own.aux_step,
        aux=own.source,
        aux_step=own.source_step,
    )
