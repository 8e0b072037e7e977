# SPDX-License-Identifier: Apache-2.0
"""How a model becomes firmware."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ImportOptions:
    """How a model becomes firmware; kept in the folder, so that it can be generated again for another input. `biases`
    are those in place of the model's, by layer name; `state`: see `import_program`;
    `stream`: new frames a call, along dimension `time_axis` of the input, None without."""

    append_final_softmax: bool = False
    per_tensor: bool = False
    calibrate: str = "max"
    biases: dict[str, list[float]] | None = None
    state: dict[str, str] | None = None
    stream: int | None = None
    time_axis: int | None = None


def note(name: str, options: ImportOptions) -> dict[str, Any]:
    """What the marker of an application's folder says of the network, besides kind and files."""
    return {"name": name, "options": vars(options)}
