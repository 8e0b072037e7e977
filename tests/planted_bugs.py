# SPDX-License-Identifier: Apache-2.0
"""Bugs planted in two architectures, and the check that must find each of them.

`python -m tests.planted_bugs` tries all of them, or those that are named, at the default effort and prints a table.
"""

import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from firmware_gen.architectures import registry
from firmware_gen.architectures.registry import load_architecture
from gen.flows.check.kit import Effort, check_architecture
from gen.flows.check.report import CheckReport

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "fetcher": ROOT / "tests" / "check_data" / "fetcher",
    "int8_dot": ROOT / "examples" / "architectures" / "int8_dot",
}


@dataclass(frozen=True)
class Bug:
    """In `file` of an architecture every pair (old, new) is replaced; `check` is the one named for it."""

    name: str
    architecture: str
    file: str
    pairs: tuple[tuple[str, str], ...]
    check: str


def _bug(name: str, where: str, check: str, *pairs: tuple[str, str]) -> Bug:
    architecture, file = where.split("/")
    return Bug(name, architecture, file, pairs, check)


VERILOG, DRIVER, NUMPY = "fetcher/fetcher.v", "fetcher/driver.hpp", "fetcher/architecture.py"
DOT_VERILOG, DOT_DRIVER, DOT_NUMPY = "int8_dot/int8_dot.sv", "int8_dot/driver.hpp", "int8_dot/architecture.py"

BUGS = (
    # Results
    _bug("sums are not cleared", DOT_VERILOG, "calls", ("(first ? 0 : sum)", "sum")),
    _bug("the sign of weights is lost", DOT_VERILOG, "calls", ("* 16'(weight)", "* $signed(16'({8'b0, weight}))")),
    _bug(
        "the last column is read from the one before",
        DOT_VERILOG,
        "calls",
        ("s_rdata = sums[chosen]", "s_rdata = sums[chosen - COLUMN_BITS'(&chosen)]"),
    ),
    _bug(
        "sums have 18 bits",
        DOT_VERILOG,
        "calls",
        ("logic signed [31:0] sum;", "logic signed [17:0] sum;"),
        ("sum <= 32'(product)", "sum <= 18'(product)"),
        ("assign sums[c] = sum", "assign sums[c] = 32'(sum)"),
    ),
    _bug(
        "weights of a word that is not full are not written",
        DOT_DRIVER,
        "partial_tiles",
        ("for (uint32_t c = 0; c < n; c += 4) soc_register", "for (uint32_t c = 0; c + 4 <= n; c += 4) soc_register"),
    ),
    _bug(
        "negative halves are rounded up",
        DOT_NUMPY,
        "calls",
        ("np.rint(a * inverse)", "np.floor(a * inverse + np.float32(0.5))"),
    ),
    _bug(
        "subnormal numbers are flushed",
        DOT_NUMPY,
        "special_values",
        ("    finite =", "    a = np.where(magnitude < 0x00800000, np.float32(0), a)\n    finite ="),
    ),
    _bug(
        "the driver writes whole words of columns",
        DRIVER,
        "calls",
        ("for (uint32_t i = 0; i < count_; ++i) {", "for (uint32_t i = 0; i < count_ + 1; ++i) {"),
    ),
    _bug(
        "the results of a second call with the same weights overwrite the first ones",
        VERILOG,
        "back_to_back",
        ("2: c <= s_wdata;", "2: if (!fresh) c <= s_wdata;"),
        ("reg done;", "reg done, fresh;"),
        (
            "integer i;",
            "integer i;\n  always @(posedge clk) fresh <= rst_n && (fresh || done) && !(write && s_addr[9]);",
        ),
    ),
    _bug(
        "the last row of weights of a longer product is kept",
        DRIVER,
        "partial_tiles",
        ("    k_ = k, n_ = n;", "    if (k < k_) ++b;\n    k_ = k, n_ = n;"),
    ),
    # The bus
    _bug("the slave answers without a grant", DOT_VERILOG, "bus", ("s_rvalid <= s_req && rst_n", "s_rvalid <= rst_n")),
    _bug(
        "the slave never answers some reads",
        VERILOG,
        "bus",
        ("s_rvalid <= s_req && rst_n;", "s_rvalid <= s_req && rst_n && !(!s_we && m_rvalid);"),
    ),
    _bug(
        "a request is withdrawn before its grant",
        VERILOG,
        "bus",
        ("      if (m_gnt) begin\n        m_req <= 1'b0;", "      begin\n        m_req <= 1'b0;\n      if (m_gnt)"),
    ),
    _bug(
        "the address changes before the grant",
        VERILOG,
        "bus",
        ("    case (state)\n", "    if (m_req && !m_gnt) m_addr <= m_addr + 4;\n    case (state)\n"),
    ),
    _bug("a master asks for an address that is no word's", VERILOG, "bus", ("m_addr <= c + 4;", "m_addr <= c + 6;")),
    _bug("a master asks during reset", VERILOG, "reset", ("      m_req <= 1'b0;\n      j <= 0;", "      j <= 0;")),
    _bug(
        "an answer is taken in the cycle after the grant, whether it is there or not",
        VERILOG,
        "stalls",
        ("if (m_rvalid) begin\n        word", "begin\n        word"),
    ),
    _bug("the interrupt never comes", VERILOG, "calls", ("assign irq = done", "assign irq = 1'b0 & done")),
    _bug("the driver waits for another register", DRIVER, "calls", ("read(0x118)", "read(0x10)")),
    # Reset
    _bug(
        "reset does not clear a counter",
        VERILOG,
        "reset",
        ("      j <= 0;\n      column <= 0;", "      column <= 0;"),
        ("reg [DEPTH_BITS:0] k, j;", "reg [DEPTH_BITS:0] k;\n  reg [DEPTH_BITS:0] j = 0;"),
    ),
    # The head, synthesis, lint
    _bug("a signal that nobody reads", VERILOG, "lint", ("  integer i;", "  wire spare = j == k;\n  integer i;")),
    _bug(
        "a latch",
        VERILOG,
        "synthesis",
        ("  integer i;", "  integer i;\n  reg kept;\n  always @(*) if (done) kept = j[0];"),
    ),
    _bug(
        "a loop without a register",
        VERILOG,
        "synthesis",
        ("assign idle =", "wire loop = loop ^ j[0];\n  assign idle = loop |"),
    ),
    _bug(
        "a register with two drivers",
        VERILOG,
        "synthesis",
        ("  integer i;", "  always @(posedge clk) if (s_be == 0) n <= 3'd1;\n  integer i;"),
    ),
    # The NumPy function
    _bug("a product of doubles", NUMPY, "numpy_function", (" * np.float32(0.00390625)", " * 0.00390625 * np.ones(1)")),
    _bug("an input is scaled", NUMPY, "numpy_function", ("    bits =", "    a *= np.float32(1.5)\n    bits =")),
    _bug("the function fails for one column", NUMPY, "calls", ("    bits =", "    assert b.shape[1] > 1\n    bits =")),
    _bug(
        "rows depend on each other",
        NUMPY,
        "numpy_function",
        ("    bits =", "    a = np.where(np.abs(a) < np.abs(a).max() / 1024, np.float32(0), a)\n    bits ="),
    ),
    _bug("cycles are those of another machine", NUMPY, "cycles", ("47 * n", "94 * n")),
)

