# SPDX-License-Identifier: Apache-2.0
"""Examples: shapes, MACs, reproducible builds, data files, and a training run that must learn."""

import gzip
import wave

import numpy as np
import pytest
import torch

from examples import common
from examples.data import CIFAR10, MNIST, load
from examples.mlperf_tiny import audio, keywords
from examples.networks import NETWORKS
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from firmware_gen.ir import Conv, Linear, Pool, Reshape, Softmax
from firmware_gen.models.fake_quant import quantized_model
from firmware_gen.passes import run_passes
from hls.errors import HeepgenError

# Multiply-accumulates by hand: output pixels * kernel * input channels * output channels, per layer.
MACS = {
    "digits": 5 * (64 * 9 * 8 + 4 * 9 * 8 * 16 + 64 * 10),
    "mnist-single_layer": 5 * 144 * 10,
    "mnist-multi_layer": 5 * (144 * 20 + 200),
    "fmnist-conv2d": 121 * 16 * 16 + 64 * 16 * 16 * 8 + 512 * 10,
    "cifar10-conv2d": 484 * 75 * 16 + 400 * 144 * 24 + 49 * 384 * 6 + 294 * 10,
    "bench-fmnist-small": 144 * 20 + 200,
    "bench-fmnist-medium": 121 * 25 * 16 + 64 * 256 * 6 + 384 * 10,
    # the figures of the benchmark: 12.50 M, 2.66 M, 7.49 M, 0.264 M
    "resnet8": 1024 * 27 * 16 + 2 * 1024 * 144 * 16 + 256 * (144 + 288 + 16) * 32 + 64 * (288 + 576 + 32) * 64 + 640,
    "ds-cnn": 125 * 40 * 64 + 4 * 125 * (9 + 64) * 64 + 64 * 12,
    "mobilenet-v1-0.25": (
        48**2 * (27 * 8 + 8 * (9 + 16))
        + 24**2 * (16 * (9 + 32) + 32 * (9 + 32))
        + 12**2 * (32 * (9 + 64) + 64 * (9 + 64))
        + 6**2 * (64 * (9 + 128) + 5 * 128 * (9 + 128))
        + 3**2 * (128 * (9 + 256) + 256 * (9 + 256))
        + 256 * 2
    ),
    "fc-autoencoder": 2 * 640 * 128 + 6 * 128 * 128 + 2 * 128 * 8,
    "fc-autoencoder-clip": 196 * (2 * 640 * 128 + 6 * 128 * 128 + 2 * 128 * 8),
    "bench-fmnist-large": 576 * 25 * 16 + 484 * 144 * 24 + 64 * 384 * 6 + 384 * 10,
}


TINY = ("resnet8", "ds-cnn", "mobilenet-v1-0.25", "fc-autoencoder")
CLASSES = {"ds-cnn": 12, "mobilenet-v1-0.25": 2, "fc-autoencoder": 640, "fc-autoencoder-clip": 640}


@pytest.mark.parametrize("name", NETWORKS)
def test_network_compiles_with_the_expected_macs(name):
    example = NETWORKS[name]
    graph = run_passes(import_model(example.build(), example.input_shape))
    assert sum(graph.macs(node) for node in graph.nodes) == MACS[name]
    assert graph.shape(graph.outputs[0]) == (example.input_shape[0], CLASSES.get(name, 10))


def test_mlperf_tiny_sizes_are_those_of_the_benchmark():
    assert [round(MACS[name] / 1e6, 2) for name in TINY] == [12.50, 2.66, 7.49, 0.26]


@pytest.mark.parametrize("name", TINY)
def test_mlperf_tiny_lowers_without_leftovers(name):
    """Every BatchNorm, activation, padding and addition ends up in a Conv, Linear or Pool."""
    example = NETWORKS[name]
    graph = run_passes(import_model(example.build(), example.input_shape))
    assert {type(n) for n in graph.nodes} <= {Conv, Linear, Pool, Reshape, Softmax}
    residuals = [n.name for n in graph.nodes if getattr(n, "residual", "none") != "none"]
    assert len(residuals) == (3 if name == "resnet8" else 0)


def test_same_padding_of_stride_2_is_at_the_right_and_the_bottom():
    graph = run_passes(import_model(NETWORKS["mobilenet-v1-0.25"].build(), (1, 3, 96, 96)))
    assert graph.nodes[0].pads == (0, 0, 1, 1) and graph.nodes[1].pads == (1, 1, 1, 1)
    graph = run_passes(import_model(NETWORKS["ds-cnn"].build(), (1, 1, 49, 10)))
    assert graph.nodes[0].pads == (4, 1, 5, 1) and graph.out_shape(graph.nodes[0]) == (1, 64, 25, 5)


def test_build_is_reproducible_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (NETWORKS["fmnist-conv2d"].build(seed)[0].weight for seed in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in (*TINY[1:], "fc-autoencoder-clip")])
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


