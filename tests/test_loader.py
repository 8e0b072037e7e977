# SPDX-License-Identifier: Apache-2.0
"""Loading model files: good ones load, bad ones give one sentence, malicious ones do nothing.

Every attack here touches a file when it works. Each is first shown to work on torch's own unsafe loader (or to
reach a function that executes), so that the tests cannot pass because an attack is broken.
"""

import contextlib
import io
import json
import os
import pickle
import zipfile

import pytest
import sympy
import torch
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.passes import run_passes
from hls.errors import HeepgenError


class Touch:
    """Pickles to a call that creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class OwnNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x)


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "touched"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "good.pt2"
    torch.export.save(torch.export.export(small(), (torch.zeros(1, 1, 4, 4),)), path)
    return path


def rewritten(archive, path, members=None, edit=None):
    """A copy of `archive` with members added or replaced, and its model.json passed through `edit`."""
    members = dict(members or {})
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
        for info in source.infolist():
            top, _, name = info.filename.partition("/")
            data = source.read(info)
            if name == "models/model.json" and edit:
                tree = json.loads(data)
                edit(tree)
                data = json.dumps(tree).encode()
            target.writestr(info.filename, members.pop(name, data))
        for name, data in members.items():
            target.writestr(f"{top}/{name}", data)
    return path


def pickled(thing) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def table(name, path_name, use_pickle) -> bytes:
    """A weights or constants table with one entry."""
    meta = {"dtype": 7, "sizes": [], "requires_grad": False, "device": {"type": "cpu", "index": None},
            "strides": [], "storage_offset": {"as_int": 0}, "layout": 7}  # fmt: skip
    entry = {"path_name": path_name, "is_param": False, "use_pickle": use_pickle, "tensor_meta": meta}
    return json.dumps({"config": {name: entry}}).encode()


def test_good_archive_loads_and_imports(archive):
    program = load_model(archive)
    graph = run_passes(import_model(program, (1, 1, 4, 4)))
    assert [n.name for n in graph.nodes] == ["0", "3", "4"]


def test_good_archive_computes_what_the_module_does(tmp_path):
    torch.manual_seed(0)
    model, x = small(), torch.randn(1, 1, 4, 4)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    torch.testing.assert_close(load_model(tmp_path / "m.pt2").module()(x), model(x))


def test_module_of_standard_layers_loads(tmp_path):
    torch.save(small(), tmp_path / "m.pt")
    assert isinstance(load_model(tmp_path / "m.pt"), nn.Sequential)


def test_own_class_needs_trust(tmp_path):
    path = tmp_path / "m.pt"
    torch.save(OwnNet(), path)
    with pytest.raises(HeepgenError, match="OwnNet.*torch.export.save.*--trust-pickle") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert isinstance(load_model(path, trust_pickle=True), OwnNet)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"w": torch.ones(2), "t": t}, lambda t: nn.ModuleList([t])])
def test_malicious_pickle_runs_nothing(tmp_path, marker, wrap):
    path = tmp_path / "m.pt"
    try:
        torch.save(wrap(Touch(marker)), path)
    except TypeError:  # a ModuleList takes modules only: smuggle it in as an attribute
        module = nn.Linear(2, 2)
        module.extra = Touch(marker)
        torch.save(nn.Sequential(module), path)
    torch.load(path, weights_only=False)
    assert marker.exists()
    marker.unlink()
    with pytest.raises(HeepgenError, match="system"):
        load_model(path)
    assert not marker.exists()


ATTACKS = {
    "sample input": {"data/sample_inputs/model.pt": "torch"},
    "weight": {"data/weights/weight_0": "torch", "data/weights/model_weights_config.json": ("0.weight", "weight_0")},
    "constant": {"data/constants/tensor_0": "torch", "data/constants/model_constants_config.json": ("c", "tensor_0")},
    "legacy weights": {"data/weights/model.pt": "torch"},
    "legacy constants": {"data/constants/model.pt": "torch"},
    "opaque object": {
        "data/constants/opaque_obj_0": "pickle",
        "data/constants/model_constants_config.json": ("c", "opaque_obj_0"),
    },
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_malicious_archive_runs_nothing(archive, tmp_path, marker, attack):
    def content(kind):
        if isinstance(kind, tuple):
            return table(*kind, use_pickle=True)
        return pickled(Touch(marker)) if kind == "torch" else pickle.dumps(Touch(marker))

    members = {name: content(kind) for name, kind in ATTACKS[attack].items()}
    path = rewritten(archive, tmp_path / "bad.pt2", members)
    with contextlib.suppress(Exception):  # the damage is done before torch notices
        torch.export.load(path)
    assert marker.exists(), "this attack does not work even on torch.export.load"
    marker.unlink()
    try:
        run_passes(import_model(load_model(path)))  # fine when the member is just never read
    except HeepgenError as error:
        assert "might run code" in str(error) and "\n" not in str(error)
    assert not marker.exists()


def test_environment_variable_alone_is_not_enough(archive, tmp_path, marker, monkeypatch):
    """Why archives are repacked: torch unpickles opaque objects whatever the variable says."""
    members = {
        "data/constants/opaque_obj_0": pickle.dumps(Touch(marker)),
        "data/constants/model_constants_config.json": table("c", "opaque_obj_0", use_pickle=True),
    }
    path = rewritten(archive, tmp_path / "bad.pt2", members)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    torch.export.load(path)
    assert marker.exists()


def test_symbolic_expression_runs_nothing(archive, tmp_path, marker):
    expression = f"__import__('os').system('touch {marker}')"
    sympy.sympify(expression)
    assert marker.exists(), "sympify does not evaluate Python any more"
    marker.unlink()

    def edit(tree):
        tree["graph_module"]["graph"]["tensor_values"]["relu"]["sizes"][0] = {
            "as_expr": {"expr_str": expression, "hint": None}
        }

    with pytest.raises(HeepgenError, match="dynamic shape"):
        load_model(rewritten(archive, tmp_path / "bad.pt2", edit=edit))
    assert not marker.exists()


def node_target(target):
    def edit(tree):
        tree["graph_module"]["graph"]["nodes"][2]["target"] = target

    return edit


def spec(type_, context):
    def edit(tree):
        child = {"type": type_, "context": context, "children_spec": []}
        text = json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [child]}])
        tree["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text

    return edit


ENUM = json.dumps({"__enum__": True, "fqn": "antigravity:X", "name": "Y"})
EDITS = {
    "function below torch": (node_target("torch.serialization.os.system"), "operator is not supported"),
    "extension operator": (node_target("#torch.some_extension:op"), "operator is not supported"),
    "file operator": (node_target("torch.ops.aten.from_file.default"), "layer 2: from_file"),
    "python operator": (node_target("_operator.attrgetter"), "operator is not supported"),
    "enum import": (spec("builtins.dict", ENUM), "argument structure"),
    "factory import": (spec("collections.defaultdict", '{"default_factory_module": "os"}'), "argument structure"),
    "custom object": (
        lambda tree: tree["graph_module"]["graph"]["inputs"].append({"as_custom_obj": {"name": "a"}}),
        "custom object",
    ),
    "ranges": (lambda tree: tree.update(range_constraints={"s0": {"min_val": 1, "max_val": 2}}), "dynamic shapes"),
    "no graph": (lambda tree: tree.pop("graph_module"), "damaged"),
    "node is a number": (lambda tree: tree["graph_module"]["graph"].update(nodes=[3]), "damaged"),
}


@pytest.mark.parametrize("name", EDITS)
def test_unsafe_program_is_refused(archive, tmp_path, name):
    edit, message = EDITS[name]
    with pytest.raises(HeepgenError, match=message) as caught:
        load_model(rewritten(archive, tmp_path / "bad.pt2", edit=edit))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("member", ["data/aotinductor/model/x.so", "version", "serialized_state_dict.pt", "x/../y"])
def test_unknown_member_is_refused(archive, tmp_path, member):
    with pytest.raises(HeepgenError, match="might run code"):
        load_model(rewritten(archive, tmp_path / "bad.pt2", {member: b"1"}))


def test_guard_code_is_dropped(archive, tmp_path, marker):
    def edit(tree):
        tree["guards_code"] = [f"__import__('os').system('touch {marker}')"]

    program = load_model(rewritten(archive, tmp_path / "bad.pt2", edit=edit))
    program.module()(torch.zeros(1, 1, 4, 4))
    assert not marker.exists()


def test_compressed_archive_is_refused(archive, tmp_path):
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            target.writestr(info.filename, source.read(info))
        target.writestr("good/data/weights/weight_99", bytes(10**7))
    with pytest.raises(HeepgenError, match="compressed"):
        load_model(path)


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort()[0]


def test_unsupported_layer_in_archive_is_named(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), Sorted()).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 2),)), tmp_path / "m.pt2")
    with pytest.raises(HeepgenError, match="layer 1: sort: .*docs/operators.md"):
        load_model(tmp_path / "m.pt2")


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PK\x03\x04" + bytes(50), b"\x80\x04."])
def test_garbage_is_one_sentence(tmp_path, suffix, content):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(HeepgenError, match="m.pt") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(archive, tmp_path, keep):
    module = tmp_path / "whole.pt"
    torch.save(small(), module)
    for source in (archive, module):
        data = source.read_bytes()
        cut = tmp_path / f"cut{source.suffix}"
        cut.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(HeepgenError, match="not a complete") as caught:
            load_model(cut)
        assert "\n" not in str(caught.value)


def test_damaged_directory(archive, tmp_path):
    """Any byte of the archive's directory, set to what breaks most: read or refused in one sentence."""
    data = archive.read_bytes()
    start = data.index(b"PK\x01\x02")
    for at in range(start, len(data), 7):
        damaged = tmp_path / "damaged.pt2"
        damaged.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        with contextlib.suppress(HeepgenError):
            load_model(damaged)


