# SPDX-License-Identifier: Apache-2.0
"""What the CPU takes while it sleeps, for `heepgen ppa --model`: writes gen/flows/measure/cpu.json."""

import argparse
import json
from dataclasses import asdict

from gen.flows.measure.cpu import FIGURES, PACKAGE, measured
from gen.ppa import tools
from gen.ppa.technology import technology
from hls.output import write_file
from sim.toolchain import release

COMMAND = "make ppa-cpu"


def main() -> None:
    """Map the CPU to 45 nm cells; minutes the first time."""
    argparse.ArgumentParser(prog="python -m gen.documents.measured.cpu", description=__doc__).parse_args()
    library = technology()
    origin = f"CV32E40P of {PACKAGE} {release(PACKAGE)} without its FPU, yosys {tools.version()}, {library.origin}"
    figures = {"command": COMMAND, "figures": asdict(measured(library, origin))}
    write_file(FIGURES, json.dumps(figures, indent=1) + "\n", "figures of the CPU")


if __name__ == "__main__":
    main()
