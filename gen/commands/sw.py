# SPDX-License-Identifier: Apache-2.0
"""`heepgen sw`."""

from typing import Any

import click

from gen import flags


@click.command(short_help="Generate the firmware that runs a PyTorch model.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@flags.geometry
@click.option("-o", "--out", metavar="DIR", help="Output folder.  [default: build/NAME-app]")
@flags.importing
@flags.calibrate
@flags.weights
@click.option("--explain", is_flag=True, help="Show which layers run on the array, which on the CPU, and why.")
@click.option("--listing", is_flag=True, help="Also write listing.txt: what every descriptor does, beside its words.")
@flags.force
@flags.json_file
@flags.wide
@flags.with_config
def sw(
    config: Any,
    models: tuple[str, ...],
    out: str | None,
    explain: bool,
    force: bool,
    json_path: str | None,
    **options: Any,
) -> None:
    """Generate the firmware that runs MODEL: C++17, weights, memory plan, a checked sample.

    MODEL is a .pt2 of torch.export, an .onnx, or a .pt holding an nn.Module of standard layers. Nothing in them
    is executed while loading, unless --trust-pickle. INT8 weights that a model holds stay as they are.

    Several MODELs, or folders of single ones that it wrote before, become one program: each has its own names in C++,
    and all take turns in one arena.

    \b
    Examples:
      heepgen sw model.pt2                        shapes come with the file
      heepgen sw model.onnx                       ONNX, of any opset
      heepgen sw model.onnx --input-shape 3,96,96     where it has dynamic sizes
      heepgen sw model.pt --append-final-softmax  the shape is what the layers leave, or --input-shape 1,28,28
      heepgen sw model.pt2 --name digits -o app   another name than the file's
      heepgen sw model.pt2 --sample image.npy     this input, and its expected output, in the firmware
      heepgen sw model.pt2 --explain              what runs where, and why
      heepgen sw model.pt2 --listing              every descriptor: what it loads and stores, and its words
      heepgen sw model.pt2 --weights int4         4 bits a weight: half of the memory, less to load
      heepgen sw model.pt2 --weights auto --data calibration.npz      in layers that bear it
      heepgen sw model.pt2 --calibrate mse --bias-correction train.npz
      heepgen sw wake.pt2 faces.pt2 -o build/both    two networks in one program
      heepgen sw build/digits-app faces.pt2 -o build/more     one of them with options of its own
    """
    from gen.console import progress, show, write_json
    from gen.flows.network.several import generate_several
    from gen.flows.network.sw import generate_sw
    from gen.inputs import network_name
    from gen.results.firmware import SwReport
    from gen.results.several import SwReports

    names = [network_name(model, options["name"] if len(models) == 1 else None) for model in models]
    out = f"build/{'-'.join(name.removesuffix('-app') for name in names)}-app" if out is None else out
    report: SwReport | SwReports
    with progress() as say:
        if explain and json_path != "-":
            options["explain"] = show
        if len(models) == 1:
            report = generate_sw(models[0], config, out, force=force, progress=say, **options)
        else:
            report = generate_several(models, config, out, force=force, progress=say, **flags.hardware(), **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)
