# SPDX-License-Identifier: Apache-2.0
"""Input arrays: what is accepted, and the one sentence for what is not."""

import os
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

import hls.input
from gen.inputs import load_array, load_samples
from hls.errors import HeepgenError


def test_numbers_become_float32_and_a_batch_of_one_is_added(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(6, dtype=np.int64).reshape(2, 3))
    for shape in (None, (2, 3), (1, 2, 3)):
        array = load_array(path, "--input", shape)
        assert array.dtype == np.float32
        assert array.shape == (shape or (2, 3))
        assert array.ravel().tolist() == [0, 1, 2, 3, 4, 5]


def refusal(path, shape=None):
    with pytest.raises(HeepgenError) as caught:
        load_array(path, "--input", shape)
    assert str(path) in str(caught.value)
    assert str(caught.value).startswith("--input")
    return str(caught.value)


def test_wrong_shape_names_both(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 28, 28)))
    message = refusal(tmp_path / "x.npy", (1, 3, 32, 32))
    assert "[1, 28, 28]" in message
    assert "[1, 3, 32, 32]" in message


def test_missing_truncated_and_empty_files(tmp_path):
    assert "No such file" in refusal(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.zeros(100))
    whole = (tmp_path / "x.npy").read_bytes()
    for size in (0, 5, 60, len(whole) - 1):
        (tmp_path / "x.npy").write_bytes(whole[:size])
        assert "complete" in refusal(tmp_path / "x.npy")


