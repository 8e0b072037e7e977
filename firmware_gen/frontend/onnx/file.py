# SPDX-License-Identifier: Apache-2.0
"""An .onnx file as a checked graph of one opset, with weights, without functions, its input's shape fixed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    checker,
    defs,
    helper,
    inliner,
    numpy_helper,
    shape_inference,
    version_converter,
)
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor, uses_external_data

from firmware_gen.frontend.exported.dynamic import chosen_sizes
from hls.errors import HeepgenError

OLDEST_OPSET = 21
"""Older models are converted to it; newer ones stay as they are."""
LARGEST = 2**30
"""Bytes of a tensor, and of all weights together; more than any memory of the hardware holds."""
LONGEST_REASON = 200
"""Letters of what a library says: it may repeat whatever is in a file."""
BROADCASTING = ("Add", "Sub", "Mul", "Div", "Pow")


def read(path: Path) -> ModelProto:
    """The model in the file, checked, with the weights that lie in files beside it."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        if model.ir_version > onnx.IR_VERSION:
            raise HeepgenError(
                f"{path} has ONNX's IR version {model.ir_version}, {onnx.IR_VERSION} is the newest "
                f"known: export it for an older one"
            )
        if (opset := opset_of(model)) > (newest := defs.onnx_opset_version()):
            raise HeepgenError(f"{path} has opset {opset}, {newest} is the newest known: export it for an older one")
        if own := next((f.name for f in model.functions if f.domain in ("", "ai.onnx")), None):
            raise HeepgenError(f"{path} has a function in the place of ONNX's operator {own}: give it another domain")
        _check_names(model)
        _check_scopes(model.graph, set())
        _read_external_data(path, model)
        checker.check_model(_lenient(model))
    except HeepgenError:
        raise
    except Exception as error:
        raise HeepgenError(f"{path} is not a complete ONNX file ({_reason(error)}); export it again") from error
    if model.graph.sparse_initializer:
        raise HeepgenError(f"{path}: weight {model.graph.sparse_initializer[0].values.name} is sparse; save it dense")
    return model


def prepare(path: Path, source: ModelProto, input_shape: tuple[int, ...] | None, batch: int | None) -> ModelProto:
    """`source` with local functions inlined, the inputs' shapes fixed, of opset `OLDEST_OPSET` or newer."""
    model = _lenient(source)
    starts = graph_inputs(path, model)
    if input_shape is not None and len(starts) > 1:
        raise HeepgenError(f"--input-shape is of one input, {path} has {len(starts)}: export it with fixed shapes")
    for start in starts:
        shape = _fixed_shape(path, start, input_shape, batch)
        start.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, shape))
    opset = opset_of(model)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model, convert_version=True)
        _drop_unread(model.graph)
        if opset < OLDEST_OPSET:
            model = version_converter.convert_version(_broadcast_explicitly(_forget_shapes(model)), OLDEST_OPSET)
        if opset < 11:
            _resize_as_before(model.graph, {})
    except Exception as error:
        raise HeepgenError(
            f"{path}: opset {opset} cannot be converted to {OLDEST_OPSET} ({_reason(error)}); export it "
            f"with opset {OLDEST_OPSET} or newer"
        ) from error
    return model


def opset_of(model: ModelProto) -> int:
    """Version of ONNX's own operators in `model`."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def graph_inputs(path: Path, model: ModelProto) -> list[Any]:
    """What a caller gives; raises HeepgenError for nothing. Initializers may be listed as inputs."""
    weights = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if not inputs:
        raise HeepgenError(f"{path}: the model has no input: it must take a tensor")
    return inputs


def _lenient(source: ModelProto) -> ModelProto:
    """A copy without what old or careless exporters get wrong, and nobody needs: the IR version, and types and shapes
    of outputs and intermediate values."""
    model = ModelProto()
    model.CopyFrom(source)
    model.ir_version = onnx.IR_VERSION
    if not any(o.domain in ("", "ai.onnx") for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 1))
    for opset in model.opset_import:
        opset.domain = "" if opset.domain == "ai.onnx" else opset.domain
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ()))
    return model


def _drop_unread(graph: GraphProto) -> None:
    """Removes nodes that no output depends on, whatever they are."""
    read = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            kept.append(node)
            read |= _read_by(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _read_by(node: NodeProto) -> set[str]:
    """Names of values that it reads, or a graph in it may."""
    inside = _graphs_in(node)
    outputs = {output.name for graph in inside for output in graph.output}
    return {*node.input, *outputs}.union(*(_read_by(inner) for graph in inside for inner in graph.node))


def _forget_shapes(model: ModelProto) -> ModelProto:
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(model, data_prop=True)


def _fixed_shape(
    path: Path, start: ValueInfoProto, given: tuple[int, ...] | None, batch: int | None
) -> tuple[int, ...]:
    tensor, what = start.type.tensor_type, f"input {start.name} of {path}"
    if tensor.elem_type != TensorProto.FLOAT:
        raise HeepgenError(f"{path}: input {start.name} is not float32; export the model in float32")
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    if not tensor.HasField("shape"):
        if given is None:
            raise HeepgenError(f"{what} has no shape: give --input-shape with the batch, such as 1,3,224,224")
        sizes = [None] * len(given)
    shape = chosen_sizes(what, sizes, given, batch)
    if not shape or min(shape) < 1 or math.prod(shape) * 4 > LARGEST:
        raise HeepgenError(f"{what} has shape {shape}; use positive sizes that fit into a memory")
    return shape


def _broadcast_explicitly(model: ModelProto) -> ModelProto:
    """Before opset 7 the second operand was laid along `axis` of the first, and slopes of PRelu along its channels;
    ONNX's converter does not always see it."""
    if opset_of(model) >= 7:
        return model
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.tensor_type.HasField("shape")}
    ranks |= {t.name: len(t.dims) for t in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        given = {a.name: a.i for a in node.attribute if a.name in ("broadcast", "axis")}
        if node.op_type in BROADCASTING and given.get("broadcast") and "axis" in given:
            first, second = node.input
            if unknown := [name for name in node.input if name not in ranks]:
                raise ValueError(f"nothing says which shape {unknown[0]} has")
            axis, ends = given["axis"] % ranks[first], ranks[second]
            if axes := list(range(ends, ranks[first] - axis)):
                nodes.append(helper.make_node("Unsqueeze", [second], [f"{second}/{node.output[0]}"], axes=axes))
                node.input[1] = f"{second}/{node.output[0]}"
            kept = [a for a in node.attribute if a.name not in given]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("broadcast", 1)])
        elif node.op_type == "PRelu" and [ranks.get(slope) for slope in node.input[1:]] == [1]:
            if axes := list(range(1, ranks[node.input[0]] - 1)):
                nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [f"{node.output[0]}/slope"], axes=axes))
                node.input[1] = f"{node.output[0]}/slope"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return shape_inference.infer_shapes(model, data_prop=True)


