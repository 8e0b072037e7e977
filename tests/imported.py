# SPDX-License-Identifier: Apache-2.0
"""Imported models against PyTorch, as modules and as files."""

from pathlib import Path

import torch
from torch import nn

from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.models.fake_quant import GraphModule


def assert_imported_as_it_is(model: nn.Module, x: torch.Tensor, folder: Path | None) -> None:
    """The float graph of a module, or of the file of it in a folder, computes what the module does."""
    source = model
    if folder:
        torch.export.save(torch.export.export(model, (x,)), folder / "net.pt2")
        source = load_model(folder / "net.pt2")
    with torch.no_grad():
        found, wanted = GraphModule(import_model(source, x))(x), model(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
