# SPDX-License-Identifier: Apache-2.0
"""`heepgen new-architecture`: what it writes runs at once and says what it computes; nothing of a user is replaced."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from examples.networks import NETWORKS
from examples.raw_multiply.run import multiply_on_soc
from firmware_gen.architectures import registry
from firmware_gen.architectures.registry import load_architecture
from firmware_gen.targets.calls.product import multiply
from firmware_gen.targets.calls.target import product_of
from gen.cli import main
from gen.flows.accelerator.hw import RTL, generate_hw
from gen.flows.accelerator.new_architecture import new_architecture
from hls.errors import HeepgenError
from sim.toolchain import lint


@pytest.fixture(autouse=True)
def in_a_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.chdir(tmp_path)


def heepgen(*arguments):
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_a_network_runs_on_it_at_once(tmp_path):
    status, said = heepgen("new-architecture", "my unit", "--name", "dot_2")
    assert status == 0 and "heepgen check-architecture './my unit'" in said
    assert {path.name for path in (tmp_path / "my unit").iterdir()} == {
        ".heepgen.json",
        "architecture.py",
        "dot_2.sv",
        "driver.hpp",
    }
    example = NETWORKS["digits"]
    x = torch.randn((1, *example.input_shape[1:]), generator=torch.Generator().manual_seed(3))
    torch.export.save(torch.export.export(example.build(seed=3), (x,)), "model.pt2")
    (tmp_path / "small.hjson").write_text("dot_2: {depth: 64}")
    status, said = heepgen(
        "run", "model.pt2", "--architecture", "./my unit", "--config", "small.hjson", "--json", "out.json"
    )
    assert status == 0, said
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["bit_exact"] and "dot_2" in report["geometry"]


def exact(value, fraction):
    """The integer that an element of A becomes, by the words of `compute`."""
    if np.isnan(value):
        return 32767
    if np.isinf(value):
        return int(np.sign(value)) * 32767
    return int(max(-32767, min(32767, Fraction(float(value)) * 2**fraction)))


@pytest.mark.parametrize("depth, fraction, stalls", [(4, 0, 0.4), (64, 13, 0.0)])
def test_firmware_and_verilog_give_the_bits_of_its_words(tmp_path, depth, fraction, stalls):
    new_architecture("unit_of_mine", "dot_2")
    architecture = load_architecture(tmp_path / "unit_of_mine")
    config = architecture.config(depth=depth, fraction=fraction)
    rng = np.random.default_rng(depth)
    a = (rng.standard_normal((9, 70)) * 10.0 ** rng.integers(-3, 6, (9, 70))).astype(np.float32)
    a[rng.random(a.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf, -0.0, 1e-45, 32767.0, -32767.5])
    b = rng.integers(-128, 128, (70, 5)).astype(np.int8)
    got, _ = multiply_on_soc(config, a, b, stalls)
    assert np.array_equal(got, multiply(product_of(architecture.software, config), a, b))
    part = a[:, :depth]
    elements = np.array([[exact(value, fraction) for value in row] for row in part], object)
    want = (elements @ b[:depth].astype(object)).astype(np.float32) * np.float32(2.0**-fraction)
    assert np.array_equal(architecture.software.compute(config, part, b[:depth]), want)


@pytest.mark.parametrize("depth", [4, 256])
def test_verilog_passes_lint(tmp_path, depth):
    new_architecture("unit", "a")
    config = load_architecture(tmp_path / "unit").config(depth=depth)
    generate_hw(config, tmp_path / "hw")
    lint(sorted((tmp_path / "hw" / RTL).iterdir()), config.root)


@pytest.mark.parametrize(
    "folder, name, parts",
    [
        ("Wire", None, ["Wire gives no name", "called wire", "--name says one"]),
        ("9lives", None, ["9lives gives no name", "first a letter"]),
        ("a", "Mine", ["--name: Mine", "small letters"]),
        ("a", "", ["--name", "small letters"]),
        ("a", "cpu", ["--name", "heepgen's own"]),
        ("a", "memory", ["--name", "section"]),
        ("a", "heepstor", ["--name", "module", "heepstor"]),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, folder, name, parts):
    with pytest.raises(HeepgenError) as caught:
        new_architecture(folder, name)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message
    assert not list(tmp_path.iterdir())


def test_nothing_of_the_users_is_replaced(tmp_path):
    new_architecture("mine")
    new_architecture("mine", "renamed")
    driver = tmp_path / "mine" / "driver.hpp"
    driver.write_text(driver.read_text() + "// mine\n")
    for force in ((), ("--force",)):
        assert heepgen("new-architecture", "mine", *force)[0] == (0 if force else 1)
    assert "// mine" not in driver.read_text() and "// mine" in (tmp_path / "mine.old" / "driver.hpp").read_text()
