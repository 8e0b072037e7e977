# SPDX-License-Identifier: Apache-2.0
"""Measures what the CPU's loops take, on its RTL: `python -m examples.cpu_cycles`, `make cpu-cycles`."""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import nnls  # type: ignore[import-untyped]
from torch import nn

import heepgen
from firmware_gen import ir
from firmware_gen.ir.costs import COSTS
from firmware_gen.models.cpu_cycles import Iterations, cycles_of, iterations_of
from firmware_gen.targets.calls.estimate import layer_iterations, product_iterations
from gen.results.runs.run import RunReport
from hls.output import write_file

LEAST = 0.005
"""Cycles of an iteration below which it is said to take none."""


@dataclass(frozen=True)
class Row:
    """A layer: iterations of the CPU's loops, the cycles of all else, and of all of it."""

    op: str
    iterations: Iterations
    known: int
    cycles: int


class Operators(nn.Module):
    """What is the CPU's beside an accelerator too, small and large."""

    INPUTS = (
        (8, 10),
        (3, 64),
        (1, 200),
        (1, 5, 4, 4),
        (1, 12, 6, 7),
        (4, 16),
        (12, 48),
        (1, 20, 16),
        (7, 13),
        (6, 30),
        (9, 5),
    )

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.LayerNorm(48), nn.LayerNorm(10), nn.LayerNorm(200)])
        self.squares = nn.ModuleList([nn.RMSNorm(16), nn.RMSNorm(48), nn.RMSNorm(200)])

    def forward(self, a, b, c, d, e, f, g, h, i, j, k):  # type: ignore[no-untyped-def]
        softmax = [t.softmax(-1) for t in (a, b, c)] + [d.softmax(1), e.softmax(1)]
        logarithms = [t.log_softmax(-1) for t in (a, b, c)] + [e.log_softmax(1)]
        norms = [norm(t) for norm, t in zip(self.norms, (f, g, a, c), strict=True)]
        norms += [norm(t) for norm, t in zip(self.squares, (f, g, c), strict=True)]
        scores = h @ h.transpose(1, 2)
        heads = h.reshape(1, 20, 4, 4).transpose(1, 2)
        products = [scores, scores @ h, g.T @ g, f @ f.T, heads @ heads.transpose(2, 3)]
        products += [x for m in (i, j, k) for x in (m @ m.T, m.T @ m)] + [i @ i.T @ i, k @ k.T @ k]
        functions = [torch.exp(b), torch.exp(c), torch.log(b), torch.log(e), torch.rsqrt(b), torch.rsqrt(e)]
        functions += [torch.sqrt(b), torch.sqrt(c), 1 / b, 1 / e]
        whole = (torch.floor, torch.ceil, torch.trunc, torch.round, torch.sin, torch.cos)
        functions += [function(20 * x) for function in whole for x in (b, e, c)]
        return (*softmax, *logarithms, *norms, *products, *functions)


