# SPDX-License-Identifier: Apache-2.0
"""Permutes, reshapes and slices: what of them can go, and what has to move elements."""