def _resize_as_before(graph: GraphProto, outside: Mapping[str, np.ndarray]) -> None:
    """Says how Resize and Upsample worked before opset 11, which ONNX's converter does not: outputs lie at multiples of
    1 / scale, and the nearest pixel is the one before, or the one behind where the map shrinks.
    Raises ValueError where nobody knows, or both are needed."""
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    constants |= {n.output[0]: numpy_helper.to_array(a.t) for n in graph.node for a in n.attribute
                  if n.op_type == "Constant" and a.name == "value"}  # fmt: skip
    constants = {**outside, **constants}
    for node in graph.node:
        for inner in _graphs_in(node):
            _resize_as_before(inner, constants)
        if node.op_type != "Resize":
            continue
        if not any(a.name == "mode" and a.s == b"linear" for a in node.attribute):
            scales = constants.get(node.input[2])
            shrinks = None if scales is None else {bool(scale < 1) for scale in scales if scale != 1}
            if shrinks is None or len(shrinks) > 1:
                raise ValueError("Resize has scales that are computed, or shrink and stretch at once")
            node.attribute.append(helper.make_attribute("nearest_mode", "ceil" if True in shrinks else "floor"))
        node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))


def _read_external_data(path: Path, model: ModelProto) -> None:
    """The package refuses paths, links and ranges that leave the folder or the file; sizes are checked here."""
    tensors = [t for t in _tensors(model) if uses_external_data(t)]
    sizes = [math.prod(t.dims) * helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in tensors]
    if sum(sizes) > LARGEST:
        raise HeepgenError(f"{path} has {sum(sizes):,} bytes of weights; {LARGEST:,} is the most")
    for tensor, size in zip(tensors, sizes, strict=True):
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        try:
            info = ExternalDataInfo(tensor)
            if info.length is None:
                tensor.external_data.add(key="length", value=str(size))
            elif info.length != size:
                raise ValueError(f"it has {info.length} bytes, its shape says {size}")
            load_external_data_for_tensor(tensor, str(path.parent))
        except Exception as error:
            raise HeepgenError(
                f"{path}: weight {tensor.name} cannot be read from file {location!r} beside it ({_reason(error)})"
            ) from error


def _check_names(model: ModelProto) -> None:
    """ValueError where a name is no text: the reader of files gives its bytes then."""
    graph = model.graph
    names = [named.name for named in (*graph.node, *graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.op_type, node.domain, *node.input, *node.output]
    if any(isinstance(name, bytes) for name in names):
        raise ValueError("a name in it is no text")


def _check_scopes(graph: GraphProto, outside: set[str]) -> None:
    """ValueError where a constant has the name of something in a graph around its own: which one is read?"""
    own = {tensor.name for tensor in graph.initializer}
    if twice := sorted(own & outside):
        raise ValueError(f"a graph in it has its own {twice[0]}, though one around that has it too")
    known = outside | own | {i.name for i in graph.input} | {name for node in graph.node for name in node.output}
    for node in graph.node:
        for inner in _graphs_in(node):
            _check_scopes(inner, known)


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    for owner in (model.graph, *model.functions):
        yield from _tensors_of(owner)


def _tensors_of(owner: GraphProto | FunctionProto) -> Iterator[TensorProto]:
    """Those of its nodes and of the graphs in them."""
    if isinstance(owner, GraphProto):
        yield from owner.initializer
    for node in owner.node:
        yield from (a.t for a in node.attribute if a.HasField("t"))
        for graph in _graphs_in(node):
            yield from _tensors_of(graph)


def _graphs_in(node: NodeProto) -> list[GraphProto]:
    return [a.g for a in node.attribute if a.HasField("g")]


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = (
        re.sub(r"^\S+:\d+: .*? failed: ", "", lines[0]) if lines else type(error).__name__
    )  # without the place in C++
    return said.rstrip(".") if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]}..."
