# SPDX-License-Identifier: Apache-2.0
"""Models of sequences against PyTorch. Their weights lie on the INT8 grid, so that what the accelerator computes may
differ by float32's rounding, and the tables of functions, alone."""

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.architectures.registry import find
from firmware_gen.models.fake_quant import quantized_model
from firmware_gen.passes.quantise import quantise_weight
from firmware_gen.targets.calls.calls import software_calls
from firmware_gen.targets.calls.model import run as run_calls
from firmware_gen.targets.descriptor.compiler import in_memory
from gen.flows.measure.run import run
from hls.config import Config

SMALL = Config(rows=4, cols=4, activation_words=256)
TABLES = 2.0**-13
"""Of an output: what the tables of functions, each within 2**-15, make of several steps."""


def on_grid(model: nn.Module, rng: np.random.Generator) -> nn.Module:
    """Matrices of integers of at most 127 over a power of two, 127 once in every row; vectors of any numbers."""
    for parameter in model.parameters():
        values = rng.normal(0, 0.5, parameter.shape)
        if parameter.ndim > 1:
            rows = rng.integers(-127, 128, parameter.shape).reshape(len(parameter), -1)
            rows[:, rng.integers(rows.shape[1])] = 127
            values = rows.reshape(parameter.shape) / 256
        parameter.data = torch.from_numpy(values.astype(np.float32))
    return model.eval()


def check(model: nn.Module, x: torch.Tensor, config=SMALL, tolerance=2e-5):
    """What the memory image of the compiled network computes is what PyTorch does in float64."""
    with torch.no_grad():
        expected = model.double()(x.double())
        model.float()
    generator = CodeGenerator(model, x, config=config)
    if any(str(node.act) in ("Sigmoid", "Tanh") for node in generator.checked.lowered.nodes if hasattr(node, "act")):
        tolerance += TABLES
    got = generator.target.run(generator.program(), x.numpy()).outputs
    for y, want in zip(got, [expected] if isinstance(expected, torch.Tensor) else expected, strict=True):
        assert y.shape == want.shape
        np.testing.assert_allclose(y, want, rtol=0, atol=tolerance * max(1, want.abs().max().item()))
    return generator


def check_quantised(model: nn.Module, x: torch.Tensor):
    """`check` where the passes change weights, which leave the grid: near PyTorch, and equal once they are rounded."""
    generator = CodeGenerator(model, x, config=SMALL)
    got = generator.target.run(generator.program(), x.numpy()).output
    with torch.no_grad():
        exact, rounded = model(x), quantized_model(generator.lowered)(x)
    assert (exact - rounded).abs().max() < 0.02 * exact.abs().max()
    np.testing.assert_allclose(got, rounded, rtol=0, atol=1e-5 * exact.abs().max())
    return generator


class Part(nn.Module):
    """A function of what a module returns."""

    def __init__(self, module: nn.Module, function=lambda y: y, *states):
        super().__init__()
        self.module, self.function = module, function
        self.states = [f"state{i}" for i in range(len(states))]
        for name, state in zip(self.states, states, strict=True):
            self.register_buffer(name, state)

    def forward(self, x):
        states = [getattr(self, name) for name in self.states]
        given = [tuple(states) if len(states) > 1 else states[0]] if states else []
        return self.function(self.module(x, *given))


RESULTS = {
    "sequence": lambda y: y[0],
    "last step": lambda y: y[0][:, -1],
    "first axis": lambda y: y[0][-1],
    "final": lambda y: y[1][0] if isinstance(y[1], tuple) else y[1],
    "all": lambda y: (y[0], *y[1]) if isinstance(y[1], tuple) else (y[0], y[1]),
}


