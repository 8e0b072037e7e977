# SPDX-License-Identifier: Apache-2.0
"""What is proved about the generated Verilog, and what must fail."""

from collections.abc import Mapping
from dataclasses import dataclass

from hls.descriptor.interface.timing import OUTSTANDING

SMALL = {
    "rows": 2,
    "cols": 2,
    "activation_words": 256,
    "weight_bytes": 256,
    "accumulator_entries": 16,
    "scratchpad_words": 0,
}


@dataclass(frozen=True)
class Control:
    """An edit of hls/``file`` after which ``fails`` must fail; in the first ``variant`` if none is named."""

    fails: str
    file: str
    old: str
    new: str
    variant: str = ""


@dataclass(frozen=True)
class Proof:
    """``checker`` around ``unit`` in every one of ``variants``: options of the unit, macros of the checker.

    ``properties``: what each assertion says; those called lemma_ only help. ``short``: variants for CI.
    """

    unit: str
    checker: str
    title: str
    variants: Mapping[str, tuple[dict, dict]]
    properties: Mapping[str, str]
    controls: tuple[Control, ...]
    short: tuple[str, ...] = ()
    assumes: str = ""
    induction: bool = True
    seconds: int = 300


def _ports(*numbers: int, **macros: int) -> dict[str, tuple[dict, dict]]:
    return {f"{n} port{'s' * (n > 1)}": (SMALL | {"ports": n}, {"PORTS": n, **macros}) for n in numbers}


def _fifos(*sizes: tuple[int, int]) -> dict[str, tuple[dict, dict]]:
    return {
        f"{depth} x {width}": ({"width": width, "depth": depth}, {"WIDTH": width, "DEPTH": depth})
        for width, depth in sizes
    }


FIFOS = ((6, 8), (32, 8), (65, 4), (35, 2))
"""Width and depth."""

