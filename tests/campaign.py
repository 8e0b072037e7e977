# SPDX-License-Identifier: Apache-2.0
"""Thousands of broken descriptor lists on the simulated accelerator, with a guarded memory: how each of them ended.

python -m tests.campaign --lists 20000 --json build/campaign.jsonl     # resumes where the file ends
python -m tests.campaign --json build/campaign.jsonl --docs docs       # writes the table
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from hls.config import Config
from hls.descriptor.interface.registers import ERRORS, REGISTER
from hls.descriptor.interface.table import FIELDS, WORDS, pack, unpack
from hls.descriptor.model import execute
from hls.descriptor.top import generate
from hls.errors import HeepgenError
from sim.descriptors import build_bench, read, run_cases, start_script, wait_irq, write
from tests.layers import random_program

GEOMETRIES = {
    "4x4p2": Config(
        rows=4, cols=4, ports=2, activation_words=1024, weight_bytes=256, accumulator_entries=16, scratchpad_words=0
    ),
    "3x5p4": Config(
        rows=3, cols=5, ports=4, activation_words=512, weight_bytes=256, accumulator_entries=16, scratchpad_words=256
    ),
    "5x2p3 with less in it": Config(
        rows=5,
        cols=2,
        ports=3,
        activation_words=512,
        weight_bytes=256,
        accumulator_entries=32,
        scratchpad_words=512,
        arithmetic="fma",
        functions=False,
        multiply=False,
        int4_weights=False,
        banded=False,
    ),
}
WATCHDOG = 1500
LIMIT = 30_000  # cycles after which a list counts as one that goes on
POLLS = 200
BATCH = 50
PER_PROGRAM = 5  # mutants of one list, which is then run unchanged after each of them

STATUS, CTRL = REGISTER["STATUS"], REGISTER["CTRL"]
DONE, ERROR, BUSY, DRAINING = (STATUS.word(**{name: 1}) for name in ("DONE", "ERROR", "BUSY", "DRAINING"))
SOFT_RESET = CTRL.word(SOFT_RESET=1)
FORCE = CTRL.word(SOFT_RESET=1, FORCE=1)
CODES = {code: name for name, (code, _) in ERRORS.items()}
COUNTS = [f for f in FIELDS if f.kind in ("uint", "int") and f.width > 1]
ADDRESSES = [f for f in FIELDS if f.kind == "addr"]
STRIDES = [f for f in FIELDS if f.kind == "int" and f.width == 32]


def any_of(rng, fields):
    return fields[int(rng.integers(0, len(fields)))]


def changed(layer, field, value):
    return replace(layer, **{field.attribute: value})


def flip(rng, layer):
    """One to three bits of any word."""
    words = pack(layer)
    for _ in range(int(rng.integers(1, 4))):
        words[int(rng.integers(0, WORDS))] ^= np.uint32(1 << int(rng.integers(0, 32)))
    return unpack(words)


def swap(rng, layer):
    """The values of two fields of one kind."""
    one = any_of(rng, COUNTS + ADDRESSES)
    other = any_of(rng, [f for f in FIELDS if f.kind == one.kind and f.width == one.width])
    return changed(changed(layer, one, layer[other.name]), other, layer[one.name])


def off_by_one(rng, layer):
    """A count that is one too large or too small."""
    field = any_of(rng, COUNTS)
    low, high = field.range
    return changed(layer, field, min(max(layer[field.name] + int(rng.choice([-1, 1])), low), high))


def misaligned(rng, layer):
    """An address that is no multiple of 4."""
    field = any_of(rng, ADDRESSES)
    return changed(layer, field, layer[field.name] | int(rng.integers(1, 4)))


def outside(rng, layer):
    """An address, or a step, that leads out of the windows."""
    if rng.random() < 0.5:
        field = any_of(rng, ADDRESSES)
        return changed(layer, field, layer[field.name] ^ 1 << int(rng.integers(17, 32)))
    return changed(layer, any_of(rng, STRIDES), int(rng.integers(-(1 << 31), 1 << 31)))


def circle(rng, layer, doorbell):
    """NEXT leads back."""
    return replace(layer, last=0, next=doorbell)


MUTATIONS = {
    "bits flipped": flip,
    "fields swapped": swap,
    "count off by one": off_by_one,
    "misaligned": misaligned,
    "out of the window": outside,
    "list in a circle": circle,
}
EVENTS = ("doorbell meanwhile", "soft reset meanwhile", "forced reset meanwhile", "hard reset meanwhile")
KINDS = (*MUTATIONS, *EVENTS)


def mutant(rng, kind, program):
    """(word address, value) of what differs from the program's memory."""
    if kind in EVENTS and rng.random() < 0.5:
        return []  # the list itself is right
    index = int(rng.integers(0, len(program.descriptors)))
    place = program.bases[0] // 4 + WORDS * index
    before = program.memory.view(np.uint32)[place : place + WORDS]
    change = MUTATIONS.get(kind) or MUTATIONS[str(rng.choice(list(MUTATIONS)))]
    arguments = (program.doorbell,) if change is circle else ()
    after = pack(change(rng, unpack(before), *arguments))
    return [(4 * (place + int(i)), int(after[i])) for i in np.flatnonzero(before != after)]


