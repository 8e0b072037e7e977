# SPDX-License-Identifier: Apache-2.0
"""Traces of runs: the rules of the Trace Event Format, and sums that are the device's own counters."""

import dataclasses
import json
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from torch import nn

import sim.run
from gen.flows.measure.run import Application, hardware, run
from gen.flows.measure.trace import engines_of
from gen.flows.network.sw import generate_sw
from gen.pages.timeline import timeline
from hls.config import Config
from hls.errors import HeepgenError
from hls.lib.probe import STALL, WORK, Engine, Part, State
from sim.probes import find_probes
from sim.recording import ASLEEP, Recording
from tests.networks import CpuInBetween

CONFIG = Config(rows=4, cols=4, ports=2)


class Everything(nn.Module):
    """A CPU layer between two lists of descriptors, a residual, pooling, several strips."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Linear(6 * 5 * 5, 7)

    def forward(self, x):
        x = torch.exp(self.first(x))
        return self.last(torch.max_pool2d(torch.relu(self.second(x) + x), 2).flatten(1))


def write_app(folder, network, shape, config):
    torch.manual_seed(4)
    torch.export.save(torch.export.export(network.eval(), (torch.randn(shape),)), folder / "net.pt2")
    generate_sw(folder / "net.pt2", config, folder / "app")
    return folder / "app"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return write_app(tmp_path_factory.mktemp("traced"), Everything(), (1, 2, 10, 10), CONFIG)


@pytest.fixture(scope="module")
def traced(app, tmp_path_factory):
    """(report, trace, vectors of every layer as planned) of a run."""
    folder = tmp_path_factory.mktemp("trace")
    report = run(app, CONFIG, trace=folder / "trace.json")
    planned = {layer["name"]: layer["vectors"] for layer in Application.open(app).manifest["layers"]}
    return report, json.loads((folder / "trace.json").read_text()), planned


def tracks(trace):
    """Complete events by track name, after a check of what the format asks for."""
    names, found, ends, last = {}, defaultdict(list), {}, 0
    for event in trace["traceEvents"]:
        assert event["ph"] in "MXC" and isinstance(event["pid"], int) and event["ts"] >= 0
        if event["ph"] == "M":
            assert not found, "names come before events"
            if event["name"] == "thread_name":
                place = event["pid"], event["tid"]
                assert place not in names
                names[place] = event["args"]["name"]
        elif event["ph"] == "X":
            place = event["pid"], event["tid"]
            assert event["ts"] >= last and event["dur"] > 0
            assert event["ts"] >= ends.get(place, 0), f"overlap on {names[place]}"
            last, ends[place] = event["ts"], event["ts"] + event["dur"]
            found[names[place]].append(event)
    assert len(set(names.values())) == len(names)
    assert max(ends.values()) <= trace["otherData"]["cycles"] + 1
    return found


def total(events, beginning):
    cycles = Counter()
    for event in events:
        cycles.update(event["args"].get("cycles", {event["args"]["state"]: event["dur"]}))
    return sum(n for name, n in cycles.items() if name.startswith(beginning))


def test_sums_are_the_devices_counters(traced):
    report, trace, planned = traced
    assert report.bit_exact
    found, layers = tracks(trace), report.layers
    assert total(found["array"], "vectors") == sum(layer.array_cycles for layer in layers)
    assert total(found["array"], "load stall") == sum(layer.load_stall_cycles for layer in layers)
    assert total(found["array"], "store stall") == sum(layer.store_stall_cycles for layer in layers)
    assert total(found["accumulators"], "sums") == total(found["array"], "vectors")
    by_layer = Counter()
    for event in found["array"]:
        if event["args"]["state"] == "vectors":
            by_layer[event["args"]["layer"]] += event["dur"]
    assert by_layer == {name: vectors for name, vectors in planned.items() if vectors}


def test_layers_end_where_the_report_says(traced):
    report, trace, _ = traced
    found = tracks(trace)
    by_layer = Counter()
    for event in found["layers"]:
        by_layer[event["name"]] += event["dur"]
    assert by_layer == {layer.name: layer.cycles for layer in report.layers if layer.cycles}
    lists = [(event["ts"], event["ts"] + event["dur"]) for event in found["control"]]
    assert len(lists) == 2, "the exponentials are between two"
    on_array = [event for event in found["layers"] if report_of(report, event["name"]).array_cycles]
    assert on_array[0]["ts"] == lists[0][0], "the first layer begins with the doorbell"
    assert 0 < lists[-1][1] - on_array[-1]["ts"] - on_array[-1]["dur"] < 20, "the last one ends with its record"
    (on_the_cpu,) = [event for event in found["CPU"] if event["args"].get("layer") and event["cat"] == "work"]
    assert on_the_cpu["name"] == report.layers[1].name and on_the_cpu["dur"] <= report.layers[1].cpu_cycles


def test_the_flame_graph_has_every_cycle_of_every_layer_once(traced):
    report, _, _ = traced
    by_layer, by_state = Counter(), Counter()
    for layer, what, kind, cycles in report.timeline["stacks"]:
        by_layer[layer] += cycles
        by_state[what] += cycles
        assert cycles > 0 and (kind == "stall") == ("stall" in what)
    assert by_layer == {layer.name: layer.cycles for layer in report.layers if layer.cycles}
    assert by_state["vectors"] == sum(layer.array_cycles for layer in report.layers)
    stalls = sum(cycles for what, cycles in by_state.items() if what.startswith("load stall"))
    assert stalls == sum(layer.load_stall_cycles for layer in report.layers)
    on_the_cpu = report.layers[1]
    on_cpu = sum(c for layer, what, _, c in report.timeline["stacks"] if (layer, what) == (on_the_cpu.name, "CPU"))
    assert 0.9 * on_the_cpu.cycles < on_cpu <= on_the_cpu.cycles


def report_of(report, name):
    return next(layer for layer in report.layers if layer.name == name)


def test_bus_words_are_the_ports(traced):
    """The counter is read before the last record's own words are through."""
    report, trace, _ = traced
    found, record = tracks(trace), 8
    ports = [total(found[f"port {p}"], "read") + total(found[f"port {p}"], "write") for p in range(CONFIG.ports)]
    assert ports == trace["otherData"]["words_of_ports"]
    counted = sum(layer.bus_words for layer in report.layers)
    assert counted <= sum(ports) <= counted + record


