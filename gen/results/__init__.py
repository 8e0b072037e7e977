# SPDX-License-Identifier: Apache-2.0
"""What the commands find, as values, as tables for people, and as JSON for programs."""
