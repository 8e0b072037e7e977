# SPDX-License-Identifier: Apache-2.0
"""MLPerf Tiny's trained reference models: readers of their files, what is refused, and, where they are, the models."""

import json
import os
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from examples.mlperf_tiny import groups, halvings, networks, reference, stimuli, weights
from firmware_gen.api import read_model
from firmware_gen.ir import Weighted
from firmware_gen.passes.quantise import quantise
from gen.flows.network.scores import run_torch
from hls.errors import HeepgenError

TINY = Path(os.environ.get("HEEPGEN_TINY", "."))


def keras(rng, *shapes):
    """Layers as Keras keeps them: (kind, shape of the kernel), and "norm" with the channels."""
    layers = []
    for kind, *shape in shapes:
        if kind == "norm":
            names = ("gamma", "beta", "moving_mean", "moving_variance")
            layers.append({name: rng.normal(size=shape).astype(np.float32) for name in names})
        else:
            layer = {kind: rng.normal(size=shape).astype(np.float32)}
            outputs = shape[2] if kind == "depthwise_kernel" else shape[-1]
            layers.append(layer | {"bias": rng.normal(size=outputs).astype(np.float32)})
    return layers


def network():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, (2, 5)), nn.BatchNorm2d(8), nn.Conv2d(8, 8, (4, 1), groups=8), nn.Flatten()),
        *(nn.Linear(8, 6), nn.BatchNorm1d(6)),
    )


SHAPES = [("kernel", 2, 5, 3, 8), ("norm", 8), ("depthwise_kernel", 4, 1, 8, 1), ("kernel", 8, 6), ("norm", 6)]


def write_h5(path, layers):
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = ["input_1", *(f"layer_{i}" for i in range(len(layers)))]
        root.create_group("input_1").attrs["weight_names"] = np.array([], "S")
        for i, layer in enumerate(layers):
            group = root.create_group(f"layer_{i}")
            group.attrs["weight_names"] = [f"layer_{i}/{name}:0" for name in layer]
            for name, value in layer.items():
                group.create_dataset(f"layer_{i}/{name}:0", data=value)


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def block(entries, restart=3):
    """A block of LevelDB's tables: every third key is whole, the others keep what they share with the one before."""
    text, places, before = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0 if i % restart == 0 else len(os.path.commonprefix([before, key]))
        if i % restart == 0:
            places.append(len(text))
        text += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return text + struct.pack(f"<{len(places) + 1}I", *places, len(places)) + bytes(5)


def write_bundle(folder, layers, kind=1):
    """The variables of a SavedModel: in an index of two blocks, after what else is in there."""
    data, entries = b"", {b"": b"\x08\x01", b"_CHECKPOINTABLE_OBJECT_GRAPH": field(1, 7) + field(5, 3)}
    for i, layer in enumerate(layers):
        for name, value in layer.items():
            shape = b"".join(field(2, field(1, size)) for size in value.shape)
            entry = field(1, kind) + field(2, shape) + (field(4, len(data)) if data else b"") + field(5, value.nbytes)
            key = f"layer_with_weights-{i}/{name}/.ATTRIBUTES/VARIABLE_VALUE".encode()
            entries[key] = entry + varint(6 << 3 | 5) + b"abcd"
            entries[key.replace(b"/.ATT", b"/.OPTIMIZER_SLOT/optimizer/m/.ATT")] = entry
            data += value.tobytes()
    keys = sorted(entries)
    text, places = b"", []
    for part in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
        made = block([(key, entries[key]) for key in part])
        places.append((part[-1], varint(len(text)) + varint(len(made) - 5)))
        text += made
    index = block(places)
    footer = varint(0) + varint(0) + varint(len(text)) + varint(len(index) - 5)
    text += index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "variables.index").write_bytes(text)
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(data)


