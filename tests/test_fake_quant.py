# SPDX-License-Identifier: Apache-2.0
"""The fake-quantised module as a user has it: any batch, names of the layers, training, the same weights compiled."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator, ir
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.models.fake_quant import GraphModule, layer_of, quantized_model
from firmware_gen.passes import run_passes
from gen.flows.network.application import Application
from hls.errors import HeepgenError
from tests.house import ROOT
from tests.random_networks import outputs, random_network


class Function(nn.Module):
    """What `function` makes of a convolution of the input."""

    def __init__(self, function, features=4):
        super().__init__()
        self.conv, self.fc, self.function = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(features, 5), function

    def forward(self, x):
        return self.function(self, self.conv(x))


SHAPED = {
    "flatten": Function(lambda m, y: m.fc(y.flatten(1)), 48),
    "view with the batch": Function(lambda m, y: m.fc(y.reshape(len(y), 3, 16).mean(2)), 3),
    "rows of every input": Function(lambda m, y: torch.relu(m.fc(y.mean((2, 3))).reshape(-1, 1)), 3),
    "rows and back": Function(lambda m, y: torch.relu(m.fc(y.mean((2, 3))).reshape(-1, 1)).reshape(len(y), 5), 3),
    "one number": Function(lambda m, y: torch.relu(m.fc(y.flatten(1))[:, :1].squeeze(1)), 48),
    "slices": Function(lambda m, y: m.fc(y[:, 1:, ::2, 1:3].flatten(1)), 8),
    "constants": Function(lambda m, y: m.fc((y * torch.tensor([1.0, 2, 4])[:, None, None] + 0.5).mean((2, 3))), 3),
    "several outputs": Function(lambda m, y: (y, m.fc(y.amax((2, 3)))), 3),
    "channels last": Function(lambda m, y: torch.softmax(y, 1).permute(0, 2, 3, 1)),
}


def on_grid(model):
    """Integer weights with 127 in every channel, which INT8 holds as they are, and biases that float32 sums keep."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.copy_((layer.weight * 300).clamp(-120, 120).round())
                layer.weight.reshape(len(layer.weight), -1)[:, 0] = 127
                if layer.bias is not None:
                    layer.bias.copy_((layer.bias * 64).round() / 64)
    return model.eval()


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("exported", [1, 5])
def test_any_batch_gives_what_the_model_does(name, exported):
    torch.manual_seed(0)
    model = on_grid(SHAPED[name])
    fake = CodeGenerator(model, torch.randn(exported, 2, 4, 4)).quantized_model()
    model = copy.deepcopy(model).double()
    for batch in (1, 3, 5, 7):
        x = torch.randn(batch, 2, 4, 4).double()
        taps = {}
        with torch.no_grad():
            for got, wanted in zip(outputs(fake(x, taps)), outputs(model(x)), strict=True):
                assert got.shape == wanted.shape
                torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
        assert all(len(tap) % batch == 0 for tap in taps.values())


def test_a_model_of_its_whole_batch_takes_multiples():
    model = nn.Sequential(nn.Linear(4, 4), nn.Flatten(0), nn.Linear(20, 20), nn.Unflatten(0, (5, 4)))
    fake = CodeGenerator(on_grid(model), torch.randn(5, 4)).quantized_model()
    x = torch.randn(10, 4)
    with torch.no_grad():
        torch.testing.assert_close(fake(x), torch.cat([model(x[:5]), model(x[5:])]), rtol=1e-5, atol=1e-2)
    for batch in (1, 4, 12):
        with pytest.raises(HeepgenError, match=r"its batch of 5"):
            fake(torch.zeros(batch, 4))


