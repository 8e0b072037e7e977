# SPDX-License-Identifier: Apache-2.0
"""The room of the scratchpad while a choice grows."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from firmware_gen.memory import planner
from firmware_gen.memory.planner import Buffer
from firmware_gen.targets.descriptor.lowering.depth_first import Group
from firmware_gen.targets.descriptor.scratchpad.choice import Choice
from firmware_gen.targets.descriptor.scratchpad.rings import Rings
from firmware_gen.targets.descriptor.scratchpad.shelf import Shelf

PATIENCE = 10
"""Items for which all orders are tried in vain while a choice grows; of a long network there are thousands."""


class Plan(Protocol):
    """What is to be known of a network."""

    rings: Rings
    size: int  # of the scratchpad in bytes

    @property
    def jobs(self) -> Sequence[Any]:
        """Of every step."""

    @property
    def lives(self) -> Mapping[str, Buffer]:
        """Of storages that may be on chip."""

    def alive(self, name: str, buffer: Buffer, choice: Choice) -> Buffer:
        """A buffer while groups that touch it take turns."""

    def buffers(self, choice: Choice) -> list[Buffer]:
        """What is on chip."""

    def places(self, choice: Choice, orders: int) -> Mapping[str, Any] | None:
        """Homes, None if it does not fit, in so many orders."""


class Room:
    """The scratchpad while a choice grows: what is added finds a place beside the rest."""

    def __init__(self, plan: Plan):
        self._plan, self._choice = plan, Choice()
        self._alive = [0] * (len(plan.jobs) + 2)  # bytes, from step -1 on
        self._shelf: Shelf | None = Shelf()
        self._in_vain = 0

    def take(self, item: str | Group) -> bool:
        """Whether it fits; if so it is in."""
        if self._peak(item) > self._plan.size:
            return False
        if isinstance(item, str) and self._shelf is not None:
            buffer = self._plan.alive(item, self._plan.lives[item], self._choice)
            if self._shelf.add(buffer, self._plan.size):
                self._choice = self._choice.grown(item)
                self._count(buffer)
                return True
        grown = self._choice.grown(item)
        if self._plan.places(grown, planner.PLACEMENTS if self._in_vain < PATIENCE else 1) is None:
            self._in_vain += 1
            return False
        self._choice, buffers = grown, self._plan.buffers(grown)
        self._alive = [0] * len(self._alive)
        for buffer in buffers:
            self._count(buffer)
        self._shelf = Shelf()
        if not all(self._shelf.add(buffer, self._plan.size) for buffer in planner.by_size(buffers)):
            self._shelf = None  # `planner.allocate` had to try another order
        return True

    def _count(self, buffer: Buffer) -> None:
        for step in range(buffer.born, min(buffer.dies, len(self._alive) - 2) + 1):
            self._alive[step + 1] += buffer.size

    def _peak(self, item: str | Group) -> int:
        """Bytes that are alive at least, while an item is."""
        if isinstance(item, str):
            buffer = self._plan.alive(item, self._plan.lives[item], self._choice)
            return buffer.size + max(self._alive[buffer.born + 1 : buffer.dies + 2])
        first, last = item.steps[0], item.steps[-1]
        alive = self._alive[first + 1 : last + 2]
        for group in self._choice.groups:
            if not set(group.steps).isdisjoint(item.steps):
                for step in range(group.steps[0], group.steps[-1] + 1):
                    alive[step - first] -= self._plan.rings.bytes(group)
        return self._plan.rings.bytes(item) + max(alive)
