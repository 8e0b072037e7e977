# SPDX-License-Identifier: Apache-2.0
"""The models of an exploration: as graphs, which are judged, as applications, which are run, and on data sets."""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from firmware_gen.application.options import ImportOptions
from firmware_gen.passes import append_softmax
from gen.explore.judge import Files, Task, perform
from gen.explore.search import Scoring
from gen.explore.store import Judgement
from gen.explore.subject import Network, Subject
from gen.flows.measure.run import compared, run_application
from gen.flows.network.application import Application
from gen.flows.network.compiled import Compiled
from gen.flows.network.data import Data, check_independent, load_data
from gen.flows.network.eval import run_bits, whole_batches
from gen.flows.network.scores import metric_of, run_torch, score
from gen.flows.network.sw import load_program, write_application
from gen.inputs import network_name
from gen.results.runs.run import RunReport
from hls.config import System
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from firmware_gen.api import CheckedModel


@dataclass(frozen=True)
class Model:
    """A model that was read, and how it becomes firmware."""

    checked: "CheckedModel"
    options: ImportOptions
    name: str

    @classmethod
    def read(cls, path: Path, options: ImportOptions, loading: Mapping[str, Any]) -> Self:
        """Of a file; `loading` as of `load_program`, which raises `HeepgenError`."""
        from firmware_gen.api import read_model

        name = network_name(path)
        program, data = load_program(path, **loading)
        return cls(read_model(program, data, name), options, name)

    def compiled(self, config: System) -> Compiled:
        return Compiled.of(self.checked, None, config, self.options, name=self.name)

    def network(self, configs: Iterable[System]) -> Network:
        """Its graphs for the forms of these configurations."""
        steps = [append_softmax] if self.options.append_final_softmax else []
        return Network.of(self.name, configs, lambda config: self.compiled(config).generator, *steps)

    def application(self, config: System) -> Files:
        """What `heepgen sw` writes for a configuration."""
        with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
            folder = Path(work) / "application"
            write_application(self.compiled(config), folder)
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            return {str(path.relative_to(folder)): path.read_bytes() for path in files}


PROBES = 16
"""Inputs whose outputs tell which configurations compute the same."""


@dataclass(frozen=True)
class Scored:
    """A model on its data set; `exact`: its outputs in FP32, with which those of a classifier agree or not, where there
    are no labels."""

    model: Model
    data: Data
    exact: np.ndarray

    @classmethod
    def of(cls, model: Model, path: str | Path) -> Self:
        """On an .npz file as of `heepgen eval`; raises `HeepgenError` for one that does not go with the model."""
        graph, sample = model.checked.imported, model.checked.sample
        check_independent(graph, "--data: accuracy is found")
        data = load_data(path, None, sample.shape)
        probe = run_torch(graph, whole_batches(data.x[: 1 if data.y is not None else None], len(sample)))
        exact = probe[: len(data.x)]
        score(data, exact, exact) if data.y is None else metric_of(data, exact)
        return cls(model, data, exact)

    @property
    def samples(self) -> np.ndarray:
        """The first inputs."""
        return whole_batches(self.data.x[:PROBES], len(self.model.checked.sample))

    def accuracy(self, config: System, scheduler: str | None) -> float:
        """Of the bit-exact model, 0 to 1, as `heepgen eval` finds it."""
        x = whole_batches(self.data.x, len(self.model.checked.sample))
        bits = run_bits(self.model.compiled(config), x, 0, scheduler)[: len(self.data.x)]
        return score(self.data, self.exact, bits)


def scoring_of(scored: Sequence[Scored], subject: Subject, scheduler: str | None) -> Scoring:
    """Accuracy of a subject's models, in their order: the worst, or the weighted mean."""
    arrays = [part for own in scored for part in (own.data.x, own.data.y, np.array(own.data.clip)) if part is not None]
    key = hashlib.sha256()
    for array in arrays:
        key.update(f"{array.dtype} {array.shape}".encode())
        key.update(np.ascontiguousarray(array).tobytes())

    def score_of(config: System) -> float:
        return subject.combined([own.accuracy(config, scheduler) for own in scored], min)

    return Scoring(key.hexdigest(), tuple(own.samples for own in scored), score_of)


def judge_or_run(subject: Subject, task: Task) -> list[Judgement]:
    """`perform`; of a task with applications, what their runs on the RTL take. An output that is not the model's to the
    last bit refuses the configuration; raises `HeepgenError` for a run that fails."""
    if task.stage != "simulated":
        return perform(subject, task)
    ((number, _),) = task.configs
    reports = [_run(files) for files in task.applications]
    for report in reports:
        if not report.bit_exact:
            return [
                Judgement(number, task.stage, None, f"{report.network}: the RTL computes other bits than its model")
            ]
    cycles = {report.network: report.total_cycles for report in reports}
    total = round(subject.combined(list(cycles.values())))
    return [Judgement(number, task.stage, total, None, {"by_model": cycles, "left_out": []})]


def _run(files: Files) -> RunReport:
    with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
        for name, content in files.items():
            path = Path(work) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        application = Application.open(work)
        try:
            return compared(run_application(application, application.config))
        except HeepgenError as error:
            network, config = application.manifest["name"], application.config
            raise HeepgenError(f"--confirm: {network} on {config.architecture}: {error}") from None
