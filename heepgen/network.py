# SPDX-License-Identifier: Apache-2.0
"""A compiled network, and what can be asked of it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_gen.application.options import ImportOptions
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.application import Application
from gen.flows.network.compiled import Compiled, of_application
from gen.results.estimate import EstimateReport
from gen.results.evaluation import EvalReport
from gen.results.firmware import Explanation, SwReport
from gen.results.runs.run import RunReport
from gen.results.runs.steps import StepsReport
from gen.results.several import SwReports
from gen.results.why import WhyReport
from heepgen.configuration import Given, configuration, plain
from hls.config import System, overridden
from hls.errors import HeepgenError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn
    from torch.export import ExportedProgram

    from firmware_gen.api import CheckedModel
    from firmware_gen.models.fake_quant import GraphModule

    Tensor = np.ndarray | torch.Tensor
    Example = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]


@dataclass(frozen=True, repr=False)
class Network:
    """A network compiled for an accelerator; `compile` makes one.

    What it returns are results: values, a table where they are printed or shown in a notebook, and `to_dict()`, which
    is what the commands write with `--json`. Every method raises HeepgenError, one sentence, for what cannot be done.
    """

    compiled: Compiled

    @property
    def name(self) -> str:
        return self.compiled.name

    @property
    def config(self) -> System:
        """The accelerator."""
        return self.compiled.config

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one inference, batch dimension first; of several inputs that of the first."""
        return tuple(self.compiled.generator.sample.shape)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all inputs, by name."""
        graph = self.compiled.generator.graph
        return {value: graph.shape(value) for value in graph.arguments}

    def report(self) -> SwReport:
        """Layers, memory plan, and how the import compares with the model; as of `heepgen sw`."""
        return self._report

    @cached_property
    def _report(self) -> SwReport:
        return self.compiled.report(self.compiled.application())

    def explain(self) -> Explanation:
        """Which layers run on the array, which on the CPU, and why; as of `heepgen sw --explain`."""
        return self.compiled.explanation

    def estimate(self) -> EstimateReport:
        """Cycles of every layer from a model of the accelerator's timing; as of `heepgen estimate`."""
        from gen.flows.network.estimate import estimate_network

        return estimate_network(self.compiled)

    def why(self, progress: Callable[[str], None] = lambda message: None) -> WhyReport:
        """What binds every layer, and what one change of the accelerator, the batch or the layout would do, each of
        them tried on the model of the accelerator's timing; as of `heepgen why`. progress: called with what is being
        done."""
        from gen.flows.network.why import why_network

        return why_network(self.compiled, progress)

    def run(
        self,
        x: "Example | None" = None,
        *,
        steps: int | None = None,
        software: bool = False,
        wait_states: int = 0,
        taps: str | Sequence[str] = (),
        vcd: str | Path | None = None,
        trace: str | Path | None = None,
        toolchain: str = "zig",
        progress: Callable[[str], None] = lambda message: None,
    ) -> RunReport | StepsReport:
        """One inference of `x`, or of the example, on the virtual SoC: the CPU's RTL, the generated Verilog, the real
        firmware, every output bit compared with the model's; as of `heepgen run`.

        x: float32 of `input_shape`; a batch dimension of 1 may be missing; of several inputs a tuple, or a dictionary
        by the names of `input_shapes`. steps: run one inference after the other, the network's state kept, and return a
        StepsReport; x then holds that many inputs, or more, along a new first dimension. software: plain C++ kernels on
        the CPU. wait_states: cycles the memory lets every access wait. taps: layers whose tensors to return, or one.
        vcd: file for the accelerator's waves. trace: file for what every engine did, for Perfetto. toolchain: "zig" or
        "gcc". progress: called with what is being done.
        """
        from gen.flows.measure.run import compared, run_application
        from gen.flows.network.sw import write_application
        from gen.inputs import load_inputs

        if steps is not None:
            from gen.flows.measure.steps import run_network_steps

            if taps or vcd is not None or trace is not None:
                raise HeepgenError("steps: taps, vcd and trace show one inference; leave them out.")
            return run_network_steps(
                self.compiled,
                steps,
                x,
                "x",
                software=software,
                wait_states=wait_states,
                toolchain=toolchain,
                progress=progress,
            )
        sample = None if x is None else load_inputs(x, "x", self.input_shapes)
        with tempfile.TemporaryDirectory(prefix="heepgen-") as temporary:
            folder = Path(temporary) / "application"
            write_application(self.compiled, folder, sample=sample, keep_activations=bool(taps))
            report = run_application(
                Application.open(folder),
                self.config,
                software=software,
                wait_states=wait_states,
                taps=(taps,) if isinstance(taps, str) else tuple(taps),
                vcd=vcd,
                trace=trace,
                toolchain=toolchain,
                progress=progress,
            )
        return compared(report)

    def evaluate(
        self,
        data: Any,
        *,
        device: str | None = None,
        batch: int = 256,
        limit: int | None = None,
        output: int = 0,
        progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    ) -> EvalReport:
        """The network on a data set in FP32, with INT8 weights in PyTorch, and bit for bit as the hardware; as of
        `heepgen eval`.

        data: a DataLoader or Dataset of (inputs, labels) or of inputs; a tuple (x, y) or x, arrays or tensors (N, ...);
        or the path of an .npz file. device: "cpu" or "cuda" for PyTorch. batch: inputs that it takes at once. limit:
        only so many inputs. output: which of several outputs is compared.
        """
        from gen.flows.network.data import data_of
        from gen.flows.network.eval import evaluate_network

        loaded = data_of(data, limit, self.input_shape)
        return evaluate_network(self.compiled, loaded, device, batch, output, progress)

    def write(self, folder: str | Path, *, force: bool = False, listing: bool = False) -> SwReport:
        """Write the application, C++ firmware, to `folder`, as `heepgen sw -o` does: whole or not at all, and nothing
        of the user's is replaced. force, listing: as there."""
        from gen.flows.network.sw import write_application

        return write_application(self.compiled, _path(folder), force=force, listing=listing)

    def fake_quantised(self) -> "GraphModule":
        """The network with its INT8 weights as an nn.Module of PyTorch, for any batch, to be evaluated or trained;
        `compile` takes it again, and has its very weights."""
        return self.compiled.generator.quantized_model(self.compiled.options.append_final_softmax)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        return f"<heepgen.Network {self.name}: input {shape}, for {geometry(self.config)}>"


