# SPDX-License-Identifier: Apache-2.0
"""Whole runs with the generated accelerator: bits, cycle counts, and hardware that does not fit the firmware."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from gen.flows.measure.run import Application, compiled, hardware, run
from gen.flows.network.sw import generate_sw
from hls.config import Config
from hls.errors import HeepgenError
from sim.firmware import compile_firmware
from sim.run import MAX_CYCLES, run_soc
from tests.applications import everything

CONFIG = Config(rows=4, cols=4, ports=2)

COUNT_TWICE = """\
#include "model.hpp"
#include "soc.hpp"
int main() {
  if (model_init() != heepstor::Status::ok) return 1;
  const uint64_t clock_start = soc_cycles(), start = model_cycles();
  if (model_run() != heepstor::Status::ok) return 1;
  const uint64_t end = model_cycles(), clock_end = soc_cycles();
  heepstor::print_decimal(end - start);
  soc_puts(" ");
  heepstor::print_decimal(clock_end - clock_start);
  soc_puts("\\n");
  return 0;
}
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hardware")
    torch.manual_seed(5)
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 5)
    ).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 2, 8, 8),)), folder / "net.pt2")
    generate_sw(folder / "net.pt2", CONFIG, folder / "app", append_final_softmax=True)
    return folder / "app"


@pytest.fixture(scope="module")
def report(app):
    return run(app, CONFIG)


def test_every_bit_is_the_models(report):
    assert report.bit_exact
    assert report.outputs[0].shape == (1, 5)
    assert report.first.max_abs_err < 0.05


def test_layers_add_up_and_none_ends_before_its_vectors_are_through(app, report):
    """A layer's counts end with its last store; the layer behind it may have begun by then."""
    planned = {entry["name"]: entry["vectors"] for entry in Application.open(app).manifest["layers"]}
    *layers, softmax = report.layers
    assert softmax.name == "softmax" and softmax.cpu_cycles
    cycles = vectors = streamed = 0
    for layer in layers:
        cycles, streamed, vectors = cycles + layer.cycles, streamed + layer.array_cycles, vectors + planned[layer.name]
        assert cycles >= streamed >= vectors
        assert layer.cycles * CONFIG.ports >= layer.bus_words
    assert streamed == vectors
    assert 0 < report.total_cycles - sum(layer.cycles for layer in report.layers) < 500


def test_total_cycles_are_those_of_the_testbench(app, report, tmp_path):
    copy = tmp_path / "app"
    shutil.copytree(app, copy)
    (copy / "main.cpp").write_text(COUNT_TWICE)
    application = Application.open(copy)
    mode = application.manifest["accelerator"]
    elf = compile_firmware(
        *everything(application), mode["defines"], CONFIG, tmp_path / "count.elf", placements=mode["placements"]
    )
    result = run_soc(elf, hardware(CONFIG), CONFIG)
    assert result.ok, result
    counted, clock = map(int, result.uart.split())
    assert 0 < clock - counted < 100  # reading one counter inside the other
    assert counted == pytest.approx(report.total_cycles, abs=100)


OTHER = Config()


def test_firmware_refuses_other_hardware(app, tmp_path):
    application = Application.open(app)
    elf = compiled(application, False, "zig", tmp_path, lambda message: None)
    result = run_soc(elf, hardware(OTHER), CONFIG)
    assert not result.ok
    assert "8x8 aligned, 2 ports" in result.uart and "4x4 aligned, 2 ports" in result.uart


def test_other_hardware_is_refused_before_it_is_built(app, monkeypatch):
    monkeypatch.setattr("gen.flows.measure.run.hardware", lambda config, progress: pytest.fail("it was built"))
    with pytest.raises(HeepgenError) as caught:
        run(app, OTHER, hardware_given=True)
    assert "generated for descriptor, 4x4 aligned" in str(caught.value) and "run on descriptor, 8x8 aligned" in str(
        caught.value
    )


def test_slow_memory_changes_cycles_and_no_bit(app, report):
    slow = run(app, CONFIG, wait_states=3)
    assert slow.bit_exact
    assert slow.first.values == report.first.values
    assert slow.total_cycles > report.total_cycles


def test_the_tensor_of_a_layer_comes_from_the_device(app):
    report = run(app, CONFIG, taps=("2",))
    assert report.bit_exact
    tensor = np.array(report.taps["2"], np.float32).reshape(6, 4, 4)
    state = torch.export.load(app / "gen" / "model.pt2").state_dict
    x = torch.tensor(Application.open(app).reference["inputs"][0]).reshape(1, 2, 8, 8)
    with torch.no_grad():
        exact = torch.max_pool2d(torch.relu(torch.conv2d(x, state["0.weight"], state["0.bias"], padding=1)), 2)[0]
    assert np.abs(tensor - exact.numpy()).max() < 0.1


@pytest.mark.slow
def test_waves_of_a_run(app, tmp_path):
    run(app, CONFIG, vcd=tmp_path / "waves" / "run.vcd")
    head = (tmp_path / "waves" / "run.vcd").read_text()[:100_000]
    assert "$timescale" in head
    assert "m_addr" in head


def test_a_run_that_takes_too_long_says_what_waits(app):
    with pytest.raises(HeepgenError, match=r"after 2,000 cycles: no exit within 2000.*; --max-cycles N allows more\.$"):
        run(app, CONFIG, max_cycles=2_000)


def test_a_run_may_take_many_times_what_it_takes(app, report, tmp_path):
    application = Application.open(app)
    assert application.is_as_generated
    assert 20 * report.total_cycles < application.most_cycles() < MAX_CYCLES / 10
    assert application.most_cycles(wait_states=3, withheld=0.5) == 8 * application.most_cycles()
    shutil.copytree(app, tmp_path / "mine")
    (tmp_path / "mine" / "main.cpp").write_text("int main() { for (;;); }")
    assert not Application.open(tmp_path / "mine").is_as_generated
