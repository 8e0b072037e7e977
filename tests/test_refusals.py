# SPDX-License-Identifier: Apache-2.0
"""What the import does not understand is refused by name; what it does understand in unusual forms is right."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.frontend import aten
from firmware_gen.frontend.exported.hints import HINTS, hint
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from hls.errors import HeepgenError
from tests.random_torch import Draw, Holder


def test_written_inputs_are_named():
    class Writes(nn.Module):
        def forward(self, x):
            x.add_(1)
            return x * 2

    with pytest.raises(HeepgenError, match="writes to its input x"):
        import_model(torch.export.export(Writes(), (torch.ones(1, 4),)))


def test_batch_norm_in_training_mode_is_refused():
    program = torch.export.export(nn.BatchNorm1d(4), (torch.ones(2, 4),))
    with pytest.raises(HeepgenError, match="training mode: call model.eval"):
        import_model(program)


def test_arguments_that_no_handler_reads_are_refused_by_name(monkeypatch):
    for name in ("conv2d", "avg_pool2d"):
        monkeypatch.setitem(aten.READS, name, frozenset(("self", "input", "weight", "bias", "kernel_size")))
    import_model(nn.Conv2d(1, 1, 1), (1, 1, 4, 4))
    with pytest.raises(HeepgenError, match=r"its argument dilation=\[2, 2\] is not supported, \[1, 1\] is"):
        import_model(nn.Conv2d(1, 1, 2, dilation=2), (1, 1, 4, 4))
    with pytest.raises(HeepgenError, match="its argument divisor_override=3 is not supported, None is"):
        import_model(Holder(lambda x: F.avg_pool2d(x, 2, [], divisor_override=3)), (1, 1, 4, 4))


def test_errors_of_handlers_name_the_layer(monkeypatch):
    def broken(imp, node, a):
        raise KeyError("weight")

    monkeypatch.setitem(aten.HANDLERS, "relu", broken)
    with pytest.raises(HeepgenError, match="^layer 0: relu: heepgen cannot import it as it is used here"):
        import_model(nn.Sequential(nn.ReLU()), (1, 4))


def check(model, x, module=None):
    """The bit-exact model against PyTorch in float64, of a program by the module that it was exported from."""
    expected = copy.deepcopy(module or model).double()(x.double()).detach().numpy()
    np.testing.assert_allclose(CodeGenerator(model, x).reference().output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (2, 4), (2, 1), (1, 1)])
def test_biases_of_every_shape(shape):
    draw = Draw(1)
    bias = draw.normal(1).expand(shape) if shape == (2, 1) else draw.normal(*shape)
    if shape == (2, 4):
        bias = draw.normal(4).expand(2, 4)
    check(Holder(F.linear, draw.grid(4, 5), bias), draw.normal(2, 5))
    check(
        Holder(lambda x, b, w: torch.addmm(b, x, w, beta=2, alpha=0.5), bias, draw.grid(5, 4, channels=1)),
        draw.normal(2, 5),
    )


COMPUTED = {
    "weight": lambda x, w: F.linear(x[:2], x[2:]),
    "weight, bias": lambda x, w: F.linear(x.view(1, 6, 5)[:, :2], x[2:], x[0, :4]),
    "weight, constant bias": lambda x, w: F.linear(x[:2], x[2:], w[0, :4]),
    "bias": lambda x, w: F.linear(x.view(2, 3, 5), w, x[1]),
    "weight of a vector": lambda x, w: F.linear(x[1], x[2:], x[0, :4]),
    "matrices of addmm": lambda x, w: torch.addmm(x[:2, :2], x[:2], x[2:4].T, beta=0.5, alpha=2),
    "matrices of addmm alone": lambda x, w: torch.addmm(w[:2, :2], x[:2], x[2:4].T, beta=0.5, alpha=2),
    "bias of addmm": lambda x, w: torch.addmm(x[:2], x[2:4], w.T, beta=-1),
    "addmv": lambda x, w: torch.addmv(x[:4, 0], x[:4], x[5], alpha=-1),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_weights_and_biases_that_are_computed(name):
    model, x = Holder(COMPUTED[name], Draw(5).grid(5, 5)), Draw(6).normal(6, 5)
    check(model, x)
    if name in ("weight, bias", "bias"):
        check(torch.export.export(model.eval(), (x,)).run_decompositions(), x, model)


def test_a_kernel_that_is_computed_is_refused():
    with pytest.raises(HeepgenError, match="its weight is computed by the model; write it with Tensor.unfold and"):
        import_model(Holder(lambda x: F.conv2d(x, x[:, :, :2, :2])), (1, 1, 4, 4))


def test_a_bias_that_differs_from_row_to_row_is_refused():
    draw = Draw(2)
    with pytest.raises(HeepgenError, match="differs from row to row"):
        import_model(Holder(F.linear, draw.grid(4, 5), draw.normal(2, 4)), draw.normal(2, 5))


@pytest.mark.parametrize("shape", [(2, 5), (3, 2, 5), (1, 2, 3, 5)])
def test_matrices_and_vectors(shape):
    draw = Draw(3)
    check(Holder(torch.matmul, draw.grid(1, 5)[0]), draw.normal(*shape))
    check(Holder(torch.matmul, draw.grid(5, 4, channels=1)), draw.normal(*shape))


def test_a_vector_between_matrices():
    draw = Draw(4)
    check(Holder(lambda x, w: w @ x, draw.grid(3, 5)), draw.normal(5))
    check(Holder(lambda x, w: x @ w, draw.grid(5, 3, channels=1)), draw.normal(5))
    with pytest.raises(HeepgenError, match="without dimensions"):
        import_model(Holder(torch.matmul, draw.grid(1, 5)[0]), draw.normal(5))


def test_hints_reach_files(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), Holder(lambda x: x.sort(1)[0])).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), tmp_path / "m.pt2")
    for load in (lambda: import_model(load_model(tmp_path / "m.pt2")), lambda: import_model(model, (1, 4))):
        with pytest.raises(HeepgenError) as caught:
            load()
        message = str(caught.value)
        assert HINTS["sort"] in message and "sort: " in message and len(message) < 200


def test_hints_of_variants():
    assert hint("sort_") == hint("native_sort") == HINTS["sort"] and hint("unheard") is None
