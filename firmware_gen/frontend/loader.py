# SPDX-License-Identifier: Apache-2.0
"""Loading a model file, trusting nothing in it unless told to."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from firmware_gen.frontend.exported.prepare import with_fixed_sizes
from firmware_gen.frontend.exported.pt2 import export_load, load_pt2
from firmware_gen.frontend.onnx import load_onnx
from firmware_gen.names import one_line
from firmware_gen.refusal import first_line
from hls.errors import HeepgenError

# Layers that a pickled nn.Module may consist of; the importer decides which of them it supports.
ALLOWED_LAYERS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    *(nn.Sequential, nn.ModuleList, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d),
    *(nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.GRU, nn.LSTM, nn.RNN),
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.PReLU, nn.Softmax, nn.LogSoftmax),
    *(nn.Sigmoid, nn.Tanh, nn.SiLU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus),
    *(nn.Mish, nn.LogSigmoid, nn.Softsign, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Threshold, nn.GLU),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d),
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d),
    *(nn.CircularPad1d, nn.CircularPad2d, nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.LPPool1d, nn.LPPool2d),
    *(nn.Softmin, nn.Softmax2d, nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention),
    *(nn.modules.linear.NonDynamicallyQuantizableLinear, nn.functional.relu, nn.functional.gelu),
]
SAVE_AGAIN = "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')"


def load_model(
    path: str | os.PathLike[str],
    trust_pickle: bool = False,
    input_shape: tuple[int, ...] | None = None,
    batch: int | None = None,
) -> nn.Module | ExportedProgram:
    """Load a torch.export archive (.pt2), an nn.Module of standard layers of torch.save (.pt, .pth), by itself or as
    the only one in a dictionary, or an ONNX file (.onnx), which becomes an ExportedProgram; `input_shape` and `batch`
    give the sizes that a .pt2 or an .onnx leaves open.

    Nothing in the file is executed unless `trust_pickle`, which loads as torch does by itself.
    Raises HeepgenError, one sentence, for missing, damaged, unsafe and unsuitable files.
    """
    path = Path(path)
    if not path.is_file():
        raise HeepgenError(f"model file {path} does not exist")
    if path.suffix == ".onnx":
        return load_onnx(path, input_shape, batch)
    if path.suffix not in (".pt2", ".pt", ".pth"):
        raise HeepgenError(f"{path}: a model file ends in .pt2 (torch.export), .pt (torch.save) or .onnx")
    names = _member_names(path)
    if "constants.pkl" in names:
        raise HeepgenError(
            f"{path} is a TorchScript archive, a program that would have to run to tell its layers, so it is not "
            f"loaded; from the model that it was made of use {SAVE_AGAIN}, or, if you trust the file, give "
            "torch.export.save what TS2EPConverter(torch.jit.load(file), (example,)).convert() of "
            "torch._export.converter makes of it"
        )
    if path.suffix == ".pt2" or "archive_format" in names:
        if not trust_pickle:
            return load_pt2(path, input_shape, batch)
        return with_fixed_sizes(export_load(path, path), str(path), input_shape, batch)
    loaded = _load_trusted(path) if trust_pickle else _load_module(path)
    return _checked_module(path, loaded)


def exported_bytes(program: ExportedProgram) -> bytes:
    """The file that torch.export.save writes, or the clean copy of the one that was read."""
    if (archive := getattr(program, "archive", None)) is not None:
        return bytes(archive)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _member_names(path: Path) -> set[str]:
    """Names in a zip archive without their top folder; empty for any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.partition("/")[2] for name in archive.namelist()}
    except Exception:  # zipfile, struct and the file's own, as of a damaged offset
        return set()


def _load_trusted(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (AttributeError, ImportError) as error:
        raise HeepgenError(
            f"{path} cannot be loaded: {first_line(error)}; name the folder of its classes in PYTHONPATH, and keep "
            f"them in a file that is not run as __main__, or use {SAVE_AGAIN}"
        ) from error
    except Exception as error:
        raise HeepgenError(f"{path} cannot be loaded: {first_line(error)}") from error


def _load_module(path: Path) -> object:
    try:
        with safe_globals(ALLOWED_LAYERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = _unsafe_globals(path)
        if not unsafe:
            raise _damaged(path, error) from error
        raise HeepgenError(
            f"{path} is not loaded: its pickle refers to {', '.join(unsafe)}, so loading it could run code; "
            f"use {SAVE_AGAIN}, or pass --trust-pickle if you trust the file"
        ) from error
    except Exception as error:
        raise _damaged(path, error) from error


def _unsafe_globals(path: Path) -> list[str]:
    try:
        with safe_globals(ALLOWED_LAYERS):
            return sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a damaged file: there is no telling
        return []


def _damaged(path: Path, error: Exception) -> HeepgenError:
    return HeepgenError(f"{path} is not a complete file of torch.save ({first_line(error)}); use {SAVE_AGAIN}")


def _holds_weights(loaded: object) -> bool:
    """Whether it is a state_dict, or a checkpoint with one in it."""
    return isinstance(loaded, dict) and any(isinstance(v, torch.Tensor) or _holds_weights(v) for v in loaded.values())


def _modules_in(loaded: object, key: str = "") -> dict[str, nn.Module]:
    """Modules, by their keys, in a dictionary, or in dictionaries in it; one with several keys once."""
    if isinstance(loaded, nn.Module):
        return {key: loaded}
    if not isinstance(loaded, dict):
        return {}
    inside = [_modules_in(value, f"{key}.{name}" if key else str(name)) for name, value in loaded.items()]
    unlike = {id(module): (name, module) for found in reversed(inside) for name, module in found.items()}
    return dict(reversed(unlike.values()))


def _checked_module(path: Path, loaded: object) -> nn.Module:
    modules = _modules_in(loaded)
    if len(modules) == 1:
        return next(iter(modules.values()))
    if modules:
        keys = ", ".join(one_line(key) for key in modules)
        raise HeepgenError(f"{path} holds {len(modules)} models, {keys}: save the one to compile to a file of its own")
    if _holds_weights(loaded):
        raise HeepgenError(
            f"{path} holds weights only (a state_dict), which say nothing about the layers: load them into "
            f"the model and use {SAVE_AGAIN}"
        )
    raise HeepgenError(f"{path} holds a {type(loaded).__name__}, not an nn.Module; use {SAVE_AGAIN}")
