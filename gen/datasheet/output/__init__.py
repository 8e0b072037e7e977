# SPDX-License-Identifier: Apache-2.0
"""The files that tell of an exploration: page, datasheet, picture, table."""
