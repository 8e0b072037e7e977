# SPDX-License-Identifier: Apache-2.0
"""Exploration: spaces of configurations, quick estimates of their cycles, fronts, and the file that keeps them."""
