# SPDX-License-Identifier: Apache-2.0
"""Programs that leave sizes open: a batch of 1 or of --batch, other sizes from --input-shape, never an expression."""

import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from firmware_gen import CodeGenerator
from firmware_gen.frontend.exported.dynamic import evaluate
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.exported.prepare import input_node
from firmware_gen.frontend.loader import load_model
from gen.flows.network.sw import load_program
from hls.errors import HeepgenError


class Sizes(nn.Module):
    """Computes with the sizes of its input."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        return y.mean((2, 3)).view(x.size(0), -1), y.reshape(x.shape[0], 3 * x.shape[2] * x.shape[3])


def saved(path, model, x, dims):
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=(dims,)), path)
    return path


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "dims, shape, batch, expected",
    [
        ({0: Dim("n")}, None, None, (1, 2, 4, 5)),
        ({0: Dim("n")}, None, 3, (3, 2, 4, 5)),
        ({0: Dim("n")}, (2, 4, 5), None, (1, 2, 4, 5)),
        ({0: Dim("n"), 2: Dim("h")}, (2, 6, 5), 2, (2, 2, 6, 5)),
        ({2: Dim("h"), 3: Dim("w")}, (1, 2, 7, 3), None, (1, 2, 7, 3)),
    ],
)
def test_open_sizes_are_filled_in(dims, shape, batch, expected, trust, tmp_path, caplog):
    torch.manual_seed(0)
    model = Sizes().eval()
    x = torch.randn(1 if 0 not in dims else 4, 2, 4, 5)
    path = saved(tmp_path / "m.pt2", model, x, dims)
    program, (sample,) = load_program(path, input_shape=shape, batch=batch, trust_pickle=trust)
    assert sample.shape == expected
    results = CodeGenerator(program, sample).reference().outputs
    for own, other in zip(results, model(torch.from_numpy(sample)), strict=True):
        np.testing.assert_allclose(own, other.detach().numpy(), atol=0.05)
    assert ("the batch is dynamic, 1 is compiled" in caplog.text) == (0 in dims and batch is None and shape is None)


@pytest.mark.parametrize(
    "dims, shape, batch, words",
    [
        ({2: Dim("h")}, None, None, r"\[1, 2, 'dynamic', 5\]: give --input-shape"),
        ({2: Dim("h")}, (2, 6, 4), None, "--input-shape .*was exported for"),
        ({2: Dim("h", max=8)}, (2, 9, 5), None, "for sizes from .* to 8 where 9"),
        ({}, None, 2, "--batch 2: .*exported for"),
        ({}, (3, 4, 5), None, "--input-shape .*exported for"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(dims, shape, batch, words, tmp_path):
    path = saved(tmp_path / "m.pt2", Sizes(), torch.randn(1, 2, 4, 5), dims)
    with pytest.raises(HeepgenError, match=words) as caught:
        load_program(path, input_shape=shape, batch=batch)
    assert "run code" not in str(caught.value)


def test_programs_in_memory():
    program = torch.export.export(Sizes(), (torch.randn(4, 2, 4, 5),), dynamic_shapes=({0: Dim("n")},))
    assert import_model(program).shape("x") == (1, 2, 4, 5)
    assert import_model(program, (3, 2, 4, 5)).shape("x") == (3, 2, 4, 5)
    with pytest.raises(HeepgenError, match="exported for"):
        import_model(program, (3, 2, 4, 6))


def test_expressions_are_arithmetic_only(tmp_path):
    symbol = "Symbol('s7', positive=True, integer=True)"
    assert evaluate(f"Add(Mul(Integer(2), {symbol}), Integer(-1))", {"s7": 5}) == 9
    assert evaluate(f"FloorDiv({symbol}, Integer(2))", {"s7": 5}) == 2
    for text in (
        "__import__('os').system('touch owned')",
        "Symbol('other')",
        "Mul(1, 2.5)",
        "(" * 5000,
        "Pow(9, 99)",
        "FloorDiv(1, 0)",
        "open('x')",
        "Mul(*[1])",
    ):
        with pytest.raises(ValueError):
            evaluate(text, {"s7": 5})
    path = saved(tmp_path / "m.pt2", Sizes(), torch.randn(4, 2, 4, 5), {0: Dim("n")})
    evil = tmp_path / "evil.pt2"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(evil, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename.endswith("models/model.json"):
                tree = json.loads(data)
                names = tree["graph_module"]["graph"]["sym_int_values"]
                next(iter(names.values()))["as_expr"]["expr_str"] = "__import__('os').mkdir('owned')"
                data = json.dumps(tree).encode()
            target.writestr(info.filename, data)
    with pytest.raises(HeepgenError, match="damaged"):
        load_model(evil)


def test_the_loaded_program_is_fixed(tmp_path):
    path = saved(tmp_path / "m.pt2", Sizes(), torch.randn(4, 2, 4, 5), {0: Dim("n")})
    assert tuple(input_node(load_model(path)).meta["val"].shape) == (1, 2, 4, 5)
