# SPDX-License-Identifier: Apache-2.0
"""Bad input on the command line: one sentence of what and why, exit status 1, nothing run, nothing left."""

import os
import sys
import types

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from gen.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEEPGEN_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def refused(folder):
    def refuse(*args):
        before = sorted(folder.rglob("*"))
        result = CliRunner().invoke(main, [str(a) for a in args])
        assert result.exit_code == 1, result.output
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("heepgen: error: ")
        assert sorted(folder.rglob("*")) == before
        return lines[0]

    return refuse


def save(name, network=None, shape=(1, 4)):
    network = (network or nn.Sequential(nn.Linear(4, 3), nn.ReLU())).eval()
    if name.endswith(".pt"):
        torch.save(network, name)
    else:
        torch.export.save(torch.export.export(network, (torch.zeros(shape),)), name)
    return name


def arguments(command, name):
    return [command, name, *(["--input-shape", "4"] if name.endswith(".pt") else [])]


@pytest.mark.parametrize("command", ["hw", "sw", "run"])
def test_unknown_option_in_the_configuration(refused, folder, command):
    save("net.pt2")
    (folder / "my.hjson").write_text("{\n  systolic_array: { rows: 4\n colums: 4 }\n}")
    message = refused(command, *([] if command == "hw" else ["net.pt2"]), "--config", "my.hjson")
    assert "my.hjson" in message and "systolic_array.colums" in message and "systolic_array.cols" in message


def test_truncated_configuration_names_the_line(refused, folder):
    (folder / "cut.hjson").write_text("{\n  systolic_array: {\n    rows: 4\n")
    message = refused("hw", "--config", "cut.hjson")
    assert "cut.hjson" in message and "line" in message and "not closed" in message


class Attack:
    def __reduce__(self):
        return os.mkdir, ("was_here",)


@pytest.mark.parametrize("command", ["sw", "run"])
def test_malicious_pickle(refused, folder, command):
    torch.save({"net": nn.Linear(4, 3), "extra": Attack()}, "net.pt")
    message = refused(*arguments(command, "net.pt"))
    assert "net.pt" in message and "mkdir" in message and "--trust-pickle" in message
    assert not (folder / "was_here").exists()


@pytest.mark.parametrize("name", ["net.pt", "net.pt2"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(refused, name, value):
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with torch.no_grad():
        network[1].weight[1, 2] = value
    save(name, network)
    message = refused(*arguments("sw", name), "-o", "out")
    assert "1" in message and ("nan" in message.lower() or "inf" in message.lower())
    assert "weight" in message


@pytest.mark.parametrize("name", ["net.pt", "net.pt2"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_truncated_model(refused, folder, name, keep):
    data = (folder / save(name)).read_bytes()
    (folder / name).write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    assert name in refused(*arguments("sw", name))


def test_files_that_are_no_models(refused, folder):
    assert "absent.pt2" in refused("sw", "absent.pt2")
    (folder / "notes.txt").write_text("hello")
    message = refused("sw", "notes.txt")
    assert "notes.txt" in message and ".pt2" in message
    (folder / "dir.pt2").mkdir()
    assert "dir.pt2" in refused("sw", "dir.pt2")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_with_nan_is_data_not_an_error(bad, folder):
    """The hardware computes with NaN and Inf as IEEE-754 says: they are legal input."""
    x = np.zeros((1, 4), np.float32)
    x[0, 2] = bad
    np.save("x.npy", x)
    result = CliRunner().invoke(main, ["run", save("net.pt2"), "--sample", "x.npy", "--software", "--json", "-"])
    assert result.exit_code == 0, result.stderr


def test_options_that_would_have_no_effect(refused, folder):
    save("net.pt2")
    assert CliRunner().invoke(main, ["sw", "net.pt2", "-o", "app"]).exit_code == 0
    np.save("x.npy", np.zeros((1, 4), np.float32))
    for option in (
        ["--sample", "x.npy"],
        ["--per-tensor"],
        ["--calibrate", "mse"],
        ["--input-shape", "4"],
        ["--batch", 2],
    ):
        message = refused("run", "app", *option)
        assert option[0] in message and "heepgen sw" in message
    message = refused("run", "app", "--software", "--vcd", "x.vcd")
    assert "--vcd" in message and "--software" in message


def test_json_into_a_folder(refused):
    assert "--json .:" in refused("estimate", save("net.pt2"), "--json", ".")


def test_a_checkpoint_is_no_model(refused, folder):
    torch.save({"epoch": 3, "model": nn.Linear(4, 3).state_dict()}, "net.pt")
    assert "weights only" in refused(*arguments("sw", "net.pt"))


def test_a_model_of_half_precision(refused, folder):
    message = refused(*arguments("sw", save("net.pt", nn.Sequential(nn.Linear(4, 3)).half())))
    assert "float16" in message and "model.float()" in message


def test_an_input_larger_than_any_memory(refused, folder):
    """Before it is allocated."""
    message = refused(*arguments("sw", save("net.pt")), "--batch", 10**9)
    assert "4,000,000,000" in message


def test_a_class_that_cannot_be_imported(refused, folder, monkeypatch):
    monkeypatch.setattr(Anonymous, "__module__", "absent_module", raising=False)
    monkeypatch.setitem(sys.modules, "absent_module", types.SimpleNamespace(Anonymous=Anonymous))
    torch.save(Anonymous(4, 3), "net.pt")
    monkeypatch.delitem(sys.modules, "absent_module")
    assert "PYTHONPATH" in refused(*arguments("sw", "net.pt"), "--trust-pickle")


class Anonymous(nn.Linear):
    pass


class Autocast(nn.Linear):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


def test_autocast_inside_a_model(refused, folder):
    assert "computes in torch.autocast, not in float32" in refused("sw", save("net.pt2", Autocast(4, 3)))


class Keyword(nn.Linear):
    """Takes its input by name, and returns it in a dict."""

    def forward(self, *, image):
        return {"scores": super().forward(image)}


def test_inputs_by_name_and_outputs_in_containers(folder):
    program = torch.export.export(Keyword(4, 3).eval(), (), {"image": torch.zeros(1, 4)})
    torch.export.save(program, "net.pt2")
    result = CliRunner().invoke(main, ["sw", "net.pt2", "-o", "app"])
    assert result.exit_code == 0, result.stderr


def test_output_folders_that_hold_other_things(refused, folder):
    save("net.pt2")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("years of work")
    (folder / "file").write_text("")
    for command in (["hw"], ["sw", "net.pt2"]):
        assert "mine" in refused(*command, "-o", "mine")
        assert "file" in refused(*command, "-o", "file")
    assert (folder / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_model_that_fits_no_memory_has_the_numbers(refused, folder):
    save("wide.pt2", nn.Sequential(nn.Linear(1000, 1000)), (1, 1000))
    (folder / "small.hjson").write_text("{memory: {banks: 2, banks_interleaved: [2], bank_kib: 16}}")
    message = refused("sw", "wide.pt2", "--config", "small.hjson")
    assert "does not fit" in message and f"{4 * 16384:,}" in message