def test_unsuitable_files(tmp_path):
    torch.save(small().state_dict(), tmp_path / "weights.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("script.pt", "script.pt2"):
        torch.jit.script(nn.Sequential(nn.Linear(2, 2))).save(str(tmp_path / name))
    (tmp_path / "model.tflite").write_bytes(b"x")
    for name, message in {
        "weights.pt": "state_dict",
        "list.pt": "holds a list",
        "script.pt": "TorchScript",
        "script.pt2": "TorchScript",
        "model.tflite": "ends in .pt2",
        "missing.pt2": "does not exist",
    }.items():
        with pytest.raises(HeepgenError, match=message) as caught:
            load_model(tmp_path / name)
        assert "\n" not in str(caught.value)


def drop_node(tree):
    tree["graph_module"]["graph"]["nodes"].pop(1)


@pytest.mark.parametrize("damage", [{"members": {"data/weights/weight_0": b"1234"}}, {"edit": drop_node}])
def test_inconsistent_archive_is_one_sentence(archive, tmp_path, damage, capfd):
    """torch logs the traceback of some errors by itself."""
    with pytest.raises(HeepgenError, match="cannot read this archive") as caught:
        load_model(rewritten(archive, tmp_path / "bad.pt2", **damage))
    assert "\n" not in str(caught.value) and "Traceback" not in capfd.readouterr().err


def test_trusted_archive_loads_as_torch_does(archive, tmp_path):
    assert import_model(load_model(archive, trust_pickle=True)).nodes
    (tmp_path / "bad.pt2").write_bytes(b"garbage")
    with pytest.raises(HeepgenError, match="cannot read this archive"):
        load_model(tmp_path / "bad.pt2", trust_pickle=True)


@pytest.mark.parametrize(
    "layer",
    [
        *(nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), nn.Threshold(0.1, 2.0), nn.GLU(1), nn.PixelUnshuffle(2)),
        *(
            nn.ReflectionPad2d(2),
            nn.ReplicationPad2d((1, 0, 2, 1)),
            nn.CircularPad2d(1),
            nn.UpsamplingBilinear2d((12, 12)),
        ),
        *(nn.Softmax2d(), nn.Softmin(1), nn.LPPool2d(2, 2), nn.AlphaDropout(), nn.FeatureAlphaDropout()),
        nn.Sequential(nn.Flatten(2), nn.TransformerEncoder(nn.TransformerEncoderLayer(36, 2, 8, batch_first=True), 2)),
        nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(36, 3, 8, activation="gelu")),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_standard_layers_are_loaded_and_imported(layer, tmp_path):
    model, x = nn.Sequential(nn.Conv2d(4, 4, 1), layer).eval(), torch.randn(1, 4, 6, 6)
    torch.save(model, tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    assert torch.equal(loaded(x), model(x)) and CodeGenerator(loaded, x).check.tensors
