# SPDX-License-Identifier: Apache-2.0
"""The application folder: `main.cpp` and what else the user changes, and beside it `gen/`, which heepgen replaces."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hls.output import generated_folder

KIND = "application"
GENERATED = "gen"
"""Folder of everything generated; what lies beside it is the user's."""
MANIFEST, REFERENCE, MODEL = "manifest.json", "reference.json", "model.pt2"
PLAN, LISTING = "memory.svg", "listing.txt"
MAIN = "main.cpp"


def application_folder(
    folder: str | Path, *, note: dict[str, Any] | None = None, **options: bool
) -> AbstractContextManager[Path]:
    """Temporary folder that becomes the application `folder` when the block ends well; of an application that is there
    already, GENERATED alone. `note` is what its marker says besides, `options` are those of `generated_folder`."""
    return generated_folder(folder, KIND, part=GENERATED, note=note, **options)
