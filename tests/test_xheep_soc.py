# SPDX-License-Identifier: Apache-2.0
"""The real X-HEEP: the same firmware gives the same bits, in the cycles that the virtual SoC says.

`pytest -m xheep` runs it when XHEEP_DIR names a checkout of X-HEEP, with its tools on PATH (docs/xheep.md); its
generated files are rewritten. Geometries as in XHEEP_GEOMETRIES (default: all of them); XHEEP_APP = app (X-HEEP's
CMake flow, default) or app-freestanding chooses how programs are built. A build of the simulator takes minutes; with
XHEEP_WORK = folder the projects stay there, and a simulator of the same Verilog is used again. With XHEEP_RESULTS =
folder what was measured goes into its xheep.json, for docs/xheep-measured.md; XHEEP_NAME says what checkout it was.
"""

import datetime
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import heepgen
from examples import networks
from examples.mlperf_tiny import networks as mlperf
from firmware_gen.architectures import registry
from firmware_gen.architectures.registry import architecture_of
from gen.documents.measured.xheep import XheepRun, keep
from gen.flows.measure.run import run, run_program
from gen.flows.network.several import generate_several
from gen.flows.network.sw import generate_sw
from gen.flows.soc.xheep import generate_xheep
from hls.bus.head import INTERFACE_VERSION
from hls.config import Config, System
from hls.streaming.config import StreamingConfig
from tests.house import ROOT

pytestmark = [pytest.mark.xheep, pytest.mark.external("XHEEP_DIR")]
GEOMETRIES = ("4x4-1", "4x4-2", "8x8-1", "8x8-2", "4x4-1-plic", "4x4-streaming", "int8_dot")
INT8_DOT = ROOT / "examples" / "architectures" / "int8_dot"
SELECTED = os.environ.get("XHEEP_GEOMETRIES", ",".join(GEOMETRIES)).split(",")
NETWORKS = {
    "digits": (networks.digits, (1, 8, 8)),
    "fmnist_conv2d": (lambda: networks.two_convolutions((4, 4), (16, 8)), (1, 14, 14)),
    "resnet8": (mlperf.resnet8, (3, 32, 32)),
    "mobilenet": (mlperf.mobilenet, (3, 96, 96)),  # its constants spill below the interleaved banks
    "ds_cnn": (mlperf.ds_cnn, (1, 49, 10)),
    "autoencoder": (mlperf.autoencoder, (640,)),
    "autoencoder_int4": (mlperf.autoencoder, (640,)),
    "autoencoder_14": (mlperf.autoencoder, (640,)),  # X-HEEP's memory does not hold all 196 inputs of a clip
}
OPTIONS: dict[str, dict[str, Any]] = {"autoencoder_int4": {"weights": "int4"}, "autoencoder_14": {"batch": 14}}
EVERYWHERE = ("digits", "fmnist_conv2d", "resnet8")
MORE = "4x4-1"
"""Where programs are tried that would show the same on any geometry."""
CASES = [
    *((geometry, network) for geometry in GEOMETRIES[:4] for network in EVERYWHERE),
    *(("8x8-2", network) for network in NETWORKS if network not in EVERYWHERE),
    *((geometry, "digits") for geometry in GEOMETRIES[4:]),
]
STEPS = 4
STEPPED = f"""\
#include "model.hpp"
#include "soc.hpp"

int main() {{
  for (int step = 0; step < {STEPS}; ++step) {{
    for (uint32_t i = 0; i < kModelInputs; ++i) model_input()[i] = static_cast<float>((step * step + i) % 7) - 3;
    if (model_run() != heepstor::Status::ok) return 1;
    for (uint32_t i = 0; i < kModelOutputs; ++i) {{
      uint32_t bits;
      __builtin_memcpy(&bits, &model_output()[i], sizeof bits);
      heepstor::print_decimal(bits);
      soc_puts("\\n");
    }}
  }}
  return 0;
}}
"""
SAME_PROGRAM = 0.01
"""The bound for one program on both platforms, where only hardware and bus can differ. `heepgen run`, which builds its
own, may differ by 5 %: by another compiler the CPU's part alone takes more. It is not held to anything where the CPU
feeds the accelerator, so that all of it is the CPU's part."""


class Leaky(nn.Module):
    """Keeps half of what it had before, and adds what is new."""

    def __init__(self):
        super().__init__()
        self.inside, self.outside = nn.Linear(8, 6), nn.Linear(6, 3)
        self.register_buffer("kept", torch.zeros(1, 6))

    def forward(self, x):
        self.kept.mul_(0.5).add_(self.inside(x))
        return self.outside(self.kept)


def leaky(config) -> "heepgen.Network":
    torch.manual_seed(1)
    return heepgen.compile(Leaky().eval(), torch.ones(1, 8), config, name="leaky")


