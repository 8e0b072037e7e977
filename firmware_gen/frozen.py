# SPDX-License-Identifier: Apache-2.0
"""What frozen dataclasses hold so that nobody changes it: mappings and arrays that are read only."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

K = TypeVar("K")
V = TypeVar("V")


def read_only(mapping: Mapping[K, V]) -> Mapping[K, V]:
    """A copy; arrays in it are the same ones, read only from now on."""
    for value in mapping.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return MappingProxyType(dict(mapping))


def freeze(instance: Any, *fields: str) -> None:
    """Make mappings of a frozen dataclass read only, in its `__post_init__`."""
    for field in fields:
        object.__setattr__(instance, field, read_only(getattr(instance, field)))