class Kernels(nn.Module):
    """What an accelerator of matrix products leaves to the CPU, and convolutions and Linear layers."""

    INPUTS = (
        (1, 3, 12, 12),
        (1, 8, 10, 10),
        (1, 16, 7, 6),
        (1, 1, 20, 9),
        (5, 40),
        (1, 96),
        (1, 6, 16, 16),
        (1, 32, 6, 6),
    )

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 5, 5, stride=2), nn.Conv2d(3, 4, 1)])
        self.second = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 12, 1), nn.Conv2d(8, 8, 3, groups=2)])
        self.third = nn.ModuleList([nn.Conv2d(16, 6, 3, dilation=2), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 4, (7, 1))])
        self.apart = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 5, groups=8)])
        self.uneven = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6)
        self.single = nn.Conv2d(1, 7, (10, 4), padding=(5, 1), stride=2)
        self.linear = nn.ModuleList([nn.Linear(40, 10), nn.Linear(40, 33)])
        self.vector = nn.ModuleList([nn.Linear(96, 64), nn.Linear(96, 5)])
        self.deep = nn.ModuleList([nn.Conv2d(32, 8, 1), nn.Conv2d(32, 4, 3), nn.Conv2d(32, 16, 3, padding=1)])
        self.wide, self.slopes = nn.Conv2d(16, 40, 3), nn.PReLU(6)
        self.few = nn.ModuleList([nn.Conv2d(8, 6, 1), nn.Conv2d(8, 9, 1), nn.Conv2d(8, 3, 2)])  # outputs beside fours

    def forward(self, a, b, c, d, e, f, g, h):  # type: ignore[no-untyped-def]
        maps = [layer(x) for layers, x in ((self.first, a), (self.second, b), (self.third, c)) for layer in layers]
        inner = self.second[0](maps[0])
        maps += [
            inner,
            self.second[1](inner),
            self.apart[0](inner),
            self.apart[1](inner),
            self.third[1](maps[0].repeat(1, 2, 1, 1)),
        ]
        maps += [layer(b) for layer in self.apart] + [self.uneven(g), self.single(d)]
        deep = self.deep[2](h)
        maps += [deep, self.wide(deep), *(layer(F.relu(h)) for layer in self.deep[:2])]
        pools = [
            F.max_pool2d(b, 2),
            F.max_pool2d(g, 3, 2, 1),
            F.avg_pool2d(b, 2),
            F.avg_pool2d(g, 5, 1),
            b.mean((2, 3)),
        ]
        pools += [F.max_pool2d(c, 2), F.max_pool2d(d, 5), F.avg_pool2d(d, 5), F.max_pool2d(a, (1, 12))]
        small = F.avg_pool2d(inner, 4)
        pools += [F.max_pool2d(inner, 3, 1), small]
        maps += [layer(small) for layer in self.few]
        vectors = [layer(e) for layer in self.linear] + [layer(f) for layer in self.vector]
        elements = [F.silu(g), torch.tanh(f), F.relu(b), F.leaky_relu(e), g * g, b * b, self.slopes(g), f + f, c + c]
        finished = [
            F.silu(self.third[1](c)),
            F.leaky_relu(self.deep[2](h)),
            self.apart[0](b) + b,
            self.second[0](b) * b,
        ]
        return (*maps, *pools, *vectors, *elements, *finished)


class Windows(nn.Module):
    """Convolutions for accelerators of matrix products: with and without padding, of few channels and many."""

    INPUTS = ((1, 1, 8, 8), (1, 3, 12, 12), (1, 8, 10, 10), (1, 16, 7, 6), (1, 1, 20, 9), (1, 12, 6, 9))

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d
        self.first = nn.ModuleList([conv(1, 8, 3, padding=1), conv(1, 5, 5, padding=2), conv(1, 8, 3)])
        self.second = nn.ModuleList([conv(3, 8, 3, padding=1), conv(3, 20, 3, padding=1, stride=2), conv(3, 4, 3)])
        self.third = nn.ModuleList([conv(8, 8, 3, padding=1), conv(8, 16, 3, padding=1, stride=2), conv(8, 12, 3)])
        self.groups = conv(8, 8, 3, groups=2, padding=1)
        self.fourth = nn.ModuleList([conv(16, 6, 3, padding=1), conv(16, 40, 3, padding=1)])
        self.tall, self.uneven = conv(16, 4, (7, 1), padding=(3, 0)), conv(1, 7, (10, 4), padding=(5, 1), stride=2)
        self.fifth = nn.ModuleList([conv(12, 6, 3, padding=1), conv(12, 8, 5, padding=2), conv(12, 12, 1)])
        self.inner = nn.ModuleList([conv(8, 8, 3, padding=1), conv(20, 8, 3, padding=1)])

    def forward(self, a, b, c, d, e, f):  # type: ignore[no-untyped-def]
        first, second = [layer(a) for layer in self.first], [layer(b) for layer in self.second]
        others = [layer(x) for layers, x in ((self.third, c), (self.fourth, d), (self.fifth, f)) for layer in layers]
        inner = [self.inner[0](first[0]), self.inner[0](second[0]), self.inner[1](second[1])]
        return (*first, *second, *others, self.groups(c), self.tall(d), self.uneven(e), *inner)


class Pairs(nn.Module):
    """Products of computed matrices, (matrices, rows, depth, columns)."""

    SIZES = (
        (1, 20, 16, 20),
        (1, 16, 20, 16),
        (4, 20, 4, 20),
        (3, 17, 16, 17),
        (3, 17, 17, 16),
        (1, 13, 7, 13),
        (1, 13, 13, 7),
        (2, 30, 30, 6),
        (2, 30, 6, 30),
        (1, 40, 64, 3),
        (1, 40, 3, 64),
        (1, 9, 5, 9),
        (1, 24, 24, 24),
        (6, 8, 8, 8),
    )
    INPUTS = tuple(
        shape
        for number, (count, rows, depth, columns) in enumerate(SIZES)
        for shape in ((count, rows, depth), (count, depth, columns) if number % 2 else (count, columns, depth))
    )

    def forward(self, *x):  # type: ignore[no-untyped-def]
        pairs = list(zip(x[::2], x[1::2], strict=True))
        return tuple(a @ (b if number % 2 else b.transpose(1, 2)) for number, (a, b) in enumerate(pairs))


