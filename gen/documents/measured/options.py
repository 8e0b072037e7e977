# SPDX-License-Identifier: Apache-2.0
"""What options of a configuration save or take of networks' cycles and energies, at gate level or by the models of
`heepgen explore`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gen.documents.measured.area import FEATURES, Feature
from gen.explore.exact import exactly
from gen.explore.subject import Network
from gen.flows.measure.energy import application_energy
from gen.flows.network.application import Application
from gen.ppa.energy.model import MHZ, prices_of
from gen.ppa.technology import technology
from gen.records.markdown import number_table
from hls.config import Config
from hls.errors import HeepgenError
from hls.output import write_file

DATA, COMMAND = "options.json", "make energy-options"

OPTIONAL = tuple(feature for feature in FEATURES if feature.taken_away)
"""What the default accelerator has and may be without."""

Built = Callable[[Config], Network]
"""A network as a configuration takes it."""


@dataclass(frozen=True)
class Taken:
    """Cycles and uJ of an inference; the standard error of these where they were counted at gate level."""

    cycles: int
    uj: float
    error: float | None = None


Judged = Callable[[Config], Taken | None]
"""What a network takes on a configuration; None where it does not compile."""


@dataclass(frozen=True)
class Option:
    """A network on the default accelerator without an option and with it; None where it does not compile."""

    option: str
    network: str
    without: Taken | None
    having: Taken | None


def options(
    name: str, judge: Judged, progress: Callable[[str], None], chosen: Sequence[Feature] = OPTIONAL
) -> Iterator[Option]:
    """What those options change for a network that the default accelerator has."""
    having = judge(Config())
    for feature in chosen:
        progress(f"{name}: {feature.name}")
        yield Option(feature.name, name, judge(replace(Config(), **feature.change)), having)


def by_model(network: Built) -> Judged:
    """By the cycle model and the model of energies."""

    def judge(config: Config) -> Taken | None:
        try:
            found = exactly(network(config), config)
        except HeepgenError:
            return None
        return Taken(found.cycles, round(prices_of(config).uj(found.work), 3))

    return judge


def at_gate_level(
    application: Callable[[Config], AbstractContextManager[Application]], progress: Callable[[str], None]
) -> Judged:
    """By `application_energy`, clocks gated; raises `HeepgenError` as that does."""

    def judge(config: Config) -> Taken | None:
        with application(config) as made:
            found = application_energy(made, technology().liberty, gated=True, progress=progress)
        error = found.error()
        return Taken(found.cycles, round(found.uj(MHZ), 3), None if error is None else round(error, 3))

    return judge


def known_as(feature: Feature) -> str:
    """The configuration's option, or "all" where it is more than one."""
    return next(iter(feature.change)) if len(feature.change) == 1 else "all"


def write_options(folder: Path, found: Sequence[Option]) -> None:
    """options.json; what was there of other networks and options stays."""
    both = {(one.option, one.network): one for one in [*read_options(folder), *found]}
    write_file(
        folder / DATA, json.dumps([asdict(one) for one in both.values()], indent=1) + "\n", "energies of options"
    )


def read_options(folder: Path) -> list[Option]:
    """What options.json holds; nothing where it is not there."""
    path = folder / DATA
    entries = json.loads(path.read_text()) if path.is_file() else []
    return [
        Option(**entry | {mode: entry[mode] and Taken(**entry[mode]) for mode in ("without", "having")})
        for entry in entries
    ]


def section(found: Sequence[Option], titles: Mapping[str, str]) -> Iterator[str]:
    """Of docs/energy.md; titles: of networks by their names."""
    if not found:
        return
    networks = [*dict.fromkeys(one.network for one in found)]
    known = {(one.option, one.network): one for one in found}
    yield from (
        "## By option",
        "",
        f"What the options of [area](area.md) change that the default accelerator has, by `{COMMAND}`: cycles",
        f"and uJ of an inference at {MHZ:g} MHz, without the option, then with it. By the cycle model and the model of",
        "energies above, whose error is mostly that of both sides; those with +-, the error of sampling, are counted",
        f"at gate level, by `{COMMAND} ENERGY_ARGS=--gates`, with `--only` and `--networks` for some. What was",
        "measured last stands here. Weights have 8 bits; in FC-AE, INT4, those of 4 bits come with the option.",
        "",
    )
    head = ["option", *(title for n in networks for title in (f"{titles.get(n, n)}, cycles", "uJ"))]
    options = dict.fromkeys(one.option for one in found)
    yield from number_table(
        head, [[option, *(c for n in networks for c in _cells(known.get((option, n))))] for option in options]
    )


def _cells(one: Option | None) -> tuple[str, str]:
    if one is None or one.without is None or one.having is None:
        return "-", "-"
    less, more = one.without, one.having
    change = 100 * (more.uj / less.uj - 1)
    cycles = f"{less.cycles:,}" if less.cycles == more.cycles else f"{less.cycles:,} to {more.cycles:,}"
    error = "" if less.error is None or more.error is None else f" +- {max(less.error, more.error):.2f}"
    return cycles, f"{less.uj:.2f} to {more.uj:.2f}{error} ({change:+.1f} %)"
