# SPDX-License-Identifier: Apache-2.0
"""torch.einsum, written as products of matrices, against torch.einsum."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from firmware_gen import ir
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes


class Einsum(nn.Module):
    """Of the input where there is no shape, else of a constant of that shape."""

    def __init__(self, equation, *shapes):
        super().__init__()
        self.equation, self.count = equation, len(shapes)
        for number, shape in enumerate(shapes):
            self.register_buffer(f"part{number}", shape and torch.randn(shape))

    def forward(self, x):
        parts = [getattr(self, f"part{number}") for number in range(self.count)]
        return torch.einsum(self.equation, *(x if part is None else part for part in parts))


CASES = {
    "heads of a projection": ("btc,chd->bthd", (1, 5, 8), None, (8, 2, 3)),
    "scores": ("bhqd,bhkd->bhqk", (1, 2, 5, 4), None, None),
    "scores of heads side by side": ("bqhd,bkhd->bhqk", (1, 5, 2, 4), None, None),
    "graph of joints": ("nctv,vw->nctw", (1, 3, 6, 5), None, (5, 5)),
    "several graphs": ("nkctv,kvw->nctw", (1, 2, 3, 4, 5), None, (2, 5, 5)),
    "three": ("bij,bjk,bkl->bil", (1, 3, 3), None, None, None),
    "moved": ("bij->bji", (1, 3, 4), None),
    "sums": ("bijk->bj", (2, 3, 4, 2), None),
    "sums before the product": ("bik,bjk->bj", (1, 3, 4), None, None),
    "energies": ("bchw,bchw->bc", (1, 3, 4, 4), None, None),
    "per element": ("bij,ij->bij", (1, 3, 4), None, (3, 4)),
    "outer": ("bi,bj->bij", (2, 3), None, None),
    "the constant first": ("oi,bit->bot", (1, 4, 6), (5, 4), None),
    "ellipsis": ("...i,oi->...o", (2, 3, 4), None, (5, 4)),
    "ellipses of two": ("...ij,...jk", (1, 2, 3, 3), None, None),
    "diagonal": ("bii->bi", (2, 3, 3), None),
    "trace": ("bii->b", (2, 3, 3), None),
    "diagonal of a product": ("bijj,ik->jkb", (1, 2, 3, 3), None, (2, 4)),
    "diagonal of three": ("iii->i", (3, 3, 3), None),
    "sorted by itself": ("ca,ab", (2, 4), None, (4, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_that_of_pytorch(name):
    torch.manual_seed(5)
    equation, shape, *parts = CASES[name]
    model, x = Einsum(equation, *parts), torch.randn(shape)
    graph = run_passes(import_model(model, x))
    got, want = GraphModule(graph)(x), model(x)
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, atol=2e-6, rtol=2e-6)
    if name in ("heads of a projection", "graph of joints"):
        assert any(isinstance(node, ir.Linear) for node in graph.nodes)


@pytest.mark.parametrize("name", ["heads of a projection", "scores", "ellipsis"])
def test_it_is_that_of_onnx(name, tmp_path):
    rng = np.random.default_rng(6)
    equation, shape, *parts = CASES[name]
    constants = [None if p is None else rng.normal(size=p).astype(np.float32) for p in parts]
    names = ["x" if c is None else f"c{number}" for number, c in enumerate(constants)]
    graph = helper.make_graph(
        [helper.make_node("Einsum", names, ["y"], equation=equation)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True) if c is not None],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(proto, tmp_path / "m.onnx")
    x = rng.normal(size=shape).astype(np.float32)
    (want,) = ReferenceEvaluator(proto).run(None, {"x": x})
    got = GraphModule(run_passes(import_model(load_model(tmp_path / "m.onnx"))))(torch.from_numpy(x))
    np.testing.assert_allclose(got.numpy(), want, atol=2e-5)
