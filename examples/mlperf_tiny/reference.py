# SPDX-License-Identifier: Apache-2.0
"""MLPerf Tiny's reference models with their trained weights: rebuilt in PyTorch, compared with the float .tflite, run,
and their accuracy measured.

Nothing of them is in this repository: PATH is a checkout of mlcommons/tiny, or a folder with the same files. Accuracy
needs the inputs of the benchmark's runner: the folders ic01, vww01, kws01 and ad01, or ic_inputs.npz and so on with the
raw x and the labels y, in PATH, in its benchmark/evaluation/datasets, or in the folder of --datasets.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from examples.example import Example
from examples.mlperf_tiny import networks, stimuli, weights
from examples.mlperf_tiny.stimuli import Stimuli
from gen.console import progress, show, write_json
from gen.documents.measured.bench import measure, parse_geometry
from gen.flags import wide
from gen.flows.network.eval import evaluate
from gen.records.tables import Column, Table
from gen.results.evaluation import MODELS
from hls.config import Config
from hls.errors import HeepgenError

PLACES = ("", "benchmark/training/*/trained_models")
"""Where the files of the trained models are in PATH."""

DATASETS = "benchmark/evaluation/datasets"
COMPARED, TOLERANCE = 8, 1e-4
"""Random inputs for which the rebuilt network is compared with the .tflite, and how far outputs may be apart."""


@dataclass(frozen=True)
class Reference:
    """A trained model: `weights` the file or folder, `tflite` names of the same in floating point, if there is one that
    is the same; `required`: the accuracy or AUC on `stimuli` that the benchmark asks for."""

    task: str
    example: Example
    weights: str
    stimuli: Stimuli | None = None
    required: float | None = None
    tflite: tuple[str, ...] = ()

    def build(self, path: Path) -> tuple[nn.Module, Path]:
        """The network with the weights of a checkout, in evaluation mode, and where those were."""
        place = found(path, self.weights)
        if place is None:
            raise HeepgenError(
                f"{self.task}: {self.weights} is neither in {path} nor in its {PLACES[1]}; name a checkout of "
                "mlcommons/tiny, or leave this network out with --networks."
            )
        model = self.example.build()
        weights.fill(model, weights.read(place), place)
        return model, place


EXAMPLES = {example.name: example for example in networks.EXAMPLES}
REFERENCES = (
    Reference("image classification", EXAMPLES["resnet8"], "pretrainedResnet.h5", stimuli.IMAGES, 0.85,
              ("pretrainedResnet_float.tflite", "pretrainedResnet.tflite")),
    Reference("visual wake words", EXAMPLES["mobilenet-v1-0.25"], "vww_96.h5", stimuli.PERSONS, 0.80,
              ("vww_96_float.tflite",)),
    # The float .tflite of the next holds INT8 weights, that of the one after other biases.
    Reference("keyword spotting", EXAMPLES["ds-cnn"], "kws_ref_model", stimuli.KEYWORDS, 0.90),
    Reference("anomaly detection", EXAMPLES["fc-autoencoder"], "ad01.h5", stimuli.MACHINES, 0.85),
    Reference("streaming wakeword", networks.WAKEWORD, "str_ww_ref_model.h5"),
)  # fmt: skip


def found(path: Path, *names: str) -> Path | None:
    """The first of some files or folders that is in one of PLACES."""
    return next(
        (file for name in names for place in PLACES for file in sorted(path.glob(f"{place}/{name}".lstrip("/")))), None
    )


@dataclass(frozen=True)
class Result:
    """One network: cycles of an inference on the accelerator, final softmax excluded; the largest difference of its
    outputs from those of the .tflite, None where there is none or no interpreter; accuracy or AUC on so many inputs of
    every one of MODELS, {} where there are none."""

    network: str
    task: str
    weights: str
    geometry: str
    cycles: int
    bit_exact: bool
    tflite: str | None
    tflite_error: float | None
    inputs: int
    metric: str | None
    scores: dict[str, float]
    required: float | None


def difference(raw: Stimuli, model: nn.Module, file: Path) -> float | None:
    """The largest difference between the outputs of a network and of a .tflite, on random inputs; None without an
    interpreter. Raises HeepgenError for a file that takes something else, and for more than TOLERANCE."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    try:
        interpreter = Interpreter(model_path=str(file))
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise HeepgenError(f"{file} is not a .tflite that the interpreter takes; fetch it again.") from error
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    if taken["dtype"] != np.float32 or tuple(taken["shape"][1:]) != raw.shape:
        raise HeepgenError(f"{file} takes {taken['dtype'].__name__} {list(taken['shape'])}: it is another model.")
    numbers = np.random.default_rng(0).integers(0, 256, (COMPARED, *raw.shape)).astype(raw.dtype)
    x = raw.inputs(numbers)
    want = []
    for image in x.transpose(0, 2, 3, 1):
        interpreter.set_tensor(taken["index"], image[None])
        interpreter.invoke()
        want.append(interpreter.get_tensor(given["index"])[0])
    with torch.no_grad():
        largest = float(np.abs(model(torch.from_numpy(x)).numpy() - np.array(want)).max())
    if not largest <= TOLERANCE:
        raise HeepgenError(f"{file}: its outputs are up to {largest:.1e} from those of the weights in PyTorch.")
    return largest


