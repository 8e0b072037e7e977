# SPDX-License-Identifier: Apache-2.0
"""Operators of sequence models that only the CPU has: products of computed matrices, and normalisation by statistics of
the input itself, which `passes.statistics` gives to the array where there are many rows. Both read PyTorch's
order.

Products of two computed matrices, as softmax(Q K^T) V is made of, are FP32 on the CPU. The array multiplies by INT8
weights, so that one of the matrices would have to be rounded, row by row, in every inference:

    signal to noise of an attention's output, 65 steps, heads of 16        40 dB, and 46 dB of INT8 weights alone
    CPU cycles of a multiply-accumulate in FP32                            2.3
    CPU cycles of an element of the softmax between the two products        51

For T steps and heads of d features, the products take 4.6 T d cycles per row of scores, the softmax 51 T on the CPU
and some 5 T on the array. Exact products are what a model gets. Signal to noise is held by tests/test_sequences.py;
cycles are those of heepgen run for the vision transformer of examples/modern, 17 steps of 48 features with three heads,
whose norms take 18 per element on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firmware_gen.ir.cpu import OnCpu
from firmware_gen.ir.movement import strided
from firmware_gen.ir.operator import Layout
from firmware_gen.ir.values import Shape

if TYPE_CHECKING:
    from torch import Tensor

Steps = tuple[int, int, int, int]
"""From one matrix to the next, outer and inner, from row to row and from column to column."""


@dataclass(frozen=True)
class Matrices:
    """Outer times inner matrices among the `size` elements of a tensor: where the first begins, and steps in elements.
    A step of 0 is a matrix, row or column that serves all."""

    size: int
    steps: Steps
    offset: int = 0

    def elements(self, sizes: Steps) -> np.ndarray:
        """Element of the tensor of every one of these matrices: (outer, inner, rows, columns)."""
        return strided(sizes, self.steps, self.offset)


@dataclass(frozen=True, eq=False, kw_only=True)
class MatMul(OnCpu):
    """Products of matrices that are both computed: y = scale * a @ b, for outer * inner of them.

    sizes: outer, inner, rows of a, columns of a, columns of b. The operands, and the output, may lie among other
    elements in any order: heads of an attention are read, and written, where they are.
    matmul(a, a_steps, b, b_steps, out, out_steps, counts, scale)."""

    why = "a product of computed matrices, exact in FP32: the array multiplies by INT8 weights, which none of them is"
    kernel = "matmul"
    in_place = False

    sizes: tuple[int, int, int, int, int]
    a: Matrices
    b: Matrices
    out: Matrices
    scale: float = 1.0

    @property
    def reads_in_order(self) -> bool:
        return True

    @property
    def combined_inputs(self) -> tuple[str, ...]:
        return ()

    def layout(self, shape: Shape) -> Layout:
        return Layout.PYTORCH

    def macs(self, in_shape: Shape, out_shape: Shape) -> int:
        return math.prod(self.sizes)

    @property
    def shapes(self) -> tuple[Steps, Steps, Steps]:
        """Of the matrices a, b and y."""
        outer, inner, rows, depth, columns = self.sizes
        return (outer, inner, rows, depth), (outer, inner, depth, columns), (outer, inner, rows, columns)

    def evaluate(self, *inputs: Tensor) -> Tensor:
        """Of several batches of the graph's: (copies, elements of the output)."""
        import torch

        a, b = (
            x.reshape(-1, own.size)[:, torch.from_numpy(own.elements(shape)).to(x.device)]
            for x, own, shape in zip(inputs, (self.a, self.b), self.shapes, strict=False)
        )
        product = a @ b * self.scale
        y = product.new_empty(len(product), self.out.size)
        y[:, torch.from_numpy(self.out.elements(self.shapes[2]).reshape(-1)).to(y.device)] = product.flatten(1)
        return y


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalise(OnCpu):
    """y = (x - mean) / sqrt(variance + eps) of every `count` neighbouring elements, or without `centred`
    x / sqrt(mean of squares + eps). normalise(in, out, rows, count, eps), root_mean_square alike."""

    why = "divides by a statistic of its own input"
    kernel = "normalise"

    count: int
    eps: float
    centred: bool = True

    @property
    def reads_in_order(self) -> bool:
        return True

    def layout(self, shape: Shape) -> Layout:
        return Layout.PYTORCH

    def evaluate(self, *inputs: Tensor) -> Tensor:
        rows = inputs[0].reshape(-1, self.count)
        if self.centred:
            rows = rows - rows.mean(1, keepdim=True)
        y: Tensor = rows * (rows.square().mean(1, keepdim=True) + self.eps).rsqrt()
        return y.reshape(inputs[0].shape)
