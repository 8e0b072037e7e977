# SPDX-License-Identifier: Apache-2.0
"""Networks as lists of descriptors."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware_gen import ir
from firmware_gen.architectures.contract import Prediction
from firmware_gen.memory.network import Network
from firmware_gen.memory.planner import Share
from firmware_gen.models.image import Result, Sample
from firmware_gen.operations.placement import Placement
from firmware_gen.targets.calls.calls import CallProgram, software_calls
from firmware_gen.targets.descriptor import emission, estimate, explain, reference
from firmware_gen.targets.descriptor.compiler import compile_choices, in_memory, may_have_pitches, moved
from firmware_gen.targets.descriptor.linked.program import Program
from firmware_gen.targets.descriptor.listing import Listing, listing
from firmware_gen.targets.descriptor.strips import fastest
from hls.config import Config


@dataclass(frozen=True)
class DescriptorTarget:
    """The `Target` of the default architecture."""

    def compile(
        self,
        graph: ir.Graph,
        config: Config,
        *,
        profile: bool = True,
        keep_activations: bool = False,
        keep_inputs: bool = True,
    ) -> Program:
        pitches = None
        if keep_activations and may_have_pitches(graph, config):  # its bits are those of the program without
            pitches = fastest(compile_choices(graph, config, profile)).whole.pitches
        return fastest(compile_choices(graph, config, profile, keep_activations, keep_inputs, pitches))

    def software(self, program: Program, keep_inputs: bool = True) -> CallProgram:
        return software_calls(in_memory(program, keep_inputs))

    def moved(self, program: Program, share: Share) -> Program:
        return moved(program, share)

    def network(self, program: Program) -> Network:
        return program

    def run(self, program: Program, sample: Sample, taps: bool = False) -> Result:
        return reference.run(program, sample, taps)

    def run_steps(self, program: Program, samples: Iterable[Sample], taps: bool = False) -> Iterator[Result]:
        return reference.run_steps(program, samples, taps)

    def run_many(
        self,
        program: Program,
        samples: np.ndarray,
        taps: bool = False,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Result:
        return reference.run_many(program, samples, taps, progress)

    def render(
        self, program: Program, sample: Sample, outputs: tuple[np.ndarray, ...], beside: CallProgram | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        return emission.render_with_manifest(program, sample, outputs, beside)

    def predict(self, program: Program) -> Prediction:
        return estimate.predict(program)

    def listing(self, program: Program) -> Listing:
        return listing(program)

    def explain(self, graph: ir.Graph, imported: ir.Graph | None = None) -> list[Placement]:
        return explain.explain(graph, imported)
