# SPDX-License-Identifier: Apache-2.0
"""Two layers in ranges of channels: what the first one computes of its outputs, the second one, a channel at a time,
needs no more than that of."""

import math
from dataclasses import replace

import numpy as np

from firmware_gen.operations.operation import Operation
from firmware_gen.operations.windows import Range
from firmware_gen.targets.descriptor.lowering.job import Job
from firmware_gen.targets.descriptor.timing.demand import demand, vectors
from hls.config import Config

SHARE = 0.62
"""Of the channels, that are in the first of two ranges: the second layer ends with the smaller one, which its reader
waits for. Where it loads for longer than it computes, the first range is what loads while the second is computed."""

WORTH = 0.75
"""Of the vectors of the first layer, that these loads take at most."""


def may_take_turns(before: Operation, after: Operation, jobs: tuple[Job, Job], config: Config) -> bool:
    """Whether an operation and its only reader may be computed in two ranges of channels, and hide what they load, the
    first one its whole input twice. jobs: of each as a whole."""
    op, reader, block = before.op, after.op, _block(config)
    apart = op.groups == 1 and op.weight is not None and not op.diagonal and op.channels > 1 and reader.diagonal
    if not apart or before.aux or after.aux or reader.channels != op.cout or op.cout % block or op.cout < 2 * block:
        return False
    return pays(jobs, config)


def pays(jobs: tuple[Job, Job], config: Config) -> bool:
    """Whether the array hides what both load; where the second one has a single output pixel, which no strips hide, the
    array while it computes the first one."""
    (load, cycles), (again, own) = ((demand(j.descriptor, config).load, vectors(j.descriptor)) for j in jobs)
    return 2 * load <= WORTH * cycles and again <= (max(own, cycles) if jobs[1].descriptor.out_px == 1 else own)


def _block(config: Config) -> int:
    """Channels whose multiples, computed alone, have the bits of the whole."""
    return math.lcm(config.cols, config.diagonal)


def ranges(before: Operation, after: Operation, config: Config) -> tuple[Range, Range]:
    """Two ranges of what lies between two layers, of whole blocks."""
    op, reader, block = before.op, after.op, _block(config)
    load = reader.height * reader.width / config.ports  # cycles for a channel, as below
    own = math.prod(reader.kernel) * reader.out_height * reader.out_width / config.diagonal
    cycles = math.prod(op.kernel) * op.channels * op.out_height * op.out_width / (config.rows * config.cols)
    share = SHARE if load <= own else max(SHARE, cycles / (cycles + load))
    blocks = op.cout // block
    first = min(round(share * blocks), blocks - 1) * block
    return (0, first), (first, op.cout)


def some_channels(own: Operation, channels: Range) -> Operation:
    """An operation for some of its output channels."""
    op, (first, end) = own.op, channels
    scale, bias = (v[:, first:end] if isinstance(v, np.ndarray) else v for v in (op.scale, op.bias))
    target = replace(own.target, base=own.target.at(c=first))
    if not op.diagonal:
        assert op.weight is not None, "a dense layer has weights"
        part = replace(op, cout=end - first, weight=op.weight[:, first:end], scale=scale, bias=bias)
        return replace(own, op=part, target=target)
    weight = None if op.weight is None else op.weight[first:end]
    part = replace(op, channels=end - first, cout=end - first, weight=weight, scale=scale, bias=bias)
    return replace(own, op=part, source=replace(own.source, base=own.source.at(c=first)), target=target)
