# SPDX-License-Identifier: Apache-2.0
"""The Python entry point: a PyTorch model in, a folder with C++ firmware out."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from firmware_gen import ir
from firmware_gen.application.options import ImportOptions, note
from firmware_gen.application.picture import picture
from firmware_gen.application.reference import reference
from firmware_gen.architectures.registry import architecture_of, find
from firmware_gen.architectures.targets import target_of
from firmware_gen.emit.folder import GENERATED, LISTING, MODEL, PLAN, REFERENCE, application_folder
from firmware_gen.frontend.exported import verify
from firmware_gen.frontend.exported.importer import Import, import_program
from firmware_gen.frontend.exported.prepare import Example, Model, is_several
from firmware_gen.frontend.exported.program import Interface, Pairs, Stepper, user_inputs
from firmware_gen.frontend.loader import exported_bytes
from firmware_gen.memory.planner import LARGEST, DoesNotFit, MemoryReport
from firmware_gen.models.fake_quant import GraphModule, quantized_model
from firmware_gen.models.image import Result, Sample, inputs_of
from firmware_gen.passes import (
    append_softmax,
    run_passes,
    split_functions,
    split_matmuls,
    split_products,
    split_statistics,
    turn_maps,
    with_channels_last,
)
from firmware_gen.passes.quantise import quantise, with_biases
from firmware_gen.refusal import too_few_inputs
from firmware_gen.streams.streaming import streaming, window_of
from firmware_gen.turned import fastest_graph, graphs_of
from hls.config import Config, System
from hls.errors import HeepgenError
from hls.output import Content, fill


@dataclass(frozen=True)
class CheckedModel:
    """A model as it was imported and as the passes left it, found equal to its program on `inputs`, as `check` says."""

    program: ExportedProgram
    interface: Interface
    imported: ir.Graph
    lowered: ir.Graph
    check: verify.Check
    inputs: tuple[np.ndarray, ...]

    @property
    def sample(self) -> np.ndarray:
        """The first input, of most networks the only one."""
        return self.inputs[0]


def read_model(
    model: Model, example_input: Example | None, name: str = "model", state: Pairs = MappingProxyType({})
) -> CheckedModel:
    """Import an nn.Module or an ExportedProgram; example_input: float32 tensor or array with batch dimension, or a
    tuple of them, one for every input; those of states, see `import_program`, may be missing from a program's.
    Raises HeepgenError, naming the layer or the numbers, for what cannot be imported."""
    given = _inputs(example_input)
    source = import_program(model, None if isinstance(model, ExportedProgram) else given, name, state)
    _refuse_oversized(source.graph)
    inputs = _arguments(source, given)
    lowered = run_passes(source.graph)
    check = verify.check_program(source.graph, lowered, source, inputs)
    if (onnx := getattr(model, "onnx_source", None)) is not None:
        check = onnx.check(source, inputs)
    return CheckedModel(
        program=source.program,
        interface=source.interface,
        imported=source.graph,
        lowered=lowered,
        check=check,
        inputs=inputs,
    )


def _refuse_oversized(graph: ir.Graph) -> None:
    """Before anything is computed: what no memory holds would take gigabytes here. Values between the layers may have
    four times its size, as the passes leave some of them out."""
    ends = 4 * sum(graph.values[name].size for name in {*graph.inputs, *graph.outputs})
    if ends > LARGEST:
        raise HeepgenError(
            f"the inputs and outputs of {graph.name} take {ends:,} bytes, and X-HEEP's memory has {LARGEST:,} at most; "
            "use a smaller input"
        )
    for node in graph.nodes:
        if (taken := 4 * graph.values[node.output].size) > 4 * LARGEST:
            raise HeepgenError(
                f"layer {node.name} makes {taken:,} bytes, and X-HEEP's memory has {LARGEST:,} at most; use a "
                "smaller input"
            )


@dataclass(frozen=True)
class Files:
    """An application: contents by name, its manifest, its memory plan in a few lines, and what its listing is made of,
    where it was asked for."""

    files: dict[str, Content]
    manifest: dict[str, Any]
    memory_text: str
    listing: Any = None


class CodeGenerator:
    """Compiles one model for one accelerator configuration.

    model: an nn.Module, an ExportedProgram, or what `read_model` made of one, which has its example input and name.
    example_input: float32 tensor or array with batch dimension, or a tuple of several inputs; it is the generated
    application's sample. state: inputs that are what outputs, by name or number, were in the inference before.
    stream: take so many new frames a call in place of the whole window, along dimension `time` of the input.
    input_layout, output_layout: how maps lie that the device takes and returns, see `ImportOptions`; here all inputs
    and outputs are in PyTorch's order. out_dir: folder to write (default: `name`). per_channel: one weight scale per
    output channel, or one per tensor; calibrate: how its range is chosen, int4: layers whose weights get 4 bits, see
    `quantise`. biases: float32, by layer name, in place of the model's, see `bias_correction`. profile: write a cycle
    record per descriptor. keep_activations: no activation is overwritten, so that every layer's output can be read
    afterwards; needs more memory. `check` says how the import compares with the model's program, tensor by tensor, see
    `verify`.
    Raises HeepgenError, naming the layer or the numbers, for what cannot be compiled.
    """

    def __init__(
        self,
        model: Model | CheckedModel,
        example_input: Example | None = None,
        out_dir: str | Path | None = None,
        config: System | None = None,
        *,
        name: str = "model",
        per_channel: bool = True,
        calibrate: str = "max",
        int4: Collection[str] = (),
        biases: Mapping[str, np.ndarray] | None = None,
        state: Pairs | None = None,
        stream: int | None = None,
        time: int | None = None,
        input_layout: str = "nchw",
        output_layout: str | None = None,
        profile: bool = True,
        keep_activations: bool = False,
    ):
        self.config = config or Config()
        self.name = name
        self.out_dir = Path(out_dir) if out_dir is not None else Path(name)
        if stream is not None and isinstance(model, ExportedProgram):
            example_input = window_of(model, _inputs(example_input))
        checked = model if isinstance(model, CheckedModel) else read_model(model, example_input, name, state or {})
        self.checked, self.inputs, self.check = checked, checked.inputs, checked.check
        architecture = architecture_of(self.config)
        self.imported, network = checked.imported, checked.lowered
        self._stream, self._time = stream, 0
        if stream is not None:
            network, self._time = streaming(checked, stream, time)
            self.inputs = (np.ascontiguousarray(self.inputs[0][_last(self._time, stream)]),)
        if not architecture.has_functions(self.config):
            network = split_functions(network)
        if not architecture.has_products(self.config):
            network = split_products(network)
        kept = {layer: np.asarray(bias, np.float32).tolist() for layer, bias in (biases or {}).items()}
        self._options = ImportOptions(
            append_final_softmax=False,
            per_tensor=not per_channel,
            calibrate=calibrate,
            biases=kept or None,
            state=dict(state or {}) or None,
            stream=stream,
            time_axis=time,
            input_layout=input_layout,
            output_layout=output_layout,
            int4=sorted(int4) or None,
        )
        self._network = network
        _ = self.graph  # what it refuses, it refuses now
        self._may_turn = True
        self.target = target_of(architecture)
        self._profile, self._keep = profile, keep_activations
        self._programs: dict[tuple[bool, ...], Any] = {}

    @cached_property
    def lowered(self) -> ir.Graph:
        """The network before quantisation, with products and statistics as the hardware computes them."""
        return self._laid_out(self._split())

    def _split(self) -> ir.Graph:
        graph, architecture = self._network, architecture_of(self.config)
        if architecture.has_statistics(self.config):
            graph = split_statistics(graph)
        if tiles := architecture.tiles(self.config):
            graph = split_matmuls(graph, *tiles)
        return graph

    def _laid_out(self, graph: ir.Graph) -> ir.Graph:
        return with_channels_last(graph, *self._options.channels_last)

    @cached_property
    def graph(self) -> ir.Graph:
        """The graph that is compiled."""
        return self._quantised(self.lowered)

    def _quantised(self, lowered: ir.Graph) -> ir.Graph:
        options = self._options
        quantised = quantise(lowered, not options.per_tensor, options.calibrate, options.int4 or ())
        return with_biases(quantised, options.biases or {})

    @cached_property
    def spare_graph(self) -> ir.Graph | None:
        """The graph that is compiled where there is no room for the other one, with products and statistics on the CPU,
        whose kernels need no memory for what lies between; None where it has none of them."""
        if self._split().nodes == self._network.nodes:
            return None
        return self._quantised(self._laid_out(self._network))

    def generate_code(
        self, append_final_softmax: bool = False, overwrite_existing_generated_files: bool = True
    ) -> Path:
        """Write the application, which `heepgen run` and the others take: C++ sources, manifest, model, what PyTorch
        says and the memory report in `gen/`, which alone is replaced later, and beside it a first main.cpp, where there
        is none; returns the folder."""
        with application_folder(
            self.out_dir, among=True, overwrite=overwrite_existing_generated_files, note=self.note(append_final_softmax)
        ) as folder:
            fill(folder, self.application(append_final_softmax).files)
        return self.out_dir

    def note(self, append_final_softmax: bool = False) -> dict[str, Any]:
        """What the marker of an application's folder says, besides kind and files."""
        return note(self.name, replace(self._options, append_final_softmax=append_final_softmax))

    def application(
        self,
        append_final_softmax: bool = False,
        sample: Sample | None = None,
        *,
        keep_activations: bool = False,
        listing: bool = False,
    ) -> Files:
        """All files of the application, with another sample of the inputs' shapes if one is given."""
        program = self.program(append_final_softmax, keep_activations)
        return self.files_of(program, append_final_softmax, sample, listing=listing)

    def files_of(
        self,
        program: Any,
        append_final_softmax: bool = False,
        sample: Sample | None = None,
        *,
        listing: bool = False,
        **beside: Any,
    ) -> Files:
        """`application` of a program that `target` compiled; `beside`: of `Target.render`."""
        data = self.inputs if sample is None else inputs_of(sample)
        result = self.target.run(program, _alone(data), True)
        lowered = append_softmax(self.lowered) if append_final_softmax else self.lowered
        said = reference(lowered, data, next(self.exact_steps([data], append_final_softmax)), result)
        rendered, manifest = self.target.render(program, _alone(data), result.outputs, **beside)
        files: dict[str, Content] = {
            **rendered,
            f"{GENERATED}/{REFERENCE}": json.dumps(said | {"import_check": self.check.to_dict()}, indent=2) + "\n",
            f"{GENERATED}/{MODEL}": exported_bytes(self.checked.program),
            f"{GENERATED}/{PLAN}": picture(manifest["memory"], manifest["layers"]),
        }
        lines = self.target.listing(program) if listing else None
        memory = self.target.network(program).report.summary()
        return Files(files | ({f"{GENERATED}/{LISTING}": lines.to_text()} if lines else {}), manifest, memory, lines)

    def program(self, append_final_softmax: bool = False, keep_activations: bool = False, shared: bool = False) -> Any:
        """The compiled network: of the default architecture a `targets.descriptor.linked.program.Program`. shared: for
        an arena in which other networks overwrite its inputs."""
        how = append_final_softmax, keep_activations or self._keep, shared
        self.choose_graph()
        if how not in self._programs:
            try:
                self._programs[how] = self._compiled(*how)
            except DoesNotFit:
                if self._programs or self.spare_graph in (None, self.graph):
                    raise
                self.lowered, self.graph = self._laid_out(self._network), self.spare_graph
                self._programs[how] = self._compiled(*how)
        return self._programs[how]

    def choose_graph(self) -> None:
        """Compile with rows as columns from now on, see `turn_maps`, if that takes fewer cycles; most networks cannot.
        Both graphs are turned after quantisation, which goes by the names of layers."""
        if not self._may_turn:
            return
        self._may_turn = False
        graphs = graphs_of(self.graph, self.config)
        if len(graphs) == 1:
            return
        try:
            graph, program = fastest_graph(graphs, self.config, profile=self._profile)
        except DoesNotFit:
            return
        if graph is not self.graph:
            self.lowered, self.graph = turn_maps(self.lowered), graph
        usual = False, False, False
        self._programs[usual] = program

    def _compiled(self, append_final_softmax: bool, keep_activations: bool, shared: bool) -> Any:
        graph = append_softmax(self.graph) if append_final_softmax else self.graph
        inputs = {"keep_inputs": False} if shared else {}
        return self.target.compile(
            graph, self.config, profile=self._profile, keep_activations=keep_activations, **inputs
        )

    def quantized_model(self, append_final_softmax: bool = False) -> GraphModule:
        """The network with its INT8 weights as an nn.Module, to be evaluated or trained on any torch device with any
        batch, see `GraphModule`. It is a `model` for a `CodeGenerator` again, which has the same INT8 weights."""
        options = self._options
        network = with_channels_last(self._network, *options.channels_last)
        graph = with_biases(network, options.biases or {})
        graph = append_softmax(graph) if append_final_softmax else graph
        return quantized_model(graph, not options.per_tensor, options.calibrate, options.int4 or ())

    def memory_report(self, append_final_softmax: bool = False) -> MemoryReport:
        return self.target.network(self.program(append_final_softmax)).report

    def reference(
        self, sample: Example | None = None, append_final_softmax: bool = False, taps: bool = False
    ) -> Result:
        """What the device computes, bit for bit, for `sample` (default: the example input)."""
        data = self.inputs if sample is None else _inputs(sample)
        return self.target.run(self.program(append_final_softmax), _alone(data), taps)

    def steps(
        self, samples: Iterable[Sample], append_final_softmax: bool = False, software: bool = False
    ) -> Iterator[Result]:
        """What the device computes, bit for bit, for one sample after the other, its state kept; or its CPU alone."""
        data = (_alone(_inputs(sample)) for sample in samples)
        if not software:
            return self.target.run_steps(self.program(append_final_softmax), data)
        plain = target_of(find("cpu"))
        graph = append_softmax(self.graph) if append_final_softmax else self.graph
        return plain.run_steps(plain.compile(graph, self.config), data)

    def exact_steps(
        self, samples: Iterable[Sample], append_final_softmax: bool = False
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """What PyTorch computes in FP32 for one sample after the other, its state kept; of a stream, on the window that
        each one ends, before which there were zeros, its newest frames."""
        initial = [torch.from_numpy(state.initial) for state in self.imported.state]
        stepper = Stepper(self.checked.program, self.checked.interface, initial)
        window = None if self._stream is None else np.zeros(self.imported.shape(self.imported.inputs[0]), np.float32)
        shapes = [self.lowered.shape(value) for value in self.lowered.results]
        appended = append_final_softmax and append_softmax(self.lowered) is not self.lowered
        for sample in samples:
            inputs = inputs_of(sample)
            if window is not None:
                window = np.concatenate([window, inputs[0]], self._time)[_last(self._time, window.shape[self._time])]
                inputs = (window,)
            outputs = stepper.step([torch.from_numpy(np.ascontiguousarray(x)) for x in inputs])
            outputs = [torch.softmax(output, -1) for output in outputs] if appended else outputs
            yield tuple(_newest(output.numpy(), shape) for output, shape in zip(outputs, shapes, strict=True))

    @property
    def sample(self) -> np.ndarray:
        """The first of `inputs`, of most networks the only one."""
        return self.inputs[0]


def _last(axis: int, count: int) -> tuple[slice, ...]:
    """Index of the last so many along a dimension."""
    return (*(slice(None),) * axis, slice(-count, None))


def _newest(output: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The end of an output along the dimension in which `shape` has less."""
    return output[tuple(slice(size - wanted, None) for size, wanted in zip(output.shape, shape, strict=True))]


def _alone(inputs: tuple[np.ndarray, ...]) -> Sample:
    """What a target takes: a single input by itself."""
    return inputs[0] if len(inputs) == 1 else inputs


def _inputs(example: Example | None) -> tuple[np.ndarray, ...]:
    """Every input of an example as float32."""
    if is_several(example):
        return tuple(_array(part) for part in example)  # type: ignore[union-attr]
    return (_array(example),)


def _arguments(source: Import, given: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Of examples of what a program takes, or of the graph's arguments, the latter."""
    places = [place for place, _ in user_inputs(source.program)]
    wanted = source.interface.arguments
    names = [source.graph.inputs[i] for i in range(len(wanted))]
    if len(given) == len(places):
        given = tuple(given[places.index(place)] for place in wanted)
    if len(given) != len(wanted):
        raise too_few_inputs(names, len(given))
    for name, data in zip(names, given, strict=True):
        if data.shape != (expected := source.graph.shape(name)):
            what = "the input" if len(names) == 1 else f"input {name}"
            raise HeepgenError(
                f"{what} has shape {data.shape}, but the model was exported for {expected}: "
                "use that shape, or export the model again"
            )
    return given


def _array(example: Any) -> np.ndarray:
    if isinstance(example, torch.Tensor):
        example = example.detach().cpu().numpy()
    array = np.asarray(example)
    if array.dtype.kind not in "fiu" or array.ndim == 0:
        raise HeepgenError(f"the example input must be an array of numbers, this is {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, np.float32)
