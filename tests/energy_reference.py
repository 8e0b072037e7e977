# SPDX-License-Identifier: Apache-2.0
"""A small cell library, and the plainest way to count a netlist's energy: gate by gate, cycle by cycle."""

import itertools
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """`cost`: fJ of the output when it (falls, rises) because of an input, by input; capacitances in fF."""

    function: str
    compute: object
    capacitances: dict
    cost: dict
    leakage: tuple


GATES = {
    "INV": Gate("!A", lambda a: 1 - a, {"A": 1.5}, {"A": (0.25, 0.5)}, (2, 2)),
    "BUF": Gate("A", lambda a: a, {"A": 1}, {"A": (1, 2)}, (3, 4)),
    "NAND2": Gate("(A B)'", lambda a, b: 1 - a * b, {"A": 2, "B": 3}, {"A": (2, 1), "B": (4, 3)}, (1, 5)),
    "NOR2": Gate("!(A + B)", lambda a, b: int(a + b == 0), {"A": 2.5, "B": 3}, {"A": (1.5, 1), "B": (3, 3)}, (4, 2)),
    "AND2": Gate("A & B", lambda a, b: a * b, {"A": 1, "B": 1}, {"A": (2, 3), "B": (3, 4)}, (6, 7)),
}
CAPACITANCES = {name: gate.capacitances for name, gate in GATES.items()} | {"DFF": {"D": 1}, "GATE": {"E": 1}}

_DELAYS = ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
_HEAD = """library (small) {
  time_unit : "1ns"; voltage_unit : "1V"; leakage_power_unit : "1nW"; capacitive_load_unit (1, ff);
  nom_voltage : 1.0;
  power_lut_template (energies) { variable_1 : input_transition_time; variable_2 : total_output_net_capacitance; }
  lu_table_template (delays) { variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("0.01, 1"); index_2 ("1, 100"); }
"""
_TAIL = """
  cell (DFF) { area : 6; cell_leakage_power : 10;
    ff (IQ, IQN) { next_state : "D"; clocked_on : "CK"; }
    pin (D) { direction : input; capacitance : 1;
      internal_power () { when : "CK"; <0.125 0.25> }
      internal_power () { when : "!CK"; <100 100> } }
    pin (CK) { direction : input; clock : true; capacitance : 1;
      internal_power () { when : "D & !Q"; <0 7> }
      internal_power () { when : "!D & Q"; <0 8> }
      internal_power () { when : "D & Q | !D & !Q"; <2 3> } }
    pin (Q) { direction : output; function : "IQ";
      internal_power () { related_pin : "CK"; <4 5> } } }
  cell (GATE) { area : 4; cell_leakage_power : 3; clock_gating_integrated_cell : latch_posedge;
    statetable ("CK E", "IQ") { table : "L L : - : L , L H : - : H , H - : - : N"; }
    pin (IQ) { direction : internal; internal_node : IQ; }
    pin (CK) { direction : input; clock : true; clock_gate_clock_pin : true; capacitance : 2; }
    pin (E) { direction : input; clock_gate_enable_pin : true; capacitance : 1; }
    pin (GCK) { direction : output; clock_gate_out_pin : true; state_function : "CK & IQ";
      internal_power () { related_pin : "CK"; <6 6> } } }
}
"""


def _cell(name, gate):
    delays = " ".join(f'{kind} (delays) {{ values ("1, 2", "2, 3"); }}' for kind in _DELAYS)
    inputs = " & ".join(gate.capacitances)
    low, high = gate.leakage
    lines = [f"  cell ({name}) {{ area : {1 + len(gate.cost)};"]
    for condition, value in ((inputs, high), (f"!({inputs})", low)):
        lines.append(f'    leakage_power () {{ when : "{condition}"; value : {value}; }}')
    for pin, load in gate.capacitances.items():
        lines.append(f"    pin ({pin}) {{ direction : input; capacitance : {load}; }}")
    lines.append(f'    pin (Y) {{ direction : output; function : "{gate.function}";')
    for pin, (fall, rise) in gate.cost.items():
        lines.append(f'      timing () {{ related_pin : "{pin}"; timing_sense : non_unate; {delays} }}')
        lines.append(f'      internal_power () {{ related_pin : "{pin}"; {_power(rise, fall)} }}')
    return "\n".join([*lines, "    } }"])


