# SPDX-License-Identifier: Apache-2.0
"""A listing of a compiled network's descriptors, as an assembler prints one: what every one of them does, beside its
words. All of it is read out of the linked words; the program only says what lies where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from firmware_gen import ir
from firmware_gen.emit.cpu_calls import cpu_call
from firmware_gen.operations.functions import table_name
from firmware_gen.operations.tensors import Tensor
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS, Layer, Program
from firmware_gen.targets.descriptor.lowering.epilogue import activation_of, combination_of
from firmware_gen.targets.descriptor.timing.spans import loaded_words
from hls.arithmetic.function import ROW_WORDS
from hls.config import Config
from hls.descriptor.interface.table import ARENA, SCRATCHPAD, WORDS, Linked, Output, split_address, unpack
from hls.descriptor.interface.timing import channels
from hls.errors import HeepgenError

WORDS_PER_LINE = 8

VERBS = {"add": "adds", "multiply": "times", "negative": "negative, times"}
"""What is done with the second operand, by `combination_of`."""


@dataclass(frozen=True)
class Span:
    """Words of a tensor that a descriptor reads or writes.

    box: (first, end, step) along each dimension of `value`, in PyTorch's order; None where they are no such part, as
    rows of a tensor taken as one vector. words: their number, each once. address: of the first one that is touched, in
    bytes of memory, or in words of the scratchpad. ring: words of its ring there, None where it does not go round.
    """

    value: str
    box: tuple[tuple[int, int, int], ...] | None
    words: int
    on_chip: bool
    address: int
    ring: int | None = None

    def __str__(self) -> str:
        where = f"scratchpad word {self.address:#x}" if self.on_chip else f"memory {self.address:#x}"
        where += f", in a ring of {self.ring:,} words" if self.ring else ""
        part = ", ".join(map(_range, self.box)) if self.box else "part"
        return f"{self.value}[{part}], {self.words:,} words, {where}"


@dataclass(frozen=True)
class Constant:
    """A stream of weights or parameters: the constant's name, words per pass, first byte in memory."""

    name: str
    words: int
    address: int

    def __str__(self) -> str:
        return f"{self.name}, {self.words:,} words, memory {self.address:#x}"


@dataclass(frozen=True)
class Entry:
    """One descriptor. aux: the residual, or with `continues` the sums that it begins with; parameters: a stream, or
    scale and bias of all channels. number, next: of this descriptor and of the one that it names, None at the end of a
    list. table: of the function that ends `activation`, where this descriptor loads it. waits: its input may be what
    the descriptor before it stores; completes: (first words, words per pixel, with True per channel block) of the next
    one's input that are there at once, and with every one that is done, None where that one waits for all."""

    number: int
    address: int
    layer: str
    op: str
    loops: dict[str, int]
    mode: str
    loads: Span
    weights: Constant | None
    parameters: Constant | tuple[float, float]
    aux: Span | Constant | None
    continues: bool
    combine: str
    activation: str
    table: Constant | None
    activation_first: bool
    stores: Span
    waits: bool
    completes: tuple[int, int, bool] | None
    next: int | None
    words: tuple[int, ...]

    def lines(self) -> list[str]:
        loops = ", ".join(f"{name} {count}" for name, count in self.loops.items())
        parameters: Constant | str
        if isinstance(self.parameters, Constant):
            parameters = self.parameters
        else:
            parameters = "scale {:g}, bias {:g} for all channels".format(*self.parameters)
        rows = [
            ("computes", f"{self.mode}; {loops}"),
            ("loads", f"{self.loads}" + ("; waits for the descriptor before" if self.waits else "")),
            ("weights", f"{self.weights or 'all 1'}"),
            ("parameters", f"{parameters}"),
        ]
        activation = "no activation" if self.activation == str(ir.IDENTITY) else self.activation
        if self.aux and not self.continues:
            when = "after" if self.activation_first else "before"
            rows.append((VERBS[self.combine], f"{self.aux}, {when} the activation"))
        elif self.aux:
            rows.append(("begins with", f"{self.aux}"))
        rows += [("applies", activation), *([("table", f"{self.table}")] if self.table else [])]
        rows.append(("stores", f"{self.stores}"))
        if self.completes:
            base, words, by_blocks = self.completes
            what = "channel block of a pixel" if by_blocks else "pixel"
            rows.append(("completes", f"{words:,} words of the next input per {what}; its first {base:,} are there"))
        rows.append(("next", "none: interrupt" if self.next is None else f"{self.next}"))
        head = f"{self.number:4}  {self.address:#010x}  {self.layer}: {self.op}"
        dump = [
            f"      {first:02}  " + " ".join(f"{word:08x}" for word in self.words[first : first + WORDS_PER_LINE])
            for first in range(0, len(self.words), WORDS_PER_LINE)
        ]
        return [head, *(f"      {name:11} {text}" for name, text in rows), *dump]


