# SPDX-License-Identifier: Apache-2.0
"""A compiled network is one thing with one life: nothing in it can be changed."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from firmware_gen import CodeGenerator
from firmware_gen.architectures.registry import find
from firmware_gen.memory.planner import MemoryReport
from tests.random_networks import random_network

SMALL = {"rows": 4, "cols": 3, "activation_words": 1024}


def changeable(value: object, where: str) -> Iterator[str]:
    """Lists, dictionaries, sets and arrays that can be written, anywhere in a value."""
    if isinstance(value, MemoryReport):  # rows of a document
        return
    if isinstance(value, (list, dict, set, bytearray)):
        yield f"{where}: {type(value).__name__}"
    elif isinstance(value, np.ndarray):
        if value.flags.writeable:
            yield f"{where}: array"
    elif is_dataclass(value) and not isinstance(value, type):
        if not value.__dataclass_params__.frozen:
            yield f"{where}: {type(value).__name__}"
        for field in fields(value):
            yield from changeable(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from changeable(inner, f"{where}[{key!r}]")
    elif isinstance(value, (tuple, frozenset)):
        for number, inner in enumerate(value):
            yield from changeable(inner, f"{where}[{number}]")


@pytest.mark.parametrize("architecture", ["descriptor", "streaming", "cpu"])
def test_nothing_in_a_program_can_be_changed(architecture):
    config = find(architecture).config(**SMALL if architecture == "descriptor" else {})
    on_chip = 0
    for seed in range(2):
        net = random_network(seed, "dag")
        program = CodeGenerator(net.model, net.x, config=config).program()
        assert not list(changeable(program, "program"))
        on_chip += len(getattr(program, "scratchpad", ()))
    assert on_chip or architecture != "descriptor"
