# SPDX-License-Identifier: Apache-2.0
"""The edits that passes are made of, and what is cleaned up after them."""