@pytest.mark.parametrize("name", TINY[1:])
def test_synthetic_data_fit(name):
    example = NETWORKS[name]
    data = example.load_data()
    assert tuple(data.train_x.shape[1:]) == tuple(data.test_x.shape[1:]) == example.input_shape[1:]
    assert data.train_x.dtype == torch.float32 and torch.isfinite(data.train_x).all()
    assert len(data.test_x) == len(data.test_y) * data.clip and len(data.train_x) == len(data.train_y)
    assert set(data.test_y.tolist()) == set(range(2 if data.clip > 1 else CLASSES[name]))


def test_synthetic_data_are_reproducible():
    a, b = (NETWORKS["mobilenet-v1-0.25"].load_data() for _ in range(2))
    assert torch.equal(a.train_x, b.train_x) and torch.equal(a.test_y, b.test_y)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_mlperf_tiny_learns_and_survives_quantisation(name):
    example = NETWORKS[name]
    model, data, score = example.train()
    assert score > {"resnet8": 0.6, "ds-cnn": 0.6, "mobilenet-v1-0.25": 0.7, "fc-autoencoder": 0.65}[name]
    fake = quantized_model(run_passes(import_model(model, example.input_shape)))
    assert example.task.score(fake, data) > score - 0.02


def write_wav(path, sound, rate=16_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def test_speech_commands_files(tmp_path):
    rng = np.random.default_rng(0)
    for word in (*keywords.WORDS, "bed", "cat"):
        for number in range(2):
            write_wav(tmp_path / word / f"{number}.wav", rng.normal(0, 0.1, 15_000))
    with pytest.raises(HeepgenError, match="testing_list.txt"):
        NETWORKS["ds-cnn"].load_data(tmp_path)
    words = (*keywords.WORDS, "bed", "cat")
    (tmp_path / keywords.TEST_LIST).write_text("\n".join(f"{word}/1.wav" for word in words))
    data = NETWORKS["ds-cnn"].load_data(tmp_path)
    assert data.train_x.shape == data.test_x.shape == (12, 1, 49, 10)
    assert sorted(data.test_y.tolist()) == list(range(12))
    write_wav(tmp_path / "yes" / "3.wav", np.zeros(10), rate=8000)
    with pytest.raises(HeepgenError, match="8000 Hz"):
        NETWORKS["ds-cnn"].load_data(tmp_path)


def test_person_files(tmp_path):
    from PIL import Image

    for name, colour in (("person", 255), ("non_person", 0)):
        (tmp_path / name).mkdir()
        for number in range(10):
            picture = np.full((96, 96, 3), (colour, 0, 0), np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{number}.jpg")
    data = NETWORKS["mobilenet-v1-0.25"].load_data(tmp_path)
    assert len(data.train_x) == 18 and len(data.test_x) == 2 and data.test_x.shape[1:] == (3, 96, 96)
    for x, y in zip(data.test_x, data.test_y, strict=True):
        assert abs(x[0].mean() - y) < 0.02 and x[1:].max() < 0.02
    with pytest.raises(HeepgenError, match="no visual wake words"):
        NETWORKS["mobilenet-v1-0.25"].load_data(tmp_path / "person")


def test_machine_files(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("train/normal_0.wav", "test/normal_1.wav", "test/anomaly_1.wav"):
        write_wav(tmp_path / name, rng.normal(0, 0.1, 11 * 16_000))
    data = NETWORKS["fc-autoencoder"].load_data(tmp_path)
    assert data.train_x.shape == (196, 640) and data.test_x.shape == (392, 640)
    assert data.test_y.tolist() == [1, 0] and data.clip == 196
    torch.testing.assert_close(data.train_x[0, 128:], data.train_x[1, :-128])  # frames shift by one


def test_tone_lands_in_its_mel_band():
    """HTK: mel = 1127 ln(1 + f / 700); Slaney: f / (200 / 3) below 1 kHz."""
    time = np.arange(16_000) / 16_000
    filters = audio.mel_filters(40, 1024, 20, 4000, slaney=False)
    spectrum = audio.spectrogram(np.sin(2 * np.pi * 1000 * time), 640, 320, 1024)
    assert spectrum.shape == (49, 513)
    low, high = (1127 * np.log(1 + f / 700) for f in (20, 4000))
    expected = (1127 * np.log(1 + 1000 / 700) - low) / ((high - low) / 41) - 1
    assert abs((spectrum @ filters).mean(axis=0).argmax() - expected) < 1
    mel = audio.log_mel(np.sin(2 * np.pi * 600 * time))
    top = 15 + np.log(8) / (np.log(6.4) / 27)
    assert mel.shape == (32, 128) and abs(mel[10].argmax() - (9 / (top / 129) - 1)) < 1


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
    assert load(MNIST, (5, 144), tmp_path).test_x.shape == (20, 144)


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
