# SPDX-License-Identifier: Apache-2.0
"""Layers -> jobs: the descriptors of every operation, images and channel multipliers in turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from firmware_gen import ir
from firmware_gen.operations.constants import Constants
from firmware_gen.operations.operation import Operation
from firmware_gen.operations.tensors import Tensor
from firmware_gen.operations.windows import Range, Windowed
from firmware_gen.targets.descriptor.lowering.folded import folded
from firmware_gen.targets.descriptor.lowering.job import Job
from firmware_gen.targets.descriptor.lowering.pieces import best_split, k_split, taps_piece, with_constants
from firmware_gen.targets.descriptor.lowering.streams import operations_of
from hls.config import Config
from hls.errors import HeepgenError


class NotInPlace(Exception):
    """The layer named cannot overwrite its residual: it needs its output for partial sums."""


def layer_jobs(node: ir.Node, sources: list[Tensor], target: Tensor, constants: Constants, config: Config) -> list[Job]:
    """Descriptors of a node, for every image of the batch."""
    jobs = []
    for operation in operations_of(node, sources, target):
        if operation.flat:
            jobs += flat_jobs(node.name, operation, constants, config)
            continue
        for image in range(operation.images):
            jobs += windowed_jobs(node.name, operation, image, constants, config)
    return jobs


def windowed_jobs(
    layer: str, operation: Operation, image: int, constants: Constants, config: Config, cbg: int | None = None
) -> list[Job]:
    """Descriptors of one operation on one image, in order."""
    parts = folded(operation, config)
    if len(parts) > 1 or parts[0] is not operation:
        return [job for part in parts for job in windowed_jobs(layer, part, image, constants, config, cbg)]
    op = operation.op
    source = operation.source.moved(image * operation.source_step)
    target = operation.target.moved(image * operation.target_step)
    aux = operation.aux and operation.aux.moved(image * operation.aux_step)
    try:
        split = best_split(
            layer=layer,
            op=op,
            rectangle=operation.rectangle,
            source=source,
            target=target,
            config=config,
            aux=aux,
            cbg=1 if op.planes else cbg,
        )
    except HeepgenError:
        if not operation.aux or op.planes:
            raise
        if operation.aux.base.name == operation.target.base.name:
            raise NotInPlace(layer) from None
        return [
            job for half in _without_residual(operation) for job in windowed_jobs(layer, half, image, constants, config)
        ]
    return [Job(layer, with_constants(op, piece, descriptor, layer, constants, config)) for piece, descriptor in split]


def split_jobs(layer: str, operation: Operation, splits: int, constants: Constants, config: Config) -> list[Job]:
    """Descriptors of an operation as so many K splits, one strip each. Raises HeepgenError where one is too large."""
    op = operation.op
    return [
        Job(layer, with_constants(op, piece, descriptor, layer, constants, config))
        for piece, descriptor in k_split(layer, op, splits, operation.source, operation.target, config)
    ]


def taps_job(layer: str, operation: Operation, rows: Range, constants: Constants, config: Config) -> Job | None:
    """The descriptor of some rows of the window of an operation of one output row, after those of the rows before, None
    where it does not fit the buffers."""
    found = taps_piece(operation.op, rows, operation.source, operation.target, config)
    if found is None:
        return None
    piece, descriptor = found
    return Job(layer, with_constants(operation.op, piece, descriptor, layer, constants, config))


def _without_residual(operation: Operation) -> list[Operation]:
    """K splits cannot take a residual: drain raw accumulators, then apply the whole epilogue to them in place."""
    op, target = operation.op, operation.target
    outputs = op.channels if op.diagonal else op.groups * op.cout
    scale, bias = ((v.reshape(1, -1) if isinstance(v, np.ndarray) else v) for v in (op.scale, op.bias))
    raw = replace(op, scale=1.0, bias=-0.0, act=ir.IDENTITY, residual="none", combine="add")
    finish = Windowed(
        outputs,
        op.out_height,
        op.out_width,
        op.out_height,
        op.out_width,
        cout=outputs,
        diagonal=True,
        maximum=True,
        scale=scale,
        bias=bias,
        act=op.act,
        residual=op.residual,
        combine=op.combine,
    )
    return [
        replace(operation, op=raw, aux=None),
        replace(operation, op=finish, source=target, source_step=operation.target_step),
    ]


def flat_jobs(layer: str, operation: Operation, constants: Constants, config: Config) -> list[Job]:
    """Contiguous words: rows of D channels, and what remains."""
    lanes, size = config.diagonal, operation.flat
    jobs = []
    for start, channels, rows in ((0, lanes, size // lanes), (size - size % lanes, size % lanes, 1)):
        if channels and rows:
            op = replace(operation.op, channels=channels, width=rows, out_width=rows, cout=channels)
            one = replace(
                operation,
                op=op,
                source=replace(operation.source.moved(start), x=channels),
                target=replace(operation.target.moved(start), x=channels),
                aux=operation.aux and replace(operation.aux.moved(start), x=channels),
                flat=0,
            )
            jobs += windowed_jobs(layer, one, 0, constants, config)
    return jobs
