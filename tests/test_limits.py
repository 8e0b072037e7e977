# SPDX-License-Identifier: Apache-2.0
"""What binds a layer: of counts by hand, and of layers whose limit follows from their shape."""

import pytest
import torch
from torch import nn

from firmware_gen.api import CodeGenerator
from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.limits import LIMITS, Limit, bottleneck, limit_of
from hls.config import Config


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (LayerCycles(100, vectors=90, bus=50, drain=80, weights=20), Limit("vectors", 90)),
        (LayerCycles(100, vectors=60, bus=95, drain=80, weights=20), Limit("bus", 95)),
        (LayerCycles(100, vectors=60, bus=95, drain=80, weights=48), Limit("weights", 95)),
        (LayerCycles(100, vectors=60, bus=30, drain=80, weights=20), Limit("drain", 80)),
        (LayerCycles(100, vectors=10, bus=30, drain=5, weights=70), Limit("weights", 70)),
        (LayerCycles(101, vectors=50, bus=50, drain=5), Limit("latency", 50)),
        (LayerCycles(30, vectors=50, bus=40), Limit("vectors", 50)),
        (LayerCycles(700, on_cpu=True), Limit("cpu", 700)),
        (LayerCycles(700), Limit("unknown", 0)),
    ],
)
def test_the_busiest_binds(layer: LayerCycles, expected: Limit) -> None:
    assert limit_of(layer) == expected
    assert expected.name in LIMITS


def test_the_bottleneck_binds_for_most_cycles() -> None:
    vectors, bus = LayerCycles(60, vectors=55, bus=5), LayerCycles(40, vectors=5, bus=40)
    assert bottleneck([vectors, None, bus]) == "vectors"
    assert bottleneck([vectors, bus, bus]) == "bus"
    assert bottleneck([vectors, LayerCycles(1000, on_cpu=True)]) == "cpu"
    assert bottleneck([]) == bottleneck([None]) == "unknown"


@pytest.mark.parametrize(
    ("layer", "shape", "changes", "name"),
    [
        (nn.Conv2d(16, 8, 3), (1, 16, 13, 13), {}, "vectors"),
        (nn.Linear(256, 256), (1, 256), {}, "weights"),
        (nn.AdaptiveAvgPool2d(1), (1, 64, 6, 6), {}, "bus"),
        (nn.Sequential(nn.Conv2d(1, 16, 1), nn.Conv2d(16, 1, 1)), (1, 1, 12, 12), {"ports": 1, "cols": 16}, "drain"),
        (nn.Linear(8, 4), (1, 8), {}, "latency"),
    ],
)
def test_layers_of_the_accelerator(layer: nn.Module, shape: tuple[int, ...], changes: dict, name: str) -> None:
    generator = CodeGenerator(layer.eval(), torch.zeros(shape), config=Config(**({"rows": 8, "cols": 8} | changes)))
    own = generator.target.predict(generator.program()).layers[0]
    assert own is not None
    assert limit_of(own).name == name, own
    assert own.drain <= own.cycles and own.vectors <= own.cycles


def test_words_that_meet_in_a_bank_bind_the_bus() -> None:
    """Channels of 16 x 16 words lie in one bank, those of 15 x 15 do not."""
    config = Config(rows=16, cols=16, ports=4)
    found = []
    for size in (16, 15):
        model, sample = nn.Conv2d(16, 16, 3, padding=1).eval(), torch.zeros(1, 16, size, size)
        generator = CodeGenerator(model, sample, config=config)
        (own,) = generator.target.predict(generator.program()).layers
        found.append(limit_of(own).name)
    assert found == ["bus", "vectors"]
