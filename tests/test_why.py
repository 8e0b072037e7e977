# SPDX-License-Identifier: Apache-2.0
"""What binds layers, and changes that are tried: named as they are, and worth what they are said to be worth."""

import numpy as np
import pytest
import torch
from torch import nn

import heepgen
from firmware_gen.streams.batch import batched
from gen.flows.network.why import WORTH, changes_of
from gen.results.why import WhyReport
from hls.config import ARITHMETICS, Config
from tests.random_networks import random_network


def _why(model: nn.Module, shape: tuple[int, ...], **config: object) -> tuple[heepgen.Network, WhyReport]:
    net = heepgen.compile(model.eval(), torch.randn(shape, generator=torch.Generator().manual_seed(1)), **config)
    return net, net.why()


def test_a_layout_that_helps_is_proposed() -> None:
    """Of an input whose channels lie in one bank; the cycles are those of compiling so."""
    model, shape = nn.Conv2d(16, 16, 3, padding=1), (1, 16, 16, 16)
    config = {"rows": 16, "cols": 16, "ports": 4}
    net, report = _why(model, shape, **config)
    (layer,) = report.layers
    assert report.total_cycles == net.estimate().total_cycles
    assert (layer.limit, layer.change) == ("bus", "input layout nhwc") and report.bottleneck == "bus"
    assert max(layer.waits, key=layer.waits.__getitem__) == "data" and "data" in str(report)
    other = heepgen.compile(model, torch.zeros(shape), input_layout="nhwc", **config).estimate()
    assert layer.changed_cycles == other.layers[0].cycles < 0.8 * layer.cycles
    trials = {trial.change: trial for trial in report.trials}
    assert trials["input layout nhwc"].total_cycles == other.total_cycles
    ports = heepgen.compile(model, torch.zeros(shape), **config | {"rows": 32}).estimate()
    assert trials["32x16"].total_cycles == ports.total_cycles
    assert "8 ports" not in trials, "there are four at most"
    assert layer.changed_cycles == min(trial.layers[layer.name] for trial in report.trials if trial.layers)


@pytest.mark.parametrize("seed", range(3))
def test_the_array_has_a_vector_or_waits_for_something(seed: int) -> None:
    """In every cycle, layer by layer; many outputs of few inputs wait for the epilogue's lanes."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 24, 1), nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.ReLU(), nn.Conv2d(24, 5, 2)
    _, report = _why(nn.Sequential(*layers), (1, 2, 9 + seed, 12), rows=8, cols=8, ports=1 + seed)
    assert all(layer.vectors + sum(layer.waits.values()) == layer.cycles for layer in report.layers)
    first = report.layers[0].waits
    assert max(first, key=first.__getitem__) == "lanes" and "epilogue's lanes read one" in str(report)


def test_weights_are_read_once_for_a_larger_batch() -> None:
    net, report = _why(nn.Linear(256, 64), (1, 256), rows=8, cols=8, ports=2)
    (layer,) = report.layers
    assert layer.limit == "weights" and layer.cycles > layer.vectors
    assert max(layer.waits, key=layer.waits.__getitem__) == "weights"
    trial = next(trial for trial in report.trials if trial.change == "batch 2")
    two = heepgen.compile(nn.Linear(256, 64), torch.zeros(2, 256), rows=8, cols=8, ports=2).estimate()
    assert trial.total_cycles == -(-two.total_cycles // 2) < report.total_cycles
    assert "input layout nhwc" not in {trial.change for trial in report.trials}, "a vector has no channels"
    assert layer.changed_cycles is None or layer.changed_cycles < (1 - WORTH) * layer.cycles


def test_what_the_cpu_computes_and_what_nobody_says() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.Softmax(1))  # of one row
    _, report = _why(model, (1, 6), rows=4, cols=4, ports=1)
    assert {layer.op: layer.limit for layer in report.layers}["Softmax"] == "cpu"
    _, report = _why(nn.Linear(6, 3), (1, 6), architecture="streaming")
    assert [layer.limit for layer in report.layers] == ["unknown"] and report.layers[0].cycles
    assert "does not say" in str(report)


@pytest.mark.parametrize(("model", "shape"), [(nn.LSTM(3, 2), (1, 4, 3)), (nn.LayerNorm(4), (2, 4))])
def test_no_larger_batch_where_something_else_is_first(model: nn.Module, shape: tuple[int, ...]) -> None:
    net = heepgen.compile(model.eval(), torch.zeros(shape), rows=4, cols=4, ports=1)
    assert batched(net.compiled.generator.graph, 2) is None


@pytest.mark.parametrize("seed", [43, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (3, *range(44, 50)))])
def test_a_change_takes_what_is_said(seed: int) -> None:
    """Of networks that nobody chose, on hardware that nobody chose: a compilation with the change takes those cycles,
    and no change that was tried makes a layer faster than the one that is named."""
    rng = np.random.default_rng(seed)
    rows, cols, ports = (int(rng.integers(low, high)) for low, high in ((2, 12), (2, 12), (1, 4)))
    config = Config(rows=rows, cols=cols, ports=ports, arithmetic=ARITHMETICS[rng.integers(len(ARITHMETICS))])
    drawn = random_network(seed, "dag" if seed % 2 else "sequential", max_depth=6, max_size=9)
    net = heepgen.compile(drawn.model, drawn.x, config)
    report = net.why()
    changes, trials = list(changes_of(net.compiled)), list(report.trials)
    assert [change.text for change in changes] == [trial.change for trial in trials]
    for number in rng.permutation(len(trials))[:3]:
        change, trial = changes[number], trials[number]
        if change.batch == 1 and trial.total_cycles is not None:
            options = {"input_layout": change.input_layout}
            found = heepgen.compile(drawn.model, drawn.x, change.config, **options).estimate()
            assert trial.total_cycles == found.total_cycles, change
            cycles = {layer.name: layer.cycles for layer in found.layers}
            assert all(cycles[name] == own for name, own in trial.layers.items()), change
    for layer in report.layers:
        own = [trial.layers[layer.name] for trial in trials if layer.name in trial.layers]
        least = min([layer.cycles, *own])
        assert least >= (1 - WORTH) * layer.cycles if layer.change is None else layer.changed_cycles == least
