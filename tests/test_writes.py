# SPDX-License-Identifier: Apache-2.0
"""Models that write into parts of tensors, and of buffers: a join of parts, equal to PyTorch."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.frontend.exported.importer import import_program
from firmware_gen.frontend.exported.verify import check_program
from firmware_gen.frontend.loader import load_model
from firmware_gen.ir import Concat
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes
from hls.config import Config
from hls.errors import HeepgenError


class Model(nn.Module):
    def __init__(self, function, **buffers):
        super().__init__()
        self.a, self.c, self.function = nn.Linear(4, 4), nn.Conv2d(2, 2, 1), function
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x):
        return self.function(self, x)


def columns(m, x):
    y = m.a(x)
    y[:, 0] = 0
    y[:, 1:3] += x[:, :2]
    return y.clamp_(-1, 1)


def every_other(m, x):
    y = m.a(x)
    y[:, ::2] = x[:, 1::2] * 2
    y[:, -1:] *= torch.sigmoid(y[:, :1])
    return y


def frame(m, x):
    y = torch.zeros(1, 2, 6, 6)
    y[:, :, 1:5, 1:5] = m.c(x)
    y[:, 1] = y[:, 0] + 1
    return y


def rotated(m, x):
    y = torch.empty_like(x)
    y[:, 0::2] = x[:, 0::2] * 0.5 - x[:, 1::2]
    y[:, 1::2] = x[:, 1::2] * 0.3 + x[:, 0::2]
    return m.a(y)


def masked(m, x):
    y = m.a(x)
    y[y < 0] = 0.5
    return y


def beside_a_weight(m, x):
    """Written to is a constant here, made of one in float32, and elsewhere what such a one computes."""
    w = F.normalize(m.a.weight, dim=1).clone()
    w[0] = x[0]
    y = F.linear(x, F.normalize(m.a.weight, dim=1))
    y[:, 0] = 0
    return y @ w.t()


def log_sum(m, x):
    y = 30 * m.a(x)
    return y - torch.logsumexp(y, 1, keepdim=True) + torch.logsumexp(y, -1)


VECTOR, MAP = (1, 4), (1, 2, 4, 4)


def checked(model, x):
    found = import_program(torch.export.export(model, (x,)), x)
    graph = run_passes(found.graph)
    check_program(found.graph, graph, found, [x.numpy()])
    return graph


@pytest.mark.parametrize(
    "function, shape",
    [(f, VECTOR) for f in (columns, every_other, rotated, masked, beside_a_weight, log_sum)] + [(frame, MAP)],
)
def test_writing_into_parts(function, shape):
    torch.manual_seed(0)
    model, x = Model(function).eval(), torch.randn(shape)
    graph = checked(model, x)
    with torch.no_grad():
        torch.testing.assert_close(GraphModule(graph)(x), model(x), atol=1e-5, rtol=1e-5)


def test_what_was_written_over_is_not_computed():
    """Of the four constants of `rotated` none is left."""
    joins = [n for n in checked(Model(rotated).eval(), torch.randn(VECTOR)).nodes if isinstance(n, Concat)]
    assert len(joins) == 1 and len(joins[0].inputs) == 4


def ring(m, x):
    m.b[:, :-1] = m.b[:, 1:].clone()
    m.b[:, -1] = torch.tanh(m.a(x))
    m.n[0] = 0.5 * m.n[0] + m.b[0, 0]
    return m.b.mean(1) + m.n


def test_buffers_that_are_written_in_parts_are_states(tmp_path):
    torch.manual_seed(0)
    model = Model(ring, b=torch.randn(1, 3, 4), n=torch.zeros(1, 4)).eval()
    frames = torch.randn(4, 1, 4)
    torch.export.save(torch.export.export(model, (frames[0],)), tmp_path / "ring.pt2")
    generator = CodeGenerator(load_model(tmp_path / "ring.pt2"), frames[0], config=Config(rows=4, cols=4))
    assert [s.name for s in generator.graph.state] == ["b", "n"]
    for frame, result in zip(frames, generator.steps([(f.numpy(),) for f in frames]), strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(result.outputs[0], model(frame), rtol=0, atol=0.05)


def test_positions_that_are_numbers():
    def some(m, x):
        y = m.a(x)
        y[:, torch.tensor([0, 2])] = 0
        return y

    def computed(m, x):
        y = m.a(x)
        y[:, x.argmax(1)] = 0
        return y

    checked(Model(some).eval(), torch.randn(VECTOR))
    with pytest.raises(HeepgenError, match="layer argmax .*compute it from them outside"):
        checked(Model(computed).eval(), torch.randn(VECTOR))


def test_outputs_in_an_ordered_dictionary(tmp_path):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 3)

        def forward(self, x):
            return OrderedDict(out=self.a(x), aux=self.a(x).relu())

    model, x = Heads(), torch.randn(VECTOR)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    graph = run_passes(import_program(load_model(tmp_path / "m.pt2"), x).graph)
    with torch.no_grad():
        for got, wanted in zip(GraphModule(graph)(x), model(x).values(), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
