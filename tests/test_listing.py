# SPDX-License-Identifier: Apache-2.0
"""Listings of random networks say what their descriptors' words mean, as decoded here from the table's words."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen import ir
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.models.image import write
from firmware_gen.passes import run_passes
from firmware_gen.passes.quantise import quantise
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.compiler import compile_graph
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS
from firmware_gen.targets.descriptor.listing import listing
from firmware_gen.targets.descriptor.scratchpad import residency
from gen.cli import main
from hls.config import Config
from hls.descriptor.interface.table import FIELD, WORDS
from hls.errors import HeepgenError
from tests import test_residency
from tests.random_networks import random_network


def field(words, name):
    """A field's bits, cut out of the words."""
    f = FIELD[name]
    bits = int(words[f.word]) >> f.lsb & (1 << f.width) - 1
    if f.kind == "fp32":
        return np.uint32(bits).view(np.float32)
    return bits - (1 << f.width) if f.kind == "int" and bits >> (f.width - 1) else bits


def loaded(words):
    counts = [range(field(words, f"LOAD_{axis}_COUNT")) for axis in "YXC"]
    strides = [field(words, f"LOAD_{axis}_STRIDE") for axis in "YXC"]
    order = [sum(i * s for i, s in zip(at, strides, strict=True)) for at in itertools.product(*counts)]
    pitch, channels = field(words, "KX_STEP"), field(words, "NCB")
    return {word for i, word in enumerate(order) if not field(words, "BAND") or i % pitch < channels}


