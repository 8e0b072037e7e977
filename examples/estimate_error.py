# SPDX-License-Identifier: Apache-2.0
"""How far the quick estimate of `heepgen explore` is from the cycle model: `python -m examples.estimate_error`,
`make estimate-error`."""

import argparse
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from gen.explore.exact import Taken, exactly
from gen.explore.fast import quickly, together
from gen.explore.space import Space
from gen.explore.subject import Network
from hls.config import ARITHMETICS, Config
from hls.errors import HeepgenError

SPACE = Space(
    (Config(),),
    {
        "rows": tuple(range(1, 33)),
        "cols": tuple(range(1, 33)),
        "ports": (1, 2, 3, 4),
        "arithmetic": ARITHMETICS,
        "functions": (True, False),
    },
    (Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4)),
)
"""From which configurations are drawn."""

USUAL = ("digits", "fmnist-conv2d", "resnet8", "ds-cnn", "mobilenet-v1-0.25", "fc-autoencoder")


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


@lru_cache(maxsize=1)
def groups() -> tuple[tuple[Config, ...], dict[Hashable, list[Config]]]:
    """All of the space, and those that are estimated together, by what they have in common."""
    configs = tuple(config for config in SPACE.combinations().configs if isinstance(config, Config))
    alike: dict[Hashable, list[Config]] = {}
    for config in configs:
        alike.setdefault(together(config), []).append(config)
    return configs, alike


def network(name: str, model: torch.nn.Module, shape: tuple[int, ...]) -> Network:
    """For configurations with functions, and without."""
    data = np.random.default_rng(1).standard_normal(shape, np.float32)
    configs = Config(), Config(functions=False)
    return Network.of(name, configs, lambda config: CodeGenerator(model.eval(), data, None, config, name=name))


def compared(network: Network, points: int, seed: int, most: float = np.inf) -> Iterator[Compared]:
    """Configurations on which the network runs, estimated as `heepgen explore` does it in the whole space. most: cycles
    of those that are taken."""
    configs, alike = groups()
    found = 0
    for number in np.random.default_rng(seed).permutation(len(configs)):
        if found == points:
            return
        config = configs[number]
        (quick,) = quickly(network, [config], alike[together(config)])
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
                f"  {name} {c.rows}x{c.cols}p{c.ports} {c.arithmetic}, {c.activation_words} words, "
                f"{c.scratchpad_words} on chip: "
                f"{point.quick:,} for {point.exact:,}, {point.error:+.1%}",
                flush=True,
            )
        print(f"{name}: {len(errors)} points, mean error {np.mean(errors):.2%}, largest {max(errors):.1%}", flush=True)


if __name__ == "__main__":
    main()
