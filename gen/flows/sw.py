# SPDX-License-Identifier: Apache-2.0
"""`heepgen sw`: the firmware of a model, and what PyTorch says about the same input, in one folder."""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firmware_gen.emit.folder import GENERATED, LISTING, MODEL, PLAN, REFERENCE, application_folder
from gen.inputs import LARGEST_INPUT, check_model, load_array, load_samples, network_name
from gen.results.firmware import Explanation, SwReport
from hls.config import System
from hls.errors import HeepgenError
from hls.output import fill

SEED = 0


@dataclass(frozen=True)
class ImportOptions:
    """How a model becomes firmware; kept in the folder, so that it can be generated again for another input."""

    append_final_softmax: bool = False
    per_tensor: bool = False
    calibrate: str = "max"
    biases: dict[str, list[float]] | None = None


def generate_sw(
    model: str | Path,
    config: System,
    out: str | Path,
    *,
    name: str | None = None,
    sample: str | Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    batch: int | None = None,
    append_final_softmax: bool = False,
    per_tensor: bool = False,
    calibrate: str = "max",
    bias_correction: str | Path | None = None,
    trust_pickle: bool = False,
    force: bool = False,
    keep_activations: bool = False,
    listing: bool = False,
    progress: Callable[[str], None] = lambda message: None,
    explain: Callable[[Any], None] = lambda table: None,
) -> SwReport:
    """Write the firmware of the model file `model` for `config` to the folder `out`, whole or not at all. In an
    application that is there already only what was generated is replaced.

    `sample` is a .npy file; without one the sample input is drawn from a normal distribution, the same one
    every time. `name` is the network's, by default that of the file. `input_shape` has no batch dimension.
    `bias_correction` is an .npz file of inputs `x` from which biases are corrected. With `listing` the folder also
    holds what every descriptor does, beside its words. `explain` is called with a table of what runs where, and why,
    before anything is compiled. Raises `HeepgenError`, naming the layer or the numbers, for a model or an input that
    cannot be used.
    """
    check_model(model)
    name = network_name(model, name)
    progress(f"loading {model}")
    program, data = load_program(Path(model), sample, input_shape, batch, trust_pickle)
    checked = biases = None
    if bias_correction is not None:
        from firmware_gen.api import read_model

        progress("correcting biases")
        checked = read_model(program, data, name)
        x = load_samples(bias_correction, "--bias-correction", model=data.shape)["x"]
        biases = {layer: bias.tolist() for layer, bias in correct(checked.lowered, x, per_tensor, calibrate).items()}
    options = ImportOptions(append_final_softmax, per_tensor, calibrate, biases)
    return generate_application(
        program,
        data,
        config,
        out,
        options,
        name=name,
        checked=checked,
        force=force,
        keep_activations=keep_activations,
        listing=listing,
        progress=progress,
        explain=explain,
    )


def correct(lowered: Any, x: np.ndarray, per_tensor: bool, calibrate: str) -> dict[str, np.ndarray]:
    """Corrected biases of a lowered graph from inputs `x` (N, ...)."""
    from firmware_gen.models.bias_correction import corrected_biases
    from firmware_gen.passes.quantise import quantise

    return corrected_biases(lowered, quantise(lowered, not per_tensor, calibrate), x)


def load_program(
    model: Path,
    sample: str | Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    batch: int | None = None,
    trust_pickle: bool = False,
) -> tuple[Any, np.ndarray]:
    """The ExportedProgram of a model file and its sample input; options as for `generate_sw`."""
    check_model(model)
    program = _exported(model, sample, input_shape, batch, trust_pickle)
    shape = exported_input_shape(program)
    if sample is None:
        return program, np.random.default_rng(SEED).standard_normal(shape, np.float32)
    return program, load_array(sample, "--sample", shape)


def generate_application(
    program: Any,
    data: np.ndarray,
    config: System,
    out: str | Path,
    options: ImportOptions,
    *,
    name: str,
    checked: Any = None,
    force: bool = False,
    keep_activations: bool = False,
    listing: bool = False,
    progress: Callable[[str], None] = lambda message: None,
    explain: Callable[[Any], None] = lambda table: None,
) -> SwReport:
    """`generate_sw` for an ExportedProgram and a float32 sample of its input's shape; `checked` is what `read_model`
    made of it, if it was read."""
    from firmware_gen import CodeGenerator
    from firmware_gen.frontend.loader import exported_bytes
    from firmware_gen.passes import append_softmax
    from gen.documents.plan import draw

    softmax = options.append_final_softmax
    with application_folder(out, force=force, note={"name": name, "options": vars(options)}) as folder:
        progress(f"compiling {name}")
        generator = CodeGenerator(
            checked or program,
            data,
            config=config,
            name=name,
            per_channel=not options.per_tensor,
            calibrate=options.calibrate,
            biases=options.biases,
            keep_activations=keep_activations,
        )
        graph = append_softmax(generator.graph) if softmax else generator.graph
        placements = tuple(generator.target.explain(graph, generator.imported))
        explain(Explanation(name, placements).table())
        compiled = generator.program(softmax)
        progress(f"running {name} in PyTorch and in the bit-exact model")
        result = generator.reference(append_final_softmax=softmax, taps=True)
        reference = _reference(program, data, generator, result, softmax)
        files, manifest = generator.target.render(compiled, generator.sample, result.outputs)
        lines = generator.target.listing(compiled) if listing else None
        fill(folder, files)
        generated = {REFERENCE: json.dumps(reference, indent=2) + "\n", MODEL: exported_bytes(program)}
        fill(folder / GENERATED, generated | ({LISTING: lines.to_text()} if lines else {}))
        draw(manifest["memory"], folder / GENERATED / PLAN)
    from gen.flows.hardware import geometry

    return SwReport(
        name,
        geometry(config),
        tuple(data.shape),
        tuple(manifest["outputs"]),
        tuple(manifest["layers"]),
        manifest["memory"],
        placements,
        generator.target.network(compiled).report.summary(),
        generator.check.to_dict(),
        lines.to_dict() if lines else None,
    )


