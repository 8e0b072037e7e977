# SPDX-License-Identifier: Apache-2.0
"""Of several plans of one network, the best one for every part of it."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from firmware_gen.memory.planner import Buffer
from firmware_gen.targets.descriptor.lowering.depth_first import Group


class Plan(NamedTuple):
    """Groups that take turns, storages that are on chip, and cycles of every step."""

    groups: tuple[Group, ...]
    on_chip: frozenset[str]
    cycles: Sequence[float]


def spliced(
    plans: Sequence[Plan], buffers: Sequence[Buffer], touching: Mapping[str, Collection[int]]
) -> tuple[tuple[Group, ...], frozenset[str]] | None:
    """Groups and storages on chip of the parts of plans that take fewest cycles; None if one plan is best in all.

    One plan goes on from another between steps that no group of either spans, and over which both keep the same
    storages on chip. buffers: lives of storages; touching: steps that read or write them.
    """
    borders = [_borders(plan, buffers) for plan in plans]
    numbers = range(len(plans))
    done, came = [0.0] * len(plans), list[list[int]]()
    for step in range(len(plans[0].cycles)):
        soonest = dict[frozenset[str] | None, int]()
        for number in sorted(numbers, key=done.__getitem__):
            soonest.setdefault(borders[number][step], number)
        before = [n if borders[n][step] is None else soonest[borders[n][step]] for n in numbers]
        before = [other if done[other] < done[n] else n for n, other in enumerate(before)]
        came.append(before)
        done = [done[other] + plans[n].cycles[step] for n, other in enumerate(before)]
    number, chosen = min(numbers, key=done.__getitem__), list[int]()
    for before in reversed(came):
        chosen.insert(0, number)
        number = before[number]
    if len(set(chosen)) == 1:
        return None
    groups, on_chip = list[Group](), set[str]()
    for number in dict.fromkeys(chosen):
        plan = plans[number]
        groups += [group for group in plan.groups if chosen[group.steps[0]] == number]
        on_chip |= {name for name in plan.on_chip if any(chosen[step] == number for step in touching[name])}
    return tuple(groups), frozenset(on_chip)


def _borders(plan: Plan, buffers: Sequence[Buffer]) -> list[frozenset[str] | None]:
    """Storages that are on chip between every step and the one before; None within a group."""
    names: list[set[str]] = [set() for _ in plan.cycles]
    for buffer in buffers:
        if buffer.name in plan.on_chip:
            for step in range(max(buffer.born + 1, 0), min(buffer.dies + 1, len(names))):
                names[step].add(buffer.name)
    inside = {step for group in plan.groups for step in group.steps[1:]}
    return [None if step in inside else frozenset(own) for step, own in enumerate(names)]
