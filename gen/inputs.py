# SPDX-License-Identifier: Apache-2.0
"""What a user gives: model files, and arrays in .npy and .npz files, checked before anything is built or read whole."""

import functools
import io
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from firmware_gen.emit.folder import GENERATED, MANIFEST, MODEL
from firmware_gen.names import safe_name
from hls.errors import HeepgenError
from hls.input import open_input

LARGEST_INPUT = 2**26
"""Numbers; far more than the largest memory that can be configured holds."""
LARGEST_DATA = 2**28
"""Numbers of an array in an .npz file."""
_HEADER = 10_000  # bytes; NumPy's own limit
_PIECE = 2**20


def network_name(model: str | Path, name: str | None = None) -> str:
    """Name of the network in a model file: `name`, or else the file's. Raises `HeepgenError` for a `name` that
    cannot be one."""
    if name is None:
        return safe_name(os.fsencode(Path(model).stem).decode("utf-8", "replace"))
    safe = safe_name(name).replace("/", "_")
    if safe != name:
        raise HeepgenError(f"--name {name!r} is no name of a network: give another, such as {safe!r}.")
    return name


def check_model(model: str | Path) -> None:
    """Raise `HeepgenError` when there is no model file `model`: before PyTorch is loaded, which takes seconds."""
    path = Path(model)
    if (path / GENERATED / MANIFEST).is_file():
        inside = path / GENERATED / MODEL
        what = f"name the model file, such as {inside}" if inside.is_file() else "name its model file"
        raise HeepgenError(f"{model} is firmware already, which heepgen run runs; {what}.")
    if path.is_dir():
        raise HeepgenError(f"{model} is a folder; name a model file (.pt2, .pt or .onnx).")
    if not os.path.lexists(path):
        raise HeepgenError(f"model file {model} does not exist")
    if not path.is_file():
        raise HeepgenError(f"model file {model} is no regular file; save the model to one.")


def load_samples(
    path: str | Path, option: str, names: tuple[str, ...] = ("x",), model: tuple[int, ...] | None = None
) -> dict[str, Any]:
    """The arrays `names` of an .npz file, as far as it has them; `x` (N, ...), made float32, must be there,
    each input of the shape that `model` says, batch dimension included.

    Raises `HeepgenError` naming `option` for a file that is missing, damaged or pickled, and for an x that is not
    numbers with the batch dimension first. Nothing is unpickled, and no array read before its shape is known.
    """
    arrays = _members(path, option, names, lambda where, name: functools.partial(_accept, where, name, model), ("x",))
    return arrays | {"x": _float32(arrays["x"], f"{option} {path}")}


def load_inputs(path: Any, option: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, ...]:
    """float32 arrays of a network's inputs, in order: of one, see `load_array`; of several, of an .npz file that has
    their names, or of a tuple of arrays in memory, or a dictionary of them."""
    if len(shapes) == 1:
        given = _by_name(path, option, shapes) if isinstance(path, Mapping) else path
        alone = given[0] if isinstance(given, tuple | list) and len(given) == 1 else given
        return (load_array(alone, option, next(iter(shapes.values()))),)
    if isinstance(path, str | Path):
        found = _members(
            path,
            option,
            tuple(shapes),
            lambda where, name: functools.partial(_accept_input, f"{where}: {name}", shapes[name], ""),
            tuple(shapes),
        )
        return tuple(_float32(found[name].reshape(shape), f"{option} {path}") for name, shape in shapes.items())
    given = _by_name(path, option, shapes)
    return tuple(one_input(x, f"{option}: {name}", shapes[name]) for x, name in zip(given, shapes, strict=True))


def _by_name(given: Any, option: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, ...]:
    """A tuple of all inputs, or a dictionary of them, in order."""
    if isinstance(given, Mapping) and given.keys() == shapes.keys():
        return tuple(given[name] for name in shapes)
    if not isinstance(given, tuple | list) or len(given) != len(shapes):
        names = ", ".join(shapes)
        count = f"{len(shapes)} inputs" if len(shapes) > 1 else "one input"
        raise HeepgenError(
            f"{option}: the network takes {count}, {names}; give a tuple, or a dictionary of these names."
        )
    return tuple(given)


