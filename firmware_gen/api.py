# SPDX-License-Identifier: Apache-2.0
"""The Python entry point: a PyTorch model in, a folder with C++ firmware out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from firmware_gen import ir
from firmware_gen.application.options import ImportOptions, note
from firmware_gen.application.picture import picture
from firmware_gen.application.reference import reference
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.architectures.targets import target_of
from firmware_gen.emit.folder import GENERATED, LISTING, MODEL, PLAN, REFERENCE, application_folder
from firmware_gen.frontend.exported import verify
from firmware_gen.frontend.exported.importer import Example, Model, import_program
from firmware_gen.frontend.loader import exported_bytes
from firmware_gen.memory.planner import MemoryReport
from firmware_gen.models.fake_quant import GraphModule, quantized_model
from firmware_gen.models.image import Result
from firmware_gen.passes import append_softmax, run_passes
from firmware_gen.passes.quantise import quantise, with_biases
from hls.config import Config, System
from hls.errors import HeepgenError
from hls.output import Content, fill


@dataclass(frozen=True)
class CheckedModel:
    """A model as it was imported and as the passes left it, found equal to its program on `sample`, as `check` says."""

    program: ExportedProgram
    imported: ir.Graph
    lowered: ir.Graph
    check: verify.Check
    sample: np.ndarray


def read_model(model: Model, example_input: Example | None, name: str = "model") -> CheckedModel:
    """Import an nn.Module or an ExportedProgram; example_input: float32 tensor or array with batch dimension.
    Raises HeepgenError, naming the layer or the numbers, for what cannot be imported."""
    sample = _sample(example_input)
    source = import_program(model, example_input, name)
    lowered = run_passes(source.graph)
    check = verify.check_program(source.graph, lowered, source.program, source.functional, sample)
    if (onnx := getattr(model, "onnx_source", None)) is not None:
        check = onnx.check(source.graph, source.functional, sample)
    return CheckedModel(source.program, source.graph, lowered, check, sample)


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
    example_input: float32 tensor or array with batch dimension; it is the generated application's sample input.
    out_dir: folder to write (default: `name`). per_channel: one weight scale per output channel, or one per tensor;
    calibrate: how its range is chosen, see `quantise`. biases: float32, by layer name, in place of the model's, see
    `bias_correction`. profile: write a cycle record per descriptor. keep_activations: no activation is overwritten, so
    that every layer's output can be read afterwards; needs more memory. `check` says how the import compares with the
    model's program, tensor by tensor, see `verify`.
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
        biases: Mapping[str, np.ndarray] | None = None,
        profile: bool = True,
        keep_activations: bool = False,
    ):
        self.config = config or Config()
        self.name = name
        self.out_dir = Path(out_dir) if out_dir is not None else Path(name)
        checked = model if isinstance(model, CheckedModel) else read_model(model, example_input, name)
        self.checked, self.sample, self.check = checked, checked.sample, checked.check
        self.imported, self.lowered = checked.imported, checked.lowered
        self.graph = with_biases(quantise(self.lowered, per_channel, calibrate), biases or {})
        kept = {layer: np.asarray(bias, np.float32).tolist() for layer, bias in (biases or {}).items()}
        self._options = ImportOptions(False, not per_channel, calibrate, kept or None)
        self.target = target_of(architecture_of(self.config))
        self._profile, self._keep = profile, keep_activations
        self._programs: dict[tuple[bool, bool], Any] = {}

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
        sample: np.ndarray | None = None,
        *,
        keep_activations: bool = False,
        listing: bool = False,
    ) -> Files:
        """All files of the application, with another sample of the input's shape if one is given."""
        program = self.program(append_final_softmax, keep_activations)
        data = self.sample if sample is None else sample
        result = self.target.run(program, data, True)
        lowered = append_softmax(self.lowered) if append_final_softmax else self.lowered
        said = reference(self.checked.program, lowered, data, result, lowered is not self.lowered)
        rendered, manifest = self.target.render(program, data, result.outputs)
        files: dict[str, Content] = {
            **rendered,
            f"{GENERATED}/{REFERENCE}": json.dumps(said | {"import_check": self.check.to_dict()}, indent=2) + "\n",
            f"{GENERATED}/{MODEL}": exported_bytes(self.checked.program),
            f"{GENERATED}/{PLAN}": picture(manifest["memory"], manifest["layers"]),
        }
        lines = self.target.listing(program) if listing else None
        memory = self.target.network(program).report.summary()
        return Files(files | ({f"{GENERATED}/{LISTING}": lines.to_text()} if lines else {}), manifest, memory, lines)

    def program(self, append_final_softmax: bool = False, keep_activations: bool = False) -> Any:
        """The compiled network: of the default architecture a `targets.descriptor.program.Program`."""
        how = append_final_softmax, keep_activations or self._keep
        if how not in self._programs:
            graph = append_softmax(self.graph) if append_final_softmax else self.graph
            self._programs[how] = self.target.compile(
                graph, self.config, profile=self._profile, keep_activations=how[1]
            )
        return self._programs[how]

    def quantized_model(self, append_final_softmax: bool = False) -> GraphModule:
        """The network with its INT8 weights as an nn.Module, to be evaluated or trained on any torch device with any
        batch, see `GraphModule`. It is a `model` for a `CodeGenerator` again, which has the same INT8 weights."""
        options = self._options
        graph = with_biases(self.lowered, options.biases or {})
        graph = append_softmax(graph) if append_final_softmax else graph
        return quantized_model(graph, not options.per_tensor, options.calibrate)

    def memory_report(self, append_final_softmax: bool = False) -> MemoryReport:
        return self.target.network(self.program(append_final_softmax)).report

    def reference(
        self, sample: Example | None = None, append_final_softmax: bool = False, taps: bool = False
    ) -> Result:
        """What the device computes, bit for bit, for `sample` (default: the example input)."""
        data = self.sample if sample is None else _sample(sample)
        return self.target.run(self.program(append_final_softmax), data, taps)


def _sample(example: Example | None) -> np.ndarray:
    if isinstance(example, torch.Tensor):
        example = example.detach().cpu().numpy()
    array = np.asarray(example)
    if array.dtype.kind not in "fiu" or array.ndim == 0:
        raise HeepgenError(f"the example input must be an array of numbers, this is {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, np.float32)
