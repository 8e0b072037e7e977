"""The cycle model against the RTL: every layer of the example networks, and descriptors it has never seen."""

import dataclasses

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.cycles import word_banks
from gen.cli import main
from gen.estimate import estimate_program
from gen.run import Application, run
from gen.sw import ImportOptions, generate_application
from hls.config import Config

TOLERANCE = 0.03
FEW = 4  # cycles: the profile record of a layer is read within as many


def compare(model, shape, config, tmp_path, tolerance=TOLERANCE):
    """Estimate and measurement of one network, layer by layer."""
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    exported = torch.export.export(model.eval(), (torch.from_numpy(data),))
    folder = tmp_path / "app"
    generate_application(exported, data, config, folder, ImportOptions(), name="net")
    measured = run(folder, Application.open(folder).config)
    predicted = estimate_program(CodeGenerator(exported, data, None, config, name="net").program())
    assert [e.name for e in predicted.layers] == [r.name for r in measured.layers]
    for e, r in zip(predicted.layers, measured.layers, strict=True):
        if e.on_cpu or not r.cycles:
            continue
        off = max(FEW, tolerance * r.cycles)
        assert abs(e.cycles - r.cycles) <= off, (e, r)
        # Layers overlap: what is counted until a layer's end, the next one's work too, shifts with that end.
        assert abs(e.array_cycles - r.array_cycles) <= off, (e, r)
        assert abs(e.bus_words - r.bus_words) <= max(64, config.ports * off), (e, r)
    for count in ("array_cycles", "bus_words"):
        assert sum(getattr(e, count) for e in predicted.layers) == sum(getattr(r, count) for r in measured.layers)
    return predicted, measured


@pytest.mark.parametrize("name", ["digits", "mnist-single_layer", "fmnist-conv2d", "cifar10-conv2d"])
def test_examples_on_the_default_array(name, tmp_path):
    predicted, measured = compare(NETWORKS[name].build(), NETWORKS[name].input_shape, Config(), tmp_path)
    assert abs(predicted.total_cycles - measured.total_cycles) <= 0.01 * measured.total_cycles


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "mobilenet-v1-0.25", "fc-autoencoder"])
def test_mlperf_tiny_on_the_default_array(name, tmp_path):
    compare(NETWORKS[name].build(), NETWORKS[name].input_shape, Config(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rows, cols, ports", [(4, 4, 1), (5, 3, 3), (16, 16, 4)])
def test_other_geometries(rows, cols, ports, tmp_path):
    compare(NETWORKS["digits"].build(), NETWORKS["digits"].input_shape, Config(rows=rows, cols=cols, ports=ports),
            tmp_path)


class Contended(nn.Module):
    """Residual, depthwise with stride, and weights of several strips."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.last = nn.Linear(16 * 64, 12)

    def forward(self, x):
        x = torch.relu(self.depthwise(self.first(x)))
        return self.last((self.point(x) + x).flatten(1))


@pytest.mark.parametrize("options, tolerance", [
    ({}, TOLERANCE),
    ({"activation_words": 2048, "accumulator_entries": 32}, TOLERANCE),
    # Contiguous banks: all ports meet in one bank, and the order in which the crossbar serves them is not modelled.
    ({"memory_banks": 16, "memory_banks_interleaved": ()}, 0.06),
])
def test_memory_and_buffers(options, tolerance, tmp_path):
    """Small buffers make strips short; contiguous banks give one word per cycle to all ports together."""
    compare(Contended(), (1, 3, 16, 16), dataclasses.replace(Config(), **options), tmp_path, tolerance)


@pytest.mark.parametrize("rows, cols, ports", [(4, 4, 1), (4, 4, 2), (8, 2, 2), (4, 16, 4), (8, 8, 4), (8, 8, 2)])
def test_weights_of_a_single_pixel_fill_the_bus(rows, cols, ports):
    """One vector per tile: enough channel blocks are accumulated together that no vector waits for its accumulator."""
    data = np.zeros((1, 256), np.float32)
    exported = torch.export.export(nn.Linear(256, 256).eval(), (torch.from_numpy(data),))
    config = Config(rows=rows, cols=cols, ports=ports)
    layer, = estimate_program(CodeGenerator(exported, data, None, config, name="net").program()).layers
    assert layer.cycles < 1.06 * layer.bound_cycles


def test_words_of_a_beat_that_share_a_bank():
    config = Config(ports=4)
    low = config.memory_banks * config.bank_kib * 1024
    assert word_banks(config.bank_kib * 1024, 1, config) == (1, 1, 1, 1)
    assert word_banks(low, 1, config) == () == word_banks(low + 4, 3, config)
    assert len(set(word_banks(low, 8, config))) == 1
    assert len(set(word_banks(low, 4, config))) == 2
    assert word_banks(0, 1, Config(ports=1)) == ()


def test_command(tmp_path):
    torch.save(nn.Sequential(nn.Linear(12, 4)), tmp_path / "net.pt")
    result = CliRunner().invoke(main, ["estimate", str(tmp_path / "net.pt"), "--input-shape", "12"])
    assert result.exit_code == 0 and "predicted" in result.output
