# SPDX-License-Identifier: Apache-2.0
"""What lives in the scratchpad: whole tensors, and the rings of layers that take turns."""

from dataclasses import dataclass, replace
from functools import cached_property

from firmware_gen.targets.descriptor.lowering.depth_first import Group


@dataclass(frozen=True)
class Choice:
    """Storages that stay on chip as a whole, and groups: its items."""

    whole: frozenset[str] = frozenset()
    groups: tuple[Group, ...] = ()

    @cached_property
    def group_at(self) -> dict[int, Group]:
        """The group of every step that is in one."""
        return {step: group for group in self.groups for step in group.steps}

    def grown(self, item: str | Group) -> "Choice":
        """With one storage more, or with a group in the place of those that it joins."""
        if isinstance(item, str):
            return replace(self, whole=self.whole | {item})
        others = (group for group in self.groups if set(group.steps).isdisjoint(item.steps))
        return replace(self, groups=(*others, item))
