# SPDX-License-Identifier: Apache-2.0
"""From a PyTorch model to C++17 firmware for the accelerator."""


def __getattr__(name):
    if name == "CodeGenerator":  # imports torch
        from firmware_gen.api import CodeGenerator

        return CodeGenerator
    raise AttributeError(f"module {__name__} has no attribute {name}")
