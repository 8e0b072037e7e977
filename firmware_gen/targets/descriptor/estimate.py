# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of a compiled network, descriptor by descriptor, from the cycle model."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from firmware_gen import ir
from firmware_gen.architectures.contract import WAITS, LayerCycles, Prediction
from firmware_gen.ir.costs import INFERENCE, LIST
from firmware_gen.models.cpu_cycles import cycles_of, iterations_of
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS, Layer, Program
from firmware_gen.targets.descriptor.timing.banks import Banks, bank_runs, word_banks
from firmware_gen.targets.descriptor.timing.cycles import Estimate, simulate
from firmware_gen.targets.descriptor.timing.demand import demand, weights_fit
from firmware_gen.targets.descriptor.timing.spans import strip_sizes
from hls.config import Config
from hls.descriptor.interface.table import Linked, on_chip, split_address
from hls.descriptor.interface.timing import fetch_beats, record_beats, table_beats

ROTATION_CYCLES = 5
"""Cycles of the CPU for every word of the descriptors that rotates. Measured."""


def descriptor_cycles(program: Program) -> list[Estimate]:
    """Every descriptor of a program, as the profile records give them; a list begins at its doorbell."""
    linked = program.linked
    results = []
    for listed in program.lists:
        results += simulate([(f, descriptor_banks(program, f)) for f in linked[listed.range]], program.config)
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
    for f in (program.linked[i] for i in descriptors):
        banks, whole = descriptor_banks(program, f), demand(f, program.config)
        strips = len(strip_sizes(f.out_px, f.first_px, f.strip_px))
        passes = 1 if weights_fit(f, program.config) else strips
        beats = whole.beats(passes, strips)
        chip = {s: bool(program.config.scratchpad_words) and on_chip(f[f"{s}_ADDR"]) for s in ("LOAD", "STORE", "AUX")}
        bus = sum(n for stream, n in beats.items() if not chip.get(stream))
        bus += fetch_beats(program.config) + record_beats(program.config) * f.profile + table_beats(f, program.config)
        meeting = {"LOAD": banks.load, "STORE": banks.store, "AUX": banks.aux, "PARAM": banks.params}
        extra = sum(beats[stream] * (_meeting(entry) - 1) for stream, entry in meeting.items())
        late = passes * _weights_waiting(banks, program.config)
        cut = 0 if f.unit_weights else strips * whole.tiles * whole.cut
        weights += max(beats["WEIGHT"] + late, cut)
        alone, waiting, drain = alone + bus, waiting + bus + extra + late, drain + whole.store
    return Busy(max(alone, min(waiting, cycles)), weights, drain)


def _meeting(banks: tuple[int, ...]) -> int:
    """Words of a beat that share a bank at most, of an entry of `Banks`."""
    return max(Counter(banks).values(), default=1)


def _weights_waiting(banks: Banks, config: Config) -> int:
    """Cycles of a pass over the weights in which words of a beat wait for each other."""
    total = first = 0
    for end, entry in banks.weights:
        total += -(-(end - first) // config.ports) * (_meeting(entry) - 1)
        first = end
    return total


def descriptor_banks(program: Program, f: Linked) -> Banks:
    """Where the streams of a linked descriptor meet themselves and each other."""

    def address(where: int) -> int:
        region, offset = split_address(where)
        return program.bases[region] + offset

    def at(where: int, stride: int, used: bool = True) -> tuple[int, ...]:
        if not used or (program.config.scratchpad_words and on_chip(where)):
            return ()
        return word_banks(address(where), stride, program.config)

    return Banks(
        load=at(f.load_addr, f.load_c_stride),
        weights=() if f.unit_weights else bank_runs(address(f.weight_addr), f.weight_words, program.config),
        params=at(f.param_addr, 1, not f.uniform),
        store=at(f.store_addr, f.store_c_stride),
        aux=at(f.aux_addr, f.aux_c_stride, bool(f.residual or f.acc_init)),
        fetch=word_banks(program.placed[DESCRIPTORS].address, 1, program.config),
        addresses=(address(f.load_addr), address(f.store_addr), address(f.aux_addr)),
        table=at(f.table_addr, 1, bool(f.load_table)),
    )
