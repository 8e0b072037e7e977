# SPDX-License-Identifier: Apache-2.0
"""What page and datasheet say, as texts: both take every number from here."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.registry import architecture_of
from gen.datasheet.axes import AXES, CYCLES, UNKNOWN, Axis
from gen.datasheet.boards import COUNTED
from gen.datasheet.designs import Move, name_of, written
from gen.datasheet.figures import time_of
from gen.datasheet.path import PathStep, Tried
from gen.datasheet.subject import Network, Subject
from gen.explore.point import STAGES, Point
from gen.records import tables
from gen.results.explore import MEASURED, beside
from hls import __version__
from hls.config import SLAVE_ALIGN, System, own_options

MOST_DESIGNS = 24
"""Of the front that are named; all points are in the table of points."""


@dataclass(frozen=True)
class Tile:
    value: str
    name: str


@dataclass(frozen=True)
class Grid:
    """A table: `texts` columns of names or texts, numbers behind them. chosen: the number of a row to point out."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    chosen: int | None = None


@dataclass(frozen=True)
class StepText:
    """A step in words. cycles: before and after; effects: on all other axes; moved: where the bottleneck goes."""

    change: str
    meaning: str
    reason: str
    cycles: str
    effects: str
    moved: str
    tried: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """See the sections of the page. time, layers and memory: of every network, by name."""

    title: str
    design: str
    judged: str
    limits: str
    tiles: tuple[Tile, ...]
    designs: Grid
    start: str
    steps: tuple[StepText, ...]
    up: tuple[str, ...]
    down: tuple[str, ...]
    time: Mapping[str, Grid]
    energy: Grid | None
    layers: Mapping[str, Grid]
    memory: Mapping[str, Grid]
    interfaces: Grid
    sources: Grid
    options: Grid


def facts_of(subject: Subject) -> Facts:
    path = subject.path
    peak = architecture_of(subject.config).most_macs(subject.config)
    size = f", {path.area.shown(path.area.of(path.start))} {path.area.title}" if path.area else ""
    return Facts(
        title=subject.title,
        design=subject.design,
        judged=_judged(subject),
        limits=_limits(subject),
        tiles=tuple(_tiles(subject)),
        designs=_designs(subject),
        start=f"{name_of(path.start)}: {_cycles(path.start)} cycles{size}",
        steps=tuple(_step(step, subject.axes) for step in path.steps),
        up=tuple(_neighbour(move, subject.axes) for move in path.up),
        down=tuple(_neighbour(move, subject.axes) for move in path.down),
        time={
            network.name: _shares(time_of(network), "cycles of layers that it binds", 0) for network in subject.networks
        },
        energy=_shares(list(subject.energy.items()), "uJ of an inference", 3) if subject.energy else None,
        layers={network.name: _layers(network, peak) for network in subject.networks},
        memory={network.name: _memory(network, subject.config) for network in subject.networks},
        interfaces=_interfaces(subject.config),
        sources=_sources(subject),
        options=_options(subject),
    )


def _judged(subject: Subject) -> str:
    counts = [f"{count:,} {_STAGES[stage]}" for stage in STAGES if (count := subject.stages.get(stage))]
    judged = ": ".join(filter(None, (f"{len(subject.points):,} designs judged", ", ".join(counts))))
    return f"{judged}. {len(subject.front):,} of them are on the front."


_STAGES = {
    "bound": "by bounds",
    "fast": "by the quick estimate",
    "exact": "by the cycle model",
    "simulated": "by simulating the RTL",
}


def _limits(subject: Subject) -> str:
    words = [f"{AXES[name].label} up to {most:,.10g}" for name, most in subject.limits.items()]
    board = subject.board
    where = f" On {board.title} ({board.device}; {board.source}):" if board else ""
    other = board is not None and board.family != COUNTED
    caution = " Designs are counted in cells of UltraScale+, which this FPGA has not: leave room." if other else ""
    return f"Limits:{where} {', '.join(words)}.{caution}" if words else "No limits were given."


