# SPDX-License-Identifier: Apache-2.0
"""The flows behind the commands."""
