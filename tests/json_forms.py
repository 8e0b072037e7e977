# SPDX-License-Identifier: Apache-2.0
"""Documents of `--json` against the JSON Schemas in docs/."""

import json
from typing import Any

from jsonschema import Draft202012Validator

from gen.documents.json_format import file_name, results
from tests.house import ROOT


def form_errors(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document by the schema that it names."""
    schemas = {kind.schema.identifier: kind.schema for kind in results().values()}
    schema = json.loads((ROOT / "docs" / file_name(schemas[document["schema"]])).read_text())
    Draft202012Validator.check_schema(schema)
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]
