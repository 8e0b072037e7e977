# SPDX-License-Identifier: Apache-2.0
"""DATASHEET.md: what the page says, as Markdown."""

import re
from collections.abc import Iterable, Iterator

from gen.datasheet.facts import Facts, Grid
from hls.errors import printable


def markdown(facts: Facts, picture: str | None = None) -> str:
    """The datasheet; `picture`: the name of a file beside it that shows the front."""
    return "\n".join(_lines(facts, picture)).rstrip() + "\n"


def _lines(facts: Facts, picture: str | None) -> Iterator[str]:
    yield from (f"# {_text(facts.title)}: {_text(facts.design)}", "")
    yield from (_text(facts.judged), "", _text(facts.limits), "")
    yield from _table(Grid(("figure", "recommended design"), tuple((tile.name, tile.value) for tile in facts.tiles)))
    yield from ("## Designs", "", *((f"![Front of the designs that were judged]({picture})", "") if picture else ()))
    yield from _table(facts.designs)
    yield from ("`points.csv` has all designs; `heepgen hw --from explore.db --point N` builds one.", "")
    yield from ("## From the smallest design to the recommended one", "", f"The smallest: {_text(facts.start)}.", "")
    for number, step in enumerate(facts.steps, 1):
        meaning = f" ({_text(step.meaning)})" if step.meaning else ""
        yield f"{number}. **{_text(step.change)}**, {step.cycles}{meaning}"
        yield f"   - before: {_text(step.reason)}; {_text(step.moved)}"
        if step.effects:
            yield f"   - {_text(step.effects)}"
        yield from (f"   - also tried: {_text(other)}" for other in step.tried)
    if facts.steps:
        yield ""
    for words, moves in (("up", facts.up), ("down", facts.down)):
        yield from (f"The next step {words}:", "")
        yield from (*(f"- {_text(move)}" for move in moves or ("none was judged",)), "")
    for name, layers in facts.layers.items():
        yield from (f"## Where the time of {_text(name)} goes", "")
        yield from _table(facts.time[name])
        yield from (f"## Layers of {_text(name)}", "")
        yield from _table(layers)
        yield from (f"## Memory map of {_text(name)}", "")
        yield from _table(facts.memory[name])
    yield from ("## Where the energy goes", "")
    yield from _table(facts.energy) if facts.energy else ("Not known for this design.", "")
    for heading, table in (
        ("Interfaces", facts.interfaces),
        ("How each figure was obtained", facts.sources),
        ("Configuration", facts.options),
    ):
        yield from (f"## {heading}", "")
        yield from _table(table)


def _table(table: Grid) -> Iterator[str]:
    yield _row(map(_text, table.heads))
    yield _row("---" if number < table.texts else "---:" for number in range(len(table.heads)))
    for number, row in enumerate(table.rows):
        cells = map(_text, row)
        yield _row((f"**{cell}**" if cell else "" for cell in cells) if number == table.chosen else cells)
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Text in which nothing is markup."""
    return re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", printable(text))
