"""BARRIER and MARK_WORDS of linked programs against the words that neighbours really store and load."""

import numpy as np
import pytest

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.program import _link
from hls.config import Config
from hls.descriptor import WORDS, unpack


def loaded(f):
    """Word addresses in load order."""
    y, x, c = (np.arange(f[f"LOAD_{axis}_COUNT"]) * f[f"LOAD_{axis}_STRIDE"] for axis in "YXC")
    return (f["LOAD_ADDR"] // 4 + y[:, None, None] + x[:, None] + c).reshape(-1)


def stored(f, config):
    """Word addresses [pixels, channels], by the rule of hls.descriptor."""
    block = config.diagonal if f["DIAGONAL"] else config.cols
    oy, ox = np.divmod(np.arange(f["OUT_PX"]), f["OUT_W"])
    g, n = np.divmod(np.arange(f["GROUPS"] * f["COUT"]), f["COUT"])
    pixel = oy * f["STORE_Y_STRIDE"] + ox * f["STORE_X_STRIDE"]
    channel = g * f["STORE_G_STEP"] + n // block * f["STORE_CB_STEP"] + n % block * f["STORE_C_STRIDE"]
    return f["STORE_ADDR"] // 4 + pixel[:, None] + channel


@pytest.mark.parametrize("name", ["bench-fmnist-medium", "fmnist-conv2d", "cifar10-conv2d", "resnet8"])
@pytest.mark.parametrize("rows, cols, ports", [(8, 8, 2), (5, 3, 1)])
def test_nothing_is_read_before_it_is_stored(name, rows, cols, ports):
    config, example = Config(rows=rows, cols=cols, ports=ports), NETWORKS[name]
    program = CodeGenerator(example.build(), np.zeros(example.input_shape, np.float32), config=config).program()
    chain = [unpack(words) for words in _link(program, True).reshape(-1, WORDS)]
    marked = 0
    for before, after in zip(chain, chain[1:], strict=False):
        reads, writes = loaded(after), stored(before, config)
        if not after["BARRIER"]:
            assert not np.isin(reads, writes).any()
        if before["MARK_WORDS"]:
            marked += 1
            completed_by = np.arange(len(reads)) // before["MARK_WORDS"]
            pixel = dict(zip(writes.reshape(-1).tolist(), np.repeat(np.arange(len(writes)), writes.shape[1]).tolist(),
                             strict=True))
            assert all(pixel.get(word, -1) <= done
                       for word, done in zip(reads.tolist(), completed_by.tolist(), strict=True))
    assert marked, "no layer of this network follows the one before word by word"
