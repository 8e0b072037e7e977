# SPDX-License-Identifier: Apache-2.0
"""Operators that torch writes with others, and choices by constant masks, against PyTorch; from modules and from files,
which know the same operators."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.models.fake_quant import GraphModule
from hls.config import Config
from hls.errors import HeepgenError
from tests.imported import assert_imported_as_it_is
from tests.random_torch import Holder

RNG = np.random.default_rng(43)
W = torch.from_numpy(RNG.normal(size=(4, 4))).float()
ABOVE = torch.ones(4, 4).triu(1) > 0
NUMBERS = torch.tensor([[[1.1, 2.1, 0.3, 1e-3, 7.7]]])
ODD, MIXED = torch.tensor([1, 3]), torch.tensor([[[2, 0, 3, 1]]])


def written(x):
    """A copy that is written to at places of two dimensions, by a value, by a computed row, and added to."""
    y = x.clone()
    y[:, [0, 2], [1, -1]] = 2.5
    y[:, :, [0, 3]] = x[:, :, 1:3]
    y[:, [1, 2]] += x[:, :1]
    return y


def hidden(x):
    """A pooling of what a computed mask leaves, seen by its sums, and by whether there is any."""
    mask = (x.sum(-1) > 0).unsqueeze(-1)
    return (
        x.masked_fill(~mask, -9).amax(1) * mask.any(1) + mask.float().sum(1) + mask.all(1, keepdim=True).float()[:, 0]
    )


def image(x, **size):
    return F.interpolate(x[None], **size)[0]


class Behind(nn.Module):
    """A function behind a layer."""

    def __init__(self, function):
        super().__init__()
        self.function, self.layer = function, nn.Linear(4, 4)

    def forward(self, x):
        return self.function(self.layer(x))


FUNCTIONS = {
    "movedim": lambda x: x.movedim(1, 2),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "einsum": lambda x: torch.einsum("nij,jk->nik", x, W),
    "multiply, subtract, clip": lambda x: torch.multiply(torch.subtract(x, 1), x).clip(-1, 1),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "lerp": lambda x: torch.lerp(x, x.abs(), 0.3),
    "hstack, rot90": lambda x: torch.hstack([x, x]).rot90(1, (1, 2)),
    "diff": lambda x: x.diff(dim=-1),
    "as_strided, of rows": lambda x: x.as_strided((1, 2, 3, 3), (16, 2, 4, 1), 1),
    "as_strided, of columns": lambda x: x.mT.as_strided((1, 4, 4), (16, 4, 1)),
    "as_strided, of a part": lambda x: x[:, 1:].as_strided((1, 2, 4), (0, 8, 1)),
    "cosine_similarity": lambda x: F.cosine_similarity(x, W[None], dim=-1),
    "squares of rows": lambda x: torch.exp(-x * x),
    "expanded operands": lambda x: x[:, :1].expand(-1, 4, -1) * x[:, 1:2].expand(-1, 4, -1),
    "written by indices": written,
    "scatter": lambda x: x.scatter(2, MIXED.expand(1, 4, 4), x.exp()) + x.scatter(1, MIXED, 0.5),
    "scatter_add, index_add": lambda x: (
        x.scatter_add(1, torch.full((1, 3, 4), 2), x) + x.index_add(2, torch.tensor([3, 0, 3]), x[..., :3], alpha=0.5)
    ),
    "scatter_add, constants": lambda x: x.scatter_add(2, torch.tensor([[[1, 1, 3, 1, 3]]]), NUMBERS),
    "index_fill, index_copy": lambda x: x.index_fill(1, ODD, -1.0) + x.index_copy(2, ODD, x[:, :, :2]),
    "gather, take_along_dim": lambda x: (
        x.gather(2, MIXED.expand(1, 4, 4))[:, :2] + x.take_along_dim(ODD[None, :, None], 1)
    ),
    "cumsum, cumprod": lambda x: x.cumsum(1) + x.cumprod(-1) - x.cumsum(2).flip(2),
    "cummax, cummin": lambda x: x.cummax(1)[0] - x.cummin(2)[0],
    "prod": lambda x: x[:, :3].prod(1, keepdim=True) + x.prod(-1)[:, :, None],
    "diagonals": lambda x: x.diagonal(1, 1, 2) - x.diagonal(-1, 1, 2) + x[:, [0, 0, 1], [2, 3, 3]],
    "truth": hidden,
    "clamp, of tensors": lambda x: x.clamp(-W.abs(), x.abs() / 2),
    "bilinear": lambda x: F.bilinear(x, x.flip(1), torch.stack((W, W.T, W - 1))),
    "fold": lambda x: F.fold(F.unfold(x[None], 3, padding=1, stride=2), (4, 4), 3, padding=1, stride=2),
    "local_response_norm": lambda x: F.local_response_norm(x.exp(), 3, 0.5),
    "var_mean, std_mean": lambda x: sum(torch.var_mean(x, 1)) - sum(torch.std_mean(x, 1, correction=0)),
    "cdist, powers of a number": lambda x: torch.cdist(x, x[:, 1:] + 3) + 2.0 ** x[:, :, :3],
    "attention, computed masks": lambda x: (
        F.scaled_dot_product_attention(x, x, x, attn_mask=x > x.mT - 0.5)
        + F.scaled_dot_product_attention(x[None], x[None], x[None], attn_mask=x[:, :1])
    ),
    "counts": lambda x: (x > 0).sum(1) / x.size(1) + x.masked_fill(x < 0, 0).sum(1) / (x > 0).sum(1).clamp(min=1),
    "integers": lambda x: (
        ((x > 0).int().sum(1) * 2 - 3).float() + (x * 3).long() + torch.maximum((x > 0).int(), (x < -1).int())
    ),
    "statistics of all": lambda x: (x - x.mean()) / (x.std() + x.abs().max()) + torch.stack([x.min(), x.max()]).sum(),
    "a number": lambda x: x * torch.sigmoid(x.mean() * x.max() + torch.dot(x[0, 0], x[0, 1])),
    "whole numbers": lambda x: x.floor() + (3 * x).ceil() - (4 * x).trunc() + (x * 2).round() + x.round(decimals=1),
    "remainders": lambda x: x % 2.0 + torch.fmod(x, 0.5) + (3 * x) // 4.0 + torch.frac(x),
    "arcs": lambda x: torch.atan(5 * x) + torch.asin(torch.tanh(3 * x)) * torch.acos(x.clamp(-1, 1)),
    "angles": lambda x: torch.atan2(x[:, :2], x[:, 2:]) + torch.atan2(x[:, :1], torch.zeros(4)),
    "area functions": lambda x: torch.asinh(4 * x) + torch.acosh(1 + x.abs()) - torch.atanh(0.9 * torch.tanh(x)),
    "sin, cos, tan": lambda x: torch.sin(30 * x) + torch.cos(x) * torch.tan(x / 2),
    "bicubic": lambda x: (
        image(x, size=(5, 9), mode="bicubic") + image(x, scale_factor=2.3, mode="bicubic")[..., :5, :9]
    ),
    "antialias": lambda x: image(x, size=(3, 3), mode="bilinear", antialias=True),
    "bilinear by no INT8": lambda x: image(x, size=(29, 23), mode="bilinear"),
    "products of many matrices": lambda x: (
        x.reshape(1, 2, 1, 2, 2, 2) @ x.reshape(2, 2, 1, 2, 2)[:, :1]
        + torch.ones(2, 2, 2, 2) @ x.reshape(2, 2, 1, 2, 2)
    ),
    "logsumexp": lambda x: torch.logsumexp(x, (1, 2), keepdim=True),
    "weights by other operators": lambda x: F.linear(x, torch.linalg.inv(W) * torch.sinc(W) + torch.linalg.pinv(W)),
    "powers and logarithms": lambda x: torch.exp2(x) + torch.log2(x.abs() + 1) - 10 * torch.log10(x * x + 1e-3),
    "powers of elements": lambda x: (x.abs() + 0.5).pow(x) + (x.abs() + 1).pow(W) + (W.abs() + 1).pow(x),
    "sinh, cosh, erfc, ndtr": lambda x: torch.sinh(x) + torch.cosh(x) + torch.erfc(x) + torch.special.ndtr(x),
    "logaddexp, hypot, addbmm": lambda x: torch.logaddexp(x, W) + torch.hypot(x, W) + torch.addbmm(W, x, x, alpha=0.5),
    "xor": lambda x: ((x > 0) ^ (x < W) ^ (W > 0)).float(),
    "weights of nothing else": lambda x: x @ torch.linalg.cholesky(torch.eye(4) * 2 + 0.1),
    "similar to constants": lambda x: F.cosine_similarity(x[:, :, None], W[None, None] + 1e-16, dim=-1).softmax(1),
    "tril": lambda x: x.tril(),
    "masked_fill": lambda x: x.masked_fill(ABOVE, -3.0),
    "masked_fill, softmax": lambda x: x.masked_fill(ABOVE, float("-inf")).softmax(-1),
    "a mask of infinities, first": lambda x: (torch.zeros(4, 4).masked_fill(ABOVE, float("-inf")) + x).softmax(-1),
    "a mask of infinities": lambda x: (x + torch.zeros(4, 4).masked_fill(ABOVE, float("-inf"))).softmax(-1),
    "where, of one": lambda x: torch.where(ABOVE, W, x),
    "where, of both": lambda x: torch.where(ABOVE[0], x, x * x),
}


@pytest.mark.parametrize("saved", [False, True], ids=["module", "pt2"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name, saved, tmp_path):
    model, x = Behind(FUNCTIONS[name]).eval(), torch.from_numpy(RNG.normal(size=(1, 4, 4))).float()
    assert_imported_as_it_is(model, x, tmp_path if saved else None)


def test_angles_on_the_axes_and_arcs_at_their_ends():
    y, x = torch.meshgrid(*[torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0])] * 2, indexing="ij")
    model, points = Holder(lambda p: torch.atan2(p[:, 0], p[:, 1])), torch.stack([y.reshape(-1), x.reshape(-1)], 1)
    arcs, ends = Holder(lambda x: torch.cat([torch.asin(x), torch.acos(x)], 1)), torch.tensor([[-1.0, 0.0, 1.0]])
    for function, inputs in ((model, points), (arcs, ends)):
        found = CodeGenerator(function, inputs, config=Config(rows=2, cols=2)).reference().output
        np.testing.assert_allclose(found, function(inputs), rtol=0, atol=2.0**-13)


def test_pooling_of_what_lies_in_columns_after_run_decompositions():
    model, x = Behind(lambda x: F.adaptive_avg_pool1d(x.mT, 1)).eval(), torch.randn(1, 4, 4)
    program = torch.export.export(model, (x,)).run_decompositions()
    assert "as_strided" in str(program.graph)
    with torch.no_grad():
        torch.testing.assert_close(GraphModule(import_model(program, x))(x), model(x), rtol=1e-5, atol=1e-5)


class Seen(nn.Linear):
    """An attention whose queries see what is positive in their row of the input."""

    def forward(self, x):
        y = super().forward(x)
        return F.scaled_dot_product_attention(y, y, y, attn_mask=x > 0)


def test_a_query_that_sees_no_key_is_zero_as_in_pytorch():
    """Although the example has none."""
    x, hidden = torch.from_numpy(RNG.normal(size=(2, 1, 4, 4))).float()
    x[:, :, 0], hidden[:, :, 1], hidden[:, 2] = 1.0, 1.0, -1.0
    model = Seen(4, 4).eval()
    graph = GraphModule(import_model(torch.export.export(model, (x,)), x))
    with torch.no_grad():
        expected, found = model(hidden), graph(hidden)
    assert (expected[:, 2] == 0).all() and (expected[:, :2] != 0).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_memory_that_a_tensor_does_not_fill():
    model = Behind(lambda x: x[:, :2].as_strided((1, 3, 4), (16, 4, 1)))
    with pytest.raises(HeepgenError, match="it reads memory that its input does not fill; use slices and reshapes"):
        import_model(model.eval(), torch.zeros(1, 4, 4))


def test_a_mask_of_infinities_is_exact():
    model, x = Behind(FUNCTIONS["masked_fill, softmax"]).eval(), torch.from_numpy(RNG.normal(size=(1, 4, 4))).float()
    generator = CodeGenerator(model, x, config=Config(rows=2, cols=2))
    (found,) = generator.reference().outputs
    wanted = generator.quantized_model().double()(x.double()).detach().numpy()
    assert (found[0][ABOVE.numpy()] == 0).all()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2.0**-20)


class Attends(nn.Module):
    """Heads of one tensor, each as query, key and value."""

    def __init__(self, mask=None, causal=False):
        super().__init__()
        self.register_buffer("mask", mask)
        self.causal = causal

    def forward(self, x):
        heads = x.unflatten(-1, (2, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(heads, heads, heads, attn_mask=self.mask, is_causal=self.causal)
        return y.transpose(1, 2).flatten(2)


HIDES = torch.ones(5, 5, dtype=torch.bool).tril()
ATTENTIONS = {
    "plain": Attends,
    "causal": lambda: Attends(causal=True),
    "mask": lambda: Attends(HIDES),
    "infinite": lambda: Attends(torch.zeros(5, 5).masked_fill(~HIDES, -torch.inf)),
    "layer": lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_after_decompositions(name, tmp_path):
    torch.manual_seed(0)
    model, x = ATTENTIONS[name]().eval(), torch.randn(1, 5, 8)
    program = torch.export.export(model, (x,)).run_decompositions()
    assert any(node.target is torch.ops.aten.eq.Scalar for node in program.graph.nodes)
    torch.export.save(program, tmp_path / "net.pt2")
    with torch.no_grad():
        found, wanted = GraphModule(import_model(load_model(tmp_path / "net.pt2"), x))(x), model(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    CodeGenerator(load_model(tmp_path / "net.pt2"), x)  # compares with the program


def test_a_row_that_is_hidden_as_a_whole_is_refused():
    mask = HIDES.clone()
    mask[2] = False
    x = torch.randn(1, 5, 8)
    program = torch.export.export(Attends(mask), (x,)).run_decompositions()
    with pytest.raises(HeepgenError, match="must be finite"):
        CodeGenerator(program, x)


@pytest.mark.parametrize("shape", [(1, 6, 5, 4), (2, 6, 9), (3, 6)])
def test_slopes_of_every_channel_after_decompositions(shape):
    torch.manual_seed(1)
    prelu = nn.PReLU(6)
    prelu.weight.data = torch.randn(6)
    model, x = prelu.eval(), torch.randn(*shape)
    program = torch.export.export(model, (x,)).run_decompositions()
    assert any(node.target is torch.ops.aten.where.self for node in program.graph.nodes)
    generator = CodeGenerator(program, x)
    assert [node.op for node in generator.lowered.nodes if node.op == "PReLU"] == ["PReLU"]
    np.testing.assert_allclose(generator.reference().output, model(x).detach().numpy(), rtol=0, atol=1e-6)