def set_up(program):
    """Registers and doorbell."""
    return start_script(program.doorbell, program.bases, program.limits, WATCHDOG)


def event(rng, kind, program):
    """What happens in the middle of a list."""
    if kind not in EVENTS:
        return []
    delay = f"cycles {int(rng.integers(1, 250)):x}"
    if kind == "doorbell meanwhile":
        return [delay, write("DOORBELL", program.doorbell)]
    if kind == "soft reset meanwhile":
        return [delay, write("CTRL", SOFT_RESET)]
    if kind == "forced reset meanwhile":
        return [delay, "forgive 1", write("CTRL", FORCE), "cycles 2", "forgive 0"]
    return [delay, f"reset {int(rng.integers(1, 6)):x}"]


def until_drained():
    return f"until {STATUS.offset:x} {DRAINING:x} {POLLS:x}"


def case(rng, kind, program, changes, files, model):
    """Script of one case, for `ending` to read what it prints. ``model``: file of the memory that the model leaves."""
    script = [
        f"case {int(rng.choice([0, 0, 20, 40])):x} {int(rng.integers(1, 1 << 31)):x} {int(rng.integers(1, 4)):x}",
        f"image {files / 'memory'}",
    ]
    script += [f"guard {base:x} {limit:x}" for base, limit in zip(program.bases, program.limits, strict=True) if limit]
    script += [f"poke {at:x} {value:x}" for at, value in changes]
    script += [*set_up(program), *event(rng, kind, program)]
    if "reset" in kind:
        script += ["say status", read("STATUS")]
    else:  # a doorbell may have come after the end, and the interrupt be the first list's
        script += [
            "say waited",
            wait_irq(LIMIT),
            "say status",
            f"until {STATUS.offset:x} {BUSY:x} {LIMIT // 20:x}",
            f"when {BUSY:x} 4",
            "say words",
            read("BUS_WORDS"),
            f"cycles {2 * WATCHDOG:x}",
            read("BUS_WORDS"),
        ]
    script += ["say model", f"compare {model}"] if model else []
    script += [
        "say drained",
        until_drained(),
        f"unless {DONE:x} 6",
        write("CTRL", SOFT_RESET),
        "say soft",
        until_drained(),
        "unless 0 3",
        write("CTRL", FORCE),
        "say forced",
        until_drained(),
    ]
    return [
        *script,
        "say after",
        write("IRQ_STATUS", 0xFFFFFFFF),
        f"image {files / 'memory'}",
        *set_up(program),
        wait_irq(20 * LIMIT),
        read("STATUS"),
        f"compare {files / 'expected'}",
    ]


def ending(kind, lines):
    """(how the list ended, what it took to stop it, how the correct list ended that followed)."""
    said, name = {}, ""
    for line in lines:
        if line.startswith("broken"):
            what = "an access outside the windows" if "windows" in line or "memory" in line else line
            return what, "-", "-"
        if line.lstrip("-").isdigit():
            said[name].append(int(line))
        else:
            name = line
            said[name] = []
    status = said["status"][0]
    if status & ERROR:
        end = f"error {CODES.get(status >> STATUS.bits('ERROR_CODE').lsb & 15, 'unknown')}"
    elif status & DONE:
        bits = ", the model's bits" if said.get("model") == [0] else ", other bits"
        end = f"done{bits * ('model' in said)}"
    elif "reset" in kind:
        end = "stopped by the reset"
    else:
        end = "goes on" if len(set(said["words"])) > 1 else "hangs, and nothing says so"
    stopped = (
        "nothing"
        if "soft" not in said
        else "soft reset"
        if "forced" not in said
        else ("forced reset" if said["forced"] == [0] else "nothing stopped it")
    )
    waited, status, different = said["after"]
    after = (
        "right"
        if status == DONE and different == 0
        else "wrong bits"
        if status == DONE
        else ("hangs" if waited < 0 else f"error {status >> STATUS.bits('ERROR_CODE').lsb & 15}")
    )
    return end, stopped, after


