# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas (draft 2020-12) of what `--json` writes: kinds of values, and records with the meaning of every key."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

Kind = dict[str, Any]
"""A schema of a value."""
Fields = Mapping[str, tuple[Kind, str]]
"""Kind and meaning of every key of an object."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

TEXT: Kind = {"type": "string"}
FLAG: Kind = {"type": "boolean"}
COUNT: Kind = {"type": "integer", "minimum": 0}
NUMBER: Kind = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
"""JSON has no NaN and no infinities: see `result.portable`."""


def maybe(kind: Kind) -> Kind:
    """`kind`, or null where the value is not known or does not apply."""
    return {"anyOf": [kind, {"type": "null"}]}


def each(kind: Kind) -> Kind:
    """A list of `kind`."""
    return {"type": "array", "items": kind}


def named(kind: Kind) -> Kind:
    """An object with keys that depend on the network or the architecture, each holding a `kind`."""
    return {"type": "object", "additionalProperties": kind}


def record(fields: Fields, optional: Collection[str] = (), others: Kind | None = None) -> Kind:
    """An object with exactly these keys, of which `optional` may be missing; with `others` also such ones."""
    return {
        "type": "object",
        "properties": {name: {"description": meaning, **kind} for name, (kind, meaning) in fields.items()},
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False if others is None else others,
    }


SHAPE: Kind = each(COUNT)
ANYTHING: Kind = {}
LAYER: Fields = {
    "name": (TEXT, "as in the model"),
    "op": (TEXT, "its operator"),
    "shape": (SHAPE, "of its output"),
    "macs": (COUNT, "multiply-accumulates"),
}
"""What every result says of a layer first."""


@dataclass(frozen=True)
class Schema:
    """Of a document of `--json`. `version` grows when a key goes or changes its meaning, not when one is added. `call`:
    what gives it, where that is not the command of its name."""

    name: str
    title: str
    fields: Fields
    optional: Collection[str] = ()
    others: Kind | None = None
    version: int = 1
    call: str = ""

    @property
    def given_by(self) -> str:
        return self.call or f"heepgen {self.name}"

    @property
    def identifier(self) -> str:
        """What the key `schema` of the document says."""
        return f"heepgen.{self.name}/{self.version}"

    def document(self) -> dict[str, Any]:
        """The JSON Schema."""
        own: Fields = {"schema": ({"const": self.identifier}, "name and version of this form")}
        return {
            "$schema": DIALECT,
            "$id": f"urn:heepgen:{self.name}:{self.version}",
            "title": self.title,
            **record({**own, **self.fields}, self.optional, self.others),
        }
