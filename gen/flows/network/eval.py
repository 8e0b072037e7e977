# SPDX-License-Identifier: Apache-2.0
"""`heepgen eval`: what INT8 weights cost on a data set, in PyTorch and to the last bit of the hardware."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from firmware_gen.application.options import ImportOptions
from firmware_gen.architectures.registry import architecture_of, is_loaded
from gen.cluster import connected, spread
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.application import wanted
from gen.flows.network.compiled import Compiled, application_in, of_application
from gen.flows.network.data import Data, check_independent, load_data
from gen.flows.network.scores import is_classifier, metric_of, run_torch, score
from gen.flows.network.sw import exported_input_shape, with_corrected_biases
from gen.flows.network.weights import Weights, with_weights
from gen.inputs import network_name
from gen.results.evaluation import MODELS, TAPPED, EvalReport, LayerQuality
from hls.config import System
from hls.errors import HeepgenError

Progress = Callable[[str, int, int], None]

CHUNK = 32
"""Inputs, about, that a worker takes at once."""


def evaluate(
    target: str | Path,
    data: str | Path,
    config: System,
    *,
    name: str | None = None,
    hardware_given: bool = False,
    architecture_given: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
    input_shape: tuple[int, ...] | None = None,
    device: str | None = None,
    batch: int = 256,
    limit: int | None = None,
    output: int = 0,
    per_tensor: bool = False,
    calibrate: str = "max",
    bias_correction: str | Path | None = None,
    weights: str | None = None,
    trust_pickle: bool = False,
    scheduler: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> EvalReport:
    """Evaluate a model file, or the model of an application for the hardware that it was generated for unless
    `hardware_given`, on an .npz file, or on its first `limit` inputs; see `evaluate_network`. `name` and `input_shape`
    are as for `generate_sw`; a module takes what the data have."""
    _device(device)  # before anything is loaded
    if weights == "auto":
        raise HeepgenError(
            "--weights auto: choose layers with heepgen sw on other inputs, and evaluate its application."
        )
    chosen = Weights(weights or "int8")
    options = ImportOptions(per_tensor=per_tensor, calibrate=calibrate)
    importing = {
        "weights": weights,
        "input_shape": input_shape,
        "bias_correction": bias_correction,
        "trust_pickle": trust_pickle,
    }
    application = application_in(target, {"name": name} | importing | vars(options))
    if application is not None:
        compiled = of_application(application, wanted(config, application, hardware_given, architecture_given, changed))
        shape = compiled.generator.sample.shape
        return evaluate_network(compiled, load_data(data, limit, shape), device, batch, output, progress, scheduler)
    from firmware_gen.api import read_model

    name = network_name(target, name)
    given, known = _loaded(target, trust_pickle, input_shape)
    loaded = load_data(data, limit, known)
    program, example = _program(target, given, loaded)
    checked = read_model(program, example, name)
    options = with_weights(options, checked, chosen)
    if bias_correction is not None:
        options = with_corrected_biases(options, checked, bias_correction)
    compiled = Compiled.of(checked, None, config, options, name=name)
    return evaluate_network(compiled, loaded, device, batch, output, progress, scheduler)


def evaluate_network(
    compiled: Compiled,
    data: Data,
    device: str | None = None,
    batch: int = 256,
    output: int = 0,
    progress: Progress = lambda what, done, total: None,
    scheduler: str | None = None,
) -> EvalReport:
    """A compiled network on data that it takes: in FP32, with INT8 weights in PyTorch, and as the hardware.

    device: "cpu" or "cuda" for PyTorch, default cuda where there is one; batch: inputs it takes at once. output: which
    of several outputs is compared. `progress` is told what is being done, how many inputs are through and of how many.
    scheduler: address of a Dask scheduler, whose workers compute the bits of the hardware. Raises HeepgenError.
    """
    from firmware_gen.models import metrics

    torch_device = _device(device)
    if batch < 1:
        raise HeepgenError(f"--batch {batch}: must be 1 or more.")
    generator = compiled.generator
    imported, lowered, quantised = map(compiled.complete, (generator.imported, generator.lowered, generator.graph))
    check_independent(imported, "data sets are evaluated")
    if not 0 <= output < len(imported.outputs):
        raise HeepgenError(
            f"--output {output}: {compiled.name} returns {len(imported.outputs)} tensors, counted from 0."
        )
    own, count = len(generator.sample), len(data.x)
    x = whole_batches(data.x, own)

    def through(what: str) -> Callable[[int], None]:
        return lambda done: progress(what, min(done, count), count)

    def in_torch(graph: Any, what: str) -> np.ndarray:
        return run_torch(graph, x, batch, torch_device, output, through(what))[:count]

    exact, fake = in_torch(imported, MODELS[0]), in_torch(quantised, MODELS[1])
    bits = run_bits(compiled, x, output, scheduler, through(MODELS[2]))[:count]
    outputs = dict(zip(MODELS, (exact, fake, bits), strict=True))
    metric = metric_of(data, exact)
    scores = {model: score(data, exact, found) for model, found in outputs.items()} if metric else {}
    few = x[: max(TAPPED // own, 1) * own]
    weights = metrics.weight_sqnr(lowered, quantised)
    taps = generator.target.run_many(compiled.program, few, taps=True)
    return EvalReport(
        network=compiled.name,
        geometry=geometry(compiled.config),
        samples=count,
        device=str(torch_device),
        metric=metric,
        scores=scores,
        agreement=_agreement(outputs, metric),
        largest_error=_largest_error(fake, bits),
        layers=_layers(lowered, quantised, _taps(lowered, few), _taps(quantised, few), taps, weights),
        worst_channels=tuple(metrics.worst_channels(weights)),
        import_check=generator.check.to_dict(),
    )


def _loaded(
    model: str | Path, trust_pickle: bool, input_shape: tuple[int, ...] | None
) -> tuple[Any, tuple[int, ...] | None]:
    """The content of a model file, and the shape of its input, if it says."""
    from torch.export import ExportedProgram

    from firmware_gen.frontend.loader import load_model

    loaded = load_model(model, trust_pickle, input_shape)
    if isinstance(loaded, ExportedProgram):
        return loaded, exported_input_shape(loaded)
    return loaded, None if input_shape is None else (1, *input_shape)


def _program(model: str | Path, loaded: Any, data: Data) -> tuple[Any, np.ndarray]:
    """The model as an ExportedProgram, and an input of its shape, batch dimension included."""
    from torch.export import ExportedProgram

    from firmware_gen.frontend.exported.prepare import export

    program = loaded if isinstance(loaded, ExportedProgram) else export(loaded, data.x[:1])
    shape = exported_input_shape(program)
    if len(shape) < 2 or shape[1:] != data.x.shape[1:]:
        raise HeepgenError(f"--data: x has shape {list(data.x.shape)}, {model} takes {list(shape)}.")
    return program, np.resize(data.x, shape)


def _device(name: str | None) -> Any:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise HeepgenError("--device cuda: PyTorch finds no CUDA device here; use --device cpu.")
    if name not in (None, "cpu", "cuda"):
        raise HeepgenError(f"--device {name}: must be cpu or cuda.")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def whole_batches(x: np.ndarray, batch: int) -> np.ndarray:
    """x, its last row repeated up to a multiple of the batch that the model was exported for."""
    return np.concatenate([x, np.repeat(x[-1:], -len(x) % batch, axis=0)])


def run_bits(
    compiled: Compiled,
    x: np.ndarray,
    output: int,
    scheduler: str | None,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """One of the outputs of the bit-exact model: (N, ...) -> (N, ...)."""
    target, program = compiled.generator.target, compiled.program
    if scheduler is None:
        result: np.ndarray = target.run_many(program, x, progress=progress).outputs[output]
        return result
    own = len(compiled.generator.sample)
    size = -(-CHUNK // own) * own
    parts, done = dict[int, np.ndarray](), 0
    with connected(scheduler) as client:
        architecture = architecture_of(compiled.config)
        paths = [str(architecture.folder)] if is_loaded(architecture.name) and architecture.folder else []
        tasks = ((first, x[first : first + size]) for first in range(0, len(x), size))
        for first, part in spread(client, run_chunk, tasks, (target, program, output), paths):
            parts[first] = part
            done += len(part)
            progress(done)
    return np.concatenate([parts[first] for first in sorted(parts)])


def run_chunk(shared: tuple[Any, Any, int], task: tuple[int, np.ndarray]) -> tuple[int, np.ndarray]:
    """For a worker: where a part of the inputs begins, and one of the outputs for it."""
    target, program, output = shared
    first, x = task
    part: np.ndarray = target.run_many(program, x).outputs[output]
    return first, part


def _taps(graph: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    import torch

    from firmware_gen.models.fake_quant import GraphModule

    taps: dict[str, Any] = {}
    with torch.no_grad():
        GraphModule(graph)(torch.from_numpy(x), taps)
    return {name: tap.numpy() for name, tap in taps.items()}


def _agreement(outputs: dict[str, np.ndarray], metric: str | None) -> dict[str, float] | None:
    from firmware_gen.models import metrics

    if metric == "AUC" or not is_classifier(outputs[MODELS[0]]):
        return None
    pairs = [(0, 1), (0, 2), (1, 2)]
    return {f"{MODELS[a]}, {MODELS[b]}": metrics.agreement(outputs[MODELS[a]], outputs[MODELS[b]]) for a, b in pairs}


def _largest_error(expected: np.ndarray, got: np.ndarray) -> float:
    largest = float(np.abs(expected).max()) or 1.0
    return float(np.abs(got.astype(np.float64) - expected).max()) / largest


def _layers(
    lowered: Any, quantised: Any, exact: dict[str, Any], fake: dict[str, Any], hardware: Any, weights: dict[str, Any]
) -> tuple[LayerQuality, ...]:
    from firmware_gen import ir
    from firmware_gen.models import metrics

    fake_ratio, hardware_ratio = (metrics.activation_sqnr(exact, taps) for taps in (fake, hardware.taps))
    rows = []
    for node in lowered.nodes:
        if node.runs_on is ir.Place.MEMORY:
            continue
        whole = worst = None
        if node.name in weights:
            q = quantised.node(node.name)
            scale = q.scale.reshape(-1, *[1] * (q.weight.ndim - 1)).astype(np.float64)
            whole, worst = float(metrics.sqnr(node.weight, q.weight * scale)), float(np.min(weights[node.name]))
        rows.append(
            LayerQuality(
                name=node.name,
                op=node.op,
                weights=whole,
                worst_channel=worst,
                fake_quantised=fake_ratio[node.name],
                bit_exact=hardware_ratio[node.name],
                alignment_loss=hardware.losses.get(node.name),
            )
        )
    return tuple(rows)
