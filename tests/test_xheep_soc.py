"""The real X-HEEP: the same firmware gives the same bits, in the cycles that the virtual SoC says.

Runs when XHEEP_DIR names a checkout of X-HEEP, with its tools on PATH (docs/xheep.md); its generated files are
rewritten. Geometries as in XHEEP_GEOMETRIES (default: all of them); XHEEP_APP = app (X-HEEP's CMake flow, default) or
app-freestanding chooses how programs are built. A build of the simulator takes some ten minutes.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

from examples import networks
from examples.mlperf_tiny import networks as mlperf
from gen.run import run
from gen.sw import generate_sw
from gen.xheep import generate_xheep
from hls.config import Config

pytestmark = pytest.mark.xheep
GEOMETRIES = ("4x4-1", "4x4-2", "8x8-1", "8x8-2")
SELECTED = os.environ.get("XHEEP_GEOMETRIES", ",".join(GEOMETRIES)).split(",")
NETWORKS = {
    "digits": (networks.digits, (1, 1, 8, 8)),
    "fmnist_conv2d": (lambda: networks.two_convolutions((4, 4), (16, 8)), (1, 1, 14, 14)),
    "resnet8": (mlperf.resnet8, (1, 3, 32, 32)),
}


def make(project, *arguments):
    done = subprocess.run(["make", "-C", project, *arguments], capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, f"make {' '.join(arguments)}:\n{(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module", params=GEOMETRIES)
def soc(request, tmp_path_factory):
    """A project with all networks, X-HEEP generated for it, and the simulator built."""
    if request.param not in SELECTED:
        pytest.skip("not in XHEEP_GEOMETRIES")
    size, ports = re.fullmatch(r"(\d+)x\d+-(\d)", request.param).groups()
    config = Config(rows=int(size), cols=int(size), ports=int(ports))
    folder = tmp_path_factory.mktemp(request.param)
    apps = []
    for name, (network, shape) in NETWORKS.items():
        torch.manual_seed(1)
        torch.save(network().eval(), folder / f"{name}.pt")
        generate_sw(folder / f"{name}.pt", config, folder / name, input_shape=shape[1:], append_final_softmax=True,
                    trust_pickle=True)
        apps.append(folder / name)
    generate_xheep(Path(os.environ["XHEEP_DIR"]), folder / "project", config, apps=apps)
    make(folder / "project", "mcu-gen")
    make(folder / "project", "verilator-sim")
    return folder, config


@pytest.mark.parametrize("network", NETWORKS)
def test_same_bits_and_cycles_within_five_percent(soc, network):
    folder, config = soc
    make(folder / "project", os.environ.get("XHEEP_APP", "app"), f"PROJECT={network}")
    printed = make(folder / "project", "run-verilator", "MAX_CYCLES=20000000")
    found = re.search(r"HG ok cycles=(\d+) mismatches=(\d+)", printed)
    assert found, printed[-2000:]
    virtual = run(folder / network, config)
    print(f"{network} {config.rows}x{config.cols}, {config.ports} port(s): X-HEEP {found[1]}, virtual "
          f"{virtual.total_cycles} cycles")
    assert virtual.bit_exact
    assert int(found[2]) == 0
    assert abs(int(found[1]) - virtual.total_cycles) <= 0.05 * virtual.total_cycles
