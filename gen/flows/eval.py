# SPDX-License-Identifier: Apache-2.0
"""`heepgen eval`: what INT8 weights cost on a data set, in PyTorch and to the last bit of the hardware.

The data are an .npz file: `x` (N, ...) are inputs with the batch dimension first. `y` are labels, optional: classes
(N,), or, for a network that rebuilds its input, 1 for what is anomalous and 0 for what is not. `clip` is optional: that
many consecutive inputs are one clip with one label in `y` (N / clip,), and its score is their mean error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gen.inputs import check_model, load_samples, network_name
from gen.results.evaluation import MODELS, TAPPED, EvalReport, LayerQuality
from hls.config import System
from hls.errors import HeepgenError


@dataclass(frozen=True)
class Data:
    """float32 inputs (N, ...), labels (N / clip,) or None, inputs per label."""

    x: np.ndarray
    y: np.ndarray | None
    clip: int


def evaluate(
    model: str | Path,
    data: str | Path,
    config: System,
    *,
    name: str | None = None,
    device: str | None = None,
    batch: int = 256,
    limit: int | None = None,
    output: int = 0,
    per_tensor: bool = False,
    calibrate: str = "max",
    bias_correction: str | Path | None = None,
    trust_pickle: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> EvalReport:
    """Evaluate the model file `model` on the .npz file `data` (see above), or on its first `limit` inputs.

    device: "cpu" or "cuda" for PyTorch, default cuda where there is one; batch: inputs it takes at once. output: which
    of several outputs is compared. `progress` is told what is being done, how many inputs are through and of how many.
    Raises HeepgenError.
    """
    check_model(model)
    name = network_name(model, name)
    from firmware_gen import CodeGenerator
    from firmware_gen.api import read_model
    from firmware_gen.models import metrics
    from gen.flows.hardware import geometry
    from gen.flows.sw import correct

    torch_device = _device(device)
    given, shape = _loaded(model, trust_pickle)
    loaded = load_data(data, limit, shape)
    program, example = _program(model, given, loaded)
    x = _whole_batches(loaded.x, len(example))
    checked = read_model(program, example, name)
    if output >= len(checked.imported.outputs):
        raise HeepgenError(
            f"--output {output}: {model} returns {len(checked.imported.outputs)} tensors, counted from 0."
        )
    biases = None
    if bias_correction is not None:
        corrected = load_samples(bias_correction, "--bias-correction", model=example.shape)["x"]
        biases = correct(checked.lowered, corrected, per_tensor, calibrate)
    generator = CodeGenerator(
        checked, config=config, name=name, per_channel=not per_tensor, calibrate=calibrate, biases=biases
    )
    lowered, quantised = generator.lowered, generator.graph
    compiled = generator.program()
    count = len(loaded.x)

    def torch_outputs(graph: Any, what: str) -> np.ndarray:
        return _run_torch(graph, x, batch, torch_device, output, lambda done: progress(what, min(done, count), count))[
            :count
        ]

    outputs = dict(
        zip(
            MODELS,
            (
                torch_outputs(checked.imported, MODELS[0]),
                torch_outputs(quantised, MODELS[1]),
                generator.target.run_many(
                    compiled, x, progress=lambda done: progress(MODELS[2], min(done, count), count)
                ).outputs[output][:count],
            ),
            strict=True,
        )
    )
    metric, scores = _scores(loaded, outputs)
    few = x[: max(TAPPED // len(example), 1) * len(example)]
    weights = metrics.weight_sqnr(lowered, quantised)
    return EvalReport(
        name,
        geometry(config),
        count,
        str(torch_device),
        metric,
        scores,
        _agreement(outputs, metric),
        _largest_error(outputs[MODELS[1]], outputs[MODELS[2]]),
        _layers(
            lowered,
            quantised,
            _taps(lowered, few),
            _taps(quantised, few),
            generator.target.run_many(compiled, few, taps=True),
            weights,
        ),
        tuple(metrics.worst_channels(weights)),
        generator.check.to_dict(),
    )


def load_data(path: str | Path, limit: int | None = None, model: tuple[int, ...] | None = None) -> Data:
    """The .npz file described above, of inputs for a model that takes `model`. Raises HeepgenError for other files."""
    option = f"--data {path}"
    arrays = load_samples(path, "--data", ("x", "y", "clip"), model)
    x, y, clip = arrays["x"], arrays.get("y"), arrays.get("clip", np.ones((), int))
    if clip.size != 1 or clip.dtype.kind not in "iub":
        raise HeepgenError(f"{option}: clip is {clip.dtype} {list(clip.shape)}; one integer is needed.")
    clip = int(clip.reshape(()))
    if clip < 1 or len(x) % clip or (y is not None and (y.shape != (len(x) // clip,) or y.dtype.kind not in "iub")):
        shape = "missing" if y is None else f"{y.dtype} {list(y.shape)}"
        raise HeepgenError(
            f"{option}: y is {shape} and clip {clip}, x has {len(x)} inputs; y must be one integer per clip."
        )
    if limit is not None:
        x = x[: max(limit // clip, 1) * clip]
        y = None if y is None else y[: len(x) // clip]
    return Data(np.ascontiguousarray(x, np.float32), y, clip)


def _loaded(model: str | Path, trust_pickle: bool) -> tuple[Any, tuple[int, ...] | None]:
    """The content of a model file, and the shape of its input, if it says."""
    from torch.export import ExportedProgram

    from firmware_gen.frontend.loader import load_model
    from gen.flows.sw import exported_input_shape

    loaded = load_model(model, trust_pickle)
    return loaded, exported_input_shape(loaded) if isinstance(loaded, ExportedProgram) else None


def _program(model: str | Path, loaded: Any, data: Data) -> tuple[Any, np.ndarray]:
    """The model as an ExportedProgram, and an input of its shape, batch dimension included."""
    from torch.export import ExportedProgram

    from firmware_gen.frontend.exported.importer import export
    from gen.flows.sw import exported_input_shape

    program = loaded if isinstance(loaded, ExportedProgram) else export(loaded, data.x[:1])
    shape = exported_input_shape(program)
    if len(shape) < 2 or shape[1:] != data.x.shape[1:]:
        raise HeepgenError(f"--data: x has shape {list(data.x.shape)}, {model} takes {list(shape)}.")
    return program, np.resize(data.x, shape)


def _device(name: str | None) -> Any:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise HeepgenError("--device cuda: PyTorch finds no CUDA device here; use --device cpu.")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _whole_batches(x: np.ndarray, batch: int) -> np.ndarray:
    """x, its last row repeated up to a multiple of the batch that the model was exported for."""
    return np.concatenate([x, np.repeat(x[-1:], -len(x) % batch, axis=0)])


def _run_torch(
    graph: Any, x: np.ndarray, batch: int, device: Any, output: int, progress: Callable[[int], None]
) -> np.ndarray:
    """One of the outputs of a graph in FP32, TF32 never: (N, ...) -> (N, ...)."""
    import torch
    from torch.utils._pytree import tree_leaves

    from firmware_gen.models.fake_quant import GraphModule

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    module = GraphModule(graph).to(device).float()
    own = graph.shape(graph.inputs[0])[0]
    step = max(batch // own, 1) * own
    parts = []
    with torch.no_grad():
        for first in range(0, len(x), step):
            results = tree_leaves(module(torch.from_numpy(x[first : first + step]).to(device)))
            parts.append(results[output].cpu().numpy())
            progress(first + step)
    return np.concatenate(parts)


def _taps(graph: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    import torch

    from firmware_gen.models.fake_quant import GraphModule

    taps: dict[str, Any] = {}
    with torch.no_grad():
        GraphModule(graph)(torch.from_numpy(x), taps)
    return {name: tap.numpy() for name, tap in taps.items()}


def _scores(data: Data, outputs: dict[str, np.ndarray]) -> tuple[str | None, dict[str, float]]:
    """Accuracy, or AUC for a network whose output has the shape of its input."""
    from firmware_gen.models import metrics

    if data.y is None:
        return None, {}
    output = outputs[MODELS[0]]
    if output[0].size == data.x[0].size:
        errors = {
            m: metrics.reconstruction_error(data.x, out.reshape(data.x.shape), data.clip) for m, out in outputs.items()
        }
        return "AUC", {m: metrics.auc(error, data.y) for m, error in errors.items()}
    if output.ndim != 2 or data.clip != 1 or not 0 <= data.y.min() <= data.y.max() < output.shape[1]:
        raise HeepgenError(
            f"--data: y holds {data.y.min()} to {data.y.max()} for outputs of shape "
            f"{list(output.shape[1:])}; classes of a classifier are needed, or 0 and 1 for a network "
            "that rebuilds its input."
        )
    return "accuracy", {m: metrics.accuracy(out, data.y) for m, out in outputs.items()}


def _agreement(outputs: dict[str, np.ndarray], metric: str | None) -> dict[str, float] | None:
    from firmware_gen.models import metrics

    if metric == "AUC" or outputs[MODELS[0]].ndim != 2 or outputs[MODELS[0]].shape[1] < 2:
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
                node.name,
                node.op,
                whole,
                worst,
                fake_ratio[node.name],
                hardware_ratio[node.name],
                hardware.losses.get(node.name),
            )
        )
    return tuple(rows)
