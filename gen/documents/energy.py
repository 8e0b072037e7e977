# SPDX-License-Identifier: Apache-2.0
"""Measure what units take in runs of applications, and write the factors of `gen.ppa.energy.model`; takes minutes."""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from firmware_gen.architectures.contract import LayerCycles
from gen.flows.application import Application
from gen.flows.compiled import of_application
from gen.flows.energy import RecordedRun, measured_units, record_run
from gen.flows.hardware import geometry
from gen.ppa.energy.measure import Instance
from gen.ppa.energy.model import MODEL, Sample, fitted, unit_name, work_of
from gen.ppa.sram import macro
from gen.ppa.technology import technology
from hls.config import Config
from hls.output import write_file


def samples(application: Application, run: RecordedRun, units: Sequence[Instance]) -> Iterator[Sample]:
    """What every unit took in every phase of a run that is a layer of the network."""
    config = application.config
    assert isinstance(config, Config)
    compiled = of_application(application, config)
    target, program = compiled.generator.target, compiled.program
    network, prediction = target.network(program), target.predict(program)
    layers = {layer.name: found for layer, found in zip(network.layers, prediction.layers, strict=True) if found}
    kge: dict[str, float] = defaultdict(float)
    tops = {instance.path: instance.module for instance in units if len(instance.path) <= 1}
    for instance in units:
        kge[unit_of(instance, tops, config)] += instance.area / technology().gate_area / 1000
    for number, phase in enumerate(run.phases):
        layer = layers.get(phase.name, LayerCycles(phase.cycles, on_cpu=True))
        chosen = [i for i, window in enumerate(run.windows) if window.phase == number]
        clock: dict[str, float] = defaultdict(float)
        data: dict[str, float] = defaultdict(float)
        for instance in units:
            unit = unit_of(instance, tops, config)
            steps = instance.steps[chosen].sum()
            clock[unit] += instance.clock[chosen].sum() / steps * 1e-3
            data[unit] += instance.data[chosen].sum() / steps * 1e-3
            for accesses in instance.memories:
                found = macro(accesses.memory.width, accesses.memory.words)
                spent = accesses.reads[chosen] * found.read_pj + accesses.writes[chosen] * found.write_pj
                data[unit] += spent.sum() / steps
        for unit in clock:
            work = min(1.0, work_of(unit, layer) / phase.cycles)
            yield Sample(unit, kge[unit], phase.cycles, clock[unit], data[unit], work)


def unit_of(instance: Instance, tops: Mapping[tuple[str, ...], str], config: Config) -> str:
    """The unit, as `gen.ppa.composition` calls it, that an instance is in; `tops`: modules of the root's instances."""
    return unit_name(tops[instance.path[:1]], config.arithmetic)


def main(folders: Sequence[str]) -> None:
    """Measure the applications in `folders`."""
    library = technology().liberty
    found: dict[bool, list[Sample]] = {False: [], True: []}
    runs = []
    for folder in folders:
        application = Application.open(folder)
        runs.append(f"{application.manifest['name']} on {geometry(application.config)}")
        run = record_run(application, application.config, progress=print)
        for gated, mine in found.items():
            units = measured_units(run, application.config, library, gated, print)
            mine += samples(application, run, units)
    data = {
        "origin": f"gate-level runs of {'; '.join(runs)}; {technology().origin}",
        "command": "make energy",
        "ungated": fitted(found[False]),
        "gated": fitted(found[True]),
    }
    write_file(MODEL, json.dumps(data, indent=1) + "\n", "the energies of units")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m gen.documents.energy", description="Measure energies of units.")
    parser.add_argument("folders", nargs="+", help="applications to run")
    main(parser.parse_args().folders)
