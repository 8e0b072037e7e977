# SPDX-License-Identifier: Apache-2.0
"""HEEPstor's Python package on top of heepgen: its calls under its names, so that its applications run."""

from heepstorch import module, quantization
from heepstorch.module import SequentialNetwork

__all__ = ["SequentialNetwork", "module", "quantization"]