PRODUCTS = {"streaming": True, "examples/architectures/int8_dot": False}
"""Architectures on which `Windows` run, and whether their drivers take rows of A where they lie."""


def _run(
    model: nn.Module, architecture: str, progress: Callable[[str], None]
) -> tuple[heepgen.Network, dict[str, int]]:
    """A network that takes random `INPUTS`, and the cycles of its layers."""
    random = torch.Generator().manual_seed(0)
    inputs = tuple(torch.rand(shape, generator=random) + 0.1 for shape in model.INPUTS)  # type: ignore[union-attr]
    net = heepgen.compile(model.eval(), inputs, architecture=architecture, bank_kib=64)
    report = net.run(progress=progress)
    assert isinstance(report, RunReport)
    return net, {layer.name: layer.cycles for layer in report.layers}


def measured(model: nn.Module, progress: Callable[[str], None]) -> list[Row]:
    """Every layer on the CPU alone."""
    net, cycles = _run(model, "cpu", progress)
    program = net.compiled.program
    return [
        Row(layer.op, iterations, 0, cycles[layer.name])
        for layer in program.network.layers
        if (iterations := layer_iterations(program, layer)) and layer.name in cycles
    ]


def windows(architecture: str, pushed: bool, progress: Callable[[str], None]) -> list[Row]:
    """Every convolution of `Windows` on an accelerator of matrix products."""
    net, cycles = _run(Windows(), architecture, progress)
    program, rows = net.compiled.program, []
    for layer, estimate in zip(program.network.layers, net.estimate().layers, strict=True):
        if iterations := product_iterations(program, layer, pushed):
            of_rows = cycles_of(iterations)
            assert of_rows is not None, "of every loop there is a figure, if an old one"
            rows.append(Row(f"{layer.op} on {architecture}", iterations, estimate.cycles - of_rows, cycles[layer.name]))
    return rows


def planes(progress: Callable[[str], None]) -> list[Row]:
    """What the CPU does for every product of `Pairs` that is the array's."""
    net, cycles = _run(Pairs(), "descriptor", progress)
    layers = [layer for layer in net.compiled.program.layers if isinstance(layer.node, ir.Planes)]
    return [Row(layer.op, iterations_of(layer.node, layer), 0, cycles[layer.name]) for layer in layers]


def fitted(rows: list[Row]) -> dict[tuple[str, str], float]:
    """Cycles of an iteration of every loop, those with the least squares of relative errors."""
    loops = sorted({loop for row in rows for loop in row.iterations})
    matrix = np.array([[row.iterations.get(loop, 0) / row.cycles for loop in loops] for row in rows])
    found = nnls(matrix, np.array([1 - row.known / row.cycles for row in rows]))[0]
    return {loop: round(float(value), 3) if value > LEAST else 0.0 for loop, value in zip(loops, found, strict=True)}


def main() -> None:
    argparse.ArgumentParser(prog="python -m examples.cpu_cycles", description=__doc__).parse_args()
    torch.manual_seed(0)
    rows = [row for model in (Operators(), Kernels()) for row in measured(model, print)]
    rows += [row for architecture, pushed in PRODUCTS.items() for row in windows(architecture, pushed, print)]
    rows += planes(print)
    cycles = fitted(rows)
    errors = [
        abs((row.known + sum(cycles[loop] * n for loop, n in row.iterations.items())) / row.cycles - 1) for row in rows
    ]
    by_kernel: dict[str, dict[str, float]] = {}
    for (kernel, loop), value in cycles.items():
        by_kernel.setdefault(kernel, {})[loop] = value
    content: dict[str, Any] = {
        "made_by": "python -m examples.cpu_cycles",
        "layers": len(rows),
        "mean_error": round(float(np.mean(errors)), 4),
        "largest_error": round(float(max(errors)), 4),
        "cycles": by_kernel,
    }
    write_file(COSTS, json.dumps(content, indent=1) + "\n", COSTS.name)
    for row, error in sorted(zip(rows, errors, strict=True), key=lambda pair: -pair[1])[:12]:
        print(f"{row.op:20} {row.cycles:9,} cycles, {100 * error:5.1f} % off  {dict(row.iterations)}")
    print(f"{len(rows)} layers, {100 * np.mean(errors):.1f} % off on average, {100 * max(errors):.1f} % at most")


if __name__ == "__main__":
    main()
