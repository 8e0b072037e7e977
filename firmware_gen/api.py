# SPDX-License-Identifier: Apache-2.0
"""The Python entry point: a PyTorch model in, a folder with C++ firmware out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from firmware_gen import ir
from firmware_gen.emit import codegen
from firmware_gen.frontend.exported import verify
from firmware_gen.frontend.exported.importer import Example, Model, import_program
from firmware_gen.memory.planner import MemoryReport
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.models.image import Result
from firmware_gen.passes import append_softmax, run_passes
from firmware_gen.passes.quantise import quantise, with_biases
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.compiler import compile_choices
from firmware_gen.targets.descriptor.program import Program
from firmware_gen.targets.descriptor.strips import fastest
from hls.config import Config
from hls.errors import HeepgenError


@dataclass(frozen=True)
class CheckedModel:
    """A model as it was imported and as the passes left it, found equal to its program on `sample`, as `check` says."""

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
    return CheckedModel(source.graph, lowered, check, sample)


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
        config: Config | None = None,
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
        self.sample, self.imported, self.lowered = checked.sample, checked.imported, checked.lowered
        self.check = checked.check
        self.graph = with_biases(quantise(self.lowered, per_channel, calibrate), biases or {})
        self._profile, self._keep = profile, keep_activations
        self._programs: dict[bool, Program] = {}

    def generate_code(
        self, append_final_softmax: bool = False, overwrite_existing_generated_files: bool = True
    ) -> Path:
        """Write C++ sources, manifest.json and the memory report; returns the folder."""
        return codegen.generate(
            self.program(append_final_softmax), self.sample, self.out_dir, overwrite_existing_generated_files
        )

    def program(self, append_final_softmax: bool = False) -> Program:
        """The compiled network."""
        if append_final_softmax not in self._programs:
            graph = append_softmax(self.graph) if append_final_softmax else self.graph
            programs = compile_choices(graph, self.config, self._profile, self._keep)
            self._programs[append_final_softmax] = fastest(programs)
        return self._programs[append_final_softmax]

    def quantized_model(self) -> GraphModule:
        """The network with its INT8 weights as an nn.Module: runs on any torch device, any multiple of
        the batch, see `GraphModule`."""
        return GraphModule(self.graph)

    def memory_report(self, append_final_softmax: bool = False) -> MemoryReport:
        return self.program(append_final_softmax).report

    def reference(
        self, sample: Example | None = None, append_final_softmax: bool = False, taps: bool = False
    ) -> Result:
        """What the device computes, bit for bit, for `sample` (default: the example input)."""
        data = self.sample if sample is None else _sample(sample)
        return reference.run(self.program(append_final_softmax), data, taps)


def _sample(example: Example | None) -> np.ndarray:
    if isinstance(example, torch.Tensor):
        example = example.detach().cpu().numpy()
    array = np.asarray(example)
    if array.dtype.kind not in "fiu" or array.ndim == 0:
        raise HeepgenError(f"the example input must be an array of numbers, this is {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, np.float32)
