"""Arrays that a user gives: .npy files, checked before anything is built."""

from pathlib import Path
from typing import Any

from hls.errors import HeepgenError


def network_name(model: str | Path) -> str:
    """Name of the network in a model file: the file's, or its folder's when the file is just called model."""
    path = Path(model).resolve()
    return path.parent.name if path.stem == "model" else path.stem


def load_samples(path: str | Path, option: str, names: tuple[str, ...] = ("x",)) -> dict[str, Any]:
    """The arrays `names` of an .npz file, as far as it has them; `x` (N, ...) must be there.

    Raises `HeepgenError` naming `option` for a file that is missing, damaged or pickled, and for an x that is not
    numbers with the batch dimension first.
    """
    import numpy as np

    where = f"{option} {path}"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in names}
    except OSError as error:
        raise HeepgenError(f"{where}: cannot be read: {error.strerror or 'not a complete .npz file'}.") from None
    except Exception:  # numpy, zipfile and zlib each have their own
        raise HeepgenError(f"{where}: not a complete .npz file of numbers; use numpy.savez(file, x=x).") from None
    x = arrays.get("x")
    if x is None:
        raise HeepgenError(f"{where}: has no array called x; use numpy.savez(file, x=x).")
    if x.dtype.kind not in "fiub" or x.ndim < 2 or not len(x):
        raise HeepgenError(f"{where}: x is {x.dtype} {list(x.shape)}; numbers, the batch dimension first, are needed.")
    return arrays


def load_array(path: str | Path, option: str, shape: tuple[int, ...] | None = None) -> Any:
    """float32 array of a .npy file; a missing batch dimension of 1 is added when `shape` has one.

    Raises `HeepgenError` naming `option` for a file that is missing, damaged or pickled, for values that are
    not real numbers, and for a shape other than `shape`.
    """
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or "it is not a complete .npy file"
        raise HeepgenError(f"{option} {path}: cannot be read: {reason}.") from None
    except (ValueError, EOFError):
        raise HeepgenError(f"{option} {path}: not a complete .npy file of numbers; use numpy.save.") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        kind = getattr(array, "dtype", type(array).__name__)
        raise HeepgenError(f"{option} {path}: holds {kind}, not one array of real numbers; use numpy.save.")
    if shape is not None and array.shape != shape and (1, *array.shape) == shape:
        array = array[np.newaxis]
    if shape is not None and array.shape != shape:
        raise HeepgenError(f"{option} {path}: has shape {list(array.shape)}, the model takes {list(shape)}.")
    return np.ascontiguousarray(array, np.float32)
