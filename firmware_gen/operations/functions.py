# SPDX-License-Identifier: Apache-2.0
"""Tables of functions as constants of a network: one for all layers that have the function."""

import numpy as np

from firmware_gen import ir
from hls.arithmetic.function_tables import function_words


def table_name(function: ir.Function) -> str:
    """Of the constant that holds the table."""
    return f"{function.key}_table"


def table(function: ir.Function) -> np.ndarray:
    """The words, uint32."""
    return function_words(function.name, function.parameters)
