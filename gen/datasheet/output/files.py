# SPDX-License-Identifier: Apache-2.0
"""The files that tell of an exploration, beside its store."""

from gen.datasheet.facts import facts_of
from gen.datasheet.output.document import markdown
from gen.datasheet.output.page import render
from gen.datasheet.output.picture import FORMATS, pictures
from gen.datasheet.output.points import table_of
from gen.datasheet.subject import Subject

PAGE, DATASHEET, POINTS = "report.html", "DATASHEET.md", "points.csv"
NAMES = (PAGE, DATASHEET, POINTS, *(f"front.{suffix}" for suffix in FORMATS))


def files_of(subject: Subject) -> dict[str, str | bytes]:
    """Contents by name: the page, the datasheet, the table of points and, where areas are known, the front."""
    facts, drawn = facts_of(subject), pictures(subject)
    return {
        PAGE: render(subject, facts),
        DATASHEET: markdown(facts, next(iter(drawn), None)),
        POINTS: table_of(subject.points, subject.front),
        **drawn,
    }