def make(project, *arguments):
    done = subprocess.run(["make", "-C", project, *arguments], capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, f"make {' '.join(arguments)}:\n{(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


def build_simulator(project):
    """`make verilator-sim`, unless there is one of the same Verilog."""
    sources = sorted(p for pattern in ("hw/**/*.*v", "tb/*.*") for p in project.glob(pattern))
    inputs = [project / "heepstor_soc.core", project / "xheep_cfg.py", *sources]
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in inputs)).hexdigest()
    stamp = project / "build" / "tested"
    if not stamp.exists() or stamp.read_text() != digest:
        make(project, "verilator-sim")
        stamp.write_text(digest)


def configuration(geometry) -> System:
    if geometry == "int8_dot":
        return registry.load_config(architecture=INT8_DOT)
    size, kind = re.match(r"(\d+)x\d+-(\d|streaming)", geometry).groups()
    if kind == "streaming":
        return StreamingConfig(rows=int(size), cols=int(size))
    return Config(rows=int(size), cols=int(size), ports=int(kind))


@pytest.fixture(scope="module")
def nothing_loaded():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_loaded", {})
        yield


@pytest.fixture(scope="module", params=GEOMETRIES)
def soc(request, nothing_loaded, tmp_path_factory):
    """A project with this geometry's networks, X-HEEP generated for it, and the simulator built."""
    if request.param not in SELECTED:
        pytest.skip("not in XHEEP_GEOMETRIES")
    config = configuration(request.param)
    kept = os.environ.get("XHEEP_WORK")
    folder = Path(kept).resolve() / request.param if kept else tmp_path_factory.mktemp(request.param)
    folder.mkdir(parents=True, exist_ok=True)
    apps = []
    for name, (network, shape) in NETWORKS.items():
        if (request.param, name) not in CASES:
            continue
        torch.manual_seed(1)
        torch.save(network().eval(), folder / f"{name}.pt")
        generate_sw(
            folder / f"{name}.pt",
            config,
            folder / name,
            input_shape=shape,
            trust_pickle=True,
            force=True,
            append_final_softmax=name in EVERYWHERE,
            **OPTIONS.get(name, {}),
        )
        apps.append(folder / name)
    if request.param == MORE:
        generate_several(apps[:2], config, folder / "several", force=True)
        leaky(config).write(folder / "leaky", force=True)
        (folder / "leaky" / "main.cpp").write_text(STEPPED)
        apps += [folder / "several", folder / "leaky"]
    interrupt = "plic" if request.param.endswith("-plic") else "fast"
    generate_xheep(Path(os.environ["XHEEP_DIR"]), folder / "project", config, apps=apps, interrupt=interrupt)
    make(folder / "project", "mcu-gen")
    build_simulator(folder / "project")
    return request.param, folder, config


def record(geometry, network, cycles, virtual_cycles, *, variables="", run_cycles=None, layers=()):
    """Print a row, and keep it where XHEEP_RESULTS says."""
    print(f"| {network} {variables} | {geometry} | {cycles:,} | {virtual_cycles:,} | {run_cycles or 0:,} |")
    if folder := os.environ.get("XHEEP_RESULTS"):
        commit = ["git", "-C", os.environ["XHEEP_DIR"], "rev-parse", "--short", "HEAD"]
        checkout = os.environ.get("XHEEP_NAME") or subprocess.run(commit, capture_output=True, text=True).stdout.strip()
        day = datetime.date.today().isoformat()
        row = (checkout, geometry, network, variables, INTERFACE_VERSION, day, cycles, virtual_cycles, run_cycles)
        keep(Path(folder), XheepRun(*row, tuple(layers)))


def on_xheep(project, network, *variables):
    """(cycles, mismatches, text of the UART) of a run on X-HEEP; the program stays in X-HEEP's sw/build."""
    make(project, os.environ.get("XHEEP_APP", "app"), f"PROJECT={network}", *variables)
    printed = make(project, "run-verilator", "MAX_CYCLES=20000000")
    found = re.search(r"HG ok cycles=(\d+) mismatches=(\d+)", printed)
    assert found, printed[-2000:]
    return int(found[1]), int(found[2]), printed


def program():
    return Path(os.environ["XHEEP_DIR"]) / "sw" / "build" / "main.elf"


