# SPDX-License-Identifier: Apache-2.0
"""Plans of the scratchpad put together of the best parts of others."""

import itertools

import numpy as np
import pytest

from firmware_gen.memory.planner import Buffer
from firmware_gen.targets.descriptor.lowering.depth_first import Group
from firmware_gen.targets.descriptor.scratchpad.splice import Plan, spliced


def drawn(rng: np.random.Generator, steps: int, buffers: list[Buffer]) -> Plan:
    """Random groups of neighbours, storages, and cycles."""
    groups, step = [], 0
    while step < steps - 1:
        length = int(rng.integers(1, 4))
        if length > 1 and step + length <= steps:
            groups.append(Group(tuple(range(step, step + length)), 1))
        step += length
    own = frozenset(b.name for b in buffers if rng.random() < 0.6)
    return Plan(tuple(groups), own, [float(c) for c in rng.integers(1, 100, steps)])


def alive(plan: Plan, buffers: list[Buffer], step: int) -> set[str]:
    """On chip between a step and the one before."""
    return {b.name for b in buffers if b.name in plan.on_chip and b.born < step <= b.dies}


def spans(plan: Plan, step: int) -> bool:
    return any(group.steps[0] < step <= group.steps[-1] for group in plan.groups)


def may_go_on(one: Plan, other: Plan, buffers: list[Buffer], step: int) -> bool:
    if one is other:
        return True
    return not spans(one, step) and not spans(other, step) and alive(one, buffers, step) == alive(other, buffers, step)


@pytest.mark.parametrize("seed", range(40))
def test_the_best_of_all_ways_to_put_plans_together_is_found(seed):
    rng = np.random.default_rng(seed)
    steps, count = int(rng.integers(2, 7)), int(rng.integers(2, 4))
    buffers = [Buffer(f"t{step}", 4, step, min(step + int(rng.integers(1, 3)), steps)) for step in range(steps - 1)]
    touching = {b.name: set(range(b.born, min(b.dies, steps - 1) + 1)) for b in buffers}
    plans = [drawn(rng, steps, buffers) for _ in range(count)]
    ways = {
        way: sum(plans[number].cycles[step] for step, number in enumerate(way))
        for way in itertools.product(range(count), repeat=steps)
        if all(may_go_on(plans[way[s - 1]], plans[way[s]], buffers, s) for s in range(1, steps))
    }
    best = min(ways.values())
    found = spliced(plans, buffers, touching)
    if found is None:
        assert min(sum(plan.cycles) for plan in plans) == best
        return
    possible = []
    for way in (way for way, cycles in ways.items() if cycles == best):
        own = {group for number in set(way) for group in plans[number].groups if way[group.steps[0]] == number}
        names = {name for step, number in enumerate(way) for name in plans[number].on_chip if step in touching[name]}
        possible.append((own, names))
    groups, on_chip = found
    assert (set(groups), set(on_chip)) in possible
    assert len(set(groups)) == len(groups)


def test_a_state_keeps_its_home():
    """It is alive from before the first step to behind the last: plans that have it elsewhere do not go together."""
    buffers = [Buffer("state", 4, -1, 3)]
    plans = [Plan((), frozenset({"state"}), [1.0, 9.0, 9.0]), Plan((), frozenset(), [9.0, 1.0, 1.0])]
    assert spliced(plans, buffers, {"state": {0, 2}}) is None