def compile(
    model: "nn.Module | ExportedProgram | str | Path",
    example: "Example | None" = None,
    config: Given = None,
    *,
    architecture: str | Path | None = None,
    name: str | None = None,
    append_final_softmax: bool = False,
    per_tensor: bool = False,
    calibrate: str = "max",
    bias_correction: Any = None,
    weights: str = "int8",
    data: Any = None,
    max_loss: float | None = None,
    input_shape: tuple[int, ...] | None = None,
    batch: int | None = None,
    state: Mapping[str, str | int] | None = None,
    stream: int | None = None,
    time_axis: int | None = None,
    input_layout: str = "nchw",
    output_layout: str | None = None,
    trust_pickle: bool = False,
    **values: Any,
) -> Network:
    """Compile a model for an accelerator.

    model: an nn.Module, an ExportedProgram, or the path of a model file (.pt2, .pt, .onnx).
    example: an input, batch dimension first, which is the firmware's sample, or a tuple of all inputs, or for a module
    a dictionary by the names of forward's arguments; a file and an ExportedProgram know their shapes, and need none.
    config, architecture, values: see `configuration`. name: of the network, "model" or the file's. state: inputs that
    are what outputs, by name or number, were in the inference before, as in `{"h": 1}`; buffers that the model writes
    are kept by themselves. stream: take so many new frames a call in place of the whole window, along dimension
    `time_axis` of the input. input_layout, output_layout: "nchw" or "nhwc", the order of maps that the firmware takes,
    and of those that it returns (None: as it takes them); arrays in Python stay in the model's. per_tensor: one weight
    scale per layer instead of one per channel. calibrate: "max" or "mse", the range of the weights. bias_correction:
    inputs from which biases are corrected, as `Network.evaluate` takes them. weights: "int8", "int4", "int4:" and
    layers with commas between, or "auto": 4 bits in as many layers as `data`, inputs as for `evaluate`, bear with
    `max_loss` points lost against FP32, 0.5 unless given. input_shape (without batch dimension), batch, trust_pickle:
    for model files, as of `heepgen sw`.

    Raises HeepgenError, one sentence that names the layer or option, for whatever cannot be compiled.
    """
    from gen.flows.network.sw import with_corrected_biases
    from gen.flows.network.weights import Weights, with_weights

    asked = Weights(weights, data, max_loss)
    system = configuration(config, architecture=architecture, **values)
    if calibrate not in ("max", "mse"):
        raise HeepgenError(f'calibrate = {calibrate!r}: must be "max" or "mse".')
    if not isinstance(name, str | None):
        raise HeepgenError(f"name = {name!r}: must be a text.")
    kept = {name: str(output) for name, output in (state or {}).items()}
    options = ImportOptions(
        append_final_softmax=append_final_softmax,
        per_tensor=per_tensor,
        calibrate=calibrate,
        state=kept or None,
        stream=stream,
        time_axis=time_axis,
        input_layout=input_layout,
        output_layout=output_layout,
    )
    if isinstance(model, str | Path):
        checked = _read_file(Path(model), example, name, input_shape, batch, kept, trust_pickle)
    elif trust_pickle or input_shape is not None or batch is not None:
        raise HeepgenError("input_shape, batch and trust_pickle are for model files: leave them out, give an example.")
    else:
        checked = _read(model, example, name, kept)
    options = with_weights(options, checked, asked)
    if bias_correction is not None:
        options = with_corrected_biases(options, checked, bias_correction)
    return Network(Compiled.of(checked, None, system, options, name=checked.imported.name))