def load_frames(path: Any, option: str, shapes: Mapping[str, tuple[int, ...]], steps: int) -> list[tuple[Any, ...]]:
    """Inputs of that many inferences, from a file or memory as in `load_inputs`, along a new first dimension of every
    array; those behind them are left out."""
    wanted = {name: (steps, *shape) for name, shape in shapes.items()}

    def accept(where: str, name: str) -> Callable[[Any, tuple[int, ...]], None]:
        def check(dtype: Any, found: tuple[int, ...]) -> None:
            _accept_input(where, None, "; use numpy.save", dtype, found)
            shape = shapes[name]
            if not found or found[0] < steps or found[1:] not in (shape, shape[1:] if shape[0] == 1 else shape):
                raise HeepgenError(f"{where}: has shape {list(found)}, {steps} steps take {list(wanted[name])}.")

        return check

    if isinstance(path, str | Path) and len(shapes) > 1:
        arrays = _members(
            path, option, tuple(shapes), lambda where, name: accept(f"{where}: {name}", name), tuple(shapes)
        )
    elif isinstance(path, str | Path):
        (name,) = shapes
        arrays = {name: _npy(path, f"{option} {path}", accept(f"{option} {path}", name))}
    else:
        several = len(shapes) > 1 or isinstance(path, Mapping)
        given = _by_name(path, option, shapes) if several else (path,)
        arrays = {name: as_array(x, option) for name, x in zip(shapes, given, strict=True)}
        for name, array in arrays.items():
            accept(option, name)(array.dtype, array.shape)
    frames = {n: _float32(arrays[n][:steps].reshape(wanted[n]), option) for n in shapes}
    return [tuple(frames[name][step] for name in shapes) for step in range(steps)]


def _members(
    path: str | Path, option: str, names: tuple[str, ...], accept: Any, needed: tuple[str, ...]
) -> dict[str, Any]:
    """The arrays `names` of an .npz file, as far as it has them, those that are `needed` among them. `accept(where,
    name)` is called with an array's type and shape before its values are read."""
    where, use = f"{option} {path}", ", ".join(f"{name}={name}" for name in needed)
    try:
        with open_input(path) as given:
            if given.size is None:
                raise HeepgenError(f"{where}: is no regular file; save the arrays to one with numpy.savez.")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {}
            for name in names:
                if name in members:
                    with archive.open(members[name]) as stream:
                        arrays[name] = _array(stream, accept(where, name))
                        if stream.read(1):  # at the end the checksum is compared
                            raise ValueError
    except HeepgenError:
        raise
    except OSError as error:
        raise HeepgenError(f"{where}: cannot be read: {error.strerror or 'not a complete .npz file'}.") from None
    except Exception:  # numpy, zipfile, zlib and lzma each have their own
        raise HeepgenError(f"{where}: not a complete .npz file of numbers; use numpy.savez(file, {use}).") from None
    for name in needed:
        if name not in arrays:
            raise HeepgenError(f"{where}: has no array called {name}; use numpy.savez(file, {use}).")
    return arrays


def samples(x: Any, where: str, model: tuple[int, ...] | None = None) -> Any:
    """Inputs in memory (N, ...), as `load_samples` takes those of a file; `where` names them in errors."""
    array = as_array(x, where)
    _accept(where, "x", model, array.dtype, array.shape)
    return _float32(array, where)


def _accept(where: str, name: str, model: tuple[int, ...] | None, dtype: Any, shape: tuple[int, ...]) -> None:
    if dtype.kind not in "fiub" or name == "x" and (len(shape) < 2 or not shape[0]):
        raise HeepgenError(f"{where}: {name} is {dtype} {list(shape)}; numbers, the batch dimension first, are needed.")
    if name == "x" and model is not None and shape[1:] != model[1:]:
        raise HeepgenError(f"{where}: x has shape {list(shape)}, the model takes {list(model)}.")
    if math.prod(shape) > LARGEST_DATA:
        raise HeepgenError(
            f"{where}: {name} has {math.prod(shape):,} numbers, more than {LARGEST_DATA:,}; give fewer inputs."
        )


def one_input(x: Any, where: str, shape: tuple[int, ...] | None = None) -> Any:
    """An array or tensor in memory, as `load_array` takes that of a file; `where` names it in errors."""
    array = as_array(x, where)
    _accept_input(where, shape, "", array.dtype, array.shape)
    return _float32(array if shape is None else array.reshape(shape), where)


