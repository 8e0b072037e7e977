# SPDX-License-Identifier: Apache-2.0
"""FuseSoC core file (CAPI2) of a generated accelerator."""

import json
from collections.abc import Iterable

from hls import SPDX


def core_file(sources: Iterable[str], *, version: str, top: str, description: str = "") -> str:
    """Text of a CAPI2 `.core` named after its root module `top`: `sources` (relative paths) and a lint target."""
    files = "\n".join(
        f"      - {name}: {{file_type: systemVerilogSource}}" if name.endswith(".sv") else f"      - {name}"
        for name in sources
    )
    return f"""\
CAPI=2:
# {SPDX}

name: heepgen:ip:{top}:{version}
description: {json.dumps(description)}

filesets:
  rtl:
    files:
{files}
    file_type: verilogSource

targets:
  default:
    filesets: [rtl]
    toplevel: {top}

  lint:
    default_tool: verilator
    filesets: [rtl]
    toplevel: {top}
    tools:
      verilator:
        mode: lint-only
        verilator_options: [-Wall]
"""
