# SPDX-License-Identifier: Apache-2.0
"""Accelerators: their hardware, and new architectures."""