def check(
    reference: Reference,
    path: Path,
    datasets: Path | None,
    config: Config,
    limit: int | None,
    say: Callable[[str], None],
) -> Result:
    """Rebuild, compare and measure one of REFERENCES. Raises HeepgenError."""
    name = reference.example.name
    say(f"{name}: reading its weights")
    model, place = reference.build(path)
    tflite = found(path, *reference.tflite)
    error = difference(reference.stimuli, model, tflite) if tflite and reference.stimuli else None
    places = (datasets,) if datasets else (path, path / DATASETS)
    data = reference.stimuli and next((read for folder in places if (read := reference.stimuli.read(folder))), None)
    x = data[0] if data else np.random.default_rng(0).normal(size=reference.example.input_shape).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        work = Path(folder)
        model.training = True  # of the outermost module only: classifiers leave their softmax out then
        torch.export.save(torch.export.export(model, (torch.from_numpy(x[:1]),)), work / "model.pt2")
        np.save(work / "sample.npy", x[:1])
        run = measure(
            name,
            work / "model.pt2",
            work / "sample.npy",
            config,
            work,
            software=False,
            stalls=False,
            progress=lambda message: say(f"{name}: {message}"),
        )
        if run.skipped:
            raise HeepgenError(run.skipped)
        quality = None
        if data:
            np.savez(work / "data.npz", x=x, y=data[1], clip=data[2])
            quality = evaluate(
                work / "model.pt2",
                work / "data.npz",
                config,
                limit=limit,
                progress=lambda what, done, total: say(f"{name}: {what}"),
            )
    return Result(
        network=name,
        task=reference.task,
        weights=place.name,
        geometry=run.geometry,
        cycles=run.cycles,
        bit_exact=run.bit_exact,
        tflite=tflite.name if tflite else None,
        tflite_error=error,
        inputs=quality.samples if quality else 0,
        metric=quality.metric if quality else None,
        scores=quality.scores if quality else {},
        required=reference.required,
    )


def table(results: list[Result]) -> Table:
    left = ("network", Column("weights", 4))
    right = (
        Column("from\n.tflite", 3),
        "cycles",
        Column("inputs", 5),
        Column("measure", 6),
        *MODELS,
        Column("required", 2),
    )
    made = Table("MLPerf Tiny's reference models", left, right)
    for r in results:
        error = "-" if r.tflite_error is None else f"{r.tflite_error:.0e}"
        scores = [f"{r.scores[m]:.4f}" if r.scores else "-" for m in MODELS]
        made.add_row(
            r.network,
            r.weights,
            error,
            f"{r.cycles:,}",
            f"{r.inputs:,}" if r.inputs else "-",
            r.metric or "-",
            *scores,
            f"{r.required:.2f}" if r.required else "-",
        )
    return made


@click.command(help=__doc__.partition("\n")[2])
@click.option(
    "--tiny", "path", type=click.Path(path_type=Path), required=True, metavar="PATH", help="Checkout of mlcommons/tiny."
)
@click.option(
    "--datasets", type=click.Path(path_type=Path), metavar="PATH", help="Folder with ic01, vww01, kws01, ad01."
)
@click.option("--networks", "names", metavar="A,B", help=f"Some of: {', '.join(r.example.name for r in REFERENCES)}.")
@click.option("--geometry", default="8x8p2", show_default=True, help="Rows x columns, ports.")
@click.option("--limit", type=int, metavar="N", help="Measure accuracy with the first N inputs.")
@click.option("--json", "json_path", metavar="FILE", help="Write the results as JSON; - for stdout.")
@wide
def main(
    path: Path, datasets: Path | None, names: str | None, geometry: str, limit: int | None, json_path: str | None
) -> None:
    try:
        known = {r.example.name: r for r in REFERENCES}
        chosen = names.split(",") if names else list(known)
        if unknown := [name for name in chosen if name not in known]:
            raise HeepgenError(f"--networks {unknown[0]}: no such network; there are {', '.join(known)}.")
        for folder in (path, datasets):
            if folder and not folder.is_dir():
                raise HeepgenError(f"{folder} is no folder; name a checkout of mlcommons/tiny.")
        config = parse_geometry(geometry)
        with progress() as say:
            results = [check(known[name], path, datasets, config, limit, say) for name in chosen]
        write_json({"networks": [asdict(r) for r in results]}, json_path)
    except HeepgenError as error:
        sys.exit(f"error: {error}")
    if json_path != "-":
        show(table(results))


if __name__ == "__main__":
    main()
