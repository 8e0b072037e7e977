# SPDX-License-Identifier: Apache-2.0
"""Energy of an activity: toggles times the tables of the library, clock pins, leakage.

A toggle costs the pin's capacitance at every input that sees it, and the internal energy of the output that made it; an
input of a flip-flop that changes while the clock is high costs its hidden energy. Wires, glitches and the buffers of
the clock tree are not in a netlist before its layout and are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen.ppa.energy.activity import Activity, Words, after
from gen.ppa.energy.expression import function, pins
from gen.ppa.energy.netlist import Bit, Gate, Netlist
from gen.ppa.liberty import Cell, Library, Pin, Power

SLEW_NS = 0.02
"""Of inputs, and at every driver's own input."""
CLOCK_SLEW_NS = 0.04
PORT_LOAD = 3
"""What an output of a module drives beyond it, in loads of an inverter."""
_ALL = np.uint64(2**64 - 1)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Energy:
    """By segment: fJ in all its steps of data toggles and of clock pins; leakage, nW; and how many steps it has."""

    data: Floats
    clock: Floats
    leakage: Floats
    steps: NDArray[np.int64]


def energy(activity: Activity, library: Library) -> Energy:
    """What a module's own cells take, without its memories and the instances in it."""
    netlist = activity.netlist
    loads = _loads(netlist, library)
    slews: dict[Bit, float] = {}
    kinds: dict[str, list[Gate]] = {}
    for gate in netlist.gates:
        kinds.setdefault(gate.kind, []).append(gate)
    for kind, gates in kinds.items():
        slews |= _slews(library.cells[kind], gates, loads)
    segments = len(activity.valid)
    data, clock, leakage = np.zeros(segments), np.zeros(segments), np.zeros(segments)
    for kind, gates in kinds.items():
        one = _Kind(
            activity=activity, cell=library.cells[kind], gates=gates, loads=loads, slews=slews, volts=library.volts
        )
        data += one.data()
        clock += one.clock()
        leakage += one.leakage()
    return Energy(data, clock, leakage, _count(activity.steps).astype(np.int64))


def _loads(netlist: Netlist, library: Library) -> dict[Bit, float]:
    """fF that each net's driver sees."""
    inverters = [c for c in library.cells.values() if c.kind == "gate" and len(c.pins) == 2 and len(c.inputs) == 1]
    one = min(cell.inputs[0].capacitance for cell in inverters)
    result: dict[Bit, float] = {}
    for gate in netlist.gates:
        for pin in library.cells[gate.kind].inputs:
            if pin.name in gate.nets:
                bit = gate.nets[pin.name]
                result[bit] = result.get(bit, 0.0) + pin.capacitance
    beyond = [*netlist.outputs.values(), *(port for child in netlist.children for port in child.nets.values())]
    for port in beyond:
        for bit in port:
            result[bit] = result.get(bit, 0.0) + PORT_LOAD * one
    return result


def _slews(cell: Cell, gates: list[Gate], loads: Mapping[Bit, float]) -> dict[Bit, float]:
    """ns of the nets that gates of one kind drive."""
    result: dict[Bit, float] = {}
    for pin in cell.outputs:
        bits = [gate.nets[pin.name] for gate in gates if pin.name in gate.nets]
        if bits and pin.slews:
            load = np.array([loads.get(bit, 0.0) for bit in bits])
            slew = np.mean([table.at(np.full(len(bits), SLEW_NS), load) for table in pin.slews], axis=0)
            result |= dict(zip(bits, slew, strict=True))
    return result


def _count(words: Words) -> NDArray[np.uint64]:
    counted: NDArray[np.uint64] = np.bitwise_count(words).sum(axis=-1, dtype=np.uint64)
    return counted


