# SPDX-License-Identifier: Apache-2.0
"""Print what the device answered beside PyTorch: python examples/digits/compare.py TRAINED_FOLDER RUN_JSON"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.export import ExportedProgram

from firmware_gen.frontend.loader import load_model
from hls.errors import HeepgenError

SHADES = " .:-=+*#%@"


def main(folder: Path, run_json: Path) -> None:
    program = load_model(folder / "model.pt2")
    assert isinstance(program, ExportedProgram)
    model = program.module()
    sample, labels = np.load(folder / "sample.npy"), np.load(folder / "labels.npy")
    result = json.loads(run_json.read_text())
    with torch.no_grad():
        expected = model(torch.from_numpy(sample)).numpy()
    device = np.array(result["outputs"], np.float32).reshape(expected.shape)
    table = Table("image", "label", "PyTorch", "device", "largest difference of an output")
    for image, label, float_out, device_out in zip(sample, labels, expected, device, strict=True):
        difference = np.abs(float_out - device_out).max()
        row = (label, float_out.argmax(), device_out.argmax(), f"{difference:.3g}")
        table.add_row(_picture(image), *map(str, row))
    Console().print(table)


def _picture(image: np.ndarray) -> str:
    pixels = image.reshape(-1, image.shape[-1])
    levels = (pixels - pixels.min()) / (np.ptp(pixels) or 1) * (len(SHADES) - 1)
    return "\n".join("".join(SHADES[round(float(v))] * 2 for v in row) for row in levels)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (HeepgenError, OSError) as error:
        sys.exit(f"error: {error}")