def _tiles(subject: Subject) -> Iterator[Tile]:
    point = subject.recommended
    yield Tile(AXES["cycles"].shown(point.cycles), f"cycles of {_inference(subject)}")
    if point.modelled is not None:
        cycles, error = beside(point)
        yield Tile(cycles, f"cycles by the cycle model ({error} %); those above were measured")
    if len(subject.networks) > 1:
        yield from (Tile(f"{cycles:,}", f"cycles of {name}") for name, cycles in point.by_model.items())
    for axis in subject.axes:
        if axis.name in _TILES and axis.name != "cycles":
            words = axis.label
            if axis.name == "us" and point.mhz is not None:
                words += f" at {AXES['mhz'].shown(point.mhz)} MHz"
            if axis.name in subject.limits:
                words += f", of {subject.limits[axis.name]:,.10g}"
            yield Tile(axis.shown(axis.of(point)), words)
    yield Tile(point.bottleneck, "binds most cycles")


def _inference(subject: Subject) -> str:
    """What `cycles` are those of."""
    if len(subject.networks) < 2:
        return "an inference"
    if subject.weights is None:
        return "the slowest model"
    return f"the models, mean weighted by {', '.join(f'{weight:g}' for weight in subject.weights)}"


_TILES = ("cycles", "us", "uj", "lut", "dsp", "bram", "kge", "ram_kib", "accuracy")


