# SPDX-License-Identifier: Apache-2.0
"""A network as calls, in C++: of the plain kernels, and of an accelerator's driver."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware_gen import ir
from firmware_gen.architectures.contract import Prediction
from firmware_gen.emit import codegen
from firmware_gen.emit.codegen import layer_text, runtime
from firmware_gen.emit.cpu_calls import cpu_call, product_call
from firmware_gen.emit.literals import float_literal, identifier
from firmware_gen.emit.mode import Half, Mode
from firmware_gen.memory.network import Layer
from firmware_gen.models.image import Sample
from firmware_gen.operations.tensors import View
from firmware_gen.operations.windows import Windowed
from firmware_gen.targets.calls import model
from firmware_gen.targets.calls.calls import FACTORS, PRODUCT, Call, CallProgram, software_calls
from firmware_gen.targets.calls.product import CHUNK, GATHERED_ROWS, GATHERED_WORDS, Product

NO_PROFILE: dict[str, Any] = {"offset": None, "words": [], "records": 0}


@dataclass(frozen=True)
class Driver:
    """What drives the product in C++: `files` by name, among them DRIVER, which declares `class heepstor::Driver`."""

    files: Mapping[str, str]


DRIVER, GEMM = "driver.hpp", "gemm.hpp"
RUNTIME = "gemm"
"""Folder of the loops around an accelerator's product."""


