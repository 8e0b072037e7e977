# SPDX-License-Identifier: Apache-2.0
"""The cycle model against the RTL: every layer of the example networks, and descriptors it has never seen."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import sim
from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.application.options import ImportOptions
from firmware_gen.models import cpu_cycles
from firmware_gen.targets.descriptor.estimate import descriptor_cycles
from firmware_gen.targets.descriptor.timing.banks import Places, bank, beats_of, sharing
from firmware_gen.targets.descriptor.timing.crossbar import FIRST_MASTER, MASTERS, arbitrate
from firmware_gen.targets.descriptor.timing.stages import Drain
from gen.cli import main
from gen.flows.measure.run import Application, run
from gen.flows.network.estimate import estimate, estimate_program
from gen.flows.network.sw import generate_application
from hls.config import Config
from hls.descriptor.interface.table import Descriptor

TOLERANCE = 0.03
FEW = 4  # cycles: the profile record of a layer is read within as many


def compare(model, shape, config, tmp_path):
    """Estimate and measurement of one network, layer by layer."""
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    exported = torch.export.export(model.eval(), (torch.from_numpy(data),))
    folder = tmp_path / "app"
    generate_application(exported, data, config, folder, ImportOptions(), name="net")
    measured = run(folder, Application.open(folder).config)
    generator = CodeGenerator(exported, data, None, config, name="net")
    predicted = estimate_program(generator.target, generator.program())
    assert [e.name for e in predicted.layers] == [r.name for r in measured.layers]
    for e, r in zip(predicted.layers, measured.layers, strict=True):
        if e.on_cpu or not r.cycles:
            continue
        off = max(FEW, TOLERANCE * r.cycles)
        assert abs(e.cycles - r.cycles) <= off, (e, r)
        # Layers overlap: what is counted until a layer's end, the next one's work too, shifts with that end.
        assert abs(e.array_cycles - r.array_cycles) <= off, (e, r)
        if config.memory_banks_interleaved:  # else the next one's weights keep the record from the bus that counts
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


@pytest.mark.parametrize(
    "rows, cols, ports",
    [
        pytest.param(4, 4, 1, marks=pytest.mark.slow),
        pytest.param(5, 3, 3, marks=pytest.mark.slow),
        pytest.param(16, 16, 4, marks=pytest.mark.slow),
    ],
)
def test_other_geometries(rows, cols, ports, tmp_path):
    compare(
        NETWORKS["digits"].build(), NETWORKS["digits"].input_shape, Config(rows=rows, cols=cols, ports=ports), tmp_path
    )


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


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"activation_words": 2048, "accumulator_entries": 32}, marks=pytest.mark.slow),
        pytest.param({"memory_banks": 16, "memory_banks_interleaved": ()}, marks=pytest.mark.slow),
        {"memory_banks": 16, "memory_banks_interleaved": (), "ports": 4, "rows": 5},
    ],
)
def test_memory_and_buffers(options, tmp_path):
    """Small buffers make strips short; contiguous banks give one word per cycle to all ports together."""
    compare(Contended(), (1, 3, 16, 16), dataclasses.replace(Config(), **options), tmp_path)


def test_channels_of_a_beat_that_lie_in_one_bank(tmp_path):
    """Planes of 256 words: all channels of an input or output pixel meet in one of the interleaved banks."""
    config = Config(rows=5, ports=4)
    predicted, _ = compare(nn.Conv2d(16, 5, 1), (1, 16, 16, 16), config, tmp_path)
    assert predicted.layers[0].cycles > 1.3 * predicted.layers[0].bound_cycles


@pytest.mark.parametrize(
    "model, shape",
    [
        (nn.Conv2d(16, 9, 1), (1, 16, 8, 8)),
        (nn.Conv2d(9, 12, 3, padding=1), (1, 9, 8, 8)),
        (nn.Sequential(nn.Conv2d(12, 24, 1), nn.ReLU(), nn.Conv2d(24, 12, 1)), (1, 12, 8, 8)),
    ],
    ids=["pointwise", "window", "two-layers"],
)
def test_three_ports_that_lag_behind_each_other(model, shape, tmp_path):
    """Planes of 64 words: words of a beat meet, and then those of other beats, of other streams too."""
    small = {"activation_words": 1024, "weight_bytes": 1024, "accumulator_entries": 16, "scratchpad_words": 0}
    predicted, measured = compare(model, shape, Config(rows=9, cols=8, ports=3, **small), tmp_path)
    for e, r in zip(predicted.layers, measured.layers, strict=True):
        assert abs(e.cycles - r.cycles) <= FEW, (e, r)


class Beside(nn.Module):
    """A convolution that adds its input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.layer(x) + x


