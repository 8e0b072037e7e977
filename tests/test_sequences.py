# SPDX-License-Identifier: Apache-2.0
"""Models of sequences against PyTorch. Their weights lie on the INT8 grid, so that what the accelerator computes may
differ by float32's rounding alone."""

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.architectures.registry import find
from hls.config import Config

SMALL = Config(rows=4, cols=4, activation_words=256)


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
    got = generator.target.run(generator.program(), x.numpy()).outputs
    for y, want in zip(got, [expected] if isinstance(expected, torch.Tensor) else expected, strict=True):
        assert y.shape == want.shape
        np.testing.assert_allclose(y, want, rtol=0, atol=tolerance * max(1, want.abs().max().item()))
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
