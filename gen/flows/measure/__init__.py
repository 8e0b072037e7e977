# SPDX-License-Identifier: Apache-2.0
"""Programs that run, and what is measured of them."""
