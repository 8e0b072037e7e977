# SPDX-License-Identifier: Apache-2.0
"""Stage after stage: every configuration by bounds, those that these leave by the quick estimate, those that may be on
the front by the exact ones."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gen.explore.bound import FEW, at_least, seeds
from gen.explore.fast import together
from gen.explore.front import dominated_by, front
from gen.explore.judge import Files, Task, judgement
from gen.explore.point import BITS, STAGES, Point
from gen.explore.prices import Price, price_of
from gen.explore.space import Combinations, Described, config_of, described
from gen.explore.store import Judgement, Store
from gen.explore.subject import Subject
from gen.explore.workers import Workers
from gen.ppa.energy.model import Work
from hls.config import Config, System, own_options
from hls.errors import HeepgenError

Progress = Callable[[str, int, int], None]

CHUNK = {"fast": 4096, "exact": 1, BITS: 1, "simulated": 1}
"""Configurations of a task, by stage."""

STEPS = {
    "bound": "bounds",
    "fast": "quick estimate",
    "exact": "cycle model",
    BITS: "bits of outputs",
    "simulated": "simulation of the RTL",
}
"""What is said while a stage is at work."""

MODELLED = STAGES[: STAGES.index("simulated")]
"""Stages that decide what is simulated: what was by then says nothing of it, so that a second call chooses the same."""

TOGETHER, WORTH = 2, 1 / 50
"""Seeds that are judged before it is asked whether more of them are worth while: these left out such a part."""

BATCH = 4
"""Configurations of the front that the cycle model judges before the front is looked at again."""

TINY = 1e-9

FPGA, ASIC = ("lut", "dsp", "bram"), ("mm2",)
"""Axes of area: those of an FPGA where one of them is limited."""


JUDGED = ("cycles", "ram_kib")
"""What is limited and found by judging alone; all else needs its price."""

NEEDS = {"uj": "energy"}
"""What of a `Price` that is called otherwise."""

FIGURES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram": "block RAM", "kge": "kGE", "uj": "energy"}
"""Names of what may be limited and has a price."""


@dataclass(frozen=True)
class Limits:
    """The most of everything that is limited, by attribute of `Point`."""

    most: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, most in self.most.items():
            if not most > 0:
                raise HeepgenError(f"the most of {name} is {most:g}, which nothing has: give a number above 0.")

    def exceeded(self, point: Any) -> list[str]:
        """What of a point, or of what has some of its attributes, is beyond; a figure that is missing is not."""
        given = ((name, getattr(point, name, None)) for name in self.most)
        return [name for name, value in given if value is not None and value > self.most[name]]

    def check_known(self, architecture: str, price: Price) -> None:
        """Raises HeepgenError where something is limited of which a design has no figure."""
        for name in self.most:
            if name not in JUDGED and getattr(price, NEEDS.get(name, name)) is None:
                raise HeepgenError(
                    f"{FIGURES[name]} is limited, and heepgen has no figures of it for architecture {architecture} "
                    "(docs/ppa.md says of which): leave that limit or that architecture out."
                )

    @property
    def targets(self) -> bool:
        """Whether an inference may take so much and no more."""
        return not self.most.keys().isdisjoint(("cycles", "uj"))


@dataclass(frozen=True)
class Scoring:
    """Accuracy as an axis. key: of the data sets; samples: first inputs (N, ...) for every network: configurations with
    the same outputs for these have one accuracy; score: finds it, 0 to 1, for a configuration."""

    key: str
    samples: tuple[np.ndarray, ...]
    score: Callable[[System], float]


@dataclass(frozen=True)
class Found:
    """points: all that were judged; front: those that nothing beats on every axis, of those within the limits, by
    cycles; recommended: one of them, None where none is within. simulated: points that were run. refused:
    configurations that are illegal, or do not compile, by reason; over: those beyond a limit by that limit's name;
    nearest: the least that one of these takes of it.
    axes: of the front. left_out: layers whose cycles nobody knows."""

    points: tuple[Point, ...]
    front: tuple[Point, ...]
    recommended: Point | None
    stages: Mapping[str, int]
    refused: Counter[str]
    over: Counter[str]
    nearest: Mapping[str, float]
    axes: tuple[str, ...]
    left_out: tuple[str, ...]
    simulated: tuple[Point, ...]


class Search:
    """An exploration under way; what was found before, as the store knows, is not done again.

    scoring: where accuracies are asked for; applications: those of all networks for a configuration, which are
    simulated.
    """

    def __init__(
        self,
        subject: Subject,
        combinations: Combinations,
        limits: Limits,
        store: Store,
        workers: Workers,
        scoring: Scoring | None = None,
        applications: Callable[[System], tuple[Files, ...]] = lambda config: (),
    ):
        self.subject, self.limits, self.store, self.workers = subject, limits, store, workers
        self._scoring, self._applications = scoring, applications
        self.refused, self.over = Counter(combinations.refused), Counter[str]()
        self.nearest: dict[str, float] = {}
        plain = [described(config) for config in combinations.configs]
        self.given: dict[int, Described] = {}
        self.price: dict[int, Price] = {}
        for number, config, given in zip(store.numbers(plain), combinations.configs, plain, strict=True):
            price = price_of(config)
            limits.check_known(config.architecture, price)
            if beyond := limits.exceeded(price):
                self.over[beyond[0]] += 1
                _lower(self.nearest, beyond[0], price)
            else:
                self.given[number], self.price[number] = given, price
        self.known = store.judged(subject.key)
        self._scored = "" if scoring is None else f"{subject.key} {scoring.key}"
        self.known[BITS] = store.judged(self._scored)[BITS]
        self._points: dict[tuple[str, int], Point] = {}

    def run(self, exact: int, progress: Progress, confirm: int = 0) -> Found:
        """Judge the space; `exact` is how many configurations the cycle model judges at most, and what is recommended
        besides; `confirm` how many of the best are simulated."""
        self._bound(progress)
        self._judge("fast", self._left(exact, progress), progress)
        self._settle(exact, progress)
        self._confirm(confirm, progress)
        return self.found()

    def _bound(self, progress: Progress) -> None:
        """The least that every configuration takes."""
        progress(STEPS["bound"], 0, len(self.given))
        configs = [config_of(given) for given in self.given.values()]
        by_network = [at_least(network, configs) for network in self.subject.networks]
        for number, found in zip(self.given, zip(*by_network, strict=True), strict=True):
            if all(found):
                self.known["bound"][number] = judgement(self.subject, number, "bound", found)
        progress(STEPS["bound"], len(self.given), len(self.given))

    def _left(self, exact: int, progress: Progress) -> list[int]:
        """What may be within the limits, and on the front: its bounds are not beyond, and nothing judged exactly is
        better than these. Of an accuracy there is no bound."""
        least = {point.number: point for point in self.points(("bound",))}
        left = [n for n in self.given if n not in least or not self.limits.exceeded(least[n])]
        bounded = [least[number] for number in left if number in least]
        if self._scoring or not exact or len(bounded) <= FEW:
            return left
        axes = axes_of(bounded, self.limits)
        costs = costs_of(bounded, axes)
        chosen = [bounded[place].number for place in seeds(costs)]
        worse, kept = set[int](), set[int]()
        for some in _parts(chosen, TOGETHER):
            self._judge("exact", some, progress)
            kept.update(some)
            judged = [point for point in self.points(("exact",)) if point.number in some]
            better = costs_of([point for point in judged if not self.limits.exceeded(point)], axes)
            beaten = zip(bounded, dominated_by(costs, better), strict=True)
            new = {point.number for point, is_worse in beaten if is_worse} - worse
            worse |= new
            if len(new) < WORTH * len(bounded):
                break
        return [n for n in left if n not in worse or n in kept]

    def _judge(self, stage: str, numbers: Sequence[int], progress: Progress) -> None:
        """Judge these configurations, as far as that was not done before."""
        groups: dict[Hashable, list[int]] = {}
        for number in numbers:
            if number not in self.known[stage]:
                alike = together(config_of(self.given[number])) if CHUNK[stage] > 1 else number
                groups.setdefault(alike, []).append(number)
        done = len(numbers) - sum(map(len, groups.values()))
        chunks = [part for own in groups.values() for part in _parts(own, CHUNK[stage])]
        tasks = (self._task(stage, part) for part in chunks)
        progress(STEPS[stage], done, len(numbers))
        for judgements in self.workers.results(tasks):
            self.store.add(self._scored if stage == BITS else self.subject.key, judgements)
            self.known[stage] |= {judgement.number: judgement for judgement in judgements}
            done += len(judgements)
            progress(STEPS[stage], done, len(numbers))
        assert self.known[stage].keys() >= set(numbers)

    def _task(self, stage: str, numbers: Sequence[int]) -> Task:
        configs = tuple((number, self.given[number]) for number in numbers)
        return Task(
            stage,
            configs,
            self._applications(config_of(configs[0][1])) if stage == "simulated" else (),
            self._scoring.samples if self._scoring and stage == BITS else (),
        )

    def _confirm(self, count: int, progress: Progress) -> None:
        """Simulate what is recommended, and what is on the front around it, by the cycle model."""
        while True:
            best = [point.number for point in self._by_nearness(self.found(MODELLED))[:count]]
            if best and not self.known["exact"].keys() >= set(best):
                self._judge("exact", best, progress)
                continue
            if best:
                self._judge("simulated", best, progress)
            return

    def _settle(self, most: int, progress: Progress) -> None:
        """The cycle model, and the data set, for what is recommended and for the front around it, until these stand."""
        while True:
            found = self.found(MODELLED)
            near = self._by_nearness(found)
            if self._scoring and (unknown := self._unscored(near)):
                self._evaluate(unknown[:BATCH], self._scoring, progress)
                continue
            rough = [p.number for p in near if STAGES.index(p.stage) < STAGES.index("exact")]
            left = most - len(self.known["exact"].keys() & self.given.keys())
            if most and found.recommended and found.recommended.number in rough[:1]:
                left = max(left, 1)
            if not rough or left <= 0:
                return
            self._judge("exact", rough[: min(left, BATCH)], progress)

    def _by_nearness(self, found: Found) -> list[Point]:
        """The front, what is recommended first, then what differs little from it."""
        if found.recommended is None:
            return list(found.front)
        costs = np.log(np.maximum(costs_of([found.recommended, *found.front], found.axes), TINY))
        distances = np.abs(costs[1:] - costs[0]).sum(axis=1)
        return [found.front[i] for i in np.argsort(distances, kind="stable")]

    def _unscored(self, points: Sequence[Point]) -> list[int]:
        """Points whose accuracy is to be found: where it is not even known of their like, one of each kind, and all
        that the cycle model has judged."""
        kinds: dict[str, int] = {}
        for point in points:
            if point.accuracy is None:
                kinds.setdefault(kind_of(config_of(point.config)), point.number)
        judged = [p.number for p in points if p.number in self.known["exact"] and p.number not in self.known[BITS]]
        return list(dict.fromkeys([*kinds.values(), *judged]))

    def _evaluate(self, numbers: Sequence[int], scoring: Scoring, progress: Progress) -> None:
        """Accuracy of these points, whose cycles are found exactly first: that leaves out what does not compile."""
        self._judge("exact", numbers, progress)
        numbers = [number for number in numbers if self.known["exact"][number].cycles is not None]
        self._judge(BITS, numbers, progress)
        new = {self._bits_of(number): number for number in reversed(numbers)}
        for bits in new.keys() - self.store.scores(self._scored).keys():
            progress("accuracy", 0, 1)
            self.store.add_score(self._scored, bits, scoring.score(config_of(self.given[new[bits]])))
            progress("accuracy", 1, 1)

    def _bits_of(self, number: int) -> str:
        bits: str = self.known[BITS][number].found[BITS]
        return bits

    def _accuracies(self) -> dict[int | str, float]:
        """By number of a point, and, of all that are like one, by `kind_of`."""
        scores = self.store.scores(self._scored) if self._scoring else {}
        found: dict[int | str, float] = {}
        for number in sorted(self.known[BITS].keys() & self.given.keys()):
            if (accuracy := scores.get(self._bits_of(number))) is not None:
                found[number] = accuracy
                found.setdefault(kind_of(config_of(self.given[number])), accuracy)
        return found

    def points(self, stages: Sequence[str] = STAGES) -> tuple[Point, ...]:
        """Everything that was judged, by the best of these stages that did."""
        best: dict[int, Judgement] = {}
        for stage in stages:
            best |= {number: j for number, j in self.known[stage].items() if number in self.given}
        accuracies = self._accuracies()
        points = (self._point(judgement) for _, judgement in sorted(best.items()) if judgement.cycles is not None)
        if not accuracies:
            return tuple(points)
        return tuple(
            replace(p, accuracy=accuracies.get(p.number, accuracies.get(kind_of(config_of(p.config))))) for p in points
        )

    def _point(self, judgement: Judgement) -> Point:
        """Without its accuracy."""
        key = judgement.stage, judgement.number
        if key not in self._points:
            self._points[key] = self._made(judgement)
        return self._points[key]

    def _made(self, judgement: Judgement) -> Point:
        number, found = judgement.number, judgement.found
        price, cycles = self.price[number], judgement.cycles or 0
        model = self.known["exact"][number] if judgement.stage == "simulated" else None
        if model:
            found = {**model.found, **found}
        return Point(
            number=number,
            config=self.given[number],
            cycles=cycles,
            by_model=found["by_model"],
            us=cycles / price.mhz if price.mhz else None,
            uj=self._uj(price, found["work"], cycles / model.cycles if model and model.cycles else 1.0),
            ram_kib=found["ram_kib"],
            accuracy=None,
            stage=judgement.stage,
            bottleneck=found["bottleneck"],
            modelled=model.cycles if model else None,
            **price.figures(),
        )

    def _uj(self, price: Price, work: Sequence[Mapping[str, float]], longer: float) -> float | None:
        """Of an inference, whose cycles are `longer` than `work` has them, as is leakage."""
        if price.energy is None:
            return None
        done = [Work(**own) for own in work]
        return self.subject.combined([price.energy.uj(replace(own, cycles=own.cycles * longer)) for own in done])

    def found(self, stages: Sequence[str] = STAGES) -> Found:
        """What is known by now, by these stages."""
        points = self.points(stages)
        refused, over = Counter(self.refused), Counter(self.over)
        nearest = dict(self.nearest)
        own = [j for stage in stages for n, j in self.known[stage].items() if n in self.given]
        refused.update(judgement.refused for judgement in own if judgement.refused is not None)
        within = []
        for point in points:
            beyond = self.limits.exceeded(point)
            if beyond:
                over[beyond[0]] += 1
                _lower(nearest, beyond[0], point)
            elif point.stage != "bound":
                within.append(point)
        axes = axes_of(within, self.limits)
        best = [within[i] for i in front(costs_of(within, axes))] if within else []
        counts = Counter(judgement.stage for judgement in own)
        chosen = recommended(best, axes, self.limits)
        left_out = self.known[chosen.stage][chosen.number].found["left_out"] if chosen else []
        run = tuple(point for point in points if point.stage == "simulated")
        return Found(
            points=points,
            front=tuple(best),
            recommended=chosen,
            stages=counts,
            refused=refused,
            over=over,
            nearest=nearest,
            axes=axes,
            left_out=tuple(left_out),
            simulated=run,
        )


def _lower(nearest: dict[str, float], name: str, taking: Any) -> None:
    nearest[name] = min(getattr(taking, name), nearest.get(name, getattr(taking, name)))


def _parts(numbers: list[int], size: int) -> list[list[int]]:
    """As many as needed, nearly equal."""
    count = -(-len(numbers) // size)
    return [numbers[first::count] for first in range(count)]


def kind_of(config: System) -> str:
    """Names what the bits of outputs mostly depend on: layers that are cut to fit into small buffers add up in another
    order."""
    own = [o.attribute for o in own_options(type(config))]
    names = ("arithmetic", "rows", "functions", "multiply") if isinstance(config, Config) else own
    return " ".join([config.architecture, *(f"{name}={getattr(config, name)}" for name in names)])


def axes_of(points: Sequence[Point], limits: Limits) -> tuple[str, ...]:
    """The axes of a front, attributes of `Point`: time, area, energy, RAM, accuracy, as far as all have figures."""
    if not points:
        return ("cycles",)
    area = FPGA if not limits.most.keys().isdisjoint(FPGA) else ASIC
    known = [name for name in (*area, "uj", "ram_kib") if all(getattr(p, name) is not None for p in points)]
    time = "us" if all(p.us is not None for p in points) else "cycles"
    accuracy = ["accuracy"] if any(p.accuracy is not None for p in points) else []
    return (time, *known, *accuracy)


def costs_of(points: Sequence[Point], axes: Sequence[str]) -> np.ndarray:
    """(points, axes), less is better. An accuracy that is not known yet may be any."""
    rows = [[_cost(point, axis) for axis in axes] for point in points]
    return np.array(rows, float).reshape(len(rows), len(axes))


def _cost(point: Point, axis: str) -> float:
    value = getattr(point, axis)
    if axis == "accuracy":
        return 0.0 if value is None else 1.0 - value
    return float(value)


def recommended(best: Sequence[Point], axes: Sequence[str], limits: Limits) -> Point | None:
    """One design of a front: where an inference may take so much, the smallest; where only the design is limited, the
    fastest; otherwise that of the least product of all axes but accuracy."""
    if not best:
        return None
    time, *others = axes
    area = next((axis for axis in others if axis in (*FPGA, *ASIC)), time)
    if limits.targets:
        return min(best, key=lambda p: (_cost(p, area), _cost(p, time)))
    if limits.most:
        return min(best, key=lambda p: (_cost(p, time), _cost(p, area)))
    product = np.log(np.maximum(costs_of(best, [axis for axis in axes if axis != "accuracy"]), TINY)).sum(axis=1)
    return best[int(np.argmin(product))]