@pytest.mark.parametrize("ports", [2, 4])
def test_a_residual_whose_words_lie_in_one_bank(ports, tmp_path):
    """Planes of 400 words: how far it is read ahead of what is stored decides whether both are in one bank."""
    predicted, measured = compare(Beside(), (1, 8, 20, 20), Config(ports=ports), tmp_path)
    (e,), (r,) = predicted.layers, measured.layers
    assert abs(e.cycles - r.cycles) <= FEW, (e, r)


class Short(nn.Module):
    """Layers of a pixel that do not depend on each other: results wait for the drain, and it for what it adds."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        return torch.cat([layer(x) + x for layer in self.layers], 1)


def test_a_residual_is_used_when_it_has_arrived(monkeypatch):
    arrived = []

    def read(self, t, read=Drain.read_beat):
        if self.plan.residual:
            arrived.append(self.aux.ready(t))
        return read(self, t)

    monkeypatch.setattr(Drain, "read_beat", read)
    config = Config(rows=4, cols=4, ports=1, scratchpad_words=0)
    descriptor_cycles(CodeGenerator(Short(), np.ones((1, 8), np.float32), config=config).program())
    assert all(arrived) and len(arrived) >= 4 * 8


def test_arbiter_of_a_bank():
    """Against the tree written recursively; its place among X-HEEP's masters is the testbench's."""

    def tree(asking, low, size, favoured):
        if size == 1:
            return low
        half = size // 2
        lower, upper = (any(low + i in asking for i in range(n, n + half)) for n in (0, half))
        right = upper and (not lower or favoured % size >= half)
        return tree(asking, low + half * right, half, favoured)

    rng = np.random.default_rng(3)
    for _ in range(2000):
        asking = set(rng.choice(MASTERS, rng.integers(1, 6), replace=False).tolist())
        favoured = int(rng.integers(MASTERS))
        taken, following = arbitrate(sum(1 << m for m in asking), favoured)
        assert taken == tree(asking, 0, MASTERS, favoured)
        assert following == min((m for m in asking if m > favoured), default=min(asking))
    folder = Path(sim.__file__).parent / "testbench"
    testbench = "".join((folder / name).read_text() for name in ("devices.hpp", "soc.cpp"))
    first, between, masters = (
        int(re.search(rf"{name} = (\d+)", testbench)[1]) for name in ("kFirstPort", "kBetween", "kMasters")
    )
    assert (first + between, masters) == (FIRST_MASTER, MASTERS)


@pytest.mark.parametrize("rows, cols, ports", [(4, 4, 1), (4, 4, 2), (8, 2, 2), (4, 16, 4), (8, 8, 4), (8, 8, 2)])
def test_weights_of_a_single_pixel_fill_the_bus(rows, cols, ports):
    """One vector per tile: enough channel blocks are accumulated together that no vector waits for its accumulator."""
    data = np.zeros((1, 256), np.float32)
    exported = torch.export.export(nn.Linear(256, 256).eval(), (torch.from_numpy(data),))
    config = Config(rows=rows, cols=cols, ports=ports)
    generator = CodeGenerator(exported, data, None, config, name="net")
    (layer,) = estimate_program(generator.target, generator.program()).layers
    assert layer.cycles < 1.06 * layer.bound_cycles


def stored_with_stride(stride, address, config):
    """Places of 8 x 1 pixels of 4 channels that are stored, channels ``stride`` words apart, and their sharing."""
    f = Descriptor(out_w=8, out_px=8, strip_px=8, first_px=8, groups=1, ncb=1, cout=4)
    f = f.but(store_c_stride=stride, store_x_stride=1)
    places = Places(store=address)
    return beats_of(f, places, config).store, sharing(f, places, config)


def test_banks_are_those_of_the_memory_map():
    """Contiguous banks, then groups whose words go round: the numbers of the testbench."""
    config = Config(memory_banks=3, memory_banks_interleaved=(8, 2))
    size = config.bank_bytes
    addresses = [0, size - 4, size, 3 * size, 3 * size + 4 * 9, 11 * size - 4, 11 * size, 11 * size + 4, 13 * size - 4]
    assert bank(np.array(addresses), config).tolist() == [0, 0, 1, 3, 4, 10, 11, 12, 12]


def test_words_of_a_beat_that_share_a_bank():
    config = Config(ports=4)
    first, low = config.memory_banks, config.contiguous_bytes
    assert stored_with_stride(1, config.bank_bytes, config)[1].store == 4
    assert stored_with_stride(1, low, config)[1].store == 1 == stored_with_stride(3, low + 4, config)[1].store
    assert stored_with_stride(8, low, config)[1].store == 4 and stored_with_stride(4, low, config)[1].store == 2
    assert not stored_with_stride(3, low, config)[1].contended and stored_with_stride(4, low, config)[1].contended
    assert not stored_with_stride(8, 0, Config(ports=1))[1].contended
    beats, _ = stored_with_stride(8, low + 4, config)
    assert list(beats) == [(first + pixel % 8,) * 4 for pixel in range(1, 9)]
    beats, _ = stored_with_stride(9, low, Config(ports=3))  # the second beat has one word
    assert [beat[:1] if number % 2 else beat for number, beat in enumerate(beats[:4])] == [
        (first, first + 1, first + 2),
        (first + 3,),
        (first + 1, first + 2, first + 3),
        (first + 4,),
    ]


def test_a_tensor_in_two_groups_is_contended_where_it_is_in_the_smaller_one():
    config = Config(ports=2, memory_banks_interleaved=(8, 4))
    border = config.contiguous_bytes + 8 * config.bank_bytes
    shared = [stored_with_stride(4, address, config)[1].store for address in (border - 80, border - 40, border)]
    assert shared == [1, 2, 2]


def test_weights_that_lie_in_several_banks():
    """The last 100 words of the contiguous banks, one whole bank before them, and 50 interleaved words."""
    config = Config(ports=2)
    words, low = config.bank_bytes // 4, config.contiguous_bytes

    def weights(count, address):
        f = Descriptor(weight_words=count, out_px=1, strip_px=1, first_px=1, groups=1, ncb=1, cout=1, out_w=1)
        places = Places(weights=address)
        return beats_of(f, places, config).weights, sharing(f, places, config).weights

    beats, shared = weights(150, low - 400)
    assert sum(n for n, each in shared if each == 2) == 100 and sum(n for n, each in shared if each == 1) == 50
    last, first = config.memory_banks - 1, config.memory_banks
    assert beats[49] == (last, last) and beats[50] == (first, first + 1) and beats[74] == (first, first + 1)
    assert weights(words + 10, low - 4 * words - 40)[1] == ((10, 2), (words, 2))


def test_command(tmp_path):
    torch.save(nn.Sequential(nn.Linear(12, 4)), tmp_path / "net.pt")
    result = CliRunner().invoke(main, ["estimate", str(tmp_path / "net.pt"), "--input-shape", "12"])
    assert result.exit_code == 0 and "predicted" in result.output


@pytest.mark.parametrize("last, on_cpu", [(nn.LogSoftmax(1), 1), (nn.ReLU(), 0)])
@pytest.mark.parametrize("known", [True, False])
def test_total_says_what_it_contains_and_what_it_leaves_out(tmp_path, monkeypatch, last, on_cpu, known):
    if not known:
        monkeypatch.setattr(cpu_cycles, "costs", dict)
    model = nn.Sequential(nn.Linear(8, 4), last).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 8),)), tmp_path / "net.pt2")
    shown = CliRunner().invoke(main, ["estimate", str(tmp_path / "net.pt2")], catch_exceptions=False).output
    assert ("the total leaves out 1 of 2 layers" in shown) == bool(on_cpu and not known)
    assert ("cycles of layers on the CPU (1), by what its loops take" in shown) == bool(on_cpu and known)
    assert "around the accelerator's work" in shown


def test_numbers_of_an_estimate_add_up(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5), nn.LogSoftmax(1)).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 8, 8),)), tmp_path / "net.pt2")
    report = estimate(tmp_path / "net.pt2", Config())
    by_cpu = [layer for layer in report.layers if layer.on_cpu]
    on_array = [layer for layer in report.layers if not layer.on_cpu and layer.macs]
    assert report.around_cycles > 0 and 0 < report.cpu_cycles == sum(layer.cycles for layer in by_cpu)
    assert report.total_cycles == sum(layer.cycles for layer in report.layers) + report.around_cycles
    assert [layer.macs for layer in on_array] == [4 * 36 * 27, 144 * 5]
    assert all(0 < layer.array_cycles <= layer.cycles for layer in on_array)
    assert sum(layer.bus_words for layer in on_array) >= 3 * 64 + (4 * 27 + 144 * 5) / 4
    assert not any(layer.bus_words or layer.array_cycles for layer in by_cpu)
