# SPDX-License-Identifier: Apache-2.0
"""What an exploration found, to look at: boards, the path to a design, its datasheet and page."""
