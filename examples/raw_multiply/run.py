# SPDX-License-Identifier: Apache-2.0
"""Multiply random matrices on an accelerator, on the virtual SoC, and compare every bit with the architecture's NumPy
function: python -m examples.raw_multiply.run ARCHITECTURE [M K N]

ARCHITECTURE is the name of one that multiplies matrices, or its folder. main.cpp is the program, `heepgen hw` writes
the header that it includes.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from firmware_gen.architectures.contract import Gemm
from firmware_gen.architectures.registry import architecture_of, load_config
from firmware_gen.emit.literals import array_values
from firmware_gen.targets.calls.product import multiply
from firmware_gen.targets.calls.target import product_of
from gen.flows.accelerator.hw import RTL, SOFTWARE, generate_hw
from hls.config import System
from hls.errors import HeepgenError
from sim.elf import symbols
from sim.firmware import compile_firmware
from sim.run import RunResult, run_soc

PROGRAM = Path(__file__).with_name("main.cpp")


def data_header(a: np.ndarray, b: np.ndarray) -> str:
    """The matrices as C++ constants."""
    (m, k), n = a.shape, b.shape[1]
    return (
        "#pragma once\n#include <stdint.h>\n"
        f"constexpr uint32_t kM = {m}, kK = {k}, kN = {n};\n"
        f"constexpr float kA[] = {{{array_values(a)}}};\n"
        f"alignas(4) constexpr int8_t kB[] = {{{array_values(b)}}};\n"
    )


def multiply_on_soc(
    config: System, a: np.ndarray, b: np.ndarray, stalls: float = 0.0, rtl: Path | None = None
) -> tuple[np.ndarray, RunResult]:
    """float32 (M, K), int8 (K, N) -> the float32 (M, N) that the accelerator of `config` gives, and how the run went.

    rtl: folder of the Verilog to run, by default that of `config`. Raises `HeepgenError` where the program fails."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        generate_hw(config, work / "hw")
        library = work / "hw" / SOFTWARE
        (work / "data.hpp").write_text(data_header(a, b))
        elf = compile_firmware(
            [PROGRAM, *sorted(library.glob("*.cpp"))], [work, library], {}, config, work / "main.elf"
        )
        place = symbols(elf)["product"], 4 * len(a) * b.shape[1]
        result = run_soc(elf, rtl or work / "hw" / RTL, config, stall_probability=stalls, dump=[place])
        if not result.ok:
            raise HeepgenError(f"the program failed: {result.message or result.uart.strip()}.")
        return np.frombuffer(result.dumps[0], np.float32).reshape(len(a), -1), result


def main(which: str, m: int = 12, k: int = 40, n: int = 24) -> None:
    config = load_config(architecture=which)
    architecture = architecture_of(config)
    if not isinstance(architecture.software, Gemm):
        raise HeepgenError(
            f"architecture {architecture.name} computes whole networks; name one that multiplies matrices."
        )
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), np.float32), rng.integers(-127, 128, (k, n)).astype(np.int8)
    got, result = multiply_on_soc(config, a, b)
    same = np.array_equal(
        got.view(np.uint32), multiply(product_of(architecture.software, config), a, b).view(np.uint32)
    )
    error = np.abs(got - a.astype(np.float64) @ b).max() / np.abs(got).max()
    print(
        f"{m} x {k} times {k} x {n} on {architecture.name}: {result.uart.strip()}, {'every' if same else 'not every'} "
        f"bit as NumPy says, largest error {error:.2e} of the largest value"
    )
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 5):
        sys.exit(__doc__)
    try:
        main(sys.argv[1], *map(int, sys.argv[2:]))
    except (HeepgenError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
