# SPDX-License-Identifier: Apache-2.0
"""Sequences of tensors, which torch's exporter splits into and takes parts of, as the tensors in them: a sequence is a
list of names, and its operators become ordinary ones."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, helper

from firmware_gen.refusal import refusal
from hls.errors import HeepgenError

SEQUENCES = frozenset(
    ("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
     "SequenceLength", "SplitToSequence")
)  # fmt: skip


def tensors_of(
    proto: NodeProto, name: str, known: MutableMapping[str, list[str]], values: MutableMapping[str, Any]
) -> list[NodeProto]:
    """Ordinary nodes for one of `SEQUENCES`. known: sequences, by name; values: tensors, and constants, which grow.
    Raises HeepgenError for a sequence that is not known, and for a place that is no constant."""
    inputs, given = list(proto.input), {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    build = _BUILDERS.get(proto.op_type)
    own = _Own(proto=proto, name=name, known=known, values=values, inputs=inputs, given=given)
    if build is not None:
        return build(own)
    known[proto.output[0]] = own.changed()
    return []


class _Own:
    """A node, and what is known."""

    def __init__(
        self,
        proto: NodeProto,
        name: str,
        known: MutableMapping[str, list[str]],
        values: MutableMapping[str, Any],
        inputs: list[str],
        given: Mapping[str, Any],
    ):
        self.op, self.name, self.output = proto.op_type, name, proto.output[0]
        self.known, self.values, self.inputs, self.given = known, values, inputs, given

    def refuse(self, reason: str) -> HeepgenError:
        return refusal(self.name, self.op, reason)

    def sequence(self) -> list[str]:
        if self.inputs[0] not in self.known:
            raise self.refuse(f"its sequence {self.inputs[0]} is not made of parts by numbers; use tensors")
        return self.known[self.inputs[0]]

    def numbers(self, index: int) -> list[int] | None:
        """Of a constant input; None when it is left out."""
        if index >= len(self.inputs) or not self.inputs[index]:
            return None
        value = self.values.get(self.inputs[index])
        if not isinstance(value, np.ndarray):
            raise self.refuse(f"its input {self.inputs[index]} is computed by the model; a constant is supported")
        return [int(v) for v in value.reshape(-1)]

    def place(self, index: int, count: int, behind: int = 0) -> int | None:
        """A position among `count` tensors, or so many behind them; None when it is left out."""
        numbers = self.numbers(index)
        if numbers is None:
            return None
        if len(numbers) != 1 or not -count <= numbers[0] < count + behind:
            raise self.refuse(f"its position is {numbers}, of {count} tensors")
        return numbers[0] + count if numbers[0] < 0 else numbers[0]

    def changed(self) -> list[str]:
        """The sequence that a node makes of others."""
        if self.op == "SequenceEmpty":
            return []
        if self.op == "SequenceConstruct":
            return self.inputs
        sequence = list(self.sequence())
        if self.op == "SequenceErase":
            place = self.place(1, len(sequence))
            del sequence[-1 if place is None else place]
            return sequence
        place = self.place(2, len(sequence), behind=1)
        sequence.insert(len(sequence) if place is None else place, self.inputs[1])
        return sequence

    def constant(self, part: str, numbers: list[int]) -> str:
        name = f"{self.output}/{part}"
        self.values[name] = np.array(numbers, np.int64)
        return name


def _split(node: _Own) -> list[NodeProto]:
    x = node.values.get(node.inputs[0])
    if not isinstance(x, torch.Tensor | np.ndarray):
        raise node.refuse(f"its input {node.inputs[0]} is not computed by a supported operator")
    axis = node.given.get("axis", 0)
    if not -x.ndim <= axis < x.ndim:
        raise node.refuse(f"axis={axis} of a tensor of {x.ndim} dimensions")
    size, sizes = x.shape[axis], node.numbers(1)
    alone = sizes is None
    if sizes is None:
        sizes = [1] * size
    elif len(sizes) == 1 and node.values[node.inputs[1]].ndim == 0:
        (each,) = sizes
        if each < 1:
            raise node.refuse(f"its parts have {each} elements")
        sizes = [min(each, size - first) for first in range(0, size, each)]
    if sum(sizes) != size or min(sizes, default=0) < 1:
        raise node.refuse(f"its parts have {sizes} of {size} elements")
    parts = [f"{node.output}/{number}" for number in range(len(sizes))]
    node.known[node.output] = parts
    squeezes = alone and not node.given.get("keepdims", 1)
    split = [f"{part}/kept" for part in parts] if squeezes else parts
    sources = [node.inputs[0], node.constant("sizes", sizes)]
    nodes = [helper.make_node("Split", sources, split, f"{node.name}/split", axis=axis)]
    if len(parts) == 1:
        nodes = [helper.make_node("Identity", sources[:1], split, f"{node.name}/split")]
    if squeezes:
        axes = node.constant("axis", [axis])
        nodes += [
            helper.make_node("Squeeze", [kept, axes], [part], f"{node.name}/squeeze_{number}")
            for number, (kept, part) in enumerate(zip(split, parts, strict=True))
        ]
    return nodes


def _at(node: _Own) -> list[NodeProto]:
    sequence = node.sequence()
    place = node.place(1, len(sequence))
    assert place is not None, "ONNX's checker wants it"
    return [helper.make_node("Identity", [sequence[place]], [node.output], node.name)]


def _concat(node: _Own) -> list[NodeProto]:
    sources, axis, nodes = node.sequence(), node.given["axis"], []
    if node.given.get("new_axis"):
        axes, flat = node.constant("axis", [axis]), sources
        sources = [f"{node.output}/{number}" for number in range(len(flat))]
        nodes = [
            helper.make_node("Unsqueeze", [part, axes], [source], f"{node.name}/unsqueeze_{number}")
            for number, (part, source) in enumerate(zip(flat, sources, strict=True))
        ]
    return [*nodes, helper.make_node("Concat", sources, [node.output], node.name, axis=axis)]


def _length(node: _Own) -> list[NodeProto]:
    node.values[node.output] = np.array(len(node.sequence()), np.int64)
    return []


_BUILDERS = {"SplitToSequence": _split, "SequenceAt": _at, "ConcatFromSequence": _concat, "SequenceLength": _length}