@pytest.mark.parametrize("write", [write_h5, write_bundle])
def test_files_are_read(tmp_path, write):
    layers = keras(np.random.default_rng(1), *SHAPES, *[("norm", 5)] * 7)  # more than ten layers: 10 comes after 9
    write(tmp_path / "model", layers)
    got = weights.read(tmp_path / "model")
    assert [set(layer) for layer in got] == [set(layer) for layer in layers]
    for ours, theirs in zip(got, layers, strict=True):
        assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_weights_mean_the_same(tmp_path):
    """Keras' layers in NumPy, written out: a convolution is a sum over its window, channels last."""
    rng = np.random.default_rng(2)
    conv, norm, depthwise, dense, last = layers = keras(rng, *SHAPES)
    for layer in (norm, last):
        layer["moving_variance"] = np.abs(layer["moving_variance"])
    model = network().eval()
    weights.fill(model, layers, tmp_path)
    x = rng.normal(size=(5, 5, 3)).astype(np.float32)

    def scaled(y, layer, eps=1e-5):
        spread = np.sqrt(layer["moving_variance"] + eps)
        return (y - layer["moving_mean"]) / spread * layer["gamma"] + layer["beta"]

    y = np.array([np.einsum("hwi,hwio->o", x[i : i + 2], conv["kernel"]) for i in range(4)]) + conv["bias"]
    y = scaled(y, norm)[:, None]
    y = np.einsum("hwc,hwc->c", y, depthwise["depthwise_kernel"][..., 0]) + depthwise["bias"]
    y = scaled(y @ dense["kernel"] + dense["bias"], last)
    got = model(torch.from_numpy(x.transpose(2, 0, 1)[None])).detach().numpy()[0]
    np.testing.assert_allclose(got, y, rtol=1e-3, atol=1e-4)


def test_conv1d_takes_kernels_of_width_1(tmp_path):
    (layer,) = keras(np.random.default_rng(3), ("depthwise_kernel", 5, 1, 4, 1))
    model = nn.Conv1d(4, 4, 5, groups=4)
    weights.fill(model, [layer], tmp_path)
    assert (model.weight.detach().numpy()[:, 0] == layer["depthwise_kernel"][:, 0, :, 0].T).all()


@pytest.mark.parametrize(
    "shapes, message",
    [
        (SHAPES[:-1], "has 1 layers where the network has 2: it is another one"),
        (SHAPES[1:], "has 2 layers where the network has 3: it is another one"),
        ([*SHAPES[:3], ("kernel", 8, 7), SHAPES[4]], r"weight \[7, 8\], bias \[7\] do not fit Linear"),
        ([("kernel", 5, 2, 3, 8), *SHAPES[1:]], r"weight \[8, 3, 5, 2\], bias \[8\] do not fit Conv2d"),
    ],
)
def test_other_networks_are_refused(tmp_path, shapes, message):
    with pytest.raises(HeepgenError, match=message):
        weights.fill(network(), keras(np.random.default_rng(4), *shapes), tmp_path / "model.h5")