def _exported(
    model: Path, sample: str | Path | None, input_shape: tuple[int, ...] | None, batch: int | None, trust_pickle: bool
) -> Any:
    from torch.export import ExportedProgram

    from firmware_gen.frontend.exported.importer import export
    from firmware_gen.frontend.loader import load_model

    loaded = load_model(model, trust_pickle, input_shape, batch)
    if isinstance(loaded, ExportedProgram):
        return loaded
    if sample is not None:
        return export(loaded, _sample(sample, input_shape, batch))
    batch = batch or 1
    input_shape = input_shape or _shape_of_layers(model, loaded, batch)
    if math.prod((batch, *input_shape)) > LARGEST_INPUT:
        raise HeepgenError(
            f"--input-shape {list(input_shape)} with --batch {batch} is "
            f"{math.prod(input_shape) * batch:,} numbers, which no memory of an X-HEEP holds; give a "
            "smaller one."
        )
    return export(loaded, np.zeros((batch, *input_shape), np.float32))


def _sample(path: str | Path, input_shape: tuple[int, ...] | None, batch: int | None) -> np.ndarray:
    """The array of `path`, which says all about the input of a module; other options must agree with it."""
    data: np.ndarray = load_array(path, "--sample")
    if batch is not None and (data.ndim == 0 or len(data) != batch):
        raise HeepgenError(f"--batch {batch}: --sample {path} has shape {list(data.shape)}; leave the option out.")
    if input_shape is not None and data.shape[1:] != input_shape:
        raise HeepgenError(
            f"--input-shape {list(input_shape)}: --sample {path} has shape {list(data.shape)}, whose first size is the "
            "batch; leave the option out."
        )
    return data


def _shape_of_layers(model: Path, loaded: Any, batch: int) -> tuple[int, ...]:
    """The shape of one input that the layers of a module leave."""
    from firmware_gen.frontend.input_shape import ENOUGH, input_shapes

    shapes = input_shapes(loaded, batch)
    written = [",".join(map(str, shape)) for shape in shapes]
    if len(shapes) == 1:
        logging.getLogger("heepgen").warning(
            "%s: its layers take inputs of %s%s (--input-shape gives another shape)",
            model,
            written[0],
            ", and of no other square" if len(shapes[0]) == 3 else "",
        )
        return shapes[0]
    if shapes:
        more = " and more" if len(shapes) == ENOUGH else ""
        raise HeepgenError(
            f"{model}: its layers take inputs of {', of '.join(written)}{more}: say which by --input-shape "
            f"{written[0]}, or give a --sample."
        )
    raise HeepgenError(
        f"{model} does not say which input it takes, and no square or flat one fits its layers: give --input-shape, "
        "channels, height and width such as 1,28,28, or --sample."
    )


def exported_input_shape(program: Any) -> tuple[int, ...]:
    """Shape of the only input of an ExportedProgram; raises HeepgenError when there are others."""
    from firmware_gen.frontend.exported.importer import input_node

    return tuple(int(size) for size in input_node(program).meta["val"].shape)


def _reference(program: Any, data: np.ndarray, generator: Any, result: Any, softmax: bool) -> dict[str, Any]:
    """PyTorch's FP32 outputs; per layer, how far the bit-exact model's `result` is from PyTorch, and what alignment
    cost."""
    import torch

    from firmware_gen.frontend.exported.importer import run_exported
    from firmware_gen.models.fake_quant import GraphModule
    from firmware_gen.models.metrics import compare
    from firmware_gen.passes import append_softmax

    graph = generator.lowered
    exact: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        outputs = run_exported(program, torch.from_numpy(data))
        if softmax:
            outputs = [torch.softmax(output, -1) for output in outputs]
        GraphModule(append_softmax(graph) if softmax else graph)(torch.from_numpy(data), exact)
    layers = {
        name: compare(exact[name].numpy(), tap) | {"alignment_loss": result.losses.get(name)}
        for name, tap in result.taps.items()
        if name in exact
    }
    return {
        "input": [float(v) for v in data.reshape(-1)],
        "outputs": [[float(v) for v in output.reshape(-1)] for output in outputs],
        "layers": layers,
        "import_check": generator.check.to_dict(),
    }
