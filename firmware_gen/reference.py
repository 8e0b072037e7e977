"""Bit-exact model of a compiled network: the memory image, run by the accelerator's and the CPU's NumPy models."""

from dataclasses import dataclass

import numpy as np

from firmware_gen.cpu_model import cpu_operator
from firmware_gen.planner import memory_map
from firmware_gen.program import DESCRIPTORS, Program
from hls.descriptor import FIELD, WORDS
from hls.errors import HeepgenError
from hls.model import execute


@dataclass(frozen=True)
class Result:
    """`output` and `taps` (by layer name) are float32 in PyTorch's shape and order; `vectors` per descriptor."""

    output: np.ndarray
    taps: dict[str, np.ndarray]
    vectors: tuple[int, ...]


def memory_image(program: Program, sample: np.ndarray) -> np.ndarray:
    """uint8 image of the RAM before a run; what nobody has written is 0xa5."""
    image = np.full(memory_map(program.config)[1], 0xA5, np.uint8)
    for name, array in program.constants.items():
        place = program.placed[name].address
        image[place:place + 4 * len(array)] = array.view(np.uint8)
    data = _checked(program, sample)
    place = program.tensor_address(program.graph.inputs[0])
    image[place:place + data.nbytes] = data.reshape(-1).view(np.uint8)
    return image


def run(program: Program, sample: np.ndarray, taps: bool = False) -> Result:
    """Run one sample, float32 in the shape of the graph's input. With `taps` keep every layer's output."""
    image = memory_image(program, sample)
    kept: dict[str, np.ndarray] = {}
    executed = []
    for layer in program.layers:
        for index in range(layer.first, layer.last):
            executed += _run_one(program, image, index)
        if layer.on_cpu:
            run_on_cpu(program, layer, image)
        if taps:
            kept[layer.name] = read(program, image, layer.node.output)
    output = read(program, image, program.graph.outputs[0])
    return Result(output, kept, tuple(e.vectors for e in executed))


def _run_one(program: Program, image: np.ndarray, index: int):
    """Run a single descriptor: LAST is set in the image only meanwhile."""
    last = FIELD["LAST"]
    word = image.view(np.uint32)
    place = program.placed[DESCRIPTORS].address // 4 + WORDS * index + last.word
    saved = word[place]
    word[place] |= np.uint32(1 << last.lsb)
    layers = execute(image, program.descriptor_address(index), program.bases, program.config)
    word[place] = saved
    return layers


def read(program: Program, image: np.ndarray, value: str) -> np.ndarray:
    """A value in PyTorch's shape and order, copied from the image."""
    return image.view(np.float32)[_words(program, value)]


def _words(program: Program, value: str) -> np.ndarray:
    """Word of the image of every element of a value."""
    tensor = program.tensors[value]
    return (program.arena_address + program.offsets[tensor.storage]) // 4 + tensor.words()


def run_on_cpu(program: Program, layer, image: np.ndarray) -> None:
    """A layer that the CPU computes."""
    write(program, image, layer.node.output, cpu_operator(layer.node, read(program, image, layer.node.inputs[0])))


def write(program: Program, image: np.ndarray, value: str, data: np.ndarray) -> None:
    """The opposite of `read`."""
    image.view(np.float32)[_words(program, value)] = data


def _checked(program: Program, sample: np.ndarray) -> np.ndarray:
    data = np.ascontiguousarray(sample, np.float32)
    if data.shape != program.input.shape:
        raise HeepgenError(f"the input has shape {data.shape}, {program.graph.name} takes {program.input.shape}")
    return data
