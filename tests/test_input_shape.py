# SPDX-License-Identifier: Apache-2.0
"""What a user types: `heepgen sw model.pt` without a shape, with a name, with options that do not apply."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen.frontend.input_shape import ENOUGH, input_shapes
from gen.cli import main
from gen.flows.network.sw import load_program
from gen.inputs import network_name
from hls.errors import HeepgenError


def classifier(side, channels=2):
    """Conv 3x3, a pool that halves, a Linear behind a Flatten, for maps of this side."""
    features = 4 * ((side - 2) // 2) ** 2
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(features, 3)
    ).eval()


KEYWORDS = nn.Sequential(nn.Conv2d(1, 4, (10, 4), stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 12, 2))


class HeadFirst(nn.Module):
    """Registers its layers in another order than it calls them."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5 * 49, 2)
        self.conv = nn.Conv2d(1, 5, 3, stride=2, padding=1)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


@pytest.mark.parametrize(
    "model, shapes",
    [
        (nn.Sequential(nn.Linear(7, 3), nn.ReLU()), [(7,)]),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), [(12,)]),
        (nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)), [(6,)]),
        (nn.Sequential(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), [(16,)]),
        (nn.Sequential(nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 2)), [(3, 6, 6)]),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(75, 2)), [(3, 5, 5)]),
        (nn.Sequential(nn.Conv1d(4, 2, 5), nn.Flatten(), nn.Linear(366, 2)), [(4, 187)]),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 2, 3), nn.Flatten(), nn.Linear(10, 2)), [(4, 7)]),
        (classifier(8), [(2, 8, 8), (2, 9, 9)]),
        (classifier(8).half(), [(2, 8, 8), (2, 9, 9)]),
        (HeadFirst(), [(1, 13, 13), (1, 14, 14)]),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1)), [(1, 3, 3), (1, 4, 4), (1, 5, 5)]),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2 * 3 * 5, 2)), [(1, 3, 5), (1, 5, 3), (1, 1, 15)]),
        (KEYWORDS, [(1, 21, 22), (1, 20, 22), (1, 21, 23)]),  # 6 x 10 of them: 20 or 21 by 22 or 23
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 127 * 10007, 2)), []),
        (nn.Sequential(nn.ReLU()), []),
    ],
)
def test_shapes_that_the_layers_leave(model, shapes):
    assert input_shapes(model) == shapes and len(shapes) <= ENOUGH
    for shape in shapes:
        model(torch.zeros(2, *shape, dtype=next(model.parameters()).dtype))


def test_looking_for_shapes_changes_nothing():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 1, 3), nn.Flatten(), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert input_shapes(model) == [(2, 4, 4)] and model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) and value.device.type == "cpu"


def sides(side):
    """As `classifier`, for one side only."""
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * (side - 2) ** 2, 3)).eval()


def test_a_pt_runs_as_typed(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 3, "model": sides(6), "losses": [0.5, torch.ones(2)]}, "model.pt")
    done = CliRunner().invoke(main, ["sw", "model.pt", "--batch", "2"])
    assert done.exit_code == 0, done.stderr
    assert all(word in caplog.text for word in ("model.pt: ", "1,6,6", "no other square", "--input-shape"))
    assert (tmp_path / "build" / "model-app").is_dir()
    program, (sample,) = load_program("model.pt", batch=2)
    assert sample.shape == (2, 1, 6, 6)
    program, (sample,) = load_program("model.pt", input_shape=(1, 6, 6))
    assert sample.shape == (1, 1, 6, 6)


@pytest.mark.parametrize(
    "model, words",
    [
        (classifier(8), ("2,8,8", "2,9,9", "--input-shape", "--sample")),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), ("1,3,3", "and more", "--input-shape")),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(30, 2)),
            ("1,3,5", "1,5,3", "more", "--input-shape"),
        ),
        (nn.Sequential(nn.ReLU()), ("none fits", "--input-shape")),
        ({"a": nn.Linear(2, 3), "b": {"c": nn.Linear(2, 2)}}, ("2 models", "a", "b.c")),
        ({"model": nn.Linear(2, 3).state_dict()}, ("weights only", "torch.export.save")),
    ],
)
def test_a_pt_that_leaves_it_open(model, words, tmp_path):
    torch.save(model, tmp_path / "net.pt")
    with pytest.raises(HeepgenError) as caught:
        load_program(tmp_path / "net.pt")
    assert all(word in str(caught.value) for word in ("net.pt", *words)) and "\n" not in str(caught.value)


