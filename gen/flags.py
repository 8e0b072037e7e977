# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share; everything but click is imported when it is needed."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_CONFIG = "heepstor_cfg.hjson"


def together(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    def apply(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


def _shape(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        shape = tuple(int(part) for part in value.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise click.BadParameter(f"{value} is not a shape; write positive sizes such as 1,28,28")
    return shape


def _pairs(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    pairs = {}
    for value in values:
        name, equals, other = value.partition("=")
        if not (name and equals and other):
            raise click.BadParameter(f"{value}: write INPUT=OUTPUT such as h=1")
        if name in pairs:
            raise click.BadParameter(f"{value}: {name} is given twice")
        pairs[name] = other
    return pairs or None


_config = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help=f"Configuration in hjson.  [default: ./{DEFAULT_CONFIG} if there is one]",
)
_ATTRIBUTES = {"rows": "rows", "cols": "cols", "arith": "arithmetic", "ports": "ports"}
_sizes = together(
    click.option("--rows", type=int, metavar="R", help="Rows of the array, 1 to 32: reduction."),
    click.option("--cols", type=int, metavar="C", help="Columns of the array, 1 to 32: output channels."),
    click.option("--arith", metavar="aligned|fma", help="Arithmetic of the processing elements."),
    click.option("--ports", type=int, metavar="P", help="OBI master ports, 1 to 4."),
)
geometry = together(
    _config,
    click.option(
        "--architecture",
        metavar="NAME|PATH",
        help="Kind of accelerator: a name that heepgen architectures lists, or a folder whose architecture.py to run.",
    ),
    _sizes,
)
named = together(click.argument("architecture", metavar="NAME|PATH"), _config, _sizes)
"""`geometry` of the architecture that the command is given."""


def writable(_ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse a file that cannot be written, before anything is computed."""
    from hls.output import check_file

    if value not in (None, "-"):
        check_file(value, param.opts[0])
    return value


json_file = click.option(
    "--json", "json_path", metavar="FILE", callback=writable, help="Write the results as JSON; - for stdout."
)


def _wide(context: click.Context, _param: click.Parameter, value: bool) -> None:
    from gen.console import WIDE

    context.meta[WIDE] = value


wide = click.option(
    "--wide", is_flag=True, expose_value=False, callback=_wide, help="Show all of a table in a narrow terminal too."
)
force = click.option(
    "--force", is_flag=True, help="Replace a folder that heepgen did not write (it is moved aside to NAME.old)."
)
per_tensor = click.option("--per-tensor", is_flag=True, help="One weight scale per layer instead of one per channel.")
calibrate = together(
    click.option(
        "--calibrate",
        type=click.Choice(["max", "mse"]),
        default="max",
        show_default=True,
        help="Range of the weights: all of them, or that with the least squared error.",
    ),
    click.option(
        "--bias-correction",
        metavar="FILE.npz",
        type=click.Path(dir_okay=False),
        help="Correct biases by the mean error that INT8 weights cause on these inputs x (N, ...).",
    ),
)
bits = click.option(
    "--weights",
    metavar="int8|int4|auto|int4:LAYER,...",
    help="Bits of the weights: 8, 4, 4 in as many layers as inputs bear, or in these.  [default: int8]",
)
weights = together(
    bits,
    click.option(
        "--data",
        metavar="FILE.npz",
        type=click.Path(dir_okay=False),
        help="For --weights auto: inputs x (N, ...) and labels y (N,) to choose on.",
    ),
    click.option(
        "--max-loss",
        type=float,
        metavar="POINTS",
        help="For --weights auto: what it may cost against FP32, of a hundred.  [default: 0.5]",
    ),
)
trust = click.option(
    "--trust-pickle", is_flag=True, help="Load files whose pickle may run code. Only for files you made yourself."
)
scheduler = click.option(
    "--scheduler", metavar="ADDRESS", help="Work on the Dask cluster whose scheduler is there, such as tcp://host:8786."
)
named_network = click.option("--name", metavar="NAME", help="Name of the network.  [default: that of the model file]")
input_shape = click.option(
    "--input-shape",
    metavar="1,28,28",
    callback=_shape,
    help="Shape of one input, without the batch dimension, where the file leaves it open: a .pt whose layers take "
    "several, a .pt2 or an .onnx with dynamic sizes.",
)
importing = together(
    named_network,
    input_shape,
    click.option(
        "--batch",
        type=click.IntRange(1),
        metavar="N",
        help="Batch size of a .pt, 1 unless given, or of a model that leaves it open.",
    ),
    click.option(
        "--sample",
        metavar="FILE.npy",
        type=click.Path(dir_okay=False),
        help="Input to link into the firmware, batch dimension included; of several inputs an .npz with their names.",
    ),
    click.option(
        "--state",
        multiple=True,
        metavar="INPUT=OUTPUT",
        callback=_pairs,
        help="This input is what that output, by name or number, was in the inference before; zeros in the first. "
        "Buffers that the model writes need no option. Repeatable.",
    ),
    click.option(
        "--stream",
        type=click.IntRange(1),
        metavar="FRAMES",
        help="Take only so many new frames a call in place of the whole window that the model was exported for.",
    ),
    click.option(
        "--time-axis",
        type=click.IntRange(2, 3),
        metavar="D",
        help="With --stream: dimension of the input that is time.",
    ),
    click.option(
        "--input-layout",
        type=click.Choice(["nchw", "nhwc"]),
        default="nchw",
        show_default=True,
        help="Order in which the firmware takes maps, in its memory; --sample and --input stay in the model's.",
    ),
    click.option(
        "--output-layout",
        type=click.Choice(["nchw", "nhwc"]),
        help="Order in which the firmware leaves maps that it returns; reports stay in the model's.  "
        "[default: as --input-layout]",
    ),
    click.option("--append-final-softmax", is_flag=True, help="Append a Softmax to the network."),
    per_tensor,
    trust,
)


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the geometry options of a command into its `config` argument."""

    @functools.wraps(command)
    def wrapper(
        config_path: str | None,
        architecture: str | None,
        rows: int | None,
        cols: int | None,
        arith: str | None,
        ports: int | None,
        prefix: str | None = None,
        **options: Any,
    ) -> Any:
        from firmware_gen.architectures.registry import load_config

        flags = {"rows": rows, "cols": cols, "arithmetic": arith, "ports": ports, "prefix": prefix}
        if config_path is None and Path(DEFAULT_CONFIG).is_file():
            config_path = DEFAULT_CONFIG
        return command(config=load_config(config_path, architecture, **flags), **options)

    return wrapper


def given(*names: str) -> bool:
    """Whether one of these options of the command was given."""
    params = click.get_current_context().params
    return any(params[name] is not None for name in names)


def hardware() -> dict[str, Any]:
    """What the command says of the hardware for an application: arguments of `gen.flows.network.application.wanted`."""
    params = click.get_current_context().params
    flags = {attribute: params[name] for name, attribute in _ATTRIBUTES.items() if params[name] is not None}
    whole = given("config_path") or bool(flags) and given("architecture")
    return {"hardware_given": whole, "architecture_given": given("architecture"), "changed": {} if whole else flags}
