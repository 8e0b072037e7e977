# SPDX-License-Identifier: Apache-2.0
"""Measurements, and the documents that they write."""
