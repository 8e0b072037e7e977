# SPDX-License-Identifier: Apache-2.0
"""A compiled network in C++: descriptors and what starts them, and the same network as plain kernels beside it."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from firmware_gen import ir
from firmware_gen.architectures.contract import BUSY, LayerCycles
from firmware_gen.emit import codegen
from firmware_gen.emit.codegen import layer_text, runtime
from firmware_gen.emit.cpu_calls import cpu_call
from firmware_gen.emit.mode import Half, Mode, arena_symbol
from firmware_gen.models.image import Sample
from firmware_gen.targets.calls import model
from firmware_gen.targets.calls.calls import CallProgram, software_calls
from firmware_gen.targets.calls.emission import call_texts, layer_calls, software_mode
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.compiler import in_memory
from firmware_gen.targets.descriptor.estimate import predict
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS, PROFILE, DescriptorList, Layer, Program
from hls.descriptor.interface.registers import REGIONS
from hls.descriptor.interface.table import ARENA, CONTIGUOUS, INTERLEAVED, PROFILE_RECORD, SCRATCHPAD, WORDS, address

RUNTIME = "descriptor"
"""Folder of the driver."""
WATCHDOG_CYCLES = 100_000


def render(program: Program, sample: Sample) -> dict[str, str]:
    """Text of every generated file, by relative name."""
    return render_with_manifest(program, sample, reference.run(program, sample).outputs)[0]


def render_with_manifest(
    program: Program, sample: Sample, outputs: Iterable[np.ndarray], beside: CallProgram | None = None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Text of every generated file, by relative name, and the manifest; `outputs` are what the bit-exact model says of
    the sample. `beside`: see `Target`."""
    cpu = beside or software_calls(in_memory(program))
    software = software_mode(cpu, model.run(cpu, sample).outputs)
    comments = {
        DESCRIPTORS: f"a chain of descriptors, {WORDS} words each: "
        + ", ".join(f"{layer.name} {_descriptors(layer)}" for layer in program.layers if layer.descriptors)
    }
    accelerator = Mode(
        network=program,
        constants=program.constants,
        placed=tuple(program.placed.values()),
        arena_address=program.arena_address,
        outputs=outputs,
        type="Weights",
        comments=comments,
    )
    calls = call_texts(cpu, software)
    layers = [
        layer_text(
            index,
            layer,
            timed=layer.on_cpu,
            end_word=_end_word(program, layer),
            calls=own,
            on_cpu=layer.on_cpu,
            descriptors=_descriptors(layer) or "nothing to do",
        )
        for index, (layer, own) in enumerate(
            zip(program.layers, layer_calls(cpu, software, calls, cpu.network.layers), strict=True)
        )
    ]
    return codegen.render(accelerator, software, _half(program, accelerator), calls, layers, sample, beside is not None)


def _half(program: Program, mode: Mode) -> Half:
    config = program.config
    symbols = {CONTIGUOUS if s["low"] else INTERLEAVED: s["symbol"] for s in mode.sections}
    symbols[ARENA] = arena_symbol(program)
    context = {
        "config": config,
        "fma": int(config.arithmetic == "fma"),
        "watchdog": WATCHDOG_CYCLES,
        "steps": _steps(program, mode),
        "beginning": f"0x{program.descriptor_address(program.beginning_list.first):08x}u" if program.beginning else "",
        "rotation": 4 * program.rotation,
        "rotating": program.rotating,
        "scratchpad": f"0x{address(SCRATCHPAD, 0):08x}u",
        "descriptors": mode.places().get(DESCRIPTORS),
        "regions": [symbols.get(region) for region in range(REGIONS)],
    }
    profile = {
        "offset": program.offsets.get(PROFILE),
        "words": list(PROFILE_RECORD),
        "records": len(program.jobs) if PROFILE in program.offsets else 0,
    }
    prediction = predict(program)
    return Half(
        template="model_descriptor.cpp.j2",
        context=context,
        header="heepstor.hpp",
        runtime=runtime(RUNTIME),
        layers=[_layer_facts(program, *pair) for pair in zip(program.layers, prediction.layers, strict=True)],
        profile=profile,
        mode={
            "doorbells": [program.descriptor_address(listed.first) for listed in program.lists],
            "bases": program.bases,
            "limits": program.limits,
        },
        around=prediction.around,
        short=True,
    )


def _steps(program: Program, mode: Mode) -> list[dict[str, Any]]:
    """Lists of descriptors to run, and CPU layers in between."""
    steps: list[dict[str, Any]] = []
    for item in program.schedule:
        if isinstance(item, DescriptorList):
            names = [
                layer.name
                for layer in program.layers
                if layer.descriptors and item.first <= layer.descriptors[0] < item.end
            ]
            steps.append({"comment": ", ".join(names), "doorbell": f"0x{program.descriptor_address(item.first):08x}u"})
        elif isinstance(item.node, ir.OnCpu):
            steps.append(
                {"layer": program.layers.index(item), "text": cpu_call(item.node, item, program, mode.places())}
            )
    return steps


def _descriptors(layer: Layer) -> str:
    """A layer's descriptors in words; layers that take turns own every second one, or so."""
    own = layer.descriptors
    if not own:
        return ""
    some = f"{len(own)} of " if own[-1] - own[0] >= len(own) else ""
    return f"{some}descriptors {own[0]}..{own[-1]}"


def _end_word(program: Program, layer: Layer) -> int | None:
    """Word of the arena where the profile says in which cycle the layer ended."""
    if not layer.descriptors or PROFILE not in program.offsets:
        return None
    record = (program.profile_address(layer.descriptors[-1]) - program.arena_address) // 4
    return record + PROFILE_RECORD.index("cycle")


def _layer_facts(program: Program, layer: Layer, predicted: LayerCycles | None) -> dict[str, Any]:
    return {
        "bound_cycles": layer.bound_cycles,
        "on_cpu": layer.on_cpu,
        "descriptors": list(layer.descriptors),
        "vectors": sum(program.jobs[i].vectors for i in layer.descriptors),
        "estimated_cycles": predicted and predicted.cycles,
        "busy": predicted and {name: getattr(predicted, name) for name in BUSY},
        "scratchpad": _home(program, layer),
    }


def _home(program: Program, layer: Layer) -> dict[str, int] | None:
    """Where in the scratchpad a layer's output lies, and the bytes of it, or of the ring in which it goes round; None
    for one in memory."""
    home = program.scratchpad.get(layer.target.storage)
    if home is None:
        return None
    ring, whole = 4 << home.ring, 4 * program.config.scratchpad_words
    return {"address": 4 * home.offset, "bytes": ring if ring < whole else 4 * layer.target.size}