@pytest.mark.parametrize("network", NETWORKS)
def test_same_bits_and_cycles(soc, network):
    geometry, folder, config = soc
    if (geometry, network) not in CASES:
        pytest.skip("not of this geometry")
    cycles, mismatches, _ = on_xheep(folder / "project", network)
    same = run(folder / network, config, elf=program())
    assert mismatches == 0
    assert same.bit_exact
    own = None
    if architecture_of(config).masters(config):
        toolchain = "gcc" if shutil.which("riscv64-unknown-elf-g++") else "zig"
        virtual = run(folder / network, config, toolchain=toolchain)
        assert virtual.bit_exact
        own = virtual.total_cycles
    record(geometry, network, cycles, same.total_cycles, run_cycles=own)
    assert abs(cycles - same.total_cycles) <= SAME_PROGRAM * same.total_cycles
    if own is not None:
        assert abs(cycles - own) <= 0.05 * own


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_end_in_the_same_cycle(soc, network):
    """To the cycle, up to Softmax, whose code does not run in lockstep with the accelerator."""
    geometry, folder, config = soc
    if (geometry, network) not in CASES:
        pytest.skip("not of this geometry")
    cycles, mismatches, printed = on_xheep(folder / "project", network, "PRINT_LAYER_CYCLES=1")
    same = run(folder / network, config, elf=program())
    here, there = (re.findall(r"^HG layer (\d+) (.*?)\r?$", text, re.M) for text in (printed, same.uart))
    layers = [layer for layer in same.layers if layer.cycles]
    assert mismatches == 0 and same.bit_exact
    assert [name for _, name in here] == [name for _, name in there] == [layer.name for layer in layers]
    array = next((i for i, layer in enumerate(layers) if layer.op == "Softmax"), len(layers))
    assert array >= 3
    ends = [(name, int(end), int(other)) for (end, name), (other, _) in zip(here, there, strict=True)]
    record(geometry, network, cycles, same.total_cycles, variables="PRINT_LAYER_CYCLES", layers=ends)
    assert here[:array] == there[:array]


def test_report_of_the_device(soc):
    """What the program prints is what it prints on the virtual SoC, but for cycles that are the CPU's alone."""
    geometry, folder, config = soc
    if geometry != MORE:
        pytest.skip("once is enough")
    _, mismatches, printed = on_xheep(folder / "project", "digits", "HEEPGEN_REPORT=1")
    same = run(folder / "digits", config, elf=program())
    here, there = (
        re.search(r"^---- heepgen: .*^prediction \d, expected \d$", text.replace("\r", ""), re.M | re.S)[0].splitlines()
        for text in (printed, same.uart)
    )
    differ = [own for own, other in zip(here, there, strict=True) if own != other]
    assert mismatches == 0 and same.bit_exact
    assert all(re.match(r"  .* \(Softmax\): |total: ", line) for line in differ), differ
    for layer in same.layers:
        assert not layer.cycles or any(line.startswith(f"  {layer.name} ({layer.op}): ") for line in here), layer.name
    values = [line.split()[1:] for line in here if re.match(r"  \d: ", line)]
    assert len(values) == 10 and all(computed == expected for computed, expected in values)
    assert re.fullmatch(r"prediction (\d), expected \1", here[-1])


def test_several_networks_in_one_program(soc):
    geometry, folder, config = soc
    if geometry != MORE:
        pytest.skip("once is enough")
    _, _, printed = on_xheep(folder / "project", "digits_fmnist_conv2d")
    same = run_program(folder / "several", config, elf=program())
    here, there = (re.findall(r"HG ok cycles=(\d+) mismatches=0 ", text) for text in (printed, same.uart))
    assert len(here) == len(there) == 2 and same.bit_exact
    for cycles, other in zip(map(int, here), map(int, there), strict=True):
        assert abs(cycles - other) <= SAME_PROGRAM * other


def test_state_is_kept_from_one_inference_to_the_next(soc):
    geometry, folder, config = soc
    if geometry != MORE:
        pytest.skip("once is enough")
    frames = np.array([[[(s * s + i) % 7 - 3 for i in range(8)]] for s in range(STEPS)], np.float32)
    report = leaky(config).run(frames, steps=STEPS)
    assert report.bit_exact
    make(folder / "project", os.environ.get("XHEEP_APP", "app"), "PROJECT=leaky")
    printed = make(folder / "project", "run-verilator")
    said = re.findall(r"^(\d+)\r?$", printed, re.M)
    assert said == [str(bits) for bits in report.outputs[0].astype(np.float32).view(np.uint32).flatten()]


@pytest.mark.parametrize("variable", ["ENABLE_DEBUG_HEEPSTOR_ASSERTIONS", "USE_SOFTWARE_DNN_LAYER_OPERATORS"])
def test_variables_of_heepstor(soc, variable):
    geometry, folder, config = soc
    if geometry != MORE:
        pytest.skip("once is enough")
    cycles, mismatches, _ = on_xheep(folder / "project", "digits", f"{variable}=1")
    same = run(folder / "digits", config, elf=program(), software=variable.startswith("USE_SOFTWARE"))
    record(geometry, "digits", cycles, same.total_cycles, variables=variable)
    assert mismatches == 0
    assert same.bit_exact
    assert abs(cycles - same.total_cycles) <= SAME_PROGRAM * same.total_cycles
