# SPDX-License-Identifier: Apache-2.0
"""Fields of a descriptor that say what its epilogue does, and what they say."""

from dataclasses import replace
from typing import Any

from firmware_gen import ir
from hls.descriptor.interface.table import FIELD, Descriptor

COMBINATIONS = {
    "add": {"residual": 1},
    "multiply": {"residual": 1, "multiply": 1},
    "negative": {"residual": 1, "multiply": 1, "negative": 1},
    "maximum": {"acc_init": 1},
}
"""Fields of a descriptor whose second operand is combined so, by `Windowed.combine`."""


def combination_of(descriptor: Descriptor[object]) -> str:
    """How a descriptor combines its AUX stream: the opposite of COMBINATIONS, but for initial values."""
    return "negative" if descriptor.negative else "multiply" if descriptor.multiply else "add"


def activation_fields(act: ir.Activation) -> dict[str, Any]:
    """Fields of a descriptor that apply an activation: its numbers, of which some have a flag that they count."""
    values: dict[str, Any] = {"function": int(act.function is not None)}
    for name, number in act.numbers.items():
        if f"{name}_EN".upper() not in FIELD:
            values[name] = number
        elif number != getattr(ir.IDENTITY, name):
            values |= {f"{name}_en": 1, name: number}
    return values


def activation_of(descriptor: Descriptor[object]) -> ir.Activation:
    """The activation that a descriptor applies, without its function: the opposite of `activation_fields`."""
    counting = [name for name in ir.IDENTITY.numbers if getattr(descriptor, f"{name}_en", True)]
    numbers: dict[str, Any] = {name: float(getattr(descriptor, name)) for name in counting}
    return replace(ir.IDENTITY, **numbers)
