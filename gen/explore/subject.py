# SPDX-License-Identifier: Apache-2.0
"""Networks to be explored: quantised once, for every form that an architecture takes them in."""

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import firmware_gen
import hls
import sim
from firmware_gen.architectures.registry import architecture_of, load_architecture
from firmware_gen.turned import graphs_of
from hls import __version__
from hls.config import System
from hls.errors import HeepgenError
from sim.cache import content_key

if TYPE_CHECKING:
    from firmware_gen import ir
    from firmware_gen.api import CodeGenerator

Form = tuple[bool, bool, bool]
"""Whether the layers of a graph end in functions, whether they multiply by a second operand, and whether they compute
statistics of rows."""


def form_of(config: System) -> Form:
    """The form that a configuration takes."""
    architecture = architecture_of(config)
    return architecture.has_functions(config), architecture.has_products(config), architecture.has_statistics(config)


@dataclass(frozen=True)
class Network:
    """A model's quantised graphs, by form. turned: those with rows as columns, of which the faster one is taken; spare:
    those that take their place where memory has no room for them."""

    name: str
    graphs: "Mapping[Form, ir.Graph]"
    turned: "Mapping[Form, ir.Graph]" = field(default_factory=dict)
    spare: "Mapping[Form, ir.Graph]" = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        configs: Iterable[System],
        generated: "Callable[[System], CodeGenerator]",
        complete: "Callable[[ir.Graph], ir.Graph]" = lambda graph: graph,
    ) -> Self:
        """For the forms of these configurations, each of which is `generated` once and made `complete`."""
        graphs: dict[Form, ir.Graph] = {}
        turned: dict[Form, ir.Graph] = {}
        spare: dict[Form, ir.Graph] = {}
        for form, config in {form_of(config): config for config in configs}.items():
            generator = generated(config)
            graphs[form], *others = map(complete, graphs_of(generator.graph, config))
            turned.update((form, other) for other in others)
            if (plain := generator.spare_graph) is not None:
                spare[form] = complete(plain)
        return cls(name, graphs, turned, spare)

    def choices(self, config: System) -> "tuple[ir.Graph, ...]":
        """What a configuration computes, and what it may compute in its place."""
        form = form_of(config)
        return (self.graphs[form], *((self.turned[form],) if form in self.turned else ()))

    def instead(self, config: System) -> "ir.Graph | None":
        """What it computes where memory has no room for the first of these."""
        return self.spare.get(form_of(config))

    def possible(self, config: System) -> "tuple[ir.Graph, ...]":
        """All of them."""
        spare = self.instead(config)
        return (*self.choices(config), *(() if spare is None else (spare,)))


@dataclass(frozen=True)
class Subject:
    """What is explored. weights: of the networks, None where the slowest one counts. architectures: paths of those that
    are loaded from one."""

    networks: tuple[Network, ...]
    weights: tuple[float, ...] | None = None
    architectures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [network.name for network in self.networks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise HeepgenError(f"two models are called {', '.join(twice)}: rename a file.")
        if self.weights is not None and len(self.weights) != len(self.networks):
            raise HeepgenError(f"--weights: {len(self.weights)} numbers for {len(self.networks)} models; give as many.")
        if self.weights is not None and (min(self.weights) < 0 or not sum(self.weights)):
            raise HeepgenError("--weights: must be numbers from 0 on, one of them more.")

    def combined(self, values: Sequence[float], worst: Callable[[Sequence[float]], float] = max) -> float:
        """One figure from one of every network: the worst, or their weighted mean."""
        if self.weights is None:
            return worst(values)
        return sum(w * v for w, v in zip(self.weights, values, strict=True)) / sum(self.weights)

    @cached_property
    def packed(self) -> bytes:
        """For other processes."""
        return pickle.dumps(self)

    @cached_property
    def key(self) -> str:
        """Differs where anything that is found may: another network, or another version of what judges it."""
        packages = [Path(str(package.__file__)).parent for package in (hls, firmware_gen, sim)]
        packages.append(Path(__file__).parent)
        sources = [path for folder in packages for path in sorted(folder.rglob("*.py"))]
        own = [path for folder in self.architectures for path in sorted(_folder(folder).rglob("*.py"))]
        return content_key([__version__, *sources, *own, self.packed])


def unpacked(packed: bytes) -> Subject:
    """The opposite of `Subject.packed`; its architectures are known from then on."""
    subject = pickle.loads(packed)
    assert isinstance(subject, Subject)
    for path in subject.architectures:
        load_architecture(path)
    return subject


def _folder(path: str) -> Path:
    return Path(path) if Path(path).is_dir() else Path(path).parent
