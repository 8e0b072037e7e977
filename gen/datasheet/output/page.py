# SPDX-License-Identifier: Apache-2.0
"""The page of an exploration: one file, nothing from elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gen.datasheet import figures
from gen.datasheet.facts import Facts
from gen.datasheet.subject import Network, Subject
from gen.pages import figures as shared
from gen.pages.subject import AROUND
from gen.pages.template import render_page

_COLOURS = {"vectors": "array", "cpu": "cpu", "latency": "memory", "unknown": "wait", AROUND: "wait"}
TEMPLATE = Path(__file__).parent / "explore.html.j2"


def render(subject: Subject, facts: Facts) -> str:
    """HTML of a subject, whose `facts_of` these are."""
    fronts = [figures.front(subject, x, y) for x, y in figures.planes(subject)]
    return render_page(
        TEMPLATE,
        f=facts,
        fronts=fronts,
        progress=figures.progress(subject.path),
        networks=[_network(network, facts) for network in subject.networks],
        energy=shared.stacked(list(subject.energy.items()), {}),
    )


def _network(network: Network, facts: Facts) -> Mapping[str, Any]:
    memory = network.memory
    return {
        "name": network.name,
        "time": shared.stacked(figures.time_of(network), _COLOURS),
        "bars": shared.layer_bars(figures.layer_rows(network)),
        "layers": facts.layers[network.name],
        "memory": facts.memory[network.name],
        "arena": shared.lives(memory.buffers, memory.steps, memory.arena_bytes),
    }
