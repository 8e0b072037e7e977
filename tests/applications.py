# SPDX-License-Identifier: Apache-2.0
"""Application folders as `CodeGenerator.generate_code` leaves them."""

import json
from pathlib import Path

from firmware_gen.emit.folder import GENERATED, MANIFEST
from gen.flows.network.application import Application


def generated(folder: Path) -> Application:
    """What is in the folder, unchecked, and without what PyTorch says."""
    return Application(folder, folder / GENERATED, json.loads((folder / GENERATED / MANIFEST).read_text()), {})


def everything(application: Application) -> tuple[list[Path], list[Path]]:
    """All sources of an application, the user's first, and all folders of headers."""
    return ([*application.own_sources, *application.sources], [application.folder, *application.include_dirs])
