# SPDX-License-Identifier: Apache-2.0
"""Four-valued simulation: registers and memories start unknown, and after reset no unknown reaches an output.

Looked at in every cycle: handshakes, irq and idle always; a request's address, direction and byte enables with the
request; data with a store's request and with a slave's answer. Elsewhere data may be unknown.
"""

import subprocess
import sys

import numpy as np
import pytest

from hls.config import Config
from hls.descriptor.interface.registers import REGIONS, REGISTER
from hls.descriptor.top import generate
from tests.formal.rtl import ROOT
from tests.layers import random_program

SMALL = Config(
    rows=2, cols=2, ports=1, activation_words=256, weight_bytes=256, accumulator_entries=16, scratchpad_words=0
)
CONFIGS = [
    SMALL,
    Config(
        rows=3, cols=2, ports=2, activation_words=256, weight_bytes=256, accumulator_entries=16, scratchpad_words=256
    ),
    Config(
        rows=2,
        cols=3,
        ports=4,
        arithmetic="fma",
        activation_words=256,
        weight_bytes=256,
        accumulator_entries=16,
        scratchpad_words=0,
    ),
]

# Enables become multiplexers: a register's `if` would hide an unknown condition, as it does in RTL.
GATES = """
hierarchy -top {root}
proc
flatten
opt
opt_dff
memory_collect
techmap
opt -fast
dfflegalize -cell $_DFF_P_ x
techmap
simplemap
opt_clean -purge
write_verilog -noattr {out}
"""


def gates(files, folder):
    """The accelerator as gates, multiplexers, plain D flip-flops and memories, in one module."""
    script = f"read_verilog -sv {' '.join(map(str, files))}\n" + GATES.format(
        root=files[0].stem, out=folder / "gates.v"
    )
    job = (
        "import sys; from pyosys import libyosys as y; d = y.Design()\n"
        "for line in sys.stdin.read().splitlines(): y.run_pass(line, d)\n"
    )
    subprocess.run([sys.executable, "-c", job], input=script, text=True, check=True, stdout=subprocess.DEVNULL)
    return [folder / "gates.v"]


def simulate(config, program, files, top, folder, reset=1):
    """Memory afterwards, and the last line that the bench prints."""
    words = program.memory.copy().view(np.uint32)
    (folder / "memory.hex").write_text("\n".join(f"{word:08x}" for word in words))
    writes = [
        (f"{kind}{i}", values[i])
        for i in range(REGIONS)
        for kind, values in (("BASE", program.bases), ("LIMIT", program.limits))
    ]
    writes += [("IRQ_ENABLE", 3), ("DOORBELL", program.doorbell)]
    (folder / "writes.hex").write_text(
        "\n".join(f"{REGISTER[name].offset:08x}{value & 0xFFFFFFFF:08x}" for name, value in writes)
    )
    sizes = {"P": config.ports, "WORDS": len(words), "WRITES": len(writes), "RESET": reset}
    deep = ["sh", "-c", 'ulimit -s unlimited; exec "$@"', "sh"]  # Icarus recurses over a netlist of gates
    subprocess.run(
        [
            *deep,
            "iverilog",
            "-g2012",
            "-o",
            folder / "bench",
            "-s",
            "bench",
            f"-DDUT={top}",
            *(f"-Pbench.{name}={value}" for name, value in sizes.items()),
            ROOT / "tests" / "four_valued.v",
            *files,
        ],
        check=True,
    )
    done = subprocess.run(["vvp", "-n", "bench"], cwd=folder, capture_output=True, text=True, check=True)
    lines = [line for line in (folder / "after.hex").read_text().splitlines() if not line.startswith("//")]
    return lines, done.stdout


def drawn(config, seed, banded=False):
    """A list of one layer, by the first seed from ``seed`` on that gives a banded one if it must be."""
    program = random_program(np.random.default_rng(seed), config, layers=1)
    return program if program.descriptors[0].band or not banded else drawn(config, seed + 1, banded)


def check(config, program, files, top, folder):
    expected, _ = program.expect(config)
    after, text = simulate(config, program, files, top, folder)
    assert "irq=1" in text and text.rstrip().endswith("unknown=0"), text
    assert [line.lower() for line in after] == [f"{word:08x}" for word in expected.view(np.uint32)]


@pytest.mark.external("iverilog")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.rows}x{c.cols}p{c.ports}")
@pytest.mark.parametrize("banded", [False, True])
def test_no_unknown_leaves_the_rtl(config, banded, tmp_path):
    files = generate(config, tmp_path / "rtl")
    check(config, drawn(config, 1, banded), files, files[0].stem, tmp_path)


@pytest.mark.external("iverilog")
def test_gates_compute_a_layer_and_no_unknown_leaves_them(tmp_path):
    files = generate(SMALL, tmp_path / "rtl")
    check(SMALL, drawn(SMALL, 1), gates(files, tmp_path), files[0].stem, tmp_path)


@pytest.mark.external("iverilog")
def test_without_reset_the_bench_sees_unknowns(tmp_path):
    files = generate(SMALL, tmp_path / "rtl")
    program = random_program(np.random.default_rng(1), SMALL, layers=1)
    _, text = simulate(SMALL, program, files, files[0].stem, tmp_path, reset=0)
    assert "unknown irq" in text and not text.rstrip().endswith("unknown=0")
