# SPDX-License-Identifier: Apache-2.0
"""`heepgen explore`."""

from pathlib import Path
from typing import Any

import click

from gen import flags
from hls.errors import HeepgenError

_DEFAULTS = {"rows": "2,4,8,16,32", "cols": "2,4,8,16,32", "ports": "1,2,4"}
_LIMITED = {
    **{f"max_{name}": name for name in ("lut", "dsp", "bram", "kge")},
    "max_ram": "ram_kib",
    "target_cycles": "cycles",
    "target_uj": "uj",
}
"""Attributes of a point that options limit."""
_LIMITS = {"lut": "LUT", "dsp": "DSP slices", "bram": "blocks of RAM", "kge": "kGE of logic", "ram": "KiB of RAM"}


@click.command(short_help="Find the designs for models that nothing beats, and the one to take.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--rows", metavar="1..32", help="Rows of the array: numbers, and ranges with .. and a step as in 4..32..4."
)
@click.option("--cols", metavar="1..32", help="Columns of the array.")
@click.option("--ports", metavar="1..4", help="OBI master ports.")
@click.option("--arith", metavar="aligned,fma", help="Arithmetic of the processing elements.")
@click.option("--functions", metavar="on,off", help="With and without the function unit.")
@click.option(
    "--buffers",
    metavar="1/2,1,2",
    help="Factors for all buffers, or sizes: activation words, weight bytes, accumulator entries and scratchpad words, "
    "as in 8192:4096:64:4096.",
)
@click.option(
    "--architecture", metavar="NAME,PATH", help="Kinds of accelerators.  [default: that of the configuration]"
)
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help=f"All other options, in hjson.  [default: ./{flags.DEFAULT_CONFIG} if there is one]",
)
@flags.together(
    *(
        click.option(f"--max-{name}", type=float, metavar="N", help=f"The most {what} that a design may take.")
        for name, what in _LIMITS.items()
    )
)
@click.option("--board", metavar="NAME", help="Limits of its FPGA: pynq-z2, zcu104, nexys-a7 or ulx3s.")
@click.option(
    "--reserve-lut",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="With --board: LUT for the CPU and what else is on the FPGA.",
)
@click.option("--target-cycles", type=float, metavar="N", help="Cycles that an inference may take.")
@click.option("--target-uj", type=float, metavar="N", help="Microjoules that an inference may take.")
@click.option("--weights", metavar="1,2", help="Of the models: their weighted mean counts, not the slowest one.")
@click.option(
    "--exact", type=click.IntRange(0), metavar="N", help="Designs that the cycle model judges.  [default: 16]"
)
@click.option(
    "--confirm",
    type=click.IntRange(0),
    default=0,
    metavar="K",
    help="The best K designs are run, as heepgen run does.  [default: 0]",
)
@click.option(
    "--data",
    multiple=True,
    metavar="data.npz",
    help="Accuracy on these inputs x and labels y, as heepgen eval finds it, is an axis too; once for every model.",
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Processes.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler, whose workers judge instead.")
@click.option(
    "-o", "--out", metavar="DIR", default="build/explore", show_default=True, help="Folder for what is found."
)
@flags.input_shape
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Batch size, where a model leaves it open.")
@click.option("--append-final-softmax", is_flag=True, help="Append a Softmax to the networks.")
@flags.per_tensor
@flags.trust
@flags.json_file
@flags.wide
def explore(models: tuple[str, ...], out: str, json_path: str | None, config_path: str | None, **given: Any) -> None:
    """Judge every combination of options for MODELs (.pt2, .onnx, .pt): cycles, area, clock, energy, RAM.

    A quick estimate judges all of them, the cycle model of `heepgen estimate` those that may be on the front. What is
    found stays in DIR: a second call goes on where the first one ended. The page report.html, beside it as text
    DATASHEET.md, leads from the smallest design to the recommended one, step by step.

    \b
    Examples:
      heepgen explore model.pt2
      heepgen explore model.pt2 --rows 4..16..4 --cols 4..16..4 --ports 1,2 --jobs 2
      heepgen explore model.pt2 --rows 1..32 --cols 1..32 --max-lut 20000
      heepgen explore model.pt2 --board pynq-z2 --reserve-lut 20000
      heepgen explore model.pt2 --data test.npz --rows 4,8 --arith aligned,fma
      heepgen explore model.pt2 --confirm 2
      heepgen explore a.pt2 b.pt2 --weights 3,1 --target-cycles 200000
    """
    from gen.console import bars, show, write_json
    from gen.datasheet import boards
    from gen.explore import space
    from gen.flows.explore.explore import EXACT, bases_of
    from gen.flows.explore.explore import explore as find

    architecture, weights, exact, buffers = (given.pop(n) for n in ("architecture", "weights", "exact", "buffers"))
    if config_path is None and Path(flags.DEFAULT_CONFIG).is_file():
        config_path = flags.DEFAULT_CONFIG
    bases, paths = bases_of(config_path, None if architecture is None else space.words(architecture, "--architecture"))
    values: dict[str, tuple[Any, ...]] = {}
    for name, default in _DEFAULTS.items():
        text = given.pop(name)
        if text is not None or any(hasattr(base, name) for base in bases):
            values[name] = space.integers(text or default, f"--{name}")
    if (text := given.pop("arith")) is not None:
        values["arithmetic"] = space.words(text, "--arith")
    if (text := given.pop("functions")) is not None:
        values["functions"] = space.switches(text, "--functions")
    limits = {attribute: given.pop(option) for option, attribute in _LIMITED.items()}
    limits = {attribute: most for attribute, most in limits.items() if most is not None}
    board, reserve = given.pop("board"), given.pop("reserve_lut")
    if board is not None:
        board = boards.board(board)
        limits = {**limits, **{a: min(most, limits.get(a, most)) for a, most in board.limits(reserve).items()}}
    elif reserve:
        raise HeepgenError("--reserve-lut goes with --board, from whose LUT it is taken.")
    with bars() as update:
        report = find(
            models,
            space.Space(bases, values, () if buffers is None else space.buffers(buffers, "--buffers")),
            out,
            limits=limits,
            board=board,
            weights=None if weights is None else space.numbers(weights, "--weights"),
            exact=EXACT if exact is None else exact,
            architectures=paths,
            progress=update,
            **given,
        )
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)
