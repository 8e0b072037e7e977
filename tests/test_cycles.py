# SPDX-License-Identifier: Apache-2.0
"""The cycle model asks only stages that have something to do: the same cycles as if it asked all of them in each, and
each port by itself."""

from dataclasses import fields

import numpy as np
import pytest

from firmware_gen.targets.descriptor.timing import crossbar, cycles
from firmware_gen.targets.descriptor.timing.banks import Places
from firmware_gen.targets.descriptor.timing.cycles import NEVER, Machine, simulate
from tests.layers import random_program
from tests.test_accelerator import drawn, in_short_strips

LISTS = 8


class Stepped(Machine):
    """Every stage in every cycle, and every vector by itself."""

    def __init__(self, descriptors, config):
        super().__init__(descriptors, config)
        for plan in self.plans:
            plan.runs = dict.fromkeys(plan.runs, (0, NEVER))

    def step(self, t):
        for stage, plan in self.starting:
            stage.start(t, plan)
        self.starting.clear()
        for stage in (self.load, self.store, self.weights, self.params):
            stage.step(t)
        take = self.sequencer.step(t)
        self.drain.decide(t)
        self._control(t)
        self._serve(t)
        self.memory.step(t)
        if self.load.may_ask(t):
            self.load.request(self._is_behind(t) or not self.load.plan.barrier, self.store.available)
        self.drain.step(t)
        self.weights.urgent = self.weights.stored < self.weights.low_mark
        self.cutter.step(t, take)


def scattered(rng, config):
    """Every stream anywhere in memory, half of them in contiguous banks, where all words of a beat meet."""
    ends = config.contiguous_bytes, config.ram_bytes
    return Places(*(4 * int(rng.integers(ends[rng.integers(2)] // 4)) for _ in fields(Places)))


@pytest.mark.parametrize("seed", range(4))
def test_stages_that_are_not_asked_have_nothing_to_do(seed, monkeypatch):
    rng = np.random.default_rng([seed, 21])
    for number in range(LISTS):
        config = drawn(int(rng.integers(1000)))
        program = random_program(rng, config, layers=int(rng.integers(1, 5)), profile=0.4, large=0.2)
        program = in_short_strips(rng, config, program) if number % 2 else program
        descriptors = []
        for f in program.descriptors:
            descriptors.append((f, scattered(rng, config) if number % 3 else Places()))
        found = simulate(descriptors, config)
        with monkeypatch.context() as patched:
            patched.setattr(cycles, "Machine", Stepped)
            patched.setattr(crossbar, "meet", lambda banks: True)
            assert simulate(descriptors, config) == found, f"list {number} on {config}"