def as_array(x: Any, where: str) -> Any:
    """The array of an array, a tensor on any device, or nested lists."""
    import numpy as np

    try:
        if hasattr(x, "detach"):
            tensor = x.detach().cpu()
            x = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor  # which NumPy has not
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError):  # ragged, sparse, or without data
        raise HeepgenError(f"{where}: is no array of numbers of one shape.") from None
    if array.dtype == object and not array.shape:
        raise HeepgenError(f"{where}: is of type {type(x).__name__}; give an array or a tensor of numbers.")
    return array


def _accept_input(where: str, shape: tuple[int, ...] | None, remedy: str, dtype: Any, found: tuple[int, ...]) -> None:
    if dtype.kind not in "fiub":
        raise HeepgenError(f"{where}: holds {dtype}, not one array of real numbers{remedy}.")
    if shape is not None and found != shape and (1, *found) != shape:
        batch = len(found) == len(shape) and found[1:] == shape[1:]
        what = f"; give {shape[0]} at once, or compile the model for {found[0]}" if batch else ""
        raise HeepgenError(f"{where}: has shape {list(found)}, the model takes {list(shape)}{what}.")
    if math.prod(found) > LARGEST_INPUT:
        raise HeepgenError(
            f"{where}: has shape {list(found)}, {math.prod(found):,} numbers, which no memory of an "
            "X-HEEP holds; give a smaller one."
        )


def load_array(path: Any, option: str, shape: tuple[int, ...] | None = None) -> Any:
    """float32 array of a .npy file, or see `one_input`; a missing batch dimension of 1 is added when `shape` has one.

    Raises `HeepgenError` naming `option` for a file that is missing, damaged or pickled, for values that are
    not real numbers, and for a shape other than `shape`, then before the values are read. A FIFO that gives nothing
    for some seconds is such a file.
    """
    if not isinstance(path, str | Path):
        return one_input(path, option, shape)
    where = f"{option} {path}"
    array = _npy(path, where, functools.partial(_accept_input, where, shape, "; use numpy.save"))
    return _float32(array if shape is None else array.reshape(shape), where)


def _npy(path: str | Path, where: str, accept: Callable[[Any, tuple[int, ...]], None]) -> Any:
    """The array of a .npy file."""
    try:
        with open_input(path) as stream:
            return _array(stream, accept)
    except HeepgenError:
        raise
    except OSError as error:
        raise HeepgenError(f"{where}: cannot be read: {error.strerror}.") from None
    except Exception:  # whatever the parser of the header meets
        raise HeepgenError(f"{where}: not a complete .npy file of numbers; use numpy.save.") from None


def _float32(array: Any, where: str) -> Any:
    import numpy as np

    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(array, np.float32)
    except FloatingPointError:
        raise HeepgenError(f"{where}: holds values beyond the range of float32; scale them.") from None


def _array(stream: Any, accept: Callable[[Any, tuple[int, ...]], None]) -> Any:
    """The array of a .npy file from a stream; `accept` is given type and shape before the values are read.

    Raises ValueError and what NumPy does for everything but such a file.
    """
    import numpy as np
    from numpy.lib import format

    start = stream.read(format.MAGIC_LEN)
    version = format.read_magic(io.BytesIO(start))
    readers = {(1, 0): (2, format.read_array_header_1_0), (2, 0): (4, format.read_array_header_2_0)}
    if version not in readers:  # version 3 is of arrays with named fields
        raise ValueError
    bytes_of_length, read_header = readers[version]
    length = stream.read(bytes_of_length)
    size = int.from_bytes(length, "little")
    if size > _HEADER:
        raise ValueError
    shape, fortran, dtype = read_header(io.BytesIO(length + stream.read(size)))
    if any(size < 0 for size in shape):
        raise ValueError
    accept(dtype, tuple(map(int, shape)))
    data, done = np.empty(math.prod(shape) * dtype.itemsize, np.uint8), 0
    while done < len(data):
        piece = stream.read(min(len(data) - done, _PIECE))
        if not piece:
            raise ValueError
        data[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    return data.view(dtype).reshape(shape, order="F" if fortran else "C")