def _designs(subject: Subject) -> Grid:
    front = sorted(subject.front, key=lambda point: (point.cycles, point.number))
    every = max(1, -(-len(front) // MOST_DESIGNS))
    named = {point.number: point for point in front[::every]}
    simulated = [point for point in subject.points if point.stage == "simulated"]
    for point in (subject.recommended, subject.path.start, *front[-1:], *simulated):
        named[point.number] = point
    shown = sorted(named.values(), key=lambda point: (point.cycles, point.number))
    models = [network.name for network in subject.networks] if len(subject.networks) > 1 else []
    measured = any(point.modelled is not None for point in shown)
    rows = [
        (
            name_of(point),
            point.bottleneck,
            point.stage,
            str(point.number),
            *(axis.shown(axis.of(point)) for axis in subject.axes),
            *(beside(point) if measured else ()),
            *(AXES["cycles"].shown(point.by_model.get(name)) for name in models),
        )
        for point in shown
    ]
    chosen = [point.number for point in shown].index(subject.recommended.number)
    numbers = [
        *(axis.label for axis in subject.axes),
        *(MEASURED if measured else ()),
        *(f"cycles of {name}" for name in models),
    ]
    heads = ("design", "binds", "cycles by", "point", *numbers)
    return Grid(heads, tuple(rows), 3, chosen)


def _step(step: PathStep, axes: Sequence[Axis]) -> StepText:
    before, after = step.before.bottleneck, step.after.bottleneck
    return StepText(
        change=step.change,
        meaning=step.meaning,
        reason=f"most cycles are bound by {before}" + (f": {step.reason}" if step.reason else ""),
        cycles=f"{_cycles(step.before)} to {_cycles(step.after)} cycles ({_share(step)})",
        effects=_effects(step, axes),
        moved=f"the bottleneck moves from {before} to {after}" if step.moved else f"the bottleneck stays {after}",
        tried=tuple(f"{_gain(move, axes)}: {move.verdict}" for move in step.tried),
    )


def _cycles(point: Point) -> str:
    """With a word where they are no more than estimated."""
    return f"{_KNOWN.get(point.stage, '')}{point.cycles:,}"


_KNOWN = {"bound": "at least ", "fast": "about "}


def _share(move: Move) -> str:
    share = 100 * (move.after.cycles / max(move.before.cycles, 1) - 1)
    return f"{share:+.1f} %" if round(share, 1) else "0 %"


def _effects(move: Move, axes: Sequence[Axis]) -> str:
    """Differences on all axes but cycles; what stays is named behind them."""
    others = {axis: move.effect(axis.name) for axis in axes if axis.name != "cycles"}
    shown = {axis: axis.difference(value) for axis, value in others.items() if value is not None}
    words = [", ".join(f"{axis.title} {text} {axis.unit}".rstrip() for axis, text in shown.items() if text != "0")]
    same = ", ".join(axis.title for axis, text in shown.items() if text == "0")
    return "; ".join(filter(None, [*words, same and f"as before: {same}"]))


def _gain(move: Move, axes: Sequence[Axis]) -> str:
    first = [axis for axis in axes if axis.name in ("lut", "kge")][:1]
    area = "".join(f", {a.title} {a.difference(move.effect(a.name))} {a.unit}".rstrip() for a in first)
    return f"{move.change}: {_saved(move)}{area}"


def _neighbour(move: Tried, axes: Sequence[Axis]) -> str:
    return f"{move.change}: {'; '.join(filter(None, (_saved(move), _effects(move, axes), move.verdict)))}"


def _saved(move: Move) -> str:
    least = ", at best" if move.after.stage == STAGES[0] else ""
    return f"cycles {AXES['cycles'].difference(move.effect('cycles'))} ({_share(move)}{least})"


def _shares(parts: Sequence[tuple[str, float]], what: str, digits: int) -> Grid:
    """Parts of a whole, the largest first."""
    total = sum(value for _, value in parts)
    rows = [
        (name, f"{value:,.{digits}f}", tables.ratio(value, total, ".1f", 100))
        for name, value in sorted(parts, key=lambda part: -part[1])
        if value
    ]
    return Grid(("part", what, "share, %"), tuple(rows))


def _layers(network: Network, peak: int) -> Grid:
    rows = [
        (
            layer.name,
            layer.op,
            tables.shape(layer.shape),
            layer.limit.name if layer.limit else "",
            tables.count(layer.macs),
            tables.count(own.cycles),
            tables.ratio(own.cycles, network.total, ".1f", 100),
            tables.count(layer.limit.cycles if layer.limit else 0),
            tables.ratio(own.cycles, layer.limit.cycles if layer.limit else 0),
            tables.ratio(layer.macs, own.cycles * peak, ".1f", 100),
        )
        for layer in network.layers
        for own in (layer.cycles or LayerCycles(0),)
    ]
    heads = (
        "layer",
        "operator",
        "output",
        "binds",
        "MACs",
        "cycles",
        "share, %",
        "limit",
        "cycles / limit",
        "PE use, %",
    )
    return Grid(heads, tuple(rows), 4)


def _memory(network: Network, config: System) -> Grid:
    memory = network.memory
    places = [("program", 0, memory.program_bytes)]
    for name, parts, size in (
        ("constants", memory.constants, memory.constant_bytes),
        ("activations", memory.buffers, memory.arena_bytes),
    ):
        if parts:
            places.append((name, min(part["address"] for part in parts), size))
    for name, tensors in (("input", network.inputs), ("output", network.outputs)):
        places += [(f"{name} {tables.shape(shape)}, FP32", address, 4 * math.prod(shape)) for address, shape in tensors]
    places.append(("end of RAM", config.ram_bytes, 0))
    places.append(("accelerator's registers", config.slave_base, SLAVE_ALIGN))
    rows = tuple((name, f"0x{address:08x}", tables.count(size)) for name, address, size in places)
    return Grid(("what lies there", "address", "bytes"), rows)


def _interfaces(config: System) -> Grid:
    architecture = architecture_of(config)
    if architecture.hardware is None:
        return Grid(("interface", "what it is"), (("none", "the CPU alone computes everything"),), 2)
    masters = architecture.masters(config)
    rows = [
        ("clk, rst_n", "clock, and reset that is active low"),
        ("s_*", f"OBI slave, 32 bits: registers at 0x{config.slave_base:08x}"),
        ("irq", f"interrupt, fast interrupt line {config.irq_line} of X-HEEP"),
        ("idle", "high while the clock may be gated"),
    ]
    if masters:
        rows.insert(
            2, ("m_*", f"{masters} OBI master{'s' if masters > 1 else ''}, 32 bits each, port 0 in the low bits")
        )
    return Grid(("interface", "what it is"), tuple(rows), 2)


def _sources(subject: Subject) -> Grid:
    point = subject.recommended
    how = CYCLES[point.stage]
    if point.modelled is not None:
        cycles, error = beside(point)
        how += f"; the cycle model says {cycles} ({error} %)"
    rows = [(AXES["cycles"].label, AXES["cycles"].shown(point.cycles), how)]
    rows += [(a.label, a.shown(a.of(point)), a.how) for a in subject.axes if a.name != "cycles"]
    rows += [(axis.label, UNKNOWN, "not known, or not asked for") for axis in AXES.values() if axis not in subject.axes]
    rows.append(("layers", "", CYCLES["exact"]))
    rows.append(("memory map", "", "the memory plan of the firmware"))
    return Grid(("figure", "recommended", "how it was obtained"), tuple(rows), 3)


def _options(subject: Subject) -> Grid:
    config = subject.config
    rows = [(o.key, written(getattr(config, o.attribute)), o.meaning) for o in own_options(type(config))]
    rows.append(("configuration hash", f"0x{config.hash:08x}", "what firmware compares at start"))
    rows.append(("heepgen", __version__, "the version that wrote this"))
    return Grid(("option", "value", "what it is"), tuple(rows), 3)
