# SPDX-License-Identifier: Apache-2.0
"""What binds layers, and changes that are tried: named as they are, and worth what they are said to be worth."""

import pytest
import torch
from torch import nn

import heepgen
from firmware_gen.streams.batch import batched
from gen.flows.why import WORTH
from gen.results.why import WhyReport


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
    other = heepgen.compile(model, torch.zeros(shape), input_layout="nhwc", **config).estimate()
    assert layer.changed_cycles == other.layers[0].cycles < 0.8 * layer.cycles
    trials = {trial.change: trial for trial in report.trials}
    assert trials["input layout nhwc"].total_cycles == other.total_cycles
    ports = heepgen.compile(model, torch.zeros(shape), **config | {"rows": 32}).estimate()
    assert trials["32x16"].total_cycles == ports.total_cycles
    assert "8 ports" not in trials, "there are four at most"
    assert layer.changed_cycles == min(trial.layers[layer.name] for trial in report.trials if trial.layers)


def test_weights_are_read_once_for_a_larger_batch() -> None:
    net, report = _why(nn.Linear(256, 64), (1, 256), rows=8, cols=8, ports=2)
    (layer,) = report.layers
    assert layer.limit == "weights" and layer.cycles > layer.vectors
    trial = next(trial for trial in report.trials if trial.change == "batch 2")
    two = heepgen.compile(nn.Linear(256, 64), torch.zeros(2, 256), rows=8, cols=8, ports=2).estimate()
    assert trial.total_cycles == -(-two.total_cycles // 2) < report.total_cycles
    assert "input layout nhwc" not in {trial.change for trial in report.trials}, "a vector has no channels"
    assert layer.changed_cycles is None or layer.changed_cycles < (1 - WORTH) * layer.cycles


def test_what_the_cpu_computes_and_what_nobody_says() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Softmax(1))
    _, report = _why(model, (1, 2, 5, 5), rows=4, cols=4, ports=1)
    assert {layer.op: layer.limit for layer in report.layers}["Softmax"] == "cpu"
    _, report = _why(nn.Linear(6, 3), (1, 6), architecture="streaming")
    assert [layer.limit for layer in report.layers] == ["unknown"] and report.layers[0].cycles
    assert "does not say" in str(report)


@pytest.mark.parametrize(("model", "shape"), [(nn.LSTM(3, 2), (1, 4, 3)), (nn.LayerNorm(4), (2, 4))])
def test_no_larger_batch_where_something_else_is_first(model: nn.Module, shape: tuple[int, ...]) -> None:
    net = heepgen.compile(model.eval(), torch.zeros(shape), rows=4, cols=4, ports=1)
    assert batched(net.compiled.generator.graph, 2) is None
