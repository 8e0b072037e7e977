# SPDX-License-Identifier: Apache-2.0
"""`heepgen explore`: the designs for networks that nothing beats, and the one to take."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from firmware_gen.application.options import ImportOptions
from firmware_gen.architectures.registry import is_loaded, load_config
from gen.datasheet.boards import Board
from gen.explore.point import STAGES
from gen.explore.search import Found, Limits, Search
from gen.explore.space import Space
from gen.explore.store import Store
from gen.explore.subject import Form, Network, Subject, form_of
from gen.explore.workers import workers
from gen.flows.compiled import Compiled
from gen.flows.datasheet import datasheet
from gen.flows.sw import load_program
from gen.inputs import check_model, network_name
from gen.results.explore import ExploreReport
from hls.config import System
from hls.output import write_files

if TYPE_CHECKING:
    from firmware_gen import ir

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
    cycles; the slowest one counts without. exact: designs that the cycle model judges at most. jobs: processes;
    scheduler: address of a Dask scheduler, whose workers are used instead. architectures: paths that some of the
    space's were loaded from. The rest is as for
    `generate_sw`. Raises `HeepgenError`.
    """
    for model in models:
        check_model(model)
    options = ImportOptions(append_final_softmax, per_tensor, calibrate)
    combinations = space.combinations()
    forms = {form_of(config): config for config in combinations.configs}
    networks = []
    for number, model in enumerate(models):
        progress("reading models", number, len(models))
        networks.append(_network(Path(model), forms, options, loading))
    progress("reading models", len(models), len(models))
    subject = Subject(tuple(networks), None if weights is None else tuple(weights), tuple(architectures))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with Store(folder / STORE) as store, workers(subject, jobs, scheduler) as who:
        store.ask(subject.key, {"networks": [n.name for n in networks], "limits": dict(limits), "space": len(space)})
        search = Search(subject, combinations, Limits(limits), store, who)
        found = search.run(exact, progress)
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


def _network(model: Path, forms: Mapping[Form, System], options: ImportOptions, loading: Mapping[str, Any]) -> Network:
    from firmware_gen.api import read_model

    name = network_name(model)
    program, data = load_program(model, **loading)
    checked = read_model(program, data, name)
    graphs: dict[Form, ir.Graph] = {}
    for form, config in forms.items():
        compiled = Compiled.of(checked, None, config, options, name=name)
        graphs[form] = compiled.complete(compiled.generator.graph)
    return Network(name, graphs)


def _report(subject: Subject, space: Space, limits: Mapping[str, float], found: Found, store: Path) -> ExploreReport:
    return ExploreReport(
        tuple(network.name for network in subject.networks),
        len(space),
        {stage: found.stages.get(stage, 0) for stage in STAGES},
        _by_reason(found.refused),
        dict(found.over),
        dict(limits),
        found.axes,
        found.front,
        found.recommended,
        found.left_out,
        (),
        str(store),
    )


def _by_reason(refused: Counter[str]) -> dict[str, int]:
    """Counts by what is in front of the numbers of a message."""
    found = Counter[str]()
    for reason, count in refused.items():
        found[reason.partition(": ")[0]] += count
    return dict(found.most_common())
