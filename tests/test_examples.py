"""Examples: shapes, MACs, reproducible builds, data files, and a training run that must learn."""

import gzip

import numpy as np
import pytest
import torch

from examples import common
from examples.data import CIFAR10, MNIST, load
from examples.networks import NETWORKS
from firmware_gen.fake_quant import quantized_model
from firmware_gen.importer import import_model
from firmware_gen.loader import load_model
from firmware_gen.passes import run_passes
from hls.errors import HeepgenError

# Multiply-accumulates by hand: output pixels * kernel * input channels * output channels, per layer.
MACS = {
    "digits": 64 * 9 * 8 + 4 * 9 * 8 * 16 + 64 * 10,
    "mnist-single_layer": 5 * 196 * 10,
    "mnist-multi_layer": 5 * (144 * 20 + 200),
    "fmnist-conv2d": 121 * 16 * 16 + 64 * 16 * 16 * 8 + 512 * 10,
    "cifar10-conv2d": 484 * 75 * 16 + 400 * 144 * 24 + 49 * 384 * 6 + 294 * 10,
    "bench-fmnist-small": 144 * 20 + 200,
    "bench-fmnist-medium": 121 * 25 * 16 + 64 * 256 * 6 + 384 * 10,
    "bench-fmnist-large": 576 * 25 * 16 + 484 * 144 * 24 + 64 * 384 * 6 + 384 * 10,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network_compiles_with_the_expected_macs(name):
    example = NETWORKS[name]
    graph = run_passes(import_model(example.build(), example.input_shape))
    assert sum(graph.macs(node) for node in graph.nodes) == MACS[name]
    assert graph.shape(graph.outputs[0]) == (example.input_shape[0], 10)


def test_build_is_reproducible_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (NETWORKS["fmnist-conv2d"].build(seed)[0].weight for seed in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", NETWORKS)
def test_bundled_data_fits(name):
    example = NETWORKS[name]
    data = example.load_data()
    assert tuple(data.test_x.shape[1:]) == example.input_shape[1:] and len(data.test_x) == len(data.test_y) == 360
    assert data.train_x.dtype == torch.float32 and data.train_x.std() > 0.3


def test_digits_learns_in_seconds_survives_quantisation_and_is_saved(tmp_path):
    example = NETWORKS["digits"]
    model, data, accuracy = example.train()
    assert accuracy > 0.95
    fake = quantized_model(run_passes(import_model(model, example.input_shape)))
    assert common.accuracy(fake, data.test_x, data.test_y) > accuracy - 0.01
    path = common.save(model, data, example.input_shape, tmp_path)
    sample = np.load(tmp_path / "sample.npy")
    assert sample.shape == example.input_shape and sample.dtype == np.float32
    run_passes(import_model(load_model(path), sample))


def idx(values: np.ndarray) -> bytes:
    sizes = np.array(values.shape, ">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def write_mnist(folder, rng):
    images, labels = rng.integers(0, 256, (20, 28, 28)), rng.integers(0, 10, 20)
    for part in ("train", "t10k"):
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return images, labels


def test_idx_files(tmp_path):
    images, labels = write_mnist(tmp_path, np.random.default_rng(0))
    data = load(MNIST, (1, 1, 28, 28), tmp_path)
    np.testing.assert_array_equal(data.train_y.numpy(), labels)
    back = data.test_x.numpy()[:, 0] * 0.3081 + 0.1307
    np.testing.assert_allclose(back * 255, images, atol=1e-3)
    assert load(MNIST, (5, 196), tmp_path).test_x.shape == (20, 196)


def test_cifar_files(tmp_path):
    rng = np.random.default_rng(1)
    records = rng.integers(0, 256, (7, 3073)).astype(np.uint8)
    records[:, 0] %= 10
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        (tmp_path / name).write_bytes(records.tobytes())
    data = load(CIFAR10, (1, 3, 32, 32), tmp_path)
    assert data.train_x.shape == (35, 3, 32, 32)
    green = data.test_x.numpy()[2, 1, 3, 4] * 0.1994 + 0.4822
    assert round(green * 255) == records[2, 1 + 1024 + 3 * 32 + 4] and data.test_y[2] == records[2, 0]


def test_bad_data_files(tmp_path):
    with pytest.raises(HeepgenError, match="no MNIST data: train-images-idx3-ubyte"):
        load(MNIST, (1, 1, 28, 28), tmp_path)
    write_mnist(tmp_path, np.random.default_rng(0))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0")
    with pytest.raises(HeepgenError, match="t10k-labels-idx1-ubyte is not a complete idx file"):
        load(MNIST, (1, 1, 28, 28), tmp_path)
