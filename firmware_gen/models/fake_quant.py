# SPDX-License-Identifier: Apache-2.0
"""The IR run by PyTorch: the quantised network as an ordinary nn.Module, on any device and batch size.

Weights are q * scale in float32. Accuracy is measured with this; the bit-exact model is the hardware's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import nn

from firmware_gen import ir
from firmware_gen.models.layers import FixedLayer, Layer, TrainedLayer
from firmware_gen.passes.quantise import quantise
from hls.errors import HeepgenError


def quantized_model(
    graph: ir.Graph, per_channel: bool = True, calibrate: str = "max", int4: Collection[str] = ()
) -> GraphModule:
    """The fake-quantised model of a lowered graph, to be evaluated or trained: weights act as `quantise` rounds them,
    with these options. Weights that are INT8 already stay as they are."""
    rounded = quantise(graph, per_channel, calibrate, int4) if any(_is_open(n) for n in graph.nodes) else graph
    layers = []
    for node, fixed in zip(graph.nodes, rounded.nodes, strict=True):
        shapes = graph.in_shape(node), graph.out_shape(node)
        trained = _is_open(node) and (not isinstance(node, ir.Weighted) or node.weight_scale is None)
        bits = 4 if node.name in int4 else 8
        layers.append(
            TrainedLayer(node, *shapes, per_channel, calibrate, bits)
            if trained
            else FixedLayer(fixed, *shapes, np.float32)
        )
    return GraphModule(graph, layers=layers)


def _is_open(node: ir.Node) -> bool:
    """Whether `quantise` has not seen it."""
    match node:
        case ir.Weighted():
            return node.scale is None
        case ir.Scale():
            return node.scale.dtype != np.float32
    return False


Outputs = torch.Tensor | tuple[torch.Tensor, ...]


class GraphModule(nn.Module):
    """Executes a graph in PyTorch: x (B, ...) float32 -> (B, ...) for any B, whatever batch the graph has; a tuple of
    tensors when the graph has several outputs. Of several inputs x is a tuple. A graph with state takes what it is
    before an inference as its last inputs, and returns what it is afterwards as its last outputs.

    Submodules are called as the layers of the graph are. A model that computes with its whole batch as one, as by
    reshape(1, -1), takes multiples of that batch; outputs that are vectors of something else than inputs are stacked
    then: (n,) -> (copies, n). An input that is a vector has no batch.

    Without `layers` all is fixed, as the graph has it, rounded to `dtype`, also before quantisation and straight
    after import. Those of `quantized_model` can be trained; `frozen` is what they compute, to be compiled or exported.
    `forward(x, taps)` also stores every layer's output in the dict `taps`, by layer name.
    """

    def __init__(
        self, graph: ir.Graph, dtype: type[np.floating] = np.float32, *, layers: Sequence[Layer] | None = None
    ):
        super().__init__()
        self.graph = graph
        if layers is None:
            layers = [FixedLayer(n, graph.in_shape(n), graph.out_shape(n), dtype) for n in graph.nodes]
        self._keeps_rows = _keeps_rows(graph)
        self._constants = {}
        for number, (name, array) in enumerate(graph.constants.items()):
            self._constants[name] = f"constant_{number}"
            self.register_buffer(f"constant_{number}", torch.from_numpy(np.array(array, dtype)))
        names = {layer: layer.node.name.split(".") for layer in layers}
        outer_first = sorted(layers, key=lambda layer: len(names[layer]))  # what they have themselves keeps its name
        self._paths = {layer.node.name: _insert(self, names[layer], layer) for layer in outer_first}

    def forward(self, x: torch.Tensor | Sequence[torch.Tensor], taps: dict[str, torch.Tensor] | None = None) -> Outputs:
        if not isinstance(x, torch.Tensor) or len(self.graph.inputs) > 1:
            return self._run_several((x,) if isinstance(x, torch.Tensor) else tuple(x), {} if taps is None else taps)
        expected, got = self.graph.shape(self.graph.inputs[0]), tuple(x.shape)
        if not x.is_floating_point():
            raise HeepgenError(f"the input is {x.dtype}, the model takes floating point: use x.float()")
        if got != expected and (len(expected) < 2 or got[1:] != expected[1:]):
            more = " or another batch of it" if len(expected) > 1 else ""
            raise HeepgenError(f"the input has shape {got}, the model takes {expected}{more}")
        if got == expected or self._keeps_rows:
            return self._run((x,), {} if taps is None else taps)
        if not got[0] or got[0] % expected[0]:
            raise HeepgenError(
                f"the input has shape {got}: the model computes with its batch of {expected[0]} as one, so give "
                "a multiple of that"
            )
        return self._one_by_one(torch.split(x, expected[0]), taps)

    def _run_several(self, inputs: tuple[torch.Tensor, ...], taps: dict[str, torch.Tensor]) -> Outputs:
        """`forward` of several inputs, of the graph's batch, or all of another one."""
        expected = [self.graph.shape(value) for value in self.graph.inputs]
        got = [tuple(x.shape) for x in inputs]
        batches = {shape[0] for shape in got if shape}
        other = self._keeps_rows and len(batches) == 1 and [s[1:] for s in got] == [s[1:] for s in expected]
        if got != expected and not other:
            raise HeepgenError(f"the inputs have shapes {got}, the model takes {expected}")
        return self._run(inputs, taps)

    def _run(self, inputs: tuple[torch.Tensor, ...], taps: dict[str, torch.Tensor]) -> Outputs:
        values = {name: self.get_buffer(own) for name, own in self._constants.items()}
        values |= zip(self.graph.inputs, inputs, strict=True)
        for node in self.graph.nodes:
            values[node.output] = taps[node.name] = layer_of(self, node.name)(*(values[v] for v in node.inputs))
        outputs = tuple(values[v] for v in self.graph.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def _one_by_one(self, batches: tuple[torch.Tensor, ...], taps: dict[str, torch.Tensor] | None) -> Outputs:
        """`forward` of one batch of the graph after the other."""
        kept: list[dict[str, torch.Tensor]] = [{} for _ in batches]
        results = [self._run((x,), own) for x, own in zip(batches, kept, strict=True)]
        if taps is not None:
            taps |= {name: _joined([own[name] for own in kept]) for name in kept[0]}
        outputs = tuple(_joined(parts) for parts in zip(*map(_as_tuple, results), strict=True))
        return outputs if len(outputs) > 1 else outputs[0]

    def frozen(self) -> GraphModule:
        """What the module computes now, with INT8 weights and nothing to train. Compiled, or exported with
        torch.export and compiled from there, it has exactly these weights, whichever options are given then."""
        graph = self.graph.with_nodes(layer_of(self, node.name).quantised_node() for node in self.graph.nodes)
        return GraphModule(graph)


def layer_of(module: GraphModule, name: str) -> Layer:
    """The layer called `name`; no method, since submodules are called as the user's layers are."""
    layer = module.get_submodule(module._paths[name])
    assert isinstance(layer, Layer)
    return layer


def _insert(root: nn.Module, name: list[str], layer: Layer) -> str:
    """Makes `layer` the submodule `name` of `root`, with _ behind what is the name of something else already; returns
    the path that it has."""
    parent, path = root, []
    for number, part in enumerate(name, 1):
        while part not in parent._modules and hasattr(parent, part):
            part += "_"
        path.append(part)
        child = layer if number == len(name) else parent._modules.get(part) or nn.Module()
        parent._modules[part] = child
        parent = child
    return ".".join(path)


def _keeps_rows(graph: ir.Graph) -> bool:
    """Whether a row of every tensor belongs to one row of the input, in order, so that any number of them will do."""
    batch = graph.shape(graph.inputs[0])[0]
    if any(graph.shape(value)[0] != batch for value in graph.inputs):
        return False
    for node in graph.nodes:
        shape = graph.out_shape(node)
        if any(len(graph.constants[v]) > 1 for v in node.inputs if v in graph.constants):
            return False
        if isinstance(node, ir.Expand) and graph.in_shape(node)[0] != shape[0]:
            return False
        if len(shape) == 1:  # one number for every row, or features
            one_each = isinstance(node, ir.Reshape) or node.element_by_element or node.is_uniform
            one_each |= batch == 1 and isinstance(node, ir.AsStrided)
            if shape[0] != batch or not one_each:
                return False
        elif shape[0] % batch or (isinstance(node, ir.Permute) and node.dims[0] != 0):
            return False
        elif batch > 1 and node.counts_batch:
            return False
        elif isinstance(node, ir.Concat) and node.axis == 0:
            return False
    return True


def _as_tuple(outputs: Outputs) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return (torch.cat if parts[0].ndim > 1 else torch.stack)(tuple(parts))
