# SPDX-License-Identifier: Apache-2.0
"""What every result can do: be shown in a terminal and in a notebook, and become JSON."""

import io
import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

from rich.console import Console, RenderableType

from gen.records.schema import Schema
from gen.records.tables import natural_width

_HTML = '<pre style="overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


class Result:
    """What a command found. A derived class is a frozen dataclass with `schema`, `content` and `table`."""

    schema: ClassVar[Schema]

    def content(self) -> dict[str, Any]:
        """Every key of `to_dict` but `schema`; the values may be what `portable` takes."""
        raise NotImplementedError

    def table(self) -> RenderableType:
        """What the command shows."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """What `--json` writes: plain data of the form that `schema` describes."""
        plain: dict[str, Any] = portable(self.content())
        return {"schema": self.schema.identifier} | plain

    def __str__(self) -> str:
        table = self.table()
        console = Console(file=io.StringIO(), width=natural_width(table), highlight=False, markup=False, emoji=False)
        with console.capture() as text:
            console.print(table)
        return "\n".join(line.rstrip() for line in text.get().splitlines()).strip("\n")

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """For notebooks; without scripts."""
        table = self.table()
        console = Console(
            file=io.StringIO(),
            record=True,
            width=natural_width(table),
            force_jupyter=False,
            highlight=False,
            markup=False,
            emoji=False,
        )
        console.print(table)
        return console.export_html(inline_styles=True, code_format=_HTML)


def kinds_of_results(kind: type[Result] = Result) -> Iterator[type[Result]]:
    """Those with a form, of what was imported."""
    for own in kind.__subclasses__():
        if "schema" in vars(own):
            yield own
        yield from kinds_of_results(own)


def portable(value: Any) -> Any:
    """Plain data for JSON: tuples become lists; NaN and infinities, which JSON has not, become strings that Python's
    and NumPy's float() read."""
    if isinstance(value, dict):
        return {k: portable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def to_json(data: Any) -> str:
    """JSON text of a `Result` or of plain data."""
    plain = data.to_dict() if isinstance(data, Result) else portable(data)
    return json.dumps(plain, indent=2, allow_nan=False) + "\n"