def modelled(program, changes, config):
    """Memory that the model leaves of a changed list; None where it refuses it, or would take too long."""
    memory = program.memory.copy()
    words = memory.view(np.uint32)
    for at, value in changes:
        words[at // 4] = value
    address, seen = program.doorbell, set()
    while True:  # a list that is short and small
        place = (program.bases[address >> 30] + (address & 0x3FFFFFFF)) // 4
        if address in seen or place + WORDS > len(words):
            return None
        seen.add(address)
        f = unpack(words[place : place + WORDS])
        work = [f.out_px, f.groups, f.ncb, f.kh, f.kx, f.kb]
        if np.prod(work, dtype=float) > 1e5 or max(f.load_words, f.weight_words) > 1e5:
            return None
        if f.last:
            break
        address = f.next
    whole = np.concatenate([memory, np.full(4 * config.scratchpad_words, 0x5A, np.uint8)])
    try:
        execute(whole, program.doorbell, [*program.bases[:3], len(memory)], config)
    except (HeepgenError, ValueError, IndexError):
        return None
    return whole[: len(memory)]


def batch(program_dir, geometry, seed, first, count, folder):
    """Cases ``first`` to ``first + count`` of a campaign: dictionaries, one a case."""
    config = GEOMETRIES[geometry]
    script, kinds = [], []
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        if not kinds or number % PER_PROGRAM == 0:
            drawn = np.random.default_rng([seed, number // PER_PROGRAM, 1])
            program = random_program(drawn, config, layers=int(drawn.integers(1, 4)))
            files = folder / f"program{number // PER_PROGRAM}"
            files.mkdir()
            program.memory.tofile(files / "memory")
            program.expect(config)[0].tofile(files / "expected")
        kind = KINDS[number % len(KINDS)]
        changes, model = mutant(rng, kind, program), None
        if kind in MUTATIONS and kind != "list in a circle":
            after = modelled(program, changes, config)
            if after is not None:
                model = files / f"model{number}"
                after.tofile(model)
        kinds.append(kind)
        script += case(rng, kind, program, changes, files, model)
    results = run_cases(program_dir, script)
    for number, kind, lines in zip(range(first, first + count), kinds, results, strict=True):
        end, stopped, after = ending(kind, lines)
        yield {"number": number, "geometry": geometry, "kind": kind, "end": end, "stopped": stopped, "after": after}


def campaign(lists: int, seed: int, done: int = 0) -> Iterator[dict]:
    """Results of cases ``done`` to ``lists``; the geometries take turns, a batch each."""
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        programs: dict[str, Path] = {}
        first = done
        while first < lists:
            last = min(lists, (first // BATCH + 1) * BATCH)
            geometry = list(GEOMETRIES)[first // BATCH % len(GEOMETRIES)]
            if geometry not in programs:
                generate(GEOMETRIES[geometry], Path(folder) / geometry)
                programs[geometry] = build_bench(Path(folder) / geometry)
            with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
                yield from batch(programs[geometry], geometry, seed, first, last - first, Path(work))
            first = last


def bad(result: dict) -> bool:
    """Whether a result breaks what the campaign is to show."""
    return (
        result["end"].startswith(("an access", "broken", "hangs"))
        or result["after"] != "right"
        or result["stopped"] in ("nothing stopped it", "forced reset")
    )


def document(results: list[dict], seed: int) -> str:
    """docs/reliability.md."""
    ends = sorted({r["end"] for r in results})
    lines = [
        "<!-- Generated by make campaign; do not edit. -->",
        "# Reliability",
        "",
        f"How {len(results):,} descriptor lists that were broken or disturbed ended on the simulated accelerator "
        f"({', '.join(GEOMETRIES)}; seed {seed}), between random stalls, with a memory that",
        "reports every access outside BASE..LIMIT and every broken OBI rule. Of the four kinds with an event",
        "in the middle, every second list is right but for that. A list *goes on* that still moves words after",
        f"{LIMIT:,} cycles, as one in a circle does; it hangs if nothing moved for twice the watchdog's time and",
        "no error was reported. *Other bits*: than the model's, which runs one layer after the other. Behind",
        "every list the correct one runs: after DONE at once, else after a soft reset.",
        "",
    ]
    lines += ["| list | " + " | ".join(["tried", *ends]) + " |", "|---|" + "---:|" * (len(ends) + 1)]
    for kind in [*KINDS, "all"]:
        mine = [r for r in results if kind in (r["kind"], "all")]
        found = Counter(r["end"] for r in mine)
        lines.append("| " + " | ".join([kind, f"{len(mine):,}", *(f"{found[end]:,}" for end in ends)]) + " |")
    counts = {
        "accesses outside the windows": sum(r["end"].startswith("an access") for r in results),
        "broken OBI rules": sum(r["end"].startswith("broken") for r in results),
        "hangs without an error": sum(r["end"].startswith("hangs") for r in results),
        "states that a soft reset does not end": sum(
            r["stopped"] in ("nothing stopped it", "forced reset") for r in results
        ),
        "correct lists that followed and were not right": sum(r["after"] not in ("right", "-") for r in results),
    }
    lines += ["", "| to be 0 | found |", "|---|---:|", *(f"| {what} | {n:,} |" for what, n in counts.items()), ""]
    return "\n".join(lines)


@click.command()
@click.option("--lists", default=0, help="How many in all; what --json holds already is not run again.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), required=True, help="One JSON object a list and line.")
@click.option("--docs", type=click.Path(path_type=Path), help="Write reliability.md there.")
def main(lists, seed, out, docs):
    """Run broken descriptor lists on the simulated accelerator."""
    results = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    if len(results) < lists:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a") as file:
            for result in campaign(lists, seed, len(results)):
                results.append(result)
                file.write(json.dumps(result) + "\n")
                if len(results) % BATCH == 0:
                    file.flush()
                    click.echo(f"{len(results):,} of {lists:,}, {sum(map(bad, results)):,} bad", err=True)
    for result in filter(bad, results):
        click.echo(result)
    if docs:
        (docs / "reliability.md").write_text(document(results, seed))


if __name__ == "__main__":
    main()
