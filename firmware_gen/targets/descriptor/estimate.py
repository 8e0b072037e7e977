# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of a compiled network, descriptor by descriptor, from the cycle model."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from firmware_gen import ir
from firmware_gen.architectures.contract import WAITS, LayerCycles, Prediction
from firmware_gen.ir.costs import INFERENCE, LIST
from firmware_gen.models.cpu_cycles import cycles_of, iterations_of
from firmware_gen.targets.descriptor.linked.program import Layer, Program
from firmware_gen.targets.descriptor.timing.banks import NOWHERE, Places, sharing
from firmware_gen.targets.descriptor.timing.cycles import Estimate, simulate
from firmware_gen.targets.descriptor.timing.demand import demand, weights_fit
from firmware_gen.targets.descriptor.timing.spans import strip_sizes
from hls.descriptor.interface.table import on_chip, split_address
from hls.descriptor.interface.timing import fetch_beats, record_beats, table_beats

ROTATION_CYCLES = 5
"""Cycles of the CPU for every word of the descriptors that rotates. Measured."""


def descriptor_cycles(program: Program) -> list[Estimate]:
    """Every descriptor of a program, as the profile records give them; a list begins at its doorbell."""
    results = []
    for listed in program.lists:
        descriptors = [(program.linked[i], descriptor_places(program, i)) for i in range(listed.first, listed.end)]
        results += simulate(descriptors, program.config)
    return results


def predict(program: Program) -> Prediction:
    """Every layer's part of `descriptor_cycles`."""
    descriptors = descriptor_cycles(program)
    layers: list[LayerCycles | None] = []
    for layer in program.layers:
        own = [descriptors[i] for i in layer.descriptors]
        names = ("cycles", "vectors", "bus_words", "load_stall", "store_stall")
        sums: dict[str, Any] = {name: sum(getattr(e, name) for e in own) for name in names}
        if layer.on_cpu:
            by_cpu = cycles_on_cpu(layer)
            layers.append(None if by_cpu is None else LayerCycles(by_cpu, on_cpu=True))
            continue
        busy = layer_busy(program, layer.descriptors, sums["cycles"])
        waits = {name: sum(e.waits[place] for e in own) for place, name in enumerate(WAITS)}
        layers.append(LayerCycles(bound=layer.bound_cycles, waits=waits, **sums, **busy._asdict()))
    return Prediction(tuple(layers), around(len(program.lists)) + rotation_cycles(program))


def cycles_on_cpu(layer: Layer) -> int | None:
    """Of a layer that the CPU computes; None where nobody knows."""
    assert isinstance(layer.node, ir.OnCpu)
    return cycles_of(iterations_of(layer.node, layer))


def around(lists: int) -> int:
    """Cycles of the CPU around so many lists of descriptors."""
    return INFERENCE + LIST * (lists - 1) if lists else 0


def rotation_cycles(program: Program) -> int:
    """Cycles of the CPU before the first list, for a scratchpad that rotates."""
    return ROTATION_CYCLES * len(program.rotating)


class Busy(NamedTuple):
    """Those of `LayerCycles`."""

    bus: int
    weights: int
    drain: int


def layer_busy(program: Program, descriptors: Sequence[int], cycles: int) -> Busy:
    """Of a layer's descriptors, and its cycles, predicted or estimated.

    Words that meet in a bank are counted one after the other; ports that lag behind each other may hide a part of
    that, so that no layer is said to wait for banks longer than it takes."""
    weights = drain = alone = waiting = 0
    for index in descriptors:
        f = program.linked[index]
        shared, whole = sharing(f, descriptor_places(program, index), program.config), demand(f, program.config)
        strips = len(strip_sizes(f.out_px, f.first_px, f.strip_px))
        passes = 1 if weights_fit(f, program.config) else strips
        beats = whole.beats(passes, strips)
        chip = {s: bool(program.config.scratchpad_words) and on_chip(f[f"{s}_ADDR"]) for s in ("LOAD", "STORE", "AUX")}
        bus = sum(n for stream, n in beats.items() if not chip.get(stream))
        bus += fetch_beats(program.config) + record_beats(program.config) * f.profile + table_beats(f, program.config)
        meeting = {"LOAD": shared.load, "STORE": shared.store, "AUX": shared.aux, "PARAM": shared.params}
        extra = sum(beats[stream] * (words - 1) for stream, words in meeting.items())
        late = passes * sum(-(-words // program.config.ports) * (n - 1) for words, n in shared.weights)
        cut = 0 if f.unit_weights else strips * whole.tiles * whole.cut
        weights += max(beats["WEIGHT"] + late, cut)
        alone, waiting, drain = alone + bus, waiting + bus + extra + late, drain + whole.store
    return Busy(max(alone, min(waiting, cycles)), weights, drain)


def descriptor_places(program: Program, index: int) -> Places:
    """Where the streams of a linked descriptor lie."""
    f, bases = program.linked[index], program.bases

    def place(where: int, used: bool = True) -> int:
        if not used or (program.config.scratchpad_words and on_chip(where)):
            return NOWHERE
        region, offset = split_address(where)
        return bases[region] + offset

    return Places(
        load=place(f.load_addr),
        weights=place(f.weight_addr, not f.unit_weights),
        params=place(f.param_addr, not f.uniform),
        store=place(f.store_addr),
        aux=place(f.aux_addr, bool(f.residual or f.acc_init)),
        fetch=place(program.descriptor_address(index)),
        table=place(f.table_addr, bool(f.load_table)),
        record=place(f.profile_addr, bool(f.profile)),
    )