def test_the_same_module_twice_is_one(tmp_path):
    model = nn.Linear(4, 3)
    torch.save({"net": model, "best": {"net": model}}, tmp_path / "net.pt")
    assert load_program(tmp_path / "net.pt")[1][0].shape == (1, 4)


def test_options_that_contradict_a_sample(tmp_path):
    torch.save(sides(6), tmp_path / "net.pt")
    np.save(tmp_path / "x.npy", np.zeros((2, 1, 6, 6), np.float32))
    arguments = (tmp_path / "net.pt", tmp_path / "x.npy")
    assert load_program(*arguments, input_shape=(1, 6, 6), batch=2)[1][0].shape == (2, 1, 6, 6)
    for option, words in (({"batch": 3}, "--batch 3"), ({"input_shape": (1, 7, 7)}, r"--input-shape \[1, 7, 7\]")):
        with pytest.raises(HeepgenError, match=words):
            load_program(*arguments, **option)


@pytest.mark.parametrize("command", ["sw", "estimate", "run"])
@pytest.mark.parametrize("option", [("--batch", "2"), ("--input-shape", "5")])
def test_options_beside_a_pt2(command, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.export.save(torch.export.export(nn.Linear(4, 3), (torch.zeros(1, 4),)), "net.pt2")
    done = CliRunner().invoke(main, [command, "net.pt2", *option])
    assert done.exit_code == 1 and option[0] in done.stderr and "net.pt2" in done.stderr


def test_eval_has_the_shape_of_its_data_or_of_the_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, x = nn.Conv2d(1, 2, 3, padding=1).eval(), torch.randn(3, 1, 6, 5)
    torch.save(model, "net.pt")
    sizes = {2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    torch.export.save(torch.export.export(model, (x[:1],), dynamic_shapes=(sizes,)), "net.pt2")
    np.savez("data.npz", x=x.numpy())

    def heepgen(*arguments):
        return CliRunner().invoke(main, ["eval", *arguments, "--data", "data.npz"])

    assert heepgen("net.pt").exit_code == heepgen("net.pt2", "--input-shape", "1,6,5").exit_code == 0
    for name, shape in (("net.pt", "1,5,6"), ("net.pt2", "1,5,6")):
        done = heepgen(name, "--input-shape", shape)
        assert done.exit_code == 1 and "--data" in done.stderr and "[3, 1, 6, 5]" in done.stderr
    assert "--input-shape" in heepgen("net.pt2").stderr


def test_names(tmp_path, monkeypatch):
    assert network_name("digits/model.pt2") == "model"
    assert network_name("digits/model.pt2", "digits") == "digits"
    for bad in ("a;b", "", "a/b", " a", "a\nb", "x" * 200):
        with pytest.raises(HeepgenError, match="--name"):
            network_name("model.pt2", bad)
    (tmp_path / "parent").mkdir()
    monkeypatch.chdir(tmp_path / "parent")
    torch.export.save(torch.export.export(nn.Linear(4, 3), (torch.zeros(1, 4),)), "model.pt2")
    np.savez("data.npz", x=np.zeros((2, 4), np.float32))
    for arguments in (
        ["sw", "model.pt2"],
        ["estimate", "model.pt2"],
        ["run", "model.pt2", "--software"],
        ["eval", "model.pt2", "--data", "data.npz"],
    ):
        for name, options in (("model", []), ("other", ["--name", "other"])):
            done = CliRunner().invoke(main, [*arguments, *options, "--json", f"{arguments[0]}-{name}.json"])
            assert done.exit_code == 0, done.stderr
            assert f'"network": "{name}"' in (tmp_path / "parent" / f"{arguments[0]}-{name}.json").read_text()
    assert sorted(p.name for p in (tmp_path / "parent" / "build").iterdir()) == ["model-app", "other-app"]
    done = CliRunner().invoke(main, ["run", "build/model-app", "--name", "third"])
    assert done.exit_code == 1 and "--name is for a model file" in done.stderr