def load(folder: str | Path, config: Given = None, *, architecture: str | Path | None = None, **values: Any) -> Network:
    """The network of an application that `Network.write` or `heepgen sw` wrote, with the options and the sample that it
    was written with.

    It is compiled for the accelerator of the application, with other `values`; with `config` or `architecture` for the
    one that these say, see `configuration`. Raises HeepgenError for what is no application of one network.
    """
    application = Application.open(_path(folder))
    if config is None and architecture is None:
        return Network(of_application(application, overridden(application.config, **plain(values))))
    return Network(of_application(application, configuration(config, architecture=architecture, **values)))


def write(networks: Sequence[Network], folder: str | Path, *, force: bool = False, listing: bool = False) -> SwReports:
    """Write one application of several networks to `folder`, as `heepgen sw a.pt2 b.pt2 -o` does: all their constants,
    and one arena in which they take turns. Raises HeepgenError naming the network that cannot be in it or does not fit,
    and for networks that were compiled for different accelerators; see `Network.write`."""
    from gen.flows.network.several import write_several

    if isinstance(networks, Network) or not all(isinstance(network, Network) for network in networks):
        raise HeepgenError("networks: give a list of what heepgen.compile returned.")
    return write_several([network.compiled for network in networks], _path(folder), force=force, listing=listing)


def _path(folder: str | Path) -> Path:
    if not isinstance(folder, str | Path):
        raise HeepgenError(f"folder = {folder!r}: must be a path.")
    return Path(folder)


def _read_file(
    path: Path,
    example: Any,
    name: str | None,
    input_shape: tuple[int, ...] | None,
    batch: int | None,
    state: dict[str, str],
    trust: bool,
) -> "CheckedModel":
    from gen.flows.network.sw import load_program
    from gen.inputs import check_model, network_name

    if path.is_dir():
        raise HeepgenError(f"{path} is a folder: heepgen.load takes an application, and compile a model file.")
    check_model(path)
    name = network_name(path, name)
    from firmware_gen.api import read_model

    program, sample = load_program(path, example, input_shape, batch, trust, state)
    return read_model(program, sample, name, state)


def _read(
    model: "nn.Module | ExportedProgram", example: Any, name: str | None, state: dict[str, str]
) -> "CheckedModel":
    from torch.export import ExportedProgram

    from firmware_gen.api import read_model
    from firmware_gen.frontend.exported.prepare import with_fixed_sizes
    from gen.flows.network.sw import exported_input_shapes, random_inputs
    from gen.inputs import network_name, one_input

    if example is None and isinstance(model, ExportedProgram):
        model = with_fixed_sizes(model, "the model")
        example = random_inputs(exported_input_shapes(model))
    elif example is None:
        raise HeepgenError("example is missing: a module has no input shape of its own; give an input of one batch.")
    elif isinstance(example, Mapping):
        example = tuple(one_input(part, f"example: {name}") for name, part in _arguments(model, example).items())
    elif isinstance(example, tuple):
        example = tuple(one_input(part, "example") for part in example)
    else:
        example = one_input(example, "example")
    return read_model(model, example, network_name("model", name), state)


def _arguments(model: "nn.Module | ExportedProgram", example: Mapping[str, Any]) -> Mapping[str, Any]:
    """A dictionary of inputs in the order in which a module's forward takes them."""
    import inspect

    from torch import nn

    if not isinstance(model, nn.Module):
        raise HeepgenError("example: a dictionary is for an nn.Module, whose forward has names; give a tuple.")
    try:
        bound = inspect.signature(model.forward).bind(**example)
    except TypeError as error:
        raise HeepgenError(f"example: the model's forward: {error}; name its arguments.") from None
    if bound.kwargs or len(bound.args) != len(example):
        names = ", ".join(bound.kwargs) or "*args"
        raise HeepgenError(
            f"example: {names} cannot be given by place, as inputs are: wrap the model in a module whose forward takes "
            "its inputs in order."
        )
    return bound.arguments
