# SPDX-License-Identifier: Apache-2.0
"""Applications that HEEPstor's calls write: on the virtual SoC, and beside what the user has there."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from gen.flows.measure.run import run
from gen.flows.network.application import Application
from heepstorch import CodeGenerator, SequentialNetwork
from hls.config import Config
from hls.errors import HeepgenError

CONFIG = Config(rows=4, cols=4, ports=2)
NAME = "three-classes"


def network() -> SequentialNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4))
    model[2].bias.data.copy_(torch.tensor([3.2e9, -0.25, 7e-9, 123.4]))
    model[2].weight.data[2] = 0.0
    return SequentialNetwork.from_torch_sequential(model)


def generator(folder, net=None) -> CodeGenerator:
    return CodeGenerator(NAME, net or network(), config=CONFIG, applications=folder)


def arguments(net, rows=3):
    """Input, expected outputs and predictions, and labels."""
    x = torch.randn(rows, 7, generator=torch.Generator().manual_seed(rows))
    with torch.no_grad():
        expected = net.get_quantized_torch_module()(x)
    return x.numpy(), expected.numpy(), expected.argmax(1).tolist(), [9, 1, 4][:rows]


def matrix(uart: str, title: str) -> np.ndarray:
    text = re.search(rf"{title}:\n(\[\[[^]]*\](?:,\n \[[^]]*\])*\])", uart)[1]
    return np.array([[float(value) for value in row.split(",")] for row in re.findall(r"\[+([^][]+)\]", text)])


def test_outputs_predictions_and_labels_are_printed(tmp_path):
    net = network()
    code = generator(tmp_path, net)
    code.generate_code(append_final_softmax=False)
    x, expected, predictions, labels = arguments(net)
    main = code.generate_example_main("main.cpp", x, expected, predictions, labels, True)
    assert main == tmp_path / NAME / "main.cpp"
    report = run(tmp_path / NAME, CONFIG)
    assert report.bit_exact
    np.testing.assert_allclose(np.reshape(report.results[0].values, expected.shape), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(matrix(report.uart, "Computed result"), expected, rtol=6e-5, atol=0)
    np.testing.assert_allclose(matrix(report.uart, "Expected output"), expected, rtol=6e-5, atol=0)
    assert float(re.search(r"Relative error: (\S+)%", report.uart)[1]) < 1e-3
    for title, values in (("Computed Predictions", [0] * 3), ("Expected Predictions", [0] * 3), ("True label", labels)):
        assert re.search(rf"{title}.*:\n\[{', '.join(map(str, values))}\]\n", report.uart), report.uart
    assert f"PROJECT: {NAME}" in report.uart and f"Total time: {report.total_cycles} cycles" in report.uart


def test_an_image_goes_in_as_a_matrix(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)).eval()
    model[1].running_mean.normal_()
    net = SequentialNetwork.from_torch_sequential(model, 3, 4, 2)
    code = generator(tmp_path, net)
    code.generate_code(True)
    image = torch.randn(1, 2, 3, 4)
    with torch.no_grad():
        expected = torch.softmax(net.get_quantized_torch_module()(image), 1).numpy()
    code.generate_example_main("main.cpp", image[0].flatten(1).T.numpy(), expected, [int(expected.argmax())], [1], True)
    bits = Application.open(tmp_path / NAME).manifest["accelerator"]["expected_bits"]
    np.testing.assert_allclose(np.array(bits, np.uint32).view(np.float32), expected[0], rtol=1e-4)


def test_the_configuration_is_that_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heepstor_cfg.hjson").write_text("{ systolic_array: { size: 12 } }")
    code = CodeGenerator(NAME, network())
    assert (code.config.rows, code.config.cols) == (12, 12)
    assert code.generate_code(False).resolve() == tmp_path / "sw" / "applications" / NAME


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_edited_stays(tmp_path):
    net = network()
    folder = generator(tmp_path, net).generate_code(False)
    before = files(folder)
    with pytest.raises(ValueError, match="overwrite_existing_generated_files=True"):
        generator(tmp_path, net).generate_code(False)
    assert files(folder) == before
    generator(tmp_path, net).generate_example_main("main.cpp", *arguments(net), False)
    printing = (folder / "main.cpp").read_text()
    with pytest.raises(HeepgenError, match="exists; overwrite_existing_generated_files=True"):
        generator(tmp_path, net).generate_example_main("main.cpp", *arguments(net), False)

    (folder / "notes.txt").write_text("mine")
    generator(tmp_path, net).generate_code(False, True)
    assert (folder / "main.cpp").read_text() == printing and (folder / "notes.txt").read_text() == "mine"
    assert Application.open(folder).manifest["inputs"][0]["shape"] == [3, 7]  # the inputs that the main was written for

    (folder / "main.cpp").write_text(printing.replace("Hello", "Welcome"))
    before = files(folder)
    with pytest.raises(HeepgenError, match="main.cpp was edited"):
        generator(tmp_path, net).generate_example_main("main.cpp", *arguments(net), True)
    assert files(folder) == before


def test_a_folder_of_somebody_else_stays(tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "main.c").write_text("int main;")
    with pytest.raises(HeepgenError, match="is not an application"):
        generator(tmp_path).generate_code(True, True)
    assert list(files(tmp_path).values()) == [b"int main;"]


WRONG = [
    ({"input_matrix": np.zeros((3, 6), np.float32)}, "the network takes .batch, 7."),
    ({"expected_output_matrix": np.zeros((2, 4), np.float32)}, "expected_output_matrix has shape .2, 4., .* .3, 4."),
    ({"expected_output_matrix": np.full((3, 4), np.nan)}, "expected_output_matrix holds NaN"),
    ({"expected_predictions": [1, 2]}, "expected_predictions has 2 entries, there are 3 inputs"),
    ({"true_label_values": [1, 2, 3, 4]}, "true_label_values has 4 entries"),
    ({"true_label_values": ["cat", "dog", "cow"]}, "true_label_values has to be a list of 3 integers"),
    ({"filename": "../main.cpp"}, "name a C.. file without folders"),
    ({"filename": "model.hpp"}, "name a C.. file"),
]


def test_what_makes_no_main_is_refused_and_changes_nothing(tmp_path):
    net = network()
    right = dict(
        zip(
            ("input_matrix", "expected_output_matrix", "expected_predictions", "true_label_values"),
            arguments(net),
            strict=True,
        )
    ) | {"filename": "main.cpp", "overwrite_existing_generated_files": True}
    with pytest.raises(HeepgenError, match="call generate_code first"):
        generator(tmp_path, net).generate_example_main(**right)
    generator(tmp_path, net).generate_code(False)
    before = files(tmp_path)
    for wrong, message in WRONG:
        with pytest.raises(HeepgenError, match=message):
            generator(tmp_path, net).generate_example_main(**right | wrong)
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "two words"])
def test_project_names_are_those_of_folders(name):
    with pytest.raises(HeepgenError, match="it names a folder"):
        CodeGenerator(name, network())
