# SPDX-License-Identifier: Apache-2.0
"""Networks: compiled, as applications, and what is said of them without running them."""