def test_pickles_are_never_loaded(tmp_path):
    class Attack:
        def __reduce__(self):
            return (tmp_path / "was_here").touch, ()

    np.save(tmp_path / "x.npy", np.array([Attack()], dtype=object), allow_pickle=True)
    refusal(tmp_path / "x.npy")
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([1j])])
def test_values_that_are_no_real_numbers(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    assert "real numbers" in refusal(tmp_path / "x.npy")


def test_archives_are_not_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    refusal(tmp_path / "x.npz")


def header(text, version=1):
    text = text.encode() + b" " * (118 - len(text)) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text


@pytest.mark.parametrize(
    "shape, words",
    [
        ("(100000000, 1000000)", "has shape"),
        ("(-1, 4)", "not a complete"),
        ("(1, -4)", "not a complete"),
        ("(10**9,)", "not a complete"),
        ("(" + "9" * 60 + ",)", "has shape"),
        ("(2.0, 2)", "not a complete"),
        ("(" + "[" * 40 + "]" * 40 + ",)", "not a complete"),
        ("(2, 3, 4)", "has shape"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_header_that_lies_is_refused_before_the_values_are_read(tmp_path, shape, words, version):
    path = tmp_path / "x.npy"
    path.write_bytes(header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}", version) + b"x" * 64)
    assert words in refusal(path, (1, 2, 3))


def test_a_long_file_of_another_shape_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    with open(path, "wb") as stream:
        stream.write(header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,), }"))
        stream.truncate(4 * 10**9)  # sparse
    monkeypatch.setattr("numpy.empty", None)
    for shape in ((2, 3), None):
        assert "[1000000000]" in refusal(path, shape)


@pytest.mark.parametrize(
    "descr", ["'|O'", "'<U4'", "'<c8'", "[('a', '<f4')]", "'<M8[s]'", "'(2,)<f4'", "'nonsense'", "3"]
)
def test_types_that_are_no_numbers(tmp_path, descr):
    path = tmp_path / "x.npy"
    path.write_bytes(header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': (2,), }}") + b"\x80" * 64)
    refusal(path, (2,))


@pytest.mark.parametrize(
    "start",
    [
        b"\x93NUMPY\x03\x00\x40\x00\x00\x00",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x80\x04",
        b"PK\x03\x04",
        b"\x93NUMPY",
    ],
)
def test_headers_of_other_versions_and_lengths(tmp_path, start):
    (tmp_path / "x.npy").write_bytes(start + b" " * 1000)
    assert "not a complete" in refusal(tmp_path / "x.npy")


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">i2", "|u1", "<f2", "|b1", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_byte_order_and_layout_gives_the_values(tmp_path, dtype, order):
    values = np.arange(24).reshape(2, 3, 4) % 2 if dtype == "|b1" else np.arange(24).reshape(2, 3, 4)
    np.save(tmp_path / "x.npy", np.asarray(values.astype(dtype), order=order))
    array = load_array(tmp_path / "x.npy", "--input", (1, 2, 3, 4))
    assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
    assert np.array_equal(array[0], values)


def test_values_beyond_float32_are_not_made_infinite(tmp_path):
    np.save(tmp_path / "x.npy", np.array([1e300]))
    assert "range of float32" in refusal(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array([np.inf, np.nan]))
    assert np.isinf(load_array(tmp_path / "x.npy", "--input")[0])


@pytest.mark.parametrize("start", [b"", b"\x93NUM"])
def test_a_fifo_that_gives_nothing_is_not_waited_for(tmp_path, monkeypatch, start):
    monkeypatch.setattr(hls.input, "SECONDS", 0.2)
    os.mkfifo(tmp_path / "fifo")
    keep = os.open(tmp_path / "fifo", os.O_RDWR)
    os.write(keep, start)
    try:
        assert "nothing came" in refusal(tmp_path / "fifo")
    finally:
        os.close(keep)


def test_a_fifo_with_a_writer_is_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    np.save(tmp_path / "x.npy", np.arange(70000.0))
    data = (tmp_path / "x.npy").read_bytes()
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(data))
    writer.start()
    assert load_array(tmp_path / "fifo", "--input", (1, 70000))[0, -1] == 69999
    writer.join()


def test_folders_and_devices(tmp_path):
    refusal(tmp_path)
    refusal("/dev/null")
    refusal("/dev/zero")


def refused_samples(path, **options):
    with pytest.raises(HeepgenError) as caught:
        load_samples(path, "--data", **options)
    assert str(caught.value).startswith(f"--data {path}")
    return str(caught.value)


def test_archives_are_checked_member_by_member(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.ones((3, 2), np.float32), y=np.array(["a"]), other=np.array([{}], object))
    assert load_samples(path, "--data")["x"].shape == (3, 2)
    assert load_samples(path, "--data", model=(1, 2))["x"].sum() == 6
    assert "[1, 3]" in refused_samples(path, model=(1, 3))
    assert "y is <U1" in refused_samples(path, names=("x", "y"))
    assert "other is object" in refused_samples(path, names=("x", "other"))


@pytest.mark.parametrize(
    "member",
    [
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000, 1000000), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }") + b"x" * 23,
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }") + b"x" * 25,
        header("{'descr': '|O', 'fortran_order': False, 'shape': (3, 2), }") + b"x" * 25,
        b"",
        b"x" * 200,
    ],
)
def test_members_that_lie(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", member)
    refused_samples(tmp_path / "x.npz")


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        text = header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1), }")
        archive.writestr("x.npy", text + bytes(2 * 10**7))
    monkeypatch.setattr("numpy.empty", None)
    assert "1,000,000,000 numbers" in refused_samples(tmp_path / "x.npz")


def test_a_damaged_byte_of_an_archive_is_found(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.ones((3, 2), np.float32))
    data = bytearray(path.read_bytes())
    data[data.index(b"\x00\x00\x80\x3f") + 3] ^= 1
    path.write_bytes(data)
    refused_samples(path)


def test_models_are_looked_for_before_anything_is_loaded(tmp_path):
    (tmp_path / "app" / "gen").mkdir(parents=True)
    (tmp_path / "app" / "gen" / "manifest.json").write_text("{}")
    (tmp_path / "app" / "gen" / "model.pt2").write_text("")
    os.mkfifo(tmp_path / "fifo.pt2")
    code = (
        "import sys; from click.testing import CliRunner; from gen.cli import main;"
        "result = CliRunner().invoke(main, sys.argv[1:]);"
        "print(result.exit_code, 'torch' in sys.modules, result.stderr)"
    )
    for name, words in (
        ("absent.pt2", "does not exist"),
        ("app", "is not an application"),
        ("fifo.pt2", "no regular file"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, "estimate", str(tmp_path / name)], capture_output=True, text=True
        )
        assert done.stdout.startswith("1 False heepgen: error: ") and words in done.stdout, done
