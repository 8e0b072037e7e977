# SPDX-License-Identifier: Apache-2.0
"""`heepgen explore`: the designs for networks that nothing beats, and the one to take."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from firmware_gen.application.options import ImportOptions
from firmware_gen.architectures.registry import is_loaded, load_config
from gen.datasheet.boards import Board
from gen.datasheet.output.files import NAMES
from gen.explore.point import STAGES
from gen.explore.search import Found, Limits, Search
from gen.explore.space import Space
from gen.explore.store import Store
from gen.explore.subject import Subject
from gen.explore.workers import workers
from gen.flows.explore.datasheet import datasheet
from gen.flows.explore.explored_models import Model, Scored, judge_or_run, scoring_of
from gen.inputs import check_model
from gen.results.explore import ExploreReport, Simulated
from hls.config import System
from hls.errors import HeepgenError
from hls.output import check_files, write_files

KIND, STORE = "exploration", "explore.db"
"""What is written to its folder, and the file there that keeps what was judged."""

EXACT = 16
"""Designs that the cycle model judges unless another number is asked for."""


def explore(
    models: Sequence[str | Path],
    space: Space,
    out: str | Path,
    *,
    limits: Mapping[str, float] = MappingProxyType({}),
    board: Board | None = None,
    weights: Sequence[float] | None = None,
    exact: int = EXACT,
    confirm: int = 0,
    data: Sequence[str | Path] = (),
    jobs: int = 1,
    scheduler: str | None = None,
    architectures: Sequence[str] = (),
    per_tensor: bool = False,
    append_final_softmax: bool = False,
    calibrate: str = "max",
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    **loading: Any,
) -> ExploreReport:
    """Explore `space` for model files, and write what was found to the folder `out`, where an exploration that ended
    early is taken up again.

    limits: the most of what `Point` has, by attribute; those of a `board` are among them. weights: of the models'
    cycles; the slowest one counts without. exact: designs that the cycle model judges at most; confirm: of the best of
    them, so many are run on the RTL. data: an .npz file as of `evaluate` for every model, whose accuracy is an axis
    then. jobs: processes; scheduler: address of a Dask scheduler, whose workers are used
    instead. architectures: paths that some of the space's were loaded from. The rest is as for `generate_sw`. Raises
    `HeepgenError`.
    """
    for model in models:
        check_model(model)
    if data and len(data) != len(models):
        raise HeepgenError(f"--data: {len(data)} files for {len(models)} models; give one for each, in their order.")
    check_files(out, KIND, NAMES)
    options = ImportOptions(append_final_softmax, per_tensor, calibrate)
    combinations = space.combinations()
    read = []
    for number, model in enumerate(models):
        progress("reading models", number, len(models))
        read.append(Model.read(Path(model), options, loading))
    progress("reading models", len(models), len(models))
    networks = tuple(model.network(combinations.configs) for model in read)
    subject = Subject(networks, None if weights is None else tuple(weights), tuple(architectures))
    scored = [Scored.of(model, path) for model, path in zip(read, data, strict=False)]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with Store(folder / STORE) as store, workers(subject, jobs, scheduler, judge_or_run) as who:
        store.ask(subject.key, {"networks": [n.name for n in networks], "limits": dict(limits), "space": len(space)})
        search = Search(
            subject=subject,
            combinations=combinations,
            limits=Limits(limits),
            store=store,
            workers=who,
            scoring=scoring_of(scored, subject, scheduler) if scored else None,
            applications=lambda config: tuple(model.application(config) for model in read),
        )
        found = search.run(exact, progress, confirm)
        progress("writing the datasheet", 0, 1)
        write_files(folder, KIND, datasheet(subject, found, limits, board))
        progress("writing the datasheet", 1, 1)
    return _report(subject, space, limits, found, folder / STORE)


def bases_of(
    config: str | Path | None, architectures: Sequence[str] | None
) -> tuple[tuple[System, ...], tuple[str, ...]]:
    """The configuration of a file for every architecture, a name or a path, or for that which the file selects, and
    which of them are paths."""
    given = architectures or (None,)
    bases = tuple(load_config(config, which) for which in given)
    paths = (which for which, base in zip(given, bases, strict=True) if which and is_loaded(base.architecture))
    return bases, tuple(paths)


def _report(subject: Subject, space: Space, limits: Mapping[str, float], found: Found, store: Path) -> ExploreReport:
    return ExploreReport(
        networks=tuple(network.name for network in subject.networks),
        space=len(space),
        points={stage: found.stages.get(stage, 0) for stage in STAGES},
        refused=_by_reason(found.refused),
        over=dict(found.over),
        nearest=dict(found.nearest),
        limits=dict(limits),
        axes=found.axes,
        front=found.front,
        recommended=found.recommended,
        left_out=found.left_out,
        simulated=tuple(Simulated.of(point) for point in found.simulated),
        store=str(store),
    )


def _by_reason(refused: Counter[str]) -> dict[str, int]:
    """Counts by what is in front of the numbers of a message."""
    found = Counter[str]()
    for reason, count in refused.items():
        found[reason.partition(": ")[0]] += count
    return dict(found.most_common())
