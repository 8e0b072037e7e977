# SPDX-License-Identifier: Apache-2.0
"""Compares the area that `heepgen ppa` models with that of synthesis, on configurations drawn at random, or on those
that the model was fitted to."""

import argparse
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from gen.documents.measured.unit_figures import SAMPLES, sample
from gen.ppa import composition
from gen.ppa.technology import technology
from hls.config import ARITHMETICS, Config

TOLERANCE, DSP_TOLERANCE = 0.05, 1
"""Of LUTs and kGE relative to synthesis, and of DSP slices."""


@dataclass(frozen=True)
class Comparison:
    """Modelled and synthesised (LUT, DSP, kGE) of a configuration."""

    config: Config
    modelled: tuple[int, int, float]
    measured: tuple[int, int, float]

    @property
    def errors(self) -> tuple[float, int, float]:
        """Relative error of LUTs, that of DSP slices, relative error of kGE."""
        (lut, dsp, kge), (luts, dsps, kges) = self.modelled, self.measured
        return lut / luts - 1, dsp - dsps, kge / kges - 1

    @property
    def holds(self) -> bool:
        lut, dsp, kge = self.errors
        return abs(lut) <= TOLERANCE and abs(dsp) <= DSP_TOLERANCE and abs(kge) <= TOLERANCE

    def __str__(self) -> str:
        (lut, dsp, kge), c = self.errors, self.config
        return (
            f"{c.rows}x{c.cols}p{c.ports}-{c.arithmetic}, {c.activation_words}/{c.weight_bytes}/"
            f"{c.accumulator_entries}/{c.scratchpad_words}{', functions' * c.functions}{', products' * c.multiply}"
            f"{', INT4' * c.int4_weights}{', banded' * c.banded}"
            f"{', scales of 16 bits' * c.packed_scales}: "
            f"LUT {self.modelled[0]:,} of {self.measured[0]:,} ({lut:+.1%}), DSP {self.modelled[1]} of "
            f"{self.measured[1]} ({dsp:+d}), kGE {self.modelled[2]:,.1f} of {self.measured[2]:,.1f} ({kge:+.1%})"
        )


def draw(number: random.Random, largest: int) -> Config:
    """A configuration of at most `largest` rows and columns, every other option from its whole range."""

    def power(low: int, high: int) -> int:
        return 1 << number.randint(low, high)

    return Config(
        rows=number.randint(1, largest),
        cols=number.randint(1, largest),
        ports=number.randint(1, 4),
        arithmetic=number.choice(ARITHMETICS),
        activation_words=power(8, 16),
        weight_bytes=power(8, 16),
        accumulator_entries=power(4, 10),
        scratchpad_words=number.choice([0, power(8, 16)]),
        functions=number.random() < 0.5,
        multiply=number.random() < 0.5,
        int4_weights=number.random() < 0.5,
        banded=number.random() < 0.5,
        packed_scales=number.random() < 0.5,
    )


def compare(config: Config) -> Comparison:
    """Model and synthesise a configuration; minutes, unless it was done before."""
    found = sample(config).parts.values()
    lut, dsp, um2 = (sum(part[metric] for part in found) for metric in ("lut", "dsp", "um2"))
    modelled = composition.cost(config)
    return Comparison(
        config,
        (modelled.lut, modelled.dsp, modelled.kge),
        (round(lut), round(dsp), um2 / technology().gate_area / 1000),
    )


def comparisons(count: int, seed: int, largest: int) -> Iterator[Comparison]:
    """`compare` of random configurations, always the same for a seed."""
    number = random.Random(seed)
    for _ in range(count):
        yield compare(draw(number, largest))


def fitted() -> Iterator[Comparison]:
    """`compare` of the configurations all of whose units the figures were fitted to."""
    return (compare(Config(**changed)) for changed, units in SAMPLES if not units)


def main() -> None:
    """Print the comparisons; exit status 1 where one does not hold."""
    parser = argparse.ArgumentParser(prog="python -m gen.documents.measured.area_check", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="configurations (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: 1)")
    parser.add_argument("--largest", type=int, default=32, help="rows and columns at most (default: 32)")
    parser.add_argument("--fitted", action="store_true", help="those that figures were fitted to, instead")
    given = parser.parse_args()
    held = []
    for comparison in fitted() if given.fitted else comparisons(given.count, given.seed, given.largest):
        print(comparison, flush=True)
        held.append(comparison.holds)
    if not all(held):
        sys.exit(
            f"{held.count(False)} of {len(held)} configurations are further off than {TOLERANCE:.0%} or a DSP slice"
        )


if __name__ == "__main__":
    main()
