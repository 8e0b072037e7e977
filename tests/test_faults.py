# SPDX-License-Identifier: Apache-2.0
"""A bus that stops: the watchdog reports it, a forced soft reset recovers, and the rerun has every bit."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from gen.flows.measure.run import Application, hardware
from gen.flows.network.sw import generate_sw
from hls.config import Config
from hls.descriptor.interface.registers import ERRORS
from hls.descriptor.top import generate
from sim.descriptors import read, run_script, start_script, wait_irq, write
from sim.firmware import compile_firmware
from sim.run import Faults, run_soc
from tests.applications import everything
from tests.layers import random_program

CONFIG = Config(rows=4, cols=4, ports=2)
WATCHDOG = 300
TIMEOUT = 4 | ERRORS["TIMEOUT"][0] << 8


@pytest.fixture(scope="module")
def verilog(tmp_path_factory):
    config = Config(rows=4, cols=4, ports=2, activation_words=1024, weight_bytes=256, accumulator_entries=16)
    folder = tmp_path_factory.mktemp("rtl")
    generate(config, folder)
    return config, folder


@pytest.mark.parametrize("dead", [0b01, 0b10, 0b11])
def test_watchdog_then_forced_reset(verilog, dead):
    """From any cycle of a list: ports that neither grant nor answer are reported, and given up only by FORCE."""
    config, folder = verilog
    for seed in range(6):
        rng = np.random.default_rng([seed, dead])
        program = random_program(rng, config, layers=2)
        expected, _ = program.expect(config)
        script = [
            *start_script(program.doorbell, program.bases, program.limits, WATCHDOG),
            f"cycles {int(rng.integers(1, 200)):x}",
            f"dead {dead:x}",
            wait_irq(100_000),
            read("STATUS"),
            read("ERROR_ADDR"),
            write("CTRL", 1),
            "cycles 40",
            read("STATUS"),
            write("CTRL", 3),
            "cycles 4",
            read("STATUS"),
            "dead 0",
            "cycles 40",
            write("IRQ_STATUS", 3),
            write("DOORBELL", program.doorbell),
            wait_irq(100_000),
            read("STATUS"),
        ]
        run = run_script(folder, program.memory, script, stall_probability=0.2, seed=seed, outstanding=1 + seed % 2)
        waited, status, address, reset, forced, again, done = run.values
        assert waited >= 0
        assert status & 0xF07 == TIMEOUT, f"seed {seed}: STATUS {status:#x}"
        assert address % 4 == 0 and program.bases[0] <= address < program.limits[1]
        assert reset in (0, 8)  # DRAINING while the dead ports owe something
        assert forced == 0
        assert again >= 0 and done == 2
        assert np.array_equal(run.memory.view(np.uint32), expected.view(np.uint32)), f"seed {seed}"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 6)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 8, 8),)), folder / "net.pt2")
    generate_sw(folder / "net.pt2", CONFIG, folder / "app")
    return folder / "app"


def run_main(app, folder, text=None, **options):
    """Run the application, with ``text`` as its main.cpp."""
    copy = folder / "app"
    shutil.copytree(app, copy)
    if text:
        (copy / "main.cpp").write_text(text)
    application = Application.open(copy)
    mode = application.manifest["accelerator"]
    elf = compile_firmware(
        *everything(application), mode["defines"], CONFIG, folder / "main.elf", placements=mode["placements"]
    )
    return run_soc(elf, hardware(CONFIG), CONFIG, max_cycles=3_000_000, **options)


@pytest.mark.parametrize("fault", ["never_grant", "never_answer"])
@pytest.mark.parametrize("ports", [None, (1,)])
def test_firmware_reports_a_dead_bus(app, tmp_path, fault, ports):
    (tmp_path / "a").mkdir()
    start = run_main(app, tmp_path / "a").cycles // 2
    (tmp_path / "b").mkdir()
    result = run_main(app, tmp_path / "b", faults=Faults(**{fault: (start, 10**9)}, ports=ports))
    assert (result.ended, result.exit_code) == ("exit", 1), result
    assert f"stopped with error {ERRORS['TIMEOUT'][0]} at address " in result.uart
    assert result.asleep_cycles > 50_000  # the CPU slept until the watchdog woke it


RECOVER = """\
#include "model.hpp"
#include "sample.hpp"
#include "soc.hpp"
using heepstor::Status;
namespace {
float input[kModelInputs];
void fault(uint32_t kind) { soc_register(SOC_TESTBENCH_BASE + SOC_TESTBENCH_FAULT) = kind; }
void refill() { for (uint32_t i = 0; i < kModelInputs; ++i) model_input()[i] = input[i]; }
}
int main() {
  for (uint32_t i = 0; i < kModelInputs; ++i) input[i] = model_input()[i];
  if (model_init() != Status::ok) return 1;
  fault(KIND);
  if (model_run() != Status::accelerator_error) return 2;
  if (model_run() != Status::busy) return 3;  // still dead
  if (FORCE) {
    if (heepstor::Device({SLAVE, 0}).reset(true) != Status::ok) return 6;
  }
  fault(0);
  refill();
  if (model_run() != Status::ok) return 4;
  for (uint32_t i = 0; i < kModelOutputs; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, &model_output()[i], 4);
    if (bits != kExpectedOutput[i]) return 5;
  }
  return 0;
}
"""


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("fault", ["NEVER_GRANT", "NEVER_ANSWER"])
def test_firmware_runs_again_after_a_dead_bus(app, tmp_path, fault, force):
    text = RECOVER.replace("KIND", f"SOC_TESTBENCH_FAULT_{fault}").replace("FORCE", str(int(force)))
    result = run_main(app, tmp_path, text.replace("SLAVE", f"{CONFIG.slave_base:#x}u"))
    assert result.ok, result
