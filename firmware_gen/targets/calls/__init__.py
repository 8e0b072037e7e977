# SPDX-License-Identifier: Apache-2.0
"""A network as calls from C++: of plain kernels, or of an accelerator that multiplies matrices."""
