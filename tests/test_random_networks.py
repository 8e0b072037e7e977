# SPDX-License-Identifier: Apache-2.0
"""The generator's networks are legal, varied and sane; the IR computes what PyTorch does, before and after lowering."""

import copy

import pytest
import torch

from firmware_gen import ir
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes
from firmware_gen.passes.quantise import quantise
from tests.random_networks import outputs, random_network

COUNT = {"sequential": 10, "dag": 25}
CASES = [(kind, seed) for kind, count in COUNT.items() for seed in range(count)]


def close(got, expected):
    for a, b in zip(outputs(got), outputs(expected), strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b.float(), atol=2e-4 * max(1, b.abs().max().item()), rtol=0)


@pytest.mark.parametrize("kind, seed", CASES)
@torch.no_grad()
def test_graph_computes_what_the_module_does(kind, seed):
    network = random_network(seed, kind)
    expected = network.model(network.x)
    for out in outputs(expected):
        assert torch.isfinite(out).all() and out.abs().max() < 1e4
    imported = import_model(copy.deepcopy(network.model), network.x)
    close(GraphModule(imported)(network.x), expected)
    lowered = run_passes(imported)
    close(GraphModule(lowered)(network.x), expected)
    quantised = quantise(lowered)
    close(GraphModule(quantised)(network.x), GraphModule(quantised).double()(network.x.double()))
    noisy = outputs(GraphModule(quantised)(network.x))
    assert all(out.shape == ref.shape and torch.isfinite(out).all() for out, ref in zip(noisy, outputs(expected)))


def test_same_seed_same_network():
    a, b = random_network(5, "dag"), random_network(5, "dag")
    assert repr(a.model) == repr(b.model) and torch.equal(a.x, b.x)
    assert all(torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True))


@pytest.mark.slow
def test_every_operator_occurs():
    gone = {ir.BatchNorm, ir.Identity}
    elsewhere = {ir.Advance, ir.Append, ir.Apply, ir.Elementary, ir.Expand, ir.Interpolate, ir.MatMul, ir.Maximum}
    elsewhere |= {ir.Normalise, ir.PReLU, ir.PixelUnshuffle, ir.PlaneProduct, ir.Planes, ir.Product, ir.Slopes}
    classes = {c for c in vars(ir).values() if isinstance(c, type) and issubclass(c, ir.Node)}
    every = {c for c in classes if not any(other is not c and issubclass(other, c) for other in classes)} - gone
    orders = {"none", "before_act", "after_act"}
    kinds, residuals = set(), set()
    for seed in range(60):
        network = random_network(seed, "dag")
        for node in run_passes(import_model(network.model, network.x)).nodes:
            kinds.add(type(node))
            residuals.add(getattr(node, "residual", "none"))
        if kinds | elsewhere >= every and residuals == orders:
            return
    raise AssertionError(f"missing: {every - kinds - elsewhere}, {orders - residuals}")


@pytest.mark.parametrize("seed", range(5))
def test_network_survives_saving_as_an_archive(seed, tmp_path):
    network = random_network(seed, "dag")
    torch.export.save(torch.export.export(network.model, (network.x,)), tmp_path / "m.pt2")
    direct, saved = (run_passes(import_model(m, network.x)) for m in (network.model, load_model(tmp_path / "m.pt2")))
    assert [n.name for n in direct.nodes] == [n.name for n in saved.nodes]
    close(GraphModule(saved)(network.x), GraphModule(direct)(network.x))
