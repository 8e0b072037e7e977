# SPDX-License-Identifier: Apache-2.0
"""Verilog text of a module, and the names in it."""
