# SPDX-License-Identifier: Apache-2.0
"""`heepgen ppa --model`: what it says of an energy, and what it refuses before it has begun."""

import re

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen.application.options import ImportOptions
from firmware_gen.architectures.registry import load_config
from gen.cli import main
from gen.flows.measure.cpu import PACKAGE, asleep
from gen.flows.measure.ppa import with_energy
from gen.flows.network.sw import generate_application
from gen.ppa import composition, fpga, verilog
from gen.ppa.energy.inference import InferenceEnergy, LayerEnergy, PartEnergy
from gen.ppa.energy.parts import RAM
from gen.ppa.energy.sampling import Estimate
from gen.results.ppa import PpaReport, UnitFigures
from hls.config import Config
from sim.toolchain import release
from tests.json_forms import form_errors

ARRAY = f"{verilog.PREFIX}systolic_array_rows8_cols8"


def report_of(config, names, spent, library=""):
    """Of units `names` and an inference of two layers; `spent` is pJ per cycle by module in each of them."""
    figures = UnitFigures(100, 50, 1, 0.5, 2.0, 0.01, 30.0, 1.5)
    report = PpaReport(
        config.architecture, "", False, "xcup", library, {}, figures, 100.0, dict.fromkeys(names, figures)
    )
    layers = []
    for name, cycles, modules in zip(("conv", "fc"), (1000, 50), spent, strict=True):
        units = {module: PartEnergy(pj, 2.0, 100.0) for module, pj in modules.items()}
        parts = {"array": PartEnergy(sum(modules.values()), 2.0 * len(units), 100.0 * len(units))}
        parts[RAM] = PartEnergy(7.0, 0.0, 500.0)
        layers.append(LayerEnergy(name, cycles, parts, units, Estimate(1.0, 3.0)))
    return with_energy(report, InferenceEnergy(tuple(layers), 512), config, 50.0, gated=True)


@pytest.mark.parametrize("array", ("systolic_array_aligned", ARRAY.removeprefix(verilog.PREFIX)))
def test_energy_by_unit_by_layer_and_by_part_is_that_of_the_inference(array):
    """Units as figures of units name them, and as synthesis does."""
    report = report_of(
        Config(), (array, fpga.GLUE), [{ARRAY: 90.0, verilog.ROOT: 30.0}, {ARRAY: 9.0, verilog.ROOT: 3.0}]
    )
    found = report.to_dict()
    assert not form_errors(found)
    per_cycle = {"conv": 90 + 30 + 2 * (2 + 2) + 7 + 10, "fc": 9 + 3 + 2 * (2 + 2) + 7 + 10}
    assert [layer["uj"] for layer in found["layers"]] == pytest.approx(
        [1000 * per_cycle["conv"] * 1e-6, 50 * per_cycle["fc"] * 1e-6]
    )
    assert found["units"][array]["uj"] == pytest.approx((1000 * 94 + 50 * 13) * 1e-6)
    units = sum(unit["uj"] for unit in found["units"].values())
    assert found["uj"] == pytest.approx(sum(layer["uj"] for layer in found["layers"]))
    assert found["uj"] == pytest.approx(sum(found["parts"].values()))
    assert found["uj"] == pytest.approx(units + found["parts"][RAM])
    assert found["uj_error"] == pytest.approx(3e-6 * (1000**2 + 50**2) ** 0.5)
    assert f"{found['uj']:.4f}" in str(report)


def test_a_cpu_asleep_is_beside_the_sum():
    """In the cells that its figures are of, which are those of the installed CPU."""
    cells = [
        report_of(Config(), (fpga.GLUE,), [{verilog.ROOT: 30.0}] * 2, name) for name in (composition.library(), "")
    ]
    cpu = asleep()
    assert cells[0].cpu_asleep_uj == pytest.approx(1050 * (cpu.clock_pj + cpu.leakage_uw / 50) * 1e-6)
    assert cells[1].cpu_asleep_uj is None and cells[0].whole.uj == cells[1].whole.uj
    assert "CPU asleep" in str(cells[0]) and "CPU asleep" not in str(cells[1])
    assert release(PACKAGE) in cpu.origin, "make ppa-cpu measures the installed CPU"
    assert 0 < cpu.clocked < 10 < cpu.flip_flops


def test_an_architecture_that_is_one_unit_has_all_of_it():
    config = load_config({"architecture": "streaming"})
    report = report_of(config, (verilog.ROOT,), [{"unit": 40.0, verilog.ROOT: 2.0}] * 2)
    assert report.units[verilog.ROOT].uj == pytest.approx(1050 * (42 + 2 * 4) * 1e-6)


@pytest.mark.parametrize(
    "arguments, reason",
    (
        (["--mhz", "50"], "name the network with --model"),
        (["--no-clock-gating"], "name the network with --model"),
        (["--model", "{app}", "--sample", "x.npy"], "--sample is for a model file"),
        (["--model", "{app}", "--rows", "4"], "was generated for .*generate it again"),
        (["--model", "{app}", "--mhz", "inf"], "--mhz inf is not a clock"),
        (["--model", "nothing.pt2"], "nothing.pt2"),
    ),
)
def test_what_is_not_for_the_network_is_refused_at_once(tmp_path, monkeypatch, arguments, reason):
    monkeypatch.setattr("gen.flows.measure.ppa.application_energy", None)
    monkeypatch.chdir(tmp_path)
    config = Config(rows=2, cols=2, ports=1)
    generate_application(nn.Linear(3, 2), torch.rand(1, 3), config, tmp_path / "app", ImportOptions(), name="small")
    result = CliRunner().invoke(main, ["ppa", *(a.format(app=tmp_path / "app") for a in arguments)])
    assert result.exit_code == 1
    assert re.search(reason, result.output.replace("\n", " "))
