# SPDX-License-Identifier: Apache-2.0
"""What tests of X-HEEP projects share: checkouts, an application and projects. Interfaces of X-HEEP come from
tests/xheep_stub, written for these tests."""

import pytest
import torch
from torch import nn

from gen.flows.network.sw import generate_sw
from gen.flows.soc.xheep import generate_xheep
from hls.config import Config
from hls.errors import HeepgenError
from tests.xheep_checkouts import checkout
from xheep_integration.generation import AUGUST_2026, NOVEMBER_2025

CONFIG = Config(rows=4, cols=4, ports=2, activation_words=1024, weight_bytes=256, accumulator_entries=16)


@pytest.fixture(scope="module")
def heep(tmp_path_factory):
    """A folder that looks like an X-HEEP checkout to `heepgen xheep`."""
    return checkout(tmp_path_factory.mktemp("x-heep"), NOVEMBER_2025)


@pytest.fixture(scope="module")
def newer_heep(tmp_path_factory):
    return checkout(tmp_path_factory.mktemp("x-heep"), AUGUST_2026)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 1, 6, 6),)), folder / "small net.pt2")
    generate_sw(folder / "small net.pt2", CONFIG, folder / "app", append_final_softmax=True)
    return folder / "app"


@pytest.fixture(scope="module", params=["fast", "plic"])
def project(request, heep, newer_heep, app, tmp_path_factory):
    """One with each interrupt, and for each generation of X-HEEP."""
    out = tmp_path_factory.mktemp("projects") / request.param
    generate_xheep({"fast": heep, "plic": newer_heep}[request.param], out, CONFIG, apps=[app], interrupt=request.param)
    return out


def refused(tmp_path, match, heep, config=CONFIG, **options):
    with pytest.raises(HeepgenError, match=match):
        generate_xheep(heep, tmp_path / "out", config, **options)
    assert not (tmp_path / "out").exists()
