# SPDX-License-Identifier: Apache-2.0
"""What is proved about the generated Verilog, and what must fail."""

from collections.abc import Mapping
from dataclasses import dataclass

from hls.bus.head import MAGIC
from hls.config import Config
from hls.descriptor.interface.registers import REGISTER
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


_SLAVE_MACROS = {name: REGISTER[name].offset for name in ("CTRL", "DOORBELL", "WATCHDOG", "CYCLE_LO", "CYCLE_HI")} | {
    "UNMAPPED": max(register.offset for register in REGISTER.values()) + 4,
    "SOFT_RESET": REGISTER["CTRL"].bits("SOFT_RESET").lsb,
}
_HEAD_MACROS = {
    "MAGIC": int(MAGIC),
    "HASH": Config(**SMALL).hash,
    "MAGIC_OFFSET": REGISTER["MAGIC"].offset,
    "HASH_OFFSET": REGISTER["CONFIG_HASH"].offset,
    "LOW_OFFSET": REGISTER["CYCLE_LO"].offset,
    "HIGH_OFFSET": REGISTER["CYCLE_HI"].offset,
}

_SLAVE, _REGISTER_HEAD = "descriptor/control/slave.py", "bus/register_head.py"
_SEQUENCER, _LOOPS = "descriptor/control/sequencer.py", "descriptor/control/sequencer_loops.py"

