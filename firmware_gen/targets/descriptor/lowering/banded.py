# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions by banded tiles: neighbouring outputs of a row in as many columns, channel after channel.

In the activation buffer pixels lie a pitch apart that is 1 modulo its banks, so that R pixels of one channel are read
at once; a pixel is loaded with words of the next ones behind it. In memory they lie a pitch apart that is 1 modulo the
banks of the scratchpad, so that P neighbouring pixels of a channel are stored at once: a tensor in which that pays may
have words between its pixels that nobody uses.
"""

import math
from collections.abc import Mapping

from firmware_gen import ir
from firmware_gen.operations.tensors import Tensor, View
from firmware_gen.operations.windows import Range, Windowed
from firmware_gen.targets.descriptor.lowering.axis import along
from firmware_gen.targets.descriptor.lowering.streams import operations_of
from hls.config import Config
from hls.descriptor.interface.timing import weight_buffer

WORTH = 0.75
"""Of the cycles of diagonal tiles, that banded ones take at most where tensors get a pitch for them."""


def pitch_of(channels: int, config: Config) -> int:
    """Words from pixel to pixel in the activation buffer, at least `channels`: its lanes lie in different banks."""
    return _one_modulo(config.banks, channels)


def map_pitch(channels: int, config: Config) -> int:
    """Words from pixel to pixel of a map of so many channels: neighbours lie in different banks of the scratchpad."""
    return _one_modulo(config.scratchpad_banks, channels)


def _one_modulo(banks: int, least: int) -> int:
    return -(-(least - 1) // banks) * banks + 1


def taps_of(op: Windowed) -> int:
    """Input pixels from the first to the last one under a row of the kernel."""
    return (op.kernel[1] - 1) * op.dilation[1] + 1


def run_of(op: Windowed, outputs: int) -> int:
    """Input pixels under a row of the kernel of so many neighbouring outputs."""
    return (outputs - 1) * op.stride[1] + taps_of(op)


def most_outputs(op: Windowed, config: Config) -> int:
    """Of a vector, at most; 0 where a depthwise convolution has no banded tiles."""
    if not config.banded or not op.diagonal or op.maximum or op.weight is None or op.stride[1] not in (1, 2):
        return 0
    if op.kernel[1] == 1 or taps_of(op) > config.diagonal:
        return 0
    return min(config.cols, (config.rows - taps_of(op)) // op.stride[1] + 1)


def columns_of(columns: Range, most: int) -> list[tuple[Range, int]]:
    """Columns of the output as ranges, each with the outputs of its vectors, which divide it: one range, or two where
    they have fewer vectors by a fifth."""
    first, end = columns
    width = end - first
    even = max(n for n in range(1, min(most, width) + 1) if width % n == 0)
    rest = width % most
    if not rest or width < most or width / even <= 1.2 * -(-width // most):
        return [(columns, even)]
    return [((first, end - rest), most), ((end - rest, end), rest)]


def lane_limits(op: Windowed, columns: Range, outputs: int) -> tuple[int, int] | None:
    """FIRST_LANE and LAST_LANES of vectors of so many outputs, in those columns of the output; None where more than the
    first and the last of a row would reach beyond the input."""
    (_, loaded, _), x0, _ = along(columns, (0, op.kernel[1]), op.width, op.stride[1], op.dilation[1], op.left)
    vectors = (columns[1] - columns[0]) // outputs
    step, run = outputs * op.stride[1], run_of(op, outputs)
    last = x0 + (vectors - 1) * step
    if vectors > 1 and (x0 + step < 0 or last - step + run > loaded):
        return None
    return max(0, -x0), max(0, min(run, loaded - last))


def is_banded(op: Windowed, source: View, target: View, config: Config) -> bool:
    """Whether an operator is computed by banded tiles between its maps, which must have been given a pitch for that:
    its bits depend on nothing else."""
    return source.padded and target.padded and pays(op, config)


def pitches(graph: ir.Graph, tensors: Mapping[str, Tensor], config: Config) -> dict[str, int]:
    """By value, of maps that layers read or write which are faster so. tensors: without."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if not isinstance(node, ir.Conv) or not node.is_depthwise or node.is_transposed or node.sections != (1, 1):
            continue
        own = node.inputs[0], node.output
        operations = operations_of(node, [tensors[v] for v in node.inputs], tensors[node.output])
        if all(pays(o.op, config) for o in operations) and all(may_have_pitch(graph, v, tensors) for v in own):
            found |= {v: map_pitch(graph.shape(v)[1], config) for v in own}
    return found


def may_have_pitch(graph: ir.Graph, value: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the array alone writes and reads a value, whose words are nobody else's."""
    tensor, producer = tensors[value], graph.producer(value)
    alone = sum(t.storage == tensor.storage for t in tensors.values()) == 1
    nodes = [producer, *graph.consumers(value)]
    on_array = all(node is not None and node.runs_on is ir.Place.ARRAY for node in nodes)
    return alone and on_array and value not in graph.results and bool(tensor.channels_last) and len(tensor.shape) == 4


def pays(op: Windowed, config: Config) -> bool:
    """By the vectors, and the cycles for which tiles go to the array."""
    most = most_outputs(op, config)
    if not most:
        return False
    ranges = columns_of((0, op.out_width), most)
    if any(lane_limits(op, columns, outputs) is None for columns, outputs in ranges):
        return False
    entries, beats = config.accumulator_entries, weight_buffer(config).load_beats
    pixels = [op.out_height * (end - first) // outputs for (first, end), outputs in ranges]
    banded = op.kernel[0] * op.channels * sum(max(n, -(-n // entries) * beats) for n in pixels)
    blocks = -(-op.channels // config.diagonal)
    return banded < WORTH * math.prod(op.kernel) * blocks * op.out_height * op.out_width
