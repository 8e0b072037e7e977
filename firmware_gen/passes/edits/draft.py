# SPDX-License-Identifier: Apache-2.0
"""A graph while a pass edits it: who writes and who reads a value is kept, so that an edit costs what it changes."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from firmware_gen.ir import AnyGraph, Graph, Node, Value
from firmware_gen.passes.edits.rewrite import renamed

Change = Callable[["Draft", Node], bool]
"""Makes a change at a node where it can be made, and says whether it did."""


class Draft(AnyGraph):
    """A graph that is edited in place. New nodes stand where the one stood that they replace, and what nobody reads any
    more after an edit is gone."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._outputs = Counter(graph.outputs)
        self.inputs, self.outputs, self.state = graph.inputs, graph.outputs, graph.state
        self.channels_last = graph.channels_last
        self.values = self._values = dict(graph.values)
        self.constants = self._constants = dict(graph.constants)
        self._slots = [[node] for node in graph.nodes]
        self._slot: dict[Node, int] = {}
        self._producers: dict[str, Node] = {}
        self._consumers: dict[str, dict[Node, None]] = {}
        self._names: Counter[str] = Counter()
        for slot, (node,) in enumerate(self._slots):
            self._enter(node, slot)
        self._touched: set[int] = set()
        self.is_changed = self._is_settled = False

    def producer(self, value: str) -> Node | None:
        return self._producers.get(value)

    def consumers(self, value: str) -> tuple[Node, ...]:
        readers = self._consumers.get(value, {})
        return tuple(readers) if len(readers) < 2 else tuple(sorted(readers, key=self.place))

    def read_once_by(self, value: str) -> Node | None:
        readers = self._consumers.get(value, {})
        return next(iter(readers)) if len(readers) == 1 and value not in self._outputs else None

    def place(self, node: Node) -> tuple[int, ...]:
        slot = self._slot[node]
        return slot, self._slots[slot].index(node)

    @property
    def names(self) -> Counter[str]:
        return self._names

    def graph(self) -> Graph:
        """What it has become; the graph that it was where nothing changed."""
        if not self.is_changed:
            return self._graph
        nodes = (node for slot in self._slots for node in slot)
        return self._graph.with_nodes(nodes, self.outputs, self.values.values(), self.constants)

    def edit(
        self,
        new: Mapping[Node, Sequence[Node]],
        values: Iterable[Value] = (),
        constants: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        """Put nodes, or none, in the place of others; add `values` and `constants`, or replace their namesakes."""
        self.is_changed = True
        self._values.update((value.name, value) for value in values)
        self._constants.update(constants)
        for node in new:
            self._touch(node)
            self._leave(node)
        for node, instead in new.items():
            slot = self._slot.pop(node)
            place = self._slots[slot].index(node)
            self._slots[slot][place : place + 1] = instead
            for each in instead:
                self._enter(each, slot)
        for instead in new.values():
            for each in instead:
                self._touch(each)
        for node in new:
            for value in node.inputs:
                self._drop_unread(value)

    def substitute(self, new: Mapping[Node, Node], values: Iterable[Value] = ()) -> None:
        """Replace nodes by others that write the same values."""
        self.edit({old: (node,) for old, node in new.items()}, values)

    def bypass(self, node: Node) -> None:
        """Remove a one-input node: its readers, and the graph's outputs, take its input instead."""
        rename = {node.output: node.inputs[0]}
        self.outputs = tuple(rename.get(value, value) for value in self.outputs)
        self._outputs = Counter(self.outputs)
        self.edit({node: (), **{reader: (renamed(reader, rename),) for reader in self.consumers(node.output)}})

    def absorb(self, producer: Node, reader: Node, **fields: Any) -> None:
        """Merge `reader` into `producer`, whose output only it reads: `producer` gets `fields`, and writes the
        reader's output. It moves to the reader's place when `fields` give it more inputs."""
        merged = replace(producer, output=reader.output, **fields)
        place, gone = (reader, producer) if "inputs" in fields else (producer, reader)
        self.edit({place: (merged,), gone: ()})

    def hoist(self, above: Node, node: Node) -> None:
        """above -> node becomes node -> above, for a `node` that works on elements in any order and is the only
        reader of `above`, which has one input."""
        middle = replace(self.values[above.output], shape=self.in_shape(above))
        early = replace(node, inputs=above.inputs, output=above.output)
        late = replace(above, inputs=(above.output,), output=node.output)
        self.substitute({above: early, node: late}, values=[middle])

    def change(self, change: Change, after: Change | None = None) -> None:
        """Make a change wherever it can be made, at the first node first, until it can be made nowhere; after every
        one, another kind of change wherever that can be made."""
        while self._sweep(range(len(self._slots)), change, after):
            pass

    def _sweep(self, slots: Iterable[int], change: Change, after: Change | None = None) -> set[int]:
        """Make changes at the nodes of these slots, and at those that this touches, which are returned."""
        waiting, queued, changed = sorted(slots), set(slots), set[int]()
        while waiting:
            slot = heapq.heappop(waiting)
            queued.discard(slot)
            if not any(change(self, node) for node in tuple(self._slots[slot])):
                continue
            touched, self._touched = self._touched, set()
            if after:
                touched |= self._sweep(touched if self._is_settled else range(len(self._slots)), after)
                self._is_settled = True
            for near in touched - queued:
                heapq.heappush(waiting, near)
            queued |= touched
            changed |= touched
        return changed

    def _enter(self, node: Node, slot: int) -> None:
        self._slot[node] = slot
        self._producers[node.output] = node
        for value in node.inputs:
            self._consumers.setdefault(value, {})[node] = None
        self._names[node.name] += 1

    def _leave(self, node: Node) -> None:
        del self._producers[node.output]
        for value in node.inputs:
            self._consumers[value].pop(node, None)
        self._names[node.name] -= 1
        if not self._names[node.name]:
            del self._names[node.name]

    def _touch(self, node: Node) -> None:
        """What stands at a node and beside it may change in another way now."""
        beside = [self._producers.get(value) for value in node.inputs]
        beside += self._consumers.get(node.output, ())
        beside += [self.read_once_by(value) for value in node.inputs]
        self._touched.update(self._slot[near] for near in (node, *beside) if near in self._slot)

    def _drop_unread(self, value: str) -> None:
        unread = [value]
        while unread:
            node = self._producers.get(value := unread.pop())
            if node and not self._consumers.get(value) and value not in self._outputs:
                self._touch(node)
                self._leave(node)
                self._slots[self._slot.pop(node)].remove(node)
                unread += node.inputs


def edited(graph: Graph, change: Change, after: Change | None = None) -> Graph:
    """`Draft.change` of a graph, which is returned itself where nothing changes."""
    draft = Draft(graph)
    draft.change(change, after)
    return draft.graph()
