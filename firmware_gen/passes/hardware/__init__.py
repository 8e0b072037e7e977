# SPDX-License-Identifier: Apache-2.0
"""Passes for hardware that has less than the others."""
