# SPDX-License-Identifier: Apache-2.0
"""The compiler's intermediate representation: a small, typed, immutable data-flow graph.

Shapes are PyTorch's: feature maps are (N, C, H, W), vectors (N, F) or (F,). Where a tensor lies in memory,
and how (HWC on the accelerator), is the back end's business; here is only what an operator leaves as it finds it.

Life of a graph: `importer.import_model` -> `passes.run_passes` -> `quantise.quantise` -> back end.

- Straight from the importer: any node below; weights are float64.
- After the passes: Conv, Linear, Pool, Scale, Expand, Add, Mul, PReLU, Maximum (activations fused into `act`, sums and
  products into `residual`),
  plus what could not be fused: Activate, Pad, Slice, Concat, Shuffle, PixelShuffle, Upsample, Reshape, Permute; and
  what the CPU computes: Softmax, Elementary; Apply, Product and Slopes where the hardware has no function unit, or only
  adds.
  BatchNorm and Identity are gone.
- After quantisation: Conv and Linear hold int8 `weight`, float32 `scale` and `bias` per output channel; Scale
  holds float32 `scale` and `bias`.

`operator` says which facts an operator's class carries: where it runs, how its output lies, what it may overwrite.
"""

from firmware_gen.ir.activation import *  # noqa: F403
from firmware_gen.ir.cpu import *  # noqa: F403
from firmware_gen.ir.functions import Function as Function
from firmware_gen.ir.graph import *  # noqa: F403
from firmware_gen.ir.layers import *  # noqa: F403
from firmware_gen.ir.movement import *  # noqa: F403
from firmware_gen.ir.operator import *  # noqa: F403
from firmware_gen.ir.sequence import *  # noqa: F403
from firmware_gen.ir.values import *  # noqa: F403
