# SPDX-License-Identifier: Apache-2.0
"""Every node is placed and the reason names what matters; printing needs no torch."""

import subprocess
import sys

import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.passes import run_passes
from firmware_gen.targets.descriptor.explain import explain
from tests.random_networks import random_network


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(16 * 36, 5)

    def forward(self, x):
        x = self.stem(F.relu(x))
        y = F.relu(self.deep(x) + x)
        z = F.pad(F.relu(self.norm(y)), (0, 1, 0, 1), value=1.0)
        z = F.max_pool2d(z, 2, 1) + F.sigmoid(y)
        x = torch.cat([z + z, x], 1)
        return F.softmax(self.head(x.flatten(1)), dim=1)


def rows():
    return {p.name: p for p in explain(run_passes(import_model(Net(), (1, 3, 6, 6))))}


def test_places_and_reasons():
    found = rows()
    where = {name: p.where for name, p in found.items()}
    assert where == {
        "relu_0": "array", "stem": "array", "deep": "array", "norm": "array", "pad_0": "array", "max_pool2d_0": "array",
        "sigmoid_0": "array", "add_2": "array", "cat_0": "memory", "view_0": "memory", "head": "array",
        "softmax_0": "CPU",
    }  # fmt: skip
    words = {
        "relu_0": "reads the input", "deep": "one channel per column; adds stem before ReLU; ReLU on the way out",
        "norm": "scale and bias; ReLU", "pad_0": "pad with 1", "add_2": "both operands are the same",
        "max_pool2d_0": "maximum; adds sigmoid_0", "view_0": "weights are reordered", "softmax_0": "exponential",
        "sigmoid_0": "the output of deep is also used without it",
    }  # fmt: skip
    for name, word in words.items():
        assert word in found[name].why, (name, found[name].why)
    assert found["stem"].macs == 36 * 27 * 8 and found["relu_0"].macs == 0 and found["head"].shape == (1, 5)


def test_every_node_of_random_networks_is_explained():
    for seed in range(10):
        network = random_network(seed, "dag")
        graph = run_passes(import_model(network.model, network.x))
        placed = explain(graph)
        assert [p.name for p in placed] == [n.name for n in graph.nodes]
        assert all(p.where in ("array", "CPU", "memory") and "no form" not in p.why for p in placed)


def test_merged_layers_have_rows_behind_the_layer_that_does_their_work():
    model = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.Dropout(),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Flatten(),
        nn.Linear(36, 3),
    ).eval()
    imported = import_model(model, (1, 3, 6, 6))
    found = [(p.name, p.where, p.why) for p in explain(run_passes(imported), imported)]
    merged = {name: why for name, where, why in found if where == "merged"}
    assert merged == {
        "0": "in the weights and the bias of 1",
        "2": "1 applies it on the way out",
        "3": "nothing to do in inference",
        "5": "in the weights and the bias of 8",
    }
    names = [name for name, _, _ in found]
    assert names.index("1") < names.index("0") < names.index("4") < names.index("8") < names.index("5")


def test_a_factor_before_what_takes_none_is_in_the_layer_before_it():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 5)

        def forward(self, x):
            return F.softmax(3 * self.layer(x), dim=1)

    imported = import_model(Scaled().eval(), (4, 6))
    merged = {p.name: p.why for p in explain(run_passes(imported), imported) if p.where == "merged"}
    assert merged == {"mul_0": "in the weights and the bias of layer"}


def test_a_norm_between_convolutions_is_in_the_one_before_it():
    """Which the passes prefer, also across what repeats pixels."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)).eval()
    imported = import_model(model, (1, 3, 8, 8))
    passed = run_passes(imported)
    changed = {n.name for n in passed.nodes if hasattr(n, "bias") and (n.bias != imported.node(n.name).bias).any()}
    merged = {p.name: p.why for p in explain(passed, imported) if p.where == "merged"}
    assert merged == {"2": "in the weights and the bias of 0"} and changed == {"0"}


def test_every_imported_node_has_one_row():
    for seed in range(30):
        network = random_network(seed, "dag")
        imported = import_model(network.model, network.x)
        graph = run_passes(imported)
        placed = explain(graph, imported)
        names = [p.name for p in placed]
        assert len(names) == len(set(names))
        assert {n.name for n in imported.nodes} <= set(names)
        for p in placed:
            if p.where == "merged":
                assert p.why, p
                assert p.name not in {n.name for n in graph.nodes}


def test_needs_no_torch():
    code = "import sys, firmware_gen.targets.descriptor.explain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
