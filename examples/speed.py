# SPDX-License-Identifier: Apache-2.0
"""How long the tools take on this machine, in seconds of its processor: prints, and compares with nothing."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from firmware_gen import ir
from firmware_gen.passes.quantise import quantise
from hls.config import Config

NETWORK = "mobilenet-v1-0.25"
"""Its firmware and estimate are timed."""

LARGE = Config(memory_banks=16, memory_banks_interleaved=(64,), bank_kib=256)
"""A memory for chains of any length below."""

CHAINS = ((ir.Linear, (50, 100, 200, 1200)), (ir.Conv, (50, 200)))


def chain(kind: type[ir.Linear] | type[ir.Conv], layers: int) -> ir.Graph:
    """A quantised chain of equal layers: of 16 features, or 3x3 on maps of 8x16x16."""
    rng = np.random.default_rng(0)
    shape = (1, 16) if kind is ir.Linear else (1, 8, 16, 16)

    def layer(i: int) -> ir.Node:
        name, inputs, output = f"layer{i}", (f"v{i}",), f"v{i + 1}"
        if kind is ir.Linear:
            return ir.Linear(name=name, inputs=inputs, output=output, weight=rng.normal(size=(16, 16)))
        weight = rng.normal(size=(8, 8, 3, 3))
        return ir.Conv(name=name, inputs=inputs, output=output, weight=weight, pads=(1, 1, 1, 1))

    nodes = [layer(i) for i in range(layers)]
    values = {f"v{i}": ir.Value(f"v{i}", shape) for i in range(layers + 1)}
    return quantise(ir.Graph("chain", ("v0",), (f"v{layers}",), tuple(nodes), values))


def compiled_in(graph: ir.Graph) -> float:
    """Seconds of the compiler, from a quantised graph to its descriptors."""
    from firmware_gen.targets.descriptor.compiler import compile_choices
    from firmware_gen.targets.descriptor.strips import fastest

    started = time.process_time()
    fastest(compile_choices(graph, LARGE))
    return time.process_time() - started


def command_seconds(*arguments: str) -> float:
    """Seconds of the processor that Python takes for some arguments, where it has compiled its modules before."""
    with tempfile.TemporaryDirectory(prefix="heepgen-") as compiled:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def speeds(model: Path) -> Iterator[tuple[str, str]]:
    """(what, how long) of everything; `model` is NETWORK's file."""
    from gen.documents.measured.bench import parse_geometry
    from hls.descriptor.top import generate

    with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
        started = time.process_time()
        generate(parse_geometry("8x8p2"), f"{work}/hw")
        yield "accelerator 8x8p2, Python to Verilog", f"{time.process_time() - started:.1f} s"
        for name, arguments in (
            ("--help", ["--help"]),
            ("doctor", ["doctor"]),
            (f"estimate, {NETWORK}", ["estimate", str(model)]),
            (f"sw, {NETWORK}", ["sw", str(model), "-o", f"{work}/app"]),
        ):
            seconds = command_seconds("-c", f"from gen.cli import main; main({arguments!r})")
            yield f"heepgen {name}", f"{seconds:.2f} s"
        yield "import torch, which both contain", f"{command_seconds('-c', 'import torch'):.2f} s"
    for kind, lengths in CHAINS:
        for layers in lengths:
            yield f"compiling {layers} {kind.__name__} layers", f"{compiled_in(chain(kind, layers)):.2f} s"
