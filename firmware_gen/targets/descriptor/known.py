# SPDX-License-Identifier: Apache-2.0
"""Descriptors that programs of one network have in common, lowered once."""

from collections.abc import Hashable, Mapping, Sequence

from firmware_gen import ir
from firmware_gen.operations.constants import Added, Constants
from firmware_gen.operations.tensors import Tensor
from firmware_gen.targets.descriptor.lowering import depth_first
from firmware_gen.targets.descriptor.lowering.depth_first import Group
from firmware_gen.targets.descriptor.lowering.job import Job
from hls.config import Config

Lowered = Sequence[tuple[int, Sequence[Job]]]
"""Descriptors of steps, in order."""


class Known:
    """Of groups of a graph's steps, by where the tensors that they touch lie."""

    def __init__(self, graph: ir.Graph, config: Config) -> None:
        self._graph, self._config = graph, config
        self._found: dict[Hashable, tuple[Lowered, Sequence[Added]]] = {}

    def jobs(self, group: Group, tensors: Mapping[str, Tensor], constants: Constants) -> Lowered:
        """`depth_first.jobs`, whose constants are added."""
        nodes = (self._graph.nodes[step] for step in group.steps)
        key = group, tuple(tensors.get(value) for node in nodes for value in (*node.inputs, node.output))
        if key in self._found:
            jobs, added = self._found[key]
            if all(constants.again(own) for own in added):  # under the same names
                return jobs
        before = len(constants.added)
        jobs = list(depth_first.jobs(self._graph, group, tensors, constants, self._config))
        self._found[key] = jobs, constants.added[before:]
        return jobs
