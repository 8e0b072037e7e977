# SPDX-License-Identifier: Apache-2.0
"""C++ for programs of one's own that multiply matrices on an accelerator, without a network."""

from firmware_gen.architectures.contract import Gemm, limits_of
from firmware_gen.emit.codegen import BANNER, HERE, runtime
from firmware_gen.targets.calls.emission import RUNTIME
from firmware_gen.targets.calls.target import driver_of
from hls.config import System

HEADER = "multiply.hpp"
"""The header to include; the others need not be known."""


def library(gemm: Gemm, config: System) -> dict[str, str]:
    """Text of every file by name: HEADER, which declares `heepstor::multiply`, what it includes, and .cpp files to
    compile with the program."""
    import jinja2

    template = jinja2.Template(
        (HERE / "templates" / f"{HEADER}.j2").read_text(encoding="utf-8"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    limits = limits_of(gemm, config)
    header = template.render(
        banner=BANNER,
        architecture=config.architecture,
        hash=f"0x{config.hash:08x}",
        slave_base=f"0x{config.slave_base:08x}",
        irq_line=config.irq_line,
        depth=limits.k,
        width=limits.n,
    )
    return runtime(RUNTIME) | dict(driver_of(gemm, config).files) | {HEADER: header}
