# SPDX-License-Identifier: Apache-2.0
"""Numbers as C++."""

import numpy as np


def float_literal(value: float) -> str:
    """C++ expression of a float32; every NaN becomes the canonical one."""
    rounded = np.float32(value)
    if np.isnan(rounded):
        return '__builtin_nanf("")'
    if np.isinf(rounded):
        return "__builtin_inff()" if rounded > 0 else "-__builtin_inff()"
    return f"{np.format_float_scientific(rounded, unique=True, trim='0')}f"