class _Kind:
    """All gates of one cell of the library, side by side: arrays are (gates, segments, length), counts and energies
    (gates, segments)."""

    def __init__(
        self,
        activity: Activity,
        cell: Cell,
        gates: list[Gate],
        loads: Mapping[Bit, float],
        slews: Mapping[Bit, float],
        volts: float,
    ) -> None:
        self.cell, self.gates, self.volts = cell, gates, volts
        self.loads, self.slews = loads, slews
        self.steps = activity.steps
        self.valid = activity.valid
        zero = np.zeros((len(gates), *activity.valid.shape), np.uint64)
        clocks = {cell.clock} | {pin.name for pin in cell.outputs if cell.kind == "clock gate"}
        self.before = {"0": zero, "1": zero | _ALL}
        for name in cell.pins:
            if name not in clocks:
                nets = [gate.nets.get(name, "0") for gate in gates]
                self.before[name] = np.stack([activity.values[net] for net in nets])
        self.enabled = zero | _ALL
        if cell.clock:
            self.enabled = np.stack([zero[0] | activity.enabled(gate.nets[cell.clock]) for gate in gates])
        if cell.kind == "flip-flop":
            self._outputs_not_there()
        self.after = {name: after(words) for name, words in self.before.items()}
        self.after["1"] = self.before["1"]
        if cell.kind == "clock gate":
            for pin in cell.outputs:
                self.before[pin.name], self.after[pin.name] = zero, self.before[cell.enable]

    def _outputs_not_there(self) -> None:
        """An output that drives nothing follows the others."""
        for number, gate in enumerate(self.gates):
            used = next(pin for pin in self.cell.outputs if pin.name in gate.nets)
            for pin in self.cell.outputs:
                if pin.name not in gate.nets:
                    held = self.before[used.name][number]
                    self.before[pin.name][number] = held if pin.function == used.function else ~held

    # What happens

    def _edges(self, name: str) -> tuple[Words, Words]:
        before, behind = self.before[name], self.after[name]
        return ~before & behind & self.steps, before & ~behind & self.steps

    def _when(self, text: str, values: Mapping[str, Words], clock: Words) -> Words:
        if not text:
            return self.before["1"]
        if self.cell.clock in pins(text):
            values = {**values, self.cell.clock: clock}
        found: Words = function(text)(values)
        return found

    # What it costs

    def _tables(self, power: Power, slews: Floats, loads: Floats) -> tuple[Floats, Floats]:
        nothing = np.zeros(len(self.gates))
        return (
            power.rise.at(slews, loads) if power.rise else nothing,
            power.fall.at(slews, loads) if power.fall else nothing,
        )

    def _slew(self, name: str) -> Floats:
        if name == self.cell.clock:
            return np.full(len(self.gates), CLOCK_SLEW_NS)
        return np.array([self.slews.get(gate.nets.get(name, "0"), SLEW_NS) for gate in self.gates])

    def data(self) -> Floats:
        total = np.zeros(self.steps.shape[0])
        for pin in self.cell.pins.values():
            if pin.name == self.cell.clock or (pin.is_output and self.cell.kind == "clock gate"):
                continue
            rises, falls = self._edges(pin.name)
            if pin.is_output:
                total += self._of_output(pin, _count(rises), _count(falls))
            else:
                total += (_count(rises | falls) * (0.5 * pin.capacitance * self.volts**2)).sum(axis=0)
                total += self._hidden(pin, rises, falls)
        return total

    def _of_output(self, pin: Pin, rises: NDArray[np.uint64], falls: NDArray[np.uint64]) -> Floats:
        """Inputs share in the energies of an output's edges as often as they changed."""
        loads = np.array([self.loads.get(gate.nets.get(pin.name, ""), 0.0) for gate in self.gates])
        weights, on_rise, on_fall = [], [], []
        for power in pin.powers:
            rise, fall = self._tables(power, self._slew(power.related), loads)
            on_rise.append(rise[:, None])
            on_fall.append(fall[:, None])
            weights.append(self._causes(power))
        if not weights:
            return np.zeros(self.steps.shape[0])
        share = np.array(weights, float)
        share[:, share.sum(axis=0) == 0] = 1.0
        share /= share.sum(axis=0)
        each = rises * (share * on_rise).sum(axis=0) + falls * (share * on_fall).sum(axis=0)
        total: Floats = each.sum(axis=0)
        return total

    def _causes(self, power: Power) -> NDArray[np.uint64]:
        """How often the input of an output's table changed while its condition held."""
        if power.related == self.cell.clock or power.related not in self.before:
            return np.ones(self.enabled.shape[:2], np.uint64)
        changed = self.before[power.related] ^ self.after[power.related]
        return _count(changed & self.steps & self._when(power.when, self.after, self.before["1"]))

    def _hidden(self, pin: Pin, rises: Words, falls: Words) -> Floats:
        """Of an input that changes and leaves all outputs as they are; at a flip-flop, after the clock's edge."""
        if not pin.powers:
            return np.zeros(self.steps.shape[0])
        still = self.before["1"]
        if self.cell.kind == "gate":
            for output in self.cell.outputs:
                still = still & ~(self.before[output.name] ^ self.after[output.name])
        total = np.zeros(self.steps.shape[0])
        nowhere = np.zeros(len(self.gates))
        for power in pin.powers:
            on_rise, on_fall = self._tables(power, self._slew(pin.name), nowhere)
            when = still & self._when(power.when, self.after, self.before["1"])
            total += (_count(rises & when) * on_rise[:, None] + _count(falls & when) * on_fall[:, None]).sum(axis=0)
        return total

    def clock(self) -> Floats:
        """Both edges of the clock pin, and what a clock gate lets pass."""
        total = np.zeros(self.steps.shape[0])
        if not self.cell.clock:
            return total
        pin = self.cell.pins[self.cell.clock]
        edges = self.steps & self.enabled
        total += (_count(edges) * (pin.capacitance * self.volts**2)).sum(axis=0)
        nowhere = np.zeros(len(self.gates))
        for power in pin.powers:
            on_rise, on_fall = self._tables(power, self._slew(pin.name), nowhere)
            rises = edges & self._when(power.when, self.before, self.before["0"])
            falls = edges & self._when(power.when, self.after, self.before["1"])
            total += (_count(rises) * on_rise[:, None] + _count(falls) * on_fall[:, None]).sum(axis=0)
        if self.cell.kind == "clock gate":
            total += self._pulses()
        return total

    def _pulses(self) -> Floats:
        passed = self.steps & self.before[self.cell.enable]
        total = np.zeros(self.steps.shape[0])
        for pin in self.cell.outputs:
            loads = np.array([self.loads.get(gate.nets[pin.name], 0.0) for gate in self.gates])
            for power in pin.powers:
                on_rise, on_fall = self._tables(power, self._slew(power.related), loads)
                rises = passed & self._when(power.when, self.before, self.before["0"])
                falls = passed & self._when(power.when, self.after, self.before["1"])
                total += (_count(rises) * on_rise[:, None] + _count(falls) * on_fall[:, None]).sum(axis=0)
        return total

    def leakage(self) -> Floats:
        """nW; the clock is high for half of each cycle."""
        cycles = np.maximum(_count(self.valid), 1)
        total = np.zeros(self.steps.shape[0])
        phases = [(self.before["0"], 0.5), (self.before["1"], 0.5)] if self.cell.clock else [(self.before["0"], 1.0)]
        for clock, share in phases:
            values: Mapping[str, Words] = self.before
            if self.cell.kind == "clock gate":
                passed = {pin.name: clock & self.before[self.cell.enable] for pin in self.cell.outputs}
                values = {**self.before, **passed}
            for when, nw in self.cell.leakage:
                held = _count(self.valid & self._when(when, values, clock))
                total += share * nw * (held / cycles).sum(axis=0)
        return total