def test_strips_and_tiles_hold_all_vectors(traced):
    report, trace, _ = traced
    found = tracks(trace)
    vectors = [(e["ts"], e["ts"] + e["dur"]) for e in found["array"] if e["args"]["state"] == "vectors"]
    for name in ("strips", "tiles"):
        parts = iter((e["ts"], e["ts"] + e["dur"]) for e in found[name])
        start, end = next(parts)
        for first, last in vectors:
            while first < last:
                while end <= first:
                    start, end = next(parts)
                assert start <= first
                first = end
    assert len(found["tiles"]) > len(found["strips"]) >= len([x for x in report.layers if x.array_cycles])


def test_report_keeps_a_timeline(traced):
    report, *_ = traced
    kept = report.to_dict()["timeline"]
    assert {track["name"] for track in kept["tracks"]} >= {"layers", "array", "port 1", "CPU"}
    assert all(len(track["slices"]) <= 400 for track in kept["tracks"])


@pytest.mark.parametrize("options", [{}, {"scratchpad_words": 0, "ports": 1, "arithmetic": "fma"}])
def test_every_signal_is_in_the_verilog(options):
    config = dataclasses.replace(CONFIG, **options)
    files = sorted(hardware(config).glob("*.v"))
    names = [signal for engine in engines_of(config) for signal in engine.signals]
    probes = find_probes(files, "heepstor", names)
    assert [p.name for p in probes] == names
    bits = [(p.word, p.shift + i) for p in probes for i in range(p.width)]
    assert len(set(bits)) == len(bits)


@pytest.mark.parametrize("name", ["sequencer.gone", "nobody.issue", "sequencer", "arbiter.cmd_addr"])
def test_a_signal_that_vanished_is_named(name):
    with pytest.raises(HeepgenError, match=f"no signal {name}"):
        find_probes(sorted(hardware(CONFIG).glob("*.v")), "heepstor", [name])


def test_software_has_the_cpu_and_its_layers(tmp_path):
    app = write_app(tmp_path, CpuInBetween(), (1, 3, 4, 4), CONFIG)
    report = run(app, CONFIG, software=True, trace=tmp_path / "trace.json")
    found = tracks(json.loads((tmp_path / "trace.json").read_text()))
    assert [event["name"] for event in found["layers"]] == [layer.name for layer in report.layers if layer.cycles]
    assert found.keys() == {"layers", "CPU"}
    own = Counter()
    for event in found["CPU"]:
        own[event["name"]] += event["dur"]
    assert all(own[layer.name] == layer.cycles for layer in report.layers if layer.cycles)


def test_a_long_trace_is_cut_and_says_so(app, tmp_path, monkeypatch):
    monkeypatch.setattr(sim.run, "MOST_RECORDED", 500)
    report = run(app, CONFIG, trace=tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    tracks(trace)
    assert trace["otherData"]["complete"] is False
    end = trace["otherData"]["end"]
    assert 0 < end < report.soc_cycles
    assert f"cut after {end:,} of" in str(report)


# Coarser slices


def random_recording(rng, cycles):
    """Two signals, a pulse, and the CPU, cycle by cycle, and as a recording."""
    dense = {
        "u.busy": rng.random(cycles) < 0.6,
        "u.held": rng.random(cycles) < 0.3,
        "u.start": rng.random(cycles) < 0.01,
        ASLEEP: np.zeros(cycles, bool),
    }
    table = np.stack(list(dense.values()))
    starts = np.flatnonzero(np.append(True, np.any(table[:, 1:] != table[:, :-1], axis=0)))
    values = {name: signal[starts].astype(np.uint32) for name, signal in dense.items()}
    return dense, Recording(starts, cycles, values, {}, 1, True)


@pytest.mark.parametrize("most", [40, 300, 10**6])
def test_coarse_slices_keep_every_cycle(most):
    rng = np.random.default_rng(most)
    dense, recording = random_recording(rng, 20_000)
    engine = Engine(
        "one",
        (State("held", STALL, ("u.busy", "u.held")), State("work", WORK, ("u.busy",))),
        "u.start",
        parts=(Part("parts", first="u.held"),),
    )
    layers = [{"name": f"layer{i}", "descriptors": [i], "on_cpu": False} for i in range(3)]
    found = timeline(recording, [engine], layers, [], 0, most).track("one")
    assert total_of(found, "held") == np.sum(dense["u.busy"] & dense["u.held"])
    assert total_of(found, "work") == np.sum(dense["u.busy"] & ~dense["u.held"])
    descriptors = int(np.sum(dense["u.start"]))
    assert len(found.slices) <= max(most, descriptors + 1)
    assert (found.grid == 1) == (most == 10**6)
    for before, after in zip(found.slices, found.slices[1:]):
        assert before.end <= after.start
    if found.grid == 1:
        for one in found.slices[:200]:
            begun = int(np.sum(dense["u.start"][: one.start + 1]))
            assert one.layer == (f"layer{(begun - 1) % 3}" if begun else None)
            assert np.all(dense["u.busy"][one.start : one.end])


def total_of(track, beginning):
    return sum(n for one in track.slices for name, n in one.cycles.items() if name.startswith(beginning))
