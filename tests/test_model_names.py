# SPDX-License-Identifier: Apache-2.0
"""Names that a user may give to modules, parameters, buffers, outputs and files: from `heepgen sw` to the compiler."""

import pytest
import torch
from torch import nn

from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.exported.prepare import export
from firmware_gen.frontend.loader import load_model
from firmware_gen.names import safe_name
from gen.flows.network.application import Application
from gen.flows.network.sw import generate_sw
from hls.config import Config
from sim.firmware import compile_firmware
from tests.applications import everything

NAMES = (
    "class",
    "for",
    "None",
    "graph",
    "int",
    "main",
    "model_run",
    'a"b',
    "a'b",
    "a\nb",
    "a\r\tb",
    "a\\",
    "ü名",
    "²",
    "a b",
    "*/",
    "//",
    "??/",
    "%s",
    "{{x}}",
    "[/bold]",
    "x,y",
    "a,b;c",
    "\x00",
    "\u2028",
    "n" * 300,
)


class Heads(nn.Module):
    """Every name for a module, a parameter, a buffer that is not saved, and an output."""

    def __init__(self, names: tuple[str, ...]):
        super().__init__()
        self.names = names
        self.heads = nn.ModuleDict({name: nn.Conv2d(2, 3, 1) for name in names})
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.tensor([0.5, 2.0]).reshape(2, 1, 1)))
            self.register_buffer(f"{name}_b", torch.tensor([1.0, 2, 3]).reshape(3, 1, 1), persistent=False)

    def forward(self, x):
        return {
            name: torch.relu(self.heads[name](x * getattr(self, name)) * getattr(self, f"{name}_b"))
            for name in self.names
        }


@pytest.mark.parametrize("names", [NAMES, *((name,) for name in NAMES[:3])], ids=ascii)
def test_names_that_are_no_python(names, tmp_path):
    file = tmp_path / f"{''.join(names)[:60].translate(dict.fromkeys(map(ord, '/' + chr(0)), '|'))}.pt2"
    model, x = Heads(names), torch.randn(1, 2, 2, 2)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    (tmp_path / "m.pt2").rename(file)
    report = generate_sw(file, Config(), tmp_path / "app")
    heads = [layer["name"] for layer in report.layers if layer["name"].startswith("heads.")]
    assert {safe_name(f"heads.{name}") for name in names} <= set(heads) and len(heads) == len(set(heads)) == len(names)
    assert [layer["name"] for layer in report.layers] == [n.name for n in _lowered(model, x)]
    application = Application.open(tmp_path / "app")
    manifest = application.manifest
    assert all(text.isprintable() for text in (*heads, manifest["name"], report.network))
    mode = manifest["accelerator"]
    compile_firmware(
        *everything(application), mode["defines"], Config(), tmp_path / "app.elf", placements=mode["placements"]
    )


def _lowered(model, x):
    from firmware_gen.passes import run_passes

    return run_passes(import_model(export(model, x))).nodes


def test_a_module_called_graph_holds_parameters_of_its_own(tmp_path):
    model = nn.Sequential()
    model.add_module("graph", nn.Linear(4, 3))
    torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), tmp_path / "m.pt2")
    assert [n.name for n in import_model(load_model(tmp_path / "m.pt2")).nodes] == ["graph"]
