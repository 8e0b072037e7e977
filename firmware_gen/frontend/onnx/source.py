# SPDX-License-Identifier: Apache-2.0
"""What an ONNX file computes, by ONNX's own evaluator or onnxruntime, to compare the import with."""

from __future__ import annotations

import functools
import importlib.util
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

from firmware_gen.frontend.exported.importer import Import
from firmware_gen.frontend.exported.program import module_path, user_inputs
from firmware_gen.frontend.exported.verify import SINGLE, Check, Reference, check_layers, inputs_to_try
from firmware_gen.frontend.onnx.evaluator import OWN_OPERATORS
from firmware_gen.frontend.onnx.file import opset_of
from hls.errors import HeepgenError

EVALUATED_RIGHT = 14
"""The oldest opset whose Softmax, BatchNormalization and Resize ONNX's evaluator knows; older models are converted
before it runs them. onnxruntime knows them all."""


@dataclass(frozen=True)
class Source:
    """`model` as it is in the file, `prepared` as it was imported, and the value that each `layer` computes."""

    model: ModelProto
    prepared: ModelProto
    layers: Mapping[str, str]

    @property
    def evaluator(self) -> str:
        return "onnxruntime" if importlib.util.find_spec("onnxruntime") else "ONNX's evaluator"

    @functools.cached_property
    def _evaluators(self) -> dict[int, ReferenceEvaluator]:
        return {}

    def _run_evaluator(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All values of the file as it is, or, where ONNX's evaluator lacks what it is written with, as prepared."""
        for form in (self.model, self.prepared)[opset_of(self.model) < EVALUATED_RIGHT :]:
            try:
                if id(form) not in self._evaluators:
                    self._evaluators[id(form)] = ReferenceEvaluator(form, new_ops=OWN_OPERATORS)
                with np.errstate(all="ignore"):
                    found = self._evaluators[id(form)].run(None, feeds, intermediate=True)
                assert isinstance(found, dict)
                return found
            except Exception:
                if form is self.prepared:
                    raise
        raise AssertionError("one of them is the last")

    def check(self, source: Import, sample: Sequence[np.ndarray]) -> Check:
        """Compare a graph that was imported with the file, on `sample` (float32), from what states are at first, and on
        random inputs and states. Raises HeepgenError naming the first layer that differs."""
        return check_layers(source.graph, self._references(source, sample), "ONNX", SINGLE)

    def _references(self, source: Import, sample: Sequence[np.ndarray]) -> Iterable[Reference]:
        """Values by the names of the nodes that end a layer. Inputs for which float32 overflows are left out."""
        names = {}
        for node in source.functional.graph.nodes:
            if "val" in node.meta and (value := self.layers.get(module_path(node))) is not None:
                computes = node.args[0] if node.target is operator.getitem else node
                names[value] = computes.name, getattr(node.meta["val"], "shape", None)
        places = [place for place, _ in user_inputs(source.functional)]
        fed = dict(zip(places, (i.name for i in self._inputs), strict=True))
        for inputs in inputs_to_try((*sample, *(state.initial for state in source.graph.state))):
            rounded = [x.astype(np.float32) for x in inputs]
            feeds = {fed[place]: x for place, x in zip(source.interface.inputs, rounded, strict=True)}
            found = self._evaluate(feeds)
            if not all(np.isfinite(a).all() for a in found.values() if getattr(a, "dtype", None) == np.float32):
                continue
            values = {
                name: found[value].astype(np.float64)
                for value, (name, shape) in names.items()
                if value in found and found[value].shape == shape
            }
            results = [found[o.name].astype(np.float64) for o in self.model.graph.output]
            outputs = tuple(results[number] for number in source.interface.outputs)
            yield Reference(tuple(x.astype(np.float64) for x in rounded), values, outputs)

    @property
    def _inputs(self) -> list[ValueInfoProto]:
        weights = {t.name for t in self.prepared.graph.initializer}
        return [i for i in self.prepared.graph.input if i.name not in weights]

    def _evaluate(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            if self.evaluator == "onnxruntime":
                return _run_onnxruntime(self.model, feeds)
            return self._run_evaluator(feeds)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise HeepgenError(
                f"{self.evaluator} cannot run the model ({reason}), so that the import cannot be "
                "compared with it; export it again with a newer opset"
            ) from error


def _run_onnxruntime(model: ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime

    watched = ModelProto()
    watched.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output if name]
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, feeds), strict=True)) | feeds
