# SPDX-License-Identifier: Apache-2.0
"""A graph of operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from firmware_gen.frozen import freeze
from firmware_gen.ir.operator import Node
from firmware_gen.ir.values import Shape, State, Value
from hls.errors import HeepgenError


class AnyGraph(ABC):
    """What can be asked of a `Graph`, and of the draft of one that a pass edits."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]
    constants: Mapping[str, np.ndarray]
    state: tuple[State, ...]
    channels_last: frozenset[str]

    @abstractmethod
    def producer(self, value: str) -> Node | None:
        """The node that writes `value`, None for a graph input or a constant."""

    @abstractmethod
    def consumers(self, value: str) -> tuple[Node, ...]:
        """The nodes that read `value`, in order."""

    @abstractmethod
    def read_once_by(self, value: str) -> Node | None:
        """The only reader of `value`; None when there are several, none, or it is a graph output."""

    @abstractmethod
    def place(self, node: Node) -> tuple[int, ...]:
        """Where a node of this graph stands among its nodes: the earlier, the less."""

    @property
    @abstractmethod
    def names(self) -> Container[str]:
        """What its nodes are called."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Inputs that a caller gives."""
        return self.inputs[: len(self.inputs) - len(self.state)]

    @property
    def results(self) -> tuple[str, ...]:
        """Outputs that a caller gets."""
        return self.outputs[: len(self.outputs) - len(self.state)]

    @property
    def ordered_outputs(self) -> tuple[str, ...]:
        """Outputs that lie in PyTorch's order."""
        return tuple(value for value in self.outputs if value not in self.channels_last)

    def shape(self, value: str) -> Shape:
        return self.values[value].shape

    def in_shape(self, node: Node) -> Shape:
        """Shape of the node's first input."""
        return self.shape(node.inputs[0])

    def out_shape(self, node: Node) -> Shape:
        return self.shape(node.output)

    def macs(self, node: Node) -> int:
        """Multiply-accumulates of one inference."""
        return node.macs(self.in_shape(node), self.out_shape(node))


@dataclass(frozen=True, eq=False)
class Graph(AnyGraph):
    """A single-assignment graph: `nodes` in topological order, `values` of every input, constant and node output.

    constants: arrays, by the name of their value, that nodes read like what is computed: float64 before quantisation,
    float32 after. No node reads constants alone.
    state: tensors that last from one inference to the next, none of most networks. They are the last of `inputs`, and
    the last of `outputs`, in this order, are what an inference leaves in them; so whoever keeps inputs and outputs
    keeps them. `arguments` and `results` are without them.
    channels_last: arguments and results, maps all of them, that lie with their channels last in memory, as a caller
    wants it; the others lie in PyTorch's order.

    Raises HeepgenError when a name repeats, a value is read before it is produced, an output is unknown, or a state is
    left in another shape.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    values: Mapping[str, Value] = field(repr=False)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    state: tuple[State, ...] = ()
    channels_last: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        freeze(self, "values", "constants")
        seen_names, produced = set(), {*self.inputs, *self.constants}
        for node in self.nodes:
            missing = [v for v in node.inputs if v not in produced]
            if missing:
                raise HeepgenError(f"graph {self.name}: {node.name} reads {missing[0]} before it is produced")
            if node.output in produced or node.output not in self.values:
                raise HeepgenError(f"graph {self.name}: {node.name} must produce one new, declared value")
            if node.name in seen_names:
                raise HeepgenError(f"graph {self.name}: two nodes are called {node.name}")
            produced.add(node.output)
            seen_names.add(node.name)
        lost = [v for v in self.outputs if v not in produced]
        if lost:
            raise HeepgenError(f"graph {self.name}: output {lost[0]} is not produced by any node")
        if tuple(s.value for s in self.state) != self.inputs[len(self.arguments) :] or len(self.outputs) < len(
            self.state
        ):
            raise HeepgenError(f"graph {self.name}: states must be its last inputs, and the last of its outputs")
        for state, left in self.updates:
            if not self.shape(state.value) == self.shape(left) == state.initial.shape:
                raise HeepgenError(
                    f"graph {self.name}: state {state.name} has shape {self.shape(state.value)} and is left in "
                    f"{self.shape(left)}; it must keep its shape"
                )

    def __reduce__(self) -> tuple[type[Graph], tuple[object, ...]]:
        """For copies and pickles, which cannot have a read-only mapping."""
        values, constants = dict(self.values), dict(self.constants)
        own = (self.name, self.inputs, self.outputs, self.nodes, values, constants, self.state, self.channels_last)
        return Graph, own

    @property
    def updates(self) -> tuple[tuple[State, str], ...]:
        """Every state with the output that it becomes."""
        return tuple(zip(self.state, self.outputs[len(self.results) :], strict=True))

    def node(self, name: str) -> Node:
        """The node called `name`; HeepgenError naming the choices otherwise."""
        if name in self._named:
            return self._named[name]
        known = ", ".join(n.name for n in self.nodes)
        raise HeepgenError(f"no layer is called {name!r}; the model has {known}")

    def producer(self, value: str) -> Node | None:
        return self._producers.get(value)

    def consumers(self, value: str) -> tuple[Node, ...]:
        return self._consumers.get(value, ())

    def read_once_by(self, value: str) -> Node | None:
        readers = self.consumers(value)
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def place(self, node: Node) -> tuple[int, ...]:
        return (self._places[node.output],)

    @property
    def names(self) -> Container[str]:
        return self._named.keys()

    @cached_property
    def _named(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {node.output: place for place, node in enumerate(self.nodes)}

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {node.output: node for node in self.nodes}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Node, ...]]:
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                readers.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in readers.items()}

    def with_nodes(
        self,
        nodes: Iterable[Node],
        outputs: tuple[str, ...] | None = None,
        values: Iterable[Value] = (),
        constants: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> Graph:
        """A copy with other nodes (and outputs); `values` and `constants` are added, or take the place of their
        namesakes. Values that are not produced any more go, and constants that nothing reads."""
        nodes = tuple(nodes)
        read = {value for node in nodes for value in node.inputs}
        arrays = {name: array for name, array in {**self.constants, **constants}.items() if name in read}
        live = {*self.inputs, *arrays, *(n.output for n in nodes)}
        merged = dict(self.values) | {v.name: v for v in values}
        kept = {name: v for name, v in merged.items() if name in live}
        outputs = self.outputs if outputs is None else outputs
        return replace(self, nodes=nodes, outputs=outputs, values=kept, constants=arrays)
