# SPDX-License-Identifier: Apache-2.0
"""How far the quick estimate of `heepgen explore` is from the cycle model: `python -m examples.estimate_error`,
`make estimate-error`."""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from gen.explore.exact import Taken, exactly
from gen.explore.fast import quickly
from gen.explore.space import BUFFERS
from gen.explore.subject import Network
from hls.config import ARITHMETICS, Config
from hls.errors import HeepgenError

SIDES, PORTS = range(1, 33), range(1, 5)
SCALES = (Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4))
"""Of all buffers."""

USUAL = ("digits", "fmnist-conv2d", "resnet8", "ds-cnn", "mobilenet-v1-0.25", "fc-autoencoder")

DRAWS = 20
"""Configurations that are drawn at most for one on which a network runs."""


@dataclass(frozen=True)
class Compared:
    """One configuration: cycles by the quick estimate, and by the cycle model."""

    config: Config
    quick: int
    exact: int

    @property
    def error(self) -> float:
        """Of the quick estimate, as a part of the exact one; less than 0 where it is too low."""
        return self.quick / self.exact - 1


def drawn(rng: np.random.Generator) -> Config:
    """A configuration from the whole space: every array, port count, arithmetic, size of buffers."""
    scale, default = SCALES[rng.integers(len(SCALES))], Config()
    changed: dict[str, Any] = {name: int(getattr(default, name) * scale) for name in BUFFERS}
    return replace(
        default,
        rows=int(rng.choice(SIDES)),
        cols=int(rng.choice(SIDES)),
        ports=int(rng.choice(PORTS)),
        arithmetic=ARITHMETICS[rng.integers(len(ARITHMETICS))],
        functions=bool(rng.integers(2)),
        **changed,
    )


def network(name: str, model: torch.nn.Module, shape: tuple[int, ...]) -> Network:
    """For configurations with functions, and without."""
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    configs = Config(), Config(functions=False)
    return Network.of(name, configs, lambda config: CodeGenerator(model.eval(), data, None, config, name=name))


def compared(network: Network, points: int, seed: int, most: float = np.inf) -> Iterator[Compared]:
    """Configurations on which the network runs, estimated as one of all arrays, with one to four ports, that are
    otherwise the same. most:
    cycles of those that are taken."""
    rng = np.random.default_rng(seed)
    found = 0
    for config in (drawn(rng) for _ in range(DRAWS * points)):
        if found == points:
            return
        arrays = [
            replace(config, rows=rows, cols=cols, ports=ports)
            for rows, cols, ports in itertools.product(SIDES, SIDES, PORTS)
        ]
        (quick,) = quickly(network, [config], arrays)
        if isinstance(quick, Taken) and quick.cycles <= most:
            try:
                exact = exactly(network, config).cycles
            except HeepgenError:  # the memory is a few bytes too small
                continue
            found += 1
            yield Compared(config, quick.cycles, exact)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=USUAL, metavar="NETWORK")
    parser.add_argument("--points", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=float, default=np.inf, help="cycles of the points that are taken")
    given = parser.parse_args()
    for name in given.names:
        torch.manual_seed(1)
        own = network(name, NETWORKS[name].build(), NETWORKS[name].input_shape)
        errors = []
        for point in compared(own, given.points, given.seed, given.most):
            c = point.config
            errors.append(abs(point.error))
            print(
                f"  {name} {c.rows}x{c.cols}p{c.ports} {c.arithmetic}, {c.activation_words} words: "
                f"{point.quick:,} for {point.exact:,}, {point.error:+.1%}",
                flush=True,
            )
        print(f"{name}: {len(errors)} points, mean error {np.mean(errors):.2%}, largest {max(errors):.1%}", flush=True)


if __name__ == "__main__":
    main()
