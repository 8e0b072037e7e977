# SPDX-License-Identifier: Apache-2.0
"""Products without a network, on the virtual SoC: what `heepgen hw` writes for programs of one's own."""

import subprocess
import sys

import numpy as np
import pytest

from examples.raw_multiply.run import multiply_on_soc
from firmware_gen.architectures import registry
from firmware_gen.architectures.registry import find, load_architecture
from firmware_gen.targets.calls.product import multiply
from firmware_gen.targets.calls.target import product_of
from gen.flows.accelerator.hw import RTL, SOFTWARE, generate_hw
from hls.config import Config
from hls.errors import HeepgenError
from tests.house import ROOT

STREAMING = find("streaming")


def matrices(m, k, n):
    rng = np.random.default_rng(m)
    a = rng.standard_normal((m, k), np.float32)
    a[rng.random(a.shape) < 0.05] = rng.choice([np.nan, np.inf, -0.0, 1e-42])
    return a, rng.integers(-128, 128, (k, n)).astype(np.int8)


@pytest.mark.parametrize("sums", [0, pytest.param(16, marks=pytest.mark.slow)])
def test_the_small_architecture_multiplies_matrices_of_any_size(sums):
    config = STREAMING.config(rows=3, cols=5, sums=sums)
    a, b = matrices(21, 17, 13)
    got, _ = multiply_on_soc(config, a, b, stalls=0.1)
    want = multiply(product_of(STREAMING.software, config), a, b)
    assert np.array_equal(got.view(np.uint32), want.view(np.uint32))


def test_other_hardware_is_refused_with_both_names(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_loaded", {})
    architecture = load_architecture(ROOT / "examples" / "architectures" / "int8_dot")
    other, config = (architecture.config(columns=4, depth=depth) for depth in (16, 32))
    generate_hw(other, tmp_path / "other")
    with pytest.raises(HeepgenError) as caught:
        multiply_on_soc(config, *matrices(2, 2, 2), rtl=tmp_path / "other" / RTL)
    names = [f"int8_dot, configuration {c.hash:08x}" for c in (other, config)]
    assert "the accelerator is {}, this program needs {}".format(*names) in str(caught.value)


def test_whole_networks_have_no_such_header(tmp_path):
    generate_hw(Config(), tmp_path / "hw", generate=lambda config, folder: (folder / "heepstor.v").write_text(""))
    assert not (tmp_path / "hw" / SOFTWARE).exists()


def test_the_example_says_what_it_saw():
    command = [sys.executable, "-m", "examples.raw_multiply.run", "examples/architectures/int8_dot", "3", "5", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "on int8_dot" in done.stdout and "every bit as NumPy says" in done.stdout
    command[-4] = "descriptor"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: architecture descriptor computes whole networks")