@pytest.mark.parametrize("seed", range(10))
def test_recurrent_layers_are_those_of_pytorch(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    kind = (nn.GRU, nn.LSTM, nn.RNN)[seed % 3]
    batched, batch_first = rng.random() < 0.8, rng.random() < 0.6
    batch, steps, inputs, size = ((1, 2)[rng.integers(2)] if batched else 1, *rng.integers((1, 1, 2), (6, 7, 7)))
    layers, bidirectional = int(rng.integers(1, 3)), bool(rng.random() < 0.4)
    fields = {"nonlinearity": ("tanh", "relu")[rng.integers(2)]} if kind is nn.RNN else {}
    layer = kind(
        int(inputs), int(size), layers, bias=rng.random() < 0.8, batch_first=batch_first, bidirectional=bidirectional,
        **fields,
    )  # fmt: skip
    states = []
    if rng.random() < 0.4:  # constant, the same for the whole batch
        count = layers * (2 if bidirectional else 1)
        whole = torch.randn(count, 1, int(size))
        shape = (count, batch, int(size)) if batched else (count, int(size))
        states = [whole.expand(count, batch, -1).reshape(shape).contiguous()] * (2 if kind is nn.LSTM else 1)
    shape = (steps, inputs) if not batched else (batch, steps, inputs) if batch_first else (steps, batch, inputs)
    result = list(RESULTS)[rng.integers(len(RESULTS))]
    model = on_grid(Part(layer, RESULTS[result], *states), rng)
    check(model, torch.randn(*(int(n) for n in shape)))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("fields", [{}, {"num_layers": 2, "bidirectional": True, "bias": False, "batch_first": True}])
def test_projected_states_are_those_of_pytorch(fields, batch):
    rng = np.random.default_rng(9)
    layer = nn.LSTM(3, 5, proj_size=2, **fields)
    check(on_grid(Part(layer, RESULTS["all"]), rng), torch.randn(*((batch, 4) if fields else (4, batch)), 3))


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_cells_are_those_of_pytorch(kind):
    rng = np.random.default_rng(3)
    model = Part(on_grid(kind(5, 3), rng), lambda y: y if isinstance(y, torch.Tensor) else torch.cat(y, 1))
    check(model, torch.randn(2, 5))


def test_a_state_that_is_computed():
    """A decoder that begins with what an encoder ends with."""

    class Coder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.GRU(3, 4, batch_first=True), nn.GRU(3, 4, batch_first=True)

        def forward(self, x):
            return self.decoder(x, self.encoder(x)[1])[0]

    for batch in (1, 2):
        check(on_grid(Coder(), np.random.default_rng(4)), torch.randn(batch, 3, 3))


@pytest.mark.parametrize("architecture", ["descriptor", "cpu"])
def test_weights_of_all_steps_are_one_constant(architecture):
    sizes = []
    for steps in (2, 6):
        model = on_grid(Part(nn.GRU(4, 8, batch_first=True), RESULTS["last step"]), np.random.default_rng(5))
        config = SMALL if architecture == "descriptor" else find(architecture).config()
        program = check(model, torch.randn(1, steps, 4), config).program()
        weights = [array for name, array in program.constants.items() if "weights" in name]
        sizes.append(sum(array.nbytes for array in weights))
    assert sizes[0] == sizes[1]


class Attention(nn.Module):
    """Heads by views and permutes, as written by hand."""

    def __init__(self, features: int, heads: int, masked: bool):
        super().__init__()
        self.heads, self.masked = heads, masked
        self.query, self.both = nn.Linear(features, features), nn.Linear(features, 2 * features)
        self.out = nn.Linear(features, features)

    def forward(self, x):
        batch, steps, features = x.shape
        query = self.query(x).view(batch, steps, self.heads, -1).transpose(1, 2)
        both = self.both(x).view(batch, steps, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        key, value = both[0], both[1]
        scores = query @ key.transpose(-2, -1) / 3
        if self.masked:
            scores = scores + torch.full((steps, steps), -1e30).triu(1)
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, steps, features))


class Own(nn.Module):
    def __init__(self, features: int, heads: int, **fields):
        super().__init__()
        self.attention = nn.MultiheadAttention(features, heads, **fields)
        self.weights = bool(fields.get("bias"))

    def forward(self, x):
        return self.attention(x, x, x, need_weights=self.weights)[0]


