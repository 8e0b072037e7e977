# SPDX-License-Identifier: Apache-2.0
"""The five networks of MLPerf Tiny, with loaders of their data sets and synthetic data where there are none."""
