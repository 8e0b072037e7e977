# SPDX-License-Identifier: Apache-2.0
"""Cycles of the CPU on many configurations: most of its layers take the same on all of them, but the planes of computed
matrices lie as each array reads them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from firmware_gen import ir
from firmware_gen.targets.descriptor.estimate import around, cycles_on_cpu
from firmware_gen.targets.descriptor.linked.program import Layer
from firmware_gen.targets.descriptor.lowering.layout import tiles_of
from firmware_gen.targets.descriptor.survey.lanes import Array
from hls.config import Config


@dataclass(frozen=True)
class OnCpu:
    """Of one network. cycles: around its lists, and of layers that take the same everywhere; planes: the others;
    left_out: names of those whose cycles nobody knows."""

    cycles: int
    planes: tuple[Layer, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, layers: Sequence[Layer], lists: int) -> Self:
        """Of the layers of a program with so many lists of descriptors."""
        own = [layer for layer in layers if layer.on_cpu]
        planes = tuple(layer for layer in own if isinstance(layer.node, ir.Planes))
        by_name = {layer.name: cycles_on_cpu(layer) for layer in own if layer not in planes}
        left_out = tuple(name for name, cycles in by_name.items() if cycles is None)
        return cls(around(lists) + sum(cycles or 0 for cycles in by_name.values()), planes, left_out)

    def on(self, configs: Sequence[Config]) -> Array:
        """Cycles on each configuration."""
        every = [tiles_of(config) for config in configs]
        found = {tiles: self.cycles + sum(_made(layer, tiles) for layer in self.planes) for tiles in {*every}}
        return np.array([found[tiles] for tiles in every], float)


def _made(layer: Layer, tiles: ir.Tiles) -> int:
    assert isinstance(layer.node, ir.Planes)
    return cycles_on_cpu(replace(layer, node=replace(layer.node, tiles=tiles))) or 0