class Causal(nn.Module):
    def __init__(self, features: int, heads: int):
        super().__init__()
        self.inner, self.heads = nn.Linear(features, features), heads

    def forward(self, x):
        heads = self.inner(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return (
            nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2).flatten(2)
        )


def test_heads_of_queries_that_share_keys():
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.rest = nn.Linear(6, 12), nn.Linear(6, 6)

        def forward(self, x):
            query, rest = (y.unflatten(-1, (-1, 3)).transpose(1, 2) for y in (self.query(x), self.rest(x)))
            mixed = nn.functional.scaled_dot_product_attention(query, rest, rest, is_causal=True, enable_gqa=True)
            return mixed.transpose(1, 2).flatten(2)

    check(on_grid(Grouped(), np.random.default_rng(6)), torch.randn(1, 5, 6))


@pytest.mark.parametrize("seed", range(8))
def test_attention_is_that_of_pytorch(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    heads, batch, steps = (int(n) for n in rng.integers((1, 1, 2), (4, 3, 8)))
    features = heads * int(rng.integers(1, 5))
    first = bool(rng.random() < 0.5)
    layers = [
        lambda: Attention(features, heads, first),
        lambda: Own(features, heads, bias=first, batch_first=True),
        lambda: Own(features, heads, batch_first=first),
        lambda: Causal(features, heads),
    ]
    generator = check(on_grid(layers[seed % 4](), rng), torch.randn(batch, steps, features))
    if batch == 1 and seed % 4 < 3:  # heads are read and written where they lie
        assert not any(node.op in ("AsStrided", "Scale") for node in generator.checked.lowered.nodes)


@pytest.mark.parametrize("seed", range(4))
def test_products_read_slices_where_they_lie(seed):
    """Query, key and value of one Linear, by chunk, split or slices, with a factor."""
    rng = np.random.default_rng(seed)
    heads, width, steps = (int(n) for n in rng.integers((1, 2, 3), (4, 6, 9)))
    features = heads * width

    class Chunked(nn.Module):
        def __init__(self):
            super().__init__()
            self.project, self.out = nn.Linear(5, 3 * features), nn.Linear(features, 3)

        def forward(self, x):
            y = self.project(x)
            parts = (
                y.chunk(3, -1),
                y.split(features, -1),
                [y[..., i * features : (i + 1) * features] for i in range(3)],
                (y[..., 0::3], y[..., 1::3], y[..., 2::3]),
            )[seed]
            query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
            mixed = ((query * 0.5) @ key.transpose(-1, -2)).softmax(-1) @ value
            return self.out(mixed.transpose(1, 2).flatten(2))

    generator = check(on_grid(Chunked(), rng), torch.randn(1, steps, 5))
    assert not any(node.op in ("Slice", "AsStrided", "Scale") for node in generator.checked.lowered.nodes)


@pytest.mark.parametrize("seed", range(6))
def test_norms_are_those_of_pytorch(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    convolution, vectors = nn.Conv2d(3, 6, 2), nn.Linear(5, 6)
    model, shape = [
        ([vectors, nn.LayerNorm(6), nn.Linear(6, 4)], (2, 3, 5)),
        ([nn.RMSNorm(5, eps=1e-3), vectors, nn.RMSNorm((3, 6))], (2, 3, 5)),
        ([convolution, nn.GroupNorm(3, 6), nn.ReLU(), nn.Conv2d(6, 2, 1)], (2, 3, 4, 5)),
        ([convolution, nn.InstanceNorm2d(6, affine=True), nn.ReLU()], (2, 3, 4, 5)),
        ([nn.GroupNorm(1, 5), nn.Conv1d(5, 4, 2), nn.InstanceNorm1d(4)], (1, 5, 6)),
        ([convolution, nn.LayerNorm((6, 3, 4)), nn.Flatten(), nn.Linear(72, 3)], (1, 3, 4, 5)),
    ][seed]  # fmt: skip
    check_quantised(on_grid(nn.Sequential(*model), rng), torch.randn(*shape))


def test_an_encoder_is_that_of_pytorch():
    """With position embeddings, the norm first, whose factors are in the weights behind it."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.place = nn.Linear(3, 8), nn.Parameter(torch.zeros(1, 5, 8))
            layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
            self.encoder, self.head = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(8, 4)

        def forward(self, x):
            return self.head(self.encoder(self.embed(x) + self.place)[:, 0])

    model, x = Encoder().eval(), torch.randn(1, 5, 3)
    generator = check_quantised(model, x)
    lowered = generator.checked.lowered
    moved = [lowered.out_shape(node) for node in lowered.nodes if node.op in {"Scale", "AsStrided"}]
    assert moved == [(1, 8)], "of the residual the one row that is read, where it lies"
    added = [node.name for node in lowered.nodes if getattr(node, "residual", "none") != "none"]
    assert len(added) == 2, "both sums of a layer are in the Linear before them"


def test_what_an_operand_in_int8_would_lose():
    """Of an attention's output, of normal numbers: the 40 dB of docs/numerics.md, and what INT8 weights alone leave."""
    rng = np.random.default_rng(0)
    steps, features = 65, 16

    def rounded(matrix: np.ndarray) -> np.ndarray:
        codes, scale = quantise_weight(matrix)
        return codes * scale[:, None].astype(np.float64)

    def ratio(exact: np.ndarray, got: np.ndarray) -> float:
        return float(10 * np.log10((exact**2).mean() / ((got - exact) ** 2).mean()))

    losses, weights = [], []
    for _ in range(20):
        query, key, value = rng.normal(0, 1.5, (3, steps, features))

        def attention(key: np.ndarray, value: np.ndarray, query: np.ndarray = query) -> np.ndarray:
            scores = np.exp(query @ key.T / 4)
            return scores / scores.sum(1, keepdims=True) @ value

        losses.append(ratio(attention(key, value), attention(rounded(key), rounded(value.T).T)))
        weight = rng.normal(0, 1, (features, features))
        weights.append(ratio(query @ weight.T, query @ rounded(weight).T))
    assert 39 < np.mean(losses) < 42 and 44 < np.mean(weights) < 49


NETWORKS = {
    "gru": (lambda: Part(nn.GRU(5, 6, batch_first=True), RESULTS["sequence"]), (2, 4, 5)),
    "lstm": (lambda: Part(nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True), RESULTS["last step"]), (1, 3, 5)),
    "attention": (lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), Attention(8, 2, True)), (1, 6, 5)),
    "groups": (lambda: nn.Sequential(nn.Conv2d(3, 6, 2), nn.GroupNorm(2, 6), nn.Conv2d(6, 4, 2)), (2, 3, 5, 6)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_memory_may_be_shared_and_the_cpu_alone_computes_the_same(name):
    torch.manual_seed(1)
    build, shape = NETWORKS[name]
    model, x = on_grid(build(), np.random.default_rng(9)), torch.randn(*shape)
    generator = CodeGenerator(model, x, config=SMALL)
    got = generator.reference().outputs
    alone = CodeGenerator(generator.checked, config=SMALL, keep_activations=True).reference().outputs
    assert all(np.array_equal(a.view(np.uint32), b.view(np.uint32)) for a, b in zip(got, alone, strict=True))
    software = run_calls(software_calls(in_memory(generator.program())), x.numpy()).outputs
    for a, b in zip(got, software, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * max(1, np.abs(b).max()))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["descriptor", "cpu"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_hardware_gives_the_models_bits(name, architecture, tmp_path):
    torch.manual_seed(2)
    build, shape = NETWORKS[name]
    model, x = build().eval(), torch.randn(*shape)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "net.pt2")
    config = Config(4, 4, ports=2) if architecture == "descriptor" else find(architecture).config()
    assert run(tmp_path / "net.pt2", config).bit_exact