FIFOS = ((6, 8), (32, 8), (65, 4), (35, 2), (4, 16))
"""Width and depth; the data are only kept: a wide word says no more than a narrow one. pdr does not end at depth 32."""

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
        _ports(1, 2, 3, 4, OUTSTANDING=OUTSTANDING),
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
        "memory_ports",
        "answers.sv",
        "beats and their answers",
        _ports(1, 2, OUTSTANDING=OUTSTANDING),
        {
            "as_asked": "every word of a beat is requested on its port, with its address, direction and data, when "
            "those of the beats before are",
            "answer": "a beat is answered once, to its stream, with its count and what the memory answered, when those "
            "before are",
        },
        (
            Control("as_asked", "descriptor/memory/ports.py", "we.next = queued[64]", "we.next = cmd_write"),
            Control(
                "answer",
                "descriptor/memory/ports.py",
                "missing.next = count > index and not have",
                "missing.next = count > index and not have and index == 0",
                "2 ports",
            ),
        ),
        short=("1 port",),
        assumes="nothing about the bus but the order of its answers; `cancel` is kept until `busy` falls",
    ),
    Proof(
        "arbiter",
        "arbiter.sv",
        "one at a time, inside the windows",
        _ports(1, 2, 3, 4),
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
    Proof(
        "sequencer",
        "banks.sv",
        "groups of sums and the banks that they have",
        {"2x2": (SMALL | {"ports": 2}, {})},
        {
            "bounded": "at most four groups are begun and not drained",
            "written": "no group has words of one before that is not drained; two with HALVES may share a memory",
            "read": "sums are read, from a group's second step on, when no group before it is left in its memory",
            "same_memory": "all vectors of a group go to the memory in which it began",
            "initialised": "with ACC_INIT a group begins in a bank that has its initial values",
            "prompt": "nothing waits for a bank while fewer than two groups are not drained",
            "halves_prompt": "a group with HALVES that follows one of these in its memory waits only for four",
            "idle": "`busy` until the last vector of the last group has been issued",
        },
        (
            Control("bounded", _SEQUENCER, "(eased and banks[0])", "eased"),
            Control("written", _SEQUENCER, "(eased and banks[0])", "banks[0]"),
            Control("read", _SEQUENCER, "(banks[1] or not issuing.waits)", "(banks[0] or not issuing.waits)"),
            Control("same_memory", _LOOPS, "marks.bank.next = bank[0]", "marks.bank.next = bank[0] and px_first"),
            Control("initialised", _SEQUENCER, "(1 << HALF_BANKS - 2) - 1", "(1 << HALF_BANKS - 1) - 1"),
            Control("prompt", _SEQUENCER, "if not more:", "if not (more and job.acc_init):"),
            Control("halves_prompt", _SEQUENCER, "job.halves and halved", "job.halves and halved and before"),
            Control("idle", _SEQUENCER, "placed.valid or issuing.valid", "placed.valid"),
        ),
        short=("2x2",),
        assumes="groups are drained in order, each when its sums are complete; a layer starts when all vectors of the "
        "one before are issued, and all its groups drained where one of both has ACC_INIT; the aux reader writes banks "
        "of drained groups; a group's sums fit its half",
    ),
    Proof(
        "register_slave",
        "slave.sv",
        "one answer per request",
        {"2 ports": (SMALL | {"ports": 2}, _SLAVE_MACROS)},
        {
            "granted": "a request is granted at once",
            "one_answer": "it is answered in the next cycle, once, and nothing else is",
            "stored_bytes": "a stored register (WATCHDOG) changes by writes to it only, in the bytes that are enabled",
            "value": "a read of it gives its value",
            "unmapped": "an offset without a register reads 0",
            "counter": "CYCLE_LO is the counter's low word, CYCLE_HI its high one at the last read of CYCLE_LO",
            "doorbell_rings": "a doorbell is a write to DOORBELL, with its address",
            "reset_asked": "a soft reset is a write of that bit of CTRL",
            "force_needs_reset": "FORCE alone does nothing",
        },
        (
            Control("granted", _SLAVE, "slave.gnt.next = True", "slave.gnt.next = not slave.we"),
            Control("one_answer", _SLAVE, "slave.rvalid.next = slave.req and not rst", "slave.rvalid.next = write"),
            Control("stored_bytes", _SLAVE, "            if be[2]:", "            if be[1]:"),
            Control("value", _SLAVE, "slave.rdata.next = value", "slave.rdata.next = latched"),
            Control("unmapped", _SLAVE, "slave.rdata.next = value", "slave.rdata.next = value | index"),
            Control("counter", _SLAVE, "slave.req and hit_cycle_lo and not slave.we", "slave.req and hit_cycle_lo"),
            Control(
                "doorbell_rings",
                _SLAVE,
                "doorbell.next = write and hit_doorbell",
                "doorbell.next = slave.req and hit_doorbell",
            ),
            Control(
                "reset_asked",
                _SLAVE,
                "commands.soft_reset.next = write and hit_ctrl",
                "commands.soft_reset.next = write",
            ),
            Control(
                "force_needs_reset",
                _SLAVE,
                "hit_ctrl and wdata[soft_reset] and wdata[force]",
                "hit_ctrl and wdata[force]",
            ),
        ),
        short=("2 ports",),
    ),
    Proof(
        "register_head",
        "head.sv",
        "the common registers before an architecture's own slave",
        {"2x2": (SMALL, _HEAD_MACROS)},
        {
            "one_answer": "nothing is answered that was not granted in an earlier cycle",
            "one_at_a_time": "a request is granted when none is due, or in the cycle of its answer",
            "prompt": "the head answers in the next cycle",
            "passed_on": "what the own slave answers is answered, with its data",
            "forwarded": "the own slave gets requests from 0x100 on, unchanged, and no others",
            "granted_by_owner": "a request from 0x100 on is granted when the own slave grants it",
            "kept": "a request to the own slave is kept until it is granted",
            "identity": "MAGIC and CONFIG_HASH read as they are",
            "counter": "CYCLE_LO counts cycles, CYCLE_HI is its high word at the last read of CYCLE_LO",
        },
        (
            Control(
                "one_answer",
                _REGISTER_HEAD,
                "answers.next = s.req and granted and mine",
                "answers.next = s.req and mine",
            ),
            Control("one_at_a_time", _REGISTER_HEAD, "free.next = not waiting or own.rvalid", "free.next = True"),
            Control("prompt", _REGISTER_HEAD, "answers.next = s.req and granted and mine", "answers.next = False"),
            Control("passed_on", _REGISTER_HEAD, "answer if answers else own.rdata", "answer if mine else own.rdata"),
            Control("forwarded", _REGISTER_HEAD, "s.req and free and not mine", "s.req and free"),
            Control("granted_by_owner", _REGISTER_HEAD, "free and (mine or own.gnt)", "free"),
            Control("kept", _REGISTER_HEAD, "s.req and free and not mine", "s.req and free and not mine and cycles[0]"),
            Control("identity", _REGISTER_HEAD, "answer.next = value", "answer.next = s.wdata"),
            Control("counter", _REGISTER_HEAD, "low.next = cycles[32:]", "low.next = cycles[33:1]"),
        ),
        short=("2x2",),
        assumes="the master keeps a request that was not granted; the own slave answers nothing that it did not grant",
    ),
)