class Net(nn.Module):
    """Modules within modules, a BatchNorm that folds and one that does not, a transposed convolution, a residual."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.1))
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.body = nn.ModuleDict({"graph": nn.Conv2d(6, 6, 3, padding=1, groups=6), "layer": nn.Conv2d(6, 6, 1)})
        self.frozen = nn.Linear(6, 3)
        for norm in (self.stem[1], self.norm):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.running_mean)

    def forward(self, x):
        x = F.relu(self.up(self.stem(x)))
        x = self.norm(x) + x
        x = self.body["layer"](F.relu6(self.body["graph"](x))) + x
        return self.frozen(F.avg_pool2d(x, 3, 2, 1).mean((2, 3)))


LAYERS = ("stem.0", "up", "body.graph", "body.layer", "frozen")
"""The last one has another name in the module, which has a method of that name."""


def net(seed=0):
    torch.manual_seed(seed)
    return Net().eval(), torch.randn(16, 2, 4, 4)


def test_names_are_those_of_the_model():
    model, x = net()
    fake = CodeGenerator(model, x[:1]).quantized_model()
    modules, parameters, wanted = (
        dict(m) for m in (fake.named_modules(), fake.named_parameters(), model.named_parameters())
    )
    for name in LAYERS[:-1]:
        assert name in modules
        assert parameters[f"{name}.weight"].numel() == wanted[f"{name}.weight"].numel()
        assert parameters[f"{name}.bias"].shape == wanted[f"{name}.bias"].shape
    assert fake.state_dict().keys() == parameters.keys()
    assert torch.equal(parameters["frozen_.weight"], model.frozen.weight.double())
    seen = []
    fake.get_submodule("stem.0").register_forward_hook(lambda layer, inputs, out: seen.append(out.shape))
    fake(x)
    assert seen == [(16, 4, 4, 4)]


def weights(graph):
    return {n.name.rstrip("_"): (n.weight, n.scale, n.bias) for n in graph.nodes if isinstance(n, ir.Weighted)}


def assert_same_weights(got, wanted):
    got, wanted = weights(got), weights(wanted)
    assert got.keys() == wanted.keys() and got
    for name in got:
        for a, b in zip(got[name], wanted[name], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)


def train(module, x, y, steps=8):
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = F.cross_entropy(module(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("options", [{}, {"per_channel": False}, {"calibrate": "mse"}])
def test_what_was_trained_is_what_is_compiled(options, tmp_path):
    model, x = net()
    generator = CodeGenerator(model, x[:1], **options)
    fake = generator.quantized_model()
    assert_same_weights(fake.frozen().graph, generator.graph)
    losses = train(fake, x, torch.arange(16) % 3)
    assert losses[-1] < losses[0] - 0.05
    frozen = fake.frozen()
    assert all(
        (a[0] != b[0]).any()
        for a, b in zip(weights(frozen.graph).values(), weights(generator.graph).values(), strict=True)
    )
    with torch.no_grad():
        assert torch.equal(frozen(x), fake(x))
    torch.export.save(torch.export.export(frozen, (x[:1],)), tmp_path / "tuned.pt2")
    for again in (CodeGenerator(fake, x[:1]), CodeGenerator(load_model(tmp_path / "tuned.pt2"), x[:1])):
        assert_same_weights(again.graph, frozen.graph)
        with torch.no_grad():
            exact = frozen.double()(x[:1].double()).numpy()
        np.testing.assert_allclose(again.reference().output, exact, atol=1e-4 * np.abs(exact).max())


def test_gradients_are_those_at_the_rounded_weights():
    model, x = net(1)
    fake = CodeGenerator(model, x[:1]).quantized_model()
    plain = GraphModule(run_passes(import_model(model, x[:1])))
    for name in LAYERS:
        node = layer_of(fake, name).quantised_node()
        weight = torch.from_numpy(node.weight * node.scale.reshape(-1, *[1] * (node.weight.ndim - 1)))
        layer_of(plain, name).weight = weight.requires_grad_()
    for module in (fake, plain):
        F.cross_entropy(module(x), torch.arange(16) % 3).backward()
    for name in LAYERS:
        torch.testing.assert_close(layer_of(fake, name).weight.grad.float(), layer_of(plain, name).weight.grad)
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in fake.parameters())


def test_a_change_from_outside_counts():
    """Of a parameter's data too, which autograd does not notice."""
    fake = quantized_model(run_passes(import_model(nn.Linear(3, 2), (1, 3))))
    x = torch.randn(4, 3)
    with torch.no_grad():
        before = fake(x)
        layer_of(fake, fake.graph.nodes[0].name).weight.data.mul_(2)
        layer_of(fake, fake.graph.nodes[0].name).bias.data.mul_(2)
        torch.testing.assert_close(fake(x), 2 * before)