def _power(rise, fall):
    return f'rise_power (scalar) {{ values ("{rise}"); }} fall_power (scalar) {{ values ("{fall}"); }}'


LIBRARY = _HEAD + "\n".join(_cell(name, gate) for name, gate in GATES.items())
LIBRARY += re.sub(r"<(\S+) (\S+)>", lambda found: _power(*found.groups()), _TAIL)


def simulate(netlist, inputs, cycles):
    """Values of all nets in every cycle, from registers that are 0; `inputs(cycle)` gives a bit by net."""
    held = {gate.name: 0 for gate in netlist.gates if gate.kind == "DFF"}
    history = []
    for cycle in range(cycles):
        nets = {"0": 0, "1": 1, "x": 0, **inputs(cycle)}
        nets |= {gate.nets["Q"]: held[gate.name] for gate in netlist.gates if gate.kind == "DFF"}
        waiting = [gate for gate in netlist.gates if gate.kind in GATES]
        while waiting:
            left = []
            for gate in waiting:
                pins = [nets.get(gate.nets[name]) for name in GATES[gate.kind].capacitances]
                if None in pins:
                    left.append(gate)
                else:
                    nets[gate.nets["Y"]] = GATES[gate.kind].compute(*pins)
            assert len(left) < len(waiting)
            waiting = left
        history.append(nets)
        clocks = {gate.nets["GCK"]: nets[gate.nets["E"]] for gate in netlist.gates if gate.kind == "GATE"}
        for gate in netlist.gates:
            if gate.kind == "DFF" and clocks.get(gate.nets["CK"], 1):
                held[gate.name] = nets[gate.nets["D"]]
    return history


def energies(netlist, history):
    """(data, clock) in fJ over all steps, and leakage in nW on average over cycles, from `simulate`'s history."""
    data = clock = 0.0
    for gate, (old, new) in itertools.product(netlist.gates, itertools.pairwise(history)):
        before, after = ({pin: nets.get(bit, 0) for pin, bit in gate.nets.items()} for nets in (old, new))
        changed = {pin: before[pin] != after[pin] for pin in before}
        data += sum(c / 2 for pin, c in CAPACITANCES[gate.kind].items() if changed[pin])
        enables = {g.nets["GCK"]: old[g.nets["E"]] for g in netlist.gates if g.kind == "GATE"}
        if gate.kind in GATES and changed["Y"]:
            causes = [cost[after["Y"]] for pin, cost in GATES[gate.kind].cost.items() if changed[pin]]
            data += sum(causes) / len(causes)
        if gate.kind == "DFF":
            if changed["D"]:
                data += 0.125 if after["D"] else 0.25
            if changed["Q"]:
                data += 4 if after["Q"] else 5
            if enables.get(gate.nets["CK"], 1):
                clock += 1.0  # both edges of 1 fF
                clock += 2 if before["D"] == before["Q"] else 0
                clock += 3 if after["D"] == after["Q"] else 7 if after["D"] else 8
        if gate.kind == "GATE":
            clock += 2.0 + (12 if before["E"] else 0)
    leakage = sum(_leakage(gate, nets) for nets in history for gate in netlist.gates) / len(history)
    return data, clock, leakage


def _leakage(gate, nets):
    if gate.kind not in GATES:
        return {"DFF": 10, "GATE": 3}[gate.kind]
    return GATES[gate.kind].leakage[all(nets[gate.nets[pin]] for pin in GATES[gate.kind].capacitances)]
