# SPDX-License-Identifier: Apache-2.0
"""Where arrays and activations lie in memory, and who lives when."""