def test_copies_are_independent():
    model, x = net()
    fake = CodeGenerator(model, x[:1]).quantized_model()
    with torch.no_grad():
        expected = fake(x)
        for other in (copy.deepcopy(fake), pickle.loads(pickle.dumps(fake))):
            assert torch.equal(other(x), expected)
            for parameter in other.parameters():
                parameter.mul_(0.5)
            assert not torch.equal(other(x), expected) and torch.equal(fake(x), expected)
            other.load_state_dict(fake.state_dict())
            assert torch.equal(other(x), expected)


def test_what_cannot_be_trained_or_exported():
    model, x = net()
    fake = CodeGenerator(model, x[:1]).quantized_model()
    with pytest.raises(HeepgenError, match=r"frozen\(\)"):
        torch.export.export(fake, (x[:1],))
    with torch.no_grad():
        layer_of(fake, "up").weight[0, 0, 0, 0] = torch.nan
    for use in (lambda: fake(x), fake.frozen):
        with pytest.raises(HeepgenError, match="layer up: its weight holds NaN"):
            use()


def test_integers_of_the_model_stay_fixed():
    class Integers(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("codes", torch.randint(-100, 100, (3, 4), dtype=torch.int8))
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(F.linear(x, self.codes.float() * 0.25))

    model, x = Integers(), torch.randn(2, 4)
    fake = CodeGenerator(model, x).quantized_model()
    assert [name for name, _ in fake.named_parameters()] == ["last.weight", "last.bias"]
    train(fake, x, torch.tensor([0, 1]))
    np.testing.assert_array_equal(fake.frozen().graph.nodes[0].weight, model.codes)


def test_the_recipe_of_the_document(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe, export = re.findall(r"```python\n(.*?)```", (ROOT / "docs/training.md").read_text(), flags=re.S)
    torch.manual_seed(0)
    x = torch.randn(300, 1, 6, 6)
    data = torch.utils.data.TensorDataset(x, (x[:, 0, :3].mean((1, 2)) > x[:, 0, 3:].mean((1, 2))).long())
    loaders = {f"{name}_loader": torch.utils.data.DataLoader(data, 32) for name in ("train", "test")}
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    train(model, *data.tensors, steps=60)
    names = loaders | {"model": model.eval()}
    before = CodeGenerator(model, x[:1]).graph
    exec(recipe + export, names)
    assert (before.nodes[0].weight != names["module"].frozen().graph.nodes[0].weight).any()
    assert float(capsys.readouterr().out.partition("%")[0]) > 70
    for program in (load_model("tuned.pt2"), load_model(Application.open("build/tuned-app").generated / "model.pt2")):
        graph = CodeGenerator(program, names["example"]).graph
        assert_same_weights(graph, names["module"].frozen().graph)
        assert graph.nodes[0].name == "0"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda():
    model, x = net()
    fake = CodeGenerator(model, x[:1]).quantized_model().cuda()
    assert train(fake, x.cuda(), torch.arange(16).cuda() % 3)[-1] > 0
    assert_same_weights(CodeGenerator(fake, x[:1]).graph, fake.cpu().frozen().graph)


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40))])
def test_random_networks_compile_to_their_own_weights(seed):
    network = random_network(seed, "dag", max_depth=8, max_size=9)
    generator = CodeGenerator(network.model, network.x, per_channel=seed % 2 == 0)
    fake = generator.quantized_model()
    with torch.no_grad():
        for parameter in fake.parameters():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape))
        frozen = fake.frozen()
        for got, wanted in zip(outputs(frozen(network.x)), outputs(fake(network.x)), strict=True):
            assert torch.equal(got, wanted)
    again, own = weights(CodeGenerator(frozen, network.x).graph), weights(frozen.graph)
    for name, b in own.items():  # the ones that sum rows are no weights of the model's
        for one, other in zip(again[name], b, strict=True):
            np.testing.assert_array_equal(one, other)