@dataclass(frozen=True)
class Listing:
    """Descriptors in order, and before them by number what the CPU computes: (layer, operator, call in C++)."""

    network: str
    entries: tuple[Entry, ...]
    cpu: tuple[tuple[int, str, str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        keys = ("before", "layer", "op", "call")
        return {"descriptors": [asdict(e) for e in self.entries], "cpu": [dict(zip(keys, c)) for c in self.cpu]}

    def to_text(self) -> str:
        """Entries with the words behind them; docs/registers.md says which fields these are."""
        lines = [f"{self.network}: {len(self.entries)} descriptors of {WORDS} words", ""]
        for number in range(len(self.entries) + 1):
            for _, layer, op, call in (c for c in self.cpu if c[0] == number):
                lines += [f" CPU  {layer}: {op}", f"      {call}", ""]
            if number < len(self.entries):
                lines += [*self.entries[number].lines(), ""]
        return "\n".join(lines)


def listing(program: Program) -> Listing:
    """Raises HeepgenError, naming the descriptor, when one touches words that are of no tensor of its layer."""
    reader, entries, cpu, done = _Reader(program), [], [], 0
    names = {name: name for name in program.graph.constants}
    words = program.constants[DESCRIPTORS].reshape(-1, WORDS)
    names = {name: name for name in program.constants}
    layers = {number: layer for layer in program.layers for number in layer.descriptors}
    for layer in program.layers:
        if isinstance(layer.node, ir.OnCpu):
            cpu.append((done, layer.name, layer.op, cpu_call(layer.node, layer, program, names)))
        done = max(layer.descriptors, default=done - 1) + 1
    entries = [reader.entry(number, words[number], layer) for number, layer in sorted(layers.items())]
    return Listing(program.graph.name, tuple(entries), tuple(cpu))


class _Reader:
    """Reads descriptors in order. done: by storage how far stores have come that go round in a ring. sizes: words of
    what is on chip. tables: names of those in the slots."""

    def __init__(self, program: Program):
        self.program = program
        self.done: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        for tensor in program.tensors.values():
            if tensor.on_chip:
                last = int(tensor.words().max())
                self.sizes[tensor.storage] = max(self.sizes.get(tensor.storage, 0), last + 1)
        self.tables: dict[int, str] = {}
        acts = [node.act for node in program.graph.nodes if isinstance(node, ir.Activated)]
        self.functions = {table_name(act.function): act.function for act in acts if act.function}

    def entry(self, number: int, words: np.ndarray, layer: Layer) -> Entry:
        f = unpack(words)
        inputs, output, config = layer.node.inputs, layer.node.output, self.program.config
        aux: Span | Constant | None = None
        if f.residual or f.acc_init:
            words_read = _outputs(f, f.aux, config)
            operands = inputs[1:] if f.residual or isinstance(layer.node, ir.Maximum) else ()
            if self.program.graph.constants.keys() & operands:
                aux = self._constant(number, f.aux_addr, int(words_read.max()) + 1)
            else:
                aux = self._span(number, "AUX", f.aux_addr, words_read, [*operands, output])
        loads = self._span(number, "LOAD", f.load_addr, loaded_words(f), [*inputs, output])
        table = self._constant(number, f.table_addr, ROW_WORDS * f.table_rows) if f.load_table else None
        if table:
            self.tables[f.table_slot] = table.name
        stores = self._span(number, "STORE", f.store_addr, _outputs(f, f.store, config), [output], not f.acc_init)
        return Entry(
            number=number,
            address=self._address(self.program.descriptor_address(number)),
            layer=layer.name,
            op=layer.op,
            loops=_loops(f),
            mode=_mode(f),
            loads=loads,
            weights=None if f.unit_weights else self._constant(number, f.weight_addr, f.weight_words),
            parameters=(float(f.scale), float(f.bias))
            if f.uniform
            else self._constant(number, f.param_addr, f.param_words),
            aux=aux,
            continues=bool(f.acc_init),
            combine=combination_of(f),
            activation=str(
                replace(activation_of(f), function=self.functions[self.tables[f.table_slot]] if f.function else None)
            ),
            table=table,
            activation_first=bool(f.act_first),
            stores=stores,
            waits=bool(f.barrier),
            completes=(f.mark_base, f.mark_words, bool(f.mark_blocks)) if f.mark_words else None,
            next=None if f.last else self._number(number, f.next),
            words=tuple(map(int, words)),
        )

    def _address(self, address: int) -> int:
        """Byte of memory of a descriptor address."""
        region, offset = split_address(address)
        return self.program.bases[region] + offset

    def _number(self, number: int, address: int) -> int:
        found, rest = divmod(self._address(address) - self.program.placed[DESCRIPTORS].address, 4 * WORDS)
        if rest or not 0 <= found < len(self.program.jobs):
            raise HeepgenError(f"descriptor {number}: there is no descriptor at {address:#x}, which it names as next")
        return found

    def _constant(self, number: int, address: int, words: int) -> Constant:
        start = self._address(address)
        for placed in self.program.placed.values():
            if placed.address <= start and start + 4 * words <= placed.address + placed.size:
                return Constant(placed.name, words, start)
        for node in self.program.graph.nodes:
            if isinstance(node, ir.Planes):
                first = self.program.tensor_address(node.output)
                if first <= start and start + 4 * words <= first + 4 * self.program.tensors[node.output].size:
                    return Constant(node.output, words, start)
        raise HeepgenError(f"descriptor {number}: the {words} words at {start:#x} are of no constant")

    def _span(
        self, number: int, stream: str, address: int, words: np.ndarray, values: Sequence[str], goes_on: bool = False
    ) -> Span:
        """The first of `values` that holds all words of a stream, which are relative to its address."""
        size = len(np.unique(words))
        for value in values:
            tensor = self.program.tensors[value]
            start, ring = self._start(address, tensor, int(words.max()), goes_on)
            if start is None:
                continue
            elements = _elements(tensor, start + words)
            if elements is not None:
                if ring and stream == "STORE":
                    self.done[tensor.storage] = max(self.done.get(tensor.storage, 0), start + int(words.max()) + 1)
                place = split_address(address)[1] // 4 if tensor.on_chip else self._address(address)
                return Span(
                    value=value,
                    box=_box(elements, tensor.shape),
                    words=size,
                    on_chip=tensor.on_chip,
                    address=place,
                    ring=ring,
                )
        raise HeepgenError(f"descriptor {number}: {stream}_ADDR {address:#x} reaches words of no tensor of its layer")

    def _start(self, address: int, tensor: Tensor, reach: int, goes_on: bool) -> tuple[int | None, int | None]:
        """Word of a tensor's storage at a descriptor address, None where it is elsewhere; and words of its ring.

        In a ring it is the last word that this can be: a stream `goes_on` where stores have come to, at most, or all of
        it, up to `reach` words further, is there already.
        """
        region, offset = split_address(address)
        if region != (SCRATCHPAD if tensor.on_chip else ARENA):
            return None, None
        if not tensor.on_chip:
            return (offset - self.program.offsets[tensor.storage]) // 4, None
        home = self.program.scratchpad[tensor.storage]
        start, ring = offset // 4 - home.offset, 1 << home.ring
        if ring >= self.program.config.scratchpad_words and self.sizes[tensor.storage] <= ring:
            return (start + tensor.rotated) % ring, None
        if not 0 <= start < ring:
            return None, None
        last = self.done.get(tensor.storage, 0) - (0 if goes_on else reach + 1)
        return start + max(0, last - start) // ring * ring, ring


def _outputs(f: Linked, output: Output[int], config: Config) -> np.ndarray:
    """Words of STORE or AUX, relative to the first."""
    oy, ox = np.divmod(np.arange(f.out_px), f.out_w)
    pixels = oy * output.y_stride + ox * output.x_stride
    width = channels(f, config)
    block, lane = np.divmod(np.arange(f.ncb * width if f.band else f.cout), width)
    places = block * output.cb_step + lane * output.c_stride
    groups = np.arange(f.groups) * output.g_step
    words: np.ndarray = (pixels[:, None, None] + groups[:, None] + places).reshape(-1)
    return words


def _loops(f: Linked) -> dict[str, int]:
    """Counts of the loops, outermost first, as in `table`."""
    strips = 1 + math.ceil(max(0, f.out_px - f.first_px) / f.strip_px)
    names = ("GROUPS", "NCB", "CBG", "KH", "KX", "KB", "RUN", "OUT_PX", "STRIP_PX", "FIRST_PX")
    return {"strips": strips} | {name: f[name] for name in names}


def _mode(f: Linked) -> str:
    tile, sums = "banded" if f.band else "diagonal" if f.diagonal else "dense", "maximum" if f.max else "sum"
    return f"{tile}, {sums}{', half banks' if f.halves else ''}{', scales of 16 bits' if f.packed_scales else ''}"


def _elements(tensor: Tensor, words: np.ndarray) -> np.ndarray | None:
    """Flat indices of the elements that lie in words of a tensor's storage; None when one holds none of them."""
    index = np.full(tensor.extent, -1)
    index[tensor.words().reshape(-1)] = np.arange(tensor.size)
    if words.min() < 0 or words.max() >= tensor.extent:
        return None
    found = np.unique(index[words])
    return None if found[0] < 0 else found


def _box(elements: np.ndarray, shape: ir.Shape) -> tuple[tuple[int, int, int], ...] | None:
    """The part of a tensor that these different elements are."""
    ranges = []
    for along in np.unravel_index(elements, shape):
        kept = np.unique(along)
        steps = np.unique(np.diff(kept))
        if len(steps) > 1:
            return None
        step = int(steps[0]) if len(steps) else 1
        ranges.append((int(kept[0]), int(kept[-1]) + 1, step))
    count = math.prod(len(range(*r)) for r in ranges)
    return tuple(ranges) if count == len(elements) else None


def _range(part: tuple[int, int, int]) -> str:
    first, end, step = part
    if end == first + 1:
        return str(first)
    return f"{first}:{end}" if step == 1 else f"{first}:{end}:{step}"