def test_broken_files_are_refused(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"nothing")
    with pytest.raises(HeepgenError, match="model.h5 does not hold a model of Keras"):
        weights.read(path)
    layers = keras(np.random.default_rng(5), *SHAPES)
    write_bundle(tmp_path / "integers", layers, kind=3)
    with pytest.raises(HeepgenError, match="integers does not hold a SavedModel's variables .a weight is not FP32"):
        weights.read(tmp_path / "integers")
    write_bundle(tmp_path / "whole", layers)
    for name in ("variables.index", "variables.data-00000-of-00001"):
        file = tmp_path / "whole" / "variables" / name
        text = file.read_bytes()
        for cut in (0, 30, len(text) // 2, len(text) - 1):
            file.write_bytes(text[:cut])
            with pytest.raises(HeepgenError, match="whole does not hold a SavedModel's variables"):
                weights.read(tmp_path / "whole")
        file.write_bytes(text)


def test_stimuli_of_the_runner(tmp_path):
    rng = np.random.default_rng(6)
    words = rng.integers(-128, 128, (3, 49, 10)).astype(np.int8)
    folder = tmp_path / "kws01"
    folder.mkdir()
    lines = [f"word{i}.bin, 12, {label}" for i, label in enumerate((7, 0, 11))]
    (folder / "y_labels.csv").write_text("\n".join([*lines, ""]))
    assert stimuli.KEYWORDS.read(tmp_path) is None  # labels alone, as in a checkout
    for i, word in enumerate(words):
        (folder / f"word{i}.bin").write_bytes(word.tobytes())
    x, y, clip = stimuli.KEYWORDS.read(tmp_path)
    assert x.dtype == np.float32 and x.shape == (3, 1, 49, 10) and clip == 1 and y.tolist() == [7, 0, 11]
    np.testing.assert_allclose(x[:, 0], (words.astype(float) - 83) * 0.5847029089927673, rtol=1e-6)
    np.savez(tmp_path / "kws_inputs.npz", x=words, y=np.array([7, 0, 11], np.uint8))
    assert all(np.array_equal(a, b) for a, b in zip(stimuli.KEYWORDS.read(tmp_path), (x, y, 1), strict=True))


def test_stimuli_with_windows(tmp_path):
    frames = np.random.default_rng(7).normal(size=(2, 9, 128)).astype("<f4")
    folder = tmp_path / "ad01"
    folder.mkdir()
    for name, clip in zip(("normal", "anomaly"), frames, strict=True):
        (folder / f"{name}.bin").write_bytes(clip.tobytes())
    (folder / "y_labels.csv").write_text("normal.bin,2,0,2560,512\nanomaly.bin,2,1,2560,512\n")
    x, y, clip = stimuli.MACHINES.read(tmp_path)
    assert clip == 5 and y.tolist() == [0, 1]
    assert (x == np.concatenate([[clip[i : i + 5].reshape(-1) for i in range(5)] for clip in frames])).all()


def test_pictures_of_the_runner(tmp_path):
    pixels = np.random.default_rng(8).integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    np.savez(tmp_path / "vww_inputs.npz", x=pixels, y=[0, 1])
    x, _, _ = stimuli.PERSONS.read(tmp_path)
    np.testing.assert_allclose(x, np.moveaxis(pixels, 3, 1) / 255, rtol=1e-6)


def test_wrong_stimuli_are_refused(tmp_path):
    np.savez(tmp_path / "ic_inputs.npz", x=np.zeros((2, 32, 32, 3), np.float32), y=[0, 1])
    with pytest.raises(HeepgenError, match="ic_inputs.npz are not the inputs of the benchmark .float32"):
        stimuli.IMAGES.read(tmp_path)
    (tmp_path / "kws01").mkdir()
    (tmp_path / "kws01" / "y_labels.csv").write_text("a.bin,12,1\n")
    (tmp_path / "kws01" / "a.bin").write_bytes(bytes(489))
    with pytest.raises(HeepgenError, match="kws01 are not the inputs of the benchmark"):
        stimuli.KEYWORDS.read(tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--networks", "lenet"], "error: --networks lenet: no such network; there are resnet8"),
        ([], "error: image classification: pretrainedResnet.h5 is neither in {} nor in its benchmark/training"),
        (["--datasets", "nowhere"], "error: nowhere is no folder"),
        (["--geometry", "8"], "error: --geometry 8: write rows"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    done = CliRunner().invoke(reference.main, ["--tiny", str(tmp_path), *arguments])
    assert done.exit_code == 1 and done.output.startswith(message.format(tmp_path)), done.output


EXTERNAL = pytest.mark.external("HEEPGEN_TINY")


@EXTERNAL
@pytest.mark.parametrize("number", range(len(reference.REFERENCES)))
def test_reference_weights_fit(number):
    model, place = reference.REFERENCES[number].build(TINY)
    assert all(p.isfinite().all() for p in model.parameters()) and place.exists()


@EXTERNAL
@pytest.mark.parametrize("which", [r for r in reference.REFERENCES if r.tflite], ids=lambda r: r.example.name)
def test_references_compute_what_tflite_does(which):
    model, _ = which.build(TINY)
    file = reference.found(TINY, *which.tflite)
    assert reference.difference(which.stimuli, model, file) < 2e-5
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 0.5
    with pytest.raises(HeepgenError, match="its outputs are up to"):
        reference.difference(which.stimuli, model, file)


def test_wakeword_has_the_size_of_the_benchmark():
    model = networks.WAKEWORD.build()
    weighted = [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Linear))]
    assert sum(m.weight.numel() for m in weighted) == 46_040 and model(torch.zeros(1, 40, 30)).shape == (1, 3)


@EXTERNAL
def test_keywords_are_heard(tmp_path):
    result = tmp_path / "result.json"
    arguments = ["--tiny", str(TINY), "--networks", "ds-cnn", "--limit", "200", "--json", str(result)]
    done = CliRunner().invoke(reference.main, arguments)
    assert done.exit_code == 0, done.output
    (network,) = json.loads(result.read_text())["networks"]
    assert network["bit_exact"] and network["cycles"] < 90_000 and network["inputs"] == 200
    assert min(network["scores"].values()) >= network["required"]
    assert "kws_ref_model" in done.output


@EXTERNAL
def test_int4_layers_are_judged_on_other_inputs_than_they_were_chosen_on(tmp_path):
    result = tmp_path / "result.json"
    arguments = ["--tiny", str(TINY), "--halvings", "1", "--limit", "80", "--max-loss", "5", "--json", str(result)]
    done = CliRunner().invoke(halvings.main, arguments)
    assert done.exit_code == 0, done.output
    (halving,) = json.loads(result.read_text())["halvings"]
    x, y, _ = stimuli.KEYWORDS.read(TINY)
    judged = np.random.default_rng(0).permutation(80)[40:]
    model, _ = halvings.KEYWORDS.build(TINY)
    with torch.no_grad():
        right = model(torch.from_numpy(x[judged])).argmax(1).numpy() == y[judged]
    assert halving["fp32"] == pytest.approx(right.mean()) and (halving["chosen"], halving["judged"]) == (40, 40)
    assert halving["lost"] == pytest.approx(100 * (halving["fp32"] - halving["int4"]))
    assert halving["share"] > 0.5 and halving["layers"] and "mean" in done.output


def test_keywords_that_are_not_there(tmp_path):
    done = CliRunner().invoke(halvings.main, ["--tiny", str(tmp_path / "nowhere")])
    assert done.exit_code == 1 and "is no folder" in done.output


@pytest.mark.parametrize("size", [None, 8])
def test_groups_of_words_have_scales_of_their_own(size):
    x = torch.randn(2, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 5, (3, 2)), nn.Flatten(), nn.Linear(5 * 6 * 7, 4))
    graph = read_model(model, x).lowered
    made, bits = groups.grouped(graph, size)
    plain = quantise(graph, int4=[node.name for node in graph.nodes if isinstance(node, Weighted)])
    weights = scales = 0
    for node, own in zip(graph.nodes, made.nodes, strict=True):
        if isinstance(node, Weighted):
            rows = np.moveaxis(own.weight, 1, -1).reshape(len(own.weight), -1)
            starts = range(0, rows.shape[1], size or rows.shape[1])
            for first in starts:  # at most 7 values to each side of 0, evenly apart
                part = rows[:, first : first + (size or rows.shape[1])]
                assert all(len(np.unique(np.abs(row))) <= 8 for row in part)
            weights, scales = weights + rows.size, scales + len(rows) * len(starts)
    assert bits == 32 * scales / weights
    if size is None:
        np.testing.assert_allclose(run_torch(made, x.numpy()), run_torch(plain, x.numpy()), rtol=1e-4, atol=1e-5)
