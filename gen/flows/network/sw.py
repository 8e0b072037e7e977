# SPDX-License-Identifier: Apache-2.0
"""`heepgen sw`: the firmware of a model, and what PyTorch says about the same input, in one folder."""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_gen.application.options import ImportOptions, note
from firmware_gen.emit.folder import application_folder
from gen.flows.network.application import check_other
from gen.flows.network.compiled import Compiled
from gen.flows.network.data import check_independent, data_of
from gen.flows.network.weights import Weights, with_weights
from gen.inputs import LARGEST_INPUT, check_model, load_array, load_inputs, load_samples, network_name
from gen.results.firmware import SwReport
from hls.config import System
from hls.errors import HeepgenError
from hls.output import fill

if TYPE_CHECKING:
    from firmware_gen.models.image import Sample

SEED = 0


@dataclass(frozen=True)
class Prepared:
    """A model file that was loaded: its ExportedProgram, inputs and name, how it is imported, and what `read_model`
    made of it, None where nobody needed that yet."""

    program: Any
    inputs: tuple[np.ndarray, ...]
    name: str
    options: ImportOptions
    checked: Any


def generate_sw(
    model: str | Path,
    config: System,
    out: str | Path,
    *,
    force: bool = False,
    keep_activations: bool = False,
    listing: bool = False,
    progress: Callable[[str], None] = lambda message: None,
    explain: Callable[[Any], None] = lambda table: None,
    **importing: Any,
) -> SwReport:
    """Write the firmware of the model file `model` for `config` to the folder `out`, whole or not at all. In an
    application that is there already only what was generated is replaced.

    `importing`: of the model, see `prepared`. With `listing` the folder also holds what every descriptor does, beside
    its words. `explain` is called with a table of what runs where, and why, before anything is compiled. Raises
    `HeepgenError`, naming the layer or the numbers, for a model or an input that cannot be used.
    """
    found = prepared(model, progress=progress, **importing)
    return generate_application(
        found.program,
        found.inputs,
        config,
        out,
        found.options,
        name=found.name,
        checked=found.checked,
        force=force,
        keep_activations=keep_activations,
        listing=listing,
        progress=progress,
        explain=explain,
    )


def compile_model(model: str | Path, config: System, **importing: Any) -> Compiled:
    """The network of a model file for `config`; options and errors as of `generate_sw`."""
    found = prepared(model, read=True, **importing)
    return Compiled.of(found.checked, None, config, found.options, name=found.name)


def prepared(
    model: str | Path,
    *,
    name: str | None = None,
    sample: str | Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    batch: int | None = None,
    append_final_softmax: bool = False,
    per_tensor: bool = False,
    calibrate: str = "max",
    bias_correction: str | Path | None = None,
    weights: str | None = None,
    data: str | Path | None = None,
    max_loss: float | None = None,
    state: Mapping[str, str] | None = None,
    stream: int | None = None,
    time_axis: int | None = None,
    input_layout: str = "nchw",
    output_layout: str | None = None,
    trust_pickle: bool = False,
    read: bool = False,
    progress: Callable[[str], None] = lambda message: None,
) -> Prepared:
    """Load a model file.

    `sample` is a .npy file, or of several inputs an .npz file with an array for each; without one the sample is drawn
    from a normal distribution, the same one every time. `state`: inputs that are what outputs were in the inference
    before, see `import_program`. `stream`: take so many new frames a call in place of the whole window, along dimension
    `time_axis` of the input. `input_layout`, `output_layout`: how the firmware takes and returns maps, see
    `ImportOptions`; all arrays here are in PyTorch's order. `name` is the network's, by default that of the file.
    `input_shape` has no batch dimension. `bias_correction` is an .npz file of inputs `x` from which biases are
    corrected. `weights`, `data`, `max_loss`: see `Weights`. `read`: it is read even if no option needs that.
    """
    check_model(model)
    asked = Weights(weights or "int8", data, max_loss)
    name = network_name(model, name)
    progress(f"loading {model}")
    program, inputs = load_program(
        Path(model), sample=sample, input_shape=input_shape, batch=batch, trust_pickle=trust_pickle, state=state
    )
    options = ImportOptions(
        append_final_softmax=append_final_softmax,
        per_tensor=per_tensor,
        calibrate=calibrate,
        state=dict(state) if state else None,
        stream=stream,
        time_axis=time_axis,
        input_layout=input_layout,
        output_layout=output_layout,
    )
    checked = None
    if read or bias_correction is not None or asked.which != "int8":
        from firmware_gen.api import read_model

        checked = read_model(program, inputs, name, state or {})
        options = with_weights(options, checked, asked, progress)
    if bias_correction is not None:
        progress("correcting biases")
        options = with_corrected_biases(options, checked, bias_correction)
    return Prepared(program, inputs, name, options, checked)


