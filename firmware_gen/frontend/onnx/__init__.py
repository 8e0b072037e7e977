# SPDX-License-Identifier: Apache-2.0
"""An ONNX file as an ExportedProgram: every node becomes a small module of PyTorch operators, and torch.export the
result. So ONNX and PyTorch models share one importer, and messages name the ONNX node as they name a layer.

Needs the package `onnx` (heepgen[onnx]); nothing in the file is executed.
"""

from __future__ import annotations

from pathlib import Path

from torch.export import ExportedProgram

from hls.errors import HeepgenError


def load_onnx(path: Path, input_shape: tuple[int, ...] | None = None, batch: int | None = None) -> ExportedProgram:
    """The network in an .onnx file with float32 inputs.

    `input_shape`, with or without the batch dimension, gives dynamic sizes of the only input; a dynamic batch
    becomes `batch`, or 1. Weights in files beside it are read. The program's `onnx_source` evaluates the file's own
    graph.
    Raises HeepgenError, one sentence, for damaged files, and by node name for what is not supported.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise HeepgenError(f"{path}: reading ONNX files needs the package onnx: pip install heepgen[onnx]") from error
    from firmware_gen.frontend.onnx.file import prepare, read
    from firmware_gen.frontend.onnx.network import export
    from firmware_gen.frontend.onnx.source import Source

    model = read(path)
    prepared = prepare(path, model, input_shape, batch)
    program, layers = export(path, prepared)
    program.onnx_source = Source(model, prepared, layers)  # type: ignore[attr-defined]
    return program
