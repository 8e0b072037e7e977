# SPDX-License-Identifier: Apache-2.0
"""What every net of a netlist did in windows of a run: all gates evaluated on words that hold 64 cycles each.

Registers, inputs, memories and other instances' outputs are what the run had; gates follow from them, without delays.
So the cycles of a window, and all instances of a module, are evaluated at once. A flip-flop whose input is not what it
held a cycle later is an error: the netlist, the run and the order of signals prove each other. Before the first layer
registers hold what they had at power-up: anything in the run, and what synthesis likes in the netlist.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.ppa.energy.expression import function, pins
from gen.ppa.energy.netlist import CLOCK, Bit, Gate, Netlist
from gen.ppa.liberty import Cell, Library
from hls.errors import HeepgenError

Words = NDArray[np.uint64]
Known = Callable[[str, int], Words | None]
"""Bit of a signal in all windows of all instances, (segments, length); None for one that the run does not show."""
_ALL = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Activity:
    """Nets of a module in segments, each a window of an instance.

    values: (segments, length) by net. valid: cycles of every segment, steps: those that have a successor, checked:
    where registers hold what they got. enables: by the clock net of gated flip-flops, the net that lets its edges pass.
    """

    netlist: Netlist
    values: Mapping[Bit, Words]
    valid: Words
    checked: Words
    enables: Mapping[Bit, Bit]

    @property
    def steps(self) -> Words:
        return self.valid & after(self.valid)

    def enabled(self, clock: Bit) -> Words | np.uint64:
        """Whether the next edge of a clock net comes."""
        return self.values[self.enables[clock]] if clock in self.enables else _ALL


def after(words: Words) -> Words:
    """The same a cycle later: bit t is what bit t + 1 was; the last one is 0."""
    result = words >> np.uint64(1)
    result[..., :-1] |= words[..., 1:] << np.uint64(63)
    return result


def settle(netlist: Netlist, library: Library, known: Known, valid: Words, checked: Words | None = None) -> Activity:
    """Values of all nets, from those of inputs, registers, memories and instances by name.

    Raises `HeepgenError` for one that the run does not show, and where a flip-flop's input disagrees with the run.
    """
    cells = library.cells
    gates = [gate for gate in netlist.gates if cells[gate.kind].kind == "gate"]
    held = [gate for gate in netlist.gates if cells[gate.kind].kind == "flip-flop"]
    gating = [gate for gate in netlist.gates if cells[gate.kind].kind == "clock gate"]
    zero = np.zeros_like(valid)
    values: dict[Bit, Words] = {"0": zero, "1": zero | _ALL, "x": zero, "z": zero}
    for bit in _sources(netlist, cells):
        if bit not in values:
            values[bit] = _seen(netlist, bit, known)
    for gate in held:
        _hold(netlist, gate, cells[gate.kind], values, known)
    for gate in _in_order(netlist, gates, values, cells):
        inputs = {pin: values[bit] for pin, bit in gate.nets.items() if not cells[gate.kind].pins[pin].is_output}
        inputs |= {"0": zero, "1": values["1"]}
        for pin in cells[gate.kind].outputs:
            if pin.name in gate.nets:
                values[gate.nets[pin.name]] = function(pin.function)(inputs)
    enables = {gate.nets[cells[gate.kind].outputs[0].name]: gate.nets[cells[gate.kind].enable] for gate in gating}
    result = Activity(netlist, values, valid, valid if checked is None else checked, enables)
    for gate in held:
        _check(result, gate, cells[gate.kind])
    return result


def _sources(netlist: Netlist, cells: Mapping[str, Cell]) -> list[Bit]:
    """Nets from beyond the gates, whose values the run tells."""
    result = [bit for name, port in netlist.inputs.items() if name != CLOCK for bit in port]
    for memory in netlist.memories:
        result += memory.data
    driven = {bit for gate in netlist.gates for pin, bit in gate.nets.items() if cells[gate.kind].pins[pin].is_output}
    known = {*result, *driven, *netlist.inputs.get(CLOCK, ())}
    for child in netlist.children:
        result += [bit for port in child.nets.values() for bit in port if bit not in known]
    return result


def _hold(netlist: Netlist, gate: Gate, cell: Cell, values: dict[Bit, Words], known: Known) -> None:
    """What a flip-flop's outputs are, of which the run need show one."""
    outputs = [pin for pin in cell.outputs if pin.name in gate.nets]
    shown = next((pin for pin in outputs if _look(netlist, gate.nets[pin.name], known) is not None), outputs[0])
    value = _seen(netlist, gate.nets[shown.name], known)
    for pin in outputs:
        values[gate.nets[pin.name]] = value if pin.function == shown.function else ~value


def _look(netlist: Netlist, bit: Bit, known: Known) -> Words | None:
    for name, index in netlist.signals.get(bit, ()) if isinstance(bit, int) else ():
        found = known(name, index)
        if found is not None:
            return found
    return None


def _seen(netlist: Netlist, bit: Bit, known: Known) -> Words:
    found = _look(netlist, bit, known)
    if found is not None:
        return found
    names = netlist.signals.get(bit, ()) if isinstance(bit, int) else ()
    called = ", ".join(f"{name}[{index}]" for name, index in names) or f"net {bit}, which has no name"
    raise HeepgenError(f"the run does not show {called} of {netlist.module}, which its netlist starts from.")


def _in_order(netlist: Netlist, gates: list[Gate], values: Mapping[Bit, Any], cells: Mapping[str, Cell]) -> list[Gate]:
    """Gates after those that they wait for."""
    waiting: dict[Bit, list[int]] = {}
    missing = []
    ready = []
    for number, gate in enumerate(gates):
        needed = {bit for pin, bit in gate.nets.items() if not cells[gate.kind].pins[pin].is_output}
        needed -= values.keys()
        missing.append(len(needed))
        for bit in needed:
            waiting.setdefault(bit, []).append(number)
        if not needed:
            ready.append(number)
    result = []
    while ready:
        gate = gates[ready.pop()]
        result.append(gate)
        for pin in cells[gate.kind].outputs:
            for number in waiting.pop(gate.nets.get(pin.name, ""), ()):
                missing[number] -= 1
                if not missing[number]:
                    ready.append(number)
    if len(result) < len(gates):
        raise HeepgenError(f"the gates of {netlist.module} wait for each other: its netlist has a loop.")
    return result


def _check(activity: Activity, gate: Gate, cell: Cell) -> None:
    inputs = {pin: activity.values[gate.nets[pin]] for pin in pins(cell.next_state)}
    taken = function(cell.next_state)(inputs)
    for pin in cell.outputs:
        if pin.name not in gate.nets:
            continue
        inverted = pin.function == cell.state[1]
        value = activity.values[gate.nets[pin.name]]
        wrong = (~after(value) if inverted else after(value)) ^ taken
        if (wrong & activity.steps & activity.checked & activity.enabled(gate.nets[cell.clock])).any():
            name, index = activity.netlist.signals[gate.nets[pin.name]][0]  # type: ignore[index]
            raise HeepgenError(
                f"{name}[{index}] of {activity.netlist.module} is not what its netlist gives: the run is of other "
                "hardware."
            )
