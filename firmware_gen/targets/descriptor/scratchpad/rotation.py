# SPDX-License-Identifier: Apache-2.0
"""A scratchpad whose words are all a little further in every call, round it: where as many frames leave a state of a
stream as it rotates by, what stays is in its place, and need not move."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from firmware_gen import ir
from firmware_gen.memory.planner import Buffer
from firmware_gen.targets.descriptor.scratchpad.homes import Home
from hls.config import Config


@dataclass(frozen=True)
class Frames:
    """Words that leave the state of a stream in every call, those that stay, and the step that moves them up."""

    state: str
    gone: int
    kept: int
    step: int


def frames_of(graph: ir.Graph) -> list[Frames]:
    """Those of every state of a stream."""
    found = []
    for step, node in enumerate(graph.nodes):
        if isinstance(node, ir.Advance):
            words, kept = (graph.values[value].size for value in (node.inputs[0], node.output))
            found.append(Frames(node.inputs[0], words - kept, kept, step))
    return found


def rotated(
    states: Sequence[Frames], homes: Mapping[str, Home], buffers: Sequence[Buffer], config: Config
) -> tuple[int, dict[str, Home]]:
    """Words by which the scratchpad rotates, those that spare most others from moving, 0 where no state is in it; and
    the homes of what can be in it then, whole tensors all of them. buffers: their lives."""
    on_chip = {own.state: own for own in states if own.state in homes}
    spared = Counter[int]()
    for own in on_chip.values():
        spared[own.gone] += own.kept
    rotation = max(spared, key=lambda words: (spared[words], words), default=0)
    written = {buffer.name: buffer.born for buffer in buffers} | {own.state: own.step for own in states}

    def may_move(own: Frames) -> bool:
        """Whether frames can move from where the rotation leaves them: not away from the beginning, where they would
        overwrite each other, but for from before it, where nothing was written yet."""
        before, size = rotation - own.gone, config.scratchpad_words
        taken = np.zeros(size, bool)
        for buffer in buffers:
            if buffer.name in homes and written[buffer.name] < own.step:
                taken[(homes[buffer.name].offset + np.arange(buffer.size // 4)) % size] = True
        return own.kept <= before and not taken[(homes[own.state].offset - 1 - np.arange(before)) % size].any()

    lost = {own.state for own in on_chip.values() if own.gone < rotation and not may_move(own)}
    return rotation, {name: home for name, home in homes.items() if name not in lost}
