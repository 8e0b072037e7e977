# SPDX-License-Identifier: Apache-2.0
"""Nodes of the graph as windows moving over tensors in memory: what every target runs."""
