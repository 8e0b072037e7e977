# SPDX-License-Identifier: Apache-2.0
"""From a PyTorch model to C++17 firmware for the accelerator."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "CodeGenerator":  # imports torch
        from firmware_gen.api import CodeGenerator

        return CodeGenerator
    raise AttributeError(f"module {__name__} has no attribute {name}")