def stored(words, stream, config):
    """Relative words of the table's formula: oy, ox, g, cb and j give one each, as long as cb * Cb + j < COUT, or, of a
    banded layer, as long as j < COUT."""
    y, x, g, cb, c = (field(words, f"{stream}_{n}") for n in ("Y_STRIDE", "X_STRIDE", "G_STEP", "CB_STEP", "C_STRIDE"))
    block = min(config.rows, config.cols) if field(words, "DIAGONAL") else config.cols
    width, count = field(words, "OUT_W"), field(words, "COUT")
    lanes = [b * cb + j * c for b in range(-(-count // block)) for j in range(block) if b * block + j < count]
    if field(words, "BAND"):
        lanes = [b * cb + j * c for b in range(field(words, "NCB")) for j in range(count)]
    pixels = [p // width * y + p % width * x for p in range(field(words, "OUT_PX"))]
    return {p + n * g + lane for p in pixels for n in range(field(words, "GROUPS")) for lane in lanes}


def elements(program, span, address, relative):
    """Flat indices of the span's value at these words; None in a ring, where several rows have one place."""
    if span.ring:
        return None
    image = reference.memory_image(program, np.zeros(program.inputs[0].shape, np.float32))
    image[:] = 0xFF
    shape = program.graph.shape(span.value)
    write(program, image, span.value, np.arange(np.prod(shape), dtype=np.uint32).view(np.float32).reshape(shape))
    bases = [*program.bases[:3], len(image) - 4 * program.config.scratchpad_words]
    first = (bases[address >> 30] + (address & (1 << 30) - 1)) // 4
    return {int(image.view(np.uint32)[first + offset]) for offset in relative}


def inside(span, shape):
    """Flat indices of a span's box."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*part) for part in span.box)] = True
    return set(np.flatnonzero(mask).tolist())


def check(program):
    """Compares a listing with its program; returns (spans with a box, without, in a ring)."""
    found, counts = listing(program), [0, 0, 0]
    image = program.constants[DESCRIPTORS].reshape(-1, WORDS)[: len(program.jobs)]  # there is one even without jobs
    layers = {number: layer for layer in program.layers for number in layer.descriptors}
    assert [e.number for e in found.entries] == list(range(len(program.jobs)))
    for entry, words, job in zip(found.entries, image, program.jobs, strict=True):
        layer = layers[entry.number]
        assert (entry.layer, entry.op, entry.words) == (layer.name, layer.op, tuple(words.tolist()))
        assert entry.address == program.placed[DESCRIPTORS].address + 4 * WORDS * entry.number
        for stream, span in (("LOAD", entry.loads), ("AUX", entry.aux), ("STORE", entry.stores)):
            if span is None:
                assert not field(words, "RESIDUAL") and not field(words, "ACC_INIT")
                continue
            relative = loaded(words) if stream == "LOAD" else stored(words, stream, program.config)
            address, shape = field(words, f"{stream}_ADDR"), program.graph.shape(span.value)
            assert span.words == len(relative) and span.on_chip == (address >> 30 == 3)
            assert span.value in (*layer.node.inputs, layer.node.output)
            there = elements(program, span, address, relative)
            if there is None:  # the plan's own reference says which row it is
                tensor, start = program.tensors[span.value], job.descriptor[f"{stream}_ADDR"].offset
                places = {int(word): i for i, word in enumerate(tensor.words().reshape(-1))}
                there = {places[start + offset] for offset in relative}
                assert span.ring == 1 << field(words, f"{stream}_RING")
                counts[2] += 1
            assert max(there) < np.prod(shape)
            if span.box:
                assert there == inside(span, shape), (entry, stream)
            counts[0 if span.box else 1] += 1
        for constant, stream in ((entry.weights, "WEIGHT"), (entry.parameters, "PARAM")):
            if ref := job.descriptor[f"{stream}_ADDR"]:
                assert (constant.name, constant.words) == (ref.name, field(words, f"{stream}_WORDS"))
                assert constant.address == program.placed[ref.name].address + 4 * ref.offset
            else:
                assert constant in (None, (float(field(words, "SCALE")), float(field(words, "BIAS"))))
        assert entry.waits == bool(field(words, "BARRIER")) and entry.continues == bool(field(words, "ACC_INIT"))
        marks = field(words, "MARK_BASE"), field(words, "MARK_WORDS"), bool(field(words, "MARK_BLOCKS"))
        assert entry.completes == (marks if marks[1] else None)
        assert entry.next == (None if field(words, "LAST") else entry.number + 1)
    for layer in program.layers:
        if layer.descriptors and isinstance(layer.node, ir.Activated):
            assert found.entries[layer.descriptors[-1]].activation == str(layer.node.act)
    assert [c[1] for c in found.cpu] == [layer.name for layer in program.layers if layer.on_cpu]
    text = found.to_text()
    dumped = re.findall(r"^      \d\d  ((?:[0-9a-f]{8} ?)+)$", text, re.MULTILINE)
    assert [int(word, 16) for line in dumped for word in line.split()] == image.reshape(-1).tolist()
    return counts


def compiled(model, x, config):
    return compile_graph(quantise(run_passes(import_model(model, x))), config)


def test_random_networks():
    total = np.zeros(3, int)
    for seed in range(6):
        rng = np.random.default_rng([seed, 21])
        drawn = random_network(seed, "dag", max_depth=8, max_size=8)
        config = Config(
            int(rng.integers(1, 10)),
            int(rng.integers(1, 10)),
            ports=int(rng.integers(1, 5)),
            memory_banks=32,
            activation_words=1024,
            accumulator_entries=16,
            scratchpad_words=int(rng.choice([0, 4096])),
        )
        total += check(compiled(drawn.model, drawn.x, config))
    assert total[0] > 50


def test_layers_that_take_turns(monkeypatch):
    total = np.zeros(3, int)
    for seed in (*range(6), 21, 26):  # the last go round a ring that is the whole scratchpad
        rng = np.random.default_rng([seed, 22])
        torch.manual_seed(seed)
        model, shape = test_residency.random_network(rng)
        monkeypatch.setattr(residency, "choose", test_residency.choose_at_random(rng))
        try:
            program = compiled(model, np.zeros(shape, np.float32), test_residency.random_config(rng))
        except HeepgenError as error:
            assert "does not fit" in str(error) or "enlarge the buffer" in str(error), error
            continue
        total += check(program)
    assert total[2] > 15


def test_words_of_no_tensor_are_refused():
    program = compiled(nn.Linear(3, 2), np.zeros((1, 3), np.float32), Config())
    words = program.constants[DESCRIPTORS].copy()
    words[FIELD["STORE_ADDR"].word] += 4096
    broken = replace(program, constants=program.constants | {DESCRIPTORS: words})
    with pytest.raises(HeepgenError, match="descriptor 0: STORE_ADDR 0x4000.* reaches words of no tensor of its layer"):
        listing(broken)


def test_command(tmp_path):
    torch.save(nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)), tmp_path / "net.pt")
    arguments = ["sw", str(tmp_path / "net.pt"), "--input-shape", "4", "-o", str(tmp_path / "app"), "--json", "-"]
    plain = CliRunner().invoke(main, arguments)
    assert plain.exit_code == 0 and "listing" not in json.loads(plain.stdout)
    assert not (tmp_path / "app" / "gen" / "listing.txt").exists()
    result = CliRunner().invoke(main, [*arguments, "--force", "--listing"])
    assert result.exit_code == 0, result.output
    found, text = json.loads(result.stdout)["listing"], (tmp_path / "app" / "gen" / "listing.txt").read_text()
    assert found["descriptors"][0]["loads"]["box"] == [[0, 1, 1], [0, 4, 1]]
    assert [c["layer"] for c in found["cpu"]] == ["1"] and found["cpu"][0]["call"] in text
    assert found["cpu"][0]["call"] in (tmp_path / "app" / "gen" / "model.cpp").read_text()
