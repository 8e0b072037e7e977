# SPDX-License-Identifier: Apache-2.0
"""Programs of common operators: read from archives, and written without in-place operators, as torch does both."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from firmware_gen.frontend.exported import archive, functional, importer, prepare
from firmware_gen.frontend.exported.pt2 import load_pt2
from hls.errors import HeepgenError
from tests.imported import assert_imported_as_it_is


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Dropout(0.1))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        y = torch.cat((nn.functional.silu(x), torch.sigmoid(x) * x - torch.tanh(x)), 1)
        pooled = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(nn.functional.pad(y, (1, 0, 2, 1)), 2), 1)
        flat = nn.functional.gelu(self.norm(torch.flatten(pooled, 1)))
        return self.head(nn.functional.dropout(flat, 0.5, self.training)).softmax(-1), y.permute(0, 2, 3, 1).mean(
            (1, 2)
        )


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    from examples.mlperf_tiny import networks as tiny

    torch.manual_seed(0)
    sequence = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.LeakyReLU(), nn.Hardswish(), nn.Flatten(), nn.Flatten(), nn.Linear(24, 3)
    )
    return {
        "mixed": (Mixed(), (1, 3, 12, 10)),
        "sequence": (sequence, (1, 2, 8)),
        "several": (nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Dropout(), nn.Linear(4, 2)), (3, 4)),
        "resnet8": (tiny.resnet8(), (1, 3, 32, 32)),
        "ds_cnn": (tiny.ds_cnn(), (1, 1, 49, 10)),
    }


NAMES = ("mixed", "sequence", "several", "resnet8", "ds_cnn")


def exported(name: str) -> torch.export.ExportedProgram:
    model, shape = networks()[name]
    return torch.export.export(model.eval(), (torch.randn(shape),))


def described(program: torch.export.ExportedProgram) -> list[object]:
    """All nodes, weights by their places."""
    nodes = list(program.graph.nodes)
    places = {node: f"input {i}" for i, node in enumerate(n for n in nodes if n.op == "placeholder")}
    result: list[object] = []
    for node in nodes:
        args = torch.fx.map_arg((node.args, node.kwargs), lambda fx: places.get(fx, fx.name))
        values = torch.utils._pytree.tree_leaves(node.meta["val"]) if node.op != "output" else []
        shapes = [(tuple(v.shape), v.dtype) for v in values if v is not None and v.numel()]
        stack = node.meta.get("nn_module_stack") if node.op == "call_function" else None
        result.append((places.get(node, node.name), node.op == "placeholder" or node.target, args, shapes, stack))
    return [*result, [(s.kind, s.arg.name) for s in program.graph_signature.output_specs]]


@pytest.mark.parametrize("name", NAMES)
def test_common_programs_become_what_torch_makes_of_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = exported(name)
    found = functional.functional_form(program)
    assert found is not None
    monkeypatch.setattr(prepare, "functional_form", lambda program: None)
    torch_made = prepare.functionalised(program)
    ours, theirs = described(found), described(torch_made)
    assert [str(entry) for entry in ours] == [str(entry) for entry in theirs]


@pytest.mark.parametrize("name", NAMES)
def test_archives_are_read_as_torch_reads_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, path = exported(name), tmp_path / "model.pt2"
    torch.export.save(program, path)
    ours = load_pt2(path)
    with monkeypatch.context() as patch:
        patch.setattr("firmware_gen.frontend.exported.pt2.read_program", lambda *given: None)
        theirs = load_pt2(path)
    assert isinstance(next(iter(ours.graph.nodes)).meta["val"], torch.Tensor)
    assert next(iter(ours.graph.nodes)).meta["val"].device.type == "meta"  # it was not torch that read it
    assert [str(entry) for entry in described(ours)] == [str(entry) for entry in described(theirs)]
    assert str(ours.graph_signature) == str(theirs.graph_signature)
    assert ours.state_dict.keys() == theirs.state_dict.keys()
    for key, value in theirs.state_dict.items():
        assert torch.equal(ours.state_dict[key], value) and type(ours.state_dict[key]) is type(value)
    again = tmp_path / "again.pt2"
    again.write_bytes(ours.archive)
    assert str(described(torch.export.load(again))) == str(described(theirs))


def edited(path: Path, old: bytes, new: bytes) -> None:
    """The archive with its model.json changed."""
    with zipfile.ZipFile(path) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name, data in members.items():
            target.writestr(name, data.replace(old, new) if name.endswith("model.json") else data)
    path.write_bytes(buffer.getvalue())


def test_shapes_that_an_archive_invents_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(nn.Sequential(nn.Linear(6, 5), nn.ReLU()).eval(), (torch.zeros(1, 6),)), path)
    edited(path, b'{"as_int": 5}', b'{"as_int": 4}')
    try:
        graph = importer.import_model(load_pt2(path))
    except HeepgenError:
        return
    assert [graph.shape(value) for value in graph.outputs] == [(1, 5)]


def test_other_programs_are_left_to_torch() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 2).add_(1)

    program = torch.export.export(InPlace(), (torch.zeros(1, 3),))
    assert functional.functional_form(program) is None
    assert archive.read_program({}, {}, {}) is None


class Within(nn.Module):
    """Graphs in graphs: some return what they take, one returns a value twice, their names are those around them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.conv = nn.Linear(4, 4), nn.Sequential(nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.Dropout())
        self.register_buffer("seen", torch.zeros(1, 4))

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.layer(x)
        with torch.autocast("cpu", enabled=False):
            with torch.set_grad_enabled(False):
                y, same = y, y
            with torch.enable_grad():
                left, right = self.conv(y[:, None]).split(1, 2)
                y = y * 2
            z = self.layer(y)
            self.seen.copy_(z)
        return y, same, left - right, z + self.seen


@pytest.mark.parametrize("saved", [False, True], ids=["module", "pt2"])
def test_what_is_within_no_grad_is_part_of_the_program(saved: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert_imported_as_it_is(Within().eval(), torch.randn(1, 4), tmp_path if saved else None)
