# SPDX-License-Identifier: Apache-2.0
"""Bit-exact model of a compiled network: the memory image, run by the accelerator's and the CPU's NumPy models."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from firmware_gen.memory.planner import memory_map
from firmware_gen.models.image import (
    Result,
    Sample,
    checked_sample,
    checked_samples,
    joined_batches,
    read_outputs,
    reset,
    run_on_cpu,
    tapped,
    write_inputs,
)
from firmware_gen.targets.descriptor.compiler import in_memory
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS, Program
from hls.descriptor.interface.table import FIELD, SCRATCHPAD, WORDS
from hls.descriptor.model import Executed, execute

INFERENCES_AT_ONCE = 16
"""Inferences of a thread of `run_many` that share every NumPy call."""


def memory_image(program: Program, sample: Sample) -> np.ndarray:
    """uint8 image of the RAM, and of the scratchpad behind it, before a run; what nobody has written is 0xa5."""
    image: np.ndarray = _images(program, 1)[0]
    write_inputs(program, image, checked_sample(program, sample))
    return image


def _images(program: Program, count: int) -> np.ndarray:
    """A row for every sample of `count`, without the sample."""
    image = np.full((count, _scratchpad(program) + 4 * program.config.scratchpad_words), 0xA5, np.uint8)
    for name, array in program.constants.items():
        place = program.placed[name].address
        image[:, place : place + 4 * len(array)] = array.view(np.uint8)
    reset(program, image)
    return image


def _scratchpad(program: Program) -> int:
    """Byte of an image where the scratchpad begins."""
    return memory_map(program.config)[1]


def run(program: Program, sample: Sample, taps: bool = False) -> Result:
    """Run one sample, float32 in the shapes of the graph's inputs. With `taps` keep every layer's output."""
    return next(run_steps(program, [sample], taps))


def run_steps(program: Program, samples: Iterable[Sample], taps: bool = False) -> Iterator[Result]:
    """Run one inference after the other, from what states are at first; see `run`."""
    observed = in_memory(program) if taps else None
    images = _images(program, 1), None if observed in (None, program) else _images(observed, 1)
    for sample in samples:
        many = _run(program, images, [some[np.newaxis] for some in checked_sample(program, sample)], observed)
        yield Result(
            tuple(output[0] for output in many.outputs),
            {name: tap[0] for name, tap in many.taps.items()},
            many.vectors,
            many.losses,
        )


def run_many(
    program: Program, samples: np.ndarray, taps: bool = False, progress: Callable[[int], None] = lambda done: None
) -> Result:
    """Run independent inferences, many at once: float32 (N, ...) with N a multiple of the graph's batch.

    `outputs` and `taps` are those of `run` for every batch, joined along the first dimension (stacked when the graph's
    values are vectors without one). `progress` is told how many rows are done.
    """
    data, batch = checked_samples(program, samples), program.inputs[0].shape[0]
    slices = [data[i : i + INFERENCES_AT_ONCE] for i in range(0, len(data), INFERENCES_AT_ONCE)]
    results = []
    observed = in_memory(program) if taps else None
    # One thread per core runs inferences; threads of BLAS would only get in their way.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(lambda some: _run_slice(program, some, observed), slices):
            results.append(result)
            progress(batch * sum(len(r.output) for r in results))
    joined = {name: np.concatenate([r.taps[name] for r in results]) for name in results[0].taps}
    outputs = tuple(joined_batches(np.concatenate(own)) for own in zip(*(r.outputs for r in results), strict=True))
    losses = {name: max(r.losses[name] for r in results) for name in results[0].losses}
    return Result(outputs, {name: joined_batches(tap) for name, tap in joined.items()}, results[0].vectors, losses)


Images = tuple[np.ndarray, np.ndarray | None]
"""Of a program, and of the one that is observed."""


def _run_slice(program: Program, samples: np.ndarray, observed: Program | None) -> Result:
    """`_run` for independent samples of one input."""
    second = None if observed in (None, program) else _images(observed, len(samples))
    return _run(program, (_images(program, len(samples)), second), [samples], observed)


def _run(program: Program, images: Images, samples: Sequence[np.ndarray], observed: Program | None) -> Result:
    """`run` for inputs with samples along a new first dimension; so are outputs, and taps, which come from
    ``observed``."""
    result = _execute(program, images[0], samples, observed is program)
    if observed is not None and observed is not program:
        assert images[1] is not None
        seen = _execute(observed, images[1], samples, True)
        result = replace(result, taps=seen.taps, losses=seen.losses)
    return result


def _execute(program: Program, image: np.ndarray, samples: Sequence[np.ndarray], taps: bool) -> Result:
    write_inputs(program, image, samples)
    kept: dict[str, np.ndarray] = {}
    executed = []
    starts = {listed.first for listed in program.lists}
    tables: dict[int, np.ndarray] = {}
    done = 0
    for layer in program.layers:
        for index in range(done, max(layer.descriptors, default=-1) + 1):
            if index in starts:
                tables.clear()
            executed += _run_one(program, image, index, taps, tables)
            done = index + 1
        if layer.on_cpu:
            run_on_cpu(program, layer, image)
        if taps:
            kept |= tapped(program, image, layer)
    _rotate(program, image)
    losses = {
        layer.name: max(known)
        for layer in program.layers
        if (known := [loss for index in layer.descriptors if (loss := executed[index].loss) is not None])
    }
    return Result(read_outputs(program, image), kept, tuple(e.vectors for e in executed), losses)


def _rotate(program: Program, image: np.ndarray) -> None:
    """Addresses in the scratchpad, in the image's descriptors, as the next inference needs them."""
    if program.rotation:
        first = program.placed[DESCRIPTORS].address // 4
        words, mask = image.view(np.uint32), np.uint32(4 * program.config.scratchpad_words - 1)
        places = [first + rotating.word for rotating in program.rotating]
        words[:, places] = words[:, places] & ~mask | (words[:, places] + np.uint32(4 * program.rotation)) & mask


def _run_one(
    program: Program, image: np.ndarray, index: int, measure_loss: bool, tables: dict[int, np.ndarray]
) -> list[Executed]:
    """Run a single descriptor: LAST is set in the image only meanwhile."""
    last = FIELD["LAST"]
    word = image[0].view(np.uint32)
    place = program.placed[DESCRIPTORS].address // 4 + WORDS * index + last.word
    saved = word[place]
    word[place] |= np.uint32(1 << last.lsb)
    bases = [*program.bases[:SCRATCHPAD], _scratchpad(program)]
    layers = execute(image, program.descriptor_address(index), bases, program.config, measure_loss, tables)
    word[place] = saved
    return layers
