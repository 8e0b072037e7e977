# SPDX-License-Identifier: Apache-2.0
"""Buffers where `planner.allocate` tries them first, while they become more: what one more does not move stays."""

import heapq

from firmware_gen.memory.planner import Buffer, best_gap, rounded


class Shelf:
    """Places of buffers, in the order of `planner.by_size`."""

    def __init__(self) -> None:
        self._buffers: dict[str, Buffer] = {}
        self.offsets: dict[str, int] = {}
        self._alive: dict[int, list[str]] = {}  # by step
        self._born: dict[int, list[str]] = {}
        self._near: dict[str, set[str]] = {}
        """The others that a buffer meets, which live at one of its steps."""

    def add(self, buffer: Buffer, limit: int) -> bool:
        """Whether all buffers end at `limit` with this one beside them; if not, nothing changes."""
        before = dict[str, int | None]()
        self._insert(buffer)
        moved = [self._key(buffer.name)]
        while moved:
            key = heapq.heappop(moved)
            while moved and moved[0] == key:
                heapq.heappop(moved)
            name = key[-1]
            own, near = self._buffers[name], self._near[name]
            taken = sorted((self.offsets[n], self._end(n)) for n in near if self._key(n) < key)
            offset = best_gap(taken, rounded(own.size), own.align)
            if offset == self.offsets.get(name):
                continue
            before.setdefault(name, self.offsets.get(name))
            self.offsets[name] = offset
            if self._end(name) > limit:
                self._undo(buffer, before)
                return False
            for other in near:
                if self._key(other) > key:
                    heapq.heappush(moved, self._key(other))
        return True

    def _insert(self, buffer: Buffer) -> None:
        near = set(self._alive.get(buffer.born, ()))
        for step in range(buffer.born + 1, buffer.dies + 1):
            near.update(self._born.get(step, ()))
        self._buffers[buffer.name], self._near[buffer.name] = buffer, near
        for other in near:
            self._near[other].add(buffer.name)
        self._born.setdefault(buffer.born, []).append(buffer.name)
        for step in range(buffer.born, buffer.dies + 1):
            self._alive.setdefault(step, []).append(buffer.name)

    def _undo(self, buffer: Buffer, before: dict[str, int | None]) -> None:
        self.offsets |= {name: offset for name, offset in before.items() if offset is not None}
        self._born[buffer.born].remove(buffer.name)
        for step in range(buffer.born, buffer.dies + 1):
            self._alive[step].remove(buffer.name)
        for other in self._near.pop(buffer.name):
            self._near[other].remove(buffer.name)
        del self._buffers[buffer.name], self.offsets[buffer.name]

    def _key(self, name: str) -> tuple[int, int, str]:
        buffer = self._buffers[name]
        return -buffer.size, buffer.born, name

    def _end(self, name: str) -> int:
        return self.offsets[name] + rounded(self._buffers[name].size)