HARMLESS = (
    _bug("a comment", VERILOG, "", ("  integer i;", "  // sums[i] of every column\n  integer i;")),
    _bug("another name", VERILOG, "", ("row_weights", "weights_of_row")),
    _bug(
        "one more cycle between answer and sum",
        VERILOG,
        "",
        ("WRITE = 4, WRITE_ANSWER = 5;", "WRITE = 4, WRITE_ANSWER = 5, HOLD = 6;"),
        ("        state <= ADD;", "        state <= HOLD;"),
        ("      ADD: begin", "      HOLD: state <= ADD;\n      ADD: begin"),
    ),
)


def planted(bug: Bug, folder: Path) -> Path:
    """The folder of a copy of the architecture with the bug."""
    copy = folder / bug.architecture
    shutil.copytree(FOLDERS[bug.architecture], copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / bug.file
    text = path.read_text()
    for old, new in bug.pairs:
        assert old in text, f"{bug.name}: {bug.file} has no {old}"
        text = text.replace(old, new)
    path.write_text(text)
    return copy


def checked(folder: Path, effort: Effort, seed: int = 0, only: tuple[str, ...] = ()) -> CheckReport:
    """Check the architecture of a folder."""
    config = load_architecture(folder).config()
    return check_architecture(config, effort, seed, folder / "waves", only=only)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Print the names, and try nothing.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write what was found, too.")
def main(names: tuple[str, ...], listed: bool, out: Path | None) -> None:
    """Plant the bugs NAMES, or all of them, and print for each the checks that fail, and the seconds that all took."""
    known = {bug.name: bug for bug in (*BUGS, *HARMLESS)}
    if listed:
        click.echo("\n".join(known))
        return
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"no bug is called {', '.join(unknown)}; --list prints the names")
    found = []
    for bug in (known[name] for name in names or known):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            report = checked(planted(bug, Path(folder)), Effort())
            seconds = time.monotonic() - start
        failed = [check.name for check in report.checks if not check.passed]
        right = bug.check in failed if bug.check else not failed
        found.append({"bug": bug.name, "check": bug.check, "failed": failed, "seconds": seconds, "right": right})
        registry._loaded.clear()
        missed = "" if right else " MISSED"
        click.echo(f"| {bug.name} | {bug.check} | {', '.join(failed)} | {seconds:.0f} |{missed}")
        if out:
            out.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(sum(not entry["right"] for entry in found))


if __name__ == "__main__":
    main()