PROOFS = (
    Proof(
        "fifo",
        "fifo.sv",
        "nothing lost, nothing invented",
        _fifos(*FIFOS),
        {
            "room": "in_ready exactly while fewer than `depth` words are inside",
            "filled": "out_valid exactly while a word is inside",
            "order_and_data": "any word that enters leaves once, in order, unchanged",
        },
        (
            Control("room", "lib/fifo.py", "room.next = level != depth - 1", "room.next = level != depth - 2"),
            Control("filled", "lib/fifo.py", "filled.next = level != 1", "filled.next = level != 2"),
            Control("order_and_data", "lib/fifo.py", "tail.next = tail + 1", "tail.next = tail + 1 + pop"),
        ),
        short=("8 x 6",),
        induction=False,
    ),
    Proof(
        "memory_ports",
        "obi_master.sv",
        "OBI masters",
        _ports(1, 2, 4, OUTSTANDING=OUTSTANDING),
        {
            "held": "a request without grant is repeated in the next cycle",
            "stable": "its address, direction and data do not change meanwhile",
            "whole_words": "all byte enables are set",
            "limit": f"at most {OUTSTANDING} answers are due on a port",
            "idle": "`busy` while a request waits or an answer is due that is not late",
            "silent": "nothing is requested while answers are late, due since a `give_up`",
            "discarded": "a late answer is not taken for one of a later command",
        },
        (
            Control(
                "held",
                "descriptor/memory/ports.py",
                "        elif gnt:\n            req.next",
                "        else:\n            req.next",
            ),
            Control("stable", "descriptor/memory/ports.py", "not late_due and (gnt or not req)", "not late_due"),
            Control("whole_words", "descriptor/memory/ports.py", "(1 << 4 * ports) - 1,", "(1 << 4 * ports) - 2,"),
            Control("limit", "descriptor/memory/ports.py", "and tag_room and not drop", "and not drop"),
            Control(
                "idle",
                "descriptor/memory/ports.py",
                "held.next = queue_valid or req or (outstanding != 0 and not late_due)",
                "held.next = queue_valid or req",
            ),
            Control("silent", "descriptor/memory/ports.py", "not drop and not late_due and (gnt", "not drop and (gnt"),
            Control(
                "discarded",
                "descriptor/memory/ports.py",
                "outstanding != 0 and not drop and not late_due",
                "outstanding != 0 and not drop",
            ),
        ),
        short=("1 port", "2 ports"),
        assumes="nothing about the bus; `cancel` is kept until `busy` falls",
    ),
    Proof(
        "arbiter",
        "arbiter.sv",
        "one at a time, inside the windows",
        _ports(1, 2, 4),
        {
            "exclusive": "at most one stream is granted",
            "only_who_asks": "only a stream that asks is granted",
            "priority_kept": "no stream is granted while one of a higher priority asks",
            "bounded_waiting": "while anybody asks, every second cycle with a ready bus grants somebody: a stream "
            "waits "
            "no longer than those of a higher priority ask, and two cycles",
            "store_issued_exact": "store_issued says that a store or profile beat is taken",
            "no_command_invented": "a command belongs to a beat that was taken",
            "no_command_lost": "a beat inside its window is a command 2 cycles after it was taken and those before "
            "left",
            "commands_in_order": "commands keep the order, tag, count and direction of their beats",
            "addresses": "word i of a command is at addr + 4 i stride",
            "data": "a store's data are the beat's",
            "windows": "no command has a word outside BASE..LIMIT of its region",
            "fault_reported": "a beat with a word outside raises `fault`",
            "fault_stays": "`fault` stays until reset, and no command is issued meanwhile",
        },
        (
            Control(
                "exclusive",
                "descriptor/memory/arbiter.py",
                "load.ready.next = load.valid and not before_load and",
                "load.ready.next = load.valid and",
            ),
            Control(
                "only_who_asks",
                "descriptor/memory/arbiter.py",
                "aux.ready.next = aux.valid and not",
                "aux.ready.next = not",
            ),
            Control(
                "priority_kept",
                "descriptor/memory/arbiter.py",
                "not weights.urgent and (before_load or load.valid)",
                "not weights.urgent and before_load",
            ),
            Control(
                "bounded_waiting",
                "descriptor/memory/arbiter.py",
                "profile.ready.next = profile.valid and not before_profile",
                "profile.ready.next = profile.valid and not before_load",
            ),
            Control(
                "store_issued_exact",
                "descriptor/memory/arbiter.py",
                "(store.valid or profile.valid) and not before_store",
                "(store.valid or profile.valid)",
            ),
            Control(
                "no_command_invented",
                "descriptor/memory/arbiter.py",
                "            held.next = picked.valid",
                "            held.next = True",
            ),
            Control(
                "no_command_lost",
                "descriptor/memory/arbiter.py",
                "stop.next = held and not cmd.ready",
                "stop.next = held and cmd.ready",
            ),
            Control(
                "commands_in_order",
                "descriptor/memory/arbiter.py",
                "not (picked.valid and stop)",
                "not stop or not picked.valid or load.valid",
            ),
            Control(
                "addresses",
                "descriptor/memory/arbiter.py",
                "sums.next = start + offset",
                "sums.next = start + offset + 4",
                "2 ports",
            ),
            Control(
                "data",
                "descriptor/memory/arbiter.py",
                "profile.data if tag == profile_tag",
                "profile.data if tag == load_tag",
            ),
            Control(
                "windows", "descriptor/memory/arbiter.py", "address[32:2] >= limit[32:2]", "address[32:2] > limit[32:2]"
            ),
            Control(
                "fault_reported",
                "descriptor/memory/arbiter.py",
                "elif held and all_outside != 0 and not fault",
                "elif held and all_outside == 1 and not fault",
                "2 ports",
            ),
            Control(
                "fault_stays",
                "descriptor/memory/arbiter.py",
                "held and all_outside == 0 and not fault",
                "held and all_outside == 0",
            ),
        ),
        short=("1 port",),
        assumes="windows do not change while beats are on their way",
    ),
)
