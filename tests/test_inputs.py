"""Input arrays: what is accepted, and the one sentence for what is not."""

import numpy as np
import pytest

from gen.inputs import load_array
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
