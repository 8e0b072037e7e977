# SPDX-License-Identifier: Apache-2.0
"""HEEPstor's Python package on top of heepgen: its calls under its names, so that its applications run.

docs/from-heepstor.md has each of them beside what new code would use.
"""

from heepstorch import code_generator, module, quantization
from heepstorch.code_generator import CodeGenerator
from heepstorch.module import SequentialNetwork

__all__ = ["CodeGenerator", "SequentialNetwork", "code_generator", "module", "quantization"]