def render(
    program: CallProgram,
    sample: Sample,
    outputs: Sequence[np.ndarray],
    driver: Driver | None = None,
    beside: CallProgram | None = None,
    prediction: Prediction | None = None,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Text of every generated file, by relative name, and the manifest; `outputs` are what the bit-exact model says of
    the sample. With a product also `driver`, without one the program is for the CPU alone. `beside`: see `Target`;
    `prediction`: None where nobody says what the product takes."""
    network = program.network
    cpu = beside or software_of(program)
    software = software_mode(cpu, model.run(cpu, sample).outputs if program.product else outputs)
    calls = call_texts(cpu, software)
    if program.product is None:
        accelerator, half, driven = software, _cpu_half(program, prediction), calls
    else:
        assert driver is not None
        accelerator = Mode(
            network=network,
            constants=program.constants,
            placed=program.placed,
            arena_address=program.arena_address,
            outputs=outputs,
            type="Weights",
        )
        driven = call_texts(program, accelerator)
        half = _driver_half(program, program.product, driver, driven, prediction)
    layers = [
        layer_text(index, layer, timed=True, end_word=None, calls=own, driver_calls=own_driven)
        for index, (layer, own, own_driven) in enumerate(
            zip(
                network.layers,
                layer_calls(cpu, software, calls, network.layers),
                layer_calls(program, accelerator, driven, network.layers),
                strict=True,
            )
        )
    ]
    return codegen.render(accelerator, software, half, calls, layers, sample, beside is not None)


def _cpu_half(program: CallProgram, prediction: Prediction | None) -> Half:
    facts, around = _layer_facts(program, prediction), prediction.around if prediction else None
    return Half(
        template="model_cpu.cpp.j2",
        context={},
        header="accelerator.hpp",
        runtime=runtime(),
        layers=facts,
        profile=NO_PROFILE,
        around=around,
    )


def _driver_half(
    program: CallProgram,
    product: Product,
    driver: Driver,
    calls: Sequence[Mapping[str, Any]],
    prediction: Prediction | None,
) -> Half:
    config = program.network.config
    context = {
        "architecture": config.architecture,
        "depth": product.depth,
        "width": product.width,
        "scratch": product.scratch_bytes,
        "gathered": (CHUNK, GATHERED_ROWS, GATHERED_WORDS),
        "driver_calls": calls,
    }
    files = runtime(RUNTIME) | dict(driver.files)
    return Half(
        template="model_gemm.cpp.j2",
        context=context,
        header="accelerator.hpp",
        runtime=files,
        layers=_layer_facts(program, prediction),
        profile=NO_PROFILE,
        includes=(DRIVER, GEMM),
        around=prediction.around if prediction else None,
    )


def _layer_facts(program: CallProgram, prediction: Prediction | None) -> list[dict[str, Any]]:
    """What the manifest says of layers besides their shapes: where each one runs, and how long."""
    layers = program.network.layers
    predicted = prediction.layers if prediction else [None] * len(layers)
    return [
        {
            "bound_cycles": 0,
            "on_cpu": not any(call.on_driver or call.kernel == PRODUCT for call in program.calls_of(layer.name)),
            "descriptors": [],
            "estimated_cycles": own and own.cycles,
        }
        for layer, own in zip(layers, predicted, strict=True)
    ]


def software_of(program: CallProgram) -> CallProgram:
    """The same network for the CPU alone."""
    return software_calls(program.network) if program.product else program


def software_mode(program: CallProgram, outputs: Iterable[np.ndarray]) -> Mode:
    """The program of plain kernels."""
    return Mode(
        network=program.network,
        constants=program.constants,
        placed=program.placed,
        arena_address=program.arena_address,
        outputs=outputs,
        type="SoftwareWeights",
        defines=codegen.SOFTWARE_DEFINES,
    )


def call_texts(program: CallProgram, mode: Mode) -> list[dict[str, Any]]:
    """Every call for the templates: its layer, images, statement and window."""
    places = mode.places()
    calls = []
    for index, call in enumerate(program.calls):
        whole = call.kernel in FACTORS.values()  # of all images at once
        window_name = None if whole or call.operation.flat else f"k{index}_{identifier(call.layer)}"
        calls.append(
            {
                "layer": call.layer,
                "images": 1 if whole else call.operation.images,
                "window": _window(call, places) if window_name else None,
                "window_name": window_name,
                "text": _call_text(call, program, places, window_name),
            }
        )
    return calls


def layer_calls(
    program: CallProgram, mode: Mode, calls: Sequence[dict[str, Any]], layers: Sequence[Layer]
) -> list[list[dict[str, Any]]]:
    """Those of every layer, or that of the CPU's operator."""
    own: dict[str, list[dict[str, Any]]] = {layer.name: [] for layer in layers}
    for text in calls:
        own[text["layer"]].append(text)
    places = mode.places()
    for layer in layers:
        if isinstance(layer.node, ir.OnCpu):
            own[layer.name] = [{"images": 1, "text": cpu_call(layer.node, layer, program.network, places)}]
    return [own[layer.name] for layer in layers]


def _offset(program: CallProgram, view: View) -> int:
    return program.network.offsets[view.base.name] // 4 + view.base.offset


def _activation(call: Call, places: Mapping[str, str]) -> str:
    act = call.op.act
    table = places[call.constants["table"]] if act.function else "nullptr"
    return "{" + ", ".join([*map(float_literal, act.numbers.values()), table]) + "}"


_ADD = {
    ("none", "add"): "none",
    ("before_act", "add"): "before_activation",
    ("after_act", "add"): "after_activation",
    ("before_act", "multiply"): "factor_before_activation",
    ("after_act", "multiply"): "factor_after_activation",
    ("before_act", "negative"): "slope_before_activation",
    ("after_act", "negative"): "slope_after_activation",
    ("before_act", "maximum"): "maximum_before_activation",
}


def _add(op: Windowed) -> str:
    return f"kernels::Add::{_ADD[op.residual, op.combine]}"


def _window(call: Call, places: Mapping[str, str]) -> str:
    op: Windowed = call.op
    operation = call.operation
    views = (operation.source, operation.target, operation.aux)
    strides = ["{" + (f"{v.c}, {v.x}, {v.y}" if v else "0, 0, 0") + "}" for v in views]
    numbers = [
        op.channels,
        op.height,
        op.width,
        op.out_height,
        op.out_width,
        *op.kernel,
        *op.stride,
        *op.dilation,
        op.top,
        op.left,
        op.groups,
        op.cout,
    ]
    first = "true" if call.channels_first else "false"
    return "{" + ", ".join([*map(str, numbers), *strides, _activation(call, places), _add(op), first]) + "}"


def _call_text(call: Call, program: CallProgram, constants: dict[str, str], window: str | None) -> str:
    operation = call.operation
    whole = operation.images == 1 or call.kernel in FACTORS.values()
    places = [
        _place(program, constants, view, 0 if whole else step)
        for view, step in (
            (operation.source, operation.source_step),
            (operation.aux, operation.aux_step),
            (operation.target, operation.target_step),
        )
    ]
    if call.kernel in FACTORS.values():
        source, aux, target = places
        return product_call(call.kernel, operation, (source, aux, target))
    if call.kernel == "activate":
        arguments = [_activation(call, constants), _add(call.op), str(operation.flat), *places]
        return f"{_function(call)}({', '.join(arguments)});"
    assert window is not None
    arguments = [window]
    arguments += [constants[call.constants[k]] for k in ("weights", "scale", "bias") if k in call.constants]
    if call.kernel == "max_pool":
        arguments.append(float_literal(call.op.pad_value))
    elif call.kernel == "average_pool":
        arguments.append(float_literal(float(call.op.scale)))
    return f"{_function(call)}({', '.join([*arguments, *places])});"


def _function(call: Call) -> str:
    if call.kernel == PRODUCT:
        return "gemm.convolution"
    return f"{'driver.' if call.on_driver else 'kernels::'}{call.kernel}"


def _place(program: CallProgram, constants: Mapping[str, str], view: View | None, step: int) -> str:
    """Pointer to a view's first word, in the loop over images."""
    if view is None:
        return "nullptr"
    moving = f" + image * {step}" if step else ""
    if view.base.name in program.network.graph.constants:
        start = f" + {view.base.offset}" if view.base.offset else ""
        return f"{constants[view.base.name]}{start}{moving}"
    return f"arena({_offset(program, view)}{moving})"
