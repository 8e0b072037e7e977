# SPDX-License-Identifier: Apache-2.0
"""Comparisons, and what they choose, against PyTorch: at their bounds, and far from them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator

TINY = float(np.finfo(np.float32).tiny)
AROUND = [
    0.0,
    -0.0,
    TINY,
    -TINY,
    2.0**-70,
    -(2.0**-70),
    0.5,
    np.nextafter(np.float32(0.5), 1),
    3e38,
    -3e38,
    np.inf,
    -np.inf,
]
FORMS = {
    "sign": torch.sign,
    "gt": lambda x: (x > 0).float(),
    "ge": lambda x: (x >= 0).float(),
    "lt": lambda x: (x < 0.5).float(),
    "le": lambda x: (x <= 0.5).float(),
    "eq": lambda x: (x == 0.5).float(),
    "ne": lambda x: (x != 0).float(),
    "largest": lambda x: (x == x.clamp(-1, 1).amax(1, keepdim=True)).float(),
    "far": lambda x: (x > 1e38).float(),
    "computed": lambda x: (x > x.flip(1).clamp(-1, 1)).float(),
    "constants": lambda x: (torch.linspace(-1, 1, x.shape[1]) >= x).float(),
    "between": lambda x: ((x >= 0) & ~(x > 0.5)).float(),
    "either": lambda x: ((x < 0) | (x > 0.5)).float(),
}


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("name", FORMS)
def test_every_bit_at_the_bounds(name):
    x = torch.tensor([AROUND], dtype=torch.float32)
    result = CodeGenerator(Call(FORMS[name]), x).reference(x.numpy()).output
    np.testing.assert_array_equal(result, FORMS[name](x).numpy())


def test_choices_of_layers():
    torch.manual_seed(1)

    class Choices(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)

        def forward(self, x):
            y = self.conv(x)
            hard = F.hardshrink(y, 0.3) + F.threshold(y, 0.2, -3.0)
            return torch.where(y[:, :1] > y.mean((1, 2, 3), keepdim=True), hard, y.masked_fill(y <= -0.1, 2.0))

    x = torch.randn(2, 2, 6, 5)
    generator = CodeGenerator(Choices().eval(), x)
    with torch.no_grad():
        expected = generator.quantized_model()(x).numpy()
    np.testing.assert_allclose(generator.reference(x.numpy()).output, expected, atol=1e-5)
