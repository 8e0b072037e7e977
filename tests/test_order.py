# SPDX-License-Identifier: Apache-2.0
"""BARRIER and MARK_WORDS of linked programs against the words that neighbours really store and load."""

from dataclasses import replace

import numpy as np
import pytest

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.targets.descriptor.linked.link import link
from firmware_gen.targets.descriptor.linked.order import order
from firmware_gen.targets.descriptor.scratchpad import residency
from firmware_gen.targets.descriptor.timing.spans import strip_sizes
from hls.config import Config
from hls.descriptor.interface.table import SCRATCHPAD, WORDS, address, on_chip, unpack
from tests.test_residency import choose_at_random, random_network


def places(where, ring, words):
    """Word addresses of words counted from a stream's first one, in its ring when it is on chip."""
    first, ring = where // 4, 1 << ring
    if on_chip(where):
        return first // ring * ring + (first + words) % ring
    return first + words


def loaded(f):
    """Word addresses in load order; -1 for those that a banded layer does not read."""
    y, x, c = (np.arange(f[f"LOAD_{axis}_COUNT"]) * f[f"LOAD_{axis}_STRIDE"] for axis in "YXC")
    words = places(f.load_addr, f.load_ring, (y[:, None, None] + x[:, None] + c).reshape(-1))
    return np.where(np.arange(len(words)) % f.kx_step < f.ncb, words, -1) if f.band else words


def stored(f, config):
    """Word addresses of what marks are counted by, in order: [pixels, channels], or with MARK_BLOCKS [blocks of pixels,
    channels of a block], by the rule of hls.descriptor.interface.table."""
    block = config.diagonal if f.diagonal else config.cols
    oy, ox = np.divmod(np.arange(f.out_px), f.out_w)
    g, n = np.divmod(np.arange(f.groups * f.cout), f.cout)
    pixel = oy * f.store_y_stride + ox * f.store_x_stride
    channel = g * f.store_g_step + n // block * f.store_cb_step + n % block * f.store_c_stride
    if f.band:
        channel = (np.arange(f.ncb)[:, None] * f.store_cb_step + np.arange(f.cout) * f.store_c_stride).reshape(-1)
    words = pixel[:, None] + channel
    if f.mark_blocks:
        assert f.groups == 1 and f.cout % block == 0
        starts = np.cumsum([0, *strip_sizes(f.out_px, f.first_px, f.strip_px)])
        words = np.concatenate(
            [
                words[first:end].reshape(-1, f.ncb, block).transpose(1, 0, 2).reshape(-1, block)
                for first, end in zip(starts, starts[1:], strict=False)
            ]
        )
    return places(f.store_addr, f.store_ring, words)


def follow(program):
    """Replay neighbours of a program; how many descriptors mark their words, and how many of them from MARK_BASE on."""
    chain = [unpack(words) for words in link(program, True).reshape(-1, WORDS)]
    marked = late = 0
    for before, after in zip(chain, chain[1:], strict=False):
        reads, writes = loaded(after), stored(before, program.config)
        if not after.barrier:
            assert not np.isin(reads, writes).any()
        if before.mark_words:
            marked, late = marked + 1, late + (before.mark_base > 0)
            # Word i may be read when this pixel, or block of one, is complete, those before MARK_BASE at once
            completed_by = np.maximum((np.arange(len(reads)) - before.mark_base) // before.mark_words, -1)
            pixel = dict(
                zip(
                    writes.reshape(-1).tolist(),
                    np.repeat(np.arange(len(writes)), writes.shape[1]).tolist(),
                    strict=True,
                )
            )
            assert all(
                pixel.get(word, -1) <= done for word, done in zip(reads.tolist(), completed_by.tolist(), strict=True)
            )
    return marked, late


@pytest.mark.parametrize("name", ["bench-fmnist-medium", "fmnist-conv2d", "cifar10-conv2d", "resnet8"])
@pytest.mark.parametrize("rows, cols, ports", [(8, 8, 2), (5, 3, 1)])
def test_nothing_is_read_before_it_is_stored(name, rows, cols, ports):
    config, example = Config(rows=rows, cols=cols, ports=ports), NETWORKS[name]
    program = CodeGenerator(example.build(), np.zeros(example.input_shape, np.float32), config=config).program()
    assert follow(program)[0], "no layer of this network follows the one before word by word"


@pytest.mark.slow
def test_nothing_is_read_before_it_is_stored_in_turns(monkeypatch):
    """Random groups on random networks: rings that wrap, and rows that were there before."""
    late = 0
    for seed in range(25):
        rng = np.random.default_rng([seed, 10])
        model, shape = random_network(rng)
        monkeypatch.setattr(residency, "choose", choose_at_random(rng))
        late += follow(CodeGenerator(model, np.zeros(shape, np.float32), config=Config()).program())[1]
    assert late >= 5


def test_streams_that_go_round_rings_of_their_own():
    """Random neighbours on chip, channels of pixels each: no BARRIER only where no word is met."""
    rng, config = np.random.default_rng(31), Config(4, 4)
    nothing = unpack(np.zeros(WORDS, np.uint32))
    apart = round_a_ring = 0
    for number in range(4000):
        step, pixels = int(rng.choice([6, 8, 12])), int(rng.integers(2, 9))
        written, read = rng.integers(1, step // 2 + 1, 2).tolist()
        store_ring, load_ring = rng.integers(5, 8, 2).tolist()
        store, load = (address(SCRATCHPAD, 4 * int(word)) for word in rng.integers(0, 64, 2))
        before = replace(nothing, out_px=pixels, out_w=pixels, cout=min(written, config.cols), ncb=1, groups=1)
        before = replace(before, store_addr=store, store_ring=store_ring, store_x_stride=step, store_c_stride=1)
        after = replace(nothing, load_addr=load, load_ring=load_ring, load_c_count=read, load_c_stride=1)
        after = replace(after, load_x_count=pixels, load_x_stride=step, load_y_count=1, load_words=read * pixels)
        before = replace(before, store_cb_step=config.cols)
        reads, writes = loaded(after), stored(before, config)
        if not order(before, after)[1].barrier:
            assert not np.isin(reads, writes).any(), (number, before, after)
            apart += 1
            round_a_ring += bool((np.diff(reads) < 0).any())
    assert apart > 100 and round_a_ring > 10, (apart, round_a_ring)


@pytest.mark.parametrize("ring", [5, 6, 7])
def test_streams_beside_each_other_need_no_order(ring):
    """Up to the last word of their rings, whatever ring the other has; one word more, and a stream goes round."""
    nothing, words = unpack(np.zeros(WORDS, np.uint32)), 1 << ring
    after = replace(nothing, load_addr=address(SCRATCHPAD, 4 * 4 * words), load_ring=8, load_c_count=1, load_c_stride=1)
    after = replace(after, load_x_count=4, load_x_stride=1, load_y_count=1, load_words=4)
    before = replace(nothing, out_px=8, out_w=8, cout=1, ncb=1, groups=1, store_x_stride=1, store_ring=ring)
    for first, goes_round in ((words - 8, False), (words - 7, True)):
        store = replace(before, store_addr=address(SCRATCHPAD, 4 * (5 * words + first)))
        meets = replace(after, load_addr=address(SCRATCHPAD, 4 * 5 * words))
        assert order(store, after)[1].barrier == 0
        assert order(store, meets)[1].barrier == goes_round
