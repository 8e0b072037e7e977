# SPDX-License-Identifier: Apache-2.0
"""Operators of sequence models that only the CPU has, or that the array has with its help: products of computed
matrices, and normalisation by statistics of the input itself, which `passes.statistics` gives to the array where there
are many rows. Both read PyTorch's order.

Products of two computed matrices, as softmax(Q K^T) V is made of, meet an array that multiplies by INT8 weights. So the
CPU rounds the second matrix in every inference, column by column: to one plane of INT8, or to 16 bits, which are two
planes, of which the array multiplies by both. What that does to the output of an attention, 65 steps and heads of 16,
and what it takes on 8x8 with two ports:

    signal to noise, INT8 weights and exact products                       46 dB
    signal to noise of the products alone, one plane                       41 dB
    signal to noise of the products alone, two planes                      over 85 dB
    CPU cycles of a multiply-accumulate in FP32                            2.3
    CPU cycles of an element of two planes, four columns or one at a time  12, 15; of a column 67, 123
    cycles of the array, of three passes                                   200, 3.2 of an output, 1.1 of an input

Two planes are what a model gets where they are faster by these figures (`passes.hardware.planes`), and exact products
on the CPU where they are not, where the array cannot read the first matrix row by row, where the hardware has no
multiplying operand, and in the software kernels. `--explain` says which. Signal to noise is held by
tests/test_sequences.py and tests/test_planes.py; cycles are those of heepgen run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firmware_gen.ir.cpu import OnCpu
from firmware_gen.ir.movement import strided
from firmware_gen.ir.operator import Layout, Node, Place
from firmware_gen.ir.values import Shape

if TYPE_CHECKING:
    from torch import Tensor

PLANE_RANGE = 127 * 256
"""The largest element of a column in `Planes`."""
PLANE_ONE = 1.5 * 2**23
"""Added to a small number, it leaves the nearest integer in the sum's lowest bits."""

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
    counts_batch = True

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


@dataclass(frozen=True)
class Tiles:
    """How the array reads weights: `rows` times `columns` of them at a time, in beats of so many words."""

    rows: int
    columns: int
    beat: int

    def factor_words(self, columns: int) -> int:
        """Words of the factors of a matrix's columns."""
        return self._beats(columns)

    def plane_words(self, depth: int, columns: int) -> int:
        """Words of a plane, a byte for every element of its tiles: blocks of columns, of which each has all rows."""
        tiles = -(-depth // self.rows) * -(-columns // self.columns)
        return self._beats(-(-tiles * self.rows * self.columns // 4))

    def words(self, depth: int, columns: int) -> int:
        """Words of a matrix: factors, and two planes."""
        return self.factor_words(columns) + 2 * self.plane_words(depth, columns)

    def places(self, depth: int, columns: int) -> np.ndarray:
        """Byte of a plane of every element of a matrix: (depth, columns)."""
        block = -(-depth // self.rows) * self.rows * self.columns
        row, column = np.arange(depth)[:, None], np.arange(columns)
        return column // self.columns * block + row * self.columns + column % self.columns

    def padding_words(self, depth: int, columns: int) -> int:
        """Words of a plane that the CPU clears: those with bytes of no element, of a block that is cut all."""
        block = -(-depth // self.rows) * self.rows * self.columns
        blocks, rest = -(-columns // self.columns), columns % self.columns
        used = [depth * self.columns] * (blocks - 1) + [0 if rest else depth * self.columns]
        ends = [block * (number + 1) for number in range(blocks - 1)] + [4 * self.plane_words(depth, columns)]
        return sum(-(-end // 4) - (block * number + own) // 4 for number, (own, end) in enumerate(zip(used, ends)))

    def fours(self, columns: int) -> int:
        """How often the CPU can take four columns at a time, which are neighbours in a tile."""
        whole, rest = divmod(columns, self.columns)
        return whole * (self.columns // 4) + rest // 4

    def _beats(self, words: int) -> int:
        return -(-words // self.beat) * self.beat


@dataclass(frozen=True, eq=False, kw_only=True)
class InPlanes(Node):
    """`product` by the array, or a part of that: in planes, as `tiles` says."""

    counts_batch = True

    product: MatMul
    tiles: Tiles

    @property
    def reads_in_order(self) -> bool:
        return True

    def layout(self, shape: Shape) -> Layout:
        return Layout.PYTORCH


@dataclass(frozen=True, eq=False, kw_only=True)
class Planes(InPlanes, OnCpu):
    """The second matrices of `product` as the array multiplies by them: b = factor * (256 * high + low), a factor for
    every column, two INT8 planes; one matrix after the other, as `tiles` says. `evaluate` rounds nothing.

    A column with an element that is infinite or NaN has factor NaN, one below 2^-100 throughout is 0.
    to_planes(b, b_steps, out, counts, scale, tiles)."""

    why = "rounds a computed matrix to 16 bits, two INT8 planes, for the array to multiply by"
    kernel = "to_planes"
    in_place = False

    @property
    def iterations(self) -> dict[str, int]:
        """Of its loops, which take four columns at a time where rows or columns are neighbours."""
        outer, inner, _, depth, columns = self.product.sizes
        matrices = outer * inner
        fours = matrices * self.tiles.fours(columns) * (1 in self.product.b.steps[2:])
        ones = matrices * columns - 4 * fours
        words = 2 * matrices * self.tiles.padding_words(depth, columns)
        steps = {"step of four": fours * depth, "step of one": ones * depth}
        return {"call": 1, "matrix": matrices, "four": fours, "one": ones, "word": words} | steps

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class PlaneProduct(InPlanes):
    """`product` by the array: inputs are those of it, and its second one's `Planes`. The CPU's kernels compute
    `product` itself."""

    runs_on = Place.ARRAY

    @property
    def op(self) -> str:
        return self.product.op

    @property
    def combined_inputs(self) -> tuple[str, ...]:
        return ()

    def macs(self, in_shape: Shape, out_shape: Shape) -> int:
        return self.product.macs(in_shape, out_shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalise(OnCpu):
    """y = (x - mean) / sqrt(variance + eps) of every `count` neighbouring elements, or without `centred`
    x / sqrt(mean of squares + eps). normalise(in, out, rows, count, eps), root_mean_square alike."""

    why = "divides by a statistic of its own input"
    kernel = "normalise"
    chosen_by_rows = True

    count: int
    eps: float
    centred: bool = True

    @property
    def called(self) -> str:
        return self.kernel if self.centred else "root_mean_square"

    def arguments(self, size: int) -> tuple[float, ...]:
        return size // self.count, self.count, self.eps

    def keeps_rows(self, shape: Shape) -> bool:
        return self.count == shape[1]

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
