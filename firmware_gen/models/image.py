# SPDX-License-Identifier: Apache-2.0
"""Values of a network in an image of its memory, and what the CPU's operators do there, bit for bit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from firmware_gen import ir
from firmware_gen.memory.network import Layer, Network
from firmware_gen.models.cpu_model import cpu_operator
from hls.errors import HeepgenError

Sample: TypeAlias = np.ndarray | Sequence[np.ndarray]
"""One inference's input, or its inputs in order."""


@dataclass(frozen=True)
class Result:
    """`outputs` and `taps` (by layer name) are float32 in PyTorch's shape and order; `vectors` per descriptor.

    `losses` come with taps: of layers in `aligned` arithmetic, what it took (aligned_error.LossMeter)."""

    outputs: tuple[np.ndarray, ...]
    taps: dict[str, np.ndarray]
    vectors: tuple[int, ...]
    losses: dict[str, float] = field(default_factory=dict)

    @property
    def output(self) -> np.ndarray:
        """The first output, of most networks the only one."""
        return self.outputs[0]


def read(network: Network, image: np.ndarray, value: str) -> np.ndarray:
    """A value in PyTorch's shape and order, copied from the image, or from images along the first dimension."""
    return image.view(np.float32)[..., network.words(value)]


def tapped(network: Network, image: np.ndarray, layer: Layer) -> dict[str, np.ndarray]:
    """A layer's output, as `read` gives it, by the layer's name; nothing of planes, which are no numbers."""
    value = layer.node.output
    return {} if isinstance(network.graph.producer(value), ir.Planes) else {layer.name: read(network, image, value)}


def read_outputs(network: Network, image: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the network returns, each as `read` gives it."""
    return tuple(read(network, image, value) for value in network.graph.results)


def reset(network: Network, image: np.ndarray) -> None:
    """Every state as it is before the first inference, in the image or in several."""
    for state in network.graph.state:
        write(network, image, state.value, state.initial)


def write_inputs(network: Network, image: np.ndarray, sample: Sequence[np.ndarray]) -> None:
    """What the network takes, in the image; or, with a further first dimension, in several."""
    for value, data in zip(network.graph.arguments, sample, strict=True):
        write(network, image, value, data)


def write(network: Network, image: np.ndarray, value: str, data: np.ndarray) -> None:
    """The opposite of `read`."""
    image.view(np.float32)[..., network.words(value)] = data


def run_on_cpu(network: Network, layer: Layer, image: np.ndarray) -> None:
    """A layer that the CPU computes, in one image or in several."""
    node = layer.node
    assert isinstance(node, ir.OnCpu)
    constants, rank = network.graph.constants, len(layer.in_shape)
    inputs = [constants[v] if v in constants else read(network, image, v) for v in node.inputs]
    if len(inputs) == 1 and rank > 1:  # all images are one batch
        inputs = [inputs[0].reshape(-1, *layer.in_shape[1:])]
    result = cpu_operator(node, *inputs)
    write(network, image, node.output, result.reshape(*image.shape[:-1], *layer.out_shape))


def inputs_of(sample: Sample) -> tuple[np.ndarray, ...]:
    """The inputs of one inference, each by itself."""
    return (sample,) if isinstance(sample, np.ndarray) else tuple(sample)


def checked_sample(network: Network, sample: Sample) -> tuple[np.ndarray, ...]:
    """float32 in the shapes of the network's inputs."""
    data = tuple(np.ascontiguousarray(part, np.float32) for part in inputs_of(sample))
    if len(data) != len(network.inputs):
        raise HeepgenError(f"{len(data)} inputs are given, {network.graph.name} takes {len(network.inputs)}")
    for name, part, tensor in zip(network.graph.arguments, data, network.inputs, strict=True):
        if part.shape != tensor.shape:
            which = f" {name}" if len(data) > 1 else ""
            raise HeepgenError(f"the input{which} has shape {part.shape}, {network.graph.name} takes {tensor.shape}")
    return data


def checked_samples(network: Network, samples: np.ndarray) -> np.ndarray:
    """float32 (N, ...), with N a multiple of the network's batch, as (inferences, batch, ...), of a network with one
    input and no state."""
    graph = network.graph
    if len(network.inputs) > 1 or graph.state:
        what = f"{len(network.inputs)} inputs" if len(network.inputs) > 1 else "state"
        raise HeepgenError(f"{graph.name} has {what}: many inferences at once need one input, and no state")
    data, shape = np.ascontiguousarray(samples, np.float32), network.inputs[0].shape
    if len(shape) < 2 or data.shape[1:] != shape[1:] or len(data) % shape[0] or not len(data):
        raise HeepgenError(f"the samples have shape {data.shape}, {network.graph.name} takes {shape}")
    return data.reshape(-1, *shape)


def joined_batches(values: np.ndarray) -> np.ndarray:
    """[inferences, batch, ...] -> [inferences * batch, ...]."""
    return values.reshape(-1, *values.shape[2:]) if values.ndim > 2 else values
