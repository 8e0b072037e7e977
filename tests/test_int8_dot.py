# SPDX-License-Identifier: Apache-2.0
"""The example of an architecture outside of heepgen: its arithmetic against exact numbers, NumPy = RTL = firmware, and
what its text may be."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from examples.raw_multiply.run import multiply_on_soc
from firmware_gen.architectures import registry
from firmware_gen.architectures.registry import load_architecture, load_config
from firmware_gen.targets.calls.product import multiply
from firmware_gen.targets.calls.target import product_of
from gen.flows.accelerator.hw import RTL, generate_hw
from gen.flows.measure.run import run
from sim.toolchain import lint
from tests.house import ROOT
from tests.random_networks import random_network

FOLDER = ROOT / "examples" / "architectures" / "int8_dot"
SPECIALS = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 2.0**-126, 3.4e38, -3.3895314e38, 127.5, -255.0)


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(registry, "_loaded", {})


@pytest.fixture
def architecture():
    return load_architecture(FOLDER)


def rows(rng, m, k):
    """float32 (m, k): rows of any magnitude, some with ties of the rounding, some with special values."""
    a = rng.standard_normal((m, k), np.float32) * np.float32(2.0) ** rng.integers(-140, 120, (m, 1))
    halves = rng.integers(-254, 255, (m, k)) * np.float32(2.0) ** rng.integers(-60, 60, (m, 1)) / 2
    a = np.where(rng.random((m, 1)) < 0.3, halves, a)
    a = np.where(rng.random((m, k)) < 0.3, 0, a)
    special = rng.choice(SPECIALS, (m, k))
    return np.where((rng.random((m, 1)) < 0.3) & (rng.random((m, k)) < 0.3), special, a).astype(np.float32)


def same_bits(got, want):
    return np.array_equal(got.view(np.uint32), want.view(np.uint32))


def exact(row, column):
    """float32: the element of C that belongs to a row of A and a column of B, by the words of `compute`."""
    if not all(map(math.isfinite, row)):
        return np.float32(np.nan)
    values = [Fraction(float(v)) for v in row]
    power = Fraction(2) ** -126
    while any(abs(round(v / power)) > 127 for v in values):
        power *= 2
    total = sum(round(v / power) * int(w) for v, w in zip(values, column, strict=True))
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(total) * np.float32(float(power))


def test_the_arithmetic_is_that_of_its_words(architecture):
    rng = np.random.default_rng(1)
    for _ in range(12):
        m, k, n = rng.integers(1, (20, 60, 4))
        a, b = rows(rng, m, k), rng.integers(-128, 128, (k, n)).astype(np.int8)
        want = np.array([[exact(row, column) for column in b.T] for row in a], np.float32)
        assert same_bits(architecture.software.compute(architecture.config(), a, b), want)


@pytest.mark.parametrize("columns, depth, stalls", [(4, 16, 0.0), (32, 64, 0.3)])
def test_firmware_and_verilog_give_the_bits_of_numpy(architecture, columns, depth, stalls):
    rng = np.random.default_rng(columns)
    config = architecture.config(columns=columns, depth=depth)
    a, b = rows(rng, 61, 75), rng.integers(-128, 128, (75, 37)).astype(np.int8)
    got, _ = multiply_on_soc(config, a, b, stalls)
    assert same_bits(got, multiply(product_of(architecture.software, config), a, b))


QUICK = [("sequential", 11, 4, 16), ("dag", 12, 32, 64)]
SLOW = [("dag", seed, 4 << seed % 5, 16 << seed % 6) for seed in range(20, 36)]


@pytest.mark.parametrize(
    "kind, seed, columns, depth", [*QUICK, *(pytest.param(*c, marks=pytest.mark.slow) for c in SLOW)]
)
def test_networks_give_the_bits_of_numpy(tmp_path, kind, seed, columns, depth):
    network = random_network(seed, kind, max_depth=6)
    torch.export.save(torch.export.export(network.model, (network.x,)), tmp_path / "net.pt2")
    np.save(tmp_path / "x.npy", network.x.numpy())
    config = load_config(architecture=FOLDER, columns=columns, depth=depth)
    assert run(tmp_path / "net.pt2", config, input_path=tmp_path / "x.npy").bit_exact


def test_cycles_are_about_those_of_the_hardware(architecture, tmp_path):
    config = architecture.config(columns=32, depth=64)
    for m, k, n in ((24, 64, 32), (34, 90, 8)):
        layer, x = torch.nn.Linear(k, n), torch.ones(m, k)
        torch.export.save(torch.export.export(layer, (x,)), tmp_path / "net.pt2")
        (measured,) = run(tmp_path / "net.pt2", config).layers
        assert abs(architecture.software.cycles(config, m, k, n) / measured.cycles - 1) < 0.15


@pytest.mark.parametrize("columns, depth", [(4, 16), (8, 512), (16, 32), (32, 256), (64, 128)])
def test_verilog_passes_lint(architecture, tmp_path, columns, depth):
    config = architecture.config(columns=columns, depth=depth)
    generate_hw(config, tmp_path / "hw")
    lint(sorted((tmp_path / "hw" / RTL).iterdir()), config.root)


def test_it_can_be_read_in_one_sitting():
    lines = [line for file in FOLDER.iterdir() if file.is_file() for line in file.read_text().splitlines()]
    assert 0 < len(lines) <= 400