def with_corrected_biases(options: ImportOptions, checked: Any, given: Any) -> ImportOptions:
    """Options with the biases of a model that was read, corrected by the inputs `x` (N, ...) of an .npz file, or by
    what `data_of` takes."""
    from firmware_gen.models.bias_correction import corrected_biases
    from firmware_gen.passes.quantise import quantise

    check_independent(checked.imported, "biases are corrected")
    shape = checked.sample.shape
    if isinstance(given, str | Path):
        x = load_samples(given, "--bias-correction", model=shape)["x"]
    else:
        x = data_of(given, model=shape).x
    quantised = quantise(checked.lowered, not options.per_tensor, options.calibrate, options.int4 or ())
    biases = corrected_biases(checked.lowered, quantised, x)
    return replace(options, biases={layer: bias.tolist() for layer, bias in biases.items()})


def load_program(
    model: Path,
    sample: str | Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    batch: int | None = None,
    trust_pickle: bool = False,
    state: Mapping[str, str] | None = None,
) -> tuple[Any, tuple[np.ndarray, ...]]:
    """The ExportedProgram of a model file and its sample, an array for every input; options as for `generate_sw`."""
    check_model(model)
    program = _exported(model, sample, input_shape, batch, trust_pickle)
    shapes = exported_input_shapes(program, state or {})
    if sample is None:
        return program, random_inputs(shapes)
    return program, load_inputs(sample, "--sample", shapes)


def random_inputs(shapes: Mapping[str, tuple[int, ...]]) -> tuple[np.ndarray, ...]:
    """Of a normal distribution, the same ones every time."""
    random = np.random.default_rng(SEED)
    return tuple(random.standard_normal(shape, np.float32) for shape in shapes.values())


def generate_application(
    program: Any,
    data: "Sample",
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
    """`generate_sw` for an ExportedProgram and a float32 sample of its inputs' shapes; `checked` is what `read_model`
    made of it, if it was read."""
    check_other(out, several=False)
    with application_folder(out, force=force, note=note(name, options)) as folder:
        progress(f"compiling {name}")
        compiled = Compiled.of(checked or program, data, config, options, name=name)
        explain(compiled.explanation.table())
        progress(f"compiling {name}, and running it in PyTorch and in the bit-exact model")
        application = compiled.application(keep_activations=keep_activations, listing=listing)
        fill(folder, application.files)
    return compiled.report(application)


def write_application(
    compiled: Compiled,
    out: str | Path,
    *,
    sample: "Sample | None" = None,
    force: bool = False,
    keep_activations: bool = False,
    listing: bool = False,
) -> SwReport:
    """`generate_sw` for a network that is compiled already, with another sample if one is given."""
    check_other(out, several=False)
    with application_folder(out, force=force, note=note(compiled.name, compiled.options)) as folder:
        application = compiled.application(sample, keep_activations=keep_activations, listing=listing)
        fill(folder, application.files)
    return compiled.report(application)


def _exported(
    model: Path, sample: str | Path | None, input_shape: tuple[int, ...] | None, batch: int | None, trust_pickle: bool
) -> Any:
    from torch.export import ExportedProgram

    from firmware_gen.frontend.exported.prepare import export
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
    if len(shapes) == 1 and len(set(shapes[0][1:])) < 2:  # of oblong maps there might be larger ones
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
        f"{model} does not say which input it takes, and none fits its layers: give --input-shape, "
        "channels, height and width such as 1,28,28, or --sample."
    )


def exported_input_shapes(program: Any, state: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs of an ExportedProgram that are no `state`, by name."""
    from firmware_gen.frontend.exported.program import user_inputs

    shapes = {node.name: tuple(map(int, node.meta["val"].shape)) for _, node in user_inputs(program)}
    return {name: shape for name, shape in shapes.items() if name not in state}


def exported_input_shape(program: Any) -> tuple[int, ...]:
    """Shape of the only input of an ExportedProgram; raises HeepgenError when there are others."""
    from firmware_gen.frontend.exported.prepare import input_node

    return tuple(int(size) for size in input_node(program).meta["val"].shape)
