# SPDX-License-Identifier: Apache-2.0
"""`--weights`: which layers get weights of 4 bits, as asked, or as a sample of inputs bears it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firmware_gen.application.options import ImportOptions
from gen.flows.network.data import check_independent, data_of
from gen.flows.network.scores import run_torch, score
from hls.errors import HeepgenError

MAX_LOSS = 0.5


@dataclass(frozen=True)
class Weights:
    """What the options say. which: "int8", "int4", "auto", or "int4:" and names of layers with commas between.

    data: for "auto", what `data_of` takes. max_loss: for "auto", points, of a hundred, that INT4 may cost against FP32.
    """

    which: str = "int8"
    data: Any = None
    max_loss: float | None = None

    def __post_init__(self) -> None:
        kind, _, names = self.which.partition(":")
        if kind not in ("int8", "int4", "auto") or (":" in self.which and (kind != "int4" or not names)):
            raise HeepgenError(
                f"--weights {self.which}: must be int8, int4, auto, or int4: and names of layers with commas between, "
                "as in int4:conv1,fc."
            )
        if self.which == "auto" and self.data is None:
            raise HeepgenError("--weights auto: give inputs to choose on, as in --data calibration.npz.")
        for name, value in (("data", self.data), ("max-loss", self.max_loss)):
            if self.which != "auto" and value is not None:
                raise HeepgenError(f"--{name} is for --weights auto, which chooses layers by it.")
        if self.max_loss is not None and not self.max_loss >= 0:
            raise HeepgenError(f"--max-loss {self.max_loss}: must be 0 or more.")


def with_weights(
    options: ImportOptions, checked: Any, weights: Weights, progress: Callable[[str], None] = lambda message: None
) -> ImportOptions:
    """Options with the layers of 4 bits of a model that `read_model` read."""
    if weights.which == "int8":
        return options
    layers = _layers(checked.lowered)
    if weights.which == "int4":
        chosen = list(layers)
    elif weights.which == "auto":
        chosen = _chosen(options, checked, weights, layers, progress)
    else:
        chosen = weights.which.removeprefix("int4:").split(",")
    return replace(options, int4=sorted(chosen) or None)


def _layers(lowered: Any) -> dict[str, int]:
    """Layers whose weights are rounded here, and how many they have."""
    from firmware_gen.ir import Weighted

    return {n.name: n.weight.size for n in lowered.nodes if isinstance(n, Weighted) and n.weight_scale is None}


def _chosen(
    options: ImportOptions, checked: Any, weights: Weights, layers: dict[str, int], progress: Callable[[str], None]
) -> list[str]:
    """Layers in the order of the error that each alone causes in the output, by weight: as many of them as the score
    bears, each number of them measured, all first."""
    from firmware_gen.passes.quantise import quantise

    check_independent(checked.imported, "weights are chosen")
    lowered, own = checked.lowered, checked.sample.shape
    data = data_of(weights.data, model=own).whole_batches(own[0])

    def outputs(int4: list[str]) -> np.ndarray:
        return run_torch(quantise(lowered, not options.per_tensor, options.calibrate, int4), data.x)

    exact = run_torch(lowered, data.x)
    before = score(data, exact, exact)
    errors = {}
    for number, (name, size) in enumerate(layers.items(), 1):
        progress(f"INT4 weights, layer {number} of {len(layers)}: {name}")
        errors[name] = float(((outputs([name]) - exact).astype(np.float64) ** 2).sum()) / size
    order = sorted(layers, key=lambda name: errors[name])
    limit = MAX_LOSS if weights.max_loss is None else weights.max_loss
    for count in range(len(order), 0, -1):
        progress(f"INT4 weights in {count} of {len(order)} layers")
        if 100 * (before - score(data, exact, outputs(order[:count]))) <= limit:
            return order[:count]
    return []
