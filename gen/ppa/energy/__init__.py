# SPDX-License-Identifier: Apache-2.0
"""Energy of an inference: toggles of mapped netlists under real data, times the tables of a cell library."""
